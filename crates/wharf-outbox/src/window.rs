//! The window: how long a message is remembered, and the removal of what is older.
//!
//! Rows are deleted in batches along an index on `seen_at`, each batch a transaction of its own: its
//! locks are few and are on rows that nobody writes any more, and it undoes little when it is
//! interrupted. Partitions by time, whose dropping costs next to nothing, cannot do it: a unique key
//! of a partitioned table has to include the partitioning column, so that the same id in two
//! partitions would be two first messages, and two of the three databases lock the whole table to drop
//! one. The index costs little, as rows arrive in its order. The database's clock counts for both the
//! rows and their age, so that the clocks of instances need not agree.
//!
//! High-water marks are never removed: without its mark, a key takes any old sequence for a new one.

use std::time::Duration;

use sqlx::{Pool, SqlStr};
use wharf_message::Code;

use crate::dialect::{Dialect, Value};
use crate::inbox::of;
use crate::{Error, Inbox};

/// The longest window that is told from a longer one: no row is older, and every database can still
/// subtract it from a time.
const KEEP_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What one batch removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// How many rows.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

impl Inbox {
    /// Removes at most `rows_max` rows, of all consumers, that are older than `keep`. Meant to be
    /// called now and then by any instance, again while there may be [more](Purged::more); several at
    /// once are in each other's way at most with a conflict.
    ///
    /// # Errors
    /// What the database says.
    pub async fn purge<D: Dialect>(
        pool: &Pool<D>,
        keep: Duration,
        rows_max: u32,
    ) -> Result<Purged, Error> {
        let mut connection = pool.acquire().await.map_err(of::<D>)?;
        let micros = i64::try_from(keep.min(KEEP_MAX).as_micros()).unwrap_or(i64::MAX);
        let values = [Value::Integer(micros), Value::Integer(i64::from(rows_max))];
        if let Some(before) = D::STATEMENTS.before_purge {
            D::execute(&mut connection, SqlStr::from_static(before), &[])
                .await
                .map_err(of::<D>)?;
        }
        let rows = D::execute(
            &mut connection,
            SqlStr::from_static(D::STATEMENTS.purge),
            &values,
        );
        let rows = rows.await.map_err(of::<D>)?;
        Ok(Purged {
            rows,
            more: rows_max > 0 && rows >= u64::from(rows_max),
        })
    }
}

/// A window that is shorter than the time in which a message may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{code}: the inbox forgets messages after {keep:?}, but they can come again for {needed}; a message that does is handled twice. Keep rows for longer, or let the topics keep less",
    code = Code::INBOX_WINDOW_TOO_SHORT,
    needed = .needed.map_or("ever".to_owned(), |needed| format!("{needed:?}"))
)]
pub struct WindowTooShort {
    /// How long rows are kept.
    pub keep: Duration,
    /// How long they would have to be kept; `None` for ever.
    pub needed: Option<Duration>,
}

/// Compares the window with the time in which a message may come again: as long as its topic keeps it,
/// and then as long as the dead-letter topic keeps it for a replay. `None` stands for a topic that
/// keeps its messages for ever.
///
/// ```
/// use std::time::Duration;
/// use wharf_outbox::check_window;
///
/// let days = |days: u64| Duration::from_secs(days * 86_400);
/// assert!(check_window(days(21), Some(days(7)), Some(days(14))).is_ok());
/// let error = check_window(days(7), Some(days(7)), Some(days(14))).unwrap_err();
/// assert_eq!(error.needed, Some(days(21)));
/// ```
///
/// # Errors
/// [`WindowTooShort`], which is a warning: such a consumer works, with a weaker promise.
pub fn check_window(
    keep: Duration,
    topic_retention: Option<Duration>,
    dead_letter_retention: Option<Duration>,
) -> Result<(), WindowTooShort> {
    let needed = topic_retention
        .zip(dead_letter_retention)
        .map(|(topic, letters)| topic.saturating_add(letters));
    match needed {
        Some(needed) if keep >= needed => Ok(()),
        needed => Err(WindowTooShort { keep, needed }),
    }
}
