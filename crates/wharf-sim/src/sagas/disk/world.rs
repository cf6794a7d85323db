//! The world of the broker: the time of the simulation, and the tasks of the node's runtime.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::sleep;
use wharf_broker::Runtime;
use wharf_log::disk::simulated::Random;
use wharf_message::Timestamp;

use super::super::clock;
use super::DiskLedger;

/// How long a read from the disk takes at most, in milliseconds.
const READ_MAX: u64 = 3;

/// The world of one life.
#[derive(Clone)]
pub(super) struct Surroundings {
    handle: Handle,
    random: Arc<Mutex<Random>>,
    /// Reads from the disk take no time: the simulation itself reads.
    at_once: Arc<AtomicBool>,
    ledger: DiskLedger,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Surroundings")
    }
}

impl Surroundings {
    pub(super) fn new(handle: Handle, random: Random, ledger: DiskLedger) -> Self {
        Self {
            handle,
            random: Arc::new(Mutex::new(random)),
            at_once: Arc::default(),
            ledger,
        }
    }

    /// Whether reads take no time.
    pub(super) fn read_at_once(&self, at_once: bool) {
        self.at_once.store(at_once, Ordering::Relaxed);
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn random(&self) -> std::sync::MutexGuard<'_, Random> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime for Surroundings {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(clock::wall().0)
    }

    fn steady(&self) -> Timestamp {
        Timestamp::from_millis(clock::steady())
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let left = deadline.as_millis() - clock::steady();
            sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let ledger = self.ledger.clone();
        drop(self.handle.spawn(ledger.attended(task)));
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        if self.at_once.load(Ordering::Relaxed) {
            return work();
        }
        let takes = Duration::from_millis(self.random().below(READ_MAX + 1));
        drop(self.handle.spawn(async move {
            sleep(takes).await;
            work();
        }));
    }

    fn random(&self) -> [u8; 16] {
        let mut random = Surroundings::random(self);
        let halves = [random.next_u64(), random.next_u64()];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves[0].to_be_bytes());
        bytes[8..].copy_from_slice(&halves[1].to_be_bytes());
        bytes
    }
}
