//! The measurements behind `cargo xtask bench`: the broker beside its peers, the limits of the disk
//! and of loopback, and of the client that drives it, all taken in the same run.
//!
//! Nothing is asserted: a number depends on the machine, so every figure is also given as a ratio
//! to what others and the machine itself did in the same run.

mod clients;
mod http;
mod library;
mod limits;
mod load;
mod outbox;
mod registry;
mod report;
mod saga;
mod servers;
mod session;
mod shapes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, Parser};
use harness::Selection;

use crate::limits::Machine;
use crate::report::{Named, Report};
use crate::servers::{SERVERS, Server, Tools};
use crate::session::Session;
use crate::shapes::Load;

/// Measures a release build.
#[derive(Debug, Parser)]
enum Cli {
    /// The broker and its peers: throughput, latency, start-up, memory
    Broker(Options),
    /// The library beside what is written by hand, and beside Watermill
    Library(library::Options),
    /// The outbox: from a database to topics, beside what the database can hand out and Debezium
    Outbox(outbox::Options),
    /// The schema registry beside others with the same API
    Registry(registry::Options),
    /// Sagas beside other engines that keep what a workflow did
    Saga(saga::Options),
    /// Of the library, only what goes through Kafka's protocol, beside the client used by hand
    Kafka(library::KafkaOptions),
    /// Of the library, only the inbox on Postgres, beside a transaction written by hand
    Inbox(library::inbox::Shape),
}

/// How a run is taken.
#[derive(Debug, Args)]
struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// A JSON file that says where the other servers are, or why they are not there
    #[arg(long)]
    tools: Option<PathBuf>,
    /// A directory on the disk to measure; what this run puts there is deleted at its end
    #[arg(long)]
    scratch: PathBuf,
    /// Where to write the page, the plots and the figures as JSON
    #[arg(long)]
    out: PathBuf,
    /// The text that says what bounds each row
    #[arg(long)]
    limits: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// How often the most telling throughputs are measured; the median counts
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long each measurement lasts, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// The longest the run may take; what does not fit in says so
    #[arg(long, default_value_t = 14)]
    minutes: u64,
}

impl Options {
    fn is_quick(&self) -> bool {
        self.selection.quick
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.is_quick() { 1 } else { 3 })
    }

    fn seconds(&self) -> f64 {
        self.seconds
            .unwrap_or(if self.is_quick() { 0.3 } else { 2.0 })
    }

    /// How long one round of a load lasts.
    fn length_of(&self, load: Load) -> f64 {
        if load.is_headline() {
            self.seconds()
        } else {
            self.seconds() / 2.0
        }
    }

    /// Whether a row is to be measured.
    fn wants(&self, key: &str) -> bool {
        let only = &self.selection.only;
        only.is_empty() || only.iter().any(|start| key.starts_with(start.as_str()))
    }

    fn wants_server(&self, server: &Server) -> bool {
        let servers = &self.selection.servers;
        servers.is_empty() || servers.iter().any(|key| key == server.key)
    }
}

fn say(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.as_ref())
        .and_then(|()| out.flush())
        .ok();
}

fn main() -> ExitCode {
    let command = Cli::parse();
    let ended = harness::kill_groups_on_interrupt().and_then(|()| match &command {
        Cli::Broker(options) => {
            let ended = broker(options);
            fs::remove_dir_all(&options.scratch).ok();
            ended
        }
        Cli::Library(options) => {
            let ended = library::run(options);
            fs::remove_dir_all(options.scratch()).ok();
            ended
        }
        Cli::Outbox(options) => {
            let ended = outbox::run(options);
            fs::remove_dir_all(options.scratch()).ok();
            ended
        }
        Cli::Registry(options) => {
            let ended = registry::run(options);
            fs::remove_dir_all(options.scratch()).ok();
            ended
        }
        Cli::Saga(options) => {
            let ended = saga::run(options);
            fs::remove_dir_all(options.scratch()).ok();
            ended
        }
        Cli::Kafka(options) => {
            let ended = library::kafka_alone(options);
            fs::remove_dir_all(options.scratch()).ok();
            ended
        }
        Cli::Inbox(shape) => inbox(*shape),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn inbox(shape: library::inbox::Shape) -> Result<()> {
    let rates = library::inbox::measure(shape)?;
    say(format!(
        "inbox {:.0} messages/s, by hand {:.0} messages/s, ratio {:.3}",
        rates.inbox,
        rates.by_hand,
        rates.ratio()
    ));
    Ok(())
}

fn broker(options: &Options) -> Result<()> {
    let began = Instant::now();
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let tools = Tools::read(options.tools.as_deref(), &options.wharf)?;
    let servers: Vec<&Server> = SERVERS
        .iter()
        .filter(|server| options.wants_server(server))
        .collect();
    say("the limits of the disk, of loopback and of the client");
    let mut report = Report {
        machine: Machine::here(&options.scratch),
        limits: limits::measure(&options.scratch)?,
        rounds: options.rounds(),
        seconds: options.seconds(),
        binary_megabytes: fs::metadata(&options.wharf)?.len() as f64 / 1e6,
        ceilings: ceilings(options)?,
        servers: servers.iter().map(|server| named(server, &tools)).collect(),
        rows: Vec::new(),
    };
    let end = began + Duration::from_secs(60 * options.minutes);
    for (at, server) in servers.iter().enumerate() {
        let elapsed = began.elapsed().as_secs();
        say(format!(
            "{} ({} of {}, after {elapsed} s)",
            server.name,
            at + 1,
            servers.len()
        ));
        // What one server leaves over is there for those after it.
        let share = u32::try_from(servers.len() - at)?;
        // Nothing of Wharf is left out while others are measured.
        let share = if server.key == "wharf" {
            share.div_ceil(3)
        } else {
            share
        };
        let deadline = Instant::now() + end.saturating_duration_since(Instant::now()) / share;
        let tool = tools.get(server.tool);
        Session::run(options, &mut report, server, tool, deadline)?;
        if server.key == "wharf" {
            // A virtual disk changes its mind from minute to minute.
            report.limits = report.limits.and(limits::measure(&options.scratch)?);
        }
    }
    say(format!("\n{}", report.summary()));
    let text = match &options.limits {
        Some(file) => fs::read_to_string(file)?,
        None => String::new(),
    };
    report.write(&options.out, &text)?;
    say(format!(
        "written to {} after {} s",
        options.out.display(),
        began.elapsed().as_secs()
    ));
    Ok(())
}

/// What the client produces to nobody, for each row of that kind.
fn ceilings(options: &Options) -> Result<BTreeMap<String, f64>> {
    let mut ceilings = BTreeMap::new();
    for load in shapes::loads(options.is_quick()) {
        let key = load.produce().key;
        if options.wants(&key) {
            let speed = session::ceiling(options, load)?;
            say(format!(
                "    {key}: the client's ceiling is {speed:.0} MB/s"
            ));
            ceilings.insert(key, speed);
        }
    }
    Ok(ceilings)
}

fn named(server: &Server, tools: &Tools) -> Named {
    let tool = tools.get(server.tool);
    Named {
        key: server.key,
        name: server.name,
        version: tool.map_or_else(|_| "–".to_owned(), |tool| tool.version.clone()),
        acknowledged: server.acknowledged,
    }
}
