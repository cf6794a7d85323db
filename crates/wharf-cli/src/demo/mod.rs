//! `wharf demo`: a node of its own, and a shop of five services on it.
//!
//! The shop reaches the node only through its network port, as any Kafka client would. Two of its
//! services publish through the outbox of a database, which the node's role `relay` reads.
//!
//! Here is what every style of the shop needs: the node, the database, the contract of its events and the
//! live table. Each style runs in a file of its own.

mod choreography;
mod monitor;
mod orchestration;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wharf_server::Node;
use wharf_server::config::{Address, Config, Limit, Mode, Period, Relay, SecretUrl};

use crate::cli::Outcome;
use crate::cluster::Cluster;
use crate::schema::Registry;
use crate::{output, topic};

/// How often is looked whether the registry has started, and for how long.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// Who says what comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Style {
    /// Nobody: each service reacts to what the others tell
    #[default]
    Choreography,
    /// A saga of the node: it tells each service what to do, and what to undo
    Orchestration,
}

/// Start a node and run a shop of five services on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf demo                      until Ctrl-C, with the numbers at the end
  wharf demo --orders 5000        so many checkouts, then the numbers
  wharf demo --for 30s --rate 1000
  wharf demo --keep ./shop-data   keep the data, and go on with it next time
  wharf demo --postgres postgres://shop:secret@localhost/shop
  wharf demo --python             the notification service in Python instead of Rust
  wharf demo --python-with shop-venv/bin/python
  wharf demo --stop shipping --within 3s
                                  stop a service until the node says that orders are stuck

Exit codes: 0 the numbers add up, 1 they do not, 3 something failed.")]
pub(crate) struct Demo {
    /// Who says what comes next in the shop
    #[arg(long, value_enum, default_value_t)]
    style: Style,
    /// Stop after so many checkouts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    orders: Option<u64>,
    /// Stop after this long, as in 30s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Checkouts per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    rate: u64,
    /// Decides what the customers do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the data in this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Keep orders and payments in this Postgres database, in the schema wharf_demo, which is
    /// removed at the end unless --keep is given [default: an SQLite file]
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Run the notification service in Python (needs its package confluent-kafka)
    #[arg(long)]
    python: bool,
    /// The interpreter for it, as that of a virtual environment [default: python3]
    #[arg(long, value_name = "PATH")]
    python_with: Option<PathBuf>,
    #[command(flatten)]
    choreography: choreography::Arguments,
}

impl Demo {
    /// Runs `wharf demo`.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Runtime::new()?;
        match self.style {
            Style::Choreography => runtime.block_on(choreography::open_shop(self)),
            Style::Orchestration => runtime.block_on(orchestration::open_shop(self)),
        }
    }

    /// The database of the order and the payment service, and the relay of its outbox.
    async fn database(&self, folder: &Path) -> anyhow::Result<(shop::Database, Relay)> {
        let mut relay = Relay {
            topic: Some(shop::TOPIC.to_owned()),
            // The summary compares them with the topics.
            keep: Limit::Unlimited,
            ..Relay::default()
        };
        let Some(url) = &self.postgres else {
            let file = folder.join("shop.db");
            relay.url = SecretUrl::from(format!("sqlite://{}", file.display()).as_str());
            return Ok((shop::Database::sqlite(&file).await?, relay));
        };
        let database = shop::Database::postgres(url, self.keep.is_some()).await?;
        relay.url = SecretUrl::from(url.as_str());
        relay.table = format!("{}.wharf_outbox", shop::SCHEMA);
        relay.slot = Some(shop::SCHEMA.to_owned());
        if !database.has_log().await? {
            relay.mode = Some(Mode::Poll);
            output::note(
                "the log of this database cannot be read (wal_level is not logical, or the user may \
                 not replicate), so its outbox is polled",
            )?;
        }
        Ok((database, relay))
    }

    /// What runs the notification service, if that is not Rust. Before anything else is started.
    async fn python(&self, folder: &Path) -> anyhow::Result<Option<shop::Python>> {
        if !self.python && self.python_with.is_none() {
            return Ok(None);
        }
        let usual = Path::new("python3");
        let interpreter = self.python_with.as_deref().unwrap_or(usual);
        shop::Python::prepare(interpreter, folder).await.map(Some)
    }
}

/// A node with these roles, on the usual ports where they are free, on others where they are not.
async fn start_node(mut config: Config, data: &Path, relay: Relay) -> anyhow::Result<Node> {
    config.node.data = data.to_path_buf();
    config.relay.insert("shop".to_owned(), relay);
    // The five services start together; nobody else is expected to join them.
    config.groups.initial_rebalance_delay = Period(Duration::from_millis(200));
    for (section, address) in [
        ("kafka", &mut config.kafka.listen),
        ("http", &mut config.http.listen),
        ("registry", &mut config.registry.listen),
    ] {
        let usual = address.to_string();
        if std::net::TcpListener::bind(&usual).is_err() {
            output::note(&format!(
                "{usual} is in use, so {section} listens on a free port"
            ))?;
            *address = Address::new("127.0.0.1", 0);
        }
    }
    Ok(Node::start(config).await?)
}

/// The node's registry has the schemas of all the shop's events, and the topic that is to be checked is,
/// before any service is there. The registry's address.
async fn contract(node: &Node) -> anyhow::Result<String> {
    let (address, schemas) = (node.registry_address(), node.registry());
    let address = address.context("the node has no registry")?;
    let url = format!("http://{address}");
    let read = async {
        while schemas.is_some_and(|schemas| !schemas.is_read()) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.context("the registry does not come to an end of reading its topic")?;
    let broker = node.kafka_address().to_string();
    shop::create_topics(&broker).await?;
    let registry = Registry::at(url.clone());
    let agreed = tokio::task::spawn_blocking(move || {
        for (subject, text) in shop::SCHEMAS {
            let body = json!({ "schema": text, "schemaType": "JSON" });
            let path = format!("/subjects/{subject}/versions");
            let known = registry.ask("POST", &path, Some(&body));
            known.with_context(|| format!("the schema of {subject}"))?;
        }
        let mut cluster = Cluster::of(&broker, None)?;
        let checks = shop::CHECKS.map(|(name, value)| (name, Some(value)));
        topic::change_settings(&mut cluster, shop::CHECKED, checks.into_iter(), false)
    });
    agreed.await??;
    Ok(url)
}

/// Says when Ctrl-C closes the shop. The task ends with the shop.
fn until_interrupted() -> (JoinHandle<()>, watch::Receiver<bool>) {
    let (close, stop) = watch::channel(false);
    let interrupted = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            close.send_replace(true);
        } else {
            std::future::pending::<()>().await;
        }
        // Held so that the shop does not take a dropped sender for a stop.
        close.closed().await;
    });
    (interrupted, stop)
}

fn introduction(kafka: &str, http: &str, registry: &str, data: &Path, endless: bool) -> String {
    let mut text = format!(
        "Wharf runs at {kafka}; metrics at http://{http}/metrics; schemas at {registry}; data in {}.\n\
         Look in from another terminal, with any Kafka client:\n\n\
         \x20 kcat -b {kafka} -t shop.outcomes -C -o end\n\
         \x20 python3 -c \"from kafka import KafkaConsumer; [print(m.key, m.value) for m in \
         KafkaConsumer('shop.outcomes', bootstrap_servers='{kafka}')]\"\n\
         \x20 wharf group describe shipping --broker {kafka}\n\
         \x20 wharf schema list --registry {registry}\n\
         \x20 wharf choreography list --http {http}\n",
        data.display()
    );
    if endless {
        text.push_str("\nCtrl-C closes the shop and adds up.\n");
    }
    text
}

/// The live table on stderr: redrawn in place on a terminal, every fifth time elsewhere.
#[derive(Debug, Default)]
struct Screen {
    live: shop::view::Live,
    lines: usize,
    shown: u64,
}

impl Screen {
    fn show(&mut self, snapshot: &shop::Snapshot) {
        let table = self.live.table(snapshot);
        let mut stderr = anstream::stderr().lock();
        let terminal = std::io::stderr().is_terminal();
        self.shown += 1;
        if !terminal && self.shown % 5 != 1 {
            return;
        }
        let up = if terminal && self.lines > 0 {
            format!("\x1b[{}A\x1b[J", self.lines)
        } else {
            String::new()
        };
        self.lines = table.lines().count();
        // Nobody is left to look when stderr is gone; the shop goes on and the summary says it all.
        drop(write!(stderr, "{up}{table}"));
    }
}
