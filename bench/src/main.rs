//! The measurements behind `cargo xtask bench`: the broker beside the limits of its disk and of the
//! client that drives it, all taken in the same run.
//!
//! Nothing is asserted: a number depends on the machine, so every speed is also given as a ratio
//! to what the same machine allowed in the same run. Every round uses fresh topics.

mod clients;
mod disk;
mod node;
mod report;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser};
use harness::{Launch, Node};

use crate::clients::Load;
use crate::report::{Report, Unit};

/// The size of the messages in the throughput measurements.
const MESSAGE_BYTES: usize = 1024;
/// The rate of the end-to-end measurement.
const END_TO_END_RATE: u64 = 10_000;

/// Measures a release build.
#[derive(Debug, Parser)]
enum Cli {
    /// The broker: throughput, latency, start-up, memory
    Broker(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// The binary to measure
    #[arg(long)]
    wharf: PathBuf,
    /// A directory on the disk to measure; what this run puts there is deleted at its end
    #[arg(long)]
    scratch: PathBuf,
    /// Where to write the results as JSON
    #[arg(long)]
    json: PathBuf,
    /// How often each throughput is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn say(line: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.as_ref())
        .and_then(|()| out.flush())
        .ok();
}

fn main() -> ExitCode {
    let Cli::Broker(options) = Cli::parse();
    let ended = harness::kill_groups_on_interrupt().and_then(|()| broker(&options));
    fs::remove_dir_all(&options.scratch).ok();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn broker(options: &Options) -> Result<()> {
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let log = options.json.with_extension("server.log");
    let launch = Launch::new(&options.wharf, &options.scratch.join("data"), &log);
    let length = Duration::from_secs(options.seconds);
    let mut report = Report::default();

    let limits = limits(options, length, &mut report)?;
    let mut node = start_empty(options, &launch, &mut report)?;
    let load = Load::of(&node.kafka, length);
    for partitions in [1, 100] {
        throughput(options, &load, partitions, limits, &mut report)?;
    }
    latency(&load, limits, &mut report)?;
    report.add(
        "memory, after the load",
        node::resident_mebibytes(&mut node)?,
        Unit::Mebibytes,
    );
    start_with_data(&launch, node, &mut report)?;

    say(format!("\n{}", report.table()));
    report.write(&options.json)?;
    say(format!("written to {}", options.json.display()));
    Ok(())
}

/// What the machine and the client allow in this run.
#[derive(Clone, Copy, Debug)]
struct Limits {
    disk: disk::Limits,
    client_megabytes_per_second: f64,
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn limits(options: &Options, length: Duration, report: &mut Report) -> Result<Limits> {
    say("the disk's own limits");
    let disk = disk::measure(&options.scratch)?;
    report.add(
        "disk: write 4 KiB and sync, p50",
        micros(disk.sync_p50),
        Unit::Micros,
    );
    report.add(
        "disk: write 4 KiB and sync, p99",
        micros(disk.sync_p99),
        Unit::Micros,
    );
    report.add(
        "disk: write 1 MiB and sync",
        disk.megabytes_per_second,
        Unit::Throughput,
    );
    say("the client's own limit, against the cluster that librdkafka plays itself");
    let client = median(options.rounds, || Load::mock(length).produce("round"))?;
    report.add("client: produce to nobody", client, Unit::Throughput);
    Ok(Limits {
        disk,
        client_megabytes_per_second: client,
    })
}

fn start_empty(options: &Options, launch: &Launch, report: &mut Report) -> Result<Node> {
    say("starting empty");
    for start in ["start, new data directory", "start, empty"] {
        let node = launch.start()?;
        report.add(start, millis(node.started_in), Unit::Millis);
        node.stop()?;
    }
    let mut node = launch.start()?;
    report.add(
        "memory, idle and empty",
        node::resident_mebibytes(&mut node)?,
        Unit::Mebibytes,
    );
    let size = fs::metadata(&options.wharf)?.len();
    report.add("binary", size as f64 / 1e6, Unit::Megabytes);
    Ok(node)
}

fn throughput(
    options: &Options,
    load: &Load,
    partitions: i32,
    limits: Limits,
    report: &mut Report,
) -> Result<()> {
    say(format!("produce and consume, {partitions} partitions"));
    let (mut produced, mut consumed) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let topic = format!("speed-{partitions}-{round}");
        load.make_topic(&topic, partitions)?;
        produced.push(load.produce(&topic)?);
        consumed.push(load.consume(&topic, partitions)?);
    }
    let name = format!("produce, {partitions} partitions, acks=all");
    report.add(&name, middle(produced), Unit::Throughput);
    report.compare(
        &name,
        "of the disk's speed",
        limits.disk.megabytes_per_second,
    );
    report.compare(
        &name,
        "of the client's limit",
        limits.client_megabytes_per_second,
    );
    report.add(
        &format!("consume, {partitions} partitions"),
        middle(consumed),
        Unit::Throughput,
    );
    Ok(())
}

fn latency(load: &Load, limits: Limits, report: &mut Report) -> Result<()> {
    say("one message at a time");
    let one = load.one_at_a_time()?;
    for (name, value, disk) in [
        ("one synced message, p50", one.p50, limits.disk.sync_p50),
        ("one synced message, p99", one.p99, limits.disk.sync_p99),
    ] {
        report.add(name, micros(value), Unit::Micros);
        report.compare(name, "times the disk's sync", micros(disk));
    }
    say(format!("end to end at {END_TO_END_RATE} messages a second"));
    let through = load.end_to_end(END_TO_END_RATE)?;
    report.add("end to end, p50", millis(through.p50), Unit::Millis);
    report.add("end to end, p99", millis(through.p99), Unit::Millis);
    Ok(())
}

fn start_with_data(launch: &Launch, node: Node, report: &mut Report) -> Result<()> {
    say("starting with data");
    node.kill()?;
    let node = launch.start()?;
    report.add(
        "start, after kill -9",
        millis(node.started_in),
        Unit::Millis,
    );
    node.stop()?;
    let node = launch.start()?;
    report.add(
        "start, after an orderly stop",
        millis(node.started_in),
        Unit::Millis,
    );
    node.stop()
}

/// The median of several measurements.
fn median(rounds: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(middle(
        (0..rounds).map(|_| measure()).collect::<Result<_>>()?,
    ))
}

/// The middle one of several values.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The middle and the slow end of many durations.
#[derive(Clone, Copy, Debug)]
struct Spread {
    p50: Duration,
    p99: Duration,
}

impl Spread {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let at = |hundredth: usize| {
            let index = durations.len().saturating_sub(1) * hundredth / 100;
            durations.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_takes_the_middle_and_the_slow_end() {
        let spread = Spread::of((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!((spread.p50.as_millis(), spread.p99.as_millis()), (51, 100));
    }

    #[test]
    fn a_median_is_not_moved_by_one_odd_round() {
        let mut values = [5.0, 900.0, 6.0].into_iter();
        let middle = median(3, || Ok(values.next().unwrap_or_default())).expect("no round fails");
        assert!((middle - 6.0).abs() < f64::EPSILON);
    }
}
