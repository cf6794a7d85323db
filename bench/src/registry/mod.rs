//! `cargo xtask bench registry`: how fast schemas are found, registered and compared, how fast a registry
//! starts and what it takes to keep them, beside other registries with the same API.

mod page;
mod schemas;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Selection;
use harness::servers::Running;
use serde::Serialize;

use crate::http::{Call, Load, Pace, Speed};
use crate::limits::{self, Limits, Machine};
use crate::report::{self, Unit};
use crate::say;
use crate::servers::Usage;
use schemas::{Kind, distinct};
use servers::{Place, Who};

/// How many requests are under way at once.
const CONNECTIONS: usize = 16;
/// The rate at which the latency of lookups is measured, in requests per second.
const PACED: u32 = 1_000;
/// The longest that filling a registry may take; a slower one has fewer schemas, and its rows say so.
const FILLED_WITHIN: Duration = Duration::from_secs(90);
/// The longest that a registry may take to answer for what it has stored, after its start.
const LOADED_WITHIN: Duration = Duration::from_secs(180);
/// How often a comparison with all versions is asked for.
const CHECKS: u64 = 10;

/// How the run is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// The program of AxonOps' registry
    #[arg(long, value_name = "FILE")]
    axonops: Option<PathBuf>,
    /// Why there is none
    #[arg(long, default_value = "it is not installed")]
    axonops_missing: String,
    /// Apicurio's quarkus-run.jar
    #[arg(long, value_name = "FILE", requires = "java")]
    apicurio: Option<PathBuf>,
    /// The Java that runs it
    #[arg(long, value_name = "FILE")]
    java: Option<PathBuf>,
    /// Why there is none
    #[arg(long, default_value = "it is not installed")]
    apicurio_missing: String,
    /// Which versions they are, such as apicurio=3.3.3
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
}

impl Options {
    /// What is deleted at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn length(&self) -> Duration {
        let usual = if self.selection.quick { 0.3 } else { 5.0 };
        Duration::from_secs_f64(self.seconds.unwrap_or(usual))
    }

    /// How many schemas are looked up among.
    fn some(&self) -> u64 {
        if self.selection.quick { 200 } else { 10_000 }
    }

    /// How many schemas a long start reads.
    fn many(&self) -> u64 {
        if self.selection.quick { 500 } else { 100_000 }
    }

    /// How many versions a schema is compared with.
    fn versions(&self) -> u64 {
        if self.selection.quick { 20 } else { 1_000 }
    }

    fn wants(&self, row: &str) -> bool {
        let only = &self.selection.only;
        only.is_empty() || only.iter().any(|start| row.starts_with(start.as_str()))
    }

    fn wants_server(&self, who: Who) -> bool {
        let servers = &self.selection.servers;
        servers.is_empty() || servers.iter().any(|server| server == who.key())
    }

    /// The version of a server, where it was said.
    fn version_of(&self, who: Who) -> String {
        let mut said = self.versions.iter().filter_map(|one| one.split_once('='));
        let said = said.rfind(|(name, _)| *name == who.key());
        said.map_or_else(|| "–".to_owned(), |(_, version)| version.to_owned())
    }
}

/// One figure of one registry.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    value: f64,
    unit: Unit,
    /// The percentiles behind a rate, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<Speed>,
    /// What must be known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// What came of a row, or why nothing did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Measured(Figure),
    Missing(String),
}

/// A whole run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    limits: Limits,
    /// How many schemas are looked up among, how many a long start reads, and with how many versions one
    /// is compared.
    sizes: [u64; 3],
    versions: BTreeMap<Who, String>,
    rows: BTreeMap<&'static str, BTreeMap<Who, Outcome>>,
}

impl Report {
    fn add(&mut self, row: &'static str, who: Who, figure: Result<Figure>) {
        let outcome = match figure {
            Ok(figure) => {
                say(format!("    {row}: {}", page::shown(&figure)));
                Outcome::Measured(figure)
            }
            Err(error) => {
                say(format!("    {row}: {error:#}"));
                Outcome::Missing(format!("{error:#}"))
            }
        };
        self.rows.entry(row).or_default().insert(who, outcome);
    }

    fn figure(&self, row: &str, who: Who) -> Option<&Figure> {
        match self.rows.get(row)?.get(&who)? {
            Outcome::Measured(figure) => Some(figure),
            Outcome::Missing(_) => None,
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
    let chosen = Who::ALL
        .into_iter()
        .filter(|who| options.wants_server(*who));
    let mut report = Report {
        machine: Machine::here(&options.scratch),
        limits: limits::measure(&options.scratch)?,
        sizes: [options.some(), options.many(), options.versions()],
        ..Report::default()
    };
    for who in chosen {
        say(who.title());
        report.versions.insert(who, options.version_of(who));
        one(options, who, &mut report);
        limits::write_out(&options.scratch)?;
    }
    let page = page::write(&report);
    let targets = page::targets(&report);
    report::write(&options.out, "registry", &report, &page, &targets, began)
}

/// All rows of one registry. What fails is said in its row, and the others go on.
fn one(options: &Options, who: Who, report: &mut Report) {
    let all = [
        (&page::LOOKUPS[..], lookups as Measure),
        (&page::CHECKS[..], checks),
        (&page::STARTS[..], starts),
    ];
    for (rows, measure) in all {
        if !rows.iter().any(|row| options.wants(row)) {
            continue;
        }
        if let Err(error) = measure(options, who, report) {
            // What had been measured before is kept.
            for row in rows {
                let has = report
                    .rows
                    .get(row)
                    .is_some_and(|row| row.contains_key(&who));
                if !has {
                    report.add(row, who, Err(anyhow::anyhow!("{error:#}")));
                }
            }
        }
    }
}

type Measure = fn(&Options, Who, &mut Report) -> Result<()>;

fn per_second(speed: Speed) -> Figure {
    Figure {
        value: speed.rate,
        unit: Unit::PerSecond,
        speed: Some(speed),
        note: None,
    }
}

/// The latency at which nearly all requests are answered.
fn latency(speed: Speed) -> Figure {
    Figure {
        value: speed.p99,
        unit: Unit::Millis,
        speed: Some(speed),
        note: None,
    }
}

/// The path of a subject's versions; every schema has a subject of its own.
fn versions_of(number: u64) -> String {
    format!("/subjects/orders-{number}-value/versions")
}

fn register(number: u64) -> Call {
    Call::post(versions_of(number), distinct(number))
}

/// Registers the schemas of a range of numbers. Answers how many there are at the end.
fn fill(load: &Load<'_>, from: u64, to: u64) -> Result<(u64, Speed)> {
    let pace = Pace::Count(to - from, FILLED_WITHIN);
    let speed = load.run(CONNECTIONS, pace, |number| register(from + number))?;
    let count = load.on_one(|mut one| async move {
        // The last one that is there: after a time-out it is not the last that was wanted.
        let (mut below, mut beyond) = (from, to);
        while below + 1 < beyond {
            let middle = u64::midpoint(below, beyond);
            let path = format!("{}/latest", versions_of(middle));
            let (status, _) = one.send(Call::get(path)).await?;
            if status.is_success() {
                below = middle;
            } else {
                beyond = middle;
            }
        }
        Ok(beyond)
    })?;
    Ok((count, speed))
}

/// How fast schemas are registered and found.
fn lookups(options: &Options, who: Who, report: &mut Report) -> Result<()> {
    let mut place = Place::new(who, options, "lookups")?;
    let running = place.start()?;
    let load = Load::new(place.target())?;
    let (count, _) = fill(&load, 0, options.some())?;
    let ids: Vec<u64> = load.on_one(|mut one| async move {
        let mut ids = Vec::new();
        for number in 0..count {
            let path = format!("{}/latest", versions_of(number));
            let body = one.good(Call::get(path)).await?;
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            ids.push(answer["id"].as_u64().context("an answer without an id")?);
        }
        Ok(ids)
    })?;
    // Scattered over all of them, the same way for everybody.
    let scattered = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count;
    let by_id = |number: u64| {
        let at = usize::try_from(scattered(number)).unwrap_or_default();
        Call::get(format!("/schemas/ids/{}", ids[at]))
    };
    let bodies: Vec<String> = (0..count).map(distinct).collect();
    let by_content = |number: u64| {
        let at = scattered(number);
        let body = bodies[usize::try_from(at).unwrap_or_default()].clone();
        Call::post(format!("/subjects/orders-{at}-value"), body)
    };
    let length = options.length();
    let warm = Pace::For(length / 2);
    load.run(CONNECTIONS, warm, by_id)?;
    let fast = load.run(CONNECTIONS, Pace::For(length), by_id);
    report.add("lookup-id", who, fast.map(per_second));
    let paced = load.run(CONNECTIONS, Pace::At(PACED, length), by_id);
    report.add("paced-id", who, paced.map(latency));
    load.run(CONNECTIONS, warm, by_content)?;
    let fast = load.run(CONNECTIONS, Pace::For(length), by_content);
    report.add("lookup-content", who, fast.map(per_second));
    let paced = load.run(CONNECTIONS, Pace::At(PACED, length), by_content);
    report.add("paced-content", who, paced.map(latency));
    let more = |number: u64| register(options.some() + number);
    let registered = load.run(CONNECTIONS, Pace::For(length), more);
    report.add("register", who, registered.map(per_second));
    let beyond = options.some() + 10_000_000;
    let one = load.run(1, Pace::For(length), |number| register(beyond + number));
    report.add("register-one", who, one.map(latency));
    running.stop()
}

/// How long a comparison with all versions takes, for each kind.
fn checks(options: &Options, who: Who, report: &mut Report) -> Result<()> {
    let mut place = Place::new(who, options, "checks")?;
    let running = place.start()?;
    let load = Load::new(place.target())?;
    for (kind, row) in Kind::ALL.into_iter().zip(page::CHECKS) {
        if options.wants(row) {
            let checked = check(&load, kind, options.versions());
            report.add(row, who, checked);
        }
    }
    running.stop()
}

fn check(load: &Load<'_>, kind: Kind, versions: u64) -> Result<Figure> {
    let subject = format!("{}-value", kind.key());
    load.on_one(|mut one| async move {
        let level = |level: &str| {
            let body = serde_json::json!({ "compatibility": level }).to_string();
            Call::put(format!("/config/{subject}"), body)
        };
        let path = format!("/compatibility/subjects/{subject}/versions");
        let register = |number| {
            let path = format!("/subjects/{subject}/versions");
            Call::post(path, kind.version(number))
        };
        // Some want the subject before its configuration.
        one.good(register(0)).await?;
        one.good(level("NONE")).await?;
        for number in 1..versions {
            one.good(register(number)).await?;
        }
        one.good(level("BACKWARD_TRANSITIVE")).await?;
        let mut millis = Vec::new();
        for number in 0..=CHECKS {
            let call = Call::post(path.clone(), kind.version(versions + number));
            let began = Instant::now();
            let body = one.good(call).await?;
            // The first one finds nothing parsed yet.
            if number > 0 {
                millis.push(began.elapsed().as_secs_f64() * 1e3);
            }
            let answer: serde_json::Value = serde_json::from_slice(&body)?;
            ensure!(
                answer["is_compatible"] == true,
                "it says that version {} breaks readers: {answer}",
                versions + number
            );
        }
        Ok(Figure {
            value: crate::library::inbox::median(millis)?,
            unit: Unit::Millis,
            speed: None,
            note: None,
        })
    })
}

/// From starting the process until the last schema is served, in milliseconds, and the running registry.
fn start_with(place: &mut Place<'_>, count: u64) -> Result<(f64, Running)> {
    let began = Instant::now();
    let running = place.start()?;
    let load = Load::new(place.target())?;
    load.on_one(|mut one| async move {
        loop {
            let path = format!("{}/latest", versions_of(count - 1));
            let (status, _) = one.send(Call::get(path)).await?;
            if status.is_success() {
                return Ok(());
            }
            let waited = began.elapsed();
            ensure!(
                waited < LOADED_WITHIN,
                "the last schema is not there after {waited:?}"
            );
        }
    })?;
    Ok((began.elapsed().as_secs_f64() * 1e3, running))
}

fn memory(running: &mut Running) -> Result<f64> {
    Ok(Usage::of_group(running.id())?.memory as f64 / f64::from(1 << 20))
}

/// How long a start takes, and what the schemas take in memory.
fn starts(options: &Options, who: Who, report: &mut Report) -> Result<()> {
    let mut place = Place::new(who, options, "starts")?;
    let mut running = place.start()?;
    let empty = memory(&mut running)?;
    let mut there = 0;
    for (wanted, row) in [
        (options.some(), "start-some"),
        (options.many(), "start-many"),
    ] {
        let target = place.target().clone();
        let load = Load::new(&target)?;
        (there, _) = fill(&load, there, wanted)?;
        if who.keeps() {
            running.stop()?;
            let (millis, started) = start_with(&mut place, there)?;
            running = started;
            let note = (there < wanted)
                .then(|| format!("with {there} schemas: registering more took too long"));
            let figure = Figure {
                value: millis,
                unit: Unit::Millis,
                speed: None,
                note,
            };
            report.add(row, who, Ok(figure));
        } else {
            let missing = "it keeps its schemas in memory only";
            report.add(row, who, Err(anyhow::anyhow!("{missing}")));
        }
        if row == "start-some" {
            let value = memory(&mut running)?;
            let beyond = value - empty;
            let figure = Figure {
                value,
                unit: Unit::Mebibytes,
                speed: None,
                note: Some(format!("{beyond:.1} MiB more than without any")),
            };
            report.add("memory", who, Ok(figure));
        }
    }
    running.stop()
}
