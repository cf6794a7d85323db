//! Why a request is refused, in the form and with the names that Amazon's clients know.

use std::fmt;

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use wharf_message::Code;

use super::super::refusal::Refused;
use super::wire;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The name of the exception.
    pub(super) kind: &'static str,
    /// What is the matter, why, and what to do.
    pub(super) message: String,
    status: StatusCode,
}

impl Fault {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: StatusCode::BAD_REQUEST,
        }
    }

    /// The fault of the server, not of the request.
    pub(super) fn server(
        kind: &'static str,
        status: StatusCode,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            ..Self::new(kind, message)
        }
    }

    /// A field is missing, or is not what it must be.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// Text that names nothing of the kind that is wanted.
    pub(super) fn arn(text: &str, wanted: &str) -> Self {
        let text: String = text.chars().take(300).collect();
        Self::new(
            "InvalidArn",
            format!("Invalid Arn: '{text}' is not the ARN of {wanted}"),
        )
    }

    /// A refusal of the orchestrator where the operation has no name of its own for it.
    pub(super) fn of(refused: &Refused) -> Self {
        let message = refused.to_string();
        match refused.code {
            Code::SAGA_UNAVAILABLE => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::server("ServiceUnavailable", status, message)
            }
            Code::SAGA_BUSY => Self::new("ThrottlingException", message),
            Code::SAGA_UNKNOWN => Self::new("ExecutionDoesNotExist", message),
            Code::SAGA_KEY_TAKEN => Self::new("ExecutionAlreadyExists", message),
            Code::SAGA_DEFINITION_UNKNOWN => Self::new("StateMachineDoesNotExist", message),
            Code::SAGA_DEFINITION_IN_USE => Self::new("ConflictException", message),
            Code::SAGA_DEFINITION_INVALID => Self::new("InvalidDefinition", message),
            Code::SAGA_PAYLOAD_TOO_LARGE => Self::new("InvalidExecutionInput", message),
            Code::SAGA_TOKEN_UNKNOWN => Self::new("TaskTimedOut", message),
            _ => Self::validation(message),
        }
    }

    pub(super) fn response(&self) -> Response {
        let body = json!({ "__type": self.kind, "message": self.message });
        let mut response = (self.status, wire::head(), body.to_string()).into_response();
        let kind = HeaderValue::from_static(self.kind);
        response.headers_mut().insert("x-amzn-errortype", kind);
        response
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind, self.message)
    }
}
