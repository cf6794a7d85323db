//! Tasks as handlers get them: the arguments, and which saga, step, attempt and dispatch they are of.
//!
//! A command comes from a topic that others may write to: what cannot be read is a failure with its
//! reason, and no handler is called with a guess.

use std::ops::Deref;

use serde::de::DeserializeOwned;
use wharf_message::dead_letter::Reason;
use wharf_message::{Headers, Message, Timestamp, header};
use wharf_saga::machine::{SagaId, TaskToken};

use crate::extract::{FromIncoming, Takes};
use crate::failure::Failed;
use crate::incoming::Incoming;

/// A step of a saga that this worker is to do, as the last argument of a handler. What the handler
/// returns goes to the saga: [`Done`](super::Done), `()`, or an error.
///
/// It may come again with the same [`idempotency_key`](Self::idempotency_key), after a crash or another
/// attempt: do its effect once. A route with an inbox sees to that.
///
/// ```
/// use serde::Deserialize;
/// use wharf::saga::{Done, Task};
///
/// #[derive(Deserialize)]
/// struct Charge { card: String, cents: u64 }
///
/// async fn charge(task: Task<Charge>) -> Result<Done<String>, wharf::Error> {
///     println!("{} of {}, attempt {} of {}", task.cents, task.card, task.attempt, task.saga);
///     match task.cents {
///         0 => Err(wharf::Error::declared("NothingToCharge", "the total is zero")),
///         _ => Ok(Done(format!("receipt of {}", task.idempotency_key))),
///     }
/// }
/// # wharf::group::<()>("payments").on(charge);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Task<T> {
    /// What the definition sends to the worker.
    pub arguments: T,
    /// The saga.
    pub saga: SagaId,
    /// Its type: the name of its definition.
    pub saga_type: String,
    /// The visit of the state.
    pub step: u32,
    /// The state's name.
    pub step_name: String,
    /// Which attempt of the visit, from 1.
    pub attempt: u32,
    /// Which dispatch of the saga. An answer to an earlier one changes nothing.
    pub generation: u32,
    /// The same over all attempts: the identity of the effect.
    pub idempotency_key: String,
    /// Whether the step is to be undone.
    pub undo: bool,
    /// When the saga gives the attempt up.
    pub deadline: Option<Timestamp>,
}

/// A step of a saga that this worker is to undo. It may come although the step was never done, when
/// nobody knows whether it was; then there is nothing to undo, and that is a success.
///
/// ```
/// use wharf::saga::UndoTask;
///
/// async fn refund(UndoTask(task): UndoTask<serde_json::Value>) -> Result<(), wharf::Error> {
///     println!("the input of the step was {}, its result {}", task.arguments["input"], task.arguments["result"]);
///     Ok(())
/// }
/// # wharf::group::<()>("payments").on(refund);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct UndoTask<T>(pub Task<T>);

impl<T> Deref for Task<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.arguments
    }
}

impl<T> Deref for UndoTask<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        &self.0
    }
}

impl<T> Task<T> {
    /// The token that names this dispatch, for an answer that comes [later](super::Later).
    pub fn token(&self) -> TaskToken {
        TaskToken {
            saga: self.saga,
            step: self.step,
            generation: self.generation,
        }
    }
}

fn undecodable(why: impl std::fmt::Display) -> Failed {
    Failed::for_ever(Reason::Undecodable, why)
}

/// The dispatch that a command or a reply is of.
pub(super) fn token(headers: &Headers) -> Result<TaskToken, Failed> {
    let id = required(headers, header::SAGA_ID)?;
    let saga = SagaId::parse(id).ok_or_else(|| {
        undecodable(format!(
            "the header {} is {id:?} and no saga's",
            header::SAGA_ID
        ))
    })?;
    Ok(TaskToken {
        saga,
        step: number(headers, header::SAGA_STEP)?,
        generation: number(headers, header::SAGA_GENERATION)?,
    })
}

fn required<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, Failed> {
    let text = headers.text(name).map_err(undecodable)?;
    text.ok_or_else(|| {
        undecodable(format!(
            "there is no header {name}: it is no command of a saga"
        ))
    })
}

fn number(headers: &Headers, name: &str) -> Result<u32, Failed> {
    let text = required(headers, name)?;
    text.parse()
        .map_err(|_no_number| undecodable(format!("the header {name} is {text:?} and no number")))
}

fn moment(text: &str) -> Result<Timestamp, Failed> {
    let name = header::SAGA_DEADLINE;
    Timestamp::parse_rfc3339(text).ok_or_else(|| {
        undecodable(format!(
            "the header {name} is {text:?} and no time of RFC 3339"
        ))
    })
}

impl<T: DeserializeOwned> Task<T> {
    fn of(message: &Message) -> Result<Self, Failed> {
        let headers = &message.headers;
        let TaskToken {
            saga,
            step,
            generation,
        } = token(headers)?;
        let optional = |name| headers.text(name).map_err(undecodable);
        let payload = match message.payload.as_deref() {
            None | Some([]) => b"null",
            Some(payload) => payload,
        };
        let arguments = serde_json::from_slice(payload)
            .map_err(|error| undecodable(format!("the arguments of the task: {error}")))?;
        Ok(Self {
            arguments,
            saga,
            saga_type: required(headers, header::SAGA_TYPE)?.to_owned(),
            step,
            step_name: required(headers, header::SAGA_STEP_NAME)?.to_owned(),
            attempt: number(headers, header::SAGA_ATTEMPT)?,
            generation,
            idempotency_key: required(headers, header::IDEMPOTENCY_KEY)?.to_owned(),
            undo: optional(header::SAGA_UNDO)? == Some("true"),
            deadline: optional(header::SAGA_DEADLINE)?.map(moment).transpose()?,
        })
    }
}

impl<S, T: DeserializeOwned + Send> FromIncoming<S> for Task<T> {
    const TAKES: Takes = Takes::Commands;

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        Self::of(&incoming.first().message)
    }
}

impl<S, T: DeserializeOwned + Send> FromIncoming<S> for UndoTask<T> {
    const TAKES: Takes = Takes::Undos;

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        Task::of(&incoming.first().message).map(Self)
    }
}

#[cfg(feature = "embedded")]
impl<T: DeserializeOwned> Task<T> {
    /// Of a command that never left the process.
    pub(super) fn within(command: &wharf_saga::machine::Command) -> Result<Self, Failed> {
        let arguments = T::deserialize(&*command.arguments)
            .map_err(|error| undecodable(format!("the arguments of the task: {error}")))?;
        Ok(Self {
            arguments,
            saga: command.saga,
            saga_type: command.saga_type.clone(),
            step: command.step,
            step_name: command.step_name.clone(),
            attempt: command.attempt,
            generation: command.generation,
            idempotency_key: command.idempotency_key.clone(),
            undo: command.undo,
            deadline: command.deadline,
        })
    }
}
