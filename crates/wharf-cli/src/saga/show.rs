//! `wharf saga show`.

use clap::Args;
use serde_json::{Value, json};

use super::timeline::{clipped, steps};
use super::{get, path, timeline_of};
use crate::cli::Outcome;
use crate::node_api::NodeApi;
use crate::output::{self, Format, OutputArguments, cell, clean};
use crate::schema::encoded;

/// Show a saga: where it stands, what happened, what would be undone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga show $id
  wharf saga show $id --undo                 only what would be undone if it were aborted now
  wharf saga show $id --full                 inputs and outputs as long as they are
  wharf saga show $id -o json | jq .timeline

Exit codes: 0 it goes on or ended, 1 it waits for a person, 3 there is no such saga or the node could not be asked.")]
pub(crate) struct Show {
    /// The saga
    #[arg(value_name = "ID")]
    id: String,
    /// Only what would be undone if it were aborted now, in order
    #[arg(long)]
    undo: bool,
    /// Do not shorten inputs and outputs
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

impl Show {
    /// Shows.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let id = encoded(&self.id);
        let ask = |tail: &str| get(&self.node, &path(&format!("/{id}{tail}")));
        let saga = ask("")?;
        // Nothing of a saga that ended is undone, whether or not its definition is still there.
        let undo = match saga["ended"].is_null() {
            true => ask("/undo")?,
            false => json!({ "undo": [] }),
        };
        if self.undo {
            match self.output.format {
                Format::Table => output::text(&undone(&undo["undo"]))?,
                format => output::one(format, &undo["undo"])?,
            }
            return Ok(Outcome::Done);
        }
        let timeline = timeline_of(&self.node, &id)?;
        let width = if self.full { usize::MAX } else { 160 };
        match self.output.format {
            Format::Table => {
                let mut shown = head(&saga, width);
                shown.push_str("\nWhat happened:\n");
                shown.push_str(&steps(&timeline, width));
                if saga["ended"].is_null() {
                    shown.push_str("\nWhat would be undone now:\n");
                    shown.push_str(&undone(&undo["undo"]));
                }
                output::text(&shown)?;
            }
            format => {
                let all = json!({ "saga": saga, "timeline": timeline, "undo": undo["undo"] });
                output::one(format, &all)?;
            }
        }
        Ok(match saga["status"].as_str() {
            Some("PARKED") => Outcome::Negative,
            _ => Outcome::Done,
        })
    }
}

fn line(shown: &mut String, name: &str, value: &str) {
    shown.push_str(&format!("{name:<14}{value}\n"));
}

/// Where it stands.
fn head(saga: &Value, width: usize) -> String {
    let mut shown = String::new();
    line(&mut shown, "saga", &cell(&saga["id"]));
    let of = format!(
        "{} (definition {})",
        cell(&saga["type"]),
        cell(&saga["definition"])
    );
    line(&mut shown, "type", &of);
    let mut status = cell(&saga["status"]);
    for (key, word) in [
        ("paused", ", paused"),
        ("overdue", ", its deadline passed"),
        ("past_pivot", ", past its pivot: it is not undone any more"),
    ] {
        if saga[key] == true {
            status.push_str(word);
        }
    }
    line(&mut shown, "status", &status);
    for (key, name) in [
        ("key", "key"),
        ("correlation_id", "correlation"),
        ("parent", "parent"),
        ("started", "started"),
        ("updated", "updated"),
        ("ended", "ended"),
    ] {
        if !saga[key].is_null() {
            line(&mut shown, name, &cell(&saga[key]));
        }
    }
    for (name, value) in saga["attributes"].as_object().into_iter().flatten() {
        line(
            &mut shown,
            "attribute",
            &format!("{}={}", clean(name), cell(value)),
        );
    }
    line(&mut shown, "input", &clipped(&saga["input"], width));
    if !saga["output"].is_null() {
        line(&mut shown, "output", &clipped(&saga["output"], width));
    }
    if !saga["error"].is_null() {
        let error = format!("{}: {}", cell(&saga["error"]), cell(&saga["cause"]));
        line(&mut shown, "error", &error);
    }
    waits(&mut shown, saga, width);
    shown
}

/// What it waits for.
fn waits(shown: &mut String, saga: &Value, width: usize) {
    for step in saga["current"].as_array().into_iter().flatten() {
        let doing = match step["doing"].as_str() {
            // It is told below, with its error.
            Some("parked") => continue,
            Some("held") => "waits for a slot of its resource",
            Some("open") => "waits for its worker",
            Some("backoff") => "waits for its next attempt",
            Some("waiting") => "waits for its time",
            Some("listening") => "waits for a signal",
            Some("inside") => "waits for its branches",
            Some("aborting") => "waits for its sub-saga to be undone",
            Some("answered") => "has its answer, and goes on when the saga does",
            _ => "is about to go on",
        };
        let undo = if step["undo"] == true {
            "the undo of "
        } else {
            ""
        };
        let until = match step["until"].as_str() {
            Some(until) => format!(", until {}", clean(until)),
            None => String::new(),
        };
        let said = format!(
            "{undo}step {} {}, attempt {}, {doing}{until}",
            cell(&step["step"]),
            cell(&step["name"]),
            cell(&step["attempt"])
        );
        line(shown, "waits for", &said);
    }
    let sub_sagas = saga["sub_sagas"]["sagas"].as_array();
    for sub_saga in sub_sagas.into_iter().flatten() {
        let why = sub_saga["parked"].as_array().into_iter().flatten();
        let why: Vec<_> = why.map(cell).collect();
        let why = match why.is_empty() {
            true => String::new(),
            false => format!(" ({})", why.join("; ")),
        };
        let said = format!(
            "sub-saga {} of {}, which is {}{why}",
            cell(&sub_saga["id"]),
            cell(&sub_saga["type"]),
            cell(&sub_saga["status"]),
        );
        line(shown, "waits for", &said);
    }
    let open = saga["sub_sagas"]["open"].as_u64().unwrap_or_default();
    let named = sub_sagas.map_or(0, Vec::len) as u64;
    if open > named {
        line(shown, "", &format!("and for {} more", open - named));
    }
    for step in saga["parked_steps"].as_array().into_iter().flatten() {
        let undo = if step["undo"] == true {
            "the undo of "
        } else {
            ""
        };
        let said = format!(
            "a person: {undo}step {} {} ({}): {}: {}",
            cell(&step["step"]),
            cell(&step["name"]),
            cell(&step["reason"]),
            cell(&step["error"]),
            cell(&step["cause"]),
        );
        line(shown, "waits for", &said);
        line(
            shown,
            "",
            &format!("its input {}", clipped(&step["input"], width)),
        );
    }
    let kept = saga["kept_answers"].as_u64().unwrap_or_default();
    if kept > 0 {
        line(
            shown,
            "kept",
            &format!("{kept} answers, taken when it goes on"),
        );
    }
}

/// What an abort would undo.
fn undone(undo: &Value) -> String {
    let mut shown = String::new();
    for step in undo.as_array().into_iter().flatten() {
        let sure = match step["certain"].as_bool() {
            Some(true) => "",
            _ => "  (nobody knows whether it was done)",
        };
        shown.push_str(&format!(
            "  {}. step {} {}  {}{sure}\n",
            step["stage"].as_u64().unwrap_or_default() + 1,
            cell(&step["step"]),
            cell(&step["name"]),
            cell(&step["resource"]),
        ));
    }
    if shown.is_empty() {
        shown.push_str("  nothing\n");
    }
    shown
}
