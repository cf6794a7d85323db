//! Answers to sagas: what a handler returned or failed with, addressed to the dispatch it was for.
//!
//! An answer is addressed when it is sent, by the command that was delivered last. So an inbox that
//! hands back what was answered before answers the attempt that asks now, and not one that nobody waits
//! for any more.

use serde::Serialize;
use serde_json::json;
use wharf_message::dead_letter::Reason;
use wharf_message::{Headers, Message, TopicName, header};
use wharf_saga::machine::TaskToken;

use super::task;
use crate::failure::{Disposition, Failed};
use crate::outcome::{Effects, IntoEffects, Outcome, Outgoing, Target, When, topic_of};
use crate::telemetry::Span;

/// The topic that takes the answers that do not come from a handler of the command.
const REPLIES: &str = "_wharf.saga-replies";
/// The CloudEvents `type` of an answer.
const KIND: &str = "wharf.saga.reply";

const SUCCESS: &str = "SUCCESS";
const DECLARED: &str = "BUSINESS_FAILURE";
const RETRYABLE: &str = "RETRYABLE";
const ACCEPTED: &str = "ACCEPTED";
pub(super) const HEARTBEAT: &str = "HEARTBEAT";

/// The task is done, with this result. A handler that returns `()` or events says the same with the
/// result `null`; beside events, it stands in a tuple.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::saga::{Done, Task};
/// use wharf::{Event, Publish};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.stock.reserved", topic = "shop.stock", key = "order")]
/// struct StockReserved { order: String }
///
/// async fn reserve(task: Task<String>) -> (Publish<StockReserved>, Done<u32>) {
///     (Publish(StockReserved { order: task.arguments.clone() }), Done(1))
/// }
/// # wharf::group::<()>("inventory").on(reserve);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<T>(pub T);

/// The worker has the task and will answer later, with an [`Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later;

/// An answer to a task that was taken [`Later`], by its token. To be emitted, returned by a handler of
/// something else, or written to an outbox.
///
/// ```
/// use wharf::saga::{Answer, Later, Task};
///
/// async fn print(task: Task<String>) -> Later {
///     println!("{} is in the queue as {}", task.arguments, task.token());
///     Later
/// }
///
/// async fn printed(bus: &wharf::Bus, token: &str) -> Result<(), Box<dyn std::error::Error>> {
///     let token = wharf::saga::TaskToken::parse(token).ok_or("no token")?;
///     bus.emit(Answer::done(token, "12 pages")).await?;
///     Ok(())
/// }
/// # wharf::group::<()>("printer").on(print);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub(super) token: TaskToken,
    pub(super) what: What,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Done(Result<serde_json::Value, String>),
    Failed {
        error: String,
        cause: String,
        declared: bool,
    },
    Heartbeat,
}

impl Answer {
    /// It is done, with this result.
    pub fn done(token: TaskToken, result: impl Serialize) -> Self {
        let value = serde_json::to_value(result).map_err(|error| error.to_string());
        let what = What::Done(value);
        Self { token, what }
    }

    /// It failed: whether something was done is not known, and the saga decides whether it is tried
    /// again.
    pub fn failed(token: TaskToken, error: &str, cause: &str) -> Self {
        Self::failure(token, error, cause, false)
    }

    /// It is refused: nothing was done, and that is certain.
    pub fn declared(token: TaskToken, error: &str, cause: &str) -> Self {
        Self::failure(token, error, cause, true)
    }

    fn failure(token: TaskToken, error: &str, cause: &str, declared: bool) -> Self {
        let what = What::Failed {
            error: error.to_owned(),
            cause: cause.to_owned(),
            declared,
        };
        Self { token, what }
    }

    /// The worker is still at it.
    pub fn heartbeat(token: TaskToken) -> Self {
        let what = What::Heartbeat;
        Self { token, what }
    }

    pub(super) fn into_message(self) -> Result<Message, Failed> {
        let mut message = match self.what {
            What::Done(value) => {
                let value = value.map_err(|error| unwritable(&error))?;
                said(SUCCESS, Some(value.to_string()))
            }
            What::Failed {
                error,
                cause,
                declared,
            } => failure(declared, &error, &cause),
            What::Heartbeat => said(HEARTBEAT, None),
        };
        set(&mut message, self.token);
        Ok(message)
    }
}

fn unwritable(error: &str) -> Failed {
    Failed::for_ever(
        Reason::Rejected,
        format!("the result cannot be written: {error}"),
    )
}

/// An answer without its address.
pub(super) fn said(what: &'static str, payload: Option<String>) -> Message {
    let mut message = Message {
        payload: payload.map(Into::into),
        ..Message::default()
    };
    let headers = &mut message.headers;
    headers.push(header::CE_SPECVERSION, header::CE_SPECVERSION_VALUE);
    headers.push(header::CE_TYPE, KIND);
    headers.push(header::CONTENT_TYPE, "application/json");
    headers.push(header::SAGA_REPLY, what);
    message
}

fn failure(declared: bool, error: &str, cause: &str) -> Message {
    let value = json!({ "error": error, "cause": cause });
    let said_as = if declared { DECLARED } else { RETRYABLE };
    let mut message = said(said_as, Some(value.to_string()));
    message.headers.push(header::SAGA_ERROR, error.to_owned());
    message
}

fn to_saga(message: Message) -> Outgoing {
    Outgoing {
        to: Target::Requester,
        when: When::Now,
        expires_after: None,
        message,
    }
}

impl<T: Serialize> IntoEffects for Done<T> {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        let value =
            serde_json::to_string(&self.0).map_err(|error| unwritable(&error.to_string()))?;
        effects.push(to_saga(said(SUCCESS, Some(value))));
        Ok(())
    }
}

impl IntoEffects for Later {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(to_saga(said(ACCEPTED, None)));
        Ok(())
    }
}

impl IntoEffects for Answer {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(Outgoing {
            to: Target::Topic(topic_of(REPLIES)?),
            ..to_saga(self.into_message()?)
        });
        Ok(())
    }
}

/// What a saga is told of an attempt, whatever came of it. Only what counts as no attempt stays with
/// this worker, to be tried again here.
pub(crate) fn answered(outcome: Outcome, span: &Span<'_>) -> Outcome {
    let failed = match outcome {
        Outcome::Done(mut effects) => {
            let mut ready = effects.ready.iter().map(|(_, message)| message);
            let mut outgoing = effects.outgoing.iter().map(|outgoing| &outgoing.message);
            if !ready.any(is_own) && !outgoing.any(is_own) {
                effects.push(to_saga(said(SUCCESS, Some("null".to_owned()))));
            }
            return Outcome::Done(effects);
        }
        Outcome::Failed(failed) => failed,
    };
    let mut effects = Effects::default();
    match &failed.disposition {
        Disposition::Conflict | Disposition::Postpone(_) => return Outcome::Failed(failed),
        Disposition::Skip => effects.push(to_saga(said(SUCCESS, Some("null".to_owned())))),
        _ => {
            span.failed(&failed);
            let (error, declared) = named(&failed);
            tracing::warn!(
                error,
                declared,
                cause = failed.error,
                "a task of a saga failed"
            );
            effects.push(to_saga(failure(declared, error, &failed.error)));
        }
    }
    Outcome::Done(effects)
}

/// The name of a failure for `Retry` and `Catch`, and whether it is certain that nothing was done.
pub(super) fn named(failed: &Failed) -> (&str, bool) {
    match (&failed.disposition, failed.reason) {
        (Disposition::Declared(name), _) => (name, true),
        // No handler was called.
        (_, Reason::Undecodable) => ("Undecodable", true),
        (_, Reason::Panicked) => ("Panicked", false),
        (_, Reason::TimedOut) => ("States.Timeout", false),
        (Disposition::DeadLetter, _) => ("Rejected", false),
        _ => ("Retryable", false),
    }
}

/// An answer to the command that is handled: of [`Answer`]s to others there may be several.
fn is_own(message: &Message) -> bool {
    let has = |name| message.headers.contains(name);
    has(header::SAGA_REPLY)
        && match message.headers.text(header::CE_TYPE) {
            Ok(kind) => kind == Some(KIND),
            Err(_no_text) => false,
        }
        && !has(LATER)
}

/// Marks an answer that says itself to which dispatch it is.
const LATER: &str = "saga-token";

fn set(message: &mut Message, token: TaskToken) {
    address_to(message, token);
    message.headers.push(LATER, token.to_string());
}

fn address_to(message: &mut Message, token: TaskToken) {
    message.key = Some(token.saga.to_string().into());
    let headers = &mut message.headers;
    headers.set(header::SAGA_ID, token.saga.to_string());
    headers.set(header::SAGA_STEP, token.step.to_string());
    headers.set(header::SAGA_GENERATION, token.generation.to_string());
}

/// Addresses an answer to the command that is handled.
pub(crate) fn address(message: &mut Message, handled: &Headers) {
    if is_own(message)
        && let Ok(token) = task::token(handled)
    {
        address_to(message, token);
    }
}

/// The same for what an inbox hands back.
pub(crate) fn readdress(outputs: &mut [(TopicName, Message)], handled: &Headers) {
    for (_, message) in outputs {
        address(message, handled);
    }
}
