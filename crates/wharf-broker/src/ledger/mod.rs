//! The embedded ledger: atomic commits, following, fenced ownership, timers over the log.
//!
//! One commit is one unit of the log. Ownership is a counter in the state: every commit carries the
//! condition that it still has the owner's value, so a commit of an earlier owner is refused in the
//! committer's thread, whatever was in flight. Timers are state; firing one is a unit that appends
//! its record and removes it, on the condition that it is still there unchanged.

mod keys;
mod timers;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use wharf_log::{Append, CommitError, Condition, PartitionId, ReadError, StateChange, Unit, batch};
use wharf_message::Timestamp;
use wharf_message::ledger::{
    Commit, Committed, Due, Entry, Error as LedgerError, Ledger, Owner, Partition, Record,
    TopicSpec,
};

use crate::{
    Broker, Context, CreateTopic, Error, ErrorKind, Shared, Topic, TopicRef, codec, commit, schemas,
};
pub(crate) use timers::Timers;

/// The most one commit may append, in bytes: keeps a batch far below what its format can hold. The
/// log may refuse less.
const COMMIT_BYTES_MAX: usize = 256 << 20;
/// How much `follow` reads at once.
const READ_BYTES: usize = 1 << 20;
/// How often becoming the owner is tried while others become it, too.
const ATTEMPTS_MAX: usize = 100;

/// The [`Ledger`] over the broker's own log, for one of the node's roles. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EmbeddedLedger {
    broker: Broker,
    cx: Context,
}

/// Where a commit's records go: one batch per partition, and the place of each record in it.
#[derive(Debug, Default)]
struct Plan {
    batches: Vec<PlannedBatch>,
    /// Per record: which batch, and which record of it.
    places: Vec<(usize, usize)>,
    by_partition: HashMap<PartitionId, usize>,
    bytes: usize,
}

#[derive(Debug)]
struct PlannedBatch {
    partition: PartitionId,
    topic: Arc<Topic>,
    records: Vec<batch::Record>,
}

impl PlannedBatch {
    fn append(self) -> Append {
        let Self {
            partition,
            topic,
            records,
        } = self;
        Append {
            partition,
            clock: topic.config.clock,
            batch: batch::build(&records, None),
        }
    }
}

impl Broker {
    /// The ledger over this broker's log, for the role of this name.
    pub fn ledger(&self, role: &str) -> EmbeddedLedger {
        EmbeddedLedger {
            broker: self.clone(),
            cx: Context::internal(role),
        }
    }
}

impl EmbeddedLedger {
    fn shared(&self) -> &Arc<Shared> {
        &self.broker.shared
    }

    fn resolve(&self, partition: &Partition) -> Result<(PartitionId, Arc<Topic>), LedgerError> {
        let topic = TopicRef::Name(partition.topic.as_str().to_owned());
        match self.shared().topics.partition(&topic, partition.index) {
            Ok((topic, id)) => Ok((id, topic)),
            Err(_missing) => Err(LedgerError::UnknownPartition(partition.clone())),
        }
    }

    async fn create(&self, spec: TopicSpec) -> Result<(), LedgerError> {
        let policy = if spec.compacted { "compact" } else { "delete" };
        let mut configs = vec![("cleanup.policy".to_owned(), Some(policy.to_owned()))];
        for name in ["retention.ms", "retention.bytes"] {
            configs.push((name.to_owned(), Some("-1".to_owned())));
        }
        if spec.partitions < 1 {
            return Err(LedgerError::Refused(format!(
                "{} needs a partition",
                spec.name
            )));
        }
        let request = CreateTopic {
            name: spec.name.as_str().to_owned(),
            partitions: Some(spec.partitions),
            replication: None,
            assignment: Vec::new(),
            configs,
        };
        match self.broker.create_topic(&self.cx, request, false).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::TopicAlreadyExists => self.check_same(&spec),
            Err(error) => Err(refused(&error)),
        }
    }

    fn check_same(&self, spec: &TopicSpec) -> Result<(), LedgerError> {
        let name = TopicRef::Name(spec.name.as_str().to_owned());
        let topic = self.broker.topic(&name).map_err(|error| refused(&error))?;
        let existing = TopicSpec {
            name: topic.name.clone(),
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            compacted: topic.config.compact,
        };
        existing.check_same(spec)
    }

    fn owner_value(&self, partition: &Partition) -> Option<Bytes> {
        self.shared()
            .reader
            .state(&keys::owner(partition))
            .pop()
            .map(|(_, value)| value)
    }

    async fn become_owner(&self, partition: Partition) -> Result<Owner, LedgerError> {
        self.resolve(&partition)?;
        let key = keys::owner(&partition);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.owner_value(&partition);
            let current = before.as_deref().map_or(Ok(0), values::decode_epoch);
            let epoch = current.map_err(|error| refused(&error))? + 1;
            let value = Some(values::encode_epoch(epoch));
            let unit = Unit {
                conditions: vec![Condition::StateEquals {
                    key: key.clone(),
                    value: before,
                }],
                state: vec![StateChange {
                    key: key.clone(),
                    value,
                }],
                ..Unit::default()
            };
            match commit::submit(&self.shared().appender, unit, |_outcome| ())
                .wait()
                .await
            {
                Ok(_) => return Ok(Owner { partition, epoch }),
                Err(CommitError::ConditionFailed(_)) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(LedgerError::Unavailable(
            "others become the owner all the time".to_owned(),
        ))
    }

    /// Makes the unit of a commit and queues it; the future only waits.
    fn submit(
        &self,
        owner: &Owner,
        commit: Commit,
    ) -> Result<impl Future<Output = Result<Committed, LedgerError>> + use<>, LedgerError> {
        for timer in &commit.timers {
            self.resolve(&timer.target)?;
        }
        let mut unit = Unit {
            conditions: vec![Condition::StateEquals {
                key: keys::owner(&owner.partition),
                value: Some(values::encode_epoch(owner.epoch)),
            }],
            ..Unit::default()
        };
        let mut plan = Plan::default();
        for (partition, record) in commit.records {
            plan.add(self.resolve(&partition)?, record);
        }
        for (at, timer) in commit.fired.iter().enumerate() {
            if commit.fired[..at]
                .iter()
                .any(|earlier| earlier.id == timer.id)
            {
                return Err(LedgerError::TimerGone(timer.id.clone()));
            }
            let target = self.resolve(&timer.target);
            unit.conditions.push(Condition::StateEquals {
                key: keys::timer(&owner.partition, &timer.id),
                value: Some(values::encode_timer(timer)),
            });
            plan.add(target?, timer.record.clone());
        }
        if plan.bytes > COMMIT_BYTES_MAX {
            return Err(LedgerError::TooLarge { bytes: plan.bytes });
        }
        for batch in &plan.batches {
            let registry = self.shared().schemas.get();
            schemas::check_each(registry, &self.cx, &batch.topic, &batch.records)
                .map_err(|error| refused(&error))?;
        }
        for progress in commit.progress {
            unit.state.push(StateChange {
                key: keys::progress(&progress.reader, &progress.partition),
                value: Some(values::encode_offset(progress.offset)),
            });
        }
        let fired: Vec<Bytes> = commit.fired.into_iter().map(|timer| timer.id).collect();
        let mut removed = fired.clone();
        removed.extend(commit.cancelled);
        let change = |id: &Bytes, value| StateChange {
            key: keys::timer(&owner.partition, id),
            value,
        };
        unit.state.extend(removed.iter().map(|id| change(id, None)));
        let set = commit.timers.iter();
        unit.state
            .extend(set.map(|timer| change(&timer.id, Some(values::encode_timer(timer)))));
        unit.appends = plan.batches.into_iter().map(PlannedBatch::append).collect();
        let (shared, owned) = (Arc::clone(self.shared()), owner.partition.clone());
        let outcome = commit::submit(&self.shared().appender, unit, move |outcome| {
            if outcome.is_ok() {
                shared.timers.apply(&owned, &removed, commit.timers);
            }
        });
        let (epoch, places) = (owner.epoch, plan.places);
        Ok(async move {
            let committed = outcome.wait().await.map_err(|error| match error {
                CommitError::ConditionFailed(0) => LedgerError::Fenced { epoch },
                CommitError::ConditionFailed(index) => {
                    LedgerError::TimerGone(fired.get(index - 1).cloned().unwrap_or_default())
                }
                error => unavailable(&error),
            })?;
            let offset = |(batch, record): &(usize, usize)| {
                let base = committed
                    .appends
                    .get(*batch)
                    .map_or(-1, |append| append.base_offset);
                base + i64::try_from(*record).unwrap_or(i64::MAX)
            };
            Ok(Committed {
                offsets: places.iter().map(offset).collect(),
            })
        })
    }

    async fn read_or_wait(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> Result<Vec<Entry>, LedgerError> {
        let (id, _) = self.resolve(&partition)?;
        let waiter = self.shared().fetch.waiter(vec![id]);
        let mut next = offset;
        loop {
            let batches = self.read(id, next).await.map_err(|error| match error {
                ReadError::UnknownPartition(_) => LedgerError::UnknownPartition(partition.clone()),
                ReadError::OffsetOutOfRange { offset, start, .. } => {
                    LedgerError::OutOfRange { offset, start }
                }
                error => LedgerError::Unavailable(error.to_string()),
            })?;
            if batches.is_empty() {
                waiter.grown().await;
                continue;
            }
            let mut entries = Vec::new();
            for bytes in batches {
                next = codec::records_from(&bytes, offset, records_max.max(1), &mut entries)
                    .map_err(|error| refused(&error))?;
            }
            if !entries.is_empty() {
                return Ok(entries.into_iter().map(entry).collect());
            }
        }
    }

    /// Whole batches from the one that contains `offset`; none at the end, or beyond it.
    async fn read(&self, partition: PartitionId, offset: i64) -> Result<Vec<Bytes>, ReadError> {
        let read = match self
            .shared()
            .reader
            .read(partition, offset, READ_BYTES, false)
        {
            Err(ReadError::NeedsDisk) => {
                let (sender, receiver) = futures_channel::oneshot::channel();
                let reader = self.shared().reader.clone();
                self.shared().runtime.run_blocking(Box::new(move || {
                    // Nobody waits any more: the answer is not needed.
                    drop(sender.send(reader.read(partition, offset, READ_BYTES, true)));
                }));
                receiver.await.unwrap_or(Err(ReadError::NeedsDisk))
            }
            read => read,
        };
        match read {
            Ok(slice) => Ok(slice.batches),
            Err(ReadError::OffsetOutOfRange { offset, end, .. }) if offset > end => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn due_now(&self, owner: &Owner, now: Timestamp, max: usize) -> Result<Due, LedgerError> {
        let current = self.owner_value(&owner.partition);
        if current != Some(values::encode_epoch(owner.epoch)) {
            return Err(LedgerError::Fenced { epoch: owner.epoch });
        }
        Ok(self.shared().timers.due(&owner.partition, now, max))
    }

    fn kept_progress(
        &self,
        reader: &str,
        partition: &Partition,
    ) -> Result<Option<i64>, LedgerError> {
        let stored = self
            .shared()
            .reader
            .state(&keys::progress(reader, partition))
            .pop();
        let offset = stored
            .map(|(_, value)| values::decode_offset(&value))
            .transpose();
        offset.map_err(|error| refused(&error))
    }
}

impl Plan {
    fn add(&mut self, (partition, topic): (PartitionId, Arc<Topic>), record: Record) {
        let Record {
            timestamp,
            key,
            value,
            headers,
        } = record;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let of_headers = headers
            .iter()
            .map(|(name, value)| name.len() + length(value) + 20);
        self.bytes += length(&key) + length(&value) + of_headers.sum::<usize>() + 100;
        let count = self.batches.len();
        let at = *self.by_partition.entry(partition).or_insert(count);
        if at == count {
            self.batches.push(PlannedBatch {
                partition,
                topic,
                records: Vec::new(),
            });
        }
        let records = &mut self.batches[at].records;
        self.places.push((at, records.len()));
        records.push(batch::Record {
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        });
    }
}

fn entry(record: batch::Record) -> Entry {
    let batch::Record {
        offset,
        timestamp,
        key,
        value,
        headers,
    } = record;
    Entry {
        offset,
        record: Record {
            timestamp,
            key,
            value,
            headers,
        },
    }
}

/// A refusal that repeating does not change.
fn refused(error: &Error) -> LedgerError {
    match error.kind {
        ErrorKind::KafkaStorageError
        | ErrorKind::NotLeaderOrFollower
        | ErrorKind::NotEnoughReplicas => LedgerError::Unavailable(error.message.clone()),
        _ => LedgerError::Refused(error.message.clone()),
    }
}

fn unavailable(error: &CommitError) -> LedgerError {
    match error {
        CommitError::TooLarge { bytes, .. } => LedgerError::TooLarge { bytes: *bytes },
        CommitError::UnknownPartition(_) => LedgerError::Refused(error.to_string()),
        _ => LedgerError::Unavailable(error.to_string()),
    }
}

impl Ledger for EmbeddedLedger {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), LedgerError>> {
        Box::pin(self.create(topic))
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, LedgerError>> {
        Box::pin(self.become_owner(partition))
    }

    fn commit(
        &self,
        owner: &Owner,
        commit: Commit,
    ) -> BoxFuture<'_, Result<Committed, LedgerError>> {
        // Queued before the future is first polled: commits keep the order of calls.
        match self.submit(owner, commit) {
            Ok(committed) => Box::pin(committed),
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        }
    }

    fn follow(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, LedgerError>> {
        Box::pin(self.read_or_wait(partition, offset, records_max))
    }

    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, LedgerError>> {
        let progress = self.kept_progress(reader, &partition);
        Box::pin(std::future::ready(progress))
    }

    fn due(
        &self,
        owner: &Owner,
        now: Timestamp,
        timers_max: usize,
    ) -> BoxFuture<'_, Result<Due, LedgerError>> {
        let due = self.due_now(owner, now, timers_max);
        Box::pin(std::future::ready(due))
    }
}
