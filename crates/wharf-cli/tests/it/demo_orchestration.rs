//! The walk-through of the orchestrated shop, as its page has it
//! (`docs/how-to/saga-walk-through-orchestration.md`): a declined card is undone, a refund that is refused
//! parks its saga and raises its alarm, and one action repairs it while the shop goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness::Group;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::run::{command, run};

const PATIENCE: Duration = Duration::from_secs(120);

/// Asks the API of the node.
fn ask(http: &str, method: &str, path: &str, body: &str) -> Value {
    let mut stream = TcpStream::connect(http).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{method} {path}: {answer}"))
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The first saga that stands so and has this error.
fn first(http: &str, status: &str, fits: impl Fn(&Value) -> bool) -> String {
    until(&format!("a saga is {status}"), || {
        let path = format!("/api/v1/sagas?status={status}&limit=1000");
        let listed = ask(http, "GET", &path, "");
        let sagas = listed["sagas"].as_array().unwrap();
        let found = sagas.iter().find(|saga| fits(saga))?;
        Some(found["id"].as_str().unwrap().to_owned())
    })
}

#[test]
fn the_walk_through_shows_a_declined_card_and_repairs_a_parked_refund_by_one_action() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = command(directory.path());
    demo.env("TMPDIR", directory.path())
        .args(["demo", "--style", "orchestration", "--rate", "40"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::spawn(&mut demo).unwrap();
    let mut stderr = BufReader::new(group.child().stderr.take().unwrap());
    let http = until("the demo says where it listens", || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("its sagas at http://")?;
        Some(rest.split_once('/').unwrap().0.to_owned())
    });
    // Its figures are read, so that it never waits for the pipe.
    let noted = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });

    let declined = first(&http, "COMPENSATED", |saga| saga["error"] == "CardDeclined");
    let told = ask(
        &http,
        "GET",
        &format!("/api/v1/sagas/{declined}/timeline"),
        "",
    )
    .to_string();
    assert!(
        told.contains("ReserveStock") && told.contains("CardDeclined"),
        "{told}"
    );
    assert!(!told.contains("ArrangeShipping"), "{told}");

    let parked = first(&http, "PARKED", |_| true);
    let shown = ask(&http, "GET", &format!("/api/v1/sagas/{parked}"), "");
    let step = &shown["parked_steps"][0];
    assert_eq!(
        (&step["name"], &step["undo"], &step["error"]),
        (&json!("ChargeCard"), &json!(true), &json!("AccountClosed")),
        "{shown}"
    );
    let mark = [
        "saga",
        "mark",
        &parked,
        "--as",
        "compensated",
        "--reason",
        "paid back by hand",
    ];
    let mark = command(directory.path())
        .args(mark)
        .args(["--http", &http])
        .output();
    let mark = mark.unwrap();
    assert!(mark.status.success(), "{mark:?}");
    let ended = until("the saga is compensated", || {
        let shown = ask(&http, "GET", &format!("/api/v1/sagas/{parked}"), "");
        (shown["status"] == "COMPENSATED").then_some(shown)
    });
    assert_eq!(ended["error"], "TooHeavy", "{ended}");

    let id = i32::try_from(group.child().id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    let mut said = String::new();
    let mut stdout = group.child().stdout.take().unwrap();
    stdout.read_to_string(&mut said).unwrap();
    let status = group.wait().unwrap();
    let noted = noted.join().unwrap();
    assert_eq!(status.code(), Some(0), "{said}{noted}");
    assert!(said.contains("The numbers add up."), "{said}{noted}");
    assert!(
        said.contains("AccountClosed") || said.contains("TooHeavy"),
        "{said}"
    );
}

#[test]
fn the_orchestrated_shop_has_no_service_in_python() {
    let said = run(&["demo", "--style", "orchestration", "--python"]);
    assert!(said.starts_with("exit: 2"), "{said}");
    assert!(said.contains("leave --python out"), "{said}");
}
