//! A message as NATS carries it, and back, without a change.
//!
//! NATS headers are lines of text: names of visible ASCII without `:`, values without line breaks that
//! lose the blanks around them. Headers that fit are carried as they are; those that do not, and those
//! that the server itself would act upon, are carried encoded in `wharf-raw`. What NATS has no place
//! for (the key, that there is no payload, the order of the headers) is in headers of our own. What
//! must never happen here: that a header changes what the server does, or comes back otherwise.

use std::collections::BTreeSet;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use wharf_message::{Headers, Message, Timestamp};

use crate::held::{order_of, restored};

/// The message's key.
const KEY: &str = "wharf-key";
/// The message's key in Base64, where it is not plain text.
const KEY_RAW: &str = "wharf-key-raw";
/// When the message was made, in milliseconds.
const TIMESTAMP: &str = "wharf-timestamp";
/// There is no payload, which is not the same as an empty one.
const TOMBSTONE: &str = "wharf-tombstone";
/// A header that NATS cannot carry: name and value in Base64 with a `.` between; no `.`, no value.
const RAW: &str = "wharf-raw";
/// How the headers stood, unless they were sorted.
const ORDER: &str = "wharf-header-order";
const OURS: [&str; 6] = [KEY, KEY_RAW, TIMESTAMP, TOMBSTONE, RAW, ORDER];
/// How the names of the server's own headers begin, in any case.
const SERVERS_PREFIX: &str = "nats-";

/// Whether a header of this name can be carried as it is.
fn is_plain_name(name: &str) -> bool {
    let prefix = name.get(..SERVERS_PREFIX.len());
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
        && !OURS.contains(&name)
        && !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(SERVERS_PREFIX))
}

/// The value as a header's text, if it can be one.
fn plain(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let is_plain = text.trim() == text && !text.contains(['\r', '\n']);
    is_plain.then_some(text)
}

/// The headers and the payload of a message.
pub(super) fn encode(message: &Message) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    // Those of one name stay together, so that they stay in order.
    let raw: BTreeSet<&str> = message
        .headers
        .iter()
        .filter(|(name, value)| !is_plain_name(name) || value.and_then(plain).is_none())
        .map(|(name, _)| name)
        .collect();
    for (name, value) in message.headers.iter() {
        match value.and_then(plain).filter(|_| !raw.contains(name)) {
            Some(value) => append(&mut headers, name, value),
            None => {
                let mut text = BASE64.encode(name);
                if let Some(value) = value {
                    text.push('.');
                    text.push_str(&BASE64.encode(value));
                }
                append(&mut headers, RAW, &text);
            }
        }
    }
    if let Some(key) = &message.key {
        match plain(key) {
            Some(key) => append(&mut headers, KEY, key),
            None => append(&mut headers, KEY_RAW, &BASE64.encode(key)),
        }
    }
    if let Some(time) = message.timestamp {
        append(&mut headers, TIMESTAMP, &time.as_millis().to_string());
    }
    if message.payload.is_none() {
        append(&mut headers, TOMBSTONE, "true");
    }
    if let Some(order) = order_of(&message.headers) {
        append(&mut headers, ORDER, &order);
    }
    (headers, message.payload.clone().unwrap_or_default())
}

/// Adds a header whose name and value were checked.
pub(super) fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
    let (Ok(name), Ok(value)) = parsed else {
        debug_assert!(false, "{name}: {value} was checked");
        return;
    };
    headers.append(name, value);
}

/// The bytes of a message on the wire, as the server's limit counts them.
pub(super) fn wire_bytes(headers: &HeaderMap, payload: &Bytes) -> usize {
    let lines: usize = headers
        .iter()
        .flat_map(|(name, values)| {
            let name = AsRef::<[u8]>::as_ref(name).len();
            values
                .iter()
                .map(move |value| name + value.as_str().len() + 4)
        })
        .sum();
    lines + "NATS/1.0\r\n\r\n".len() + payload.len()
}

/// The message that arrived; `published` is when the server took it. Never fails: what is not Wharf's
/// is carried over, and what pretends to be is kept as it is.
pub(super) fn decode(headers: Option<&HeaderMap>, payload: Bytes, published: Timestamp) -> Message {
    let mut message = Message::new(payload);
    message.timestamp = Some(published);
    let mut order = None;
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name = name.to_string();
        for value in values {
            let value = value.as_str();
            let known = match name.as_str() {
                KEY => {
                    message.key = Some(Bytes::copy_from_slice(value.as_bytes()));
                    true
                }
                KEY_RAW => set(&mut message.key, BASE64.decode(value).ok().map(Bytes::from)),
                TIMESTAMP => {
                    let time = value.parse().ok().map(Timestamp::from_millis);
                    set(&mut message.timestamp, time)
                }
                TOMBSTONE => {
                    message.payload = None;
                    true
                }
                RAW => push_raw(&mut message.headers, value).is_some(),
                ORDER => set(&mut order, Some(value)),
                // What the server added.
                other => other.starts_with("Nats-"),
            };
            if !known {
                message.headers.push(name.clone(), value.to_owned());
            }
        }
    }
    message.headers = restored(message.headers, order);
    message
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let is_known = value.is_some();
    if is_known {
        *place = value;
    }
    is_known
}

fn push_raw(headers: &mut Headers, text: &str) -> Option<()> {
    let (name, value) = match text.split_once('.') {
        Some((name, value)) => (name, Some(BASE64.decode(value).ok()?)),
        None => (text, None),
    };
    let name = String::from_utf8(BASE64.decode(name).ok()?).ok()?;
    headers.push_raw(name, value.map(Bytes::from));
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(max: usize) -> impl Strategy<Value = Bytes> {
        let text = "[a-c \t\r\n\u{a0}]{0,6}".prop_map(Bytes::from);
        let binary = proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        prop_oneof![text, binary]
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let name = prop_oneof![
            Just("Nats-Rollup".to_owned()),
            Just("nats-msg-id".to_owned()),
            Just("wharf-key".to_owned()),
            Just("wharf-raw".to_owned()),
            Just("wharf-header-order".to_owned()),
            "[a-cA-C: ä]{0,3}",
        ];
        let headers = proptest::collection::vec((name, proptest::option::of(bytes_of(9))), 0..8);
        let key = proptest::option::of(bytes_of(20));
        let payload = proptest::option::of(bytes_of(20));
        (key, payload, headers, any::<i64>()).prop_map(|(key, payload, headers, millis)| Message {
            key,
            payload,
            headers: headers.into_iter().map(|(n, v)| (n.into(), v)).collect(),
            timestamp: Some(Timestamp::from_millis(millis)),
        })
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was_given(message in any_message()) {
            let (headers, payload) = encode(&message);
            for (_, values) in headers.iter() {
                // What the client does to a value when it reads it.
                prop_assert!(values.iter().all(|value| value.as_str().trim() == value.as_str()));
            }
            let back = decode(Some(&headers), payload, Timestamp::ZERO);
            prop_assert_eq!(back, message);
        }
    }

    #[test]
    fn no_header_of_the_users_reaches_the_server_as_its_own() {
        let message = Message::new("p").with_header("Nats-Rollup", "all");
        let (headers, _) = encode(&message);
        assert!(headers.get("Nats-Rollup").is_none());
    }

    #[test]
    fn what_pretends_to_be_ours_and_is_not_is_kept_as_it_is() {
        let mut headers = HeaderMap::new();
        append(&mut headers, RAW, "!");
        append(&mut headers, TIMESTAMP, "soon");
        let message = decode(Some(&headers), Bytes::new(), Timestamp::ZERO);
        assert_eq!(message.headers.text(RAW), Ok(Some("!")));
        assert_eq!(message.headers.text(TIMESTAMP), Ok(Some("soon")));
        assert_eq!(message.timestamp, Some(Timestamp::ZERO));
    }
}
