//! `wharf transaction` against a running node.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::commands::Shell;
use crate::run::run;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A producer whose transaction is open: one record of it is in the topic's first partition.
fn open_transaction(shell: &Shell<'_>, id: &str, topic: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shell.node.text("kafka"));
    config.set("transactional.id", id);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<str, str>::to(topic)
        .partition(0)
        .payload("open");
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    producer
}

#[test]
fn an_open_transaction_is_listed_described_and_aborted() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.run(&["topic", "create", "invoices", "--partitions", "1"]);
    let mut diary = shell.diary(&["transaction list", "transaction describe billing-1"]);
    let producer = open_transaction(&shell, "billing-1", "invoices");
    let described = shell.json(&["transaction", "describe", "billing-1"]);
    diary += &shell.diary(&[
        "transaction list",
        "transaction list --state Ongoing -o jsonl",
        "transaction list --state Empty",
        "transaction list --state Sleeping",
        "transaction list --longer-than 1h",
        "transaction describe billing-1",
        "transaction find-hanging --idle-for 0s",
        "transaction abort",
        "transaction abort billing-2 --yes",
        "transaction abort billing-1",
        "transaction abort billing-1 --dry-run",
        "transaction abort billing-1 --yes",
        "transaction abort billing-1 --yes",
    ]);
    let started = described["started"].as_str().unwrap();
    insta::assert_snapshot!(diary.replace(started, "STARTED"));
    producer
        .commit_transaction(PATIENCE)
        .expect_err("it is fenced");
    let committed = ["consume", "invoices", "--until", "end", "--values"];
    assert_eq!(shell.stdout(&committed), "");
    let state = shell.json(&["transaction", "describe", "billing-1"])["state"].clone();
    assert!(state != "Ongoing", "{state}");
}

#[test]
fn an_open_transaction_is_aborted_where_it_begins() {
    let directory = tempfile::tempdir().unwrap();
    let shell = Shell::open(directory.path());
    shell.run(&["topic", "create", "invoices", "--partitions", "1"]);
    let producer = open_transaction(&shell, "billing-1", "invoices");
    let producer_id = shell.json(&["transaction", "list"])[0]["producer"].to_string();
    let diary = shell.diary(&[
        "transaction abort --topic invoices",
        "transaction abort --topic invoices --partition 3 --start-offset 0 --yes",
        "transaction abort --topic invoices --partition 0 --start-offset 7 --yes",
        "transaction abort --topic ledger --partition 0 --start-offset 0 --yes",
        "transaction abort --topic invoices --partition 0 --start-offset 0",
        "transaction abort --topic invoices --partition 0 --start-offset 0 --dry-run",
        "transaction abort --topic invoices --partition 0 --start-offset 0 --yes",
        "transaction list --state Ongoing",
    ]);
    let producer_id = format!("producer {producer_id}");
    insta::assert_snapshot!(diary.replace(&producer_id, "producer ID"));
    producer
        .commit_transaction(PATIENCE)
        .expect_err("it is fenced");
}

#[test]
fn what_cannot_be_asked_is_told_in_three_lines() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let said = run(&["transaction", "list", "--broker", &address]);
    insta::assert_snapshot!(said.replace(&address, "BROKER"));
    let protocol = "security.protocol=sasl_ssl";
    insta::assert_snapshot!(run(&["quota", "list", "-X", protocol]));
}

#[test]
fn the_help_of_transactions_shows_how() {
    let all = run(&["transaction", "--help"]);
    let abort = run(&["transaction", "abort", "--help"]);
    insta::assert_snapshot!(all + &abort);
}
