//! What the relays know, asked at each scrape. Alert rules name these: `docs/operating/outbox-alerts.yml`.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use wharf_relay::State;

use crate::clock;
use crate::relay::{RelayView, Relays};

/// Every state, so that each has a value.
const STATES: [State; 5] = [
    State::Connecting,
    State::Running,
    State::Degraded,
    State::Standby,
    State::Stopped,
];

/// Asks the relays when somebody scrapes.
#[derive(Debug)]
pub(crate) struct RelayCollector(pub(crate) Arc<Relays>);

type Counter = (&'static str, &'static str, fn(&RelayView) -> u64);
type Gauge = (&'static str, &'static str, fn(&RelayView) -> Option<f64>);

const COUNTERS: [Counter; 4] = [
    ("relay_rows", "Rows made durable at the target", |view| {
        view.status.rows
    }),
    (
        "relay_rows_set_aside",
        "Rows that no message could be made of, or that their topic did not take",
        |view| view.status.set_aside,
    ),
    (
        "relay_batches",
        "Batches made durable at the target",
        |view| view.status.batches,
    ),
    ("relay_connects", "Times the relay connected", |view| {
        view.status.connects
    }),
];

const GAUGES: [Gauge; 6] = [
    (
        "relay_lag_rows",
        "Rows committed and not yet durable at the target",
        |view| view.status.lag.rows.map(approximate),
    ),
    (
        "relay_lag_bytes",
        "Bytes of the database's log that are not yet read and durable",
        |view| view.status.lag.bytes.map(approximate),
    ),
    (
        "relay_lag_seconds",
        "Time since the last durable row was committed, 0 when nothing is left",
        |view| {
            view.status
                .behind(clock::now())
                .map(|behind| behind.as_secs_f64())
        },
    ),
    (
        "relay_retained_bytes",
        "Bytes of its log that the database keeps for the relay",
        |view| view.status.lag.retained_bytes.map(approximate),
    ),
    (
        "relay_safe_bytes",
        "Bytes of log until the database gives the slot up",
        |view| view.status.lag.safe_bytes.map(signed),
    ),
    (
        "relay_last_error_code",
        "The number of the last error code, 0 when there was none",
        |view| {
            let trouble = view.status.trouble.as_ref();
            Some(trouble.map_or(0.0, |(_, trouble)| f64::from(trouble.code.number())))
        },
    ),
];

#[expect(clippy::cast_precision_loss, reason = "a metric")]
fn approximate(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
fn signed(value: i64) -> f64 {
    value as f64
}

impl Collector for RelayCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let views = self.0.views();
        for (name, help, value) in COUNTERS {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for view in &views {
                let labels = [("relay", view.name.as_str())];
                ConstCounter::new(value(view)).encode(family.encode_family(&labels)?)?;
            }
        }
        let kind = ConstGauge::new(0.0_f64).metric_type();
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for view in &views {
                let labels = [("relay", view.name.as_str())];
                if let Some(value) = value(view) {
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let help = "1 for the state that the relay is in";
        let mut family = encoder.encode_descriptor("relay_state", help, None, kind)?;
        for view in &views {
            for state in STATES {
                let labels = [("relay", view.name.as_str()), ("state", state.name())];
                let is = f64::from(u8::from(view.status.state == state));
                ConstGauge::new(is).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
