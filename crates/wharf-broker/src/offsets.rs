//! Questions about offsets, epochs, sizes and producers; DeleteRecords.

use crate::{Broker, Context, Error, TopicRef};

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQueryAt {
    /// The first kept (-2), also the earliest local one (-4).
    Earliest,
    /// The end (-1).
    Latest,
    /// The newest record's (-3, KIP-734).
    MaxTimestamp,
    /// The latest tiered one (-5); there is none.
    LatestTiered,
    /// The earliest pending upload (-6); there is none.
    EarliestPendingUpload,
    /// The first record at or after this time in milliseconds.
    Time(i64),
}

/// A question for an offset.
#[derive(Clone, Debug)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: TopicRef,
    /// The partition index.
    pub partition: i32,
    /// The leader epoch the client believes in, or -1.
    pub current_leader_epoch: i32,
    /// Which offset.
    pub at: OffsetQueryAt,
    /// Only committed transactions (moves `Latest`).
    pub read_committed: bool,
}

/// The answer. No such record: offset -1, timestamp -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset, or -1.
    pub offset: i64,
    /// The record's time, or -1.
    pub timestamp: i64,
    /// The leader epoch, or -1 when there is no such record.
    pub leader_epoch: i32,
}

/// The end of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch, or -1.
    pub leader_epoch: i32,
    /// Its end offset, or -1.
    pub end_offset: i64,
}

/// The result of DeleteRecords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRecords {
    /// The partition's first offset now.
    pub low_watermark: i64,
}

/// A partition's size, for DescribeLogDirs.
#[derive(Clone, Debug)]
pub struct PartitionDescription {
    /// The topic's name.
    pub topic: wharf_message::TopicName,
    /// The partition index.
    pub partition: i32,
    /// Bytes kept.
    pub bytes: u64,
}

/// A producer active in a partition, for DescribeProducers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerDescription {
    /// The id.
    pub id: i64,
    /// The epoch.
    pub epoch: i32,
    /// The last sequence.
    pub last_sequence: i32,
    /// When, in milliseconds.
    pub last_timestamp: i64,
}

impl Broker {
    /// Answers one question for an offset; exact to the record, also inside compressed batches.
    pub async fn list_offset(
        &self,
        cx: &Context,
        query: OffsetQuery,
    ) -> Result<ListedOffset, Error> {
        let _ = (cx, query);
        unimplemented!()
    }

    /// The end of a leader epoch (OffsetForLeaderEpoch). The only epoch is 0.
    pub fn epoch_end(
        &self,
        cx: &Context,
        topic: &TopicRef,
        partition: i32,
        current_leader_epoch: i32,
        leader_epoch: i32,
    ) -> Result<EpochEnd, Error> {
        let _ = (cx, topic, partition, current_leader_epoch, leader_epoch);
        unimplemented!()
    }

    /// Deletes the records before `offset` (-1: all). Durable when this returns.
    pub async fn delete_records(
        &self,
        cx: &Context,
        topic: &TopicRef,
        partition: i32,
        offset: i64,
    ) -> Result<DeletedRecords, Error> {
        let _ = (cx, topic, partition, offset);
        unimplemented!()
    }

    /// The sizes of partitions; of all when `topics` is `None`.
    pub fn describe_sizes(
        &self,
        cx: &Context,
        topics: Option<&[(String, Vec<i32>)]>,
    ) -> Vec<PartitionDescription> {
        let _ = (cx, topics);
        unimplemented!()
    }

    /// The producers active in a partition.
    pub fn describe_producers(
        &self,
        cx: &Context,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<Vec<ProducerDescription>, Error> {
        let _ = (cx, topic, partition);
        unimplemented!()
    }
}
