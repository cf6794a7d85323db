//! The results: a table for people, JSON for comparing runs.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

/// What a value counts.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "MB/s")]
    Throughput,
    #[serde(rename = "µs")]
    Micros,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "MiB")]
    Mebibytes,
    #[serde(rename = "MB")]
    Megabytes,
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::Throughput => "MB/s",
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::Mebibytes => "MiB",
            Self::Megabytes => "MB",
        }
    }
}

#[derive(Debug, Serialize)]
struct Ratio {
    to: String,
    value: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: Unit,
    ratios: Vec<Ratio>,
}

/// The measurements of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a measurement.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: Unit) {
        crate::say(format!("    {name}: {value:.1} {}", unit.symbol()));
        self.rows.push(Row {
            name: name.to_owned(),
            value,
            unit,
            ratios: Vec::new(),
        });
    }

    /// Puts a ratio beside a measurement that was added before.
    pub(crate) fn compare(&mut self, name: &str, to: &str, other: f64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.ratios.push(Ratio {
                to: to.to_owned(),
                value: row.value / other,
            });
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["measurement", "value", "ratio"]);
        for row in &self.rows {
            let ratios: Vec<String> = row
                .ratios
                .iter()
                .map(|ratio| format!("{:.2} {}", ratio.value, ratio.to))
                .collect();
            let value = format!("{:.1} {}", row.value, row.unit.symbol());
            table.add_row([row.name.clone(), value, ratios.join("\n")]);
        }
        table
    }

    /// Writes the results as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_stands_beside_its_measurement() {
        let mut report = Report::default();
        report.add("produce", 300.0, Unit::Throughput);
        report.compare("produce", "of the disk's speed", 400.0);
        let table = report.table().to_string();
        assert!(
            table.contains("300.0 MB/s") && table.contains("0.75 of the disk's"),
            "{table}"
        );
    }
}
