//! What may happen to a saga. Nothing here decides anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wharf_message::Timestamp;

use super::data::{Data, SagaId};
use super::token::TokenKey;
use crate::definition::Hash;

/// What happened, for [`super::decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The saga begins; the first input of every saga, and never a later one.
    Start(Start),
    /// A worker answered.
    Reply {
        /// The visit the task belongs to.
        step: u32,
        /// The dispatch that is answered; an older one is stale.
        generation: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// A sub-saga ended.
    ChildEnded {
        /// The visit that started the child.
        step: u32,
        /// The dispatch that started it.
        generation: u32,
        /// How it ended.
        end: ChildEnd,
    },
    /// A task that was held back by a concurrency limit got its slot.
    Admit {
        /// The visit the task belongs to.
        step: u32,
    },
    /// The moment that [`super::Saga::due`] named has come.
    Tick,
    /// A signal for the saga.
    Signal {
        /// Its name: the end of `wharf:signal:NAME`.
        name: String,
        /// What comes with it: the result of the task that waits for it.
        payload: Data,
    },
    /// A person decided something.
    Operator(Order),
}

/// What a saga begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Its identity.
    pub id: SagaId,
    /// Its type: the name of the definition.
    #[serde(rename = "type")]
    pub saga_type: String,
    /// The hash of the definition, to which the saga is pinned.
    pub definition: Hash,
    /// The idempotency key, which is also the name of the execution.
    pub key: String,
    /// Its input.
    pub input: Data,
    /// Groups messages of one business case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// W3C trace context, passed on to workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What people search by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The saga that waits for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// Whom a sub-saga tells of its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent.
    pub saga: SagaId,
    /// The visit that waits.
    pub step: u32,
    /// Its dispatch.
    pub generation: u32,
}

/// What a worker answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done, with a result.
    Success(Data),
    /// Not done, or not known to be done.
    Failure(Failure),
    /// The worker has it and will answer later.
    Accepted,
    /// The worker is still at it.
    Heartbeat,
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's name, as `Retry` and `Catch` match it.
    pub error: String,
    /// The explanation for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// A declared business failure: the worker vouches that nothing was done.
    #[serde(default, skip_serializing_if = "super::data::is_false")]
    pub declared: bool,
}

/// How a sub-saga ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildEnd {
    /// Done.
    Completed(Data),
    /// Undone, because of this.
    Compensated(Failure),
    /// Aborted by an operator and undone.
    Aborted(Failure),
}

/// An action of a person, with who and why for the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What is to be done.
    pub action: Action,
    /// Who decided it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What a person may do to a saga. Steps are those that [`super::Saga::parked`] lists; `None` means
/// the only one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stops going on after what is in flight; answers are kept.
    Pause,
    /// Goes on after a pause, or after a deadline that parked the saga.
    Resume,
    /// Tries a parked step, a parked undo, or a step that waits for its next attempt, now.
    Retry {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
    },
    /// Goes on behind a parked step as if it had given this output.
    Skip {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        /// Its output.
        output: Data,
    },
    /// Says what a person found out or did by hand about a parked step.
    Mark {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        /// What it is.
        mark: Mark,
    },
    /// Gives a parked step another input; a `Retry` then uses it.
    Edit {
        /// The step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<u32>,
        /// Its new input.
        input: Data,
    },
    /// Takes up a saga that ended by an error and had undone nothing, where it failed.
    Redrive,
    /// Undoes what was done and ends.
    Abort,
}

/// What a person says about a parked step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is undone, or never was done.
    Compensated,
    /// It is done, with this result.
    Completed {
        /// The result of its task.
        #[serde(default)]
        output: Data,
    },
}

/// What a decision may depend on besides the saga and the input: the pure core has no clock, no
/// randomness and no configuration of its own.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// Now.
    pub now: Timestamp,
    /// Randomness for this decision: jitter, `States.UUID`, `$random`.
    pub seed: u64,
    /// The largest value that may be passed on, in bytes of JSON.
    pub payload_max: usize,
    /// What the tokens of tasks are sealed with where an expression asks for one; without it they
    /// are plain.
    pub tokens: Option<&'a TokenKey>,
    /// What the context object has in place of what is so: for a state that is tested alone.
    pub context: Option<&'a serde_json::Value>,
    /// Whether tasks of this resource wait for [`Input::Admit`] before they are dispatched.
    pub held: Option<&'a dyn Fn(&str) -> bool>,
}

impl Env<'static> {
    /// Now, with this seed, and the defaults: 256 KiB, nothing held back.
    pub fn at(now: Timestamp, seed: u64) -> Self {
        Self {
            now,
            seed,
            payload_max: 256 * 1024,
            tokens: None,
            context: None,
            held: None,
        }
    }
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Env")
            .field("now", &self.now)
            .field("seed", &self.seed)
            .field("payload_max", &self.payload_max)
            .finish_non_exhaustive()
    }
}
