//! Rows that a database read as strings of bytes, in the order of their numbers.
//!
//! Invariant: a value is handed on as it came; only the time of the insert is looked into.

use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::{Column, Columns, Place, Row};

/// Where the column is that says when a row was inserted, if there is one.
pub(super) fn inserted_at(columns: &[Column]) -> Option<usize> {
    columns
        .iter()
        .position(|column| column.name == "created_at")
}

/// The row with this number; `inserted_at` is the place of the column of that name.
pub(super) fn numbered(
    sequence: u64,
    columns: &Columns,
    inserted_at: Option<usize>,
    values: Vec<Option<Bytes>>,
) -> Row {
    let inserted = inserted_at.and_then(|at| values[at].as_deref());
    let inserted = inserted.and_then(|text| std::str::from_utf8(text).ok());
    Row {
        place: Place {
            commit: sequence,
            ordinal: 0,
        },
        committed_at: inserted.and_then(Timestamp::parse_rfc3339),
        columns: Arc::clone(columns),
        values,
    }
}
