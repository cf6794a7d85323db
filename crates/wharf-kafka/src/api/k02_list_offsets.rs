//! ListOffsets: earliest, latest, newest record, or by time; exact to the record (KIP-79).
//!
//! Version 11 adds a question, not a field: it is read and written as version 10. The time-out of
//! version 10 is for tiered storage, which there is none of.

use std::collections::HashSet;

use futures_util::FutureExt;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use wharf_broker::{Error, ErrorKind, ListedOffset, OffsetQuery, OffsetQueryAt, TopicRef};

use super::Card;
use super::in_order::in_order;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT8, INT32, INT64, Shape, TEXT, array};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 2,
    name: "ListOffsets",
    advertised: 1..=11,
    answered: 1..=11,
    kips: &[79, 207, 320, 405, 734, 1005, 1023],
    shape: Shape::new(
        6,
        &[
            INT32,
            INT8.from(2),
            array(&[TEXT, array(&[INT32, INT32.from(4), INT64])]),
            INT32.from(10),
        ],
    ),
    notes: "There is no tiered storage: the earliest local offset is the earliest one, the latest \
            tiered one does not exist.",
};

/// The newest version the message crate knows; ours has the same fields.
const CODEC_VERSION_MAX: i16 = 10;
/// The isolation level that sees only committed transactions.
const READ_COMMITTED: i8 = 1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    let codec = call.version().min(CODEC_VERSION_MAX);
    let request: ListOffsetsRequest = call.decode_as(codec)?;
    let reply = call.reply;
    Ok(Outcome::Answer(
        async move { reply.encode_as(&answer(&call, request).await, codec) }.boxed(),
    ))
}

async fn answer(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let twice = asked_twice(&request);
    let twice = &twice;
    let questions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |partition| async move {
            let index = partition.partition_index;
            if twice.contains(&(topic.name.to_string(), index)) {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    "the partition is asked for twice",
                ));
            }
            let topic = TopicRef::Name(topic.name.to_string());
            find(call, topic, partition, read_committed).await
        })
    });
    // Questions by time wait for the disk, each for its own partition: some at a time.
    let questions: Vec<_> = questions.collect();
    let mut found = in_order(questions.into_iter()).await.into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let indexes = topic
            .partitions
            .iter()
            .map(|partition| partition.partition_index);
        let partitions = indexes.zip(&mut found);
        let partitions = partitions.map(|(index, found)| listed(call.version(), index, found));
        let partitions = partitions.collect();
        let answered = ListOffsetsTopicResponse::default().with_name(topic.name);
        topics.push(answered.with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

fn asked_twice(request: &ListOffsetsRequest) -> HashSet<(String, i32)> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if !seen.insert((&topic.name, partition.partition_index)) {
                twice.insert((topic.name.to_string(), partition.partition_index));
            }
        }
    }
    twice
}

async fn find(
    call: &Call,
    topic: TopicRef,
    partition: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<ListedOffset, Error> {
    let at = question(partition.timestamp, call.version())?;
    let query = OffsetQuery {
        topic,
        partition: partition.partition_index,
        current_leader_epoch: partition.current_leader_epoch,
        at,
        read_committed,
    };
    call.broker.list_offset(&call.cx, query).await
}

/// What a timestamp asks for, and since which version it may.
fn question(timestamp: i64, version: i16) -> Result<OffsetQueryAt, Error> {
    let (at, since) = match timestamp {
        0.. => (OffsetQueryAt::Time(timestamp), 1),
        -1 => (OffsetQueryAt::Latest, 1),
        -2 => (OffsetQueryAt::Earliest, 1),
        -3 => (OffsetQueryAt::MaxTimestamp, 7),
        -4 => (OffsetQueryAt::Earliest, 8),
        -5 => (OffsetQueryAt::LatestTiered, 9),
        -6 => (OffsetQueryAt::EarliestPendingUpload, 11),
        _ => (OffsetQueryAt::Latest, i16::MAX),
    };
    if version < since {
        let sentence = format!("timestamp {timestamp} has no meaning in version {version}");
        return Err(Error::new(ErrorKind::UnsupportedVersion, sentence));
    }
    Ok(at)
}

fn listed(
    version: i16,
    index: i32,
    found: Result<ListedOffset, Error>,
) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok(found) => answer
            .with_timestamp(found.timestamp)
            .with_offset(found.offset)
            .with_leader_epoch(if version >= 4 { found.leader_epoch } else { -1 }),
        Err(error) => answer
            .with_error_code(error_code(error.kind))
            .with_timestamp(-1)
            .with_offset(-1)
            .with_leader_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_have_a_meaning_from_their_version_on() {
        for (timestamp, since) in [
            (5, 1),
            (-1, 1),
            (-2, 1),
            (-3, 7),
            (-4, 8),
            (-5, 9),
            (-6, 11),
        ] {
            assert!(question(timestamp, since).is_ok(), "{timestamp}");
            if since > 1 {
                let refused = question(timestamp, since - 1).expect_err("too early");
                assert_eq!(refused.kind, ErrorKind::UnsupportedVersion, "{timestamp}");
            }
        }
        assert!(question(-7, 11).is_err());
        assert!(question(i64::MIN, 11).is_err());
    }
}
