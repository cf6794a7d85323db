//! A row of an outbox table, as every source hands it over: values in one form, whatever the
//! database.
//!
//! Invariant: nothing here knows which column is which; that is the router's business.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

/// What a column holds, and so how its values are written in [`Row::values`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, in UTF-8.
    Text,
    /// A JSON document, in UTF-8, as the database writes it.
    Json,
    /// Bytes, as they are.
    Bytes,
    /// A whole number, in decimal digits.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A UUID in its hyphenated form of 36 lower-case characters.
    Uuid,
    /// A point in time: RFC 3339 in UTC, with microseconds where the database has them.
    Time,
    /// A date and a time of day without a zone, as [`Self::Time`] as if it were in UTC; whether the
    /// column has milliseconds and nothing finer.
    LocalTime {
        /// At most three digits of a second.
        is_millis: bool,
    },
    /// Anything else, in the text form of the database; the name of its type.
    Other(String),
}

/// A column of an outbox table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// The columns of rows of one shape, shared by them.
pub type Columns = Arc<[Column]>;

/// Where a row is in its source: by the position of its commit, then by its number in the
/// transaction. For people and logs; a source alone compares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The commit: a position in the write-ahead log, a transaction id, or a sequence number.
    pub commit: u64,
    /// The row's number within it, from 0.
    pub ordinal: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.commit, self.ordinal)
    }
}

/// A row that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it is in its source.
    pub place: Place,
    /// When it was committed, or else inserted, if the source knows.
    pub committed_at: Option<Timestamp>,
    /// Its columns.
    pub columns: Columns,
    /// Their values, in the same order; `None` is SQL's NULL.
    pub values: Vec<Option<Bytes>>,
}

impl Row {
    /// The kind and the value of the column with this name, if there is such a column.
    pub fn get(&self, name: &str) -> Option<(&Kind, Option<&Bytes>)> {
        let at = self.columns.iter().position(|column| column.name == name)?;
        Some((&self.columns[at].kind, self.values.get(at)?.as_ref()))
    }

    /// The memory it takes, in bytes, without the columns, which rows share.
    pub fn size(&self) -> usize {
        let values = self.values.iter().flatten().map(Bytes::len);
        size_of::<Self>() + size_of_val(self.values.as_slice()) + values.sum::<usize>()
    }
}
