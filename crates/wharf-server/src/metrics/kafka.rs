//! Counters and latencies of the Kafka listener.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The kind of request; its values are the protocol's names, so there are some dozens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    request: &'static str,
}

/// The listener's metrics. Clones count into the same ones.
#[derive(Clone, Debug)]
pub(crate) struct KafkaMetrics {
    requests: Family<Request, Counter>,
    seconds: Family<Request, Histogram, fn() -> Histogram>,
    received_bytes: Counter,
    sent_bytes: Counter,
    in_flight: Gauge,
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    panics: Counter,
    throttled: Counter,
    throttle_seconds: Counter<f64, AtomicU64>,
    turned_away: Counter,
}

/// From 100 µs to about 13 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

impl KafkaMetrics {
    /// The metrics, registered.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latencies),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            in_flight: Gauge::default(),
            open: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            panics: Counter::default(),
            throttled: Counter::default(),
            throttle_seconds: Counter::default(),
            turned_away: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("kafka");
        let Self {
            requests,
            seconds,
            received_bytes,
            sent_bytes,
            ..
        } = metrics.clone();
        registry.register("requests", "Requests received, by kind", requests);
        registry.register_with_unit(
            "request",
            "From the whole request being here to its answer being handed to the socket",
            Unit::Seconds,
            seconds,
        );
        let bytes = || Unit::Bytes;
        registry.register_with_unit("received", "Requests received", bytes(), received_bytes);
        registry.register_with_unit("sent", "Answers sent", bytes(), sent_bytes);
        let Self {
            in_flight,
            open,
            accepted,
            refused,
            panics,
            ..
        } = metrics.clone();
        registry.register("in_flight_requests", "Requests not yet answered", in_flight);
        registry.register("open_connections", "Connections open now", open);
        registry.register("connections", "Connections accepted", accepted);
        registry.register(
            "refused_connections",
            "Connections beyond the limit",
            refused,
        );
        registry.register("handler_panics", "Requests whose handler panicked", panics);
        let Self {
            throttled,
            throttle_seconds,
            turned_away,
            ..
        } = metrics.clone();
        registry.register(
            "throttled_requests",
            "Requests whose client had to wait for its quota",
            throttled,
        );
        registry.register_with_unit(
            "throttle",
            "How long clients had to wait for their quotas",
            Unit::Seconds,
            throttle_seconds,
        );
        registry.register(
            "turned_away_connections",
            "Connections beyond the quota of their address",
            turned_away,
        );
        metrics
    }

    /// A request is here; it is in flight until the returned value is dropped.
    pub(crate) fn received(&self, request: &'static str, bytes: usize) -> Counted {
        self.requests.get_or_create(&Request { request }).inc();
        self.received_bytes.inc_by(bytes as u64);
        Counted::new(&self.in_flight)
    }

    /// It is answered (with no bytes: it asked for no answer).
    pub(crate) fn answered(&self, request: &'static str, bytes: usize, after: Duration) {
        self.seconds
            .get_or_create(&Request { request })
            .observe(after.as_secs_f64());
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// A connection is open until the returned value is dropped.
    pub(crate) fn opened(&self) -> Counted {
        self.accepted.inc();
        Counted::new(&self.open)
    }

    /// A connection was beyond the limit.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    /// A client has to wait this long.
    pub(crate) fn throttled(&self, wait: Duration) {
        self.throttled.inc();
        self.throttle_seconds.inc_by(wait.as_secs_f64());
    }

    /// A connection was beyond the quota of its address.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// A handler panicked.
    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }
}

/// Counts one more while it lives, also when its task panics.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
