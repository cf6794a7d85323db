//! What the watching task and the API share: the lens, and the monitors of the contracts.
//!
//! Locks are held for a batch of records at most, and never while something is waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use wharf_saga::choreography::lens::Limits as LensLimits;
use wharf_saga::choreography::verdict::Limits as MonitorLimits;
use wharf_saga::choreography::{Contract, Correlation, Lens, Monitor};

use crate::config::Choreography;
use crate::webhook::Fate;

/// A contract, and the view of its instances.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) text: String,
    pub(super) topics: Vec<String>,
    pub(super) monitor: Mutex<Monitor>,
    /// Whether everything that is kept of its topics was read.
    pub(super) is_read: AtomicBool,
}

/// What is to be done with contracts. The answer says whether it was there, or why it cannot be done.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) what: What,
    pub(super) answer: oneshot::Sender<Result<bool, String>>,
}

#[derive(Debug)]
pub(super) enum What {
    Deploy(Box<Contract>, String),
    Remove(String),
}

/// What webhooks came to.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) sent: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Hooks {
    pub(super) fn count(&self, fate: &Fate) {
        let counter = match fate {
            Fate::Sent => &self.sent,
            Fate::Failed(reason) => {
                tracing::warn!(reason, "a verdict could not be sent to the webhook");
                &self.failed
            }
            Fate::Dropped => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) lens: Mutex<Lens>,
    pub(super) is_lens_read: AtomicBool,
    contracts: Mutex<BTreeMap<String, Arc<Watched>>>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) hooks: Hooks,
    /// Records read, for all of it.
    pub(super) records: AtomicU64,
    pub(super) trouble: Mutex<Option<String>>,
    instances_max: usize,
}

impl Shared {
    pub(super) fn new(config: &Choreography, commands: mpsc::Sender<Command>) -> Self {
        let limits = LensLimits {
            instances_max: config.instances_max,
            idle: config.idle.0,
            ..LensLimits::default()
        };
        Self {
            lens: Mutex::new(Lens::new(Correlation::default(), limits)),
            is_lens_read: AtomicBool::new(false),
            contracts: Mutex::default(),
            commands,
            hooks: Hooks::default(),
            records: AtomicU64::new(0),
            trouble: Mutex::default(),
            instances_max: config.instances_max,
        }
    }

    pub(super) fn contracts(&self) -> Vec<Arc<Watched>> {
        locked(&self.contracts).values().cloned().collect()
    }

    pub(super) fn contract(&self, name: &str) -> Option<Arc<Watched>> {
        locked(&self.contracts).get(name).cloned()
    }

    /// Watches a contract from now on, in place of one of the same name.
    pub(super) fn watch(&self, contract: Contract, text: String) -> Arc<Watched> {
        let limits = MonitorLimits {
            instances_max: self.instances_max,
            ..MonitorLimits::default()
        };
        let name = contract.name.clone();
        let watched = Arc::new(Watched {
            text,
            topics: contract.topics().into_iter().map(str::to_owned).collect(),
            monitor: Mutex::new(Monitor::new(contract, limits)),
            is_read: AtomicBool::new(false),
        });
        locked(&self.contracts).insert(name, Arc::clone(&watched));
        watched
    }

    pub(super) fn forget(&self, name: &str) -> bool {
        locked(&self.contracts).remove(name).is_some()
    }
}

impl Watched {
    pub(super) fn monitor(&self) -> MutexGuard<'_, Monitor> {
        locked(&self.monitor)
    }

    pub(super) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
