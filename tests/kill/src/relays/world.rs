//! The servers, and the adversary that kills them.
//!
//! ```text
//!  Postgres ─┬─ log ───────────┐
//!            ├─ poll ──────────┤ near: three relays and the broker that all write to
//!  MariaDB ──── maria ─────────┤
//!  Postgres ─── far: a relay ──┘ over the Kafka protocol, in a process of its own
//! ```

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Database, DatabaseKind, Launch, Node};
use serde_json::Value;
use sqlx::{Connection, PgConnection, Postgres};
use tokio::runtime::Runtime;

use super::check::Promise;
use super::store::{self, Store};
use crate::random::Random;
use crate::say;

/// The budget of a start, for an unoptimised build on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(15);
/// How long a relay may take to move what is left.
const DRAIN_WITHIN: &str = "90s";

/// A relay under test.
pub(super) struct Relay {
    pub(super) name: &'static str,
    pub(super) kind: DatabaseKind,
    pub(super) promise: Promise,
    /// Whether it is in the node that has the broker.
    is_near: bool,
    settings: &'static str,
}

/// All of them.
pub(super) const RELAYS: [Relay; 4] = [
    Relay {
        name: "log",
        kind: DatabaseKind::Postgres,
        promise: Promise::Once,
        is_near: true,
        settings: "mode = \"log\"\nrecreate-slot = true\n",
    },
    Relay {
        name: "poll",
        kind: DatabaseKind::Postgres,
        promise: Promise::Once,
        is_near: true,
        settings: "mode = \"poll\"\nlease = \"1s\"\nkeep = \"unlimited\"\n",
    },
    Relay {
        name: "maria",
        kind: DatabaseKind::MariaDb,
        promise: Promise::Once,
        is_near: true,
        settings: "lease = \"1s\"\nkeep = \"unlimited\"\n",
    },
    Relay {
        name: "far",
        kind: DatabaseKind::Postgres,
        promise: Promise::OnceOrMore,
        is_near: false,
        settings: "mode = \"log\"\n",
    },
];

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// Three relays and the broker.
    Near,
    /// The relay that is apart.
    Far,
    Postgres,
    MariaDb,
    NearAndPostgres,
    NearAndMariaDb,
    /// The node, and while it is down somebody drops its slot: what the log had comes from the table.
    NearAndItsSlot,
}

/// What is struck in turn: each in any order, and then each again.
pub(super) const VICTIMS: [Victim; 7] = [
    Victim::Near,
    Victim::Far,
    Victim::Postgres,
    Victim::MariaDb,
    Victim::NearAndPostgres,
    Victim::NearAndMariaDb,
    Victim::NearAndItsSlot,
];

/// The servers.
pub(super) struct World {
    wharf: Launch,
    far: Launch,
    near_node: Option<Node>,
    far_node: Option<Node>,
    postgres: Database,
    mariadb: Database,
    runtime: Runtime,
}

impl World {
    /// Starts everything, with its data below `scratch`.
    pub(super) fn start(binary: &Path, scratch: &Path) -> Result<Self> {
        let runtime = Runtime::new()?;
        let options = ["-c", "wal_level=logical", "-c", "max_connections=100"];
        let postgres = Database::start(DatabaseKind::Postgres, &options)?;
        let mariadb = Database::start(DatabaseKind::MariaDb, &[])?;
        let urls = [
            store::url(DatabaseKind::Postgres, &postgres),
            store::url(DatabaseKind::MariaDb, &mariadb),
        ];
        runtime.block_on(store::prepare::<Postgres>(&urls[0]))?;
        runtime.block_on(store::prepare::<sqlx::MySql>(&urls[1]))?;
        let launch = |name: &str| {
            let data = scratch.join(name);
            let mut launch = Launch::new(binary, &data, &data.with_extension("log"));
            let config = data.with_extension("toml").display().to_string();
            launch.arguments = vec!["--config".to_owned(), config];
            launch
        };
        let (mut near, far) = (launch("near"), launch("far"));
        let config = |is_near: bool, target: &str| {
            let mut config = "[topics]\ndefault-partitions = 3\n".to_owned();
            for relay in RELAYS.iter().filter(|relay| relay.is_near == is_near) {
                let Relay { name, settings, .. } = relay;
                let url = &urls[usize::from(relay.kind == DatabaseKind::MariaDb)];
                config.push_str(&format!(
                    "[relay.{name}]\nurl = \"{url}\"\ntopic = \"{name}.{{aggregatetype}}\"\n\
                     target = \"{target}\"\n{settings}"
                ));
            }
            config
        };
        std::fs::write(scratch.join("near.toml"), config(true, "embedded"))?;
        let near_node = near.start()?;
        // Clients outlive the node, so it comes back to the same port every time.
        near.kafka_listen.clone_from(&near_node.kafka);
        let target = format!("kafka://{}", near_node.kafka);
        std::fs::write(scratch.join("far.toml"), config(false, &target))?;
        Ok(Self {
            far_node: Some(far.start()?),
            near_node: Some(near_node),
            wharf: near,
            far,
            postgres,
            mariadb,
            runtime,
        })
    }

    /// Where Kafka clients reach the broker.
    pub(super) fn broker(&self) -> &str {
        &self.wharf.kafka_listen
    }

    /// Where a database is reached.
    pub(super) fn url(&self, kind: DatabaseKind) -> String {
        match kind {
            DatabaseKind::Postgres => store::url(kind, &self.postgres),
            DatabaseKind::MariaDb => store::url(kind, &self.mariadb),
        }
    }

    /// Runs the clients of the databases.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Kills, waits for a while, and starts again.
    pub(super) fn strike(&mut self, victim: Victim, random: &mut Random) -> Result<()> {
        let (near, postgres, mariadb) = match victim {
            Victim::Near | Victim::NearAndItsSlot => (true, false, false),
            Victim::Far => (false, false, false),
            Victim::Postgres => (false, true, false),
            Victim::MariaDb => (false, false, true),
            Victim::NearAndPostgres => (true, true, false),
            Victim::NearAndMariaDb => (true, false, true),
        };
        // Which goes first is as random as the moment.
        let node_first = random.below(2) == 0;
        if near && node_first {
            self.kill_near()?;
        }
        if postgres {
            self.postgres.kill()?;
        }
        if mariadb {
            self.mariadb.kill()?;
        }
        if near && !node_first {
            self.kill_near()?;
        }
        if victim == Victim::Far {
            let far = self.far_node.take().context("the far node is gone")?;
            far.kill()?;
        }
        if victim == Victim::NearAndItsSlot {
            self.drop_slot()?;
        }
        pass(Duration::from_millis(random.below(600)));
        if near && random.below(3) == 0 {
            self.wharf
                .start_and_kill(Duration::from_millis(random.below(300)))?;
        }
        if random.below(2) == 0 {
            self.start_nodes()?;
        }
        self.postgres.up()?;
        self.mariadb.up()?;
        self.start_nodes()
    }

    /// Kills the node with the broker, and starts it again.
    pub(super) fn restart_near(&mut self) -> Result<()> {
        self.kill_near()?;
        self.start_nodes()
    }

    /// Stops both nodes in an orderly way.
    pub(super) fn stop(&mut self) -> Result<()> {
        let nodes = [self.far_node.take(), self.near_node.take()];
        nodes.into_iter().flatten().try_for_each(Node::stop)
    }

    fn kill_near(&mut self) -> Result<()> {
        let near = self.near_node.take().context("the near node is gone")?;
        near.kill()
    }

    fn start_nodes(&mut self) -> Result<()> {
        for (launch, node) in [
            (&self.wharf, &mut self.near_node),
            (&self.far, &mut self.far_node),
        ] {
            if node.is_none() {
                let started = launch.start()?;
                let took = started.started_in;
                ensure!(took <= START_WITHIN, "a start took {took:?}");
                *node = Some(started);
            }
        }
        Ok(())
    }

    /// Drops the slot of the relay `log`, whose node is down.
    fn drop_slot(&self) -> Result<()> {
        let url = self.url(DatabaseKind::Postgres);
        let dropping = async {
            let mut connection = PgConnection::connect(&url).await?;
            let deadline = Instant::now() + Duration::from_secs(20);
            let busy = "SELECT count(*) FROM pg_replication_slots \
                        WHERE slot_name = 'wharf_log' AND active";
            // The server notices only with its next write that nobody listens.
            while Postgres::number(&mut connection, busy.to_owned()).await? > 0 {
                ensure!(Instant::now() < deadline, "the slot stays in use");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                        WHERE slot_name = 'wharf_log'";
            Ok(Postgres::run(&mut connection, drop.to_owned()).await?)
        };
        self.runtime.block_on(dropping)
    }

    /// How many rows each relay moved since its node was started, and what it is doing.
    pub(super) fn moved(&self) -> Result<Vec<(String, u64, String)>> {
        let mut moved = Vec::new();
        for is_near in [true, false] {
            let output = self.wharf(is_near, &["status", "-o", "json"])?;
            let list: Value = serde_json::from_slice(&output.stdout)?;
            for relay in list.as_array().into_iter().flatten() {
                let text = |key: &str| relay[key].as_str().unwrap_or_default().to_owned();
                moved.push((
                    text("name"),
                    relay["rows"].as_u64().unwrap_or(0),
                    text("state"),
                ));
            }
        }
        Ok(moved)
    }

    /// Waits until a relay has nothing left to do; what is in the way when that takes too long.
    pub(super) fn drain(&self, relay: &Relay) -> Result<Option<String>> {
        let arguments = ["drain", relay.name, "--timeout", DRAIN_WITHIN];
        let output = self.wharf(relay.is_near, &arguments)?;
        if output.status.success() {
            return Ok(None);
        }
        let status = self.wharf(relay.is_near, &["status", relay.name, "-o", "json"])?;
        let text = [output.stdout, output.stderr, status.stdout].concat();
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    fn wharf(&self, is_near: bool, arguments: &[&str]) -> Result<std::process::Output> {
        let node = match is_near {
            true => &self.near_node,
            false => &self.far_node,
        };
        let node = node.as_ref().context("the node is down")?;
        let mut command = Command::new(&self.wharf.binary);
        command.arg("outbox").args(arguments);
        command.env("WHARF_HTTP", &node.http);
        Ok(command.output()?)
    }
}

/// Waits for a time of no meaning.
pub(super) fn pass(time: Duration) {
    let deadline = Instant::now() + time;
    while let left = deadline.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}

/// Tells how the relays are doing.
pub(super) fn tell(strike: u64, victim: Victim, moved: &[(String, u64, String)]) {
    let relays = moved
        .iter()
        .map(|(name, rows, state)| format!("{name} {state} {rows}"));
    let relays: Vec<_> = relays.collect();
    say(&format!(
        "strike {strike}: {victim:?}, after {}",
        relays.join(", ")
    ));
}
