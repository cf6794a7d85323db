//! What was measured: rows with a cell for each server, as JSON and as the generated page.

mod page;
mod plot;
mod targets;
mod unit;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

pub(crate) use page::{Target, number, verdicts};
pub(crate) use unit::{Unit, noted};

use anyhow::Result;
use serde::Serialize;

use crate::limits::{Limits, Machine};
use crate::say;

/// Ends a benchmark with a page of its own: the page and the figures as JSON in `folder`, the targets
/// and where all is for the terminal.
pub(crate) fn write(
    folder: &Path,
    name: &str,
    figures: &impl Serialize,
    page: &str,
    targets: &str,
    began: Instant,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(folder.join(name).with_extension("json"), json)?;
    fs::write(folder.join(name).with_extension("md"), page)?;
    say(format!("\n{targets}"));
    let (out, seconds) = (folder.display(), began.elapsed().as_secs());
    say(format!("written to {out} after {seconds} s"));
    Ok(())
}

/// Which values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// The outcome of one row for one server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// One value for each column.
    Values(Vec<f64>),
    /// Why there are none.
    Missing(String),
}

#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) server: &'static str,
    pub(crate) outcome: Outcome,
    /// What else is known, such as who used the processor.
    pub(crate) note: String,
}

/// The shape of a row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shape {
    /// The name in options and files.
    pub(crate) key: String,
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) columns: &'static [&'static str],
    /// The column that is compared.
    pub(crate) headline: usize,
}

/// One measurement of all servers.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) shape: Shape,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// The value that is compared, of one server.
    pub(crate) fn headline(&self, server: &str) -> Option<f64> {
        self.value(server, self.shape.headline)
    }

    /// One column's value of one server.
    pub(crate) fn value(&self, server: &str, column: usize) -> Option<f64> {
        let cell = self.cells.iter().find(|cell| cell.server == server)?;
        match &cell.outcome {
            Outcome::Values(values) => values.get(column).copied(),
            Outcome::Missing(_) => None,
        }
    }

    /// How many times better Wharf is than another server.
    pub(crate) fn advantage(&self, server: &str) -> Option<f64> {
        let (wharf, other) = (self.headline("wharf")?, self.headline(server)?);
        let ratio = match self.shape.better {
            Better::Higher => wharf / other,
            Better::Lower => other / wharf,
        };
        ratio.is_finite().then_some(ratio)
    }
}

/// A server as the page names it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Named {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) acknowledged: &'static str,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) limits: Limits,
    /// How each measurement was taken.
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) binary_megabytes: f64,
    /// What the client produces to nobody, in MB/s, by the row that it bounds.
    pub(crate) ceilings: BTreeMap<String, f64>,
    pub(crate) servers: Vec<Named>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Adds a cell to its row, which is made when it is the first.
    pub(crate) fn add(&mut self, shape: &Shape, cell: Cell) {
        let value = match &cell.outcome {
            Outcome::Values(values) => values
                .iter()
                .zip(shape.columns)
                .map(|(value, column)| format!("{column} {}", number(*value)))
                .collect::<Vec<_>>()
                .join(", "),
            Outcome::Missing(why) => format!("not measured: {why}"),
        };
        say(format!("    {} [{}]: {value}", shape.title, shape.unit));
        let row = self.rows.iter_mut().find(|row| row.shape.key == shape.key);
        match row {
            Some(row) => row.cells.push(cell),
            None => self.rows.push(Row {
                shape: shape.clone(),
                cells: vec![cell],
            }),
        }
    }

    pub(crate) fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.shape.key == key)
    }

    /// Writes the page, a plot for each row, and the figures as JSON.
    pub(crate) fn write(&self, folder: &Path, limits: &str) -> Result<()> {
        let plots = folder.join("plots");
        if plots.exists() {
            fs::remove_dir_all(&plots)?;
        }
        fs::create_dir_all(&plots)?;
        for row in &self.rows {
            fs::write(folder.join(page::plot_path(row)), plot::draw(self, row))?;
        }
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(folder.join("broker.json"), json)?;
        fs::write(folder.join("README.md"), page::write(self, limits))?;
        Ok(())
    }

    /// The targets and how they were met, for the terminal.
    pub(crate) fn summary(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["target", "measured", ""]);
        for target in targets::judge(self) {
            table.add_row([target.text, target.measured, target.verdict.to_owned()]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run on two cores with a disk of 1,000 MB/s.
    pub(super) fn report(rows: Vec<Row>) -> Report {
        let named = |key, name| Named {
            key,
            name,
            version: "1".to_owned(),
            acknowledged: "synced to the disk",
        };
        Report {
            machine: Machine {
                processor: "a processor".to_owned(),
                cores: 2,
                memory_gib: 24.0,
                kernel: "6".to_owned(),
                file_system: "ext4".to_owned(),
            },
            limits: Limits {
                sync_p50_micros: 50.0,
                sync_p99_micros: 500.0,
                disk_megabytes_per_second: 1000.0,
                sendfile_megabytes_per_second: 3000.0,
            },
            rounds: 3,
            seconds: 2.0,
            binary_megabytes: 20.0,
            ceilings: BTreeMap::new(),
            servers: vec![named("wharf", "Wharf"), named("kafka", "Apache Kafka")],
            rows,
        }
    }

    /// A row with two servers.
    pub(super) fn row(key: &str, better: Better, wharf: f64, other: f64) -> Row {
        let cell = |server, value| Cell {
            server,
            outcome: Outcome::Values(vec![value]),
            note: String::new(),
        };
        Row {
            shape: Shape {
                key: key.to_owned(),
                title: "a row".to_owned(),
                unit: "MB/s",
                better,
                columns: &["median"],
                headline: 0,
            },
            cells: vec![cell("wharf", wharf), cell("kafka", other)],
        }
    }

    #[test]
    fn better_is_above_one_whichever_way_the_unit_points() {
        let rate = row("produce", Better::Higher, 300.0, 100.0);
        let time = row("start", Better::Lower, 100.0, 300.0);
        for row in [rate, time] {
            let advantage = row.advantage("kafka").expect("both are there");
            assert!((advantage - 3.0).abs() < 1e-9);
            assert!(row.advantage("nats").is_none());
        }
    }
}
