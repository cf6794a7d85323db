//! What can go wrong when an orchestrator is asked.

use wharf_saga::definition::Problems;

/// Why an orchestrator did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The definition has errors; all of them are told.
    #[error("the definition has errors: {0}")]
    Definition(#[from] Problems),
    /// What was asked for cannot be asked.
    #[error("{0}")]
    Invalid(String),
    /// It refuses, with a code that has a page: nothing happened.
    #[error("{code}: {message}")]
    Refused {
        /// The code, such as `WHARF-7003`.
        code: String,
        /// What is the matter, why, and what to do.
        message: String,
    },
    /// It cannot be reached or cannot work at the moment; whether it happened is not known. Ask again
    /// with the same key.
    #[error("the orchestrator does not answer, so ask again: {0}")]
    Unavailable(String),
    /// It did not come about in time.
    #[error("saga {id} is {status} still, after {waited:?}")]
    Late {
        /// Which.
        id: wharf_saga::machine::SagaId,
        /// Where it stands.
        status: wharf_saga::machine::Status,
        /// How long was waited.
        waited: std::time::Duration,
    },
}

impl SagaError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

#[cfg(feature = "embedded")]
impl From<wharf_server::saga::Refused> for SagaError {
    fn from(refused: wharf_server::saga::Refused) -> Self {
        // Too much waits: as over HTTP, it may be over soon.
        let is_busy = refused.code == wharf_message::Code::SAGA_BUSY;
        match refused.is_unknown() || is_busy {
            true => Self::Unavailable(refused.message),
            false => Self::Refused {
                code: refused.code.to_string(),
                message: refused.message,
            },
        }
    }
}
