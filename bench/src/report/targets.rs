//! The targets of the design, judged by what was measured in the same run.

use super::page::number;
use super::{Report, Row};

/// One target.
pub(super) struct Target {
    pub(super) text: String,
    pub(super) measured: String,
    pub(super) verdict: &'static str,
}

const MET: &str = "met";
const NOT_MET: &str = "not met";
/// Not met, and both the client's and the server's use of the processor show why.
const LIMIT: &str = "limit of this machine";
const NOT_MEASURED: &str = "not measured";

/// What part of the client's own ceiling counts as bound by the client.
const CLIENT_BOUND: f64 = 0.8;
/// What part of all cores counts as all.
const ALL_CORES: f64 = 0.9;
/// Columns of the throughput rows.
const CLIENT_CORES: usize = 3;
const SERVER_CORES: usize = 4;

/// Judges every target of the broker.
pub(super) fn judge(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    for partitions in [1, 100] {
        let key = format!("produce-1k-{partitions}-none");
        for (server, name, factor) in [
            ("kafka", "Apache Kafka without sync", 1.0),
            ("kafka-flush", "Apache Kafka with flush.messages=1", 5.0),
            (
                "nats-sync",
                "NATS JetStream with sync_interval: always",
                10.0,
            ),
        ] {
            targets.push(beside(report, &key, partitions, (server, name, factor)));
        }
        targets.push(of_the_disk(report, &key, partitions));
    }
    let limits = &report.limits;
    targets.push(at_most(
        "one synced message at a time: p50 in multiples of the disk's own sync",
        report
            .row("one")
            .and_then(|row| Some(row.value("wharf", 0)? / limits.sync_p50_micros)),
        2.0,
        "×",
    ));
    let value = |key: &str, column| report.row(key)?.value("wharf", column);
    let millis = |key: &str, column| value(key, column).map(|micros| micros / 1e3);
    targets.push(at_most(
        "one synced message at a time: p99",
        millis("one", 2),
        10.0,
        "ms",
    ));
    targets.push(at_most(
        "end to end at 10,000 messages a second: p99",
        millis("end-to-end-10000", 2),
        10.0,
        "ms",
    ));
    for partitions in [1, 100] {
        targets.push(of_sendfile(report, partitions));
    }
    for (text, key, most, unit) in [
        (
            "start with an empty data directory",
            "start-empty",
            100.0,
            "ms",
        ),
        (
            "start after a kill with a full journal",
            "start-killed",
            1000.0,
            "ms",
        ),
        ("idle memory", "memory-idle", 30.0 * 1.048_576, "MB"),
        (
            "memory with 100,000 idle partitions",
            "memory-partitions",
            500.0,
            "MB",
        ),
    ] {
        targets.push(at_most(text, value(key, 0), most, unit));
    }
    let binary = Some(report.binary_megabytes);
    targets.push(at_most("size of the binary", binary, 60.0, "MB"));
    targets
}

fn at_most(text: &str, measured: Option<f64>, most: f64, unit: &str) -> Target {
    Target {
        text: format!("{text}: at most {} {unit}", number(most)),
        measured: measured.map_or_else(String::new, |value| format!("{} {unit}", number(value))),
        verdict: verdict(measured.map(|value| value <= most)),
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => MET,
        Some(false) => NOT_MET,
        None => NOT_MEASURED,
    }
}

/// Whether client and server together used all of the machine.
fn is_all_busy(report: &Report, row: &Row) -> bool {
    let cores = |column| row.value("wharf", column).unwrap_or(0.0);
    cores(CLIENT_CORES) + cores(SERVER_CORES) >= ALL_CORES * report.machine.cores as f64
}

fn plural(partitions: usize) -> String {
    match partitions {
        1 => "1 partition".to_owned(),
        more => format!("{more} partitions"),
    }
}

fn beside(report: &Report, key: &str, partitions: usize, peer: (&str, &str, f64)) -> Target {
    let (server, name, factor) = peer;
    let row = report.row(key);
    let ratio = row.and_then(|row| row.advantage(server));
    let mut verdict = verdict(ratio.map(|ratio| ratio >= factor));
    if verdict == NOT_MET && row.is_some_and(|row| is_client_bound(report, row)) {
        verdict = "not met: bound by the client";
    }
    Target {
        text: format!(
            "produce 1 KiB messages, {}: at least {} × {name}",
            plural(partitions),
            number(factor)
        ),
        measured: ratio.map_or_else(String::new, |ratio| format!("{} ×", number(ratio))),
        verdict,
    }
}

fn is_client_bound(report: &Report, row: &Row) -> bool {
    let ceiling = report.ceilings.get(&row.shape.key);
    match (row.headline("wharf"), ceiling) {
        (Some(value), Some(ceiling)) => value >= CLIENT_BOUND * ceiling,
        _ => false,
    }
}

fn of_the_disk(report: &Report, key: &str, partitions: usize) -> Target {
    let row = report.row(key);
    let share = row
        .and_then(|row| row.headline("wharf"))
        .map(|value| value / report.limits.disk_megabytes_per_second);
    let mut verdict = verdict(share.map(|share| share >= 0.6));
    if let Some(row) = row.filter(|_| verdict == NOT_MET) {
        if is_client_bound(report, row) {
            verdict = "met: bound by the client";
        } else if is_all_busy(report, row) {
            verdict = LIMIT;
        }
    }
    let ceiling = report.ceilings.get(key);
    let of_client = row
        .and_then(|row| Some(row.headline("wharf")? / ceiling?))
        .map_or_else(String::new, |share| {
            format!(", {} × the client's ceiling", number(share))
        });
    Target {
        text: format!(
            "produce 1 KiB messages, {}: at least 0.60 × the disk's synced 1 MiB writes, or bound by the client",
            plural(partitions)
        ),
        measured: share.map_or_else(String::new, |share| {
            format!("{} ×{of_client}", number(share))
        }),
        verdict,
    }
}

fn of_sendfile(report: &Report, partitions: usize) -> Target {
    let row = report.row(&format!("fetch-1k-{partitions}"));
    let share = row
        .and_then(|row| row.headline("wharf"))
        .map(|value| value / report.limits.sendfile_megabytes_per_second);
    let mut verdict = verdict(share.map(|share| share >= 0.8));
    if verdict == NOT_MET && row.is_some_and(|row| is_all_busy(report, row)) {
        verdict = LIMIT;
    }
    Target {
        text: format!(
            "catch-up read, {}: at least 0.80 × loopback sendfile",
            plural(partitions)
        ),
        measured: share.map_or_else(String::new, |share| format!("{} ×", number(share))),
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::super::{Better, Outcome};
    use super::*;

    /// A throughput of Wharf with what client and server used of the processor.
    fn produced(speed: f64, client_cores: f64, server_cores: f64) -> Report {
        let mut row = row("produce-1k-1-none", Better::Higher, speed, 100.0);
        row.cells[0].outcome =
            Outcome::Values(vec![speed, speed, speed, client_cores, server_cores]);
        report(vec![row])
    }

    fn verdict_of(report: &Report) -> &'static str {
        of_the_disk(report, "produce-1k-1-none", 1).verdict
    }

    #[test]
    fn what_falls_short_of_the_disk_is_excused_only_by_the_client_or_the_processor() {
        assert_eq!(verdict_of(&produced(600.0, 0.5, 0.5)), MET);
        assert_eq!(verdict_of(&produced(500.0, 0.5, 0.5)), NOT_MET);
        assert_eq!(verdict_of(&produced(500.0, 1.2, 0.7)), LIMIT);
        let mut bound = produced(500.0, 0.5, 0.5);
        bound.ceilings.insert("produce-1k-1-none".to_owned(), 550.0);
        assert_eq!(verdict_of(&bound), "met: bound by the client");
    }

    #[test]
    fn a_target_beside_a_peer_is_a_ratio() {
        let report = produced(450.0, 0.5, 0.5);
        let row = |factor| beside(&report, "produce-1k-1-none", 1, ("kafka", "Kafka", factor));
        assert_eq!((row(4.0).verdict, row(5.0).verdict), (MET, NOT_MET));
        assert_eq!(row(4.0).measured, "4.50 ×");
    }

    #[test]
    fn a_limit_is_met_up_to_its_value() {
        assert_eq!(at_most("x", Some(10.0), 10.0, "ms").verdict, MET);
        assert_eq!(at_most("x", Some(10.1), 10.0, "ms").verdict, NOT_MET);
        assert_eq!(at_most("x", None, 10.0, "ms").verdict, NOT_MEASURED);
    }
}
