//! What Prometheus is told. Names are `wharf_<part>_<noun>_<unit>[_total]`.
//!
//! Counting happens where things happen ([`KafkaMetrics`], [`MeasuredDisk`]); everything the broker and the log know
//! anyway is asked when somebody scrapes ([`NodeCollector`]). Label values come from bounded sets,
//! or are cut off at a number.

mod collector;
mod disk;
mod kafka;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "relay")]
mod relay;

pub(crate) use collector::NodeCollector;
pub(crate) use disk::{DiskMetrics, MeasuredDisk};
pub(crate) use kafka::{Counted, KafkaMetrics};
#[cfg(feature = "registry")]
pub(crate) use registry::RegistryMetrics;
#[cfg(feature = "relay")]
pub(crate) use relay::RelayCollector;
