//! What is kept of a saga: facts, and the effects that follow from each of them.
//!
//! A fact says everything that [`super::Saga::apply`] needs, so that replaying it never evaluates an
//! expression, never fails and never decides. A field that was written once must stay readable for
//! as long as there is a saga that holds it: fields are added with a default, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_message::Timestamp;

use super::data::{Data, is_false, is_zero, millis, some};
use super::input::{ChildEnd, Order, Outcome, Start};
use super::status::{ParkReason, Status};

/// Something that is so, since a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When it was decided.
    #[serde(with = "millis")]
    pub at: Timestamp,
    /// What is so.
    #[serde(rename = "is")]
    pub what: What,
}

/// What is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are the same few everywhere: step (the visit), scope (the branch), generation \
              (the dispatch), error and cause, undo (of the undo, not of the step)"
)]
pub enum What {
    /// The saga began.
    Started {
        start: Box<Start>,
        /// The first state.
        first: String,
        /// `TimeoutSeconds` of the machine.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        timeout: Option<Timestamp>,
        /// `DeadlineSeconds` of the saga.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        deadline: Option<Timestamp>,
    },
    /// A state was entered: a visit began.
    Entered {
        step: u32,
        #[serde(default, skip_serializing_if = "is_zero")]
        scope: u32,
        state: String,
        /// Whether there is something to undo once its task went out.
        #[serde(default, skip_serializing_if = "is_false")]
        undoable: bool,
    },
    /// A task waits for a slot of its resource.
    Held { step: u32, resource: String },
    /// It got the slot.
    Admitted { step: u32 },
    /// A task went out.
    Dispatched(Box<Dispatched>),
    /// A worker gave a sign of life.
    Beat {
        step: u32,
        generation: u32,
        #[serde(default, skip_serializing_if = "is_false")]
        accepted: bool,
        /// Until when the next one is expected.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        until: Option<Timestamp>,
    },
    /// A task gave its result.
    Succeeded {
        step: u32,
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
        output: Data,
    },
    /// An attempt failed, or the state itself did.
    Failed(Box<Failed>),
    /// It is tried again later.
    Retrying {
        step: u32,
        /// Which retrier, whose counter grows.
        #[serde(default, skip_serializing_if = "is_zero")]
        retrier: u32,
        #[serde(with = "millis")]
        until: Timestamp,
    },
    /// A Wait waits.
    Waiting {
        step: u32,
        #[serde(with = "millis")]
        until: Timestamp,
    },
    /// A task waits for a signal.
    Listening {
        step: u32,
        signal: String,
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        until: Option<Timestamp>,
    },
    /// A signal came before anybody waited for it.
    SignalKept { signal: String, payload: Data },
    /// The oldest kept signal of that name was used.
    SignalTaken { signal: String },
    /// A state was left; without `next` its flow ended with this output.
    Left(Box<Left>),
    /// A Parallel or Map went into its branches.
    Forked {
        step: u32,
        /// How many branches there are.
        width: u32,
        /// What every branch of a Parallel gets, or the items of a Map.
        input: Data,
        /// Whether `input` is the items of a Map.
        #[serde(default, skip_serializing_if = "is_false")]
        items: bool,
        /// How many may run at once; 0 is any number.
        #[serde(default, skip_serializing_if = "is_zero")]
        limit: u32,
        /// How many may fail; absent when none is tolerated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tolerated: Option<u32>,
    },
    /// A branch began.
    Branched {
        scope: u32,
        step: u32,
        #[serde(default, skip_serializing_if = "is_zero")]
        index: u32,
        /// Its first state.
        first: String,
        /// Its input, where it is not the item or the Parallel's input.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "some"
        )]
        input: Option<Data>,
    },
    /// A branch failed and that is tolerated.
    BranchFailed {
        scope: u32,
        error: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cause: String,
    },
    /// A state that was under way is not continued.
    Stopped {
        step: u32,
        how: Stop,
        /// The dispatch nobody waits for any more.
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        resource: String,
    },
    /// From here on it is undone.
    Compensating {
        trigger: Trigger,
        error: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cause: String,
    },
    /// The branches of a Parallel or Map are being undone.
    Undoing { step: u32 },
    /// A sub-saga that is under way is asked to abort; its end is waited for.
    Aborting {
        step: u32,
        generation: u32,
        resource: String,
    },
    /// Nothing is left to undo of this step.
    Undone {
        step: u32,
        how: Undone,
        #[serde(default, skip_serializing_if = "is_zero")]
        generation: u32,
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "some"
        )]
        output: Option<Data>,
    },
    /// The answer to a task that nobody continued, or that timed out; it tells whether there is
    /// something to undo.
    Late {
        step: u32,
        generation: u32,
        outcome: Outcome,
    },
    /// An answer that changes nothing.
    StaleReply {
        step: u32,
        generation: u32,
        /// What it said, in one word.
        said: String,
    },
    /// An answer that came while the saga was halted.
    Kept(Box<Kept>),
    /// A person is needed.
    Parked {
        /// Absent when it is the whole saga.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        reason: ParkReason,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        error: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cause: String,
    },
    /// A person acted.
    Acted(Box<Order>),
    /// A parked step is run again.
    Retried { step: u32 },
    /// A parked step got another input.
    Edited { step: u32, input: Data },
    /// A person found out whether a step is done.
    Marked {
        step: u32,
        done: bool,
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "some"
        )]
        output: Option<Data>,
    },
    /// The machine's time-out or the deadline passed; neither fires again.
    DeadlinePassed,
    /// There is more to do at once, and it is left to the next tick.
    Yielded,
    /// The saga goes on where it had failed.
    Redriven {
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        timeout: Option<Timestamp>,
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            with = "millis::option"
        )]
        deadline: Option<Timestamp>,
    },
    /// The saga ended.
    Ended {
        status: Status,
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "some"
        )]
        output: Option<Data>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
}

/// A task that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatched {
    /// The visit.
    pub step: u32,
    /// Which attempt of the visit, or of its undo.
    pub attempt: u32,
    /// Which dispatch of the saga.
    pub generation: u32,
    /// Whether it is the undo.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undo: bool,
    /// The state, for whoever reads only this fact.
    pub state: String,
    /// Who does it.
    pub resource: String,
    /// What with.
    pub arguments: Data,
    /// When the attempt is given up.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    pub timeout: Option<Timestamp>,
    /// The longest silence, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<u64>,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The visit.
    pub step: u32,
    /// The dispatch that failed; 0 when nothing had gone out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
    /// The error's name.
    pub error: String,
    /// The explanation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// Whether the worker vouches that nothing was done.
    #[serde(default, skip_serializing_if = "is_false")]
    pub declared: bool,
    /// Whether it is the undo that failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undo: bool,
    /// The resource of a dispatch that was given up, so that its worker can be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub given_up: String,
}

/// A state that was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The visit.
    pub step: u32,
    /// The output.
    pub output: Data,
    /// The next state of the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Variables that it set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assign: BTreeMap<String, Data>,
    /// Whether it was left through a `Catch`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub caught: bool,
    /// Whether there is something of it to undo.
    #[serde(default, skip_serializing_if = "is_false")]
    pub node: bool,
    /// Whether it is a Parallel or Map that is undone by its own `Compensate`, as a whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whole: bool,
    /// Whether it was the pivot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pivot: bool,
}

/// An answer that waits until the saga goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The visit.
    pub step: u32,
    /// The dispatch.
    pub generation: u32,
    /// What the worker said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Or how the sub-saga ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildEnd>,
}

/// What becomes of a state that is not continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It left nothing to undo.
    Dropped,
    /// There is something to undo, or nobody knows.
    Node,
    /// The saga ended there; a redrive runs it again.
    Frozen,
}

/// What made the saga go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// An error that nothing caught.
    Error,
    /// The machine's time-out or the deadline.
    Deadline,
    /// An operator.
    Operator,
}

/// How it came that nothing is left to undo of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undone {
    /// Its undo was done.
    Done,
    /// It turned out that the step was never done.
    Nothing,
    /// `OnUnknown` is `Skip`.
    Skipped,
    /// A person said so.
    Marked,
    /// The undo failed and `OnFailure` is `Continue`.
    GivenUp,
    /// All that was inside is undone.
    Inside,
}
