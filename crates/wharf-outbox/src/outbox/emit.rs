//! Messages in the log of Postgres alone, without a table: `pg_logical_emit_message`.
//!
//! `docs/specs/outbox-table.md` has the format, which the log-based source of the relay reads. What
//! must be known of it: there is no row, so nothing can be read again when the replication slot is
//! lost.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sqlx::{Postgres, Transaction};
use wharf_message::{Message, TopicName};

use super::error::{Doing, OutboxError};
use super::row::Row;
use super::table::TableName;

/// The prefix of the messages.
pub const EMIT_PREFIX: &str = "wharf_outbox";

/// Writes a message into the log of Postgres, in this transaction and without a table: it is sent to
/// `topic` if and when the transaction is committed, by a relay that reads the log. No other relay sees
/// it, and it is lost with the replication slot: for what may be lost then.
///
/// ```no_run
/// # async fn example(pool: &sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use wharf_message::{Message, TopicName};
///
/// let mut transaction = pool.begin().await?;
/// let seen = Message::new("{}").with_key("c-7").with_header("ce_type", "shop.article.seen");
/// wharf_outbox::emit(&mut transaction, &TopicName::new("shop.seen")?, &seen).await?;
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`Outbox::publish`](crate::Outbox::publish).
pub async fn emit(
    transaction: &mut Transaction<'_, Postgres>,
    topic: &TopicName,
    message: &Message,
) -> Result<(), OutboxError> {
    let content = content(Row::of(topic, message)?).to_string();
    let emitted = sqlx::query("SELECT pg_logical_emit_message(true, $1, $2::text)")
        .bind(EMIT_PREFIX)
        .bind(content)
        .execute(&mut **transaction)
        .await;
    let refused = |error| OutboxError::of::<Postgres>(error, &TableName::default(), Doing::Publish);
    emitted.map(drop).map_err(refused)
}

/// A row as an object: its columns by their names.
fn content(row: Row<'_>) -> Value {
    let mut content = Map::new();
    for (column, value) in [
        ("id", row.id.as_str()),
        ("aggregatetype", row.topic),
        ("aggregateid", &row.key),
        ("type", row.kind),
    ] {
        content.insert(column.to_owned(), value.into());
    }
    match row
        .payload
        .map(|payload| (std::str::from_utf8(payload), payload))
    {
        None => content.insert("payload".to_owned(), Value::Null),
        Some((Ok(text), _)) => content.insert("payload".to_owned(), text.into()),
        Some((Err(_), bytes)) => {
            content.insert("payload_base64".to_owned(), STANDARD.encode(bytes).into())
        }
    };
    if let Some(headers) = row.headers {
        content.insert("headers".to_owned(), headers);
    }
    content.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_has_the_columns_and_the_payload_as_text_or_as_base64() {
        let topic = TopicName::new("t").expect("valid");
        let content = |message: Message| {
            let row = Row::of(&topic, &message).expect("a row");
            content(row)
        };
        let id = "0190b0a5-3b6f-7c11-8000-000000000001";
        let message = |payload: Vec<u8>| {
            Message::new(payload)
                .with_key("k")
                .with_header("ce_id", id)
                .with_header("a", "1")
        };
        assert_eq!(
            content(message(b"{}".to_vec())),
            serde_json::json!({
                "id": id,
                "aggregatetype": "t",
                "aggregateid": "k",
                "type": "",
                "payload": "{}",
                "headers": {"a": "1"},
            })
        );
        let bytes = content(message(vec![0xff, 0]));
        assert_eq!(
            (bytes.get("payload"), &bytes["payload_base64"]),
            (None, &"/wA=".into())
        );
        let none = content(Message::default().with_key("k"));
        assert_eq!(none.get("payload"), Some(&Value::Null));
    }
}
