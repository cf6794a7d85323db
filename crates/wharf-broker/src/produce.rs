//! Producing: batches in, offsets out; producer ids.

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::{Broker, Context, Error, TopicRef};

/// Records for one partition.
#[derive(Clone, Debug)]
pub struct Produce {
    /// The topic.
    pub topic: TopicRef,
    /// The partition index.
    pub partition: i32,
    /// Exactly one record batch (v2) as received; empty or missing is refused.
    pub records: Option<Bytes>,
}

/// Where they went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The first record's offset.
    pub base_offset: i64,
    /// The append time under `LogAppendTime`.
    pub append_time: Option<Timestamp>,
    /// The partition's first offset.
    pub log_start: i64,
}

/// A producer's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id, never reused.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

impl Broker {
    /// Appends to partitions, each on its own; answers in the order given, after the sync (for
    /// topics that did not opt out). Queues in the order of calls: the units are submitted before
    /// the returned future is first polled, so requests of one connection stay in order.
    pub fn produce(
        &self,
        cx: &Context,
        records: Vec<Produce>,
    ) -> impl Future<Output = Vec<Result<Produced, Error>>> + Send + 'static {
        let _ = (cx, records);
        async { unimplemented!() }
    }

    /// A new producer id, or the next epoch of `current` (KIP-360). Durable when this returns.
    pub async fn init_producer(
        &self,
        cx: &Context,
        current: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, Error> {
        let _ = (cx, current);
        unimplemented!()
    }
}
