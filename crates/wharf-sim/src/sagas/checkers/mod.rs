//! The checkers of sagas: one promise each, one file each.
//!
//! They judge what is durable, what workers did and what people were told; none of them looks into
//! the orchestrator's memory except to compare it. `sabotage.rs` shows of each that it can fail.

pub(super) mod durable_first;
pub(super) mod effects_once;
pub(super) mod every_saga_ends;
pub(super) mod listed_as_it_is;
pub(super) mod money;
pub(super) mod nothing_forward_after_undo;
pub(super) mod one_saga_per_key;
pub(super) mod orders_are_records;
pub(super) mod pinned;
pub(super) mod replay;
pub(super) mod stale_is_fenced;
pub(super) mod timers;
pub(super) mod undo;

use std::sync::Arc;

use wharf_saga::definition::Definition;
use wharf_saga::machine::Fact;

pub(super) use crate::checkers::{Broken, broken};

use super::watch::{Durable, Seen, Watch};

/// What is read back must make sense to anybody.
pub(super) const READABLE: &str = "what is on the disk can be read, and nothing of it is missing";

/// What the checkers keep of one saga.
pub(super) struct PerSaga {
    pub(super) undo: undo::Undo,
    pub(super) timers: timers::Timers,
    pub(super) stale: stale_is_fenced::Answered,
    pub(super) visits: effects_once::Visits,
    pub(super) forward: nothing_forward_after_undo::Turned,
    pinned: pinned::Pinned,
}

impl PerSaga {
    pub(super) fn new(definition: &Arc<Definition>, judges_order: bool) -> Self {
        Self {
            undo: undo::Undo::new(&definition.machine, judges_order),
            timers: timers::Timers::default(),
            stale: stale_is_fenced::Answered::default(),
            visits: effects_once::Visits::default(),
            forward: nothing_forward_after_undo::Turned::default(),
            pinned: pinned::Pinned::to(&definition.machine),
        }
    }
}

/// One decision of a saga became durable.
pub(super) fn facts(seen: &mut Seen, facts: &[Fact], commit: &Durable) -> Result<(), Broken> {
    let checks = &mut seen.checks;
    checks.undo.decided(facts)?;
    for fact in facts {
        checks.timers.fact(fact, commit.latest)?;
        checks.stale.fact(&fact.what)?;
        checks.visits.fact(&fact.what);
        checks.forward.fact(&fact.what)?;
        checks.pinned.fact(&fact.what)?;
    }
    Ok(())
}

/// A whole commit became durable.
pub(super) fn commit(watch: &Watch, commit: &Durable) -> Result<(), Broken> {
    durable_first::commands(watch, commit)?;
    nothing_forward_after_undo::commands(watch, commit)?;
    every_saga_ends::alarms(commit)?;
    orders_are_records::audited(commit)
}
