//! What the API, the topics and the metrics say, compared with the history of each saga.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_saga::machine::Saga;

use super::super::operators::REASON;
use super::{Evidence, Fate, Seen, Story, status};

type Stories<'a> = BTreeMap<&'a str, Story>;

/// Whoever was answered, or whose record was acknowledged, has its saga; nobody else has one; no key
/// has two.
pub(super) fn starts(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    let mut there = BTreeMap::new();
    for (id, seen) in &evidence.sagas {
        let text = |name: &str| seen.row[name].as_str().unwrap_or_default().to_owned();
        let name = (text("type"), text("key"));
        match evidence.known.asked.get(&name) {
            // Whether its parent asked for it is another check.
            None if seen.row["parent"].is_string() => {}
            None => found.push(format!("{id}: {name:?} was never asked for")),
            Some(input) if *input != seen.shown["input"] => {
                found.push(format!("{id}: {name:?} has another input"));
            }
            Some(_) => {}
        }
        if let Some(other) = there.insert(name.clone(), id) {
            found.push(format!("{name:?} is {id} and {other}"));
        }
    }
    for (name, id) in &evidence.known.answered {
        if there.get(name).copied() != Some(id) {
            found.push(format!(
                "{name:?} was answered with {id}, and is {:?}",
                there.get(name)
            ));
        }
    }
    for name in &evidence.known.recorded {
        if !there.contains_key(name) {
            found.push(format!(
                "{name:?}: its record was acknowledged, and there is no saga"
            ));
        }
    }
    found
}

/// Every saga came to an end, once, or is parked with a reason.
pub(super) fn ends(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, seen) in &evidence.sagas {
        let Some(story) = stories.get(id.as_str()) else {
            continue;
        };
        let status = status(seen);
        let ends = match status {
            "COMPLETED" | "COMPENSATED" | "ABORTED_BY_OPERATOR" => story.redrives + 1,
            "PARKED" => {
                let steps = seen.shown["parked_steps"].as_array();
                let steps = steps.map_or(&[][..], Vec::as_slice);
                if steps.is_empty() {
                    found.push(format!("{id}: parked without a step"));
                }
                for step in steps {
                    let number = step["step"]
                        .as_u64()
                        .and_then(|step| u32::try_from(step).ok());
                    let reason = step["reason"].as_str().unwrap_or_default().to_owned();
                    let alarm = (id.clone(), number, reason);
                    if !evidence.alarms.contains(&alarm) {
                        found.push(format!("{id}: nobody was told of {alarm:?}"));
                    }
                }
                story.redrives
            }
            _ if waits_for_parked(evidence, id) => story.redrives,
            _ => {
                found.push(format!("{id}: it is {status}: {}", seen.shown["current"]));
                continue;
            }
        };
        if story.ends != ends {
            found.push(format!("{id}: {status} after {} ends", story.ends));
        }
        if seen.shown["paused"] != json!(false) {
            found.push(format!("{id}: it is paused"));
        }
    }
    let parked = evidence
        .sagas
        .values()
        .filter(|seen| status(seen) == "PARKED");
    let parked = parked.count() as u64;
    if evidence.parked != parked {
        found.push(format!(
            "{parked} are parked, the metric says {}",
            evidence.parked
        ));
    }
    found
}

/// Whether a sub-saga of it waits for a person.
fn waits_for_parked(evidence: &Evidence, id: &str) -> bool {
    let mut sagas = evidence.sagas.values();
    sagas.any(|seen| seen.row["parent"] == *id && status(seen) == "PARKED")
}

/// A sub-saga was asked for by its parent; of a parent that completed one of them is completed, of one
/// that was undone as many are completed as were undone by another.
pub(super) fn children(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    // By the parent's step, and whether it is an undo: how many there are, and how many completed.
    let mut children: BTreeMap<(&str, u32, bool), (usize, usize)> = BTreeMap::new();
    for (id, seen) in &evidence.sagas {
        let Some(parent) = seen.row["parent"].as_str() else {
            continue;
        };
        let key = seen.row["key"].as_str().unwrap_or_default();
        let mut parts = key.split('/');
        let is_parents = parts.next() == Some(parent);
        let step = parts.next().and_then(|step| step.parse().ok());
        let asked = step.and_then(|step| stories.get(parent)?.steps.get(&step));
        let (Some(step), true) = (step, is_parents && asked.is_some_and(|step| step.is_saga))
        else {
            found.push(format!("{id}: {parent} did not ask for {key}"));
            continue;
        };
        let count = children.entry((parent, step, parts.next() == Some("undo")));
        let count = count.or_default();
        count.0 += 1;
        count.1 += usize::from(status(seen) == "COMPLETED");
    }
    for (id, story) in stories {
        for (number, step) in story.steps.iter().filter(|(_, step)| step.is_saga) {
            let count = |undo| children.get(&(*id, *number, undo)).copied();
            let (forward, done) = count(false).unwrap_or_default();
            let (back, undone) = count(true).unwrap_or_default();
            let status = evidence.sagas.get(*id).map(status).unwrap_or_default();
            let is_right = match status {
                "COMPLETED" => done == 1 && back == 0,
                "COMPENSATED" | "ABORTED_BY_OPERATOR" => done <= 1 && done == undone,
                _ => done <= 1 && undone <= done,
            };
            if !is_right || forward > step.sent.len() || back > step.undo_sent.len() {
                found.push(format!(
                    "{id} {} of a saga that is {status}: {done} of {forward} completed, {undone} of \
                     {back} undid them",
                    step.name
                ));
            }
        }
    }
    found
}

/// What is listed and shown is what the kept facts add up to.
pub(super) fn pages(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for (id, seen) in &evidence.sagas {
        for (field, value, wanted) in differences(seen) {
            found.push(format!(
                "{id}: `{field}` is {value}, by the history {wanted}"
            ));
        }
    }
    found
}

fn differences(seen: &Seen) -> Vec<(String, Value, Value)> {
    let saga = Saga::replay(&seen.facts);
    let start = saga.start();
    let mut steps: Vec<_> = saga.current().into_iter().map(|step| step.name).collect();
    steps.dedup();
    let wanted = json!({
        "id": saga.id().map(|id| id.to_string()),
        "type": start.map(|start| &start.saga_type),
        "key": start.map(|start| &start.key),
        "status": saga.status(),
        "paused": saga.is_paused(),
        "steps": steps,
        "error": saga.error().map(|(error, _)| error),
        "started": saga.started().to_rfc3339(),
        "updated": saga.updated().to_rfc3339(),
        "ended": saga.ended().map(wharf_message::Timestamp::to_rfc3339),
    });
    let mut wrong = Vec::new();
    for (field, wanted) in wanted.as_object().into_iter().flatten() {
        if seen.row[field] != *wanted {
            wrong.push((field.clone(), seen.row[field].clone(), wanted.clone()));
        }
    }
    for (field, listed) in seen.row.as_object().into_iter().flatten() {
        if seen.shown[field] != *listed {
            wrong.push((field.clone(), listed.clone(), seen.shown[field].clone()));
        }
    }
    let input = json!(start.map(|start| &start.input));
    if seen.shown["input"] != input {
        wrong.push(("input".to_owned(), seen.shown["input"].clone(), input));
    }
    let output = json!(saga.output());
    if seen.shown["output"] != output {
        wrong.push(("output".to_owned(), seen.shown["output"].clone(), output));
    }
    wrong
}

/// What is in one and not in the other, each as often as it is there.
fn compare<T: Ord + std::fmt::Debug>(
    wanted: impl IntoIterator<Item = T>,
    there: impl IntoIterator<Item = T>,
    name: &str,
) -> Vec<String> {
    let mut counts: BTreeMap<T, i64> = BTreeMap::new();
    for one in wanted {
        *counts.entry(one).or_default() += 1;
    }
    for one in there {
        *counts.entry(one).or_default() -= 1;
    }
    let wrong = counts.into_iter().filter(|(_, count)| *count != 0);
    wrong
        .map(|(one, count)| match count {
            1.. => format!("{one:?}: {count} times in the history without {name}"),
            _ => format!("{one:?}: {} times {name} without history", -count),
        })
        .collect()
}

/// A dispatch and its command are one commit: each is there as often as the other.
pub(super) fn commands(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let dispatched = stories.values().flat_map(|story| story.commands.clone());
    compare(dispatched, evidence.commands.clone(), "a command")
}

/// The same of parkings and alarms.
pub(super) fn alarms(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let parked = stories.values().flat_map(|story| story.parked.clone());
    compare(parked, evidence.alarms.clone(), "an alarm")
}

/// An accepted action is in the history of its saga and in the audit topic, once; a refused one is
/// nowhere.
pub(super) fn acts(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let recorded = || stories.values().flat_map(|story| story.acts.clone());
    let mut found = compare(recorded(), evidence.audit.clone(), "a record of the audit");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in recorded() {
        *counts.entry(reason).or_default() += 1;
    }
    for (reason, fate) in &evidence.known.acts {
        let count = counts.remove(reason).unwrap_or(0);
        let is_right = match fate {
            Fate::Accepted => count == 1,
            Fate::Refused => count == 0,
            Fate::Unknown => count <= 1,
        };
        if !is_right {
            found.push(format!(
                "{reason}: {fate:?}, and {count} times in the history"
            ));
        }
    }
    counts.retain(|reason, _| reason.starts_with(REASON));
    found.extend(
        counts
            .keys()
            .map(|reason| format!("{reason}: nobody ordered it")),
    );
    found
}
