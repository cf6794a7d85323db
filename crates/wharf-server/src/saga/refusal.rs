//! Why the orchestrator refuses: one form for the API, the library and other roles.

use std::fmt;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::time::sleep;
use wharf_message::Code;
use wharf_message::ledger::Error;
use wharf_saga::machine::Refusal as Decided;

use super::shard::{Queues, RETRY, Work};
use crate::flag::raised;

/// A refusal: nothing happened, except where [`Refused::is_unknown`] says that this is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The page of it.
    pub code: Code,
    /// What is the matter, why, and what to do.
    pub message: String,
    /// What was found wrong in detail, as JSON: the problems of a definition.
    pub details: Option<serde_json::Value>,
    status: StatusCode,
}

impl Refused {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = match code {
            Code::SAGA_UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
            Code::SAGA_UNKNOWN | Code::SAGA_DEFINITION_UNKNOWN | Code::SAGA_TOKEN_UNKNOWN => {
                StatusCode::NOT_FOUND
            }
            Code::SAGA_KEY_TAKEN | Code::SAGA_DEFINITION_IN_USE | Code::SAGA_ACTION_REFUSED => {
                StatusCode::CONFLICT
            }
            Code::SAGA_PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            Code::SAGA_BUSY => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            code,
            message: message.into(),
            details: None,
            status,
        }
    }

    pub(crate) fn with(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The topics cannot be used at the moment.
    pub(crate) fn unavailable(reason: impl fmt::Display) -> Self {
        let message = format!("the orchestrator cannot work at the moment: {reason}");
        Self::new(Code::SAGA_UNAVAILABLE, message)
    }

    /// There is no such saga.
    pub(crate) fn unknown(id: impl fmt::Display) -> Self {
        let message =
            format!("there is no saga {id}; one that ended may have been forgotten since");
        Self::new(Code::SAGA_UNKNOWN, message)
    }

    /// The status of HTTP that says it.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it may have happened all the same: ask again with the same key.
    pub fn is_unknown(&self) -> bool {
        self.code == Code::SAGA_UNAVAILABLE
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refused {}

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        Self::unavailable(error)
    }
}

impl From<Decided> for Refused {
    fn from(refusal: Decided) -> Self {
        let code = match refusal {
            Decided::Stale { .. } | Decided::UnknownTask { .. } => Code::SAGA_TOKEN_UNKNOWN,
            Decided::TooLarge { .. } => Code::SAGA_PAYLOAD_TOO_LARGE,
            Decided::TooManySignals { .. } => Code::SAGA_BUSY,
            _ => Code::SAGA_ACTION_REFUSED,
        };
        Self::new(code, refusal.to_string())
    }
}

/// Refuses what comes until it is time to try again; whether the node goes on.
pub(super) async fn refuse_for_a_while(
    queues: &mut Queues,
    refused: &Refused,
    stop: &mut watch::Receiver<bool>,
) -> bool {
    let until = sleep(RETRY);
    tokio::pin!(until);
    loop {
        let work = tokio::select! {
            biased;
            () = raised(stop) => return false,
            () = &mut until => return true,
            Some(work) = queues.requests.recv() => work,
            // What follows from open tasks is found again when the sagas were read.
            Some(work) = queues.follow_ups.recv() => work,
        };
        match work {
            Work::Start {
                answer: Some(answer),
                ..
            } => drop(answer.send(Err(refused.clone()))),
            Work::Input {
                answer: Some(answer),
                ..
            } => drop(answer.send(Err(refused.clone()))),
            Work::Look(_, look) => look(Err(refused.clone())),
            Work::Start { .. }
            | Work::Input { .. }
            | Work::Abort { .. }
            | Work::Wanted { .. }
            | Work::AskAgain(_) => {}
        }
    }
}
