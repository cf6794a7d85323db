//! What can go wrong, and what kind of trouble a database error is.
//!
//! Invariant: [`Class::Conflict`] and [`Class::Unavailable`] are only said of errors after which the
//! same transaction, tried again from its beginning, may succeed without anything being changed in the
//! message or the handler. Everything that might be the message's own fault is [`Class::Other`], so
//! that it counts as an attempt and cannot be tried for ever.

use std::error::Error as StdError;

use wharf_message::Code;

use crate::outputs::{Damaged, OUTPUTS_BYTES_MAX};

/// What kind of trouble a database error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Another transaction was in the way: a deadlock, a serialization failure, a lock that was waited
    /// for too long. The transaction is to be rolled back and tried again at once; it is no failure and
    /// counts as no attempt.
    Conflict,
    /// The database cannot be reached, is starting or stopping, is full or takes no more connections.
    /// To be tried again later; no message is to blame.
    Unavailable,
    /// Anything else; it may be the message's or the handler's fault.
    Other,
}

/// What kind of trouble `error` is, whichever of the enabled databases it comes from.
///
/// ```
/// use wharf_outbox::{Class, classify};
///
/// assert_eq!(classify(&sqlx::Error::PoolTimedOut), Class::Unavailable);
/// assert_eq!(classify(&sqlx::Error::RowNotFound), Class::Other);
/// ```
pub fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(error) => crate::dialect::classify(&**error),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Class::Unavailable,
        _ => Class::Other,
    }
}

/// What kind of trouble a handler's error is: that of the first database error among it and its
/// causes; `None` when there is none.
///
/// ```
/// use wharf_outbox::{Class, classify_chain};
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("the order could not be stored")]
/// struct NotStored(#[from] sqlx::Error);
///
/// let error = NotStored(sqlx::Error::PoolTimedOut);
/// assert_eq!(classify_chain(&error), Some(Class::Unavailable));
/// assert_eq!(classify_chain(&std::fmt::Error), None);
/// ```
pub fn classify_chain(error: &(dyn StdError + 'static)) -> Option<Class> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
        let ours = error.downcast_ref::<Error>().map(Error::class);
        ours.or_else(|| error.downcast_ref::<sqlx::Error>().map(classify))
    })
}

/// Why the inbox could not answer. The transaction is to be rolled back in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another transaction was in the way; `None` when its row was removed in between.
    #[error("another transaction was in the way")]
    Conflict(#[source] Option<sqlx::Error>),
    /// The database is not available.
    #[error("the database of the inbox is not available ({code})", code = Code::INBOX_UNAVAILABLE)]
    Unavailable(#[source] sqlx::Error),
    /// The tables are not there.
    #[error(
        "the tables of the inbox are not there; create them with Inbox::install, or put Inbox::schema into your migrations ({code})",
        code = Code::INBOX_NOT_INSTALLED
    )]
    NotInstalled(#[source] sqlx::Error),
    /// The database refused for another reason.
    #[error("the database of the inbox refused")]
    Database(#[source] sqlx::Error),
    /// The outputs of one run are more than a row takes.
    #[error(
        "the outputs of one message take {bytes} bytes; the inbox keeps at most {OUTPUTS_BYTES_MAX}"
    )]
    OutputsTooLarge {
        /// What they take.
        bytes: usize,
    },
    /// Outputs that were stored cannot be read.
    #[error("{0} ({code})", code = Code::INBOX_OUTPUTS_DAMAGED)]
    OutputsDamaged(#[from] Damaged),
    /// Outputs were to be recorded for a message that has no row: neither
    /// [`Inbox::once`](crate::Inbox::once) nor [`Inbox::advance`](crate::Inbox::advance) was asked for
    /// it in this transaction.
    #[error("outputs are recorded in the transaction in which the message was the first")]
    NotFirst,
}

impl Error {
    /// What kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Conflict(_) => Class::Conflict,
            Self::Unavailable(_) => Class::Unavailable,
            _ => Class::Other,
        }
    }
}
