//! Why an input is refused. A refusal changes nothing and leaves no fact.

use thiserror::Error;

use super::status::Status;
use crate::definition::Hash;

/// Why an input changes nothing: what is the matter, why, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no saga yet.
    #[error("the saga has not started; start it first")]
    NotStarted,
    /// There is one already.
    #[error("the saga has started already; one idempotency key starts one saga")]
    AlreadyStarted,
    /// The definition is not the one that the saga is pinned to.
    #[error("the saga is pinned to definition {pinned}, and {given} was given")]
    OtherDefinition {
        /// The saga's.
        pinned: Hash,
        /// The one that was given.
        given: Hash,
    },
    /// The saga is over.
    #[error("the saga ended {0}; nothing changes it any more")]
    Ended(Status),
    /// The answer is to a dispatch that nobody waits for.
    #[error(
        "the answer for step {step}, generation {generation}, is stale: nobody waits for it; it was \
         answered, replaced by a later attempt, or given up"
    )]
    Stale {
        /// The visit.
        step: u32,
        /// The dispatch.
        generation: u32,
    },
    /// The saga never dispatched this.
    #[error(
        "the saga has no dispatch {generation} of step {step}; check the saga's id and the step"
    )]
    UnknownTask {
        /// The visit.
        step: u32,
        /// The dispatch.
        generation: u32,
    },
    /// The task does not wait for a slot.
    #[error("step {step} does not wait for a slot; give the slot to another task")]
    NotHeld {
        /// The visit.
        step: u32,
    },
    /// As many signals as are kept wait already.
    #[error(
        "{kept} signals wait already and none of them was asked for; let the saga take them before \
         sending more"
    )]
    TooManySignals {
        /// How many.
        kept: usize,
    },
    /// The signal, or what a person gave, is larger than a value may be.
    #[error(
        "the value has {size} bytes and at most {max} are allowed; send a reference to it instead"
    )]
    TooLarge {
        /// How large it is.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// It is paused already.
    #[error("the saga is paused already")]
    AlreadyPaused,
    /// It is not paused.
    #[error("the saga is not paused and no deadline holds it; there is nothing to resume")]
    NotPaused,
    /// No such step is under way.
    #[error("the saga is not in step {step}; its steps are {known}")]
    UnknownStep {
        /// The visit.
        step: u32,
        /// Those it is in.
        known: String,
    },
    /// The step is not parked.
    #[error("step {step} ({name}) is not parked but {doing}; {hint}")]
    NotParked {
        /// The visit.
        step: u32,
        /// The state's name.
        name: String,
        /// What it does.
        doing: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// No step is parked.
    #[error("no step is parked; {hint}")]
    NothingParked {
        /// What to do instead.
        hint: &'static str,
    },
    /// More than one step is parked, and the action did not say which it means.
    #[error("more than one step is parked ({known}); say which one is meant")]
    WhichStep {
        /// Those that are.
        known: String,
    },
    /// The action does not go with this step.
    #[error("step {step} ({name}): {why}")]
    NotForThisStep {
        /// The visit.
        step: u32,
        /// The state's name.
        name: String,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// The pivot is passed.
    #[error(
        "the saga is past its pivot and goes only forward; retry, skip or mark its parked step instead"
    )]
    PastPivot,
    /// The pivot is parked, and nobody knows whether it was done.
    #[error(
        "nobody knows whether the saga's pivot was done; find out, then mark its parked step as completed or as compensated, or retry it"
    )]
    PivotInDoubt,
    /// It is being undone already.
    #[error("the saga is being undone already")]
    AlreadyCompensating,
    /// It cannot be taken up again.
    #[error("the saga cannot be redriven: {0}")]
    NotRedrivable(&'static str),
    /// The answer came twice while the saga was halted.
    #[error("an answer for step {step} waits already until the saga goes on")]
    AlreadyKept {
        /// The visit.
        step: u32,
    },
}
