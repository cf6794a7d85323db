//! The books of the banks, compared with the sagas.

use std::collections::BTreeMap;

use wharf_saga::machine::Undone;

use super::super::bank::Entry;
use super::super::machines;
use super::{Done, Evidence, Step, Story, status};

type Stories<'a> = BTreeMap<&'a str, Story>;

/// The rows of a step: those of the step and those of its undo.
#[derive(Debug, Default)]
struct Rows<'a> {
    done: Vec<&'a Entry>,
    undone: Vec<&'a Entry>,
}

fn rows(evidence: &Evidence) -> BTreeMap<&str, Rows<'_>> {
    let mut rows: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
    for entry in evidence.books.iter().flat_map(|books| &books.ledger) {
        let of = rows.entry(&entry.key).or_default();
        match entry.undo {
            true => of.undone.push(entry),
            false => of.done.push(entry),
        }
    }
    rows
}

fn key(id: &str, step: u32) -> String {
    format!("{id}/{step}")
}

/// Every row was asked for and is there once; what is said to be done is there with its answer.
pub(super) fn once(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let rows = rows(evidence);
    for (key, rows) in &rows {
        let step = key.split_once('/').and_then(|(id, number)| {
            let number: u32 = number.parse().ok()?;
            stories.get(id)?.steps.get(&number)
        });
        let Some(step) = step else {
            found.push(format!("{key}: done, and nobody asked for it"));
            continue;
        };
        for (rows, sent) in [(&rows.done, &step.sent), (&rows.undone, &step.undo_sent)] {
            if rows.len() > 1 {
                found.push(format!("{key} {}: {} times", step.name, rows.len()));
            }
            for row in rows {
                let generation = u32::try_from(row.generation).unwrap_or(0);
                if !sent.contains(&generation) || row.step != step.name {
                    found.push(format!(
                        "{key} {}: dispatch {generation} of {} never went out",
                        step.name, row.step
                    ));
                }
            }
        }
    }
    for (id, story) in stories {
        for (number, step) in &story.steps {
            let key = key(id, *number);
            let rows = rows.get(key.as_str());
            let done = rows.and_then(|rows| rows.done.first());
            if step.is_saga {
                continue;
            }
            if step.done == Done::Yes && !step.by_hand {
                let said = done.map(|row| &row.said);
                if said.is_none() || said != step.said.as_ref() {
                    found.push(format!(
                        "{key} {}: answered {:?}, its bank says {said:?}",
                        step.name, step.said
                    ));
                }
            }
            let undone = rows.and_then(|rows| rows.undone.first());
            if step.undone == Some(Undone::Done) && undone.is_none() {
                found.push(format!(
                    "{key} {}: undone, its bank knows nothing",
                    step.name
                ));
            }
        }
    }
    found
}

/// A saga that was undone left nothing done, one that completed has everything; no undo without need,
/// each with the answer that its step gave.
pub(super) fn undone(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let rows = rows(evidence);
    for (id, seen) in &evidence.sagas {
        let Some(story) = stories.get(id.as_str()) else {
            continue;
        };
        let status = status(seen);
        let type_of = seen.shown["type"].as_str().unwrap_or_default();
        let mut complete: Vec<&str> = machines::steps(type_of).to_vec();
        for (number, step) in &story.steps {
            let key = key(id, *number);
            let rows = rows.get(key.as_str());
            let done = rows.and_then(|rows| rows.done.first()).copied();
            let undo = rows.and_then(|rows| rows.undone.first()).copied();
            let what = format!("{key} {} of a saga that is {status}", step.name);
            if let Some(wrong) = pair(done, undo) {
                found.push(format!("{what}: {wrong}"));
            }
            if done.is_some() || step.by_hand || step.is_saga {
                complete.retain(|name| *name != step.name);
            }
            if step.is_saga {
                continue;
            }
            match status {
                "COMPLETED" if undo.is_some() => found.push(format!("{what}: it is undone")),
                "COMPENSATED" | "ABORTED_BY_OPERATOR" if done.is_some() && undo.is_none() => {
                    found.push(format!("{what}: it is left done"));
                }
                "COMPENSATED" | "ABORTED_BY_OPERATOR"
                    if step.done != Done::No && step.undone != Some(Undone::Done) =>
                {
                    found.push(format!("{what}: its undo is {:?}", step.undone));
                }
                _ => {}
            }
        }
        if status == "COMPLETED" && !complete.is_empty() {
            found.push(format!("{id}: it is COMPLETED without {complete:?}"));
        }
    }
    found
}

fn pair(done: Option<&Entry>, undo: Option<&Entry>) -> Option<&'static str> {
    let undo = undo?;
    let Some(done) = done else {
        return (!undo.nothing).then_some("what was never done is undone");
    };
    if undo.nothing || undo.at <= done.at {
        return Some("it was done after its undo");
    }
    let result = &undo.told["result"];
    let wrong = !result.is_null() && *result != done.said;
    wrong.then_some("its undo was told another result")
}

/// Steps follow each other as the definition says, undos the other way round.
pub(super) fn order(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let rows = rows(evidence);
    for (id, story) in stories {
        let type_of = evidence.sagas.get(*id).map(|seen| &seen.shown["type"]);
        let type_of = type_of.and_then(|value| value.as_str()).unwrap_or_default();
        let at = |number: &u32, undo: bool| {
            let key = key(id, *number);
            let rows = rows.get(key.as_str())?;
            let rows = if undo { &rows.undone } else { &rows.done };
            Some(rows.first()?.at)
        };
        for (one, first) in &story.steps {
            for (other, second) in &story.steps {
                if !machines::is_before(type_of, &first.name, &second.name) {
                    continue;
                }
                let pairs = [
                    ("done", at(one, false), at(other, false)),
                    ("undone", at(other, true), at(one, true)),
                ];
                for (what, early, late) in pairs {
                    if let (Some(early), Some(late)) = (early, late)
                        && early >= late
                    {
                        found.push(format!(
                            "{id}: {} and {} were {what} in the wrong order",
                            first.name, second.name
                        ));
                    }
                }
            }
        }
    }
    found
}

/// Whether what a step does stands. For a saga that ended, its end says it; for one that is parked,
/// its facts, and where not even they know, the bank.
fn stands(status: &str, step: &Step, is_in_books: bool) -> bool {
    match status {
        "COMPLETED" => true,
        "COMPENSATED" | "ABORTED_BY_OPERATOR" => false,
        _ if step.undone == Some(Undone::Done) => false,
        _ => match step.done {
            Done::Yes => true,
            Done::No => false,
            Done::Perhaps => is_in_books,
        },
    }
}

/// What every account and every hold must have, by the ends of the sagas.
fn model(
    evidence: &Evidence,
    stories: &Stories<'_>,
) -> (BTreeMap<String, i64>, BTreeMap<String, i64>) {
    let (mut accounts, mut holds) = (evidence.opening.clone(), BTreeMap::new());
    let rows = rows(evidence);
    for (id, seen) in &evidence.sagas {
        let Some(story) = stories.get(id.as_str()) else {
            continue;
        };
        let input = &seen.shown["input"];
        for (number, step) in &story.steps {
            let key = key(id, *number);
            let in_books = rows.get(key.as_str());
            let in_books =
                in_books.is_some_and(|rows| !rows.done.is_empty() && rows.undone.is_empty());
            if !stands(status(seen), step, in_books) {
                continue;
            }
            if let Some((account, amount)) = machines::effect(&step.name, input) {
                *accounts.entry(account).or_insert(0) += amount;
                if step.name == "Hold" {
                    holds.insert(key, -amount);
                }
            }
            if step.name == "Capture" {
                holds.retain(|held, _| held.split('/').next() != Some(id));
            }
        }
    }
    (accounts, holds)
}

/// Every balance and every hold is what the sagas' ends add up to.
pub(super) fn balances(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let (mut accounts, mut holds) = model(evidence, stories);
    for (account, balance) in evidence.books.iter().flat_map(|books| &books.accounts) {
        let wanted = accounts.remove(account);
        if wanted != Some(*balance) {
            found.push(format!(
                "{account} has {balance}, and should have {wanted:?}"
            ));
        }
        if *balance < 0 {
            found.push(format!("{account} has {balance}"));
        }
    }
    for (key, _, amount) in evidence.books.iter().flat_map(|books| &books.holds) {
        let wanted = holds.remove(key);
        if wanted != Some(*amount) {
            found.push(format!("{key} holds {amount}, and should hold {wanted:?}"));
        }
    }
    let missing = accounts
        .iter()
        .map(|(name, has)| format!("{name} is missing, with {has}"));
    found.extend(missing);
    found.extend(
        holds
            .iter()
            .map(|(key, has)| format!("{key} holds nothing, and should hold {has}")),
    );
    found
}

/// The sum over accounts and holds is what it was at first, but for what parked sagas have in their
/// hands.
pub(super) fn sum(evidence: &Evidence, stories: &Stories<'_>) -> Vec<String> {
    let rows = rows(evidence);
    let (mut in_hand, mut has_parked) = (0, false);
    for (id, seen) in &evidence.sagas {
        let Some(story) = stories
            .get(id.as_str())
            .filter(|_| status(seen) == "PARKED")
        else {
            continue;
        };
        has_parked = true;
        for (number, step) in &story.steps {
            let key = key(id, *number);
            let in_books = rows.get(key.as_str());
            let in_books =
                in_books.is_some_and(|rows| !rows.done.is_empty() && rows.undone.is_empty());
            if stands(status(seen), step, in_books) {
                let effect = machines::effect(&step.name, &seen.shown["input"]);
                // Money that is held is still counted.
                let counts = effect.filter(|_| step.name != "Hold");
                in_hand += counts.map_or(0, |(_, amount)| amount);
                if step.name == "Capture" {
                    in_hand -= seen.shown["input"]["total"].as_i64().unwrap_or_default();
                }
            }
        }
    }
    let accounts = evidence.books.iter().flat_map(|books| &books.accounts);
    let accounts: i64 = accounts.map(|(_, balance)| balance).sum();
    let holds = evidence.books.iter().flat_map(|books| &books.holds);
    let holds: i64 = holds.map(|(_, _, amount)| amount).sum();
    let opening: i64 = evidence.opening.values().sum();
    let wrong = accounts + holds != opening + in_hand;
    let text = || {
        format!(
            "{accounts} in accounts and {holds} held, where {opening} were at first and parked sagas \
             (there are {}) have {} in their hands",
            if has_parked { "some" } else { "none" },
            -in_hand
        )
    };
    wrong.then(text).into_iter().collect()
}
