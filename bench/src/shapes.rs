//! The rows: what each is called and how its values are to be read.

use crate::report::{Better, Shape};

/// Columns of a throughput.
const THROUGHPUT: &[&str] = &[
    "median",
    "lowest",
    "highest",
    "client cores",
    "server cores",
];
/// Columns of a latency.
const PERCENTILES: &[&str] = &["p50", "p90", "p99", "p99.9", "max"];
/// The quantiles of these columns.
pub(crate) const QUANTILES: &[f64] = &[0.5, 0.9, 0.99, 0.999, 1.0];

/// What is sent in a throughput measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) bytes: usize,
    pub(crate) partitions: usize,
    pub(crate) is_compressed: bool,
}

impl Load {
    fn key(self) -> String {
        let size = if self.bytes == 1024 { "1k" } else { "100b" };
        let codec = if self.is_compressed { "lz4" } else { "none" };
        format!("{size}-{}-{codec}", self.partitions)
    }

    fn text(self) -> String {
        let size = match self.bytes {
            1024 => "1 KiB".to_owned(),
            bytes => format!("{bytes} B"),
        };
        let partitions = match self.partitions {
            1 => "1 partition".to_owned(),
            more => format!("{more} partitions"),
        };
        let codec = if self.is_compressed { ", lz4" } else { "" };
        format!("{size} messages, {partitions}{codec}")
    }

    /// Whether this is one of those that are measured in several rounds.
    pub(crate) fn is_headline(self) -> bool {
        self.bytes == 1024 && !self.is_compressed && self.partitions < 1000
    }

    pub(crate) fn produce(self) -> Shape {
        throughput(
            format!("produce-{}", self.key()),
            format!("Produce: {}", self.text()),
        )
    }

    pub(crate) fn consume(self) -> Shape {
        throughput(
            format!("consume-{}", self.key()),
            format!("Catch-up read: {}", self.text()),
        )
    }

    /// Processor time of the server.
    pub(crate) fn cpu(self, what: &str) -> Shape {
        Shape {
            key: format!("cpu-{what}-{}", self.key()),
            title: format!(
                "Server's processor time to {what} a million messages: {}",
                self.text()
            ),
            unit: "s",
            better: Better::Lower,
            columns: &["seconds"],
            headline: 0,
        }
    }

    /// Reading without a client's own work.
    pub(crate) fn fetch(self) -> Shape {
        throughput(
            format!(
                "fetch-{}-{}",
                if self.bytes == 1024 { "1k" } else { "100b" },
                self.partitions
            ),
            format!(
                "Catch-up read by a client that only moves bytes: {}",
                self.text()
            ),
        )
    }
}

fn throughput(key: String, title: String) -> Shape {
    Shape {
        key,
        title,
        unit: "MB/s",
        better: Better::Higher,
        columns: THROUGHPUT,
        headline: 0,
    }
}

/// All throughput loads, the most telling ones first.
pub(crate) fn loads(is_quick: bool) -> Vec<Load> {
    let mut loads = Vec::new();
    for (bytes, is_compressed) in [(1024, false), (100, false), (1024, true), (100, true)] {
        for partitions in [1, 100, 1000] {
            loads.push(Load {
                bytes,
                partitions,
                is_compressed,
            });
        }
    }
    if is_quick {
        loads.retain(|load| load.partitions < 1000 && (load.bytes == 1024 || !load.is_compressed));
    }
    loads
}

fn latency(key: String, title: String, headline: usize) -> Shape {
    Shape {
        key,
        title,
        unit: "µs",
        better: Better::Lower,
        columns: PERCENTILES,
        headline,
    }
}

pub(crate) fn one() -> Shape {
    latency(
        "one".to_owned(),
        "One acknowledged 1 KiB message at a time".to_owned(),
        0,
    )
}

pub(crate) fn end_to_end(rate: u64) -> Shape {
    latency(
        format!("end-to-end-{rate}"),
        format!("End to end at {rate} messages of 1 KiB a second"),
        2,
    )
}

pub(crate) fn tail(consumers: usize, rate: u64) -> Shape {
    let who = match consumers {
        1 => "1 consumer".to_owned(),
        more => format!("{more} consumers, each of everything"),
    };
    latency(
        format!("tail-{consumers}"),
        format!("Tail read, {who}, at {rate} messages of 1 KiB a second"),
        2,
    )
}

pub(crate) fn start(key: &str, title: &str) -> Shape {
    Shape {
        key: format!("start-{key}"),
        title: format!("Start {title}, until the first answer"),
        unit: "ms",
        better: Better::Lower,
        columns: &["time"],
        headline: 0,
    }
}

pub(crate) fn memory(key: &str, title: &str) -> Shape {
    Shape {
        key: format!("memory-{key}"),
        title: format!("Resident memory, {title}"),
        unit: "MB",
        better: Better::Lower,
        columns: &["memory"],
        headline: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_key_of_its_own() {
        let loads = loads(false);
        let keys: BTreeSet<String> = loads
            .iter()
            .flat_map(|load| [load.produce().key, load.consume().key, load.cpu("read").key])
            .collect();
        assert_eq!(keys.len(), 3 * loads.len());
    }

    #[test]
    fn percentiles_have_a_quantile_each() {
        assert_eq!(PERCENTILES.len(), QUANTILES.len());
    }
}
