//! What readers see: the registry up to the last commit, swapped whole.
//!
//! A reader takes its copy under a lock that is held for the length of one pointer, and keeps it as
//! long as it likes; the writer never waits for it. No lock is held across an await.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use wharf_schema::registry::{Registry, Settings};

/// The published registry.
#[derive(Debug)]
pub(super) struct Published {
    settings: Settings,
    registry: RwLock<Arc<Registry>>,
    is_read: AtomicBool,
    /// Why there is no working with the topic, while there is none.
    trouble: RwLock<Option<String>>,
    /// Records that replay ignored.
    pub(super) ignored: Counter,
}

impl Published {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            registry: RwLock::new(Arc::new(Registry::new(settings.clone()))),
            settings,
            is_read: AtomicBool::new(false),
            trouble: RwLock::new(None),
            ignored: Counter::default(),
        }
    }

    /// A registry of an empty topic.
    pub(super) fn empty(&self) -> Registry {
        Registry::new(self.settings.clone())
    }

    pub(super) fn registry(&self) -> Arc<Registry> {
        let registry = self.registry.read();
        Arc::clone(&registry.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, registry: Registry) {
        let new = Arc::new(registry);
        let mut place = self
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, new);
        drop(place);
        // It may be the last copy of much, which readers need not wait for.
        drop(old);
        self.is_read.store(true, Ordering::Release);
    }

    /// Whether there ever was something to read; an empty topic, or none, is something.
    pub(super) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Why the topic cannot be used, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.read();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the reason, or that it is over; whether it is another one than before.
    pub(super) fn in_trouble(&self, reason: Option<String>) -> bool {
        let mut place = self.trouble.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = *place != reason;
        *place = reason;
        is_new
    }
}
