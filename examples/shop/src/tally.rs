//! What is counted while the shop runs. Counting only: no service reads another's counters.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened to orders, in the whole shop. What the order and the payment service did is in their
/// database, and comes from there ([`Database::count`](crate::Database)).
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) checkouts: Count,
    pub(crate) checkouts_repeated: Count,
    pub(crate) checkouts_malformed: Count,
    pub(crate) placed: Count,
    pub(crate) completed: Count,
    pub(crate) rejected: Count,
    pub(crate) reserved: Count,
    pub(crate) unavailable: Count,
    pub(crate) released: Count,
    pub(crate) captured: Count,
    pub(crate) declined: Count,
    pub(crate) payments_repeated: Count,
    pub(crate) gateway_failures: Count,
    pub(crate) shipped: Count,
    pub(crate) notified: Count,
}

/// What one service did.
#[derive(Debug)]
pub(crate) struct ServiceTally {
    pub(crate) name: &'static str,
    pub(crate) received: Count,
    pub(crate) retried: Count,
    pub(crate) suppressed: Count,
    pub(crate) set_aside: Count,
    pub(crate) leftover: Count,
    pub(crate) lag: Count,
    latency_millis: Mutex<Histogram<u64>>,
}

impl ServiceTally {
    pub(crate) fn new(name: &'static str) -> Self {
        // One minute at most, two significant digits: about 30 KiB.
        let latency = Histogram::new_with_bounds(1, 60_000, 2).expect("the bounds are valid");
        Self {
            name,
            received: Count::default(),
            retried: Count::default(),
            suppressed: Count::default(),
            set_aside: Count::default(),
            leftover: Count::default(),
            lag: Count::default(),
            latency_millis: Mutex::new(latency),
        }
    }

    /// Records how long a message was on its way.
    pub(crate) fn arrived_after(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut latency = self
            .latency_millis
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        latency.saturating_record(millis);
    }

    /// The figures now.
    pub(crate) fn view(&self) -> ServiceView {
        let latency = self
            .latency_millis
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        ServiceView {
            name: self.name,
            received: self.received.get(),
            retried: self.retried.get(),
            suppressed: self.suppressed.get(),
            set_aside: self.set_aside.get(),
            leftover: self.leftover.get(),
            lag: self.lag.get(),
            latency_p50_millis: latency.value_at_quantile(0.5),
            latency_p99_millis: latency.value_at_quantile(0.99),
        }
    }
}

/// A service's figures at one moment.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// The service, which is its consumer group too.
    pub name: &'static str,
    /// Messages received since the start.
    pub received: u64,
    /// Attempts made again after one that failed.
    pub retried: u64,
    /// Repeats that changed nothing.
    pub suppressed: u64,
    /// Messages set aside as dead letters.
    pub set_aside: u64,
    /// Messages of an earlier run on the same data, left alone.
    pub leftover: u64,
    /// Messages not yet consumed by the group.
    pub lag: u64,
    /// Half of the messages were on their way for at most this long.
    pub latency_p50_millis: u64,
    /// All but one in a hundred were on their way for at most this long.
    pub latency_p99_millis: u64,
}

/// The shop's figures at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Seconds since the start.
    pub seconds: f64,
    /// Checkouts sent, repeats and malformed ones included.
    pub checkouts: u64,
    /// Orders placed.
    pub placed: u64,
    /// Orders completed.
    pub completed: u64,
    /// Orders rejected.
    pub rejected: u64,
    /// The services.
    pub services: Vec<ServiceView>,
}
