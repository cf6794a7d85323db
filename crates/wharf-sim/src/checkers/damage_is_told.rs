//! Promise: damage before the tail is neither served nor hidden nor deleted: a read of what was
//! acknowledged gives exactly that, or says that it is damaged; damaged offsets are not given again.

use std::collections::BTreeMap;

use wharf_log::{PartitionId, ReadError, Reader};
use wharf_message::Timestamp;

use super::{Broken, Judge, Written, broken, difference};
use crate::model::{Batch, Model};
use crate::view::{Cut, Stored};

const PROMISE: &str = "damage is told, never served, hidden or deleted";

/// Checks a log that was opened on a damaged disk at `now`.
pub fn check(
    must: &Model,
    written: &Written,
    reader: &Reader,
    now: Timestamp,
) -> Result<(), Broken> {
    let damaged = reader.damaged();
    // What cannot even be read as a frame may have held anything.
    let anything = damaged.iter().any(|range| range.partition.is_none());
    for (id, partition) in &must.partitions {
        match reader.bounds(*id) {
            None if !anything => {
                return broken(
                    PROMISE,
                    format!("{id:?} is gone, and only {damaged:?} is told"),
                );
            }
            Some(bounds) if bounds.end < partition.end => {
                let (end, was) = (bounds.end, partition.end);
                let detail = format!("{id:?} would give {end}..{was} again; {damaged:?}");
                return broken(PROMISE, detail);
            }
            _ => {}
        }
        let judge = written.judge(*id, partition.start, i64::MAX, now);
        for batch in &partition.batches {
            if let Some(found) = missing(*id, batch, partition.start, judge.as_ref(), reader)
                && !anything
            {
                return broken(
                    PROMISE,
                    format!("{id:?} at {}: {found}; {damaged:?}", batch.base),
                );
            }
        }
    }
    let state: BTreeMap<_, _> = reader.state(b"").into_iter().collect();
    let lost = must
        .state
        .iter()
        .find(|(key, value)| state.get(*key) != Some(*value));
    match lost {
        Some((key, _)) if !anything => broken(
            PROMISE,
            format!("key {key:?} is gone, and only {damaged:?} is told"),
        ),
        _ => Ok(()),
    }
}

/// What a read found instead of the batch or the word that it is damaged.
fn missing(
    id: PartitionId,
    batch: &Batch,
    start: i64,
    judge: Option<&Judge<'_>>,
    reader: &Reader,
) -> Option<String> {
    let offset = batch.base.max(start);
    match reader.read(id, offset, 1, true) {
        Err(ReadError::Damaged(_)) => None,
        Err(error) => Some(format!("{error:?}")),
        Ok(slice) => match Cut::of(judge.is_some()).split(&slice, offset, 1) {
            Err(broken) => Some(broken.detail),
            Ok(found) => match (judge, found.first()) {
                (None, None) => Some("nothing".to_owned()),
                (None, Some(stored)) => difference(batch, stored),
                (Some(judge), found) => {
                    let here =
                        |one: &&Stored| one.has_records() && one.header.base_offset <= offset;
                    judge.difference(batch, found.filter(here))
                }
            },
        },
    }
}

/// Checks that a log that refused to open left every file where it was.
pub fn nothing_is_deleted(before: &[String], after: &[String]) -> Result<(), Broken> {
    match before
        .iter()
        .find(|path| !after.contains(path) && !path.ends_with(".tmp"))
    {
        Some(path) => broken(
            PROMISE,
            format!("{path} was deleted by a start that was refused"),
        ),
        None => Ok(()),
    }
}
