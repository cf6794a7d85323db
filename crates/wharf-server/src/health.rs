//! Saying in the log what the log itself cannot say: that it is full, broken or damaged.
//!
//! Each change is told once, with the code of its page.

use std::sync::{Mutex, PoisonError};

use wharf_broker::Broker;
use wharf_log::{DamagedRange, Health, PartitionId};
use wharf_message::Code;

/// Remembers what was said last. Shared by the threads that may notice a change.
#[derive(Debug)]
pub(crate) struct HealthLog {
    broker: Broker,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    health: Health,
    damaged: usize,
}

impl HealthLog {
    /// Nothing said yet about the broker's log.
    pub(crate) fn new(broker: Broker) -> Self {
        let said = Mutex::new(Said {
            health: Health::Writable,
            damaged: 0,
        });
        Self { broker, said }
    }

    /// Whether the disk is full right now.
    pub(crate) fn is_full(&self) -> bool {
        self.broker.reader().health() == Health::DiskFull
    }

    /// Says what has changed since the last look.
    pub(crate) fn look(&self) {
        let health = self.broker.reader().health();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if health != said.health {
            tell(&health);
            said.health = health;
        }
    }

    /// Says which damaged ranges were found since the last look.
    pub(crate) fn look_for_damage(&self) {
        let damaged = self.broker.reader().damaged();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for range in damaged.iter().skip(said.damaged) {
            self.tell_damage(range);
        }
        said.damaged = damaged.len();
    }

    fn tell_damage(&self, range: &DamagedRange) {
        let place = range.partition.and_then(|id| place(&self.broker, id));
        let (topic, partition) = place.unzip();
        tracing::error!(
            code = %Code::CORRUPT_RANGE,
            topic,
            partition,
            first = range.first,
            last = range.last,
            path = range.path,
            position = range.position,
            "a range of the log is damaged and is refused"
        );
    }
}

/// The topic and index of one of the log's partitions.
fn place(broker: &Broker, id: PartitionId) -> Option<(String, usize)> {
    broker.topics().iter().find_map(|topic| {
        let index = topic
            .partitions
            .iter()
            .position(|partition| *partition == id)?;
        Some((topic.name.to_string(), index))
    })
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
