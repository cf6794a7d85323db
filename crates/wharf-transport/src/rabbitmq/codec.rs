//! A message as AMQP 0-9-1 carries it, and back, without a change.
//!
//! Headers are fields of the header table: text as a long string, other bytes as a byte array, an
//! absent value as void, several of one name as an array. What AMQP has no place for (the key, a
//! time in milliseconds, that there is no payload) is in headers of our own, and headers that the
//! broker itself reads or writes travel under another name, and the order of the headers, which a
//! table does not keep, in one more. What must never happen here: that a header changes what the
//! broker does.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use wharf_message::transport::{Capability, Error};
use wharf_message::{Headers, Message, Timestamp, header};

use crate::held::{order_of, restored};

/// The message's key, any bytes.
const KEY: &str = "wharf-key";
/// When it was made, in milliseconds; the name that RabbitMQ's own interceptor uses.
const TIMESTAMP: &str = "timestamp_in_ms";
/// There is no payload, which is not the same as an empty one.
const TOMBSTONE: &str = "wharf-tombstone";
/// How the headers stood, unless they were sorted.
const ORDER: &str = "wharf-header-order";
/// Before a name that the broker would understand.
const ESCAPE: &str = "wharf-escaped-";
/// Where a delayed message goes; the delivering exchange routes by it.
pub(super) const DELAY_TARGET: &str = "wharf-delay-target";
/// What the broker adds or acts upon.
const BROKERS: [&str; 3] = ["CC", "BCC", TIMESTAMP];
/// The same, by how the names begin (`x-death`, `x-delivery-count`, `x-stream-offset` and others).
const BROKERS_PREFIX: &str = "x-";
/// Delivery mode: kept on disk.
const PERSISTENT: u8 = 2;
/// The longest name and routing key, in bytes.
const SHORT_BYTES_MAX: usize = 255;

/// Whether a header of this name has a meaning to the broker or to this module.
fn is_reserved(name: &str) -> bool {
    BROKERS.contains(&name)
        || [KEY, TOMBSTONE, ORDER, DELAY_TARGET].contains(&name)
        || name.starts_with(BROKERS_PREFIX)
        || name.starts_with(ESCAPE)
}

/// A short string, if it is short enough.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// The properties of a message made at `now`, if it does not say when.
///
/// # Errors
/// [`Error::Unsupported`] for a header name that is too long.
pub(super) fn encode(message: &Message, now: Timestamp) -> Result<BasicProperties, Error> {
    let mut fields: BTreeMap<ShortString, AMQPValue> = BTreeMap::new();
    for (name, value) in message.headers.iter() {
        let carried = if is_reserved(name) {
            Cow::Owned(format!("{ESCAPE}{name}"))
        } else {
            Cow::Borrowed(name)
        };
        let carried = short(&carried).ok_or_else(|| Error::Unsupported {
            transport: super::NAME,
            capability: Capability::BinaryHeaders,
            hint: format!(": a header's name has {} bytes, too many", name.len()),
        })?;
        let value = value.map_or(AMQPValue::Void, field);
        match fields.get_mut(&carried) {
            Some(AMQPValue::FieldArray(values)) => values.push(value),
            Some(one) => {
                let first = std::mem::replace(one, AMQPValue::Void);
                *one = AMQPValue::FieldArray(vec![first, value].into());
            }
            None => drop(fields.insert(carried, value)),
        }
    }
    if let Some(key) = &message.key {
        fields.insert(KEY.into(), field(key));
    }
    if message.payload.is_none() {
        fields.insert(TOMBSTONE.into(), AMQPValue::Boolean(true));
    }
    if let Some(order) = order_of(&message.headers) {
        fields.insert(ORDER.into(), field(&order));
    }
    let millis = message.timestamp.unwrap_or(now).as_millis();
    fields.insert(TIMESTAMP.into(), AMQPValue::LongLongInt(millis));
    let seconds = u64::try_from(millis).unwrap_or(0) / 1_000;
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(seconds)
        .with_headers(FieldTable::from(fields));
    // For consumers that are not Wharf's; ours read the headers.
    let text = |name| message.headers.text(name).ok().flatten().and_then(short);
    if let Some(kind) = text(header::CONTENT_TYPE) {
        properties = properties.with_content_type(kind);
    }
    if let Some(id) = text(header::CE_ID) {
        properties = properties.with_message_id(id);
    }
    Ok(properties)
}

fn field(bytes: &(impl AsRef<[u8]> + ?Sized)) -> AMQPValue {
    match std::str::from_utf8(bytes.as_ref()) {
        Ok(text) => AMQPValue::LongString(text.into()),
        Err(_) => AMQPValue::ByteArray(bytes.as_ref().into()),
    }
}

/// The routing key: the message's key where it can be one, for whoever else binds to the exchange.
pub(super) fn routing_key(message: &Message) -> ShortString {
    let key = message.key.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(key).ok().and_then(short);
    text.unwrap_or_default()
}

/// The bytes of the properties on the wire, about; they must fit into one frame.
pub(super) fn header_bytes(message: &Message) -> usize {
    let payload = message.payload.as_ref().map_or(0, Bytes::len);
    // A field has a length before its name, a type, and a length before its value; an array element
    // two of them, and its place in the order. Copies and our own fields come on top.
    message.size() - payload + message.headers.len() * (ESCAPE.len() + 16) + 2 * SHORT_BYTES_MAX
}

/// The message that arrived. Never fails: what is not Wharf's is carried over as far as it has text.
pub(super) fn decode(properties: &BasicProperties, data: Vec<u8>) -> Message {
    let mut message = Message::new(data);
    let seconds = properties.timestamp().map(|it| it.saturating_mul(1_000));
    let millis = seconds.and_then(|millis| i64::try_from(millis).ok());
    message.timestamp = millis.map(Timestamp::from_millis);
    let fields = properties.headers().as_ref().map(FieldTable::inner);
    let mut order = None;
    for (name, value) in fields.into_iter().flatten() {
        let name = name.as_str();
        match (name, value) {
            (KEY, value) => message.key = bytes(value),
            (TIMESTAMP, AMQPValue::LongLongInt(millis)) => {
                message.timestamp = Some(Timestamp::from_millis(*millis));
            }
            (TOMBSTONE, _) => message.payload = None,
            (ORDER, value) => order = bytes(value),
            _ => {
                if let Some(escaped) = name.strip_prefix(ESCAPE) {
                    push(&mut message.headers, escaped, value);
                } else if !is_reserved(name) {
                    push(&mut message.headers, name, value);
                }
            }
        }
    }
    let order = order.as_deref().map(std::str::from_utf8);
    message.headers = restored(message.headers, order.and_then(Result::ok));
    if let Some(kind) = properties.content_type()
        && !message.headers.contains(header::CONTENT_TYPE)
    {
        let kind = kind.as_str().to_owned();
        message.headers.push(header::CONTENT_TYPE, kind);
    }
    message
}

fn push(headers: &mut Headers, name: &str, value: &AMQPValue) {
    match value {
        AMQPValue::FieldArray(values) => {
            for value in values.as_slice() {
                headers.push_raw(name.to_owned(), bytes(value));
            }
        }
        value => headers.push_raw(name.to_owned(), bytes(value)),
    }
}

/// A field's value; numbers and the like of other producers become text.
fn bytes(value: &AMQPValue) -> Option<Bytes> {
    let text = match value {
        AMQPValue::LongString(text) => return Some(Bytes::copy_from_slice(text.as_bytes())),
        AMQPValue::ByteArray(bytes) => return Some(Bytes::copy_from_slice(bytes.as_slice())),
        AMQPValue::Void => return None,
        AMQPValue::ShortString(text) => text.as_str().to_owned(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        // Decimals, tables and arrays in arrays: as the library shows them, better than nothing.
        other => format!("{other:?}"),
    };
    Some(Bytes::from(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let name = prop_oneof![
            Just("CC".to_owned()),
            Just("x-death".to_owned()),
            Just("wharf-key".to_owned()),
            Just("wharf-escaped-CC".to_owned()),
            Just("content-type".to_owned()),
            "[a-zä -~]{0,20}",
        ];
        let headers = proptest::collection::vec((name, proptest::option::of(bytes_of(20))), 0..8);
        let key = proptest::option::of(bytes_of(300));
        let payload = proptest::option::of(bytes_of(50));
        (key, payload, headers, 0..i64::MAX).prop_map(|(key, payload, headers, millis)| Message {
            key,
            payload,
            headers: headers.into_iter().map(|(n, v)| (n.into(), v)).collect(),
            timestamp: Some(Timestamp::from_millis(millis)),
        })
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was_given(message in any_message()) {
            let properties = encode(&message, Timestamp::ZERO).expect("short names");
            let data = message.payload.clone().unwrap_or_default().to_vec();
            let back = decode(&properties, data);
            prop_assert_eq!(back, message);
        }
    }

    #[test]
    fn what_the_broker_would_act_upon_is_carried_under_another_name() {
        let message = Message::new("p").with_header("CC", "elsewhere");
        let properties = encode(&message, Timestamp::ZERO).expect("short names");
        let fields = properties.headers().as_ref().expect("headers");
        assert!(!fields.contains_key("CC") && fields.contains_key("wharf-escaped-CC"));
    }

    #[test]
    fn a_name_that_is_too_long_is_refused_and_numbers_of_others_become_text() {
        let long = Message::new("p").with_header("n".repeat(256), "v");
        let refused = encode(&long, Timestamp::ZERO);
        assert!(matches!(refused, Err(Error::Unsupported { .. })));
        let fields = [("n".into(), AMQPValue::LongInt(-7))];
        let table = FieldTable::from(BTreeMap::from(fields));
        let properties = BasicProperties::default().with_headers(table);
        assert_eq!(
            decode(&properties, vec![]).headers.text("n"),
            Ok(Some("-7"))
        );
    }
}
