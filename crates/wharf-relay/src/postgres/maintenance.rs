//! What removes old rows beside the reading of the log: which rows are durable is known by the slot.
//!
//! Invariant: it runs only while the log is read, when everything before what the slot was told is
//! durable at the target, the rows that came from the table included.

use std::convert::Infallible;
use std::future::pending;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::sleep;
use wharf_outbox::{Confirmed, Horizon};

use super::PostgresLog;
use crate::polling::postgres::Table;
use crate::room::{IDLE_MAX, Room};

impl PostgresLog {
    /// Removes rows that are durable at the target and old, and makes partitions ahead; never ends.
    pub(super) async fn make_room(&self, options: &PgConnectOptions, table: &Table) -> Infallible {
        let Some(keep) = self.keep else {
            return pending().await;
        };
        if table.check_ordered().is_err() {
            // The table is somebody else's, without what tells which transaction a row is of.
            return pending().await;
        }
        let one = PgPoolOptions::new().max_connections(1);
        let pool = one
            .idle_timeout(Some(IDLE_MAX))
            .connect_lazy_with(options.clone());
        let mut room = Room::new(pool.clone(), &self.table, keep);
        let (mut confirmed, mut horizon) = (Confirmed::NOTHING, None::<Horizon>);
        loop {
            sleep(self.maintain_every).await;
            // Without an answer there is nothing to do; the source itself says what is wrong.
            let Ok(flushed) = self.flushed(&pool).await else {
                continue;
            };
            let reached = horizon.and_then(|horizon| horizon.confirmed(flushed));
            if horizon.is_none() || reached.is_some() {
                horizon = Horizon::take(&pool).await.ok();
            }
            confirmed = reached.map_or(confirmed, |reached| confirmed.max(reached));
            room.make(confirmed).await;
        }
    }

    /// What the slot was told.
    async fn flushed(&self, pool: &PgPool) -> Result<u64, sqlx::Error> {
        let ask = "SELECT coalesce((confirmed_flush_lsn - '0/0'::pg_lsn)::int8, 0) \
                   FROM pg_replication_slots WHERE slot_name = $1";
        let asked = sqlx::query_scalar(ask).bind(&self.slot);
        let flushed: i64 = asked.fetch_one(pool).await?;
        Ok(u64::try_from(flushed).unwrap_or(0))
    }
}
