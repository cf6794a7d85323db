//! DescribeLogDirs: the node's one directory with the sizes of partitions.
//!
//! Version 5 adds whether the directory is cordoned (KIP-1066); it never is. The size of the
//! volume is not known here (-1). Partitions that do not exist are left out, as in Kafka.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use futures_util::FutureExt;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::Card;
use super::repeated::once;
use crate::compact::{put_length, put_no_tags, put_text};
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array, items};
use crate::wire::{text, topic_name};
use crate::{Disconnect, Outcome, Response};

/// The first version that says whether a directory is cordoned; the message crate ends before it.
const CORDONED: i16 = 5;

pub(super) static CARD: Card = Card {
    key: 35,
    name: "DescribeLogDirs",
    advertised: 1..=5,
    answered: 1..=5,
    kips: &[113, 827, 1066],
    shape: Shape::new(2, &[array(&[TEXT, items(&INT32)])]),
    notes: "One directory, never cordoned. The size of the volume is not reported (-1).",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    if call.version() < CORDONED {
        return call.answer_now(answer);
    }
    // The request of version 5 is that of version 4.
    let request = call.decode_as(CORDONED - 1)?;
    let work = async move {
        let mut out = BytesMut::new();
        call.reply.header(&mut out);
        encode_cordoned(&answer(&call, request), &mut out);
        Ok(Response::from(vec![out.freeze()]))
    };
    Ok(Outcome::Answer(work.boxed()))
}

fn answer(call: &Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let asked = request.topics.map(|topics| {
        let topics = topics.into_iter();
        once(
            topics
                .map(|topic| (topic.topic.to_string(), topic.partitions))
                .collect(),
        )
    });
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for described in broker.describe_sizes(cx, asked.as_deref()) {
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(described.partition)
            .with_partition_size(i64::try_from(described.bytes).unwrap_or(i64::MAX))
            .with_offset_lag(0)
            .with_is_future_key(false);
        topics.entry(described.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        DescribeLogDirsTopic::default()
            .with_name(topic_name(name.as_str()))
            .with_partitions(partitions)
    });
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(text(broker.options().log_directory.as_str()))
        .with_topics(topics.collect())
        .with_total_bytes(-1)
        .with_usable_bytes(-1);
    DescribeLogDirsResponse::default().with_results(vec![directory])
}

/// Encodes version 5.
fn encode_cordoned(response: &DescribeLogDirsResponse, out: &mut BytesMut) {
    out.put_i32(response.throttle_time_ms);
    out.put_i16(response.error_code);
    put_length(out, response.results.len());
    for directory in &response.results {
        out.put_i16(directory.error_code);
        put_text(out, &directory.log_dir);
        put_length(out, directory.topics.len());
        for topic in &directory.topics {
            put_text(out, &topic.name);
            put_length(out, topic.partitions.len());
            for partition in &topic.partitions {
                out.put_i32(partition.partition_index);
                out.put_i64(partition.partition_size);
                out.put_i64(partition.offset_lag);
                out.put_u8(u8::from(partition.is_future_key));
                put_no_tags(out);
            }
            put_no_tags(out);
        }
        out.put_i64(directory.total_bytes);
        out.put_i64(directory.usable_bytes);
        out.put_u8(u8::from(false));
        put_no_tags(out);
    }
    put_no_tags(out);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Decodable;

    use super::*;

    #[test]
    fn version_5_is_version_4_with_one_flag_more_in_each_directory() {
        let partition = |index| {
            DescribeLogDirsPartition::default()
                .with_partition_index(index)
                .with_partition_size(i64::from(index) << 33)
                .with_offset_lag(i64::from(index))
                .with_is_future_key(index == 1)
        };
        let topic = DescribeLogDirsTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions((0..200).map(partition).collect());
        let directory = DescribeLogDirsResult::default()
            .with_error_code(56)
            .with_log_dir(text("/data"))
            .with_topics(vec![topic])
            .with_total_bytes(-1)
            .with_usable_bytes(12);
        let response = DescribeLogDirsResponse::default()
            .with_throttle_time_ms(3)
            .with_error_code(31)
            .with_results(vec![directory]);
        let mut out = BytesMut::new();
        encode_cordoned(&response, &mut out);
        // The flag stands before the tags of the directory and of the response.
        let flag = out.len() - 3;
        assert_eq!(out[flag], 0);
        let mut older: BytesMut = [&out[..flag], &out[flag + 1..]].concat().as_slice().into();
        let decoded = DescribeLogDirsResponse::decode(&mut older, CORDONED - 1);
        assert_eq!(decoded.expect("version 4 is left"), response);
        assert!(older.is_empty());
    }
}
