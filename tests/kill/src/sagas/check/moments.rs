//! Signals and deadlines: what was acknowledged is there, and nothing happens before its time.

use std::collections::{BTreeMap, BTreeSet};

use wharf_message::Timestamp;
use wharf_saga::machine::{Data, Trigger, What};

use super::super::machines::SIGNAL;
use super::{Evidence, Fate, Seen, status};

/// The signatures in a history.
fn signatures(seen: &Seen) -> BTreeSet<u64> {
    let number = |data: &Data| data.get("signature")?.as_u64();
    let found = seen.facts.iter().filter_map(|fact| match &fact.what {
        What::SignalKept { signal, payload } if signal == SIGNAL => number(payload),
        What::Succeeded { output, .. } => number(output),
        _ => None,
    });
    found.collect()
}

/// A signal that was acknowledged is in the history of its saga, one that was refused is not, and
/// nobody else sent one; without one, nothing that waits for a signal completes.
pub(super) fn signals(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    let mut there: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (id, seen) in &evidence.sagas {
        let signatures = signatures(seen);
        let is_signed = seen.row["type"] == "signed";
        if is_signed && status(seen) == "COMPLETED" && signatures.is_empty() {
            found.push(format!("{id}: it completed without a signature"));
        }
        there.insert(id, signatures);
    }
    for (number, (id, fate)) in &evidence.known.signals {
        let is_there = there.get_mut(id.as_str());
        let is_there = is_there.is_some_and(|signatures| signatures.remove(number));
        let is_right = match fate {
            Fate::Accepted => is_there,
            Fate::Refused => !is_there,
            Fate::Unknown => true,
        };
        if !is_right {
            found.push(format!(
                "{id}: signature {number} is {fate:?}, and in its history: {is_there}"
            ));
        }
    }
    let strange = there.iter().filter(|(_, rest)| !rest.is_empty());
    found.extend(strange.map(|(id, rest)| format!("{id}: nobody sent the signatures {rest:?}")));
    found
}

/// A deadline fires once, not before its moment, and only where there is one; once a saga ended,
/// nothing happens to it any more but a redrive and stale answers.
pub(super) fn deadlines(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for (id, seen) in &evidence.sagas {
        let (mut until, mut ended): (Option<Timestamp>, bool) = (None, false);
        for fact in &seen.facts {
            match &fact.what {
                What::Started { deadline, .. } => until = *deadline,
                What::Redriven { deadline, .. } => {
                    (until, ended) = (*deadline, false);
                    continue;
                }
                What::Acted(_) | What::StaleReply { .. } => continue,
                What::DeadlinePassed if until.take().is_none_or(|until| fact.at < until) => {
                    let at = fact.at.to_rfc3339();
                    found.push(format!("{id}: its deadline passed at {at}"));
                }
                _ => {}
            }
            if ended {
                found.push(format!("{id}: it ended, and then {:?}", fact.what));
            }
            ended |= matches!(fact.what, What::Ended { .. });
        }
    }
    found
}

/// How many sagas turned back because of their deadline.
pub(in super::super) fn overdue(evidence: &Evidence) -> usize {
    let facts = evidence.sagas.values().flat_map(|seen| &seen.facts);
    let overdue = facts.filter(|fact| {
        matches!(
            fact.what,
            What::Compensating {
                trigger: Trigger::Deadline,
                ..
            }
        )
    });
    overdue.count()
}

/// How many sub-sagas were given up because they took too long.
pub(in super::super) fn given_up(evidence: &Evidence) -> usize {
    let facts = evidence.sagas.values().flat_map(|seen| &seen.facts);
    let given_up = facts.filter(|fact| match &fact.what {
        What::Failed(failed) => failed.given_up.starts_with("wharf:saga:"),
        _ => false,
    });
    given_up.count()
}
