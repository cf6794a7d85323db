//! Saying in the log what the log itself cannot say: that it is full, broken or damaged.
//!
//! Each change is told once, with the code of its page.

use std::sync::{Mutex, PoisonError};

use wharf_log::{DamagedRange, Health, Reader};
use wharf_message::Code;

/// Remembers what was said last. Shared by the threads that may notice a change.
#[derive(Debug)]
pub(crate) struct HealthLog {
    reader: Reader,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    health: Health,
    damaged: usize,
}

impl HealthLog {
    /// Nothing said yet about `reader`'s log.
    pub(crate) fn new(reader: Reader) -> Self {
        let said = Mutex::new(Said {
            health: Health::Writable,
            damaged: 0,
        });
        Self { reader, said }
    }

    /// Whether the disk is full right now.
    pub(crate) fn is_full(&self) -> bool {
        self.reader.health() == Health::DiskFull
    }

    /// Says what has changed since the last look.
    pub(crate) fn look(&self) {
        let health = self.reader.health();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if health != said.health {
            tell(&health);
            said.health = health;
        }
    }

    /// Says which damaged ranges were found since the last look.
    pub(crate) fn look_for_damage(&self) {
        let damaged = self.reader.damaged();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.iter().skip(said.damaged).for_each(tell_damage);
        said.damaged = damaged.len();
    }
}

fn tell(health: &Health) {
    match health {
        Health::Writable => tracing::info!("the log takes writes again"),
        Health::DiskFull => {
            let code = Code::DISK_FULL;
            tracing::error!(%code, "the disk is full: writes are refused, reads go on");
        }
        Health::Poisoned { reason } => {
            let code = Code::LOG_POISONED;
            tracing::error!(%code, reason, "the log stopped acknowledging; restart the node");
        }
    }
}

fn tell_damage(range: &DamagedRange) {
    tracing::error!(
        code = %Code::CORRUPT_RANGE,
        partition = range.partition.map(|partition| partition.0),
        first = range.first,
        last = range.last,
        path = range.path,
        position = range.position,
        "a range of the log is damaged and is refused"
    );
}
