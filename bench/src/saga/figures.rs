//! What is measured, in which units, and of whom.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde::Serialize;
use serde_json::Value;

use super::page;
use crate::limits::{Limits, Machine};
use crate::report::Unit;
use crate::say;

/// Everyone who is measured. Wharf is here once for each kind of worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    WharfRust,
    WharfKafka,
    WharfHttp,
    Restate,
    Temporal,
    Dbos,
}

impl Who {
    pub(super) const ALL: [Self; 6] = [
        Self::WharfRust,
        Self::WharfKafka,
        Self::WharfHttp,
        Self::Restate,
        Self::Temporal,
        Self::Dbos,
    ];

    /// The name in options.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::WharfRust => "wharf-rust",
            Self::WharfKafka => "wharf-kafka",
            Self::WharfHttp => "wharf-http",
            Self::Restate => "restate",
            Self::Temporal => "temporal",
            Self::Dbos => "dbos",
        }
    }

    /// The name for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::WharfRust => "Wharf, Rust handlers",
            Self::WharfKafka => "Wharf, Kafka workers",
            Self::WharfHttp => "Wharf, HTTP workers",
            Self::Restate => "Restate",
            Self::Temporal => "Temporal",
            Self::Dbos => "DBOS",
        }
    }

    /// Who does the steps.
    pub(super) fn worker(self) -> &'static str {
        match self {
            Self::WharfRust => "handlers in the process that starts the sagas, in Rust",
            Self::WharfKafka => {
                "a process in Rust with librdkafka: commands from a topic, replies to a topic"
            }
            Self::WharfHttp => "a process in Node.js: one request for each step",
            Self::Restate => "a process in Node.js with Restate's SDK: `ctx.run` for each step",
            Self::Temporal => "a process in Python with Temporal's SDK: an activity for each step",
            Self::Dbos => "steps in the process that starts the workflows, in Python",
        }
    }

    /// What has happened to a step when the next one begins.
    pub(super) fn durable(self) -> &'static str {
        match self {
            Self::WharfRust | Self::WharfKafka | Self::WharfHttp => {
                "its facts are synced in the journal, several sagas in one sync"
            }
            Self::Restate => "its default: journal entries synced in the log of RocksDB",
            Self::Temporal => {
                "`temporal server start-dev --db-filename`, its default: a file of SQLite, committed for each change"
            }
            Self::Dbos => {
                "its default: a row committed in Postgres, which syncs (`synchronous_commit=on`)"
            }
        }
    }

    pub(super) fn is_wharf(self) -> bool {
        matches!(self, Self::WharfRust | Self::WharfKafka | Self::WharfHttp)
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(super) value: f64,
    pub(super) unit: Unit,
    /// Two percentiles, in milliseconds: of a whole saga under a rate, of what the row says elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99: Option<f64>,
    /// What must be known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

impl Figure {
    pub(super) fn new(value: f64, unit: Unit) -> Self {
        Self {
            value,
            unit,
            p50: None,
            p99: None,
            note: None,
        }
    }

    pub(super) fn with_percentiles(self, p50: f64, p99: f64) -> Self {
        Self {
            p50: Some(p50),
            p99: Some(p99),
            ..self
        }
    }

    pub(super) fn noting(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
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
    pub(super) machine: Machine,
    pub(super) limits: Limits,
    /// How many sagas were under way at once, and at which rate they came when the load was low.
    pub(super) at_once: usize,
    pub(super) paced: u32,
    pub(super) versions: BTreeMap<Who, String>,
    pub(super) rows: BTreeMap<&'static str, BTreeMap<Who, Outcome>>,
}

impl Report {
    pub(super) fn add(&mut self, row: &'static str, who: Who, figure: Result<Figure>) {
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

    /// The rows that some of them should have and have not, and why.
    pub(super) fn missing(&self, whose: fn(Who) -> bool) -> Vec<String> {
        let mut all = Vec::new();
        for (row, outcomes) in &self.rows {
            for (who, outcome) in outcomes.iter().filter(|(who, _)| whose(**who)) {
                if let Outcome::Missing(why) = outcome {
                    all.push(format!("{row} of {}: {why}", who.key()));
                }
            }
        }
        all
    }

    pub(super) fn has(&self, row: &str, who: Who) -> bool {
        self.rows.get(row).is_some_and(|row| row.contains_key(&who))
    }

    pub(super) fn figure(&self, row: &str, who: Who) -> Option<&Figure> {
        match self.rows.get(row)?.get(&who)? {
            Outcome::Measured(figure) => Some(figure),
            Outcome::Missing(_) => None,
        }
    }
}

/// A number of an answer in JSON.
pub(super) fn number(answer: &Value, name: &str) -> Result<f64> {
    answer[name]
        .as_f64()
        .ok_or_else(|| anyhow!("no {name} in {answer}"))
}
