//! The messages that a handler's run published, as one value in its inbox row.
//!
//! Version 1: the byte 1, the number of messages, then each: topic, flags, key, payload, timestamp,
//! headers. Lengths and counts are LEB128 of at most 64 bits; `docs/specs/inbox-tables.md` has the
//! layout. Decoding shares the input's bytes, allocates at most in proportion to the input's length,
//! and takes nothing that encoding would not have written: damage is an error, never a panic.

use bytes::{BufMut, Bytes, BytesMut};
use wharf_message::{Headers, Message, Timestamp, TopicName};

/// The most that the outputs of one run may take, in bytes: what every one of the databases stores in
/// one value and takes in one statement with its default settings.
pub const OUTPUTS_BYTES_MAX: usize = 8 << 20;

const VERSION: u8 = 1;
const KEY: u8 = 1;
const PAYLOAD: u8 = 1 << 1;
const TIMESTAMP: u8 = 1 << 2;
/// What the smallest message takes: a topic of one byte, flags, no headers.
const MESSAGE_BYTES_MIN: usize = 4;
/// What the smallest header takes: an empty name, no value.
const HEADER_BYTES_MIN: usize = 2;

/// Why stored outputs cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored outputs are damaged: {what}, at byte {at}")]
pub struct Damaged {
    what: &'static str,
    at: usize,
}

/// The outputs as one value.
///
/// ```
/// use wharf_message::{Message, TopicName};
/// use wharf_outbox::{decode_outputs, encode_outputs};
///
/// let outputs = vec![(TopicName::new("paid").unwrap(), Message::new("p").with_key("k"))];
/// assert_eq!(decode_outputs(encode_outputs(&outputs)), Ok(outputs));
/// ```
pub fn encode_outputs(outputs: &[(TopicName, Message)]) -> Bytes {
    let size: usize = outputs.iter().map(|(_, message)| message.size() + 64).sum();
    let mut to = BytesMut::with_capacity(size);
    to.put_u8(VERSION);
    put_number(&mut to, outputs.len() as u64);
    for (topic, message) in outputs {
        put_bytes(&mut to, topic.as_str().as_bytes());
        let flags = (if message.key.is_some() { KEY } else { 0 })
            | (if message.payload.is_some() {
                PAYLOAD
            } else {
                0
            })
            | (if message.timestamp.is_some() {
                TIMESTAMP
            } else {
                0
            });
        to.put_u8(flags);
        for bytes in [&message.key, &message.payload].into_iter().flatten() {
            put_bytes(&mut to, bytes);
        }
        if let Some(timestamp) = message.timestamp {
            to.put_i64(timestamp.as_millis());
        }
        put_number(&mut to, message.headers.len() as u64);
        for (name, value) in message.headers.iter() {
            put_bytes(&mut to, name.as_bytes());
            to.put_u8(u8::from(value.is_some()));
            if let Some(value) = value {
                put_bytes(&mut to, value);
            }
        }
    }
    to.freeze()
}

/// Reads what [`encode_outputs`] wrote.
///
/// # Errors
/// [`Damaged`] for anything else.
pub fn decode_outputs(value: Bytes) -> Result<Vec<(TopicName, Message)>, Damaged> {
    let mut from = Reader { value, at: 0 };
    if from.byte()? != VERSION {
        return Err(from.damaged("its version is not known"));
    }
    let count = from.count(MESSAGE_BYTES_MIN)?;
    let mut outputs = Vec::with_capacity(count);
    for _ in 0..count {
        outputs.push(from.message()?);
    }
    if from.at < from.value.len() {
        return Err(from.damaged("more follows than there should be"));
    }
    Ok(outputs)
}

fn put_number(to: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        to.put_u8(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.put_u8(number.to_le_bytes()[0]);
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.put_slice(bytes);
}

struct Reader {
    value: Bytes,
    at: usize,
}

impl Reader {
    fn damaged(&self, what: &'static str) -> Damaged {
        Damaged { what, at: self.at }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Damaged> {
        if length > self.value.len() - self.at {
            return Err(self.damaged("it ends too early"));
        }
        let taken = self.value.slice(self.at..self.at + length);
        self.at += length;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(self.damaged("a number is not in its shortest form"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.damaged("a number is too long"))
    }

    /// A number of things that take at least `bytes_min` each: no more than the rest can hold.
    fn count(&mut self, bytes_min: usize) -> Result<usize, Damaged> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > (self.value.len() - self.at) / bytes_min {
            return Err(self.damaged("it tells of more than it holds"));
        }
        Ok(count)
    }

    fn bytes(&mut self) -> Result<Bytes, Damaged> {
        let length = self.count(1)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, Damaged> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.damaged("a name is not text"))?;
        Ok(text.to_owned())
    }

    fn message(&mut self) -> Result<(TopicName, Message), Damaged> {
        let topic = self.text()?;
        let topic =
            TopicName::new(&topic).map_err(|_| self.damaged("a topic has no valid name"))?;
        let flags = self.byte()?;
        if flags & !(KEY | PAYLOAD | TIMESTAMP) != 0 {
            return Err(self.damaged("a message has unknown flags"));
        }
        let mut message = Message::default();
        if flags & KEY != 0 {
            message.key = Some(self.bytes()?);
        }
        if flags & PAYLOAD != 0 {
            message.payload = Some(self.bytes()?);
        }
        if flags & TIMESTAMP != 0 {
            let millis: [u8; 8] = self.take(8)?[..]
                .try_into()
                .expect("eight bytes were taken");
            message.timestamp = Some(Timestamp::from_millis(i64::from_be_bytes(millis)));
        }
        let count = self.count(HEADER_BYTES_MIN)?;
        let mut headers = Headers::with_capacity(count);
        for _ in 0..count {
            let name = self.text()?;
            let value = match self.byte()? {
                0 => None,
                1 => Some(self.bytes()?),
                _ => return Err(self.damaged("a header's value is neither there nor absent")),
            };
            headers.push_raw(name, value);
        }
        message.headers = headers;
        Ok((topic, message))
    }
}
