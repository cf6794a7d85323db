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
        let text = std::str::from_utf8(&bytes).ok();
        let text = text.ok_or_else(|| self.damaged("a name is not text"))?;
        Ok(text.to_owned())
    }

    fn message(&mut self) -> Result<(TopicName, Message), Damaged> {
        let topic = self.text()?;
        let topic = TopicName::new(&topic).ok();
        let topic = topic.ok_or_else(|| self.damaged("a topic has no valid name"))?;
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let bytes = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let headers = vec((".{0,12}", option::of(bytes())), 0..5);
        (
            option::of(bytes()),
            option::of(bytes()),
            headers,
            option::of(any::<i64>()),
        )
            .prop_map(|(key, payload, headers, millis)| Message {
                key,
                payload,
                headers: headers
                    .into_iter()
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
                timestamp: millis.map(Timestamp::from_millis),
            })
    }

    fn outputs() -> impl Strategy<Value = Vec<(TopicName, Message)>> {
        let topic = "[a-z][a-zA-Z0-9._-]{0,20}";
        let topic = topic.prop_map(|name| TopicName::new(&name).expect("valid"));
        vec((topic, message()), 0..6)
    }

    proptest! {
        #[test]
        fn outputs_survive_being_stored(outputs in outputs()) {
            prop_assert_eq!(decode_outputs(encode_outputs(&outputs)), Ok(outputs));
        }

        #[test]
        fn a_value_cut_short_or_too_long_is_damaged(outputs in outputs(), at in any::<prop::sample::Index>()) {
            let encoded = encode_outputs(&outputs);
            let cut = at.index(encoded.len());
            prop_assert!(decode_outputs(encoded.slice(..cut)).is_err());
            let longer = [&encoded[..], &[0]].concat();
            prop_assert!(decode_outputs(longer.into()).is_err());
        }

        /// What is read of any bytes is written as the same bytes: nothing has two forms, so nothing
        /// damaged is taken for something else than it says.
        #[test]
        fn changed_bytes_are_damaged_or_say_what_they_say(
            outputs in outputs(),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = encode_outputs(&outputs).to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(read) = decode_outputs(bytes.clone().into()) {
                prop_assert_eq!(&encode_outputs(&read)[..], &bytes[..]);
            }
        }

        #[test]
        fn any_bytes_are_damaged_or_say_what_they_say(mut bytes in vec(any::<u8>(), 0..300)) {
            prop_assert!(decode_outputs(bytes.clone().into()).is_err() || bytes.first() == Some(&VERSION));
            bytes.insert(0, VERSION);
            if let Ok(read) = decode_outputs(bytes.clone().into()) {
                prop_assert_eq!(&encode_outputs(&read)[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn counts_and_lengths_beyond_the_value_are_damaged_before_anything_is_allocated() {
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let count = [&[VERSION][..], &most].concat();
        let topic = [&[VERSION, 1][..], &most, &[0; 8]].concat();
        let headers = [&[VERSION, 1, 1, b't', 0][..], &most, &[0; 8]].concat();
        let payload = [&[VERSION, 1, 1, b't', PAYLOAD][..], &most, &[0; 8]].concat();
        for bytes in [count, topic, headers, payload] {
            let error = decode_outputs(bytes.into()).expect_err("damaged");
            assert_eq!(error.what, "it tells of more than it holds");
        }
    }

    #[test]
    fn the_bytes_of_version_1_stay_readable() {
        let message = Message {
            key: Some("k".into()),
            payload: None,
            headers: [("h".into(), Some(Bytes::from("v"))), ("n".into(), None)]
                .into_iter()
                .collect(),
            timestamp: Some(Timestamp::from_millis(258)),
        };
        let topic = TopicName::new("paid").expect("valid");
        let bytes = b"\x01\x01\x04paid\x05\x01k\0\0\0\0\0\0\x01\x02\x02\x01h\x01\x01v\x01n\0";
        let outputs = vec![(topic, message)];
        assert_eq!(&encode_outputs(&outputs)[..], bytes);
        assert_eq!(decode_outputs(Bytes::from_static(bytes)), Ok(outputs));
    }
}
