//! The listener with real sockets and a double in place of the protocol.

mod quotas;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;
use wharf_broker::Context;
use wharf_kafka::{Disconnect, Outcome, Response};

use super::connection::Handler;
use super::throttle::Metering;
use super::{Limits, Listener, serve};
use crate::flag::raised;
use crate::metrics::KafkaMetrics;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does what the first byte of a frame says; the rest is sent back.
///
/// `e` echoes, `a` echoes when the gate is open, `q` the same as queued work, `s` the same without
/// an answer, `m` echoes in parts of one byte, `f` is a fetch that never ends, `d` disconnects, `p`
/// panics at once and `P` while it is awaited.
#[derive(Debug)]
struct Double {
    gate: watch::Receiver<bool>,
    /// What was handed over, with the state of the gate at that time.
    seen: Arc<Mutex<Vec<(u8, bool)>>>,
    dropped_fetches: Arc<AtomicUsize>,
    turned_away: Duration,
}

/// Every request costs so much waiting, and its answer says so.
#[derive(Debug)]
struct Cost(Duration);

/// What a frame that ends with `~` costs.
const HOUR: Duration = Duration::from_secs(3600);
/// What a frame that ends with `,` costs.
const MOMENT: Duration = Duration::from_millis(1);

impl Metering for Cost {
    fn charge(&self, _spent: Duration, _answer: Option<&Response>) -> Duration {
        self.0
    }

    fn tell(&self, answer: &mut Response, wait: Duration) {
        assert_eq!(wait, self.0);
        answer.parts.push(Bytes::from_static(b" told"));
    }
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Double {
    fn handle(&self, _context: &Context, frame: Bytes) -> Result<Outcome, Disconnect> {
        let command = frame[0];
        let mut gate = self.gate.clone();
        self.seen.lock().unwrap().push((command, *gate.borrow()));
        let echo = Response::from(vec![frame.slice(..1), frame.slice(1..)]);
        let after_gate = async move {
            raised(&mut gate).await;
            Ok(echo)
        };
        Ok(match command {
            b'e' => Outcome::Answer(Box::pin(async move { Ok(Response::from(vec![frame])) })),
            b'a' => Outcome::Answer(Box::pin(after_gate)),
            b'q' => Outcome::Queued(Box::pin(after_gate)),
            b's' => Outcome::Silent(Box::pin(async { after_gate.await.map(drop) })),
            b'm' => Outcome::Answer(Box::pin(async move {
                let parts = (0..frame.len()).map(|at| frame.slice(at..=at));
                Ok(Response::from(parts.collect::<Vec<_>>()))
            })),
            b'f' => {
                let dropped = CountDrop(Arc::clone(&self.dropped_fetches));
                Outcome::Answer(Box::pin(async move {
                    let _dropped = dropped;
                    std::future::pending().await
                }))
            }
            b'P' => Outcome::Answer(Box::pin(async { panic!("on purpose, while awaited") })),
            b'p' => panic!("on purpose, at once"),
            _ => return Err(Disconnect("on purpose".to_owned())),
        })
    }

    fn connections(&self, _open: usize) {}

    fn meter(&self, _context: &Context, frame: &[u8]) -> Option<Box<dyn Metering>> {
        let cost = match frame.last() {
            Some(b'~') => HOUR,
            Some(b',') => MOMENT,
            _ => return None,
        };
        Some(Box::new(Cost(cost)))
    }

    fn turned_away(&self, _address: IpAddr) -> Duration {
        self.turned_away
    }

    fn decoded_bytes(&self, frame: &[u8]) -> usize {
        if frame[1] == b'+' { frame.len() * 3 } else { 0 }
    }

    fn name(&self, frame: &[u8]) -> Option<&'static str> {
        (frame.first() == Some(&b'f')).then_some("Fetch")
    }
}

struct Server {
    address: SocketAddr,
    gate: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    seen: Arc<Mutex<Vec<(u8, bool)>>>,
    dropped_fetches: Arc<AtomicUsize>,
    registry: Registry,
    task: JoinHandle<()>,
}

struct Setup {
    limits: Limits,
    budget_bytes: usize,
    connections_max: usize,
    drain: Duration,
    turned_away: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        let limits = Limits {
            request_bytes_max: 8 << 20,
            requests_max: 16,
            idle: PATIENCE,
            receive: PATIENCE,
        };
        Self {
            limits,
            budget_bytes: 16 << 20,
            connections_max: 100,
            drain: PATIENCE,
            turned_away: Duration::ZERO,
        }
    }
}

impl Setup {
    async fn start(self) -> Server {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (gate, gate_seen) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let seen = Arc::default();
        let dropped_fetches = Arc::default();
        let double = Double {
            gate: gate_seen,
            seen: Arc::clone(&seen),
            dropped_fetches: Arc::clone(&dropped_fetches),
            turned_away: self.turned_away,
        };
        let mut registry = Registry::default();
        let listener = Listener {
            socket,
            handler: Box::new(double),
            commits: None,
            limits: self.limits,
            budget_bytes: self.budget_bytes,
            connections_max: self.connections_max,
            drain: self.drain,
            metrics: KafkaMetrics::register(&mut registry),
        };
        let task = tokio::spawn(serve(listener, stopping));
        Server {
            address,
            gate,
            stop,
            seen,
            dropped_fetches,
            registry,
            task,
        }
    }
}

impl Server {
    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    fn seen(&self) -> String {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(command, _)| char::from(*command))
            .collect()
    }

    async fn until_seen(&self, commands: &str) {
        until(|| self.seen() == commands).await;
    }

    fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .to_owned()
    }

    async fn stopped(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            yield_now().await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .expect("the condition should come true");
}

/// Lets everything that can go on do so: the tests run on one thread with the server.
async fn settle() {
    for _ in 0..2_000 {
        yield_now().await;
    }
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, frame: &[u8]) {
        let length = i32::try_from(frame.len()).unwrap();
        self.raw(&length.to_be_bytes()).await;
        self.raw(frame).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn answer(&mut self) -> Vec<u8> {
        let reading = async {
            let length = self.0.read_i32().await.unwrap();
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut frame).await.unwrap();
            frame
        };
        timeout(PATIENCE, reading)
            .await
            .expect("an answer should come")
    }

    /// Waits for the end of the connection; nothing else may come.
    async fn end(&mut self) {
        let ended = timeout(PATIENCE, self.0.read_u8())
            .await
            .expect("the connection should end");
        assert!(
            ended.is_err(),
            "an answer came instead of the end: {ended:?}"
        );
    }

    async fn works(&mut self) {
        self.send(b"echo").await;
        assert_eq!(self.answer().await, b"echo");
    }
}

#[tokio::test]
async fn queued_work_overlaps_and_is_answered_in_the_order_of_the_requests() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    for frame in ["q1", "q2", "e3", "q4"] {
        client.send(frame.as_bytes()).await;
    }
    server.until_seen("qqeq").await;
    assert_eq!(
        server.metric("kafka_in_flight_requests"),
        "kafka_in_flight_requests 4"
    );
    server.gate.send_replace(true);
    for frame in ["q1", "q2", "e3", "q4"] {
        assert_eq!(client.answer().await, frame.as_bytes());
    }
    drop(client);
    until(|| server.metric("kafka_open_connections").ends_with(" 0")).await;
    assert_eq!(
        server.metric("kafka_in_flight_requests"),
        "kafka_in_flight_requests 0"
    );
    server.stopped().await;
}

#[tokio::test]
async fn other_requests_have_their_turn_one_after_the_other() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    client.send(b"a1").await;
    client.send(b"e2").await;
    server.until_seen("a").await;
    settle().await;
    assert_eq!(server.seen(), "a");
    server.connect().await.works().await;
    server.gate.send_replace(true);
    assert_eq!(client.answer().await, b"a1");
    assert_eq!(client.answer().await, b"e2");
}

#[tokio::test]
async fn requests_that_ask_for_no_answer_get_none() {
    let server = Setup::default().start().await;
    server.gate.send_replace(true);
    let mut client = server.connect().await;
    client.send(b"s1").await;
    client.send(b"e2").await;
    assert_eq!(client.answer().await, b"e2");
    assert_eq!(server.seen(), "se");
}

#[tokio::test]
async fn lengths_beyond_the_limit_end_the_connection_and_no_other() {
    let server = Setup::default().start().await;
    let mut bystander = server.connect().await;
    for length in [i32::MAX, (8 << 20) + 1, -1, i32::MIN] {
        let mut client = server.connect().await;
        client.works().await;
        client.raw(&length.to_be_bytes()).await;
        client.end().await;
    }
    bystander.works().await;
}

#[tokio::test]
async fn what_cannot_be_handled_ends_the_connection_after_earlier_answers() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    client.send(b"q1").await;
    client.send(b"d2").await;
    server.until_seen("qd").await;
    server.gate.send_replace(true);
    assert_eq!(client.answer().await, b"q1");
    client.end().await;
}

#[tokio::test]
async fn an_end_within_a_request_is_just_an_end() {
    let server = Setup::default().start().await;
    for torn in [&b""[..], b"\0\0", b"\0\0\0\x08", b"\0\0\0\x08half"] {
        let mut client = server.connect().await;
        client.raw(torn).await;
        client.0.shutdown().await.unwrap();
        client.end().await;
    }
    assert_eq!(server.seen(), "");
    server.connect().await.works().await;
}

#[tokio::test]
async fn frames_of_every_size_arrive_whole_however_they_are_cut() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    for size in [1, 2, 100, 16 << 10, (1 << 20) + 3, 5 << 20] {
        let mut frame: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        frame[0] = b'e';
        let (mut read, mut write) = client.0.split();
        let sending = async {
            write.write_i32(i32::try_from(size).unwrap()).await.unwrap();
            for part in frame.chunks(77_777) {
                write.write_all(part).await.unwrap();
                yield_now().await;
            }
        };
        let mut echo = vec![0; size];
        let receiving = async {
            assert_eq!(read.read_i32().await.unwrap(), i32::try_from(size).unwrap());
            read.read_exact(&mut echo).await.unwrap();
        };
        timeout(PATIENCE, async { tokio::join!(sending, receiving) })
            .await
            .unwrap();
        assert!(echo == frame, "a frame of {size} bytes came back changed");
    }
    let mut many = vec![b'm'];
    many.extend((0..3_000).map(|at| u8::try_from(at % 251).unwrap()));
    client.send(&many).await;
    assert_eq!(client.answer().await, many);
}

#[tokio::test]
async fn silence_and_dribbling_are_ended() {
    let short = Duration::from_millis(50);
    let mut setup = Setup::default();
    setup.limits.idle = short;
    let server = setup.start().await;
    let mut client = server.connect().await;
    client.works().await;
    client.end().await;

    let mut setup = Setup::default();
    setup.limits.receive = short;
    let server = setup.start().await;
    let mut client = server.connect().await;
    client.raw(b"\0\0\0\x08dribble").await;
    client.end().await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_no_other() {
    let server = Setup::default().start().await;
    let mut bystander = server.connect().await;
    for frame in ["p", "P"] {
        let mut client = server.connect().await;
        client.send(frame.as_bytes()).await;
        client.end().await;
    }
    bystander.works().await;
    until(|| server.metric("kafka_handler_panics_total").ends_with(" 2")).await;
    assert_eq!(
        server.metric("kafka_open_connections"),
        "kafka_open_connections 1"
    );
}

#[tokio::test]
async fn too_many_bytes_in_flight_wait_and_are_not_dropped() {
    let setup = Setup {
        budget_bytes: 100,
        ..Setup::default()
    };
    let server = setup.start().await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    first.send(&[b'q'; 80]).await;
    server.until_seen("q").await;
    second.works().await;
    second.send(&[b'e'; 80]).await;
    settle().await;
    server.gate.send_replace(true);
    assert_eq!(first.answer().await.len(), 80);
    assert_eq!(second.answer().await.len(), 80);
    let expected = [(b'q', false), (b'e', false), (b'e', true)];
    assert_eq!(*server.seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn requests_that_grow_when_decoded_wait_for_each_other() {
    let setup = Setup {
        budget_bytes: 4096,
        ..Setup::default()
    };
    let server = setup.start().await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    let request = |command| [&[command, b'+'], &[0; 1100][..]].concat();
    first.send(&request(b'q')).await;
    server.until_seen("q").await;
    second.works().await;
    second.send(&request(b'e')).await;
    settle().await;
    server.gate.send_replace(true);
    assert_eq!(first.answer().await.len(), 1102);
    assert_eq!(second.answer().await.len(), 1102);
    let expected = [(b'q', false), (b'e', false), (b'e', true)];
    assert_eq!(*server.seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn too_many_requests_of_one_connection_wait_and_are_not_dropped() {
    let mut setup = Setup::default();
    setup.limits.requests_max = 2;
    let server = setup.start().await;
    let mut client = server.connect().await;
    for _ in 0..20 {
        client.send(b"q").await;
    }
    settle().await;
    // Two in the queue, one whose answer is awaited, one that waits for a place.
    assert_eq!(server.seen(), "qqqq");
    server.gate.send_replace(true);
    for _ in 0..20 {
        assert_eq!(client.answer().await, b"q");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_there_is_room() {
    let setup = Setup {
        connections_max: 1,
        ..Setup::default()
    };
    let server = setup.start().await;
    let mut first = server.connect().await;
    first.works().await;
    server.connect().await.end().await;
    assert_eq!(
        server
            .metric("kafka_refused_connections_total")
            .split(' ')
            .next_back(),
        Some("1")
    );
    drop(first);
    until(|| server.metric("kafka_open_connections").ends_with(" 0")).await;
    settle().await;
    server.connect().await.works().await;
}

#[tokio::test]
async fn a_fetch_is_given_up_when_its_client_is_gone() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    client.send(b"f").await;
    server.until_seen("f").await;
    drop(client);
    until(|| server.dropped_fetches.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn stopping_finishes_what_was_begun_and_takes_nothing_new() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    let mut waiting = server.connect().await;
    let mut idle = server.connect().await;
    idle.works().await;
    client.send(b"q1").await;
    waiting.send(b"f").await;
    until(|| server.seen().len() == 3).await;
    server.stop.send_replace(true);
    idle.end().await;
    waiting.end().await;
    client.send(b"e2").await;
    settle().await;
    assert!(!server.task.is_finished());
    server.gate.send_replace(true);
    assert_eq!(client.answer().await, b"q1");
    client.end().await;
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.seen().len(), 3);
    server.stopped().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let setup = Setup {
        drain: Duration::from_millis(50),
        ..Setup::default()
    };
    let server = setup.start().await;
    let mut client = server.connect().await;
    client.send(b"a1").await;
    server.until_seen("a").await;
    server.stop.send_replace(true);
    client.end().await;
    server.stopped().await;
}
