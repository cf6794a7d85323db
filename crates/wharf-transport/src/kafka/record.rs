//! A message as a record and back.
//!
//! What a record cannot carry is refused before it is sent, and what a message cannot carry (a header
//! whose name is no text) is told to the reader of the record: nothing is changed or dropped silently.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use wharf_message::transport::Error;
use wharf_message::{Headers, Message, Timestamp, header};

/// The names that need not be copied for each message.
const KNOWN: &[&str] = &[
    header::CE_ID,
    header::CE_SOURCE,
    header::CE_SPECVERSION,
    header::CE_TYPE,
    header::CE_TIME,
    header::CE_SUBJECT,
    header::CE_DATASCHEMA,
    header::CE_CORRELATIONID,
    header::CE_CAUSATIONID,
    header::CONTENT_TYPE,
    header::TRACEPARENT,
    header::TRACESTATE,
    header::IDEMPOTENCY_KEY,
    header::ATTEMPT,
    header::DELIVER_AT,
    header::EXPIRES_AT,
    header::FIRST_FAILED_AT,
    header::ORIGIN_TOPIC,
    header::ORIGIN_PARTITION,
    header::ORIGIN_OFFSET,
];

/// A record as it was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A message.
    Message(Message),
    /// Its headers cannot be read, since a name is no text: the message without them, and them.
    Unreadable(Message, OwnedHeaders),
}

/// Reads a record.
pub(super) fn read(record: &BorrowedMessage<'_>) -> Read {
    let mut message = Message {
        key: record.key().map(Bytes::copy_from_slice),
        payload: record.payload().map(Bytes::copy_from_slice),
        headers: Headers::default(),
        timestamp: record.timestamp().to_millis().map(Timestamp::from_millis),
    };
    let Some(raw) = record.headers() else {
        return Read::Message(message);
    };
    // The client library panics on a name that is not UTF-8, and has no other way to ask for it.
    match catch_unwind(AssertUnwindSafe(|| headers(raw))) {
        Ok(headers) => {
            message.headers = headers;
            Read::Message(message)
        }
        Err(_) => Read::Unreadable(message, raw.detach()),
    }
}

/// The message with those of its headers whose names are text.
pub(super) fn with_readable(mut message: Message, raw: &OwnedHeaders) -> Message {
    for index in 0..raw.count() {
        // See above.
        let header = catch_unwind(AssertUnwindSafe(|| {
            let header = raw.get(index);
            let value = header.value.map(Bytes::copy_from_slice);
            (header.key.to_owned(), value)
        }));
        if let Ok((name, value)) = header {
            message.headers.push_raw(name, value);
        }
    }
    message
}

fn headers(raw: &rdkafka::message::BorrowedHeaders) -> Headers {
    let mut headers = Headers::with_capacity(raw.count());
    for Header { key, value } in raw.iter() {
        let known = KNOWN.iter().find(|known| **known == key);
        let name = known.map_or_else(|| Cow::Owned(key.to_owned()), |known| Cow::Borrowed(*known));
        headers.push_raw(name, value.map(Bytes::copy_from_slice));
    }
    headers
}

/// The headers of a message as those of a record; `None` when there are none.
///
/// # Errors
/// [`Error::Refused`] for a name that would arrive cut short.
pub(super) fn write(headers: &Headers) -> Result<Option<OwnedHeaders>, Error> {
    if headers.is_empty() {
        return Ok(None);
    }
    if let Some((name, _)) = headers.iter().find(|(name, _)| name.contains('\0')) {
        let why = format!("the name of the header {name:?} contains a zero character");
        return Err(Error::Refused(why));
    }
    let owned = OwnedHeaders::new_with_capacity(headers.len());
    Ok(Some(append(owned, headers)))
}

/// The same headers and these after them.
pub(super) fn append(owned: OwnedHeaders, headers: &Headers) -> OwnedHeaders {
    headers.iter().fold(owned, |owned, (key, value)| {
        owned.insert(Header { key, value })
    })
}
