//! What is counted of sagas. The names are in `docs/reference/metrics.md`.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use wharf_saga::machine::Status;

use super::engine::Engine;

/// Labels of what is counted by type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    r#type: String,
}

/// Labels of ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ends {
    r#type: String,
    status: String,
}

/// Labels of steps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    r#type: String,
    step: String,
}

/// The counters.
#[derive(Clone)]
pub(super) struct SagaMetrics {
    starts: Family<OfType, Counter>,
    ends: Family<Ends, Counter>,
    transitions: Counter,
    stale: Counter,
    starts_refused: Counter,
    pub(super) alarms_lost: Counter,
    steps: Family<OfStep, Histogram>,
}

impl SagaMetrics {
    pub(super) fn register(metrics: &mut Registry) -> Self {
        let new = Self {
            starts: Family::default(),
            ends: Family::default(),
            transitions: Counter::default(),
            stale: Counter::default(),
            starts_refused: Counter::default(),
            alarms_lost: Counter::default(),
            steps: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 4.0, 10))
            }),
        };
        metrics.register("starts", "Sagas started", new.starts.clone());
        metrics.register("ends", "Sagas ended, by how", new.ends.clone());
        let help = "Facts decided about sagas";
        metrics.register("transitions", help, new.transitions.clone());
        let help = "Answers of workers that changed nothing: stale, unknown or not readable";
        metrics.register("stale_replies", help, new.stale.clone());
        let help = "Records that were to start a saga and did not";
        metrics.register("starts_refused", help, new.starts_refused.clone());
        let help = "Alarms that the webhook did not take; their records are kept";
        metrics.register("alarms_lost", help, new.alarms_lost.clone());
        let help = "From the dispatch of a task to its result";
        metrics.register("step_seconds", help, new.steps.clone());
        new
    }

    pub(super) fn started(&self, saga_type: &str) {
        let labels = OfType {
            r#type: saga_type.to_owned(),
        };
        self.starts.get_or_create(&labels).inc();
    }

    pub(super) fn ended(&self, saga_type: &str, status: Status) {
        let labels = Ends {
            r#type: saga_type.to_owned(),
            status: status.to_string(),
        };
        self.ends.get_or_create(&labels).inc();
    }

    pub(super) fn decided(&self, facts: usize) {
        self.transitions
            .inc_by(u64::try_from(facts).unwrap_or(u64::MAX));
    }

    pub(super) fn stepped(&self, saga_type: &str, step: &str, took: Duration) {
        let labels = OfStep {
            r#type: saga_type.to_owned(),
            step: step.to_owned(),
        };
        self.steps
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    pub(super) fn stale(&self) {
        self.stale.inc();
    }

    pub(super) fn start_refused(&self) {
        self.starts_refused.inc();
    }
}

/// What there is, asked at each scrape.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Engine);

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts();
        let number = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let kind = number(0).metric_type();
        let mut family = encoder.encode_descriptor("sagas", "Sagas that are kept", None, kind)?;
        for (saga_type, status, count) in &counts {
            let labels = [("type", saga_type.as_str()), ("status", *status)];
            number(*count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Sagas to which nothing happened for a while, kept in little memory";
        let family = encoder.encode_descriptor("asleep", help, None, kind)?;
        number(self.0.asleep()).encode(family)?;
        let help = "Sagas that wait for a person";
        let mut family = encoder.encode_descriptor("parked", help, None, kind)?;
        let parked = counts
            .iter()
            .filter(|(_, status, _)| *status == Status::Parked.as_str());
        for (saga_type, _, count) in parked {
            let labels = [("type", saga_type.as_str())];
            number(*count).encode(family.encode_family(&labels)?)?;
        }
        let help = "1 while sagas cannot use their topics";
        let gauge = number(usize::from(self.0.trouble().is_some()));
        let encoder = encoder.encode_descriptor("unavailable", help, None, kind)?;
        gauge.encode(encoder)
    }
}
