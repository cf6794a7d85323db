//! Why a transport refuses.

use super::Capability;
use crate::TopicName;

/// Why a transport refuses.
///
/// ```
/// use wharf_message::transport::Error;
///
/// assert!(Error::Unavailable("the connection was lost".to_owned()).is_transient());
/// let large = Error::TooLarge { bytes: 2_000_000, bytes_max: 1_048_576 };
/// assert!(!large.is_transient());
/// assert!(large.to_string().contains("a claim check carries larger payloads"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker cannot be reached, or did not answer in time. Whether what was asked for happened
    /// is unknown. Trying again may help.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// The message is larger than the topic or the broker takes.
    #[error(
        "the message of {bytes} bytes is too large; at most {bytes_max} are taken (a claim check carries larger payloads)"
    )]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes, as far as it is known.
        bytes_max: usize,
    },
    /// The topic does not exist and is not created by itself.
    #[error("the topic {0} does not exist")]
    UnknownTopic(TopicName),
    /// The broker does not let this client do it: credentials or access rules.
    #[error("the broker denied it: {0}")]
    Denied(String),
    /// The transport cannot do this.
    #[error("{transport} has no {capability} ({meaning}){hint}", meaning = .capability.meaning())]
    Unsupported {
        /// Which transport, by the scheme of its addresses.
        transport: &'static str,
        /// What it lacks.
        capability: Capability,
        /// More about the case, beginning with ": ", or empty.
        hint: String,
    },
    /// The broker refused for another reason; trying the same again will not help.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// The transport or the subscription is closed.
    #[error("the transport is closed")]
    Closed,
}

impl Error {
    /// Whether trying the same again may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
