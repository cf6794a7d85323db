//! A whole node in this process: start, stop, what it says about its health, and its listeners.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tokio::task::spawn_blocking;
use tokio::time::timeout;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::Code;
use wharf_server::config::Address;
use wharf_server::{Config, Node};

use crate::client::{Kafka, PATIENCE, get};
use crate::neighbours::{answer, fetch};

pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.node.data = data.to_owned();
    config.kafka.listen = Address::new("127.0.0.1", 0);
    config.http.listen = Address::new("127.0.0.1", 0);
    config.registry.listen = Address::new("127.0.0.1", 0);
    config.log.journal_file_size.0 = 8 << 20;
    config
}

/// Runs what blocks beside the node's own tasks.
pub(crate) async fn outside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    timeout(PATIENCE, spawn_blocking(work))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let address = node.kafka_address();
    let offset = outside(move || {
        let mut client = Kafka::connect(address);
        assert_eq!(client.api_versions(), 0);
        assert_eq!(client.create_topic("orders"), 0);
        assert_eq!(client.produce("orders", "first"), (0, 0));
        client.produce("orders", "second")
    });
    assert_eq!(offset.await, (0, 1));
    let marker = std::fs::read(data.path().join("wharf.json")).unwrap();
    node.shutdown().await.unwrap();

    let node = Node::start(config(data.path())).await.unwrap();
    let address = node.kafka_address();
    let fetched = outside(move || {
        let mut client = Kafka::connect(address);
        let fetched = client.fetch("orders", 0);
        assert_eq!(client.produce("orders", "third"), (0, 2));
        fetched
    });
    let (code, records) = fetched.await;
    assert_eq!(code, 0);
    for value in ["first", "second"] {
        assert!(
            records
                .windows(value.len())
                .any(|window| window == value.as_bytes()),
            "{value}"
        );
    }
    assert_eq!(
        std::fs::read(data.path().join("wharf.json")).unwrap(),
        marker
    );
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused_until_the_first_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let problem = Node::start(config(data.path())).await.unwrap_err();
    assert_eq!(problem.code, Some(Code::DATA_DIRECTORY_LOCKED));
    // Dropped without a shutdown it lets go as well, once its threads have ended.
    drop(node);
    let again = async {
        loop {
            match Node::start(config(data.path())).await {
                Ok(node) => return node,
                Err(problem) => assert_eq!(problem.code, Some(Code::DATA_DIRECTORY_LOCKED)),
            }
        }
    };
    timeout(PATIENCE, again)
        .await
        .unwrap()
        .shutdown()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_configuration_that_was_made_and_not_loaded_is_checked_too() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let mut open = config(&data);
    open.kafka.listen = Address::new("0.0.0.0", 0);
    let problem = Node::start(open).await.unwrap_err();
    assert_eq!(problem.code, Some(Code::OPEN_LISTENER_REFUSED));
    let mut empty = config(&data);
    empty.kafka.connections_max = 0;
    let problem = Node::start(empty).await.unwrap_err();
    assert_eq!(problem.code, Some(Code::INVALID_CONFIGURATION));
    assert!(!data.exists());
}

#[tokio::test]
async fn a_listener_on_localhost_tells_clients_the_address_that_it_listens_on() {
    let data = tempfile::tempdir().unwrap();
    let mut named = config(data.path());
    named.kafka.listen = Address::new("localhost", 0);
    let node = Node::start(named).await.unwrap();
    let address = node.kafka_address();
    // Metadata v0 for no topic: one node, its id, its host.
    let answer = outside(move || Kafka::connect(address).call(3, 0, &[0, 0, 0, 0])).await;
    let host = &answer[4 + 4 + 2..];
    let told = address.ip().to_string();
    assert_eq!(&host[..told.len()], told.as_bytes());
    assert_eq!(
        answer[8..10],
        u16::try_from(told.len()).unwrap().to_be_bytes()
    );
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_told_before_the_directory_is_touched() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    for section in ["kafka", "http", "registry"] {
        let mut config = config(&data);
        match section {
            "kafka" => config.kafka.listen.port = port,
            "registry" => config.registry.listen.port = port,
            _ => config.http.listen.port = port,
        }
        let problem = Node::start(config).await.unwrap_err();
        assert_eq!(problem.code, Some(Code::PORT_IN_USE));
        assert!(
            problem.what.contains(&format!("`{section}.listen`")),
            "{problem}"
        );
        assert!(!data.exists());
    }
}

#[tokio::test]
async fn http_tells_health_metrics_and_what_errors_mean() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    config.choreography.enabled = true;
    let node = Node::start(config).await.unwrap();
    let (kafka, http) = (node.kafka_address(), node.http_address());
    let registry = node.registry_address().unwrap();
    outside(move || {
        let mut client = Kafka::connect(kafka);
        client.create_topic_with("orders", &[("wharf.schema.validation", "warn")]);
        assert_eq!(get(registry, "/").0, 200);
        client.produce("orders", "one");
        assert_eq!(get(http, "/healthz").0, 200);
        assert_eq!(get(http, "/readyz").0, 200);
        assert!(get(http, "/").2.contains("/metrics"));
        let (status, head, metrics) = get(http, "/metrics");
        assert_eq!(status, 200);
        assert!(head.contains("application/openmetrics-text"), "{head}");
        for line in [
            "wharf_kafka_requests_total{request=\"Produce\"} 1",
            "wharf_kafka_open_connections 1",
            "wharf_log_records_total 1",
            "wharf_broker_topics 1",
            "wharf_broker_partitions 1",
            "wharf_log_disk_full 0",
            "# UNIT wharf_disk_sync_seconds seconds",
        ] {
            assert!(
                metrics.lines().any(|found| found == line),
                "no {line} in\n{metrics}"
            );
        }
        let named = metrics.lines().filter(|line| !line.starts_with('#'));
        for line in named {
            assert!(line.starts_with("wharf_"), "{line}");
        }
        let page = metrics_page(&metrics);
        let written = include_str!("../../../../docs/reference/metrics.md");
        assert!(
            written == page,
            "docs/reference/metrics.md should be:\n{page}"
        );
        let (status, _, page) = get(http, "/errors/WHARF-2001");
        assert!(status == 200 && page.starts_with("# WHARF-2001"), "{page}");
        let (status, head, _) = get(http, "/errors/WHARF-9999");
        assert!(
            status == 404 && head.contains("application/problem+json"),
            "{head}"
        );
        assert_eq!(get(http, "/nothing").0, 404);
    })
    .await;
    node.shutdown().await.unwrap();
}

/// The reference page of the metrics, from what a scrape says about them.
fn metrics_page(scraped: &str) -> String {
    let about = |line: &str, what: &str| -> Option<(String, String)> {
        let (name, text) = line.strip_prefix(what)?.split_once(' ')?;
        Some((name.to_owned(), text.trim_end_matches('.').to_owned()))
    };
    let kinds: BTreeMap<String, String> = scraped
        .lines()
        .filter_map(|line| about(line, "# TYPE "))
        .collect();
    let mut page = String::from(
        "# Metrics\n\n\
         What `/metrics` of the HTTP listener says, in the OpenMetrics format.\n\
         A test compares this page with a scrape.\n\n\
         | name | type | meaning |\n|---|---|---|\n",
    );
    let help: BTreeMap<_, _> = scraped
        .lines()
        .filter_map(|line| about(line, "# HELP "))
        .collect();
    for (name, help) in help {
        let kind = &kinds[&name];
        let suffix = if kind == "counter" { "_total" } else { "" };
        writeln!(page, "| `{name}{suffix}` | {kind} | {help} |").unwrap();
    }
    page
}

#[tokio::test]
async fn after_a_failed_sync_it_acknowledges_nothing_still_reads_and_ends_with_an_error() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let used = disk.clone();
    let node = Node::start_on(config(data.path()), move |_| Ok(Arc::new(used)))
        .await
        .unwrap();
    let (kafka, http) = (node.kafka_address(), node.http_address());
    outside(move || {
        let mut client = Kafka::connect(kafka);
        assert_eq!(client.create_topic("orders"), 0);
        assert_eq!(client.produce("orders", "kept"), (0, 0));
        disk.set_faults(Faults {
            sync_failure_one_in: 1,
            ..Faults::default()
        });
        let (code, _) = client.produce("orders", "lost");
        assert_eq!(code, 56, "Kafka's KAFKA_STORAGE_ERROR");
        disk.set_faults(Faults::default());
        assert_eq!(client.produce("orders", "refused").0, 56);
        let (code, records) = client.fetch("orders", 0);
        assert_eq!(code, 0);
        assert!(records.ends_with(b"kept\0"), "{records:?}");
        let (status, head, body) = get(http, "/readyz");
        assert_eq!(status, 503);
        assert!(head.contains("application/problem+json"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], "WHARF-2003");
        assert_eq!(problem["type"], "/errors/WHARF-2003");
        assert_eq!(problem["status"], 503);
        assert_eq!(get(http, "/healthz").0, 200);
        let (_, _, metrics) = get(http, "/metrics");
        assert!(metrics.contains("\nwharf_log_poisoned 1\n"), "{metrics}");
    })
    .await;
    let problem = node.shutdown().await.unwrap_err();
    assert_eq!(problem.code, Some(Code::LOG_POISONED));
}

#[tokio::test]
async fn damage_met_while_an_answer_is_sent_ends_the_connection_and_is_told_to_the_next() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let used = disk.clone();
    let mut config = config(data.path());
    config.log.tail_size_max.0 = 0;
    let node = Node::start_on(config, move |_| Ok(Arc::new(used)))
        .await
        .unwrap();
    let kafka = node.kafka_address();
    outside(move || {
        let mut client = Kafka::connect(kafka);
        assert_eq!(client.create_topic("orders"), 0);
        let value: &'static str = "x".repeat(64 << 10).leak();
        for _ in 0..20 {
            assert_eq!(client.produce("orders", value).0, 0);
        }
        // The middle of a batch, in the only file that has any.
        for path in disk.paths() {
            if path.starts_with("journal/") {
                disk.corrupt(&path, 668_000).unwrap();
            }
        }
        let mut torn = TcpStream::connect(kafka).unwrap();
        torn.set_read_timeout(Some(PATIENCE)).unwrap();
        torn.write_all(&fetch("orders")).unwrap();
        let ended = answer(&mut torn).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
        let (code, records) = client.fetch("orders", 0);
        assert_eq!(code, 0);
        let whole = records.len() / value.len();
        assert!(
            (8..11).contains(&whole),
            "{whole} batches before the damage"
        );
        let (code, records) = client.fetch("orders", i64::try_from(whole).unwrap());
        assert_eq!(code, 56, "Kafka's KAFKA_STORAGE_ERROR");
        assert!(records.is_empty());
    })
    .await;
    node.shutdown().await.unwrap();
}

/// What a disk is filled with, a message each.
static BALLAST: LazyLock<String> = LazyLock::new(|| "x".repeat(900_000));

/// Fills a disk: what is preallocated can still be written, then nothing more. How many messages were
/// taken before.
pub(crate) fn fill(disk: &SimulatedDisk, client: &mut Kafka, topic: &str) -> i64 {
    disk.set_faults(Faults {
        capacity_bytes: Some(disk.used_bytes()),
        ..Faults::default()
    });
    let refused = (0..200).find(|_| client.produce(topic, BALLAST.as_str()).0 != 0);
    refused.expect("the disk should be full at last")
}

#[tokio::test]
async fn a_full_disk_refuses_writes_says_so_and_recovers() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let used = disk.clone();
    let node = Node::start_on(config(data.path()), move |_| Ok(Arc::new(used)))
        .await
        .unwrap();
    let (kafka, http) = (node.kafka_address(), node.http_address());
    outside(move || {
        let mut client = Kafka::connect(kafka);
        assert_eq!(client.create_topic("orders"), 0);
        let accepted = fill(&disk, &mut client, "orders");
        assert_eq!(
            client.produce("orders", BALLAST.as_str()).0,
            56,
            "Kafka's KAFKA_STORAGE_ERROR"
        );
        let (status, _, body) = get(http, "/readyz");
        assert_eq!(status, 503);
        assert!(body.contains("WHARF-2001"), "{body}");
        assert_eq!(client.fetch("orders", 0).0, 0);
        disk.set_faults(Faults::default());
        let deadline = std::time::Instant::now() + PATIENCE;
        let offset = loop {
            let (code, offset) = client.produce("orders", "again");
            if code == 0 {
                break offset;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "it should take writes again"
            );
        };
        assert_eq!(offset, accepted);
        while get(http, "/readyz").0 != 200 {
            assert!(
                std::time::Instant::now() < deadline,
                "it should be ready again"
            );
        }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn garbage_is_answered_with_the_end_of_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let node = Node::start(config(data.path())).await.unwrap();
    let address = node.kafka_address();
    outside(move || {
        for garbage in [
            &b"GET / HTTP/1.1\r\nhost: wharf\r\n\r\n"[..],
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\0\0\0\x02\0\x12",
            b"\0\0\0\x08\x7f\xff\0\0\0\0\0\x01",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        ] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(garbage).unwrap();
            assert!(Kafka::from(stream).ended(), "{garbage:?}");
        }
        assert_eq!(Kafka::connect(address).api_versions(), 0);
    })
    .await;
    node.shutdown().await.unwrap();
}
