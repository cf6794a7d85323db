//! Questions about offsets, epochs, sizes and producers; DeleteRecords.
//!
//! There is one node and one leader epoch, 0, for ever: what a client believes about epochs is
//! checked against that.

use std::sync::Arc;

use futures_channel::oneshot;
use wharf_log::{Bounds, CommitError, PartitionChange, PartitionId, ReadError, Unit};

use crate::codec::Glance;
use crate::topics::may_change;
use crate::{Broker, Context, Error, ErrorKind, Topic, TopicRef, commit, time_index};

/// The only leader epoch there is.
const EPOCH: i32 = 0;
/// Kafka's "none" in offsets, timestamps and epochs.
const NONE: i64 = -1;

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
    /// Only what is committed: `Latest` is the last stable offset, and no record after it is found.
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
    /// The epoch of the coordinator that ended its last transaction here, or -1.
    pub coordinator_epoch: i32,
    /// The first offset of its open transaction here, if it has one.
    pub transaction_start: Option<i64>,
}

impl ListedOffset {
    /// There is no such record.
    const NOWHERE: Self = Self {
        offset: NONE,
        timestamp: NONE,
        leader_epoch: -1,
    };

    fn at(offset: i64, timestamp: i64) -> Self {
        Self {
            offset,
            timestamp,
            leader_epoch: EPOCH,
        }
    }

    fn of(record: Option<Glance>) -> Self {
        record.map_or(Self::NOWHERE, |record| {
            Self::at(record.offset, record.timestamp)
        })
    }
}

/// Refuses a leader epoch newer than the only one. Negative: the client makes no claim.
pub(crate) fn check_epoch(current_leader_epoch: i32) -> Result<(), Error> {
    if current_leader_epoch > EPOCH {
        return Err(Error::new(
            ErrorKind::UnknownLeaderEpoch,
            format!("leader epoch {current_leader_epoch} is newer than this node's {EPOCH}"),
        ));
    }
    Ok(())
}

impl Broker {
    /// The topic, the partition and its bounds.
    fn bounds(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(Arc<Topic>, PartitionId, Bounds), Error> {
        let (topic, partition) = self.shared.topics.partition(topic, index)?;
        let bounds = self.shared.reader.bounds(partition);
        let bounds = bounds.ok_or_else(|| Error::from(ReadError::UnknownPartition(partition)))?;
        Ok((topic, partition, bounds))
    }

    /// Answers one question for an offset; exact to the record, also inside compressed batches.
    pub async fn list_offset(
        &self,
        cx: &Context,
        query: OffsetQuery,
    ) -> Result<ListedOffset, Error> {
        let _anyone_may_ask = cx;
        let (_, partition, bounds) = self.bounds(&query.topic, query.partition)?;
        check_epoch(query.current_leader_epoch)?;
        let readable_end = match query.read_committed {
            true => bounds.stable_end,
            false => i64::MAX,
        };
        let time = match query.at {
            OffsetQueryAt::Earliest => return Ok(ListedOffset::at(bounds.start, NONE)),
            OffsetQueryAt::Latest if query.read_committed => {
                return Ok(ListedOffset::at(bounds.stable_end, NONE));
            }
            OffsetQueryAt::Latest => return Ok(ListedOffset::at(bounds.end, NONE)),
            OffsetQueryAt::LatestTiered | OffsetQueryAt::EarliestPendingUpload => {
                return Ok(ListedOffset::NOWHERE);
            }
            OffsetQueryAt::MaxTimestamp => None,
            OffsetQueryAt::Time(time) if time < 0 => {
                return Err(Error::new(
                    ErrorKind::InvalidRequest,
                    format!("{time} is neither a time nor a known kind of offset"),
                ));
            }
            OffsetQueryAt::Time(time) => Some(time),
        };
        let (sender, receiver) = oneshot::channel();
        let reader = self.shared.reader.clone();
        self.shared.runtime.run_blocking(Box::new(move || {
            let found = match time {
                Some(time) => time_index::first_at_or_after(&reader, partition, time, bounds),
                None => time_index::newest(&reader, partition, bounds),
            };
            // Nobody waits any more: the answer is not needed.
            drop(sender.send(found));
        }));
        receiver
            .await
            .unwrap_or_else(|_stopped| Err(stopping()))
            // What a reader of committed records may not fetch yet is not there for it.
            .map(|found| found.filter(|record| record.offset < readable_end))
            .map(ListedOffset::of)
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
        let _anyone_may_ask = cx;
        let (_, _, bounds) = self.bounds(topic, partition)?;
        check_epoch(current_leader_epoch)?;
        Ok(if leader_epoch == EPOCH {
            EpochEnd {
                leader_epoch: EPOCH,
                end_offset: bounds.end,
            }
        } else {
            EpochEnd {
                leader_epoch: -1,
                end_offset: NONE,
            }
        })
    }

    /// Deletes the records before `offset` (-1: all). Durable when this returns.
    pub async fn delete_records(
        &self,
        cx: &Context,
        topic: &TopicRef,
        partition: i32,
        offset: i64,
    ) -> Result<DeletedRecords, Error> {
        let (topic, partition, bounds) = self.bounds(topic, partition)?;
        may_change(cx, &topic.name)?;
        if !topic.config.delete {
            return Err(Error::new(
                ErrorKind::PolicyViolation,
                format!(
                    "{} is compacted only: its cleanup.policy lacks delete",
                    topic.name
                ),
            ));
        }
        let offset = if offset == NONE { bounds.end } else { offset };
        if offset < 0 || offset > bounds.end {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                start: bounds.start,
                end: bounds.end,
            }
            .into());
        }
        if offset <= bounds.start {
            return Ok(DeletedRecords {
                low_watermark: bounds.start,
            });
        }
        let unit = Unit {
            partitions: vec![PartitionChange::AdvanceStart { partition, offset }],
            ..Unit::default()
        };
        let outcome = commit::submit(&self.shared.appender, unit, |_outcome| ())
            .wait()
            .await;
        let start = self
            .shared
            .reader
            .bounds(partition)
            .map_or(offset, |bounds| bounds.start);
        match outcome {
            // Retention, or somebody else, was faster.
            Err(CommitError::OffsetOutOfRange { .. }) if start >= offset => {}
            outcome => drop(outcome?),
        }
        Ok(DeletedRecords {
            low_watermark: start,
        })
    }

    /// The sizes of partitions; of all when `topics` is `None`. Unknown ones are left out.
    pub fn describe_sizes(
        &self,
        cx: &Context,
        topics: Option<&[(String, Vec<i32>)]>,
    ) -> Vec<PartitionDescription> {
        let _anyone_may_ask = cx;
        let describe = |topic: &Topic, index: usize| {
            let partition = *topic.partitions.get(index)?;
            Some(PartitionDescription {
                topic: topic.name.clone(),
                partition: i32::try_from(index).ok()?,
                bytes: self.shared.reader.size_bytes(partition),
            })
        };
        let mut sizes = Vec::new();
        match topics {
            None => {
                for topic in self.topics() {
                    sizes.extend((0..topic.partitions.len()).filter_map(|at| describe(&topic, at)));
                }
            }
            Some(asked) => {
                for (name, indexes) in asked {
                    let Ok(topic) = self.topic(&TopicRef::Name(name.clone())) else {
                        continue;
                    };
                    let indexes = indexes
                        .iter()
                        .filter_map(|index| usize::try_from(*index).ok());
                    sizes.extend(indexes.filter_map(|at| describe(&topic, at)));
                }
            }
        }
        sizes
    }

    /// The producers active in a partition.
    pub fn describe_producers(
        &self,
        cx: &Context,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<Vec<ProducerDescription>, Error> {
        let _anyone_may_ask = cx;
        let (_, partition) = self.shared.topics.partition(topic, partition)?;
        let producers = self.shared.reader.producers(partition);
        Ok(producers
            .into_iter()
            .map(|producer| ProducerDescription {
                id: producer.producer_id,
                epoch: i32::from(producer.epoch),
                last_sequence: producer.last_sequence,
                last_timestamp: producer.last_timestamp.as_millis(),
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.transaction_start,
            })
            .collect())
    }
}

/// The runtime dropped work: the node is stopping.
pub(crate) fn stopping() -> Error {
    Error::new(ErrorKind::NotLeaderOrFollower, "the node is stopping")
}
