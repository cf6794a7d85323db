//! A group of the consumer protocol as bytes in the log's state: a header under the group's key,
//! and a record for each member.
//!
//! A record that does not decode is reported to whoever opens the broker, never dropped: its
//! member would be fenced, or its partitions be given to another while it reads them.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use wharf_message::Timestamp;

use super::member::{Classic, Member};
use super::{ASSIGNORS, Partitions};
use crate::Error;
use crate::encoding::{Decoder, Encoder};

/// Tells the header from a classic group's record, which has version 1 under the same key.
const HEADER_VERSION: u8 = 2;
const MEMBER_VERSION: u8 = 1;
/// What a protocol, a topic's name and a topic with its partitions take at least.
const PROTOCOL_BYTES_MIN: usize = 8;
const TEXT_BYTES_MIN: usize = 4;
const TOPIC_BYTES_MIN: usize = 20;
const INDEX_BYTES: usize = 4;

/// What is stored of the group itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct GroupHeader {
    pub(in crate::group) revision: u64,
    pub(in crate::group) epoch: i32,
    pub(in crate::group) target_epoch: i32,
    pub(in crate::group) assignor: &'static str,
    pub(in crate::group) fingerprint: u64,
    pub(in crate::group) since: Timestamp,
}

/// Whether the value under a group's key belongs to a group of the consumer protocol.
pub(in crate::group) fn is_header(value: &[u8]) -> bool {
    value.first() == Some(&HEADER_VERSION)
}

impl GroupHeader {
    pub(in crate::group) fn encode(&self) -> Bytes {
        let mut out = Encoder::new(HEADER_VERSION);
        out.u64(self.revision)
            .i32(self.epoch)
            .i32(self.target_epoch);
        out.text(self.assignor);
        out.u64(self.fingerprint).i64(self.since.as_millis());
        out.finish()
    }

    pub(in crate::group) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = Decoder::new("group", HEADER_VERSION, value)?;
        let header = Self {
            revision: input.u64()?,
            epoch: input.i32()?,
            target_epoch: input.i32()?,
            assignor: {
                let name = input.text()?;
                let known = ASSIGNORS.into_iter().find(|known| *known == name);
                known.ok_or_else(|| input.invalid("there is no such assignor"))?
            },
            fingerprint: input.u64()?,
            since: Timestamp::from_millis(input.i64()?),
        };
        input.finish()?;
        Ok(header)
    }
}

impl Member {
    pub(in crate::group) fn encode(&self) -> Bytes {
        let mut out = Encoder::new(MEMBER_VERSION);
        for text in [&self.instance, &self.rack, &self.pattern, &self.assignor] {
            out.optional(text.as_ref().map(String::as_bytes));
        }
        out.text(&self.client_id).text(&self.client_host);
        out.u64(millis(self.rebalance_timeout));
        out.u32(count(self.topics.len()));
        for topic in &self.topics {
            out.text(topic);
        }
        out.u8(u8::from(self.classic.is_some()));
        if let Some(classic) = &self.classic {
            out.u64(millis(classic.session_timeout));
            out.u32(count(classic.protocols.len()));
            for (name, metadata) in &classic.protocols {
                out.text(name).bytes(metadata);
            }
        }
        out.i32(self.epoch).i32(self.previous_epoch);
        for partitions in [&self.assigned, &self.revoking, &self.target] {
            encode_partitions(&mut out, partitions);
        }
        out.finish()
    }

    pub(in crate::group) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = Decoder::new("group member", MEMBER_VERSION, value)?;
        let mut member = Self {
            instance: optional(&mut input)?,
            rack: optional(&mut input)?,
            pattern: optional(&mut input)?,
            assignor: optional(&mut input)?,
            client_id: input.text()?.into(),
            client_host: input.text()?.into(),
            rebalance_timeout: Duration::from_millis(input.u64()?),
            ..Self::default()
        };
        for _ in 0..input.count(TEXT_BYTES_MIN)? {
            member.topics.insert(input.text()?.to_owned());
        }
        member.classic = match input.u8()? {
            0 => None,
            1 => Some(decode_classic(&mut input)?),
            _ => return Err(input.invalid("its protocol is neither of the two")),
        };
        member.epoch = input.i32()?;
        member.previous_epoch = input.i32()?;
        member.assigned = decode_partitions(&mut input)?;
        member.revoking = decode_partitions(&mut input)?;
        member.target = decode_partitions(&mut input)?;
        input.finish()?;
        Ok(member)
    }
}

fn decode_classic(input: &mut Decoder<'_>) -> Result<Classic, Error> {
    let mut classic = Classic {
        session_timeout: Duration::from_millis(input.u64()?),
        protocols: Vec::new(),
    };
    for _ in 0..input.count(PROTOCOL_BYTES_MIN)? {
        let name = input.text()?.to_owned();
        classic
            .protocols
            .push((name, Bytes::copy_from_slice(input.bytes()?)));
    }
    Ok(classic)
}

fn encode_partitions(out: &mut Encoder, partitions: &Partitions) {
    out.u32(count(partitions.topics().count()));
    for (topic, indexes) in partitions.topics() {
        out.raw(topic.as_bytes()).u32(count(indexes.len()));
        for index in indexes {
            out.i32(*index);
        }
    }
}

fn decode_partitions(input: &mut Decoder<'_>) -> Result<Partitions, Error> {
    let mut partitions = Partitions::default();
    for _ in 0..input.count(TOPIC_BYTES_MIN)? {
        let topic = Uuid::from_bytes(input.raw()?);
        for _ in 0..input.count(INDEX_BYTES)? {
            partitions.insert((topic, input.i32()?));
        }
    }
    Ok(partitions)
}

fn optional(input: &mut Decoder<'_>) -> Result<Option<String>, Error> {
    let text = input.optional()?.map(<[u8]>::to_vec).map(String::from_utf8);
    text.transpose()
        .map_err(|_error| input.invalid("a text is not UTF-8"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("what a request and a node can hold is far below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        let topic = Uuid::from_u128(7);
        Member {
            instance: Some("i".to_owned()),
            rack: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout: Duration::from_secs(60),
            topics: ["t".to_owned(), "u".to_owned()].into(),
            pattern: Some("^x".to_owned()),
            assignor: Some("range".to_owned()),
            classic: Some(Classic {
                session_timeout: Duration::from_secs(10),
                protocols: vec![("range".to_owned(), Bytes::from_static(b"meta"))],
            }),
            epoch: 4,
            previous_epoch: -2,
            assigned: [(topic, 0), (topic, 3)].into_iter().collect(),
            revoking: [(topic, 1)].into_iter().collect(),
            target: Partitions::default(),
            deadlines: super::super::Deadlines::default(),
        }
    }

    fn header() -> GroupHeader {
        GroupHeader {
            revision: 9,
            epoch: 5,
            target_epoch: 5,
            assignor: "uniform",
            fingerprint: u64::MAX,
            since: Timestamp::from_millis(77),
        }
    }

    #[test]
    fn records_are_read_back_as_written() {
        assert!(is_header(&header().encode()));
        assert_eq!(GroupHeader::decode(&header().encode()), Ok(header()));
        let plain = Member {
            classic: None,
            ..member()
        };
        for member in [member(), plain, Member::default()] {
            let read = Member::decode(&member.encode()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{member:?}"));
        }
    }

    #[test]
    fn a_truncated_or_longer_record_is_refused() {
        let record = member().encode();
        for end in 0..record.len() {
            assert!(Member::decode(&record[..end]).is_err(), "{end} bytes");
        }
        assert!(Member::decode(&[&record[..], b"x"].concat()).is_err());
        let record = header().encode();
        for end in 0..record.len() {
            assert!(GroupHeader::decode(&record[..end]).is_err(), "{end} bytes");
        }
    }
}
