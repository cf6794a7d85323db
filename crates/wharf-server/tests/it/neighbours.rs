//! A whole node among bad neighbours: clients that are slow, silent, greedy or half gone. Whatever
//! they do is their own trouble: a client beside them is served all the while.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use tokio::task::spawn_blocking;
use wharf_server::config::{ByteCount, Period};
use wharf_server::{Config, Node};

use crate::client::{Kafka, PATIENCE, get};
use crate::node::config;

/// A time-out that a test waits for.
const SHORT: Period = Period(Duration::from_millis(300));

/// Runs a test against a node with other settings.
fn with_node(change: impl FnOnce(&mut Config), test: impl FnOnce(Place) + Send + 'static) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let data = tempfile::tempdir().unwrap();
        let mut config = config(Path::new(data.path()));
        config.node.drain_timeout = Period(Duration::from_millis(100));
        change(&mut config);
        let node = Node::start(config).await.unwrap();
        let place = Place {
            kafka: node.kafka_address(),
            http: node.http_address(),
        };
        spawn_blocking(move || test(place)).await.unwrap();
        node.shutdown().await.unwrap();
    });
}

/// Where the node is.
#[derive(Clone, Copy)]
struct Place {
    kafka: SocketAddr,
    http: SocketAddr,
}

impl Place {
    fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(self.kafka).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn metric(self, name: &str) -> f64 {
        let (_, _, metrics) = get(self.http, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    fn until(self, what: &str, condition: impl Fn(Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
        }
    }

    /// Another client is served.
    fn is_well(self) {
        assert_eq!(Kafka::connect(self.kafka).api_versions(), 0);
    }
}

/// ApiVersions v0 with its length.
fn ping(correlation: i32) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i32(10);
    frame.put_i16(18);
    frame.put_i16(0);
    frame.put_i32(correlation);
    frame.put_i16(-1);
    frame.to_vec()
}

/// Fetch v4 from the start of partition 0, with its length: up to a MiB.
pub(crate) fn fetch(topic: &str) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(1);
    body.put_i16(4);
    body.put_i32(1);
    body.put_i16(-1);
    body.put_i32(-1);
    body.put_i32(0);
    body.put_i32(1);
    body.put_i32(1 << 20);
    body.put_u8(0);
    body.put_i32(1);
    body.put_i16(i16::try_from(topic.len()).unwrap());
    body.put_slice(topic.as_bytes());
    body.put_i32(1);
    body.put_i32(0);
    body.put_i64(0);
    body.put_i32(1 << 20);
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(&body);
    frame.to_vec()
}

/// How many bytes the frame takes that `bytes` begin with.
fn frame_bytes(bytes: &[u8]) -> usize {
    let length = i32::from_be_bytes(bytes[..4].try_into().unwrap());
    4 + usize::try_from(length).unwrap()
}

/// The next answer's correlation id and the rest of it.
pub(crate) fn answer(stream: &mut impl io::Read) -> io::Result<(i32, Vec<u8>)> {
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    let mut rest = vec![0; usize::try_from(i32::from_be_bytes(word)).unwrap()];
    stream.read_exact(&mut rest)?;
    let correlation = rest.drain(..4).collect::<Vec<_>>().try_into().unwrap();
    Ok((i32::from_be_bytes(correlation), rest))
}

/// Whether the other side ends the connection; what it still sends is passed over.
fn ends(mut stream: &TcpStream) -> bool {
    let mut buffer = [0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A topic with somewhat more than a MiB in it.
fn fill(place: Place, topic: &str) {
    let value: &'static str = "x".repeat(64 << 10).leak();
    let mut client = Kafka::connect(place.kafka);
    assert_eq!(client.create_topic(topic), 0);
    for _ in 0..20 {
        assert_eq!(client.produce(topic, value).0, 0);
    }
}

#[test]
fn a_slow_reader_gets_everything_and_holds_up_nobody() {
    slow_reader(|_| {});
}

#[test]
fn a_slow_reader_of_what_is_only_on_the_disk_gets_everything_too() {
    slow_reader(|config| config.log.tail_size_max.0 = 0);
}

fn slow_reader(change: impl FnOnce(&mut Config)) {
    with_node(change, |place| {
        fill(place, "orders");
        let mut slow = place.connect();
        for _ in 0..8 {
            slow.write_all(&fetch("orders")).unwrap();
        }
        let mut beside = Kafka::connect(place.kafka);
        // One read of the slow one for each request of the other.
        let mut taken = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        while taken.len() < 4 || taken.len() < 8 * frame_bytes(&taken) {
            assert_eq!(beside.api_versions(), 0);
            let bytes = slow.read(&mut buffer).unwrap();
            assert!(bytes > 0, "ended after {} bytes", taken.len());
            taken.extend_from_slice(&buffer[..bytes]);
        }
        let mut taken = &taken[..];
        let first = answer(&mut taken).unwrap();
        assert!(first.1.len() > 900 << 10);
        let mut count = 1;
        while let Ok(next) = answer(&mut taken) {
            assert!(next == first, "answer {count} differs");
            count += 1;
        }
        assert_eq!(count, 8);
    });
}

#[test]
fn a_client_that_never_reads_its_answers_holds_little_and_is_closed_in_time() {
    with_node(
        |config| config.kafka.idle_timeout = SHORT,
        |place| {
            fill(place, "orders");
            let before = place.metric("wharf_kafka_requests_total{request=\"Fetch\"}");
            let mut deaf = place.connect();
            let request = fetch("orders");
            // Until the node has closed it: it never says a word of refusal before that.
            let ended = loop {
                match deaf.write_all(&request) {
                    Ok(()) => {}
                    Err(error) => break error.kind(),
                }
            };
            let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            assert!(closed.contains(&ended), "{ended:?}");
            place.until("the connection is closed", |place| {
                place.metric("wharf_kafka_open_connections") == 0.0
            });
            place.until("nothing is in flight", |place| {
                place.metric("wharf_kafka_in_flight_requests") == 0.0
            });
            // What the kernel's buffers take, one MiB unsent, and the one that waits behind it.
            let worked = place.metric("wharf_kafka_requests_total{request=\"Fetch\"}") - before;
            assert!(worked < 30.0, "{worked} answers of a MiB were made for it");
            place.is_well();
        },
    );
}

#[test]
fn a_peer_that_is_silent_or_vanished_is_closed_after_the_idle_time_and_no_other() {
    with_node(
        |config| config.kafka.idle_timeout = SHORT,
        |place| {
            let never = place.connect();
            let mut once = place.connect();
            once.write_all(&ping(1)).unwrap();
            answer(&mut once).unwrap();
            let begun = Instant::now();
            let busy = thread::spawn(move || {
                // For longer than the idle time, one request after the other.
                let mut client = Kafka::connect(place.kafka);
                while begun.elapsed() < SHORT.0 * 3 {
                    assert_eq!(client.api_versions(), 0);
                }
            });
            assert!(ends(&never) && ends(&once));
            busy.join().unwrap();
        },
    );
}

#[test]
fn a_half_closed_connection_gets_the_answers_to_what_it_sent_and_is_closed() {
    with_node(
        |_| {},
        |place| {
            let mut half = place.connect();
            for correlation in 0..100 {
                half.write_all(&ping(correlation)).unwrap();
            }
            half.shutdown(Shutdown::Write).unwrap();
            for correlation in 0..100 {
                assert_eq!(answer(&mut half).unwrap().0, correlation);
            }
            assert!(ends(&half));
        },
    );
}

#[test]
fn a_request_that_dribbles_in_is_answered_if_it_is_whole_in_time() {
    with_node(
        |_| {},
        |place| {
            let mut dribbler = place.connect();
            let mut beside = Kafka::connect(place.kafka);
            for byte in ping(7) {
                dribbler.write_all(&[byte]).unwrap();
                assert_eq!(beside.api_versions(), 0);
            }
            assert_eq!(answer(&mut dribbler).unwrap().0, 7);
        },
    );
    with_node(
        |config| config.kafka.receive_timeout = SHORT,
        |place| {
            let mut dribbler = place.connect();
            dribbler
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            dribbler.write_all(&1000_i32.to_be_bytes()).unwrap();
            let begun = Instant::now();
            // A byte now and then does not prolong it.
            while dribbler.write_all(b"x").is_ok() {
                assert!(begun.elapsed() < PATIENCE, "it goes on for ever");
                place.is_well();
                if matches!(dribbler.read(&mut [0]), Ok(0)) {
                    break;
                }
            }
            assert!(begun.elapsed() >= SHORT.0);
        },
    );
}

#[test]
fn the_largest_request_is_answered_and_one_byte_more_ends_the_connection() {
    const LARGEST: usize = 1 << 20;
    with_node(
        |config| config.kafka.request_size_max = ByteCount(LARGEST as u64),
        |place| {
            let mut largest = ping(3);
            largest.resize(4 + LARGEST, 0);
            largest[..4].copy_from_slice(&i32::try_from(LARGEST).unwrap().to_be_bytes());
            let mut client = place.connect();
            client.write_all(&largest).unwrap();
            assert_eq!(answer(&mut client).unwrap().0, 3);
            let more = i32::try_from(LARGEST + 1).unwrap().to_be_bytes();
            client.write_all(&more).unwrap();
            assert!(ends(&client));
            place.is_well();
        },
    );
}

#[test]
fn thousands_of_pipelined_requests_are_answered_in_order() {
    const COUNT: i32 = 5000;
    with_node(
        |_| {},
        |place| {
            let mut client = place.connect();
            let mut writing = client.try_clone().unwrap();
            let requests: Vec<u8> = (0..COUNT).flat_map(ping).collect();
            let writer = thread::spawn(move || writing.write_all(&requests).unwrap());
            let mut first = None;
            for correlation in 0..COUNT {
                let (answered, rest) = answer(&mut client).unwrap();
                assert_eq!(answered, correlation);
                assert_eq!(first.get_or_insert_with(|| rest.clone()), &rest);
            }
            writer.join().unwrap();
            place.until("nothing is in flight", |place| {
                place.metric("wharf_kafka_in_flight_requests") == 0.0
            });
        },
    );
}
