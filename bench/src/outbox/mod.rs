//! `cargo xtask bench outbox`: how fast rows of an outbox get to a topic, from the log and by polling,
//! beside what the database can hand out and beside Debezium.

mod ceiling;
mod debezium;
mod drain;
mod latency;
mod node;
mod origin;
mod page;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use harness::Selection;
use serde::Serialize;
use wharf_message::TopicName;

use crate::clients::{Client as _, Codec, Kafka, Pace as Sending, Topic};
use crate::limits::{self, Limits, Machine};
use crate::report;
use crate::say;
use crate::servers::{Usage, peak_memory};
use drain::Drained;
use latency::{Latency, Pace};
use node::{Mode, Place};
use origin::{Origin, message};

/// How many partitions a topic has.
const PARTITIONS: usize = 6;
/// The longest that something small may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The rates of the latencies, in rows per second.
const RATES: [u64; 2] = [1_000, 5_000];

/// How the run is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// The class path of Kafka Connect
    #[arg(long, value_name = "CLASSPATH")]
    connect: Option<String>,
    /// The folder of its plugins, with Debezium
    #[arg(long, value_name = "FOLDER", requires = "connect")]
    debezium: Option<PathBuf>,
    /// Why there is none
    #[arg(long, default_value = "it is not installed")]
    debezium_missing: String,
    /// Which Debezium it is
    #[arg(long, value_name = "VERSION", default_value = "")]
    debezium_version: String,
    /// A directory on the disk to measure on; it is deleted at the end
    #[arg(long)]
    scratch: PathBuf,
    /// Where to write the page and the figures as JSON
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// How many rows the backlog has
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// How often each drain is measured; the median counts
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long each latency is measured, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
}

impl Options {
    /// What is deleted at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn rows(&self) -> u64 {
        let usual = if self.selection.quick {
            20_000
        } else {
            1_000_000
        };
        self.rows.unwrap_or(usual)
    }

    fn rounds(&self) -> usize {
        self.rounds
            .unwrap_or(if self.selection.quick { 1 } else { 3 })
    }

    fn pace(&self, per_second: u64) -> Pace {
        let usual = if self.selection.quick { 1.0 } else { 10.0 };
        let seconds = self.seconds.unwrap_or(usual);
        Pace {
            per_second,
            length: Duration::from_secs_f64(seconds),
            warm: Duration::from_secs_f64(seconds / 4.0),
        }
    }

    fn wants(&self, row: &str, who: &str) -> bool {
        let Selection { only, servers, .. } = &self.selection;
        (only.is_empty() || only.iter().any(|start| row.starts_with(start.as_str())))
            && (servers.is_empty() || servers.iter().any(|server| server == who))
    }

    fn debezium(&self) -> Result<debezium::Installed<'_>> {
        match (self.connect.as_deref(), self.debezium.as_deref()) {
            (Some(classes), Some(plugins)) => Ok(debezium::Installed { classes, plugins }),
            _ => Err(anyhow!("{}", self.debezium_missing)),
        }
    }
}

/// What came of a measurement, or why nothing did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome<T> {
    Measured(T),
    Missing(String),
}

impl<T> Outcome<T> {
    fn of(result: Result<T>) -> Self {
        match result {
            Ok(measured) => Self::Measured(measured),
            Err(error) => Self::Missing(format!("{error:#}")),
        }
    }

    fn get(&self) -> Option<&T> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::Missing(_) => None,
        }
    }
}

/// The memory of a node, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Of a node without a relay that has nothing to do.
    pub(crate) idle: f64,
    /// The most that it takes when as many messages come through Kafka's protocol.
    pub(crate) loaded: f64,
}

/// Everyone who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    Ceiling,
    Log,
    Poll,
    Debezium,
}

impl Who {
    fn key(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Log => "log",
            Self::Poll => "poll",
            Self::Debezium => "debezium",
        }
    }
}

/// A latency at one rate.
#[derive(Debug, Serialize)]
pub(crate) struct AtRate {
    pub(crate) who: Who,
    pub(crate) rate: u64,
    outcome: Outcome<Latency>,
    /// The most memory that the process had by then, in MiB.
    pub(crate) peak_mebibytes: Option<f64>,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    limits: Limits,
    rows: u64,
    transaction_rows: u64,
    payload_bytes: usize,
    partitions: usize,
    rounds: usize,
    connections: u32,
    settings: &'static [&'static str],
    debezium: String,
    memory: Memory,
    /// Rows per second, round by round.
    ceiling: Outcome<Vec<f64>>,
    log: Outcome<Vec<Drained>>,
    poll: Outcome<Vec<Drained>>,
    debezium_drain: Outcome<Drained>,
    latencies: Vec<AtRate>,
}

impl Report {
    /// Before anything is measured but memory.
    fn empty(memory: Memory) -> Self {
        let left_out = || "it was left out".to_owned();
        Self {
            machine: Machine::default(),
            limits: Limits::default(),
            rows: 0,
            transaction_rows: origin::TRANSACTION_ROWS,
            payload_bytes: origin::PAYLOAD_BYTES,
            partitions: PARTITIONS,
            rounds: 1,
            connections: latency::CONNECTIONS,
            settings: origin::SETTINGS,
            debezium: String::new(),
            memory,
            ceiling: Outcome::Missing(left_out()),
            log: Outcome::Missing(left_out()),
            poll: Outcome::Missing(left_out()),
            debezium_drain: Outcome::Missing(left_out()),
            latencies: Vec::new(),
        }
    }
}

/// Measures everything and writes it down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let machine = Machine::here(&options.scratch);
    let limits = limits::measure(&options.scratch)?;
    say("a node without a relay");
    let memory = memory(options)?;
    let origin = Origin::start()?;
    let mut report = Report {
        machine,
        limits,
        rows: options.rows(),
        rounds: options.rounds(),
        debezium: options.debezium_version.clone(),
        ..Report::empty(memory)
    };
    drains(options, &origin, &mut report)?;
    for who in [Who::Log, Who::Poll, Who::Debezium] {
        latencies(options, &origin, who, &mut report);
    }
    let page = page::write(&report);
    let targets = page::targets(&report);
    report::write(&options.out, "outbox", &report, &page, &targets, began)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What a node takes with nothing to do, and when so many messages come without a relay.
fn memory(options: &Options) -> Result<Memory> {
    let place = Place::new(&options.wharf, &options.scratch, "plain", None)?;
    let mut node = place.start()?;
    let id = node.id();
    let (client, topic) = node::make_topic(&node, "rows")?;
    let idle = mebibytes(peak_memory(id)?);
    // The headers are part of the payload here, which is all that this client sends.
    let message = message(0);
    let payload = vec![b'x'; message.size()];
    let mut producer = client.producer(&topic, Sending::Bulk, Codec::None)?;
    for number in 0..options.rows() {
        let partition = usize::try_from(number)? % PARTITIONS;
        producer.send(partition, &payload)?;
    }
    producer.flush()?;
    let loaded = mebibytes(peak_memory(id)?);
    node.stop()?;
    place.remove();
    say(format!(
        "    {idle:.0} MiB idle, {loaded:.0} MiB under load"
    ));
    Ok(Memory { idle, loaded })
}

/// A node that has been stopped, whose relay goes on with what comes from now on.
fn prepared(options: &Options, origin: &Origin, mode: Mode, name: &str) -> Result<Place> {
    let place = Place::new(&options.wharf, &options.scratch, name, Some((mode, origin)))?;
    let node = place.start()?;
    node::make_topic(&node, "rows")?;
    if mode == Mode::Log {
        origin.wait_for_reader(&node::slot(name))?;
    }
    node.stop()?;
    Ok(place)
}

/// Makes a backlog that all find alike, and has them drain it one after the other.
fn drains(options: &Options, origin: &Origin, report: &mut Report) -> Result<()> {
    let wants = |who: Who| options.wants("drain", who.key());
    if ![Who::Ceiling, Who::Log, Who::Poll, Who::Debezium]
        .into_iter()
        .any(wants)
    {
        return Ok(());
    }
    say(format!("a backlog of {} rows", report.rows));
    let rounds = 0..report.rounds;
    let names = |who: Who| {
        rounds
            .clone()
            .map(move |round| format!("{}{round}", who.key()))
    };
    let prepare = |who: Who, mode: Mode| -> Result<Vec<(String, Place)>> {
        let names = names(who).filter(|_| wants(who));
        names
            .map(|name| Ok((name.clone(), prepared(options, origin, mode, &name)?)))
            .collect()
    };
    for name in names(Who::Ceiling).filter(|_| wants(Who::Ceiling)) {
        origin.make_slot(&name)?;
    }
    let logs = prepare(Who::Log, Mode::Log)?;
    let polls = prepare(Who::Poll, Mode::Poll)?;
    let debezium = wants(Who::Debezium).then(|| Beside::prepare(options, origin));
    origin.fill("rows", report.rows)?;
    if wants(Who::Ceiling) {
        let drained = names(Who::Ceiling).map(|name| {
            let rate = ceiling::drain(origin, &name, report.rows)?;
            say(format!("    pg_recvlogical {rate:.0} rows/s"));
            origin.drop_slot(&name)?;
            Ok(rate)
        });
        report.ceiling = Outcome::of(drained.collect());
    }
    for (who, places) in [(Who::Log, logs), (Who::Poll, polls)] {
        if places.is_empty() {
            continue;
        }
        let drained = places
            .into_iter()
            .map(|(name, place)| drain_node(origin, who, &name, place, report.rows));
        let outcome = Outcome::of(drained.collect());
        match who {
            Who::Log => report.log = outcome,
            _ => report.poll = outcome,
        }
    }
    if let Some(debezium) = debezium {
        let drained = debezium.and_then(|debezium| debezium.drain(origin, report.rows));
        report.debezium_drain = Outcome::of(drained);
    }
    // Those who poll would read them all.
    origin.execute("TRUNCATE wharf_outbox")?;
    origin.rest()
}

fn drain_node(origin: &Origin, who: Who, name: &str, place: Place, rows: u64) -> Result<Drained> {
    origin.rest()?;
    let mut node = place.start()?;
    let (id, began) = (node.id(), Instant::now());
    let counter = Kafka::new(&node.kafka).counter(&Topic::new("rows", PARTITIONS))?;
    let watched = drain::watch(&counter, rows)?;
    let drained = Drained {
        rows_per_second: rows as f64 / (watched.last - began).as_secs_f64(),
        cpu_micros: Usage::of_group(id)?.cpu * 1e6 / rows as f64,
        peak_mebibytes: mebibytes(peak_memory(id)?),
    };
    say(format!(
        "    {} {:.0} rows/s, {:.1} µs of processor time for each, {:.0} MiB at most",
        who.key(),
        drained.rows_per_second,
        drained.cpu_micros,
        drained.peak_mebibytes
    ));
    node.stop()?;
    place.remove();
    if who == Who::Log {
        origin.drop_slot(&node::slot(name))?;
    }
    Ok(drained)
}

/// Debezium, and the node that it produces to.
struct Beside<'a> {
    place: debezium::Place<'a>,
    target: Place,
}

impl<'a> Beside<'a> {
    fn new(options: &'a Options, name: &str) -> Result<Self> {
        let folder = options.scratch.join(format!("{name}-connect"));
        let place = debezium::Place::new(options.debezium()?, folder)?;
        let target = Place::new(&options.wharf, &options.scratch, name, None)?;
        Ok(Self { place, target })
    }

    /// Has it read one row, so that it has a slot and knows where it is, and stops it.
    fn prepare(options: &'a Options, origin: &Origin) -> Result<Self> {
        let beside = Self::new(options, "debezium-node")?;
        let node = beside.target.start()?;
        node::make_topic(&node, "rows")?;
        let running = beside.start(origin, &node)?;
        running.stop()?;
        node.stop()?;
        Ok(beside)
    }

    /// Starts it and waits until a row has come through.
    fn start(&self, origin: &Origin, node: &harness::Node) -> Result<debezium::Running> {
        let running = self.place.start(origin, &node.kafka)?;
        origin.wait_for_reader(debezium::SLOT)?;
        let (client, topic) = node::make_topic(node, "probe")?;
        probe(origin, &client, &topic)?;
        Ok(running)
    }

    fn drain(&self, origin: &Origin, rows: u64) -> Result<Drained> {
        origin.rest()?;
        let node = self.target.start()?;
        let mut running = self.place.start(origin, &node.kafka)?;
        let counter = Kafka::new(&node.kafka).counter(&Topic::new("rows", PARTITIONS))?;
        let watched = drain::watch(&counter, rows)?;
        let id = running.id();
        let drained = Drained {
            rows_per_second: watched.rate_from_first(rows),
            cpu_micros: Usage::of_group(id)?.cpu * 1e6 / rows as f64,
            peak_mebibytes: mebibytes(peak_memory(id)?),
        };
        say(format!(
            "    Debezium {:.0} rows/s",
            drained.rows_per_second
        ));
        running.stop()?;
        node.stop()?;
        origin.drop_slot(debezium::SLOT)?;
        Ok(drained)
    }
}

/// Writes one row and waits until it has come.
fn probe(origin: &Origin, client: &Kafka, topic: &Topic) -> Result<()> {
    let name = TopicName::new(topic.name.as_str())?;
    let pool = origin.writers(1)?;
    origin.runtime.block_on(async {
        let mut transaction = pool.begin().await?;
        let message = message(0);
        origin
            .outbox
            .publish(&mut transaction, &name, &message)
            .await?;
        transaction.commit().await?;
        pool.close().await;
        anyhow::Ok(())
    })?;
    drain::watch(&client.counter(topic)?, 1).map(drop)
}

/// The latencies of one, at every rate.
fn latencies(options: &Options, origin: &Origin, who: Who, report: &mut Report) {
    let row = |rate: u64| format!("latency-{rate}");
    let rates = RATES.into_iter();
    let rates: Vec<u64> = rates
        .filter(|&rate| options.wants(&row(rate), who.key()))
        .collect();
    if rates.is_empty() {
        return;
    }
    let measured = latencies_of(options, origin, who, &rates);
    let mut measured = match measured {
        Ok(measured) => measured.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(format!("{error:#}")); rates.len()],
    };
    for (rate, measured) in rates.into_iter().zip(measured.drain(..)) {
        let (outcome, peak_mebibytes) = match measured {
            Ok((latency, peak)) => (Outcome::Measured(latency), Some(peak)),
            Err(why) => (Outcome::Missing(why), None),
        };
        report.latencies.push(AtRate {
            who,
            rate,
            outcome,
            peak_mebibytes,
        });
    }
}

fn latencies_of(
    options: &Options,
    origin: &Origin,
    who: Who,
    rates: &[u64],
) -> Result<Vec<(Latency, f64)>> {
    let name = format!("{}-latency", who.key());
    say(format!("latencies: {}", who.key()));
    origin.execute("TRUNCATE wharf_outbox")?;
    let (mut node, beside) = match who {
        Who::Debezium => {
            let beside = Beside::new(options, &name)?;
            (beside.target.start()?, Some(beside))
        }
        _ => {
            let mode = if who == Who::Log {
                Mode::Log
            } else {
                Mode::Poll
            };
            let relay = Some((mode, origin));
            let place = Place::new(&options.wharf, &options.scratch, &name, relay)?;
            (place.start()?, None)
        }
    };
    let mut running = match &beside {
        Some(beside) => Some(beside.start(origin, &node)?),
        None => {
            let (client, topic) = node::make_topic(&node, "probe")?;
            if who == Who::Log {
                origin.wait_for_reader(&node::slot(&name.replace('-', "_")))?;
            }
            probe(origin, &client, &topic)?;
            None
        }
    };
    let id = running
        .as_mut()
        .map_or_else(|| node.id(), debezium::Running::id);
    let mut measured = Vec::new();
    for &rate in rates {
        origin.rest()?;
        let (client, topic) = node::make_topic(&node, &format!("latency-{rate}"))?;
        let pace = options.pace(rate);
        let cpu = || Ok(Usage::of_group(id)?.cpu);
        let latency = latency::measure(origin, &client, &topic, pace, cpu)?;
        let peak = mebibytes(peak_memory(id)?);
        say(format!(
            "    {rate} rows/s: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms; the commit p50 {:.2} ms, p99 {:.2} ms; {:.0} rows/s, {:.2} cores, {peak:.0} MiB",
            latency.p50,
            latency.p99,
            latency.p999,
            latency.commit_p50,
            latency.commit_p99,
            latency.per_second,
            latency.cores,
        ));
        measured.push((latency, peak));
    }
    if let Some(running) = running {
        running.stop()?;
    }
    node.stop()?;
    match who {
        Who::Log => origin.drop_slot(&node::slot(&name.replace('-', "_")))?,
        Who::Debezium => origin.drop_slot(debezium::SLOT)?,
        Who::Poll | Who::Ceiling => {}
    }
    Ok(measured)
}
