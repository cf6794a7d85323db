//! Making room: which rows may go, and what was done.
//!
//! Invariant, by construction: whatever removes rows compares each with a [`Confirmed`] in the same
//! statement or under a lock that keeps new rows out, so that a row no relay has confirmed stays,
//! whatever its age. Age alone never removes one.

use std::time::Duration;

use sqlx::Pool;

use super::error::Doing;
use super::{Outbox, OutboxError};
use crate::dialect::Dialect;

/// The most rows of one statement, which is a transaction of its own.
pub(super) const CHUNK_ROWS: i64 = 1_000;
/// The most statements of one call.
pub(super) const CHUNKS_MAX: usize = 100;
/// The longest time that is told from a longer one; every database can still subtract it.
const KEEP_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How far a relay is: every committed row up to here, and every one that will be committed before it,
/// is durable at its target. Of several relays of one table, the least counts.
///
/// ```
/// use wharf_outbox::Confirmed;
///
/// let (here, there) = (Confirmed::position(800, 12), Confirmed::before_transaction(801));
/// assert!(Confirmed::NOTHING < here && here < there && there < Confirmed::position(801, 0));
/// assert_eq!([there, here].into_iter().min(), Some(here));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Confirmed {
    transaction: u64,
    sequence: i64,
}

impl Confirmed {
    /// No row yet.
    pub const NOTHING: Self = Self {
        transaction: 0,
        sequence: i64::MIN,
    };

    /// Up to this sequence number: in MySQL, MariaDB and SQLite.
    pub const fn sequence(sequence: i64) -> Self {
        Self {
            transaction: 0,
            sequence,
        }
    }

    /// Up to this row of this transaction, in the order of `(transaction_id, sequence)`: in Postgres.
    pub const fn position(transaction: u64, sequence: i64) -> Self {
        Self {
            transaction,
            sequence,
        }
    }

    /// Everything of the transactions with a lower number than this: in Postgres.
    pub const fn before_transaction(transaction: u64) -> Self {
        match transaction.checked_sub(1) {
            Some(last) => Self::position(last, i64::MAX),
            None => Self::NOTHING,
        }
    }

    /// The transaction's number; 0 where there are only sequence numbers.
    pub const fn transaction_number(self) -> u64 {
        self.transaction
    }

    /// The sequence number.
    pub const fn sequence_number(self) -> i64 {
        self.sequence
    }
}

/// What [`Outbox::maintain`] did, and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Maintained {
    /// Partitions made.
    pub created: Vec<String>,
    /// Partitions dropped, with all their rows.
    pub dropped: Vec<String>,
    /// Rows moved out of the default partition.
    pub moved: u64,
    /// Rows deleted one by one.
    pub deleted: u64,
    /// Partitions that are old enough and hold rows that are not confirmed.
    pub unconfirmed: Vec<String>,
    /// Partitions that could not be made, filled or dropped, since transactions had the table locked.
    pub busy: Vec<String>,
    /// Rows in the default partition (counted to 10,000): too many to be moved at once, or of a day
    /// that has passed. They are deleted one by one when they are old and confirmed.
    pub in_default: u64,
    /// Whether there is more to delete now.
    pub more: bool,
}

impl Outbox {
    /// Makes room: removes rows that are both confirmed by the relay and older than `keep` by the
    /// database's clock. Meant to be called every few minutes, by whoever knows how far the relay is;
    /// several instances at once are no harm. It waits for no lock longer than a moment.
    ///
    /// On Postgres it also makes partitions for today and the next two days, and drops old ones whole.
    /// There it needs a user that owns the table. Elsewhere rows are deleted in chunks.
    ///
    /// # Errors
    /// What the database says.
    pub async fn maintain<D: Dialect>(
        &self,
        pool: &Pool<D>,
        confirmed: Confirmed,
        keep: Duration,
    ) -> Result<Maintained, OutboxError> {
        let acquired = pool.acquire().await;
        let mut connection = acquired
            .map_err(|error| OutboxError::of::<D>(error, self.table_name(), Doing::Maintain))?;
        D::maintain(
            &mut connection,
            self.table_name(),
            confirmed,
            keep.min(KEEP_MAX),
        )
        .await
    }
}

/// As databases take it.
pub(super) fn micros(keep: Duration) -> i64 {
    i64::try_from(keep.as_micros()).unwrap_or(i64::MAX)
}
