//! Why the outbox refused, and what to do about it.
//!
//! Invariant: after a [`Class::Conflict`](crate::Class::Conflict) the same transaction, tried again
//! from its beginning, may succeed; the database's error is always among the causes.

use wharf_message::Code;

use super::{PAYLOAD_BYTES_MAX, TableName};
use crate::dialect::{Dialect, Refusal};
use crate::{Class, classify};

/// Why the outbox refused. Roll the transaction back: on Postgres nothing else can be done with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The message cannot be kept in a row.
    #[error("the message for {topic} cannot be kept in an outbox: {what}")]
    Message {
        /// The topic it is for.
        topic: String,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The payload is too large.
    #[error(
        "the payload for {topic} takes {bytes} bytes, and an outbox takes at most {PAYLOAD_BYTES_MAX}; keep it elsewhere and send a claim check"
    )]
    TooLarge {
        /// The topic it is for.
        topic: String,
        /// What it takes.
        bytes: usize,
    },
    /// The table is not there.
    #[error(
        "the outbox table {table} is not there; create it with Outbox::install, or put the statements of `wharf outbox init --print` into your migrations ({code})",
        code = Code::OUTBOX_NOT_INSTALLED
    )]
    NotInstalled {
        /// Its name.
        table: String,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The table is another one.
    #[error(
        "the table {table} is no outbox table: a column is missing or has another type; compare it with `wharf outbox init --print` ({code})",
        code = Code::OUTBOX_TABLE_WRONG
    )]
    OtherTable {
        /// Its name.
        table: String,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The user may not do this with the table.
    #[error(
        "the database does not let this user {what} the outbox table {table}; as its owner, {fix} ({code})",
        code = Code::OUTBOX_ACCESS_REFUSED
    )]
    Denied {
        /// Its name.
        table: String,
        /// What was tried.
        what: &'static str,
        /// The statement or the step that helps.
        fix: String,
        /// What the database says.
        source: sqlx::Error,
    },
    /// Partitions cannot be named after the table.
    #[error(
        "the name {0} is too long for an outbox that Wharf creates; take one that is 10 bytes shorter"
    )]
    NameTooLong(TableName),
    /// The database refused for another reason, or is not available.
    #[error("the database of the outbox refused")]
    Database(#[source] sqlx::Error),
}

/// What was being done when the database refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    Publish,
    Install,
    Maintain,
}

impl OutboxError {
    /// What kind of trouble it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Database(error) => classify(error),
            _ => Class::Other,
        }
    }

    /// A database's error, as the outbox tells it.
    pub(crate) fn of<D: Dialect>(error: sqlx::Error, table: &TableName, doing: Doing) -> Self {
        let sqlx::Error::Database(inner) = &error else {
            return Self::Database(error);
        };
        let (refusal, name) = (D::refusal(&**inner), table.to_string());
        let source = error;
        match refusal {
            Some(Refusal::NoTable) => Self::NotInstalled {
                table: name,
                source,
            },
            Some(Refusal::OtherTable) => Self::OtherTable {
                table: name,
                source,
            },
            Some(Refusal::Denied) => {
                let (what, fix) = match doing {
                    Doing::Publish => (
                        "write to",
                        format!("run GRANT INSERT ON {} TO <user>", table.quoted::<D>()),
                    ),
                    Doing::Install => (
                        "create",
                        "create it with the statements of `wharf outbox init --print`".to_owned(),
                    ),
                    Doing::Maintain => (
                        "clean",
                        "let a user that owns the table and its partitions call Outbox::maintain"
                            .to_owned(),
                    ),
                };
                Self::Denied {
                    table: name,
                    what,
                    fix,
                    source,
                }
            }
            None => Self::Database(source),
        }
    }
}
