//! A message as a record and back.
//!
//! What a record cannot carry is refused before it is sent, and what a message cannot carry (a header
//! whose name is no text) is told to the reader of the record: nothing is changed or dropped silently.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rdkafka::message::{
    BorrowedHeaders, BorrowedMessage, Header, Headers as Heads, Message as _, OwnedHeaders,
};
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

/// The room that is made for a header's value before it is seen.
const VALUE_BYTES: usize = 32;

/// A record as it was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A message.
    Message(Message),
    /// Its headers cannot be read, since a name is no text: the message without them, and them.
    Unreadable(Message, OwnedHeaders),
}

/// Reads a record: key, payload and the values of the headers are copied into one piece of memory.
pub(super) fn read(record: &BorrowedMessage<'_>) -> Read {
    let raw = record.headers();
    // The client library panics on a name that is not UTF-8, and has no other way to ask for it.
    let whole = catch_unwind(AssertUnwindSafe(|| copy(record, raw)));
    match (whole, raw) {
        (Ok(message), _) => Read::Message(message),
        (Err(_), Some(raw)) => Read::Unreadable(copy(record, None), raw.detach()),
        (Err(_), None) => Read::Message(copy(record, None)),
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

fn copy(record: &BorrowedMessage<'_>, raw: Option<&BorrowedHeaders>) -> Message {
    let (key, payload) = (record.key(), record.payload());
    let count = raw.map_or(0, Heads::count);
    let bytes = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
    // Where the values do not fit into this, another piece is made for them.
    let mut memory = BytesMut::with_capacity(bytes + count * VALUE_BYTES);
    let mut kept = |part: &[u8]| {
        memory.extend_from_slice(part);
        memory.split().freeze()
    };
    let (key, payload) = (key.map(&mut kept), payload.map(&mut kept));
    let mut headers = Vec::with_capacity(count);
    for Header { key, value } in raw.into_iter().flat_map(Heads::iter) {
        let known = KNOWN.iter().find(|known| **known == key);
        let name = known.map_or_else(|| Cow::Owned(key.to_owned()), |known| Cow::Borrowed(*known));
        headers.push((name, value.map(&mut kept)));
    }
    Message {
        key,
        payload,
        headers: headers.into_iter().collect(),
        timestamp: record.timestamp().to_millis().map(Timestamp::from_millis),
    }
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
