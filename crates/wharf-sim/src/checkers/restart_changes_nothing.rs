//! Promise: an orderly stop and start changes nothing that can be seen, and reads no journal again.

use wharf_log::Recovery;

use super::{Broken, broken};
use crate::view::View;

const PROMISE: &str = "an orderly restart changes nothing";

/// Compares what was readable before and after, and what the start had to do.
pub fn check(before: &View, after: &View, recovery: &Recovery) -> Result<(), Broken> {
    if recovery.frames_replayed != 0 || recovery.torn_tail_bytes != 0 {
        return broken(PROMISE, format!("the start had to recover: {recovery:?}"));
    }
    if before.state != after.state {
        return broken(PROMISE, "the state differs");
    }
    for (id, partition) in &before.partitions {
        if after.partitions.get(id) != Some(partition) {
            return broken(PROMISE, format!("{id:?} differs"));
        }
    }
    if before.partitions.len() != after.partitions.len() {
        return broken(PROMISE, "a partition appeared");
    }
    Ok(())
}
