//! Making room in an outbox whose rows are in the order of their sequence numbers alone.
//!
//! Which rows go is decided by their own sequence numbers, each compared with what is confirmed, not
//! by what some statement returned in some order.

use std::time::Duration;

use super::error::{Doing, OutboxError};
use super::maintain::{CHUNK_ROWS, CHUNKS_MAX, Confirmed, Maintained, micros};
use super::table::TableName;
use crate::dialect::{Dialect, Value, checked};

/// Deletes what is confirmed and `old`, an expression with the age in microseconds as its value.
pub(crate) async fn maintain<D: Dialect>(
    connection: &mut D::Connection,
    table: &TableName,
    confirmed: Confirmed,
    keep: Duration,
    old: &str,
) -> Result<Maintained, OutboxError> {
    let refused = |error| OutboxError::of::<D>(error, table, Doing::Maintain);
    let (quoted, age) = (table.quoted::<D>(), Value::Integer(micros(keep)));
    // The first rows are looked at without locks; the ones behind them are not touched.
    let last = format!(
        "SELECT CAST(sequence AS SIGNED), NULL FROM (SELECT sequence, created_at FROM {quoted} \
         WHERE sequence <= ? ORDER BY sequence LIMIT {CHUNK_ROWS}) AS head WHERE {old} \
         ORDER BY sequence DESC LIMIT 1"
    );
    let delete = format!("DELETE FROM {quoted} WHERE sequence <= ? AND sequence <= ? AND {old}");
    let confirmed = Value::Integer(confirmed.sequence_number());
    let mut done = Maintained::default();
    for _ in 0..CHUNKS_MAX {
        let values = [confirmed, age];
        let found = D::last_sequence(connection, checked(last.clone()), &values).await;
        let Some((last, _)) = found.map_err(refused)? else {
            return Ok(done);
        };
        let values = [confirmed, Value::Integer(last), age];
        let deleted = D::execute(connection, checked(delete.clone()), &values).await;
        done.deleted += deleted.map_err(refused)?;
    }
    done.more = true;
    Ok(done)
}
