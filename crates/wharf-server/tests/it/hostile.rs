//! A whole node against requests that nobody would send on purpose.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use tokio::task::spawn_blocking;
use wharf_log::disk::simulated::Random;
use wharf_server::Node;
use wharf_server::config::Period;

use crate::client::{Kafka, get};
use crate::node::config;

/// One more than the highest request key that exists.
const KEYS: u64 = 93;
/// One more than the highest version of any of them.
const VERSIONS: u64 = 19;
const REQUESTS: usize = 12_000;
/// How long an answer is waited for; there may be none for long (a group that gathers members).
const ANSWER: Duration = Duration::from_millis(100);

#[tokio::test]
async fn nothing_a_client_sends_makes_a_handler_panic_or_the_node_stop_answering() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.groups.initial_rebalance_delay = Period(Duration::ZERO);
    config.node.drain_timeout = Period(Duration::from_millis(100));
    let node = Node::start(config).await.unwrap();
    let (kafka, http) = (node.kafka_address(), node.http_address());
    let attack = spawn_blocking(move || {
        let mut random = Random::new(7);
        for round in 0..REQUESTS {
            let request = request(&mut random);
            let answered = send(kafka, &request);
            let panics = round % 250 != 0 || no_panics(http);
            assert!(answered && panics, "round {round}: {request:?}");
        }
        assert!(no_panics(http));
        assert_eq!(Kafka::connect(kafka).api_versions(), 0);
    });
    attack.await.unwrap();
    node.shutdown().await.unwrap();
}

/// A request with a valid header and a body that often is nearly one.
fn request(random: &mut Random) -> Vec<u8> {
    let number = |random: &mut Random, limit| i16::try_from(random.below(limit)).unwrap();
    let mut request = BytesMut::new();
    request.put_i16(number(random, KEYS));
    request.put_i16(number(random, VERSIONS));
    request.put_i32(1);
    request.put_i16(-1);
    for _ in 0..random.below(120) {
        let byte = match random.below(10) {
            0..6 => 0,
            6..8 => random.below(8),
            8 => 255,
            _ => random.below(256),
        };
        request.put_u8(u8::try_from(byte).unwrap());
    }
    request.to_vec()
}

/// Sends a request on a connection of its own; whether the node dealt with it (an answer, an end,
/// or work that takes longer than is waited for; never a refused connection).
fn send(address: SocketAddr, request: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    let length = i32::try_from(request.len()).unwrap();
    let sent = stream
        .write_all(&length.to_be_bytes())
        .and_then(|()| stream.write_all(request))
        .and_then(|()| stream.shutdown(Shutdown::Write));
    // What comes back is the protocol crate's business.
    drop(stream.read(&mut [0; 1024]));
    sent.is_ok()
}

fn no_panics(http: SocketAddr) -> bool {
    let (status, _, metrics) = get(http, "/metrics");
    status == 200 && metrics.contains("\nwharf_kafka_handler_panics_total 0\n")
}
