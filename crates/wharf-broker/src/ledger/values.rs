//! How the ledger's values are kept: a timer with its record; numbers.

use bytes::Bytes;
use wharf_message::ledger::{Partition, Record, Timer};
use wharf_message::{Timestamp, TopicName};

use crate::Error;
use crate::encoding::{Decoder, Encoder};

const VERSION: u8 = 1;

/// An owner's epoch.
pub(super) fn encode_epoch(epoch: u64) -> Bytes {
    let mut encoder = Encoder::new(VERSION);
    encoder.u64(epoch);
    encoder.finish()
}

pub(super) fn decode_epoch(value: &[u8]) -> Result<u64, Error> {
    let mut decoder = Decoder::new("owner", VERSION, value)?;
    let epoch = decoder.u64()?;
    decoder.finish()?;
    Ok(epoch)
}

/// A reader's next offset.
pub(super) fn encode_offset(offset: i64) -> Bytes {
    let mut encoder = Encoder::new(VERSION);
    encoder.i64(offset);
    encoder.finish()
}

pub(super) fn decode_offset(value: &[u8]) -> Result<i64, Error> {
    let mut decoder = Decoder::new("progress of a reader", VERSION, value)?;
    let offset = decoder.i64()?;
    decoder.finish()?;
    Ok(offset)
}

/// A timer without its id, which is in the key.
pub(super) fn encode_timer(timer: &Timer) -> Bytes {
    let record = &timer.record;
    let mut encoder = Encoder::new(VERSION);
    encoder
        .i64(timer.due.as_millis())
        .text(timer.target.topic.as_str())
        .i32(timer.target.index)
        .i64(record.timestamp.as_millis())
        .optional(record.key.as_deref())
        .optional(record.value.as_deref())
        .u32(u32::try_from(record.headers.len()).expect("headers are in memory"));
    for (name, value) in &record.headers {
        encoder.bytes(name).optional(value.as_deref());
    }
    encoder.finish()
}

pub(super) fn decode_timer(id: Bytes, value: &[u8]) -> Result<Timer, Error> {
    let mut decoder = Decoder::new("timer", VERSION, value)?;
    let due = Timestamp::from_millis(decoder.i64()?);
    let topic = decoder.text()?;
    let topic = TopicName::new(topic).map_err(|error| decoder.invalid(&error.to_string()))?;
    let target = Partition {
        topic,
        index: decoder.i32()?,
    };
    let timestamp = Timestamp::from_millis(decoder.i64()?);
    let key = decoder.optional()?.map(Bytes::copy_from_slice);
    let value = decoder.optional()?.map(Bytes::copy_from_slice);
    let mut headers = Vec::new();
    for _ in 0..decoder.count(5)? {
        let name = Bytes::copy_from_slice(decoder.bytes()?);
        headers.push((name, decoder.optional()?.map(Bytes::copy_from_slice)));
    }
    decoder.finish()?;
    Ok(Timer {
        id,
        due,
        target,
        record: Record {
            timestamp,
            key,
            value,
            headers,
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn a_timer_is_read_back(
            due: i64,
            timestamp: i64,
            key in prop::option::of(bytes()),
            value in prop::option::of(bytes()),
            headers in prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4),
        ) {
            let timer = Timer {
                id: Bytes::from_static(b"id"),
                due: Timestamp::from_millis(due),
                target: Partition { topic: TopicName::new("t").unwrap(), index: 3 },
                record: Record { timestamp: Timestamp::from_millis(timestamp), key, value, headers },
            };
            let encoded = encode_timer(&timer);
            prop_assert_eq!(decode_timer(timer.id.clone(), &encoded).unwrap(), timer);
            for cut in 0..encoded.len() {
                prop_assert!(decode_timer(Bytes::new(), &encoded[..cut]).is_err());
            }
        }
    }
}
