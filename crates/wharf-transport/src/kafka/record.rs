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

/// Where the bytes of messages are copied to: pieces of memory that a few messages share, since making
/// and freeing one for each costs as much as the copy. Whoever keeps one of them keeps the piece, so
/// pieces are small.
#[derive(Debug, Default)]
pub(super) struct Memory(BytesMut);

/// The size of a piece of memory, of which a message that is larger has one for itself.
const PIECE_BYTES: usize = 8 << 10;

impl Memory {
    /// Makes room for so much in one piece.
    fn reserve(&mut self, bytes: usize) {
        if self.0.capacity() < bytes {
            self.0 = BytesMut::with_capacity(bytes.max(PIECE_BYTES));
        }
    }

    fn keep(&mut self, part: &[u8]) -> Bytes {
        self.reserve(part.len());
        self.0.extend_from_slice(part);
        self.0.split().freeze()
    }
}

/// A record as it was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A message.
    Message(Message),
    /// Its headers cannot be read, since a name is no text: the message without them, and them.
    Unreadable(Message, OwnedHeaders),
}

/// Reads a record: key, payload and the values of the headers are copied.
pub(super) fn read(record: &BorrowedMessage<'_>, memory: &mut Memory) -> Read {
    let raw = record.headers();
    // The client library panics on a name that is not UTF-8, and has no other way to ask for it.
    let whole = catch_unwind(AssertUnwindSafe(|| copy(record, raw, memory)));
    match (whole, raw) {
        (Ok(message), _) => Read::Message(message),
        (Err(_), Some(raw)) => Read::Unreadable(copy(record, None, memory), raw.detach()),
        (Err(_), None) => Read::Message(copy(record, None, memory)),
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

fn copy(
    record: &BorrowedMessage<'_>,
    raw: Option<&BorrowedHeaders>,
    memory: &mut Memory,
) -> Message {
    let (key, payload) = (record.key(), record.payload());
    let count = raw.map_or(0, Heads::count);
    let bytes = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
    // Where the values do not fit into this, another piece is made for them.
    memory.reserve(bytes + count * VALUE_BYTES);
    let mut kept = |part: &[u8]| memory.keep(part);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_share_a_piece_of_memory_and_large_ones_have_their_own() {
        let mut memory = Memory::default();
        memory.reserve(100);
        let (first, second) = (memory.keep(b"first"), memory.keep(b"second"));
        assert_eq!(second.as_ptr(), first.as_ptr().wrapping_add(first.len()));
        let large = memory.keep(&[7; 2 * PIECE_BYTES]);
        let after = memory.keep(b"after");
        assert_eq!(
            (&first[..], &second[..], &after[..]),
            (&b"first"[..], &b"second"[..], &b"after"[..])
        );
        assert_eq!(large, vec![7; 2 * PIECE_BYTES]);
    }
}
