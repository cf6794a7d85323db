//! What is counted of choreographies, asked at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use wharf_saga::choreography::verdict::{Counts as Verdicts, Kind};

use super::shared::{Shared, locked};

/// The collector.
#[derive(Debug)]
pub(super) struct Counts(pub(super) Arc<Shared>);

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.contracts(&mut encoder)?;
        self.others(&mut encoder)
    }
}

impl Counts {
    /// What is counted by contract.
    fn contracts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let contracts = self.0.contracts();
        let counts: Vec<(String, Verdicts, bool)> = contracts
            .iter()
            .map(|watched| {
                let monitor = watched.monitor();
                (
                    monitor.contract().name.clone(),
                    monitor.counts().clone(),
                    watched.is_read(),
                )
            })
            .collect();
        let gauge = ConstGauge::new(0_i64).metric_type();
        let counter = ConstCounter::new(0_u64).metric_type();
        let help = "Instances of a contract that have a verdict now";
        let mut family = encoder.encode_descriptor("choreography_instances", help, None, gauge)?;
        for (name, counts, _) in &counts {
            for kind in Kind::ALL {
                let labels = [("choreography", name.as_str()), ("verdict", kind.name())];
                ConstGauge::new(signed(of(&counts.now, kind)))
                    .encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Instances that are stuck or half-compensated now";
        let mut family = encoder.encode_descriptor("choreography_stuck", help, None, gauge)?;
        for (name, counts, _) in &counts {
            let labels = [("choreography", name.as_str())];
            let stuck = of(&counts.now, Kind::Stuck) + of(&counts.now, Kind::HalfCompensated);
            ConstGauge::new(signed(stuck)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Whether everything that is kept of a contract's topics was read";
        let mut family = encoder.encode_descriptor("choreography_read", help, None, gauge)?;
        for (name, _, is_read) in &counts {
            let labels = [("choreography", name.as_str())];
            ConstGauge::new(i64::from(*is_read)).encode(family.encode_family(&labels)?)?;
        }
        let help = "Instances that came to a verdict since the node was started";
        let mut family = encoder.encode_descriptor("choreography_verdicts", help, None, counter)?;
        for (name, counts, _) in &counts {
            for kind in Kind::ALL {
                let labels = [("choreography", name.as_str()), ("verdict", kind.name())];
                ConstCounter::new(of(&counts.reached, kind))
                    .encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// The lens, the reading and the webhook.
    fn others(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = ConstGauge::new(0_i64).metric_type();
        let counter = ConstCounter::new(0_u64).metric_type();
        let (instances, dropped) = {
            let lens = locked(&self.0.lens);
            (lens.instances_len(), lens.dropped())
        };
        let help = "Instances that the lens has in view";
        let family = encoder.encode_descriptor("choreography_lens_instances", help, None, gauge)?;
        ConstGauge::new(i64::try_from(instances).unwrap_or(i64::MAX)).encode(family)?;
        let hooks = &self.0.hooks;
        let single = [
            (
                "choreography_records",
                "Records read to watch choreographies",
                self.0.records.load(Ordering::Relaxed),
            ),
            (
                "choreography_lens_uncorrelated",
                "Records that nothing correlates",
                dropped.uncorrelated,
            ),
            (
                "choreography_lens_dropped",
                "Instances and events that the lens let go of",
                dropped.instances + dropped.events + dropped.names + dropped.kinds,
            ),
            (
                "choreography_webhooks_sent",
                "Bad verdicts sent to the webhook",
                hooks.sent.load(Ordering::Relaxed),
            ),
            (
                "choreography_webhooks_failed",
                "Bad verdicts that the webhook did not take",
                hooks.failed.load(Ordering::Relaxed),
            ),
            (
                "choreography_webhooks_dropped",
                "Bad verdicts left out because too many waited",
                hooks.dropped.load(Ordering::Relaxed),
            ),
        ];
        for (name, help, count) in single {
            let family = encoder.encode_descriptor(name, help, None, counter)?;
            ConstCounter::new(count).encode(family)?;
        }
        Ok(())
    }
}

fn of(counts: &std::collections::BTreeMap<Kind, u64>, kind: Kind) -> u64 {
    counts.get(&kind).copied().unwrap_or(0)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
