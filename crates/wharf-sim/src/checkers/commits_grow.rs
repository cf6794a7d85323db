//! Promise: a group's offset that was acknowledged is kept; it is never one that nobody committed.

use std::collections::BTreeMap;

use super::{Broken, broken};

const PROMISE: &str = "a committed offset is kept";

/// What each of some clients committed; each only ever commits larger offsets.
#[derive(Debug, Default)]
pub struct CommitsGrow {
    /// The last acknowledged and the last attempted offset.
    offsets: BTreeMap<String, (Option<i64>, i64)>,
}

impl CommitsGrow {
    /// A commit is sent.
    pub fn attempted(&mut self, group: &str, offset: i64) {
        let known = self.offsets.entry(group.to_owned()).or_default();
        known.1 = known.1.max(offset);
    }

    /// A commit is acknowledged.
    pub fn acknowledged(&mut self, group: &str, offset: i64) {
        let known = self.offsets.entry(group.to_owned()).or_default();
        known.0 = known.0.max(Some(offset));
    }

    /// The largest offset that anybody attempted.
    pub fn newest(&self) -> i64 {
        self.offsets
            .values()
            .map(|known| known.1)
            .max()
            .unwrap_or(0)
    }

    /// Compares with what the groups have.
    pub fn check(&self, look: impl Fn(&str) -> Option<i64>) -> Result<(), Broken> {
        for (group, (acknowledged, attempted)) in &self.offsets {
            let found = look(group);
            if found < *acknowledged || found > Some(*attempted) {
                let detail = format!("{group}: {found:?}, not {acknowledged:?} to {attempted}");
                return broken(PROMISE, detail);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_is_lost_or_made_up_is_found() {
        let mut commits = CommitsGrow::default();
        commits.attempted("g", 5);
        commits.check(|_| None).unwrap();
        commits.acknowledged("g", 5);
        commits.attempted("g", 8);
        for (found, right) in [
            (None, false),
            (Some(4), false),
            (Some(5), true),
            (Some(9), false),
        ] {
            assert_eq!(commits.check(|_| found).is_ok(), right, "{found:?}");
        }
    }
}
