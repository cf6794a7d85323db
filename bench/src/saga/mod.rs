//! `cargo xtask bench saga`: how many sagas of five durable steps end in a second with each kind of
//! worker, how long a step takes, how fast five steps are undone, what a restart and waiting sagas cost;
//! beside other engines that keep what a workflow did, in the same run.

mod decisions;
mod figures;
mod in_process;
mod load;
mod page;
mod peers;
mod program;
mod standing;
mod wharf;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::Selection;

use crate::limits::{self, Machine};
use crate::report;
use crate::say;
use figures::{Report, Who};
use in_process::ALONE;
use load::{COMMON, Engine, common};

/// How the run is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// The workers and clients of the others, and the HTTP worker
    #[arg(long, value_name = "FOLDER", default_value = "bench/peers/saga")]
    peers: PathBuf,
    /// The packages of the workers in Node.js
    #[arg(long, value_name = "FOLDER")]
    node_modules: Option<PathBuf>,
    /// Why there are none
    #[arg(long, default_value = "its worker is not installed")]
    node_missing: String,
    /// Restate's server
    #[arg(long, value_name = "FILE")]
    restate: Option<PathBuf>,
    /// Why there is none
    #[arg(long, default_value = "it is not installed")]
    restate_missing: String,
    /// The Python that has Temporal's SDK and DBOS
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,
    /// Temporal's server
    #[arg(long, value_name = "FILE")]
    temporal: Option<PathBuf>,
    /// Why they are not there
    #[arg(long, default_value = "it is not installed")]
    python_missing: String,
    /// Which versions they are, such as restate=1.7.12
    #[arg(long, value_name = "NAME=VERSION", value_delimiter = ',')]
    versions: Vec<String>,
    /// A directory on the disk to measure on; it is deleted at the end
    #[arg(long)]
    scratch: PathBuf,
    /// Where to write the page and the figures as JSON
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// How long each load lasts, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// How many sagas are under way at once
    #[arg(long, value_name = "N")]
    at_once: Option<usize>,
    /// How many sagas are in flight over a restart
    #[arg(long, value_name = "N")]
    in_flight: Option<u64>,
    /// How many sagas wait while memory is measured
    #[arg(long, value_name = "N")]
    waiting: Option<u64>,
}

impl Options {
    /// What is deleted at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn is_quick(&self) -> bool {
        self.selection.quick
    }

    fn length(&self) -> Duration {
        let usual = if self.is_quick() { 0.3 } else { 10.0 };
        Duration::from_secs_f64(self.seconds.unwrap_or(usual))
    }

    fn at_once(&self) -> usize {
        self.at_once
            .unwrap_or(if self.is_quick() { 10 } else { 100 })
    }

    /// The low rate, in sagas per second, that every peer can follow.
    fn paced(&self) -> u32 {
        5
    }

    fn in_flight(&self) -> u64 {
        let usual = if self.is_quick() { 200 } else { 100_000 };
        self.in_flight.unwrap_or(usual)
    }

    fn waiting(&self) -> u64 {
        let usual = if self.is_quick() { 200 } else { 1_000_000 };
        self.waiting.unwrap_or(usual)
    }

    fn wants(&self, row: &str) -> bool {
        let only = &self.selection.only;
        only.is_empty() || only.iter().any(|start| row.starts_with(start.as_str()))
    }

    /// Whether somebody is chosen: by name, or `wharf` for every kind of worker.
    fn wants_one(&self, who: Who) -> bool {
        let servers = &self.selection.servers;
        let is = |name: &String| name == who.key() || (who.is_wharf() && name == "wharf");
        servers.is_empty() || servers.iter().any(is)
    }

    /// The version of somebody, where it was said.
    fn version_of(&self, who: Who) -> String {
        let name = if who.is_wharf() { "wharf" } else { who.key() };
        let mut said = self.versions.iter().filter_map(|one| one.split_once('='));
        let said = said.rfind(|(named, _)| *named == name);
        said.map_or_else(|| "–".to_owned(), |(_, version)| version.to_owned())
    }
}

/// Measures everything and writes it down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let mut report = Report {
        machine: Machine::here(&options.scratch),
        limits: limits::measure(&options.scratch)?,
        at_once: options.at_once(),
        paced: options.paced(),
        ..Report::default()
    };
    for who in Who::ALL.into_iter().filter(|who| options.wants_one(*who)) {
        say(who.title());
        report.versions.insert(who, options.version_of(who));
        if who == Who::WharfRust {
            decisions::measure(options, &mut report);
        }
        if rows(who).any(|row| options.wants(row))
            && let Err(error) = loaded(options, who, &mut report)
        {
            missing(&mut report, options, who, &error);
        }
        if who == Who::WharfKafka {
            standing::measure(options, who, &mut report);
        }
        limits::write_out(&options.scratch)?;
    }
    let page = page::write(&report);
    let targets = page::targets(&report);
    report::write(&options.out, "saga", &report, &page, &targets, began)?;
    // A peer may be missing anywhere; a quick run is there to see that everything of Wharf's runs.
    let failed = report.missing(Who::is_wharf);
    ensure!(
        !options.is_quick() || failed.is_empty(),
        "not measured: {}",
        failed.join("; ")
    );
    Ok(())
}

/// The rows of a load.
fn rows(who: Who) -> impl Iterator<Item = &'static str> {
    let alone = (who == Who::WharfRust).then_some(ALONE);
    COMMON.into_iter().chain(alone)
}

/// The rows of a load. What was started is stopped again before the next one starts.
fn loaded(options: &Options, who: Who, report: &mut Report) -> Result<()> {
    let mut engine: Box<dyn Engine> = match who {
        Who::WharfRust => Box::new(in_process::Inside::start(options)?),
        Who::WharfKafka | Who::WharfHttp => Box::new(wharf::Wharf::start(options, who)?),
        Who::Restate => Box::new(peers::Restate::start(options)?),
        Who::Temporal => Box::new(peers::temporal(options)?),
        Who::Dbos => Box::new(peers::dbos(options)?),
    };
    if COMMON.iter().any(|row| options.wants(row)) {
        common(&mut *engine, options, who, report)?;
    }
    engine.more(options, report);
    Ok(())
}

/// What had been measured before is kept; of all other rows it is said why they are not there.
fn missing(report: &mut Report, options: &Options, who: Who, why: &anyhow::Error) {
    for row in rows(who) {
        if options.wants(row) && !report.has(row, who) {
            report.add(row, who, Err(anyhow::anyhow!("{why:#}")));
        }
    }
}
