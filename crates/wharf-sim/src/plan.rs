//! What a simulation does: how long, with which faults, on which kind of log.
//!
//! Every seed draws its own mix (sizes, weights, a subset of the faults), so that rare combinations
//! get whole seeds to themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use wharf_log::Options;
use wharf_log::disk::simulated::Random;

use crate::sabotage::Sabotage;

/// What may happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The power goes: unsynced writes are lost, torn or reordered.
    PowerLoss,
    /// The process is killed; the machine goes on.
    Kill,
    /// The machine dies in the middle of whatever the log is doing, recovery included.
    MidOperation,
    /// A sync or write fails.
    FailedSync,
    /// The disk runs full, and is freed again.
    FullDisk,
    /// Bits of the medium flip after the last stop.
    Corruption,
}

/// Every fault.
pub const FAULTS: [Fault; 6] = [
    Fault::PowerLoss,
    Fault::Kill,
    Fault::MidOperation,
    Fault::FailedSync,
    Fault::FullDisk,
    Fault::Corruption,
];

/// What a simulation does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often the node is started.
    pub rounds: u32,
    /// How many steps it runs each time.
    pub steps: u32,
    /// The faults a seed may draw from.
    pub faults: BTreeSet<Fault>,
    /// How the disk breaks its contract, to show that the checkers notice.
    pub sabotage: Option<Sabotage>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rounds: 5,
            steps: 60,
            faults: FAULTS.into(),
            sabotage: None,
        }
    }
}

/// What one seed drew.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) faults: BTreeSet<Fault>,
    pub(crate) options: Options,
    /// Of 100 units, so many are answered before the sync.
    pub(crate) buffered_percent: u32,
    /// Of 100 steps, so many are background work.
    pub(crate) maintenance_percent: u32,
    /// Of 100 partitions, so many have a retention.
    pub(crate) retention_percent: u32,
    /// Of 100 of those, so many are compacted.
    pub(crate) compaction_percent: u32,
    /// Of 100 idempotent producers, so many write in transactions.
    pub(crate) transactional_percent: u32,
    /// The largest record value.
    pub(crate) value_bytes_max: u64,
    /// Units submitted at once at most.
    pub(crate) burst_max: u64,
}

impl Mix {
    pub(crate) fn draw(plan: &Plan, random: &mut Random) -> Self {
        let faults = plan
            .faults
            .iter()
            .copied()
            .filter(|_| random.percent(60))
            .collect();
        Self {
            faults,
            options: draw_options(random),
            buffered_percent: *pick(&[0, 0, 5, 50], random),
            maintenance_percent: *pick(&[2, 10, 30], random),
            retention_percent: *pick(&[0, 30, 80], random),
            compaction_percent: *pick(&[0, 50, 100], random),
            transactional_percent: *pick(&[0, 50, 100], random),
            value_bytes_max: *pick(&[16, 200, 3_000], random),
            burst_max: *pick(&[1, 4, 12], random),
        }
    }
}

fn draw_options(random: &mut Random) -> Options {
    Options {
        journal_file_bytes: *pick(&[128 << 10, 256 << 10], random),
        journal_files_max: *pick(&[1, 2, 4], random),
        group_bytes_max: *pick(&[4 << 10, 16 << 10, 64 << 10], random),
        tail_bytes_max: *pick(&[0, 8 << 10, 1 << 20], random),
        index_batches_max: *pick(&[5, 50, 100_000], random),
        open_segments_max: *pick(&[1, 3, 64], random),
        producers_per_partition_max: 5_000,
        compaction_keys_max: *pick(&[3, 12, 1_000_000], random),
        secret: 0x5EC7_E700,
        producer_expiry: Duration::from_secs(7 * 24 * 60 * 60),
    }
}

/// One of `choices`, which must not be empty.
pub(crate) fn pick<'a, T>(choices: &'a [T], random: &mut Random) -> &'a T {
    &choices[random.index(choices.len())]
}
