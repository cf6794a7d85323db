//! Room in the table: rows that are durable at the target and old are removed, and partitions are made
//! ahead.
//!
//! Nothing depends on it: what fails here is told once, and tried again the next time. Invariant: it
//! removes only what it was told to be confirmed.

use std::time::Duration;

use sqlx::Pool;
use wharf_outbox::{Confirmed, Dialect, Outbox, TableName};

/// How long a connection for making room is kept when nobody uses it. Never zero: so often the pool
/// looks, and would look all the time.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(1);

/// Makes room in one table.
pub(crate) struct Room<D: Dialect> {
    outbox: Outbox,
    table: TableName,
    pool: Pool<D>,
    keep: Duration,
    /// What was in the way the last time.
    told: Option<String>,
}

impl<D: Dialect> Room<D> {
    /// In `table`, of rows older than `keep`.
    pub(crate) fn new(pool: Pool<D>, table: &TableName, keep: Duration) -> Self {
        Self {
            outbox: Outbox::new().table(table.clone()),
            table: table.clone(),
            pool,
            keep,
            told: None,
        }
    }

    /// Once, until there is nothing more to do.
    pub(crate) async fn make(&mut self, confirmed: Confirmed) {
        loop {
            let done = self.outbox.maintain(&self.pool, confirmed, self.keep).await;
            let trouble = done.as_ref().err().map(ToString::to_string);
            if let Some(trouble) = &trouble
                && self.told.as_ref() != Some(trouble)
            {
                let table = &self.table;
                tracing::warn!(%table, "old rows of the outbox are not removed: {trouble}");
            }
            self.told = trouble;
            if !done.is_ok_and(|done| done.more) {
                return;
            }
        }
    }
}
