//! `wharf saga` against a real node with HTTP workers, and what it does with files alone.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::run::{command, run, run_in};
use crate::serve::{Served, serve};

const PAGE: &str = include_str!("../../../../docs/how-to/saga-operate.md");
const TRIP: &str = include_str!("../../../wharf-saga/tests/data/trip.asl.json");
const PATIENCE: Duration = Duration::from_secs(30);

/// The definition of the how-to, its workers where the test has them.
fn definition(workers: SocketAddr) -> String {
    let block = PAGE.split("```yaml\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    block.replace("127.0.0.1:9000", &workers.to_string())
}

/// HTTP workers: what each path answers, 200 and an empty object where nothing is said.
#[derive(Clone, Default)]
struct Workers {
    answers: Arc<Mutex<BTreeMap<&'static str, (u16, &'static str)>>>,
}

impl Workers {
    fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let workers = Self::default();
        let own = workers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream.unwrap()));
            }
        });
        (workers, address)
    }

    fn say(&self, path: &'static str, status: u16, body: &'static str) {
        self.answers.lock().unwrap().insert(path, (status, body));
    }

    fn serve(&self, mut stream: std::net::TcpStream) {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            request.push(byte[0]);
        }
        let head = String::from_utf8(request).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        stream.read_exact(&mut vec![0; length]).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let answers = self.answers.lock().unwrap();
        let (status, body) = answers.get(path.as_str()).copied().unwrap_or((200, "{}"));
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        // The node may have gone; the test fails elsewhere then.
        drop(stream.write_all(answer.as_bytes()));
    }
}

struct Shell<'a> {
    directory: &'a Path,
    node: Served,
    workers: SocketAddr,
}

impl<'a> Shell<'a> {
    fn open(directory: &'a Path, workers: SocketAddr) -> Self {
        let node = serve(directory, &["--data", "data"], &[]);
        std::fs::write(directory.join("checkout.yaml"), definition(workers)).unwrap();
        Self {
            directory,
            node,
            workers,
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let http = ["--http", self.node.text("http")];
        run_in(self.directory, &[&["saga"], arguments, &http].concat())
    }

    /// Runs, and insists on the exit code and on what is said.
    fn says(&self, arguments: &[&str], exit: i32, has: &[&str]) -> String {
        let said = self.run(arguments);
        assert!(
            said.starts_with(&format!("exit: {exit}\n")),
            "{arguments:?}: {said}"
        );
        for text in has {
            assert!(
                said.contains(text),
                "{arguments:?}: {text} is not in {said}"
            );
        }
        said
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let rest = ["-o", "json", "--http", self.node.text("http")];
        let mut command = command(self.directory);
        command.arg("saga").args(arguments).args(rest);
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn start(&self, key: &str) -> String {
        let said = self.json(&[
            "start",
            "checkout",
            "--key",
            key,
            "--input",
            "{\"order\": 17}",
        ]);
        said["id"].as_str().unwrap().to_owned()
    }

    fn until(&self, id: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        let begun = Instant::now();
        loop {
            let saga = self.json(&["show", id]);
            if holds(&saga["saga"]) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{saga:#}");
        }
    }

    fn until_status(&self, id: &str, status: &str) {
        self.until(id, |saga| saga["status"] == status);
    }

    /// What differs from run to run, taken out.
    fn masked(&self, said: &str, ids: &[&str]) -> String {
        let mut said = said.replace(&self.workers.to_string(), "WORKERS");
        for id in ids {
            said = said.replace(id, "ID");
        }
        let hash = self.json(&["list", "--definitions"])[0]["versions"][0]["hash"].clone();
        said = said.replace(hash.as_str().unwrap(), "HASH");
        let mut masked = String::new();
        let mut rest = said.as_str();
        // A time begins ten characters before its T and ends at its Z.
        while let Some(end) = rest.find('Z') {
            let (time, after) = rest.split_at(end + 1);
            match time
                .rfind('T')
                .filter(|at| *at >= 10 && time[at - 10..].starts_with("20"))
            {
                Some(at) => masked.push_str(&(time[..at - 10].to_owned() + "TIME")),
                None => masked.push_str(time),
            }
            rest = after;
        }
        masked + rest
    }
}

#[test]
fn a_definition_is_checked_and_deployed_and_a_key_starts_one_saga() {
    let directory = tempfile::tempdir().unwrap();
    let (_workers, address) = Workers::start();
    let shell = Shell::open(directory.path(), address);
    let checked = run_in(directory.path(), &["saga", "validate", "checkout.yaml"]);
    assert!(checked.contains("0 errors, 0 warnings"), "{checked}");
    shell.says(
        &["deploy", "checkout.yaml", "--dry-run"],
        0,
        &["nothing was changed"],
    );
    shell.says(
        &["deploy", "checkout.yaml"],
        0,
        &["checkout is deployed as version 1"],
    );
    shell.says(
        &["deploy", "checkout.yaml"],
        0,
        &["says the same as before"],
    );
    shell.says(&["list", "--definitions"], 0, &["checkout  1        1"]);
    let id = shell.start("order-17");
    let again = [
        "start",
        "checkout",
        "--key",
        "order-17",
        "--input",
        "{\"order\": 17}",
    ];
    shell.says(&again, 0, &[&format!("{id}\n"), "it was started before"]);
    let other = ["start", "checkout", "--key", "order-17"];
    shell.says(&other, 3, &["error[WHARF-7003]"]);
    let exported = [
        "export",
        "--name",
        "checkout",
        "--as-deployed",
        "--as",
        "yaml",
    ];
    shell.says(&exported, 0, &["Compensate:", "Pivot: Charge"]);
    let none = ["export", "--name", "none"];
    shell.says(&none, 3, &["error[WHARF-7005]", "--definitions"]);
}

#[test]
fn a_parked_saga_is_found_shown_and_repaired_by_one_command() {
    let directory = tempfile::tempdir().unwrap();
    let (workers, address) = Workers::start();
    workers.say("/reserve", 200, "{\"shelf\": 4}");
    workers.say("/ship", 500, "no truck\u{1b}[2J");
    let shell = Shell::open(directory.path(), address);
    shell.says(&["deploy", "checkout.yaml"], 0, &[]);
    let id = shell.start("order-17");
    shell.until(&id, |saga| saga["current"][0]["doing"] == "listening");
    shell.says(&["show", &id, "--undo"], 0, &["1. step 1 Reserve"]);
    shell.says(
        &["signal", &id, "Approved", "--payload", "{\"by\": \"ada\"}"],
        0,
        &["Approved"],
    );
    shell.until_status(&id, "PARKED");
    let parked = [
        "list", "--status", "PARKED", "--at", "Ship", "--type", "checkout",
    ];
    shell.says(&parked, 0, &[&id, "Ship"]);
    shell.says(&["list", "--counts"], 0, &["checkout", "PARKED", "1"]);
    let shown = shell.says(&["show", &id], 1, &["waits for     a person"]);
    assert!(!shown.contains('\u{1b}'), "{shown}");
    insta::assert_snapshot!(shell.masked(&shown, &[&id]));
    let picture = ["draw", "--saga", &id, "--format", "mermaid"];
    shell.says(&picture, 0, &["flowchart", "parked", "done"]);
    shell.says(
        &["abort", &id, "--reason", "x"],
        3,
        &["error[WHARF-7008]", "pivot"],
    );
    workers.say("/ship", 200, "{\"parcel\": 5}");
    let retry = [
        "retry",
        &id,
        "--by",
        "ada",
        "--reason",
        "the carrier is back",
    ];
    shell.says(&retry, 0, &[&format!("{id} is ")]);
    shell.until_status(&id, "COMPLETED");
    shell.says(
        &["show", &id],
        0,
        &["retry by ada: the carrier is back", "output {\"parcel\":5}"],
    );
    shell.says(&retry, 3, &["error[WHARF-7008]"]);
}

#[test]
fn many_sagas_are_counted_before_they_are_aborted_and_each_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (_workers, address) = Workers::start();
    let shell = Shell::open(directory.path(), address);
    shell.says(&["deploy", "checkout.yaml"], 0, &[]);
    let ids = ["1", "2", "3"].map(|key| shell.start(key));
    for id in &ids {
        shell.until(id, |saga| saga["current"][0]["doing"] == "listening");
    }
    let abort = [
        "abort",
        "--type",
        "checkout",
        "--at",
        "Approve",
        "--reason",
        "never approved",
    ];
    let with = |more: &[&'static str]| [&abort[..], more].concat();
    let counted = shell.says(
        &with(&["--dry-run"]),
        0,
        &["3 sagas are meant", "nothing was changed"],
    );
    assert!(ids.iter().all(|id| counted.contains(id)), "{counted}");
    shell.says(&abort, 2, &["--yes"]);
    assert_eq!(
        shell
            .json(&["list", "--status", "RUNNING"])
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let done = shell.says(&with(&["--yes"]), 0, &["abort: 3 done, 0 refused"]);
    assert!(ids.iter().all(|id| done.contains(id)), "{done}");
    for id in &ids {
        shell.until(id, |saga| !saga["ended"].is_null());
    }
    shell.says(&with(&["--yes"]), 1, &["0 sagas are meant"]);
    let ended = ["pause", "--type", "checkout", "--reason", "late", "--yes"];
    shell.says(&ended, 1, &["refused: WHARF-7008", "0 done, 3 refused"]);
    shell.says(&["list", "--all", "--limit", "2"], 2, &[]);
    shell.says(&["list", "--limit", "2"], 0, &["there are more than 2"]);
    assert_eq!(shell.json(&["list", "--all"]).as_array().unwrap().len(), 3);
}

#[test]
fn what_cannot_be_meant_is_refused_before_a_node_is_asked() {
    let here = "00000000-0000-0000-0000-000000000000";
    for (arguments, said) in [
        (&["abort", "--reason", "x"][..], "say which saga"),
        (&["abort", here], "--reason"),
        (
            &["abort", here, "--type", "a", "--reason", "x"],
            "an id and a filter",
        ),
        (&["abort", here, "--dry-run", "--reason", "x"], "--undo"),
        (
            &["skip", here, "--data", "text", "--reason", "x"],
            "--data is no JSON",
        ),
        (
            &[
                "mark",
                here,
                "--as",
                "compensated",
                "--result",
                "1",
                "--reason",
                "x",
            ],
            "no result",
        ),
        (
            &[
                "edit", "--type", "a", "--input", "1", "--retry", "--reason", "x",
            ],
            "with an id",
        ),
        (&["list", "--counts", "--type", "a"], "leave the others"),
        (&["draw"], "name a file"),
        (&["deploy", "-"], ""),
    ] {
        let all = [&["saga"], arguments, &["--http", "127.0.0.1:1"]].concat();
        let told = run(&all);
        assert!(told.starts_with("exit: 2\n"), "{arguments:?}: {told}");
        assert!(told.contains(said), "{arguments:?}: {told}");
    }
    let told = run(&["saga", "show", here, "--http", "127.0.0.1:1"]);
    assert!(
        told.starts_with("exit: 3\n") && told.contains("WHARF-"),
        "{told}"
    );
}

#[test]
fn files_are_checked_joined_drawn_exported_and_imported_without_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let in_it = |arguments: &[&str]| run_in(directory.path(), &[&["saga"], arguments].concat());
    write(
        "bad.json",
        r#"{"StartAt": "B", "States": {"A": {"Type": "Task", "End": 1}}}"#,
    );
    let machine = r#"{"StartAt": "Book", "States": {"Book": {"Type": "Task", "Resource": "wharf:topic:book", "TimeoutSeconds": 5, "End": true}}}"#;
    write("trip.asl.json", machine);
    let undo = r#"{"machine": "trip.asl.json", "compensate": {"Book": {"Resource": "wharf:topic:cancel", "TimeoutSeconds": 5, "Retry": [{"ErrorEquals": ["States.ALL"]}]}}}"#;
    write("trip.saga.json", undo);
    write("lost.saga.json", r#"{"machine": "none.json"}"#);
    write(
        "wrong.saga.json",
        r#"{"machine": "trip.asl.json", "compensate": {"Bok": {}}}"#,
    );
    write("hand.asl.json", TRIP);
    let mut diary = String::new();
    for arguments in [
        &["validate", "bad.json", "trip.saga.json", "wrong.saga.json"][..],
        &["validate", "trip.asl.json"],
        &["validate", "trip.asl.json", "--strict", "-o", "jsonl"],
        &["validate", "lost.saga.json"],
        &["draw", "trip.saga.json"],
        &["draw", "bad.json"],
        &["export", "trip.saga.json"],
        &["import", "hand.asl.json"],
    ] {
        diary.push_str(&format!(
            "$ wharf saga {}\n{}",
            arguments.join(" "),
            in_it(arguments)
        ));
    }
    insta::assert_snapshot!(diary);
    let svg = in_it(&["draw", "trip.saga.json", "--format", "svg"]);
    assert!(svg.contains("<svg"), "{svg}");
    let unsupported = r#"{"StartAt": "A", "States": {"A": {"Type": "Teleport", "Next": "B"}, "B": {"Type": "Succeed"}}}"#;
    write("odd.json", unsupported);
    let said = in_it(&["import", "odd.json"]);
    assert!(said.starts_with("exit: 1\n"), "{said}");
    assert!(said.contains("/States/A  Teleport  unsupported"), "{said}");
    assert!(said.contains("/States/B  Succeed  supported"), "{said}");
    let said = in_it(&["import", "hand.asl.json", "--as", "json", "-o", "yaml"]);
    assert!(
        said.starts_with("exit: 2\n") && said.contains("--as"),
        "{said}"
    );
    // What was imported is a definition of its own.
    let imported = command(directory.path())
        .args(["saga", "import", "hand.asl.json"])
        .output();
    write(
        "hand.yaml",
        &String::from_utf8(imported.unwrap().stdout).unwrap(),
    );
    let said = in_it(&["validate", "hand.yaml"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
}

#[test]
fn the_help_of_sagas_shows_how() {
    let help = [
        &["saga", "--help"][..],
        &["saga", "list", "--help"],
        &["saga", "retry", "--help"],
    ];
    insta::assert_snapshot!(help.map(run).join("\n"));
}
