//! People who look after the sagas, and get in their way: they pause, resume, abort, retry, skip, mark,
//! edit and redrive while everything is being killed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::check::Fate;
use super::clients::Shared;
use super::{http, read};
use crate::random::Random;

/// How every reason of theirs begins; a number follows.
pub(super) const REASON: &str = "order-of-operator-";
/// How long an operator waits before the next action.
const PAUSE_MILLIS: u64 = 500;
/// How many sagas one looks at before choosing.
const LOOKED_AT: usize = 40;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Starts the operators.
pub(super) fn start(shared: &Shared, random: &mut Random) -> Vec<JoinHandle<()>> {
    let operator = |_| {
        let (shared, random) = (shared.clone(), Random::new(random.next()));
        thread::spawn(move || {
            shared.work(random, PAUSE_MILLIS, |random| {
                // A node that is down is met again.
                turn(&shared, random).ok();
            });
        })
    };
    (0..2).map(operator).collect()
}

fn turn(shared: &Shared, random: &mut Random) -> Result<()> {
    let (filter, actions): (&str, &[&str]) = match random.below(8) {
        0..3 => ("&status=RUNNING", &["pause", "abort", "pause", "retry"]),
        3..5 => ("&paused=true", &["resume"]),
        5 => ("&status=COMPENSATED", &["redrive"]),
        6 => ("&status=COMPENSATING", &["pause", "abort", "resume"]),
        _ => ("&status=PARKED", &["repair"]),
    };
    let page = http::read(
        &shared.api,
        &format!("/api/v1/sagas?limit={LOOKED_AT}{filter}"),
    )?;
    let rows = page["sagas"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return Ok(());
    }
    let row = random.pick(rows);
    let id = row["id"].as_str().context("a row without an id")?;
    match *random.pick(actions) {
        "repair" => repair(shared, id, random),
        action => act(shared, id, action, &json!({})),
    }
}

/// What may be done about a parked saga without making its books wrong: a step without money may be
/// skipped, marked or edited; everything may be tried again.
fn repair(shared: &Shared, id: &str, random: &mut Random) -> Result<()> {
    let shown = http::read(&shared.api, &format!("/api/v1/sagas/{id}"))?;
    let Some(step) = shown["parked_steps"]
        .as_array()
        .and_then(|steps| steps.first())
    else {
        return Ok(());
    };
    let number = &step["step"];
    if step["name"] != "Receipt" {
        return act(shared, id, "retry", &json!({ "step": number }));
    }
    match random.below(4) {
        0 => act(
            shared,
            id,
            "skip",
            &json!({ "step": number, "output": { "skipped": true } }),
        ),
        1 => act(
            shared,
            id,
            "mark",
            &json!({ "step": number, "as": "completed", "output": { "by": "hand" } }),
        ),
        2 => act(shared, id, "retry", &json!({ "step": number })),
        _ => {
            let mut input = step["input"].clone();
            input["receipt"] = "good".into();
            act(
                shared,
                id,
                "edit",
                &json!({ "step": number, "input": input }),
            )?;
            act(shared, id, "retry", &json!({ "step": number }))
        }
    }
}

/// One action with a reason that nobody else has; what became of it is noted.
pub(super) fn act(shared: &Shared, id: &str, action: &str, rest: &Value) -> Result<()> {
    let reason = format!("{REASON}{}", NUMBER.fetch_add(1, Ordering::SeqCst));
    let mut body = json!({ "by": "ada", "reason": reason });
    for (name, value) in rest.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    // Whoever dies in between does not know.
    shared.known().acts.insert(reason.clone(), Fate::Unknown);
    let path = format!("/api/v1/sagas/{id}/{action}");
    let (status, text) = http::ask(&shared.api, "POST", &path, Some(&body))?;
    let fate = match status {
        200 => Fate::Accepted,
        400..500 => Fate::Refused,
        _ => Fate::Unknown,
    };
    shared.known().acts.insert(reason, fate);
    if status >= 500 && status != 503 {
        let text = format!("{action} of {id}: {status} {text}");
        shared.known().violations.push(text.clone());
        bail!(text);
    }
    Ok(())
}

/// Resumes every saga that is paused, so that each comes to rest.
pub(super) fn resume_all(shared: &Shared) -> Result<()> {
    for row in read::list(&shared.api, "&paused=true")? {
        let id = row["id"].as_str().unwrap_or_default();
        act(shared, id, "resume", &json!({}))?;
    }
    Ok(())
}

/// Tries every parked saga again.
pub(super) fn retry_all(shared: &Shared) -> Result<usize> {
    let mut count = 0;
    for row in read::list(&shared.api, "&status=PARKED")? {
        let id = row["id"].as_str().unwrap_or_default();
        let shown = http::read(&shared.api, &format!("/api/v1/sagas/{id}"))?;
        for step in shown["parked_steps"].as_array().into_iter().flatten() {
            act(shared, id, "retry", &json!({ "step": step["step"] }))?;
            count += 1;
        }
    }
    Ok(count)
}
