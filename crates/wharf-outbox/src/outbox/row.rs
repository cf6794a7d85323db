//! A message as a row of the outbox.
//!
//! Invariants: what a row cannot hold is refused, never changed or left out; the same message always
//! gives the same row, so that a transaction that is tried again writes the same ids.

use std::borrow::Cow;

use serde_json::{Map, Value};
use uuid::Uuid;
use wharf_message::{Message, TopicName, header};

use super::{OutboxError, PAYLOAD_BYTES_MAX};

/// The longest text of the columns of Debezium, in characters.
const TEXT_CHARS_MAX: usize = 255;
/// The header that Debezium's router makes of the column `id`.
const ID: &str = "id";

/// The columns of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    /// `id`.
    pub(crate) id: String,
    /// `aggregatetype`.
    pub(crate) topic: &'a str,
    /// `aggregateid`.
    pub(crate) key: Cow<'a, str>,
    /// `type`.
    pub(crate) kind: &'a str,
    /// `payload`.
    pub(crate) payload: Option<&'a [u8]>,
    /// `headers`: a JSON object.
    pub(crate) headers: Option<Value>,
}

impl<'a> Row<'a> {
    /// The row of a message.
    pub(crate) fn of(topic: &'a TopicName, message: &'a Message) -> Result<Self, OutboxError> {
        let refused = |what: String| OutboxError::Message {
            topic: topic.to_string(),
            what,
        };
        let payload = message.payload.as_deref();
        if let Some(bytes) = payload.map(<[u8]>::len)
            && bytes > PAYLOAD_BYTES_MAX
        {
            return Err(OutboxError::TooLarge {
                topic: topic.to_string(),
                bytes,
            });
        }
        let mut headers = texts(message).map_err(refused)?;
        let id = id(&mut headers);
        let kind = message.headers.text(header::CE_TYPE);
        let kind = kind.map_err(|error| refused(error.to_string()))?;
        headers.remove(header::CE_TYPE);
        if let Some(time) = message.timestamp
            && !headers.contains_key(header::CE_TIME)
        {
            headers.insert(header::CE_TIME.to_owned(), time.to_rfc3339().into());
        }
        let key = match &message.key {
            Some(key) => {
                let text = std::str::from_utf8(key);
                let why = "its key is not UTF-8 text, as the column aggregateid is";
                Cow::Borrowed(text.map_err(|_error| refused(why.to_owned()))?)
            }
            None => Cow::Owned(id.clone()),
        };
        let kind = kind.unwrap_or_default();
        for (name, text) in [("key", &*key), ("type", kind)] {
            check(text).map_err(|why| refused(format!("its {name} {why}")))?;
        }
        Ok(Self {
            id,
            topic: topic.as_str(),
            key,
            kind,
            payload,
            headers: (!headers.is_empty()).then_some(headers.into()),
        })
    }

    /// About how much room it takes in a statement, in bytes.
    pub(crate) fn size(&self) -> usize {
        let headers = self.headers.iter().filter_map(Value::as_object).flatten();
        let headers =
            headers.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len) + 8);
        self.payload.map_or(0, <[u8]>::len) + self.key.len() + headers.sum::<usize>() + 256
    }
}

/// What fits a column of text.
fn check(text: &str) -> Result<(), &'static str> {
    if text.contains('\0') {
        return Err("holds a zero character, which databases do not store as text");
    }
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        return Err("has more than 255 characters, which its column holds at most");
    }
    Ok(())
}

/// The headers as an object of texts.
fn texts(message: &Message) -> Result<Map<String, Value>, String> {
    let mut texts = Map::new();
    for (name, value) in message.headers.iter() {
        let value = value.ok_or_else(|| {
            format!("its header {name} has no value; leave it out, or give it an empty one")
        })?;
        let text = std::str::from_utf8(value);
        let text = text.map_err(|_error| {
            format!("its header {name} is not UTF-8 text; write it as text, such as base64")
        })?;
        if text.contains('\0') || name.contains('\0') {
            return Err(format!(
                "its header {name:?} holds a zero character, which databases do not store as text"
            ));
        }
        if texts.insert(name.to_owned(), text.into()).is_some() {
            return Err(format!(
                "it has the header {name} twice; a row has each name once"
            ));
        }
    }
    Ok(texts)
}

/// The id of the row. It is taken out of the headers, unless it had to be derived from theirs.
fn id(headers: &mut Map<String, Value>) -> String {
    let name = [header::CE_ID, ID]
        .into_iter()
        .find(|&name| headers.contains_key(name));
    let own = name.and_then(|name| headers.remove(name));
    let Some(Value::String(own)) = own else {
        return Uuid::now_v7().to_string();
    };
    if headers.get(ID).and_then(Value::as_str) == Some(&*own) {
        headers.remove(ID);
    }
    if Uuid::try_parse(&own).is_ok_and(|id| id.to_string() == own) {
        return own;
    }
    let source = headers.get(header::CE_SOURCE).and_then(Value::as_str);
    let derived = derived_id(source.unwrap_or_default(), &own);
    headers.insert(header::CE_ID.to_owned(), own.into());
    derived
}

/// The id of the row of a message whose own id is no UUID.
fn derived_id(source: &str, id: &str) -> String {
    let name = format!("urn:wharf:message:{source}\n{id}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wharf_message::Timestamp;

    use super::*;

    fn topic() -> TopicName {
        TopicName::new("shop.orders").expect("valid")
    }

    fn row(message: &Message) -> Result<Row<'static>, String> {
        let topic = Box::leak(Box::new(topic()));
        let message = Box::leak(Box::new(message.clone()));
        Row::of(topic, message).map_err(|error| error.to_string())
    }

    #[test]
    fn the_envelope_goes_to_its_columns_and_the_rest_to_the_headers() {
        let id = "0190b0a5-3b6f-7c11-8000-000000000001";
        let message = Message::new("{}")
            .with_key("o-1")
            .with_header("ce_id", id)
            .with_header("id", id)
            .with_header("ce_type", "shop.order.placed")
            .with_header("ce_source", "shop");
        let message = Message {
            timestamp: Some(Timestamp::ZERO),
            ..message
        };
        let row = row(&message).expect("a row");
        assert_eq!(
            (&*row.id, row.topic, &*row.key, row.kind),
            (id, "shop.orders", "o-1", "shop.order.placed")
        );
        assert_eq!(row.payload, Some(&b"{}"[..]));
        let headers = serde_json::to_string(&row.headers).expect("JSON");
        assert_eq!(
            headers,
            r#"{"ce_source":"shop","ce_time":"1970-01-01T00:00:00.000Z"}"#
        );
    }

    #[test]
    fn an_id_that_is_no_uuid_is_kept_beside_one_that_is_derived_from_it() {
        let message = |id: &str| Message::new("x").with_header("ce_id", id.to_owned());
        let (one, again) = (
            row(&message("order-7")).expect("a row"),
            row(&message("order-7")).expect("a row"),
        );
        assert_eq!(one.id, again.id);
        assert_eq!(one.headers.expect("headers")["ce_id"], "order-7");
        assert!(Uuid::try_parse(&one.id).is_ok());
        let large = "0190B0A5-3B6F-7C11-8000-000000000001";
        let row = row(&message(large)).expect("a row");
        assert_eq!(
            row.headers.expect("headers")["ce_id"],
            large,
            "an id is not rewritten"
        );
        let debezium = Message::new("x").with_header("id", "seven");
        let headers = self::row(&debezium)
            .expect("a row")
            .headers
            .expect("headers");
        assert_eq!(
            (headers.get("id"), &headers["ce_id"]),
            (None, &"seven".into())
        );
    }

    #[test]
    fn a_message_without_an_id_or_a_key_gets_an_id_that_is_its_key() {
        let row = row(&Message::default()).expect("a row");
        assert_eq!(
            (&*row.key, row.payload, row.headers),
            (&*row.id, None, None)
        );
        assert!(Uuid::try_parse(&row.id).is_ok());
    }

    #[test]
    fn what_a_row_cannot_hold_is_refused_with_its_name() {
        let mut none = Message::new("x");
        none.headers.push_raw("tenant", None);
        for (message, said) in [
            (
                Message::new("x").with_header("tenant", vec![0xff]),
                "tenant is not UTF-8",
            ),
            (
                Message::new("x")
                    .with_header("a", "1")
                    .with_header("a", "2"),
                "the header a twice",
            ),
            (Message::new("x").with_header("a", "\0"), "zero"),
            (none, "tenant has no value"),
            (Message::new("x").with_key(vec![0xff]), "key is not UTF-8"),
            (Message::new("x").with_key("a\0b"), "key holds a zero"),
            (Message::new("x").with_key("ü".repeat(256)), "more than 255"),
            (
                Message::new("x").with_header("ce_type", "t".repeat(256)),
                "type has more than 255",
            ),
            (Message::new(vec![0; PAYLOAD_BYTES_MAX + 1]), "claim check"),
        ] {
            let error = row(&message).expect_err(said);
            assert!(
                error.contains(said) && error.contains("shop.orders"),
                "{error}"
            );
        }
        assert!(row(&Message::new("x").with_key("ü".repeat(255))).is_ok());
        assert!(row(&Message::new(vec![0; PAYLOAD_BYTES_MAX])).is_ok());
    }

    proptest! {
        #[test]
        fn any_message_gives_a_row_or_a_reason(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            headers in proptest::collection::vec((".{0,9}", proptest::collection::vec(any::<u8>(), 0..9)), 0..5),
        ) {
            let mut message = Message { key: key.map(Into::into), ..Message::new("x") };
            for (name, value) in headers {
                message.headers.push(name, value);
            }
            let topic = topic();
            if let Ok(row) = Row::of(&topic, &message) {
                prop_assert!(Uuid::try_parse(&row.id).is_ok());
                prop_assert!(row.key.chars().count() <= 255);
            }
        }
    }
}
