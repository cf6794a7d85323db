//! Promise: a client's transaction counts whole, records in both partitions and the group's offset
//! together, or nothing of it does, whenever the node dies.
//!
//! A call runs one transaction from its beginning to its end under one of a few transactional ids.
//! What became of it is a register like any other, found by what stands in the partitions alone:
//! a batch counts when a marker that commits comes after it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use wharf_broker::group::{CommitOffset, Member};
use wharf_broker::{
    Broker, Context, Error, ErrorKind, InitTransactions, Produce, ProducerIdentity, Protocol,
    TopicRef, TransactionalProducer,
};
use wharf_log::batch::{self, HEADER_BYTES, Producer, Record};
use wharf_log::{PartitionId, Reader, TransactionOutcome};
use wharf_message::Timestamp;

use crate::checkers::{Broken, broken};
use crate::view::split;

/// Longer than any call takes, so that only what a crash left behind is ever timed out.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How often a beginning is tried while what an earlier life left open is being ended.
const ATTEMPTS_MAX: usize = 1_000;
/// The partitions that every transaction writes to.
const PARTITIONS: [i32; 2] = [0, 1];

/// One transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) topic: String,
    pub(super) group: String,
    /// The transactional id.
    pub(super) id: String,
    pub(super) number: u64,
    /// Of its records: retention goes by it.
    pub(super) time: Timestamp,
    pub(super) commit: bool,
    pub(super) is_explicit: bool,
}

impl Transaction {
    /// The offset it commits, and its metadata.
    pub(super) fn offset(&self) -> (i64, String) {
        let offset = i64::try_from(self.number).unwrap_or(0);
        (offset, format!("in {}", self.number))
    }

    fn protocol(&self) -> Protocol {
        match self.is_explicit {
            true => Protocol::Explicit,
            false => Protocol::Implicit,
        }
    }

    fn batch(&self, producer: ProducerIdentity) -> Bytes {
        let record = Record {
            timestamp: self.time,
            value: Some(Bytes::copy_from_slice(&self.number.to_be_bytes())),
            ..Record::default()
        };
        let producer = Producer {
            id: producer.id,
            epoch: producer.epoch,
            sequence: 0,
        };
        batch::build_transactional(&[record], producer)
    }

    /// Runs it from its beginning to its end.
    pub(super) async fn run(self, broker: &Broker, cx: &Context) -> Result<i64, Error> {
        let topic = || TopicRef::Name(self.topic.clone());
        let caller = TransactionalProducer {
            id: self.id.clone(),
            producer: self.init(broker, cx).await?,
        };
        if self.is_explicit {
            let partitions = PARTITIONS.map(|partition| (topic(), partition));
            broker
                .add_partitions_to_transaction(cx, &caller, &partitions)
                .await?;
            broker
                .add_offsets_to_transaction(cx, &caller, &self.group)
                .await?;
        }
        let records = PARTITIONS.map(|partition| Produce {
            topic: topic(),
            partition,
            records: Some(self.batch(caller.producer)),
        });
        let produced = broker.produce_in_transaction(cx, &self.id, self.protocol(), records.into());
        for answer in produced.await {
            answer?;
        }
        let (offset, metadata) = self.offset();
        let member = Member {
            group: self.group.clone(),
            generation: -1,
            member: String::new(),
            instance: None,
        };
        let commit = CommitOffset {
            topic: topic(),
            partition: 0,
            offset,
            leader_epoch: -1,
            metadata: Some(metadata),
            retention: None,
        };
        let offsets = vec![commit];
        let committed = broker
            .commit_offsets_in_transaction(cx, &caller, self.protocol(), &member, offsets)
            .await?;
        for answer in committed {
            answer?;
        }
        broker
            .end_transaction(cx, &caller, self.commit, self.protocol())
            .await
            .map(|_producer| 0)
    }

    async fn init(&self, broker: &Broker, cx: &Context) -> Result<ProducerIdentity, Error> {
        for _ in 1..ATTEMPTS_MAX {
            match broker.init_transactions(cx, self.request()).await {
                // A time-out ends what an earlier life left open; let it.
                Err(error) if error.kind == ErrorKind::ConcurrentTransactions => yield_once().await,
                outcome => return outcome,
            }
        }
        broker.init_transactions(cx, self.request()).await
    }

    fn request(&self) -> InitTransactions {
        InitTransactions {
            id: self.id.clone(),
            timeout: TIMEOUT,
            current: None,
        }
    }
}

/// Lets everything else that can go on do so.
async fn yield_once() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What is there of the transactions: by topic and number, whether each partition has it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    parts: BTreeMap<(String, u64), [bool; 2]>,
}

impl Seen {
    /// Reads every topic.
    pub(super) fn read(broker: &Broker, reader: &Reader) -> Result<Self, Broken> {
        let mut seen = Self::default();
        for topic in broker.topics() {
            for (at, partition) in topic.partitions.iter().take(2).enumerate() {
                for number in committed(reader, *partition)? {
                    let key = (topic.name.as_str().to_owned(), number);
                    seen.parts.entry(key).or_default()[at] = true;
                }
            }
        }
        Ok(seen)
    }

    /// `None`: nothing of it counts.
    pub(super) fn find(&self, topic: &str, number: u64) -> Option<String> {
        let parts = self.parts.get(&(topic.to_owned(), number))?;
        let name = match parts {
            [true, true] => "whole",
            _ => "half",
        };
        Some(name.to_owned())
    }
}

/// The numbers of the transactions whose batch in a partition counts.
fn committed(reader: &Reader, partition: PartitionId) -> Result<Vec<u64>, Broken> {
    let mut open = BTreeMap::<i64, Vec<u64>>::new();
    let mut counting = Vec::new();
    let Some(bounds) = reader.bounds(partition) else {
        return Ok(counting);
    };
    let mut offset = bounds.start;
    while offset < bounds.end {
        const BYTES_MAX: usize = 1 << 16;
        let slice = match reader.read(partition, offset, BYTES_MAX, true) {
            Ok(slice) => slice,
            Err(error) => {
                let place = format!("{partition:?} at {offset}: {error:?}");
                return broken("what is readable reads back whole", place);
            }
        };
        for stored in split(&slice, offset, BYTES_MAX)? {
            let header = &stored.header;
            offset = header.last_offset() + 1;
            if let Some(marker) = batch::marker(header, &stored.bytes) {
                let ended = open.remove(&marker.producer_id).unwrap_or_default();
                if marker.outcome == TransactionOutcome::Commit {
                    counting.extend(ended);
                }
            } else if header.is_transactional() {
                let body = stored.bytes.slice(HEADER_BYTES..);
                let numbers = batch::records(header, &body).unwrap_or_default();
                let number = |record: Record| record.value?.as_ref().try_into().ok();
                let numbers = numbers.into_iter().filter_map(number);
                let numbers = numbers.map(u64::from_be_bytes);
                open.entry(header.producer_id).or_default().extend(numbers);
            }
        }
    }
    Ok(counting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::registers::{Register, Registers};

    #[test]
    fn a_transaction_that_counts_in_one_partition_only_is_found() {
        let register = Register::Transaction {
            topic: "t".to_owned(),
            number: 7,
        };
        let whole = Some("whole".to_owned());
        let mut seen = Seen::default();
        let mut registers = Registers::default();
        registers.begins(&register, whole.clone());
        registers.check(|_| seen.find("t", 7)).unwrap();
        registers.begins(&register, whole);
        seen.parts.insert(("t".to_owned(), 7), [true, true]);
        registers.check(|_| seen.find("t", 7)).unwrap();
        seen.parts.insert(("t".to_owned(), 7), [true, false]);
        registers.check(|_| seen.find("t", 7)).unwrap_err();
    }
}
