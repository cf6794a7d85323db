//! What happened, from the facts alone: one row for each attempt, wait, turn and action.

use serde::Serialize;
use wharf_message::Timestamp;

use super::data::{Data, millis};
use super::fact::{Fact, What};
use std::collections::BTreeMap;

/// One row of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// When it began.
    #[serde(with = "millis")]
    pub at: Timestamp,
    /// When it ended; absent while it goes on.
    #[serde(skip_serializing_if = "Option::is_none", with = "millis::option")]
    pub until: Option<Timestamp>,
    /// The visit; 0 for the saga as a whole.
    pub step: u32,
    /// The state's name; empty for the saga as a whole.
    pub name: String,
    /// Which attempt, where it is one.
    pub attempt: u32,
    /// The dispatch, where it is one.
    pub generation: u32,
    /// Whether it is of the undo.
    pub undo: bool,
    /// What it is, in one word: `state`, `attempt`, `wait`, `signal`, `turn`, `parked`, `operator`,
    /// `late`, `stale`, `end`.
    pub what: &'static str,
    /// How it stands or ended, in a few words.
    pub outcome: String,
    /// What went in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Data>,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Data>,
    /// The error's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// The rows of a saga's history.
pub fn timeline<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<Row> {
    let mut build = Build::default();
    for fact in facts {
        build.take(fact);
    }
    build.rows
}

#[derive(Default)]
struct Build {
    rows: Vec<Row>,
    /// The state of each visit.
    names: BTreeMap<u32, String>,
    /// The row that is open for each visit, and the one of the state itself.
    open: BTreeMap<u32, usize>,
    states: BTreeMap<u32, usize>,
}

impl Build {
    fn row(&mut self, at: Timestamp, step: u32, what: &'static str) -> &mut Row {
        let row = Row {
            at,
            until: None,
            step,
            name: self.names.get(&step).cloned().unwrap_or_default(),
            attempt: 0,
            generation: 0,
            undo: false,
            what,
            outcome: String::new(),
            input: None,
            output: None,
            error: None,
            cause: None,
        };
        self.rows.push(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    fn close(&mut self, at: Timestamp, step: u32, outcome: &str) -> Option<&mut Row> {
        let row = self.open.remove(&step)?;
        let row = self.rows.get_mut(row)?;
        row.until = Some(at);
        outcome.clone_into(&mut row.outcome);
        Some(row)
    }

    fn take(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.what {
            What::Started { start, .. } => {
                let row = self.row(at, 0, "state");
                row.outcome = "started".to_owned();
                row.input = Some(start.input.clone());
            }
            What::Entered { step, state, .. } => {
                self.names.insert(*step, state.clone());
                let place = self.rows.len();
                self.states.insert(*step, place);
                self.row(at, *step, "state").outcome = "entered".to_owned();
            }
            What::Dispatched(sent) => {
                self.names.insert(sent.step, sent.state.clone());
                self.open.insert(sent.step, self.rows.len());
                let row = self.row(at, sent.step, "attempt");
                row.attempt = sent.attempt;
                row.generation = sent.generation;
                row.undo = sent.undo;
                row.input = Some(sent.arguments.clone());
                row.outcome = "open".to_owned();
            }
            What::Waiting { step, until } => {
                self.open.insert(*step, self.rows.len());
                let row = self.row(at, *step, "wait");
                row.outcome = format!("until {}", until.to_rfc3339());
            }
            What::Listening { step, signal, .. } => {
                self.open.insert(*step, self.rows.len());
                self.row(at, *step, "signal").outcome = format!("waits for {signal}");
            }
            What::Succeeded { step, output, .. } => {
                if let Some(row) = self.close(at, *step, "succeeded") {
                    row.output = Some(output.clone());
                }
            }
            What::Failed(failed) => {
                let outcome = if failed.declared {
                    "declared"
                } else {
                    "failed"
                };
                if !self.open.contains_key(&failed.step) {
                    self.open.insert(failed.step, self.rows.len());
                    self.row(at, failed.step, "attempt").undo = failed.undo;
                }
                if let Some(row) = self.close(at, failed.step, outcome) {
                    row.error = Some(failed.error.clone());
                    row.cause = Some(failed.cause.clone());
                }
            }
            What::Left(left) => {
                self.close(at, left.step, "done");
                let row = self.states.remove(&left.step);
                if let Some(row) = row.and_then(|row| self.rows.get_mut(row)) {
                    row.until = Some(at);
                    row.output = Some(left.output.clone());
                    row.outcome = if left.caught { "caught" } else { "left" }.to_owned();
                }
            }
            What::Stopped { step, .. } => {
                self.close(at, *step, "stopped");
                let row = self.states.remove(step);
                if let Some(row) = row.and_then(|row| self.rows.get_mut(row)) {
                    row.until = Some(at);
                    row.outcome = "stopped".to_owned();
                }
            }
            other => self.turn(at, other),
        }
    }

    fn turn(&mut self, at: Timestamp, what: &What) {
        match what {
            What::Compensating { error, cause, .. } => {
                let row = self.row(at, 0, "turn");
                row.outcome = "compensating".to_owned();
                row.error = Some(error.clone());
                row.cause = Some(cause.clone());
            }
            What::Undone {
                step, how, output, ..
            } => {
                let outcome = match how {
                    super::Undone::Done => "undone",
                    super::Undone::Nothing => "nothing to undo",
                    super::Undone::Skipped => "undo skipped",
                    super::Undone::Marked => "marked compensated",
                    super::Undone::GivenUp => "undo given up",
                    super::Undone::Inside => "undone inside",
                };
                if !self.open.contains_key(step) {
                    self.open.insert(*step, self.rows.len());
                    self.row(at, *step, "turn").undo = true;
                }
                if let Some(row) = self.close(at, *step, outcome) {
                    row.output.clone_from(output);
                }
            }
            What::Late { step, .. } => self.row(at, *step, "late").outcome = "answered".to_owned(),
            What::StaleReply {
                step,
                generation,
                said,
            } => {
                let row = self.row(at, *step, "stale");
                row.generation = *generation;
                row.outcome.clone_from(said);
            }
            What::Parked {
                step,
                reason,
                undo,
                error,
                cause,
            } => {
                let row = self.row(at, step.unwrap_or(0), "parked");
                row.outcome = reason.to_string();
                row.undo = *undo;
                row.error = Some(error.clone());
                row.cause = Some(cause.clone());
            }
            What::Acted(order) => {
                let row = self.row(at, 0, "operator");
                let action = serde_json::to_string(&order.action).unwrap_or_default();
                row.outcome = format!("{} {action}", order.by);
                row.cause = Some(order.reason.clone());
            }
            What::BranchFailed { error, cause, .. } => {
                let row = self.row(at, 0, "turn");
                row.outcome = "a tolerated item failed".to_owned();
                row.error = Some(error.clone());
                row.cause = Some(cause.clone());
            }
            What::Redriven { .. } => self.row(at, 0, "turn").outcome = "redriven".to_owned(),
            What::Ended {
                status,
                output,
                error,
                cause,
            } => {
                let row = self.row(at, 0, "end");
                row.outcome = status.to_string();
                row.output.clone_from(output);
                row.error.clone_from(error);
                row.cause.clone_from(cause);
            }
            _ => {}
        }
    }
}
