//! Producing: batches in, offsets out.
//!
//! Invariants: nothing reaches the log that [`batch::verify`] did not accept; batches are neither
//! copied nor re-encoded, unless their topic asks for a codec ([`crate::recompress`]); all units of one request are queued by the call itself, before its
//! future is first polled.

use bytes::Bytes;
use wharf_log::batch::{self, Header, InvalidBatch};
use wharf_log::{Append, CommitError, Durability, PartitionId, Unit};
use wharf_message::Timestamp;

use crate::commit::Outcome;
use crate::error::RECORD_ERRORS_MAX;
use crate::transactions::Participation;
use crate::{
    Broker, Context, Error, ErrorKind, ProducerIdentity, Protocol, Shared, Topic, TopicRef, commit,
    record_checks, schemas,
};

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

/// A batch that may be appended: its unit, and whose transaction it is a part of.
pub(crate) struct Checked {
    pub(crate) unit: Unit,
    partition: PartitionId,
    pub(crate) transactional: Option<ProducerIdentity>,
}

impl Broker {
    /// Appends to partitions, each on its own; answers in the order given, after the sync (for
    /// topics that did not opt out). Queues in the order of calls: the units are submitted before
    /// the returned future is first polled, so requests of one connection stay in order.
    pub fn produce(
        &self,
        cx: &Context,
        records: Vec<Produce>,
    ) -> impl Future<Output = Vec<Result<Produced, Error>>> + Send + use<> {
        let pending = self.submit_all(self.check_all(cx, records), |batch, _unit| {
            match batch.transactional {
                None => Ok(None),
                Some(_) => refuse(
                    ErrorKind::TransactionalIdAuthorizationFailed,
                    "the batch belongs to a transaction, and the request names no transactional id",
                ),
            }
        });
        answers(pending, Protocol::Implicit)
    }

    /// The same as a part of the transaction of a transactional id. Under [`Protocol::Explicit`]
    /// the partitions must have been added to it; otherwise the first batch begins it.
    pub fn produce_in_transaction(
        &self,
        cx: &Context,
        id: &str,
        protocol: Protocol,
        records: Vec<Produce>,
    ) -> impl Future<Output = Vec<Result<Produced, Error>>> + Send + use<> {
        let checked = self.check_all(cx, records);
        let count = checked.len();
        let submitted = self.shared.transactions.write(id, |writer| {
            let part = |batch: &Checked, unit: &mut Unit| {
                let Some(producer) = batch.transactional else {
                    return Ok(None);
                };
                let part = writer.append(producer, protocol, batch.partition);
                let part = part.map_err(|error| for_producer(error, protocol))?;
                part.join(unit);
                Ok(Some(part))
            };
            Ok(self.submit_all(checked, part))
        });
        let pending =
            submitted.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect());
        answers(pending, protocol)
    }

    fn check_all(&self, cx: &Context, records: Vec<Produce>) -> Vec<Result<Checked, Error>> {
        let now = self.shared.runtime.now();
        // However many partitions a request names, it is not answered with more.
        let mut room = RECORD_ERRORS_MAX;
        let check = |records| {
            check(&self.shared, cx, records, now).map_err(|mut error| {
                error.records.truncate(room);
                room -= error.records.len();
                error
            })
        };
        records.into_iter().map(check).collect()
    }

    /// Queues what passed; `part` may still refuse, or make a unit a part of a transaction.
    fn submit_all(
        &self,
        checked: Vec<Result<Checked, Error>>,
        mut part: impl FnMut(&Checked, &mut Unit) -> Result<Option<Participation>, Error>,
    ) -> Vec<Result<Outcome, Error>> {
        let mut units = Vec::with_capacity(checked.len());
        let mut submit = |checked: Result<Checked, Error>| {
            let mut checked = checked?;
            let mut unit = std::mem::take(&mut checked.unit);
            let part = part(&checked, &mut unit)?;
            let (done, outcome) = commit::done(move |outcome| {
                if let Some(part) = part {
                    part.settle(outcome);
                }
            });
            units.push((unit, done));
            Ok(outcome)
        };
        let pending = checked.into_iter().map(&mut submit).collect();
        if !units.is_empty() {
            self.shared.appender.submit(units);
        }
        pending
    }
}

async fn answers(
    pending: Vec<Result<Outcome, Error>>,
    protocol: Protocol,
) -> Vec<Result<Produced, Error>> {
    let mut answers = Vec::with_capacity(pending.len());
    for outcome in pending {
        answers.push(match outcome {
            Ok(outcome) => match outcome.wait().await {
                // Only a part of a transaction has a condition: it changed meanwhile.
                Err(CommitError::ConditionFailed(_)) => Err(for_producer(concurrent(), protocol)),
                outcome => first(outcome),
            },
            Err(refusal) => Err(refusal),
        });
    }
    answers
}

fn concurrent() -> Error {
    let sentence = "the transaction is being changed; try again";
    Error::new(ErrorKind::ConcurrentTransactions, sentence)
}

/// What a producer understands: before KIP-890 it does not expect to hear of other changes of the
/// transaction, but comes again, as Kafka has it.
fn for_producer(error: Error, protocol: Protocol) -> Error {
    match (error.kind, protocol) {
        (ErrorKind::ConcurrentTransactions, Protocol::Explicit) => {
            Error::new(ErrorKind::NotEnoughReplicas, error.message)
        }
        _ => error,
    }
}

fn first(outcome: Result<wharf_log::Committed, CommitError>) -> Result<Produced, Error> {
    let committed = outcome?;
    committed.appends.first().map(produced).ok_or_else(|| {
        Error::new(
            ErrorKind::UnknownServerError,
            "the log answered an append without an offset",
        )
    })
}

pub(crate) fn produced(appended: &wharf_log::Appended) -> Produced {
    Produced {
        base_offset: appended.base_offset,
        append_time: appended.append_time,
        log_start: appended.log_start,
    }
}

fn refuse<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(kind, message))
}

/// Checks one partition's records and makes the unit that appends them.
pub(crate) fn check(
    shared: &Shared,
    cx: &Context,
    records: Produce,
    now: Timestamp,
) -> Result<Checked, Error> {
    let (topic, partition) = shared.topics.partition(&records.topic, records.partition)?;
    crate::topics::may_write(cx, &topic.name)?;
    let Some(batch) = records.records.filter(|records| !records.is_empty()) else {
        return refuse(
            ErrorKind::InvalidRecord,
            "there is no record batch for the partition",
        );
    };
    let header = check_batch(&topic, &batch, now)?;
    schemas::check(shared.schemas.get(), cx, &topic, &header, &batch)?;
    let config = &topic.config;
    let (header, batch) = match config.codec {
        None => (header, batch),
        Some(codec) => {
            let (header, batch) = codec.recompress(header, batch)?;
            check_size(&topic, &batch)?;
            (header, batch)
        }
    };
    let unit = Unit {
        durability: if config.sync_before_ack {
            Durability::Synced
        } else {
            Durability::Buffered
        },
        appends: vec![Append {
            partition,
            batch,
            clock: config.clock,
        }],
        ..Unit::default()
    };
    let transactional = header.is_transactional().then_some(ProducerIdentity {
        id: header.producer_id,
        epoch: header.producer_epoch,
    });
    Ok(Checked {
        unit,
        partition,
        transactional,
    })
}

/// Checks a batch as Kafka does: size first, then form, then content.
fn check_batch(topic: &Topic, batch: &Bytes, now: Timestamp) -> Result<Header, Error> {
    check_size(topic, batch)?;
    let header = batch::verify(batch).map_err(|error| invalid_batch(&error))?;
    if header.is_control() {
        return refuse(
            ErrorKind::InvalidRecord,
            "clients do not write control batches",
        );
    }
    record_checks::check(topic, &header, batch, now)?;
    Ok(header)
}

fn check_size(topic: &Topic, batch: &Bytes) -> Result<(), Error> {
    let config = &topic.config;
    if batch.len() > config.max_message_bytes {
        return refuse(
            ErrorKind::MessageTooLarge,
            format!(
                "the batch of {} bytes is larger than the {} that max.message.bytes of {} allows",
                batch.len(),
                config.max_message_bytes,
                topic.name
            ),
        );
    }
    if batch.len() as u64 > config.retention.segment_bytes {
        return refuse(
            ErrorKind::RecordListTooLarge,
            format!(
                "the batch of {} bytes is larger than segment.bytes of {}",
                batch.len(),
                topic.name
            ),
        );
    }
    Ok(())
}

fn invalid_batch(error: &InvalidBatch) -> Error {
    let kind = match error {
        InvalidBatch::Magic(_) => ErrorKind::UnsupportedForMessageFormat,
        InvalidBatch::Crc { .. } | InvalidBatch::Truncated { .. } => ErrorKind::CorruptMessage,
        InvalidBatch::Inconsistent(reason) if reason.contains("compression") => {
            ErrorKind::UnsupportedCompressionType
        }
        _ => ErrorKind::InvalidRecord,
    };
    Error::new(kind, error.to_string())
}
