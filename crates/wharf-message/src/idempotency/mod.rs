//! What makes two deliveries the same: the key under which a consumer remembers a message.
//!
//! [`key`] takes the best one that the message carries, in a fixed precedence, and says what it
//! protects against. Two rules hold for every key: it is unique within its source, and a source never
//! mixes kinds or topics, so that a value which the producer of one topic chose cannot swallow a
//! message of another. A header that is present and empty is as one that is absent: nothing could be
//! told apart by it. Never derived from a whole payload, which holds times and other chance.

mod canonical;
mod fields;

pub use canonical::canonical_json;
pub use fields::{FieldsError, of_fields};

use crate::message::NotText;
use crate::transport::Position;
use crate::{Message, TopicName, header};

/// The header in which Debezium's outbox event router puts the id of the outbox row.
pub const DEBEZIUM_ID: &str = "id";

/// What a consumer that remembers a key is protected against. Each includes the ones after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protects {
    /// The operation asked for again, in however many messages: the key names the operation.
    Operation,
    /// The message published again: the key goes with the message.
    Republished,
    /// The record delivered again, and nothing else: the same message published twice has two
    /// positions. A topic that is deleted and created again gives its positions again.
    Redelivered,
}

impl Protects {
    /// In a few words, for logs and documents.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Operation => "the operation asked for again",
            Self::Republished => "the message published again",
            Self::Redelivered => "the record delivered again, not the message published again",
        }
    }
}

/// The key of a message: two messages are one when both texts are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Within what the id is unique.
    pub source: String,
    /// The id.
    pub id: String,
    /// What remembering it protects against.
    pub protects: Protects,
}

impl Key {
    /// A key that names an operation, chosen by the caller.
    ///
    /// ```
    /// use wharf_message::idempotency::{Key, Protects};
    ///
    /// let key = Key::operation("orders", "charge-4711");
    /// assert_eq!(key.protects, Protects::Operation);
    /// ```
    pub fn operation(source: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            id: id.into(),
            protects: Protects::Operation,
        }
    }
}

/// The best key of a message that was delivered from `topic`: the header `idempotency-key`, else
/// CloudEvents' source and id, else the header `id` of Debezium's outbox, else its position. `None`
/// when it has none of these, and the transport tells no position.
///
/// ```
/// use wharf_message::idempotency::{Protects, key};
/// use wharf_message::transport::Position;
/// use wharf_message::{Message, TopicName};
///
/// let topic = TopicName::new("orders").unwrap();
/// let position = Some(Position { partition: 0, offset: 7 });
/// let bare = key(&Message::new("p"), &topic, position).unwrap().unwrap();
/// assert_eq!(bare.protects, Protects::Redelivered);
/// let named = Message::new("p").with_header("idempotency-key", "charge-4711");
/// let named = key(&named, &topic, position).unwrap().unwrap();
/// assert_eq!((named.id.as_str(), named.protects), ("charge-4711", Protects::Operation));
/// ```
///
/// # Errors
/// [`NotText`] when a header that would count is not text; going on to the next one would give the
/// message another key than the one its producer chose.
pub fn key(
    message: &Message,
    topic: &TopicName,
    position: Option<Position>,
) -> Result<Option<Key>, NotText> {
    let text = |name| {
        let found = message.headers.text(name)?;
        Ok(found.filter(|text| !text.is_empty()))
    };
    let of = |source, id: String, protects| {
        Ok(Some(Key {
            source,
            id,
            protects,
        }))
    };
    if let Some(id) = text(header::IDEMPOTENCY_KEY)? {
        return of(format!("key:{topic}"), id.to_owned(), Protects::Operation);
    }
    if let (Some(source), Some(id)) = (text(header::CE_SOURCE)?, text(header::CE_ID)?) {
        return of(format!("ce:{source}"), id.to_owned(), Protects::Republished);
    }
    if let Some(id) = text(DEBEZIUM_ID)? {
        return of(format!("id:{topic}"), id.to_owned(), Protects::Republished);
    }
    match position {
        Some(position) => of(
            format!("at:{topic}"),
            position.to_string(),
            Protects::Redelivered,
        ),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: Position = Position {
        partition: 3,
        offset: 42,
    };

    fn found(message: &Message) -> Option<Key> {
        let topic = TopicName::new("orders").expect("valid");
        key(message, &topic, Some(POSITION)).expect("text")
    }

    fn shown(message: &Message) -> (String, Protects) {
        let key = found(message).expect("a key");
        (format!("{} {}", key.source, key.id), key.protects)
    }

    #[test]
    fn the_first_of_the_precedence_that_is_there_counts() {
        let mut message = Message::new("p")
            .with_header("idempotency-key", "k")
            .with_header("ce_source", "/shop")
            .with_header("ce_id", "e")
            .with_header("id", "row");
        let (operation, republished) = (Protects::Operation, Protects::Republished);
        assert_eq!(shown(&message), ("key:orders k".to_owned(), operation));
        message.headers.remove("idempotency-key");
        assert_eq!(shown(&message), ("ce:/shop e".to_owned(), republished));
        message.headers.remove("ce_id");
        assert_eq!(shown(&message), ("id:orders row".to_owned(), republished));
        message.headers.remove("id");
        let position = ("at:orders 3@42".to_owned(), Protects::Redelivered);
        assert_eq!(shown(&message), position);
    }

    #[test]
    fn an_empty_header_is_no_key_and_without_any_there_is_none() {
        let empty = Message::new("p")
            .with_header("idempotency-key", "")
            .with_header("id", "");
        assert_eq!(shown(&empty).1, Protects::Redelivered);
        let topic = TopicName::new("orders").expect("valid");
        assert_eq!(key(&empty, &topic, None), Ok(None));
    }

    #[test]
    fn a_chosen_key_that_is_no_text_is_told_and_not_passed_over() {
        let message = Message::new("p")
            .with_header("idempotency-key", vec![0xff])
            .with_header("id", "row");
        let topic = TopicName::new("orders").expect("valid");
        let error = key(&message, &topic, Some(POSITION)).expect_err("not text");
        assert_eq!(error.name, "idempotency-key");
    }

    #[test]
    fn equal_values_of_different_kinds_and_topics_are_different_keys() {
        let explicit = Message::new("p").with_header("idempotency-key", "7");
        let debezium = Message::new("p").with_header("id", "7");
        let event = Message::new("p")
            .with_header("ce_source", "orders")
            .with_header("ce_id", "7");
        let sources: std::collections::BTreeSet<String> = [&explicit, &debezium, &event]
            .into_iter()
            .filter_map(found)
            .map(|key| key.source)
            .collect();
        assert_eq!(sources.len(), 3, "{sources:?}");
        let other = TopicName::new("payments").expect("valid");
        let other = key(&explicit, &other, None).expect("text");
        assert_ne!(other, found(&explicit));
    }
}
