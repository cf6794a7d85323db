//! A saga's timeline as text: each visit of a state, each attempt, and what people did.

use serde_json::Value;

use crate::output::{cell, clean};

/// A value as JSON in one line, no longer than `width` characters.
pub(super) fn clipped(value: &Value, width: usize) -> String {
    let whole = clean(&value.to_string());
    if whole.chars().nth(width).is_none() {
        return whole;
    }
    whole.chars().take(width).chain(['…']).collect()
}

fn line(shown: &mut String, depth: usize, said: &str) {
    shown.push_str(&format!("{:depth$}{said}\n", ""));
}

/// The steps in order, then what concerns the saga as a whole.
pub(super) fn steps(timeline: &Value, width: usize) -> String {
    let mut shown = String::new();
    for visit in timeline["steps"].as_array().into_iter().flatten() {
        self::visit(&mut shown, visit, width);
    }
    for event in timeline["events"].as_array().into_iter().flatten() {
        let said = told(&event["what"], width);
        line(&mut shown, 2, &format!("{}  {said}", cell(&event["at"])));
    }
    shown
}

fn visit(shown: &mut String, visit: &Value, width: usize) {
    let mut head = format!(
        "{}  step {} {}",
        cell(&visit["entered"]),
        cell(&visit["step"]),
        cell(&visit["name"])
    );
    if let Some(until) = visit["waits_until"].as_str() {
        head.push_str(&format!(", waits until {}", clean(until)));
    }
    if let Some(left) = visit["left"].as_str() {
        head.push_str(&format!(", left {}", clean(left)));
    }
    line(shown, 2, &head);
    for attempt in visit["attempts"].as_array().into_iter().flatten() {
        self::attempt(shown, attempt, width);
    }
    for note in visit["notes"].as_array().into_iter().flatten() {
        let said = told(&note["what"], width);
        line(shown, 6, &format!("{}  {said}", cell(&note["at"])));
    }
    if !visit["output"].is_null() {
        line(
            shown,
            6,
            &format!("goes on with {}", clipped(&visit["output"], width)),
        );
    }
}

fn attempt(shown: &mut String, attempt: &Value, width: usize) {
    let undo = if attempt["undo"] == true {
        "undo, "
    } else {
        ""
    };
    let mut head = format!(
        "{}  {undo}attempt {} to {}: {}",
        cell(&attempt["dispatched"]),
        cell(&attempt["attempt"]),
        cell(&attempt["resource"]),
        cell(&attempt["outcome"]),
    );
    if let Some(ended) = attempt["ended"].as_str() {
        head.push_str(&format!(" {}", clean(ended)));
    }
    if attempt["declared"] == true {
        head.push_str(", and nothing was done");
    }
    line(shown, 6, &head);
    line(
        shown,
        10,
        &format!("input {}", clipped(&attempt["input"], width)),
    );
    if attempt.get("output").is_some() {
        line(
            shown,
            10,
            &format!("output {}", clipped(&attempt["output"], width)),
        );
    }
    if let Some(error) = attempt["error"].as_str() {
        let cause = attempt["cause"].as_str().unwrap_or_default();
        line(
            shown,
            10,
            &format!("error {}: {}", clean(error), clean(cause)),
        );
    }
}

/// A fact in a few words: its name, and what it says.
fn told(what: &Value, width: usize) -> String {
    let Some((name, said)) = what.as_object().and_then(|all| all.iter().next()) else {
        return cell(what);
    };
    let field = |key: &str| cell(&said[key]);
    match name.as_str() {
        "acted" => {
            let action = match &said["action"] {
                Value::Object(action) => action.keys().next().map_or("-", String::as_str),
                other => other.as_str().unwrap_or("-"),
            };
            format!("{} by {}: {}", clean(action), field("by"), field("reason"))
        }
        "parked" => {
            let undo = if said["undo"] == true {
                "its undo "
            } else {
                ""
            };
            format!(
                "{undo}parked ({}): {}: {}",
                field("reason"),
                field("error"),
                field("cause")
            )
        }
        "compensating" => {
            format!(
                "undone from here, by {}: {}: {}",
                field("trigger"),
                field("error"),
                field("cause")
            )
        }
        "started" => "started".to_owned(),
        "ended" => format!("ended {}", field("status")),
        "retrying" => format!("is tried again at {}", moment(&said["until"])),
        "listening" => match said["until"].is_null() {
            true => format!("waits for the signal {}", field("signal")),
            false => format!(
                "waits for the signal {} until {}",
                field("signal"),
                moment(&said["until"])
            ),
        },
        _ => {
            let mut said = said.clone();
            if let Value::Object(said) = &mut said {
                said.remove("step");
            }
            let name = clean(&name.replace('_', " "));
            match &said {
                Value::Object(fields) if fields.is_empty() => name,
                said => format!("{name} {}", clipped(said, width)),
            }
        }
    }
}

/// A moment, which facts have in milliseconds.
fn moment(value: &Value) -> String {
    match value.as_i64() {
        Some(millis) => wharf_message::Timestamp::from_millis(millis).to_rfc3339(),
        None => cell(value),
    }
}
