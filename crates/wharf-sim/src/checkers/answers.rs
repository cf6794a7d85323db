//! Promise: every unit is answered once, in order, and as the rules say: offsets, duplicates,
//! refusals.

use wharf_log::{CommitError, Committed, Unit};
use wharf_message::Timestamp;

use super::{Broken, broken};
use crate::model::Model;

const PROMISE: &str = "units are answered by the rules";

/// The limits that decide which refusals are legitimate.
#[derive(Clone, Debug)]
pub struct Answers {
    /// A unit with more bytes of batches than this must be refused.
    pub unit_bytes_max: usize,
}

impl Answers {
    /// Applies `unit` to `model` as the log answered it. `disk_may_be_full` says whether running
    /// out of space is a legitimate answer.
    pub fn check(
        &self,
        model: &mut Model,
        unit: &Unit,
        answer: &Result<Committed, CommitError>,
        disk_may_be_full: bool,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let bytes: usize = unit.appends.iter().map(|append| append.batch.len()).sum();
        match answer {
            Err(CommitError::DiskFull) if disk_may_be_full => return needs_room(model, unit, now),
            Err(CommitError::TooLarge { .. }) if bytes > self.unit_bytes_max / 2 => return Ok(()),
            Ok(_) if bytes > self.unit_bytes_max => {
                return broken(PROMISE, format!("a unit of {bytes} bytes was accepted"));
            }
            _ => {}
        }
        let expected = model.apply(unit, now);
        if *answer == expected {
            return Ok(());
        }
        broken(
            PROMISE,
            format!(
                "answered {answer:?}; the rules say {expected:?}; {}",
                describe(unit)
            ),
        )
    }
}

/// Of a unit that a full disk refused: batches that are all there already need no room.
fn needs_room(model: &Model, unit: &Unit, now: Timestamp) -> Result<(), Broken> {
    if unit.appends.is_empty() || !unit.state.is_empty() || !unit.partitions.is_empty() {
        return Ok(());
    }
    match model.clone().apply(unit, now) {
        Ok(Committed { appends, ended }) if ended.is_empty() => {
            match appends.iter().all(|one| one.duplicate) {
                true => broken(
                    PROMISE,
                    format!("for want of room refused: {}", describe(unit)),
                ),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A unit in one line, without the records' bytes.
fn describe(unit: &Unit) -> String {
    let append = |append: &wharf_log::Append| {
        let header = wharf_log::batch::header(&append.batch);
        format!("{:?} {:?} {header:?}", append.partition, append.clock)
    };
    let appends: Vec<String> = unit.appends.iter().map(append).collect();
    let keys: Vec<_> = unit.state.iter().map(|change| &change.key).collect();
    let Unit {
        conditions,
        partitions,
        durability,
        ..
    } = unit;
    format!("{durability:?} {conditions:?} {partitions:?} {appends:?} {keys:?}")
}
