//! What a simulation of sagas does: how long, and which faults it may draw from.
//!
//! Every seed draws its own mix, so that rare combinations get whole seeds to themselves.

use wharf_log::disk::simulated::Random;

use super::definitions::{OUTER, RANDOM, TRANSFER};
use super::sabotage::Sabotage;
use crate::plan::pick;

/// Of 100 seeds, so many stand on the node's own log.
const ON_THE_LOG_PERCENT: u32 = 20;

/// What a simulation of sagas does.
#[derive(Clone, Debug, Default)]
pub struct SagaPlan {
    /// What is broken on purpose, to show that the checkers notice.
    pub sabotage: Option<Sabotage>,
    /// Whether a violation tells everything that happened before it.
    pub tells: bool,
    /// Whether every seed, or none, stands on the node's own log instead of a model of it; else the
    /// seed decides.
    pub on_the_log: Option<bool>,
}

/// What one seed drew.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    /// How long things go wrong, in milliseconds.
    pub(super) rough: i64,
    /// How long a sync takes at most when nothing is wrong, in milliseconds.
    pub(super) sync_max: u64,
    pub(super) partitions: u32,
    pub(super) topic_partitions: u32,
    pub(super) types: Vec<&'static str>,
    pub(super) sagas: u64,
    /// How often each may happen, at most.
    pub(super) crashes: u64,
    pub(super) weathers: u64,
    pub(super) jumps: u64,
    pub(super) orders: u64,
    pub(super) replies: u64,
    pub(super) deploys: u64,
    /// Of 100 answers, so many are no success; and so many workers die on their way.
    pub(super) bad_percent: u32,
    pub(super) dead_percent: u32,
    /// How long an answer takes at most, in milliseconds.
    pub(super) slow: u64,
    /// The ledger is the node's own, on the simulated disk.
    pub(super) on_the_log: bool,
}

impl Mix {
    pub(super) fn draw(plan: &SagaPlan, random: &mut Random) -> Self {
        let mut types = match random.below(4) {
            0 => vec![RANDOM],
            1 => vec![TRANSFER],
            2 => vec![TRANSFER, OUTER],
            _ => vec![RANDOM, TRANSFER],
        };
        // The inner one is there before what needs it.
        types.sort_by_key(|name| *name == OUTER);
        let mut some = |most: u64| {
            if random.percent(60) {
                random.below(most + 1)
            } else {
                0
            }
        };
        let (crashes, weathers, jumps) = (some(4), some(4), some(3));
        let (orders, replies, deploys) = (some(8), some(6), some(2));
        let mix = Self {
            rough: i64::try_from(random.between(5_000, 40_000)).unwrap_or(0),
            sync_max: *pick(&[0, 5, 20, 100], random),
            partitions: *pick(&[1, 1, 2, 3], random),
            topic_partitions: *pick(&[1, 2], random),
            types,
            sagas: random.between(1, 6),
            crashes,
            weathers,
            jumps,
            orders,
            replies,
            deploys,
            bad_percent: *pick(&[0, 10, 30, 60], random),
            dead_percent: *pick(&[0, 10, 30], random),
            slow: *pick(&[5, 200, 3_000, 12_000], random),
            on_the_log: random.percent(ON_THE_LOG_PERCENT),
        };
        let needed = plan.sabotage.filter(|sabotage| sabotage.is_of_the_log());
        let wanted = plan.on_the_log.or(needed.map(|_| true));
        Self {
            on_the_log: wanted.unwrap_or(mix.on_the_log),
            ..mix
        }
    }
}
