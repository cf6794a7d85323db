//! What simulations of sagas went through, so that one that did nothing is noticed.

/// Counts over one seed, or over many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaReport {
    /// Counts, in the order of [`NAMES`].
    counts: [u64; NAMES.len()],
}

/// What is counted.
pub(super) const NAMES: [&str; 38] = [
    "lives",
    "crashes",
    "stops in good order",
    "clock jumps",
    "sagas",
    "sagas completed",
    "sagas undone",
    "sagas aborted",
    "facts",
    "snapshots",
    "commits",
    "commits of unknown outcome",
    "commits refused",
    "commits on a full disk",
    "commits lost in a crash",
    "commits kept unanswered in a crash",
    "records compacted away",
    "lives on the node's own log",
    "power losses",
    "kills",
    "deaths in recovery",
    "tasks handed out",
    "workers dead before the effect",
    "workers dead after the effect",
    "workers dead after the answer",
    "answers sent twice",
    "answers lost",
    "stale answers recorded",
    "effects",
    "effects undone",
    "effects asked for again",
    "outdated commands",
    "commands refused after their undo",
    "starts repeated",
    "starts by a record",
    "orders",
    "sagas looked at",
    "lists compared",
];

impl Default for SagaReport {
    fn default() -> Self {
        Self {
            counts: [0; NAMES.len()],
        }
    }
}

impl SagaReport {
    pub(super) fn count(&mut self, name: &str, by: u64) {
        let at = NAMES.iter().position(|known| *known == name);
        debug_assert!(at.is_some(), "{name} is not counted");
        if let Some(count) = at.and_then(|at| self.counts.get_mut(at)) {
            *count += by;
        }
    }

    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    /// Every count with its name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        NAMES.into_iter().zip(self.counts).collect()
    }
}
