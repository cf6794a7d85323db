//! What goes wrong inside a worker: it dies between two instructions that must be thought of.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};

use crate::random::Random;

/// One in so many passes of a point is the worker's last.
const DIES_ONE_IN: u64 = 120;

/// Where a worker may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Nothing was done.
    BeforeEffect,
    /// Everything was done and nothing is kept.
    BeforeCommit,
    /// It is kept, and nobody was told.
    AfterCommit,
    /// Somebody was told, and it is not known that the command was read.
    AfterReply,
}

/// The worker's share of bad luck.
#[derive(Debug)]
pub(super) struct Chaos(Mutex<Random>);

impl Chaos {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Random::new(seed)))
    }

    /// A number below `limit`.
    pub(super) fn below(&self, limit: u64) -> u64 {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random.below(limit)
    }

    /// Kills this process, now and then (SIGKILL).
    pub(super) fn maybe(&self, point: Point) {
        // What nobody knows is what is hardest to get right.
        let often = if point == Point::AfterCommit { 3 } else { 1 };
        if self.below(DIES_ONE_IN) < often {
            kill_process(getpid(), Signal::KILL).ok();
        }
    }
}

/// Nanoseconds of a clock that only goes forward and is the same in every process.
pub(super) fn now() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}
