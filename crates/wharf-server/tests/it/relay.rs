//! Relays of a node: how they are configured, what they move, and what is told of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::time::timeout;
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::ledger::{Entry, Ledger as _, Partition};
use wharf_message::{Code, TopicName};
use wharf_outbox::Outbox;
use wharf_server::config::{Config, Override, Relay, SecretUrl, Sources, to_json, to_toml};
use wharf_server::{Node, Problem};

use crate::client::{PATIENCE, get};
use crate::node::{config, outside};

fn loaded(file: &str, variables: &[(&str, &str)]) -> Result<wharf_server::config::Loaded, Problem> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wharf.toml");
    std::fs::write(&path, file).unwrap();
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let sources = Sources {
        file: Some(path),
        environment: variables.iter().map(pair).collect(),
        flags: Vec::<Override>::new(),
    };
    sources.load()
}

#[test]
fn relays_have_tables_variables_and_origins_and_their_passwords_are_never_shown() {
    let file = "[relay.orders]\nurl = \"postgres://relay:s3cret@db/shop\"\ntopic = \"{aggregatetype}\"\nkeep = \"unlimited\"\n[relay.bills]\nurl = \"sqlite:///tmp/bills.db\"\n";
    let variables = [
        ("WHARF_RELAY__ORDERS__SLOT", "mine"),
        ("WHARF_RELAY__ORDERS__EXPAND_JSON", "true"),
        ("WHARF_RELAY__BY_HAND__URL", "mysql://relay:s3cret@db/shop"),
    ];
    let loaded = loaded(file, &variables).unwrap();
    let names: Vec<_> = loaded.config.relay.keys().collect();
    assert_eq!(names, ["bills", "by-hand", "orders"]);
    let orders = &loaded.config.relay["orders"];
    assert_eq!(orders.url.expose(), "postgres://relay:s3cret@db/shop");
    assert_eq!(orders.slot.as_deref(), Some("mine"));
    assert!(orders.expand_json);
    assert!(
        loaded
            .origin("relay.orders.topic")
            .to_string()
            .ends_with("wharf.toml:3")
    );
    let by = loaded.origin("relay.by-hand.url").to_string();
    assert_eq!(by, "the environment variable WHARF_RELAY__BY_HAND__URL");
    let shown = to_toml(&loaded, true);
    assert!(
        shown.contains("[relay.orders]\nurl = \"postgres://relay:***@db/shop\""),
        "{shown}"
    );
    let json = to_json(&loaded, false);
    assert_eq!(json["relay"]["orders"]["keep"], "unlimited");
    for text in [shown, json.to_string(), format!("{loaded:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// Settings that are wrong, the key that is told, and a part of what is said.
fn mistakes() -> Vec<(String, &'static str, &'static str)> {
    let url = "url = \"postgres://relay:s3cret@db/shop\"";
    vec![
        (
            format!("{url}\ntopik = 'x'"),
            "relay.orders.topik",
            "did you mean `relay.orders.topic`?",
        ),
        (
            "table = 'x'".to_owned(),
            "relay.orders.url",
            "needs the address",
        ),
        (
            "url = 'oracle://relay:s3cret@db/shop'".to_owned(),
            "relay.orders.url",
            "postgres://",
        ),
        (
            format!("{url}\nkind = 'sqlite'"),
            "relay.orders.kind",
            "\"postgres\"",
        ),
        (
            format!("{url}\nkind = 'oracle'"),
            "relay.orders.kind",
            "oracle",
        ),
        (
            "url = 'sqlite:///x'\nmode = 'log'".to_owned(),
            "relay.orders.mode",
            "poll",
        ),
        (
            format!("{url}\ntarget = 'carrier-pigeon'"),
            "relay.orders.target",
            "embedded",
        ),
        (
            format!("{url}\ntopic = '{{'"),
            "relay.orders.topic",
            "placeholder",
        ),
        (
            format!("{url}\ntopic = '${{noun}}'"),
            "relay.orders.topic",
            "no group",
        ),
        (
            format!("{url}\ntopic-pattern = '('"),
            "relay.orders.topic-pattern",
            "(",
        ),
        (
            format!("{url}\nadditional = 'a:b:c:d'"),
            "relay.orders.additional",
            "column:header",
        ),
        (
            format!("{url}\nadditional = 'a:partition'\ntarget = 'kafka://h:1'"),
            "relay.orders.additional",
            "partition",
        ),
        (
            format!("{url}\nslot = 'Bad Slot'"),
            "relay.orders.slot",
            "lower-case",
        ),
        (format!("{url}\ntable = ''"), "relay.orders.table", "table"),
        (format!("{url}\nlease = '0s'"), "relay.orders.lease", "1s"),
        (
            format!("{url}\npartitions = 0"),
            "relay.orders.partitions",
            "at least one",
        ),
    ]
}

#[test]
fn every_mistake_in_a_relay_names_its_key_and_the_nearest_one() {
    for (settings, key, hint) in mistakes() {
        let Problem {
            code,
            what,
            why,
            fix,
        } = loaded(&format!("[relay.orders]\n{settings}\n"), &[]).unwrap_err();
        let text = format!("{what}\n{why}\n{fix}");
        assert_eq!(code, Some(Code::INVALID_CONFIGURATION), "{text}");
        assert!(
            what.contains(key) && text.contains(hint),
            "{settings}: {text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
    let outside = loaded("[relay]\nurl = 'x'\n", &[]).unwrap_err();
    assert!(outside.fix.contains("[relay.orders]"), "{outside:?}");
    let name = loaded("[relay.\"Orders DB\"]\nurl = 'sqlite:///x'\n", &[]).unwrap_err();
    assert!(name.why.contains("lower-case"), "{name:?}");
    let variable = loaded("", &[("WHARF_RELAY__ORDERS__TOPPIC", "x")]).unwrap_err();
    assert!(
        variable.fix.contains("WHARF_RELAY__ORDERS__TOPIC"),
        "{variable:?}"
    );
}

/// A database with an outbox.
pub(crate) async fn shop(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(2);
    let pool = pool.connect_with(options).await.unwrap();
    Outbox::new().install(&pool).await.unwrap();
    pool
}

async fn place(pool: &SqlitePool, numbers: std::ops::Range<u32>) {
    let mut transaction = pool.begin().await.unwrap();
    for number in numbers {
        let insert = "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload, headers) VALUES (?, ?, ?, 'placed', ?, ?)";
        sqlx::query(insert)
            .bind(format!("id-{number}"))
            .bind(if number == 13 { "no topic" } else { "orders" })
            .bind(format!("customer-{}", number % 3))
            .bind(number.to_string())
            .bind(r#"{"tenant":"acme"}"#)
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}

fn with_relay(data: &Path, database: &Path) -> Config {
    let mut config = config(data);
    let relay = Relay {
        url: SecretUrl::from(format!("sqlite://{}", database.display()).as_str()),
        topic: Some("shop.{aggregatetype}".to_owned()),
        ..Relay::default()
    };
    config.relay.insert("orders".to_owned(), relay);
    config
}

async fn entries(node: &Node, topic: &str, count: usize) -> Vec<Entry> {
    let ledger = node.broker().ledger("test");
    let partition = Partition {
        topic: TopicName::new(topic).unwrap(),
        index: 0,
    };
    let mut found: Vec<Entry> = Vec::new();
    let reading = async {
        while found.len() < count {
            let next = found.last().map_or(0, |entry| entry.offset + 1);
            match ledger.follow(partition.clone(), next, count).await {
                Ok(entries) => found.extend(entries),
                // It is not there yet.
                Err(_unknown) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, reading).await.unwrap();
    found
}

fn values(entries: &[Entry]) -> Vec<u32> {
    let value = |entry: &Entry| entry.record.value.clone().unwrap().to_vec();
    let text = |entry| String::from_utf8(value(entry)).unwrap();
    entries
        .iter()
        .map(|entry| text(entry).parse().unwrap())
        .collect()
}

#[tokio::test]
async fn rows_of_a_database_arrive_once_in_topics_also_over_restarts_and_their_relay_says_how_it_stands()
 {
    let root = tempfile::tempdir().unwrap();
    let (data, database) = (root.path().join("data"), root.path().join("shop.db"));
    let pool = shop(&database).await;
    place(&pool, 0..10).await;
    let node = Node::start(with_relay(&data, &database)).await.unwrap();
    place(&pool, 10..20).await;
    let found = entries(&node, "shop.orders", 19).await;
    let expected: Vec<u32> = (0..20).filter(|number| *number != 13).collect();
    assert_eq!(values(&found), expected);
    let header = |entry: &Entry, name: &str| {
        let mut headers = entry.record.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found
            .and_then(|(_, value)| value.clone())
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    assert_eq!(header(&found[4], "id").as_deref(), Some("id-4"));
    assert_eq!(
        header(&found[4], "ce_source").as_deref(),
        Some("wharf:outbox:orders")
    );
    assert_eq!(header(&found[4], "tenant").as_deref(), Some("acme"));
    assert_eq!(found[4].record.key.as_deref(), Some(&b"customer-1"[..]));
    let letters = entries(&node, "dlq.outbox.orders.relay", 1).await;
    assert!(
        header(&letters[0], "wharf-dlq-error")
            .unwrap()
            .contains("shop.no topic")
    );

    let http = node.http_address();
    let (status, view) =
        outside(move || post(http, "/api/v1/relays/orders/drain?timeout=10s")).await;
    assert_eq!(status, 200, "{view}");
    let view: Value = serde_json::from_str(&view).unwrap();
    assert_eq!(
        (&view["state"], &view["rows"]),
        (&"running".into(), &19.into()),
        "{view}"
    );
    assert_eq!(
        (&view["set_aside"], &view["lag"]["rows"]),
        (&1.into(), &0.into()),
        "{view}"
    );
    outside(move || {
        let (status, _, list) = get(http, "/api/v1/relays");
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(
            (status, &list["relays"][0]["name"]),
            (200, &"orders".into())
        );
        assert_eq!(get(http, "/api/v1/relays/others").0, 404);
        assert_eq!(
            post(http, "/api/v1/relays/orders/drain?timeout=soon").0,
            400
        );
        let metrics = get(http, "/metrics").2;
        for line in [
            "wharf_relay_rows_total{relay=\"orders\"} 19",
            "wharf_relay_rows_set_aside_total{relay=\"orders\"} 1",
            "wharf_relay_state{relay=\"orders\",state=\"running\"} 1.0",
            "wharf_relay_lag_rows{relay=\"orders\"} 0.0",
        ] {
            assert!(
                metrics.lines().any(|found| found == line),
                "no {line} in\n{metrics}"
            );
        }
    })
    .await;
    node.shutdown().await.unwrap();

    place(&pool, 20..25).await;
    let node = Node::start(with_relay(&data, &database)).await.unwrap();
    let found = entries(&node, "shop.orders", 24).await;
    assert_eq!(values(&found)[19..], [20, 21, 22, 23, 24], "and none twice");
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_keeps_no_node_from_serving_and_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (data, database) = (root.path().join("data"), root.path().join("missing.db"));
    let node = Node::start(with_relay(&data, &database)).await.unwrap();
    let http = node.http_address();
    outside(move || {
        assert_eq!(get(http, "/readyz").0, 200);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view: Value = serde_json::from_str(&get(http, "/api/v1/relays/orders").2).unwrap();
            if view["state"] == "stopped" {
                assert!(
                    view["trouble"]["code"]
                        .as_str()
                        .unwrap()
                        .starts_with("WHARF-53"),
                    "{view}"
                );
                break;
            }
            assert!(Instant::now() < deadline, "{view}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let (status, late) = post(http, "/api/v1/relays/orders/drain?timeout=10ms");
        assert_eq!(status, 504, "{late}");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[test]
fn every_metric_in_an_alert_rule_exists_and_every_rule_says_what_to_do() {
    let rules = include_str!("../../../../docs/operating/outbox-alerts.yml");
    let metrics = include_str!("../../../../docs/reference/metrics.md");
    let mut named = 0;
    for line in rules.lines().filter(|line| line.contains("expr:")) {
        let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for metric in words.filter(|word| word.starts_with("wharf_")) {
            named += 1;
            assert!(
                metrics.contains(&format!("`{metric}`")),
                "{metric} does not exist"
            );
        }
    }
    let count = |word: &str| {
        rules
            .lines()
            .filter(|line| line.trim_start().starts_with(word))
            .count()
    };
    let alerts = count("- alert:");
    assert!(named >= alerts && alerts > 5);
    for word in ["expr:", "severity:", "summary:", "action:"] {
        assert_eq!(count(word), alerts, "{word}");
    }
}

/// `POST path`: the status and the body.
fn post(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST {path} HTTP/1.0\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// Runs a node on `disk` until the relay has nothing left to do, or the power goes.
async fn run_until_drained_or_off(config: Config, disk: &SimulatedDisk) -> Option<Node> {
    let used = disk.clone();
    let started = Node::start_on(config, move |_| Ok(Arc::new(used))).await;
    // The power may go while it starts.
    let node = started.ok()?;
    let (http, watched) = (node.http_address(), disk.clone());
    let drained = outside(move || {
        let deadline = Instant::now() + PATIENCE;
        while !watched.is_off() {
            // Every row was there before the node, so one look is enough.
            let (_, _, view) = get(http, "/api/v1/relays/orders");
            let view: Value = serde_json::from_str(&view).unwrap();
            if view["drained"] == true {
                return true;
            }
            assert!(Instant::now() < deadline, "neither drained nor off: {view}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        false
    });
    if drained.await {
        return Some(node);
    }
    // It cannot close its log any more, and says so.
    drop(node.shutdown().await);
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_of_the_log_loses_no_row_and_repeats_none() {
    let root = tempfile::tempdir().unwrap();
    let rows: Vec<u32> = (0..40).filter(|number| *number != 13).collect();
    let prepare = async |name: String| {
        let database = root.path().join(format!("{name}.db"));
        let pool = shop(&database).await;
        for from in (0..40).step_by(4) {
            place(&pool, from..from + 4).await;
        }
        let mut config = with_relay(&root.path().join(name), &database);
        let relay = config.relay.get_mut("orders").unwrap();
        relay.lease.0 = Duration::from_secs(1);
        // Rows in the smallest portions, so that there are many commits.
        relay.in_flight_size_max.0 = 1;
        config
    };
    let undisturbed = SimulatedDisk::new(1, Faults::default());
    let config = prepare("whole".to_owned()).await;
    let node = run_until_drained_or_off(config, &undisturbed)
        .await
        .unwrap();
    node.shutdown().await.unwrap();
    let operations = undisturbed.counters().operations;
    let points: Vec<u64> = (1..=6).map(|part| operations * part / 7).collect();
    for (seed, point) in (2..).zip(points) {
        let config = prepare(format!("cut-{point}")).await;
        let disk = SimulatedDisk::new(seed, Faults::default());
        disk.power_off_at(point);
        if let Some(node) = run_until_drained_or_off(config.clone(), &disk).await {
            // The power may go while it stops.
            drop(node.shutdown().await);
        }
        let disk = disk.crash();
        let node = run_until_drained_or_off(config, &disk).await.unwrap();
        let found = entries(&node, "shop.orders", rows.len()).await;
        assert_eq!(values(&found), rows, "power off at {point} of {operations}");
        let end = found.last().unwrap().offset;
        assert_eq!(
            usize::try_from(end).unwrap() + 1,
            rows.len(),
            "and nothing behind"
        );
        assert_eq!(entries(&node, "dlq.outbox.orders.relay", 1).await.len(), 1);
        node.shutdown().await.unwrap();
    }
}
