//! `wharf test duplicates` on consumers made of the shell and `wharf consume`, against a node.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use harness::Group;
use serde_json::Value;

use crate::run::{command, run_in};
use crate::serve::{Served, serve};

const BINARY: &str = env!("CARGO_BIN_EXE_wharf");
const COMMIT_OFTEN: &str = "-X auto.commit.interval.ms=50";

struct Bench<'a> {
    directory: &'a Path,
    node: Served,
}

impl<'a> Bench<'a> {
    /// A node whose groups start at once, and three messages.
    fn open(directory: &'a Path) -> Self {
        let at_once = [("WHARF_GROUPS__INITIAL_REBALANCE_DELAY", "0s")];
        let lines = (1..=3).map(|n| format!("{{\"key\": \"k\", \"value\": \"{n} {{run}}\"}}\n"));
        fs::write(directory.join("messages"), lines.collect::<String>()).unwrap();
        let node = serve(directory, &["--data", "data"], &at_once);
        Self { directory, node }
    }

    /// A consumer that appends what it reads to a file of its run.
    fn appending(&self) -> String {
        format!(
            "exec {BINARY} consume {{topic}} --group {{group}} --values -b {{broker}} {COMMIT_OFTEN} >> {{run}}.out"
        )
    }

    fn test(&self, arguments: &[&str]) -> Output {
        let fixed = ["test", "duplicates", "--topic", "t", "--group", "g"];
        let broker = ["--broker", self.node.text("kafka")];
        let messages = if arguments.contains(&"--messages") {
            &[][..]
        } else {
            &["--messages", "messages"]
        };
        let arguments = [&fixed[..], messages, arguments, &broker].concat();
        command(self.directory).args(arguments).output().unwrap()
    }

    /// The exit code and what was said about it.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.test(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"))
}

#[test]
fn a_consumer_that_books_twice_is_found_and_its_schedule_shows_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::open(directory.path());
    let appending = bench.appending();
    let consumer = [
        "--run",
        &appending,
        "--probe",
        "cat {run}.out",
        "-o",
        "json",
    ];
    let output = bench.test(&[&consumer[..], &["--junit", "report.xml"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = report(&output);
    assert_eq!(found["verdict"], "not-idempotent");
    let failures = found["cases"].as_array().unwrap().iter();
    let failure = failures
        .map(|case| &case["failure"])
        .find(|failure| !failure.is_null());
    let failure = failure.unwrap();
    assert_eq!(failure["schedule"], "1 1+");
    assert_eq!(failure["differences"][0]["thing"], "\"1 {run}\"");
    assert_eq!(failure["differences"][0]["found"], 2);
    let junit = fs::read_to_string(directory.path().join("report.xml")).unwrap();
    assert!(
        junit.contains("failures=\"1\"") && junit.contains(": 1 1+"),
        "{junit}"
    );
    let again = bench.test(&[&consumer[..], &["--schedule", "2 2+"]].concat());
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    // Nothing stays behind on the broker.
    let topics = command(directory.path())
        .args([
            "topic",
            "list",
            "-o",
            "json",
            "--broker",
            bench.node.text("kafka"),
        ])
        .output()
        .unwrap();
    let topics: Value = serde_json::from_slice(&topics.stdout).unwrap();
    let own = topics
        .as_array()
        .unwrap()
        .iter()
        .filter(|topic| topic["name"] != "__consumer_offsets");
    assert_eq!(own.count(), 0, "{topics}");
}

#[test]
fn a_consumer_whose_effects_stay_the_same_passes_whatever_happens_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::open(directory.path());
    let appending = bench.appending();
    let everything = "1x 1 2 restart 2+ 3x1 3 back2 3+ 1+";
    let once = ["--run", &appending, "--probe", "sort -u {run}.out"];
    let output = bench.test(&[&once[..], &["--schedule", everything]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("g is idempotent.\n"), "{said}");
    // The same schedule without the help of `sort` shows that something did happen, whichever
    // protocol the members of the group have to be removed by.
    for protocol in ["classic", "consumer"] {
        let appending = appending.replace(" >> ", &format!(" -X group.protocol={protocol} >> "));
        let all = [
            "--run",
            &appending,
            "--probe",
            "sort {run}.out",
            "--shrink",
            "0",
        ];
        let output = bench.test(&[&all[..], &["--schedule", everything, "-o", "json"]].concat());
        assert_eq!(output.status.code(), Some(1));
        let differences = &report(&output)["cases"][0]["failure"]["differences"];
        let times = |at: usize| differences[at]["found"].as_u64().unwrap();
        assert!(
            times(0) >= 3 && times(1) >= 2 && times(2) >= 2,
            "{differences}"
        );
    }
}

#[test]
fn what_is_remembered_for_a_time_only_is_found_when_the_time_has_passed() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::open(directory.path());
    // What is in the file when the time passes is counted for itself, as a purged inbox would do.
    let later = "mv {run}.out {run}.old; : > {run}.out";
    let appending = bench.appending();
    let probe = "cat {run}.old 2>/dev/null | sort -u; sort -u {run}.out";
    let consumer = [
        "--run", &appending, "--probe", probe, "--later", later, "--shrink", "0",
    ];
    let soon = bench.test(&[&consumer[..], &["--schedule", "1 1+ 2"]].concat());
    assert_eq!(soon.status.code(), Some(0), "{soon:?}");
    let late = bench.test(
        &[
            &consumer[..],
            &["--schedule", "1 later restart 1+ 2", "-o", "json"],
        ]
        .concat(),
    );
    assert_eq!(late.status.code(), Some(1), "{late:?}");
    let report = report(&late);
    assert_eq!(report["verdict"], "idempotent-within-window", "{report}");
}

#[test]
fn a_consumer_that_runs_already_is_tested_without_being_killed() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::open(directory.path());
    let create = [
        "topic",
        "create",
        "t",
        "--partitions",
        "1",
        "--broker",
        bench.node.text("kafka"),
    ];
    let created = run_in(directory.path(), &create);
    assert!(created.starts_with("exit: 0"), "{created}");
    let mut consumer = command(directory.path());
    consumer.args([
        "consume",
        "t",
        "--group",
        "g",
        "--values",
        "-b",
        bench.node.text("kafka"),
    ]);
    consumer.args(COMMIT_OFTEN.split(' ')).stderr(Stdio::null());
    consumer.stdout(fs::File::create(directory.path().join("out")).unwrap());
    let mut running = Group::spawn(&mut consumer).unwrap();
    let output = bench.test(&["--probe", "grep {run} out", "-o", "json"]);
    assert!(running.ended().unwrap().is_none());
    running.kill().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = report(&output);
    let untried = found["not_tried"].as_array().unwrap();
    assert!(untried.contains(&"crash before settling".into()), "{found}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not killed"));
    let impossible = bench.fails(&["--probe", "grep {run} out", "--schedule", "1x 1"]);
    assert_eq!(impossible.0, 2, "{impossible:?}");
}

#[test]
fn what_cannot_be_judged_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::open(directory.path());
    fs::write(directory.path().join("none"), "\n").unwrap();
    fs::write(directory.path().join("bad"), "{\"kee\": 1}\n").unwrap();
    fs::write(directory.path().join("plain"), "{\"value\": 1}\n").unwrap();
    let appending = bench.appending();
    let run = ["--run", &appending];
    let tells = |arguments: &[&str], code: i32, text: &str| {
        let (exit, said) = bench.fails(arguments);
        assert_eq!(exit, code, "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    tells(&run, 2, "--probe");
    tells(
        &["--probe", "true", "--messages", "plain"],
        2,
        "without --run",
    );
    let probed = [&run[..], &["--probe", "cat {run}.out"]].concat();
    let with = |more: &[&'static str]| [&probed[..], more].concat();
    tells(&with(&["--schedule", "one"]), 2, "no step of a schedule");
    tells(&with(&["--schedule", "4"]), 2, "message 4 of 3");
    tells(&with(&["--schedule", "1="]), 2, "two instances");
    tells(&with(&["--messages", "none"]), 3, "nothing to deliver");
    tells(&with(&["--messages", "bad"]), 3, "unknown field \"kee\"");
    tells(&with(&["--reset", "exit 7"]), 3, "--reset failed");
    let blind = [&run[..], &["--probe", "true"]].concat();
    tells(&blind, 3, "no effect");
    let restless = [&run[..], &["--probe", "echo $WHARF_RUN; date +%N"]].concat();
    tells(&restless, 3, "other effects every time");
    let dies = ["--run", "echo it is broken >&2; exit 1", "--probe", "true"];
    tells(&dies, 3, "it is broken");
    let deaf = [
        "--run",
        "exec tail -f /dev/null",
        "--probe",
        "true",
        "--patience",
        "300ms",
    ];
    tells(&deaf, 3, "has not committed everything");
}
