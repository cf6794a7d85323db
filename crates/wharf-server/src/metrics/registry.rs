//! What the schema registry counts. Routes are those of its table, so there are some dozens.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A route of the API and the status it was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: &'static str,
}

/// The registry's metrics. Clones count into the same ones.
#[derive(Clone, Debug)]
pub(crate) struct RegistryMetrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

/// From 25 µs to about 3 s.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_025, 2.0, 18))
}

impl RegistryMetrics {
    /// The metrics, registered.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latencies),
        };
        registry.register(
            "requests",
            "Requests answered, by route and status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request",
            "From the head of the request being here to its answer being ready",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        metrics
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &'static str, status: u16, took: Duration) {
        let answered = Answered { route, status };
        self.requests.get_or_create(&answered).inc();
        self.seconds
            .get_or_create(&Asked { route })
            .observe(took.as_secs_f64());
    }
}
