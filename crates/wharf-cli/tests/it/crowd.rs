//! More connections than a node takes, up to what the machine's limit of open files allows. The
//! node is a process of its own, so that each side has all of its limit for itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::serve::serve;

const PATIENCE: Duration = Duration::from_secs(60);
/// The crowd, if the machine lets a process have so many.
const CROWD: usize = 20_000;
/// Files that the test itself and those beside it have open.
const OTHERS: u64 = 1_000;

/// How many connections this process can have.
fn crowd() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    let allowed = maximum.unwrap_or(u64::MAX).saturating_sub(OTHERS);
    CROWD.min(usize::try_from(allowed).unwrap())
}

/// ApiVersions v0: whether it is answered (else the connection was closed).
fn is_served(stream: &mut TcpStream) -> bool {
    let mut frame = vec![0, 0, 0, 10, 0, 18, 0, 0];
    frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff]);
    let mut length = [0; 4];
    if stream.write_all(&frame).is_err() || stream.read_exact(&mut length).is_err() {
        return false;
    }
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation id and error code.
    answer[..6] == [0, 0, 0, 1, 0, 0]
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn metric(http: &str, name: &str) -> u64 {
    let mut stream = connect(http);
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect(name);
    line.trim().parse().unwrap()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
    }
}

#[test]
fn twenty_thousand_connections_are_taken_up_to_the_limit_and_the_rest_are_refused_gracefully() {
    let crowd = crowd();
    assert!(
        crowd >= 1_000,
        "the machine lets a process have {crowd} connections only"
    );
    let wanted = crowd * 3 / 4;
    let directory = tempfile::tempdir().unwrap();
    let settings = [("WHARF_KAFKA__CONNECTIONS_MAX", &*wanted.to_string())];
    let node = serve(directory.path(), &[], &settings);
    let (kafka, http) = (node.text("kafka"), node.text("http"));
    let mut streams: Vec<TcpStream> = (0..crowd).map(|_| connect(kafka)).collect();
    let mut served = vec![true; crowd];
    for (stream, served) in streams.iter_mut().zip(&mut served) {
        *served = is_served(stream);
    }
    let taken = served.iter().filter(|served| **served).count();
    let limit = usize::try_from(metric(http, "wharf_kafka_open_connections ")).unwrap();
    assert_eq!(
        taken, limit,
        "those that are open are those that are served"
    );
    assert!(limit <= wanted && limit > wanted / 2, "{limit} of {wanted}");
    let refused = metric(http, "wharf_kafka_refused_connections_total ");
    assert_eq!(refused, u64::try_from(crowd - limit).unwrap());
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let told = log
        .lines()
        .filter(|line| line.contains("connections were refused"))
        .count();
    assert!(
        (1..100).contains(&told),
        "told, but not {told} times:\n{log:.2000}"
    );
    // Whoever was there is there still, and whoever goes makes room for another.
    let all = streams.into_iter().zip(served);
    let mut kept: Vec<_> = all
        .filter_map(|(stream, served)| served.then_some(stream))
        .collect();
    assert!(is_served(&mut kept[0]));
    assert!(!is_served(&mut connect(kafka)));
    drop(kept.pop());
    until("there is room again", || is_served(&mut connect(kafka)));
    assert!(kept.iter_mut().step_by(100).all(is_served));
    drop(kept);
    until("all are gone", || {
        metric(http, "wharf_kafka_open_connections ") == 0
    });
    assert!(is_served(&mut connect(kafka)));
}
