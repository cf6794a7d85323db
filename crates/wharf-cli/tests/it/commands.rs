//! The client commands against a running node: what they print, and what they leave behind.

use std::path::Path;
use std::process::Stdio;

use crate::run::{command, run_in};
use crate::serve::{Served, serve};

/// Commands in one directory, against a node of their own.
pub(crate) struct Shell<'a> {
    directory: &'a Path,
    pub(crate) node: Served,
}

impl<'a> Shell<'a> {
    pub(crate) fn open(directory: &'a Path) -> Self {
        Self {
            directory,
            node: serve(directory, &["--data", "data"], &[]),
        }
    }

    /// Runs a command against the node; the node's address is taken out of what it says.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let broker = self.node.text("kafka");
        let arguments = [arguments, &["--broker", broker]].concat();
        run_in(self.directory, &arguments).replace(broker, "BROKER")
    }

    pub(crate) fn stdout(&self, arguments: &[&str]) -> String {
        let broker = self.node.text("kafka");
        let arguments = [arguments, &["--broker", broker]].concat();
        let output = command(self.directory).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.stdout(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    /// What each of the commands says, one below the other.
    pub(crate) fn diary(&self, commands: &[&str]) -> String {
        let said = commands.iter().map(|command| {
            let arguments: Vec<&str> = command.split_whitespace().collect();
            format!("$ wharf {command}\n{}", self.run(&arguments))
        });
        said.collect()
    }

    fn file(&self, name: &str, content: &str) {
        std::fs::write(self.directory.join(name), content).unwrap();
    }
}

#[test]
fn a_topic_is_created_described_altered_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    let mut diary = String::new();
    for arguments in [
        &[
            "topic",
            "create",
            "orders",
            "--partitions",
            "2",
            "--set",
            "retention.ms=86400000",
        ][..],
        &["topic", "create", "orders"],
        &["topic", "create", "orders", "--if-not-exists"],
        &["topic", "create", "bad name"],
        &["topic", "create", "strange", "--set", "retention.msec=1"],
        &["topic", "create", "tried", "--dry-run"],
        &["topic", "list"],
        &[
            "topic",
            "alter",
            "orders",
            "--set",
            "max.message.bytes=2000",
            "--partitions",
            "3",
        ],
        &["topic", "alter", "orders", "--partitions", "1"],
        &["topic", "alter", "orders", "--unset", "retention.ms"],
        &["topic", "alter", "orders", "--unset", "retention.ms"],
        &["topic", "alter", "orders", "--set", "retention.ms=soon"],
        &[
            "topic",
            "alter",
            "orders",
            "--set",
            "retention.ms=1",
            "--dry-run",
        ],
        &["topic", "alter", "ordres", "--set", "retention.ms=1"],
        &["topic", "describe", "orders"],
        &["topic", "describe", "ordres"],
        &["topic", "delete", "orders"],
        &["topic", "delete", "orders", "--dry-run"],
        &["topic", "delete", "orders", "--yes"],
        &["topic", "list", "-o", "jsonl"],
    ] {
        diary.push_str(&format!(
            "$ wharf {}\n{}",
            arguments.join(" "),
            shell.run(arguments)
        ));
    }
    insta::assert_snapshot!(diary);
}

#[test]
fn lines_go_in_and_come_out_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.run(&["topic", "create", "notes", "--partitions", "1"]);
    shell.file("lines", "a:one\nb:two\r\nc:\n");
    let file = [
        "--file",
        "lines",
        "-K",
        ":",
        "-H",
        "source=test",
        "-z",
        "zstd",
    ];
    let produced = shell.run(&[&["produce", "notes"], &file[..]].concat());
    assert!(
        produced.starts_with("exit: 0") && produced.contains("3 messages acknowledged"),
        "{produced}"
    );
    assert_eq!(
        shell.stdout(&["consume", "notes", "--until", "end", "--values"]),
        "one\ntwo\n\n"
    );
    assert_eq!(
        shell.stdout(&[
            "consume", "notes", "--from", "-1", "--until", "end", "--values"
        ]),
        "\n"
    );
    let rows = shell.stdout(&["consume", "notes", "--from", "1", "-n", "1", "-o", "jsonl"]);
    let row: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (&row["key"], &row["value"], &row["offset"]),
        (&"b".into(), &"two".into(), &1.into())
    );
    assert_eq!(row["headers"][0]["name"], "source");
    // Refused with the command's own default, so the setting is really the person's.
    let lax = ["-X", "enable.idempotence=false", "-X", "acks=1"];
    shell.file("four", "four\n");
    let produced = shell.run(&[&["produce", "notes", "--file", "four"], &lax[..]].concat());
    assert!(produced.starts_with("exit: 0"), "{produced}");
    let ingested = ["ingest", "four", "--format", "jsonl", "--topic", "notes"];
    let refused = shell.run(&[&ingested[..], &lax].concat());
    assert!(refused.starts_with("exit: 2"), "{refused}");
    let broken = shell.run(&["produce", "notes", "--file", "lines", "-K", "::"]);
    assert!(
        broken.starts_with("exit: 3") && broken.contains("line 1 has no key separator"),
        "{broken}"
    );
    shell.file("large", &"x".repeat(2_000_000));
    let large = shell.run(&[
        "produce",
        "notes",
        "--file",
        "large",
        "--whole",
        "-X",
        "message.max.bytes=9000000",
    ]);
    assert!(
        large.starts_with("exit: 3") && large.contains("WHARF-3002"),
        "{large}"
    );
    assert_eq!(
        shell.stdout(&["consume", "notes", "--until", "end", "--values"]),
        "one\ntwo\n\nfour\n"
    );
}

#[test]
fn a_group_is_described_reset_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.run(&["topic", "create", "orders", "--partitions", "1"]);
    shell.file("lines", "1\n2\n3\n4\n");
    shell.run(&["produce", "orders", "--file", "lines"]);
    let taken = shell.stdout(&[
        "consume", "orders", "--group", "billing", "-n", "3", "--values",
    ]);
    assert_eq!(taken, "1\n2\n3\n");
    let mut diary = String::new();
    for arguments in [
        &["group", "list"][..],
        &["group", "describe", "billing"],
        &["group", "describe", "nobody"],
        &[
            "group",
            "reset",
            "billing",
            "--topic",
            "orders",
            "--to",
            "-3",
            "--dry-run",
        ],
        &[
            "group",
            "reset",
            "billing",
            "--topic",
            "orders",
            "--to",
            "beginning",
        ],
        &[
            "group",
            "reset",
            "billing",
            "--topic",
            "orders",
            "--partition",
            "7",
            "--to",
            "end",
        ],
        &["group", "describe", "billing"],
        &["group", "delete", "billing"],
        &["group", "delete", "billing", "--yes"],
        &["group", "list"],
    ] {
        diary.push_str(&format!(
            "$ wharf {}\n{}",
            arguments.join(" "),
            shell.run(arguments)
        ));
    }
    insta::assert_snapshot!(diary);
}

#[test]
fn a_group_of_the_consumer_protocol_is_listed_described_and_deleted_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.run(&["topic", "create", "orders", "--partitions", "1"]);
    shell.file("lines", "1\n2\n3\n4\n");
    shell.run(&["produce", "orders", "--file", "lines"]);
    let consumer = "group.protocol=consumer";
    let taken = shell.stdout(&[
        "consume", "orders", "--group", "modern", "-X", consumer, "-n", "3", "--values",
    ]);
    assert_eq!(taken, "1\n2\n3\n");
    let listed = shell.json(&["group", "list"]);
    assert_eq!(listed[0]["group"], "modern");
    assert_eq!(listed[0]["state"], "Empty");
    assert_eq!(listed[0]["protocol"], "uniform");
    let described = shell.json(&["group", "describe", "modern"]);
    assert_eq!(described["state"], "Empty");
    assert_eq!(described["partitions"][0]["offset"], 3);
    shell.run(&["group", "delete", "modern", "--yes"]);
    assert_eq!(shell.json(&["group", "list"]), serde_json::json!([]));
}

#[test]
fn a_broker_that_is_not_there_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    // A port that was free a moment ago: nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let said = run_in(directory.path(), &["topic", "list", "--broker", &free]);
    assert!(
        said.starts_with("exit: 3") && said.contains("WHARF-4001"),
        "{said}"
    );
}

#[test]
fn an_ingest_killed_again_and_again_sends_every_row_once() {
    const ROWS: usize = 200_000;
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    let mut rows = String::from("id,name\n");
    for number in 0..ROWS {
        rows.push_str(&format!("{number},\"customer {number}\"\n"));
    }
    shell.file("customers.csv", &rows);
    shell.run(&["topic", "create", "customers", "--partitions", "4"]);
    let arguments = [
        "ingest",
        "customers.csv",
        "--topic",
        "customers",
        "--key",
        "id",
        "--broker",
        shell.node.text("kafka"),
    ];
    let records = || {
        shell.json(&["topic", "list"])[0]["records"]
            .as_u64()
            .unwrap()
    };
    let mut interrupted = 0;
    for kill_at in [1, 40_000, 90_000] {
        let mut ingest = command(shell.directory)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while records() < kill_at && ingest.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        ingest.kill().unwrap();
        interrupted += usize::from(!ingest.wait().unwrap().success());
    }
    assert!(
        interrupted > 0,
        "at least one run must have been interrupted"
    );
    let report = shell.json(&arguments[..arguments.len() - 2])[0].clone();
    assert_eq!(report["rows"], ROWS);
    assert_eq!(records(), u64::try_from(ROWS).unwrap());
    let mut seen = vec![false; ROWS];
    for value in shell
        .stdout(&["consume", "customers", "--until", "end", "--values"])
        .lines()
    {
        let row: serde_json::Value = serde_json::from_str(value).unwrap();
        let id: usize = row["id"].as_str().unwrap().parse().unwrap();
        assert!(
            !std::mem::replace(&mut seen[id], true),
            "row {id} came twice"
        );
    }
    assert!(seen.iter().all(|seen| *seen), "every row is there");
    assert!(!directory.path().join("customers.csv.wharf-ingest").exists());
}

#[test]
fn an_ingest_stops_at_a_bad_row_and_goes_on_when_it_is_mended() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.file("events.jsonl", "{\"n\":1}\n{\"n\":\n{\"n\":3}\n");
    let arguments = [
        "ingest",
        "events.jsonl",
        "--topic",
        "events",
        "--create",
        "1",
    ];
    let stopped = shell.run(&arguments);
    assert!(
        stopped.starts_with("exit: 3") && stopped.contains("WHARF-4002"),
        "{stopped}"
    );
    assert!(stopped.contains("line 2"), "{stopped}");
    let report = shell.json(&[&arguments[..], &["--skip-invalid"]].concat())[0].clone();
    assert_eq!(report["rows"], 3);
    assert_eq!(report["invalid"], 1);
    assert_eq!(
        shell.stdout(&["consume", "events", "--until", "end", "--values"]),
        "{\"n\":1}\n{\"n\":3}\n"
    );
}
