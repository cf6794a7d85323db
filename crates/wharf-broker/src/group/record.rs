//! Groups and committed offsets as bytes in the log's state.
//!
//! A record that does not decode is reported to whoever opens the broker, never dropped: its
//! group would start over and its consumers read everything again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use wharf_message::Timestamp;

use crate::Error;
use crate::encoding::{Decoder, Encoder};

const VERSION: u8 = 1;
/// Stands for an offset that does not expire by a time of its own.
const NEVER: i64 = -1;
/// What a member takes at least.
const MEMBER_BYTES_MIN: usize = 37;

/// What of a group survives a restart: the last generation that was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupRecord {
    /// The generation.
    pub(super) generation: i32,
    /// The protocol type; `None` for a group that never had members.
    pub(super) protocol_type: Option<String>,
    /// The protocol; `None` when there are no members.
    pub(super) protocol: Option<String>,
    /// The leader's member id.
    pub(super) leader: Option<String>,
    /// When the group came into the state stored here.
    pub(super) since: Timestamp,
    /// The members; none means the group is empty.
    pub(super) members: Vec<MemberRecord>,
}

/// A member of a stored generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberRecord {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// The metadata for the group's protocol.
    pub(super) metadata: Bytes,
    pub(super) assignment: Bytes,
}

/// A committed offset as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OffsetRecord {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    /// The topic it was committed for: a topic created anew under the name does not inherit it.
    pub(super) topic_id: Uuid,
    pub(super) committed_at: Timestamp,
    /// When it expires, if the commit said so.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) metadata: String,
}

impl GroupRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Encoder::new(VERSION);
        out.i32(self.generation);
        for name in [&self.protocol_type, &self.protocol, &self.leader] {
            out.optional(name.as_ref().map(String::as_bytes));
        }
        out.i64(self.since.as_millis());
        out.u32(u32::try_from(self.members.len()).expect("group.max.size is far below 2^32"));
        for member in &self.members {
            out.text(&member.member);
            out.optional(member.instance.as_ref().map(String::as_bytes));
            out.text(&member.client_id).text(&member.client_host);
            out.u64(millis(member.session_timeout));
            out.u64(millis(member.rebalance_timeout));
            out.bytes(&member.metadata).bytes(&member.assignment);
        }
        out.finish()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = Decoder::new("group", VERSION, value)?;
        let mut record = Self {
            generation: input.i32()?,
            protocol_type: optional(&mut input)?,
            protocol: optional(&mut input)?,
            leader: optional(&mut input)?,
            since: Timestamp::from_millis(input.i64()?),
            members: Vec::new(),
        };
        for _ in 0..input.count(MEMBER_BYTES_MIN)? {
            record.members.push(MemberRecord {
                member: input.text()?.to_owned(),
                instance: optional(&mut input)?,
                client_id: input.text()?.into(),
                client_host: input.text()?.into(),
                session_timeout: Duration::from_millis(input.u64()?),
                rebalance_timeout: Duration::from_millis(input.u64()?),
                metadata: Bytes::copy_from_slice(input.bytes()?),
                assignment: Bytes::copy_from_slice(input.bytes()?),
            });
        }
        input.finish()?;
        Ok(record)
    }
}

impl OffsetRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Encoder::new(VERSION);
        out.i64(self.offset).i32(self.leader_epoch);
        out.raw(self.topic_id.as_bytes());
        out.i64(self.committed_at.as_millis());
        out.i64(self.expires_at.map_or(NEVER, Timestamp::as_millis));
        out.text(&self.metadata);
        out.finish()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Error> {
        let mut input = Decoder::new("committed offset", VERSION, value)?;
        let record = Self {
            offset: input.i64()?,
            leader_epoch: input.i32()?,
            topic_id: Uuid::from_bytes(input.raw()?),
            committed_at: Timestamp::from_millis(input.i64()?),
            expires_at: match input.i64()? {
                NEVER => None,
                millis => Some(Timestamp::from_millis(millis)),
            },
            metadata: input.text()?.to_owned(),
        };
        input.finish()?;
        Ok(record)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn optional(input: &mut Decoder<'_>) -> Result<Option<String>, Error> {
    let text = input.optional()?.map(<[u8]>::to_vec).map(String::from_utf8);
    text.transpose()
        .map_err(|_error| input.invalid("a text is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupRecord {
        GroupRecord {
            generation: 3,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some("range".to_owned()),
            leader: None,
            since: Timestamp::from_millis(17),
            members: vec![MemberRecord {
                member: "m-1".to_owned(),
                instance: Some("i".to_owned()),
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                session_timeout: Duration::from_secs(10),
                rebalance_timeout: Duration::from_secs(60),
                metadata: Bytes::from_static(b"meta"),
                assignment: Bytes::from_static(b"assigned"),
            }],
        }
    }

    fn offset() -> OffsetRecord {
        OffsetRecord {
            offset: 42,
            leader_epoch: 0,
            topic_id: Uuid::from_u128(9),
            committed_at: Timestamp::from_millis(5),
            expires_at: None,
            metadata: "näme".to_owned(),
        }
    }

    #[test]
    fn records_are_read_back_as_written() {
        assert_eq!(GroupRecord::decode(&group().encode()), Ok(group()));
        assert_eq!(OffsetRecord::decode(&offset().encode()), Ok(offset()));
        let expiring = OffsetRecord {
            expires_at: Some(Timestamp::from_millis(8)),
            ..offset()
        };
        assert_eq!(OffsetRecord::decode(&expiring.encode()), Ok(expiring));
    }

    #[test]
    fn a_truncated_or_longer_record_is_refused() {
        let check = |record: Bytes, is_refused: fn(&[u8]) -> bool| {
            for end in 0..record.len() {
                assert!(is_refused(&record[..end]), "{end} bytes");
            }
            assert!(is_refused(&[&record[..], b"x"].concat()));
        };
        check(group().encode(), |bytes| {
            GroupRecord::decode(bytes).is_err()
        });
        check(offset().encode(), |bytes| {
            OffsetRecord::decode(bytes).is_err()
        });
    }
}
