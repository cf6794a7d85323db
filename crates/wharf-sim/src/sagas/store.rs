//! What the sagas stand on: a model of a ledger that breaks, or the node's own log on a disk that does.
//!
//! The model is quick, and does things that the log does seldom; the log is what really runs.

use std::sync::Arc;

use tokio::runtime::Handle;
use wharf_message::TopicName;
use wharf_message::ledger::{Ledger, Partition, Record};

use super::checkers::Broken;
use super::disk::DiskLedger;
use super::ledger::{Counts, SimulatedLedger, Weather};

/// A ledger.
#[derive(Clone)]
pub(super) enum Store {
    Model(SimulatedLedger),
    Disk(DiskLedger),
}

impl Store {
    /// A process opens it.
    pub(super) fn open(&self, handle: &Handle) -> Result<Arc<dyn Ledger>, Broken> {
        match self {
            Self::Model(model) => Ok(Arc::new(model.clone())),
            Self::Disk(disk) => {
                disk.open(handle)?;
                Ok(Arc::new(disk.clone()))
            }
        }
    }

    /// The process is gone, in good order or not.
    pub(super) fn end(&self, in_order: bool) {
        match self {
            Self::Model(model) => model.crash(),
            Self::Disk(disk) => disk.end(in_order),
        }
    }

    /// The machine dies in the middle of something, if it can.
    pub(super) fn dies_soon(&self) -> bool {
        match self {
            Self::Model(_) => false,
            Self::Disk(disk) => {
                disk.dies_soon();
                true
            }
        }
    }

    /// Nothing will go wrong by itself any more.
    pub(super) fn lives_on(&self) {
        if let Self::Disk(disk) = self {
            disk.lives_on();
        }
    }

    /// Whether the process must end: the machine is off (true), or the log stopped for good.
    pub(super) fn ends(&self) -> Option<bool> {
        match self {
            Self::Model(_) => None,
            Self::Disk(disk) => disk.ends(),
        }
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        match self {
            Self::Model(model) => model.set_weather(weather),
            Self::Disk(disk) => disk.set_weather(weather),
        }
    }

    /// Whether anything is wrong with it at the moment.
    pub(super) fn is_bad(&self) -> bool {
        match self {
            Self::Model(model) => model.is_bad(),
            Self::Disk(disk) => disk.is_bad(),
        }
    }

    /// Whether nothing is on its way to the disk.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Model(model) => model.is_idle(),
            Self::Disk(disk) => disk.is_idle(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        match self {
            Self::Model(model) => model.counts(),
            Self::Disk(disk) => disk.counts(),
        }
    }

    /// Somebody else writes a record. Whether the topic is there.
    pub(super) fn append(&self, topic: &TopicName, record: Record) -> bool {
        match self {
            Self::Model(model) => model.append(topic, record),
            Self::Disk(disk) => disk.append(topic, record),
        }
    }

    /// What was written for workers since this was asked last.
    pub(super) fn fresh(&self) -> Vec<(Partition, Record)> {
        match self {
            Self::Model(model) => model.fresh(),
            Self::Disk(disk) => disk.fresh(),
        }
    }

    /// Compacts what is compacted.
    pub(super) fn compact(&self) {
        match self {
            Self::Model(model) => model.compact(),
            Self::Disk(disk) => disk.compact(),
        }
    }
}
