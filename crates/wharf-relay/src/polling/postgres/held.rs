//! What holds the horizon back: the oldest transaction that has written and is open, wherever in the
//! server it is.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;
use wharf_message::Code;

/// The horizon as it was seen before.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The transaction that rows wait for, since when, and whether that was told.
    held: Option<(i64, Instant, bool)>,
}

impl Watch {
    /// What holds rows back for longer than `after`, for people: `horizon` is the oldest open
    /// transaction, if rows wait for it. Tells it once in the log.
    pub(super) async fn held_by(
        &mut self,
        connection: &mut PgConnection,
        horizon: Option<i64>,
        after: Duration,
    ) -> Result<Option<String>, sqlx::Error> {
        let Some(horizon) = horizon else {
            self.held = None;
            return Ok(None);
        };
        let now = Instant::now();
        let same = self.held.filter(|(before, ..)| *before == horizon);
        let (_, since, told) = *self.held.insert(same.unwrap_or((horizon, now, false)));
        if now.duration_since(since) < after {
            return Ok(None);
        }
        let by = holder(connection, horizon).await?;
        if !told {
            tracing::warn!(
                "rows of the outbox wait for {by} ({})",
                Code::OUTBOX_HELD_BACK
            );
        }
        self.held = Some((horizon, since, true));
        Ok(Some(by))
    }
}

/// The transaction for people: who it is, how old, and how to end it.
async fn holder(connection: &mut PgConnection, horizon: i64) -> Result<String, sqlx::Error> {
    let session: Option<(i32, Option<String>, Option<String>, Option<f64>)> = sqlx::query_as(
        "SELECT pid, application_name, state,
            extract(epoch FROM clock_timestamp() - xact_start)::float8
        FROM pg_stat_activity WHERE backend_xid = ($1::text::xid8)::xid LIMIT 1",
    )
    .bind(horizon.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some((pid, application, state, age)) = session {
        let application = application.filter(|name| !name.is_empty());
        let of = application.map_or(String::new(), |name| format!(" of {name:?}"));
        let state = state.map_or(String::new(), |state| format!(", {state}"));
        let age = match age {
            Some(age) => format!("open for {age:.0} s"),
            None => "of another user; GRANT pg_read_all_stats to see its age".to_owned(),
        };
        return Ok(format!(
            "the transaction of process {pid}{of}{state}, {age}; end it with SELECT pg_terminate_backend({pid})"
        ));
    }
    let prepared: Option<(String, f64)> = sqlx::query_as(
        "SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8
        FROM pg_prepared_xacts WHERE transaction = ($1::text::xid8)::xid",
    )
    .bind(horizon.to_string())
    .fetch_optional(connection)
    .await?;
    Ok(match prepared {
        Some((gid, age)) => format!(
            "the prepared transaction {gid:?}, open for {age:.0} s; end it with ROLLBACK PREPARED '{}' or COMMIT PREPARED",
            gid.replace('\'', "''")
        ),
        None => format!("transaction {horizon}, which the server does not show to this user"),
    })
}
