//! Promise: a unit is there whole or not at all (records, producers' sequences, state, partitions),
//! and never without those before it.
//!
//! The units with an unknown outcome are taken in one by one until the model equals the view. When the
//! disk was full, the appending ones of the last group may have been refused and the others not.

use super::{Broken, Evidence, Unsettled, broken, difference, retention};
use crate::model::Model;
use crate::view::View;

const PROMISE: &str = "a unit is there whole or not at all";

pub(super) fn check(evidence: &Evidence<'_>, view: &View) -> Result<(Model, usize), Broken> {
    let mut differences = Vec::new();
    let mut not_due = None;
    for on_full_disk in [false, true] {
        let mut model = evidence.must.clone();
        model.starts_ahead = true;
        for taken_in in 0..=evidence.unsettled.len() {
            if taken_in > 0 {
                take_in(&mut model, &evidence.unsettled[taken_in - 1], on_full_disk);
            }
            match outline_difference(evidence, &model, view) {
                None => match records_equal(evidence, model.clone(), taken_in, view) {
                    // One of the units still to come may have moved the start.
                    Err(broken) if broken.promise == retention::PROMISE => {
                        not_due.get_or_insert(broken);
                    }
                    outcome => return outcome,
                },
                Some(difference) => differences.push(difference),
            }
        }
    }
    if let Some(broken) = not_due {
        return Err(broken);
    }
    differences.dedup();
    let count = differences.len();
    let first = differences.swap_remove(0);
    let last = differences.pop().unwrap_or_default();
    broken(
        PROMISE,
        format!("{first}; or {last} (the last of {count} possibilities)"),
    )
}

fn take_in(model: &mut Model, unsettled: &Unsettled, on_full_disk: bool) {
    let unit = &unsettled.unit;
    if unsettled.refused {
        return;
    }
    if on_full_disk && unsettled.disk_may_be_full && model.adds_batches(unit, unsettled.tried_at) {
        return;
    }
    // Refused by the rules, it leaves the model as it is.
    let _refused = model.apply(unit, unsettled.tried_at).is_err();
}

/// Compares everything but the records.
fn outline_difference(evidence: &Evidence<'_>, model: &Model, view: &View) -> Option<String> {
    if model.state != view.state {
        let other = view
            .state
            .iter()
            .find(|(key, value)| model.state.get(*key) != Some(*value));
        let missing = model
            .state
            .iter()
            .find(|(key, _)| !view.state.contains_key(*key));
        return Some(format!("state has {other:?}, lacks {missing:?}"));
    }
    if !model.partitions.keys().eq(view.partitions.keys()) {
        let ids: Vec<_> = view.partitions.keys().map(|id| id.0).collect();
        let expected: Vec<_> = model.partitions.keys().map(|id| id.0).collect();
        return Some(format!("partitions {ids:?} instead of {expected:?}"));
    }
    for (id, expected) in &model.partitions {
        let found = &view.partitions[id];
        let (start, end) = (found.bounds.start, found.bounds.end);
        let moved = start > expected.start && evidence.retained.contains_key(id);
        if end != expected.end || !(start == expected.start || moved) {
            let (was, until) = (expected.start, expected.end);
            return Some(format!(
                "{id:?} has {start}..{end} instead of {was}..{until}"
            ));
        }
        let producers = expected.producers.iter();
        let producers = producers.map(|(id, known)| (*id, known.remembered()));
        if !producers.eq(found.producers.iter().map(|(id, last)| (*id, *last))) {
            let known = &found.producers;
            return Some(format!(
                "{id:?} knows {known:?}, expected {:?}",
                expected.producers
            ));
        }
    }
    None
}

fn records_equal(
    evidence: &Evidence<'_>,
    mut model: Model,
    count: usize,
    view: &View,
) -> Result<(Model, usize), Broken> {
    for (id, found) in &view.partitions {
        retention::adopt_view(evidence, &mut model, *id, found.bounds.start)?;
        let expected = &model.partitions[id].batches;
        if expected.len() != found.batches.len() {
            let (there, due) = (found.batches.len(), expected.len());
            return broken(
                PROMISE,
                format!("{id:?} has {there} batches instead of {due}"),
            );
        }
        for (expected, stored) in expected.iter().zip(&found.batches) {
            if let Some(difference) = difference(expected, stored) {
                return broken(
                    PROMISE,
                    format!("{id:?} at {}: {difference}", expected.base),
                );
            }
        }
    }
    model.starts_ahead = false;
    Ok((model, count))
}
