//! `wharf serve` as a process: the ready line, signals, logs, and what stops it from starting.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::Group;
use rustix::process::{Pid, Signal, kill_process};

use crate::run::{command, run_in};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);
const LISTEN: [&str; 6] = [
    "--kafka-listen",
    "127.0.0.1:0",
    "--http-listen",
    "127.0.0.1:0",
    "--registry-listen",
    "127.0.0.1:0",
];

pub(crate) struct Served {
    pub(crate) group: Group,
    ready: serde_json::Value,
}

/// Starts a node in `directory` and waits for its ready line.
pub(crate) fn serve(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Served {
    let mut command = command(directory);
    command
        .args(["serve", "--ready-json"])
        .args(LISTEN)
        .args(arguments);
    command
        .envs(environment.iter().copied())
        .stdout(Stdio::piped());
    command.stderr(File::create(directory.join("log")).unwrap());
    let mut group = Group::spawn(&mut command).unwrap();
    let mut line = Vec::new();
    let mut stdout = group.child().stdout.take().unwrap();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    let ready = serde_json::from_slice(&line).unwrap_or_else(|_| panic!("no ready line: {log}"));
    Served { group, ready }
}

impl Served {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }
}

fn until_logged(directory: &Path, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(directory.join("log"))
        .unwrap()
        .contains(text)
    {
        assert!(Instant::now() < deadline, "{text:?} should be logged");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn the_ready_line_is_the_only_output_and_a_signal_ends_it_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = serve(directory.path(), &["--data", "here"], &[]);
    TcpStream::connect(node.text("kafka")).unwrap();
    TcpStream::connect(node.text("http")).unwrap();
    TcpStream::connect(node.text("registry")).unwrap();
    let data = directory.path().join("here").canonicalize().unwrap();
    assert_eq!(Path::new(node.text("data")), data);
    assert_eq!(node.ready["pid"], node.group.child().id());
    assert_eq!(node.ready.as_object().unwrap().len(), 5);
    let status = node
        .group
        .terminate(PATIENCE)
        .unwrap()
        .expect("it should end");
    assert_eq!(status.code(), Some(0));
    until_logged(directory.path(), "stopped");
}

#[test]
fn a_second_node_is_told_who_holds_the_directory_and_who_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = serve(directory.path(), &["--data", "d"], &[]);
    let again = [
        "serve", "--data", "d", LISTEN[0], LISTEN[1], LISTEN[2], LISTEN[3], LISTEN[4], LISTEN[5],
    ];
    let locked = run_in(directory.path(), &again);
    let holder = format!("process {} holds", node.group.child().id());
    assert!(locked.contains(&holder), "{locked}");
    insta::assert_snapshot!(locked.replace(&holder, "process PID holds"), @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1002]: the data directory d is in use
      why: process PID holds the lock on it
      fix: stop that process, or give this node a directory of its own with --data (wharf explain WHARF-1002)
    ");
    let port = node.text("kafka").to_owned();
    let again = [
        "serve", "--data", "e", LISTEN[0], &port, LISTEN[2], LISTEN[3], LISTEN[4], LISTEN[5],
    ];
    let taken = run_in(directory.path(), &again);
    insta::assert_snapshot!(taken.replace(&port, "ADDRESS"), @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1001]: cannot listen on ADDRESS (`kafka.listen`)
      why: Address already in use (os error 98)
      fix: stop whatever listens there, or set another `kafka.listen`; port 0 picks a free one (wharf explain WHARF-1001)
    ");
    assert!(!directory.path().join("e").exists());
    assert!(node.group.ended().unwrap().is_none());
}

#[test]
fn what_cannot_be_started_ends_with_3_and_three_lines() {
    let directory = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let arguments = [&["serve"], &LISTEN[..], arguments].concat();
        run_in(directory.path(), &arguments)
    };
    std::fs::create_dir(directory.path().join("thesis")).unwrap();
    std::fs::write(directory.path().join("thesis/one.tex"), "").unwrap();
    insta::assert_snapshot!(serve(&["--data", "thesis"]), @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1005]: thesis is not a data directory of Wharf's
      why: it holds one.tex and has no wharf.json
      fix: give an empty or a new directory with --data (wharf explain WHARF-1005)
    ");
    insta::assert_snapshot!(serve(&["--config", "missing.toml"]), @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1003]: the configuration file missing.toml cannot be read
      why: No such file or directory (os error 2)
      fix: check the path given with --config and its permissions (wharf explain WHARF-1003)
    ");
    let beyond = run_in(directory.path(), &["serve", "--kafka-listen", "0.0.0.0:0"]);
    insta::assert_snapshot!(beyond, @r"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error[WHARF-1004]: listening on 0.0.0.0:0 without authentication was refused
      why: 0.0.0.0:0 can be reached from other machines (`kafka.listen`, set by the flag --kafka-listen)
      fix: listen on 127.0.0.1, or set `kafka.allow-unauthenticated-beyond-loopback = true` if everyone in reach may read and write everything (wharf explain WHARF-1004)
    ");
    insta::assert_snapshot!(serve(&["--log-level", "loud=very"]), @r#"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: --log-level "loud=very" cannot be read: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
      fix: `wharf --help` and `wharf COMMAND --help` show how
    "#);
}

#[test]
fn logs_can_be_json() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = serve(
        directory.path(),
        &["--log-format", "json"],
        &[("WHARF_LOG", "debug")],
    );
    node.group
        .terminate(PATIENCE)
        .unwrap()
        .expect("it should end");
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ready = events
        .iter()
        .find(|event| event["message"] == "ready")
        .unwrap();
    assert_eq!(ready["kafka"], node.ready["kafka"]);
    assert!(events.iter().any(|event| event["message"] == "stopped"));
}

#[test]
fn a_second_signal_does_not_wait_for_what_was_begun() {
    let directory = tempfile::tempdir().unwrap();
    let patient = [
        ("WHARF_GROUPS__INITIAL_REBALANCE_DELAY", "10m"),
        ("WHARF_NODE__DRAIN_TIMEOUT", "10m"),
    ];
    let mut node = serve(directory.path(), &["--log-level", "debug"], &patient);
    let mut client = TcpStream::connect(node.text("kafka")).unwrap();
    client.write_all(&join_group()).unwrap();
    until_in_flight(node.text("http"));
    let id = i32::try_from(node.group.child().id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    until_logged(directory.path(), "stopping");
    let status = node
        .group
        .terminate(PATIENCE)
        .unwrap()
        .expect("it should end at once");
    assert_eq!(status.code(), Some(3));
    until_logged(directory.path(), "stopped at once by a second signal");
}

/// Waits until the node works on a request that it cannot answer yet.
fn until_in_flight(http: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        if metrics.contains("\nwharf_kafka_in_flight_requests 1\n") {
            return;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    }
}

/// JoinGroup v2 of a new member, as bytes.
fn join_group() -> Vec<u8> {
    let mut body: Vec<u8> = vec![0, 11, 0, 2, 0, 0, 0, 1];
    let text = |text: &str, body: &mut Vec<u8>| {
        body.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    };
    text("client", &mut body);
    text("group", &mut body);
    body.extend(30_000_i32.to_be_bytes());
    body.extend(30_000_i32.to_be_bytes());
    text("", &mut body);
    text("consumer", &mut body);
    body.extend(1_i32.to_be_bytes());
    text("range", &mut body);
    body.extend(0_i32.to_be_bytes());
    let mut frame = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

#[test]
fn an_idle_node_is_small() {
    let directory = tempfile::tempdir().unwrap();
    let node = serve(directory.path(), &[], &[]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.ready["pid"])).unwrap();
    // The pages of the file that runs do not count here: they are many in a debug build, and the kernel
    // may drop them. The benchmark measures all of a release build.
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    let kibibytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes <= 30 << 10, "{kibibytes} KiB");
}
