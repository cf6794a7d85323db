//! Promise: a batch of an idempotent producer is there once, however often it was sent, and every
//! repetition is answered with the offset it was given first.

use std::collections::{BTreeMap, BTreeSet};

use wharf_log::batch::Header;
use wharf_log::{Appended, PartitionId};

use super::{Broken, broken};
use crate::view::View;

const PROMISE: &str = "a batch is there once per sequence";

pub(super) fn check(view: &View) -> Result<(), Broken> {
    for (id, partition) in &view.partitions {
        let mut seen = BTreeSet::new();
        for header in partition.batches.iter().map(|stored| &stored.header) {
            let key = (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
            );
            if header.producer_id >= 0 && !header.is_control() && !seen.insert(key) {
                return broken(
                    PROMISE,
                    format!("{id:?} holds (producer, epoch, sequence) {key:?} twice"),
                );
            }
        }
    }
    Ok(())
}

/// Remembers where each sequence went first.
#[derive(Debug, Default)]
pub struct OncePerSequence {
    given: BTreeMap<(PartitionId, i64, i16, i32), i64>,
}

impl OncePerSequence {
    /// Takes in an answer to a batch with `header`.
    pub fn answered(
        &mut self,
        id: PartitionId,
        header: &Header,
        answer: &Appended,
    ) -> Result<(), Broken> {
        if header.producer_id < 0 {
            return Ok(());
        }
        let key = (
            id,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        );
        match self.given.get(&key) {
            Some(first) if *first != answer.base_offset => {
                let second = answer.base_offset;
                broken(
                    PROMISE,
                    format!("{key:?} was answered {first}, then {second}"),
                )
            }
            Some(_) if !answer.duplicate => broken(
                PROMISE,
                format!("{key:?} was appended twice at {}", answer.base_offset),
            ),
            Some(_) => Ok(()),
            None => {
                self.given.insert(key, answer.base_offset);
                Ok(())
            }
        }
    }

    /// Forgets what was acknowledged without a sync and is gone after a restart: `end` tells the end
    /// of each partition that is left.
    pub fn restarted(&mut self, end: impl Fn(PartitionId) -> Option<i64>) {
        self.given
            .retain(|key, offset| end(key.0).is_some_and(|end| *offset < end));
    }
}
