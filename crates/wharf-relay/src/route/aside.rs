//! Rows and messages that are set aside: `dlq.outbox.<source>.relay`.
//!
//! Invariant: nothing here fails, whatever the row holds; a dead letter that cannot be written would
//! stop every row behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use wharf_message::dead_letter::{Failure, Reason, dead_letter};
use wharf_message::{GroupName, Message, Timestamp, TopicName, header};

use super::json::Json;
use super::{Routed, Unroutable};
use crate::{Kind, Row};

/// The group in the names of dead-letter topics, and the handler in dead letters.
const RELAY: &str = "relay";
/// How much of a source's name is in the name of its dead-letter topic.
const SOURCE_BYTES_MAX: usize = 200;

/// Where what a source has to set aside goes: `dlq.outbox.<source>.relay`. What may not be in the
/// name of a topic is a `-` there.
///
/// ```
/// assert_eq!(wharf_relay::dead_letter_topic("orders").as_str(), "dlq.outbox.orders.relay");
/// ```
pub fn dead_letter_topic(source: &str) -> TopicName {
    name(&format!("dlq.{}.{RELAY}", outbox(source)))
}

/// The dead letter of a row that no message could be made of: its columns as a JSON object.
pub(super) fn row(
    source: &str,
    row: &Row,
    reason: &Unroutable,
    id: &str,
    now: Timestamp,
) -> Routed {
    let columns = row.columns.iter().zip(&row.values);
    let columns = columns.map(|(column, value)| {
        let value = value
            .as_ref()
            .map_or(Json::Null, |value| shown(&column.kind, value));
        (column.name.clone(), value)
    });
    let payload = Json::Object(columns.collect()).text();
    let mut message = Message::new(payload).with_header(header::CONTENT_TYPE, "application/json");
    if let Some((kind, Some(value))) = row.get(id)
        && *kind != Kind::Bytes
    {
        message.headers.push("id", value.clone());
    }
    let reason = format!("{reason}\nthe row is at {}", row.place);
    letter(source, message, reason, now)
}

/// The dead letter of a message that its topic does not take, with the reason. Bytes and headers are
/// kept, unless they are more than `keep_max`: then the payload stays in the table only.
pub(crate) fn refused(
    source: &str,
    message: Message,
    mut reason: String,
    keep_max: usize,
    now: Timestamp,
) -> Routed {
    let mut kept = message;
    if kept.size() > keep_max {
        reason.push_str(
            "\nit is too large for the dead-letter topic, too: its payload is in the table",
        );
        let id = kept
            .headers
            .get("id")
            .filter(|id| id.len() < 1_000)
            .cloned();
        kept = Message::new("");
        kept.headers.push_raw("id", id);
    }
    letter(source, kept, reason, now)
}

fn letter(source: &str, message: Message, error: String, now: Timestamp) -> Routed {
    let failure = Failure {
        reason: Reason::Undecodable,
        error,
        attempts: 1,
        first_failed_at: None,
        failed_at: now,
        handler: RELAY.to_owned(),
    };
    let group = GroupName::new(RELAY).expect("a valid name");
    let message = dead_letter(message, &name(&outbox(source)), None, &group, &failure);
    Routed {
        topic: dead_letter_topic(source),
        partition: None,
        message,
    }
}

/// A value as it is shown in JSON: bytes as base64, and said to be.
fn shown(kind: &Kind, value: &Bytes) -> Json {
    let text = || String::from_utf8_lossy(value).into_owned();
    match kind {
        Kind::Bytes => {
            let field = ("base64".to_owned(), Json::Text(STANDARD.encode(value)));
            Json::Object(vec![field])
        }
        Kind::Integer | Kind::Boolean => match Json::parse(value) {
            Ok(plain @ (Json::Number(_) | Json::Bool(_))) => plain,
            _ => Json::Text(text()),
        },
        _ => Json::Text(text()),
    }
}

fn outbox(source: &str) -> String {
    let allowed = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
        _ => '-',
    };
    let source = source.chars().map(allowed).take(SOURCE_BYTES_MAX);
    format!("outbox.{}", source.collect::<String>())
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("made of allowed characters, and short enough")
}
