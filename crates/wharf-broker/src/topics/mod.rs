//! Topics: names, ids, partitions.
//!
//! A change of a topic is one unit whose condition is the value it was decided on, so two changes
//! that exclude each other cannot both succeed. The view changes in the committer's thread, after
//! the unit is durable and in commit order: nobody sees a topic that a crash could take back.

mod record;
mod request;
mod retention;
mod view;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;
use wharf_log::{
    CommitError, Committed, Condition, PartitionChange, PartitionId, Reader, StateChange, Unit,
};
use wharf_message::TopicName;

use crate::config::Defaults;
use crate::{Broker, Context, Error, ErrorKind, Options, Shared, TopicConfig, commit, keys, sync};

pub(crate) use request::{may_change, may_write};
pub use retention::RetentionPolicy;

/// The most partitions of one topic: bounds what one record of the state can make a start allocate.
pub(crate) const PARTITIONS_PER_TOPIC_MAX: usize = 1_000_000;
/// How much of an unknown name an error repeats.
const NAME_SHOWN_MAX: usize = wharf_message::TOPIC_NAME_BYTES_MAX;
/// How often a change is decided anew because another change of the same topic came first.
const ATTEMPTS_MAX: usize = 100;

/// A topic as it is now. A new value replaces it when it changes.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The name.
    pub name: TopicName,
    /// The id, never reused.
    pub id: Uuid,
    /// The log's partitions, by index.
    pub partitions: Vec<PartitionId>,
    /// Its settings.
    pub config: Arc<TopicConfig>,
}

/// A topic as clients name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(Uuid),
}

/// A topic to create.
#[derive(Clone, Debug)]
pub struct CreateTopic {
    /// The name, unchecked.
    pub name: String,
    /// The number of partitions; `None` for the default.
    pub partitions: Option<i32>,
    /// The replication factor asked for; `None` for the default. Only 1 exists here.
    pub replication: Option<i16>,
    /// A manual assignment of partition index to brokers, empty for none. Only this node exists.
    pub assignment: Vec<(i32, Vec<i32>)>,
    /// Settings; `None` values mean the default.
    pub configs: Vec<(String, Option<String>)>,
}

/// The view of the topics and what new ones are numbered from.
#[derive(Debug)]
pub(crate) struct Topics {
    view: RwLock<view::View>,
    pub(crate) defaults: Defaults,
    /// The next partition number. Units that take some are submitted while this is locked, so the
    /// counter in the state only grows; numbers of a refused unit stay unused.
    next_number: Mutex<u64>,
    /// Partitions in units that are not answered yet. Not behind the lock above: the committer's
    /// thread must never wait for somebody who submits.
    pending: AtomicUsize,
}

/// What becomes of a topic.
#[derive(Debug)]
pub(crate) enum Alteration {
    /// It gets other settings.
    Config(TopicConfig),
    /// It gets this many partitions in all.
    Partitions(usize),
    /// It goes, with its data.
    Delete,
}

impl Topics {
    /// Builds the view from the log's state.
    pub(crate) fn recover(options: &Options, reader: &Reader) -> Result<Self, Error> {
        let defaults = Defaults::new(&options.topic_defaults)?;
        TopicConfig::new(&defaults, &std::collections::BTreeMap::new())?;
        let mut view = view::View::default();
        let mut next = 0;
        for (_, value) in reader.state(&keys::PARTITION_COUNTER) {
            next = decode_counter(&value)?;
        }
        for (_, value) in reader.state(keys::TOPICS) {
            let topic = record::decode(&value, &defaults)?;
            // The counter is written with every topic; trusting it alone would reuse numbers
            // if it were ever damaged.
            let beyond = topic
                .partitions
                .iter()
                .map(|partition| partition.0 + 1)
                .max();
            next = next.max(beyond.unwrap_or(0));
            view.put(&Arc::new(topic), value);
        }
        Ok(Self {
            view: RwLock::new(view),
            defaults,
            next_number: Mutex::new(next),
            pending: AtomicUsize::new(0),
        })
    }

    /// The topic and the log's partition that a client means.
    pub(crate) fn partition(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(Arc<Topic>, PartitionId), Error> {
        self.lookup()
            .partition(topic, index)
            .map(|(topic, id)| (Arc::clone(topic), id))
    }

    /// For several questions at once. Do not hold it across anything slow: while it is held, no
    /// change of a topic becomes visible, and the committer waits.
    pub(crate) fn lookup(&self) -> Lookup<'_> {
        Lookup(sync::read(&self.view))
    }
}

/// The topics as they are now.
pub(crate) struct Lookup<'a>(RwLockReadGuard<'a, view::View>);

impl Lookup<'_> {
    /// Grows with every change of a topic.
    pub(crate) fn version(&self) -> u64 {
        self.0.version()
    }

    /// The topic of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.0.named(name)
    }

    /// The topic with this id.
    pub(crate) fn with_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.0.with_id(id)
    }

    /// The names of all topics, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &TopicName> {
        self.0.names()
    }

    /// The topic and the log's partition that a client means.
    pub(crate) fn partition(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(&Arc<Topic>, PartitionId), Error> {
        let topic = &self.0.find(topic)?.topic;
        let partition = usize::try_from(index)
            .ok()
            .and_then(|at| topic.partitions.get(at));
        match partition.copied() {
            Some(partition) => Ok((topic, partition)),
            None => Err(Error::new(
                ErrorKind::UnknownTopicOrPartition,
                format!("{} has no partition {index}", topic.name),
            )),
        }
    }
}

fn decode_counter(value: &[u8]) -> Result<u64, Error> {
    value.try_into().map(u64::from_be_bytes).map_err(|_size| {
        Error::new(
            ErrorKind::UnknownServerError,
            format!(
                "the stored partition counter has {} bytes instead of 8",
                value.len()
            ),
        )
    })
}

fn encode_counter(next: u64) -> Bytes {
    let mut value = BytesMut::with_capacity(8);
    value.put_u64(next);
    value.freeze()
}

/// A random id that no client takes for something else: version 4 (so never nil, nor Kafka's
/// reserved ones), and no leading `-` in the text form Kafka's tools print.
fn topic_id(random: [u8; 16]) -> Uuid {
    let mut bytes = random;
    if bytes[0] >> 2 == 62 {
        bytes[0] ^= 0x80;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

impl Broker {
    /// Every topic, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        sync::read(&self.shared.topics.view).all()
    }

    /// One topic.
    pub fn topic(&self, topic: &TopicRef) -> Result<Arc<Topic>, Error> {
        if let TopicRef::Name(text) = topic {
            request::name(text)?;
        }
        sync::read(&self.shared.topics.view)
            .find(topic)
            .map(|found| Arc::clone(&found.topic))
    }

    /// One topic by name, created with defaults when missing if `allow_create` and the node's
    /// setting agree. Internal topics are never created this way.
    pub async fn topic_or_create(
        &self,
        cx: &Context,
        name: &str,
        allow_create: bool,
    ) -> Result<Arc<Topic>, Error> {
        let topic = TopicRef::Name(name.to_owned());
        let missing = match self.topic(&topic) {
            Err(error) if error.kind == ErrorKind::UnknownTopicOrPartition => error,
            found_or_invalid => return found_or_invalid,
        };
        let is_internal = request::name(name)?.is_internal();
        if !allow_create || !self.shared.options.auto_create_topics || is_internal {
            return Err(missing);
        }
        let create = CreateTopic {
            name: name.to_owned(),
            partitions: None,
            replication: None,
            assignment: Vec::new(),
            configs: Vec::new(),
        };
        match self.create_topic(cx, create, false).await {
            Err(error) if error.kind == ErrorKind::TopicAlreadyExists => self.topic(&topic),
            outcome => outcome,
        }
    }

    /// Creates a topic, durable when this returns. With `validate_only` nothing is created and the
    /// topic as it would be is returned (with a nil id and no usable partitions).
    pub async fn create_topic(
        &self,
        cx: &Context,
        topic: CreateTopic,
        validate_only: bool,
    ) -> Result<Arc<Topic>, Error> {
        let Shared {
            options, topics, ..
        } = &*self.shared;
        let checked = request::check(cx, options, &topics.defaults, &topic)?;
        self.may_ask_for_schemas(None, &checked.config)?;
        let name = checked.name.clone();
        self.check_free(&name)?;
        let planned = Topic {
            name: checked.name,
            id: Uuid::nil(),
            partitions: vec![PartitionId(u64::MAX); checked.partitions],
            config: checked.config.into(),
        };
        if validate_only {
            self.check_room(planned.partitions.len())?;
            return Ok(planned.into());
        }
        let id = topic_id(self.shared.runtime.random());
        let (outcome, created) = self.submit_partitions(planned.partitions.len(), |numbers| {
            (
                Topic {
                    id,
                    partitions: numbers.to_vec(),
                    ..planned
                },
                None,
            )
        })?;
        match outcome.wait().await {
            Ok(_) => Ok(created),
            Err(CommitError::ConditionFailed(_)) => {
                self.check_free(&name)?;
                Err(exists(&name))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a topic with its data; returns what it was.
    pub async fn delete_topic(&self, cx: &Context, topic: &TopicRef) -> Result<Arc<Topic>, Error> {
        self.alter(cx, topic, false, |_current| Ok(Alteration::Delete))
            .await
    }

    /// Raises the number of partitions to `count`.
    pub async fn create_partitions(
        &self,
        cx: &Context,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), Error> {
        self.alter(cx, &TopicRef::Name(name.to_owned()), validate_only, |current| {
            let present = current.partitions.len();
            match usize::try_from(count) {
                Ok(count) if count > PARTITIONS_PER_TOPIC_MAX => Err(Error::new(
                    ErrorKind::InvalidPartitions,
                    format!("{count} partitions are more than the {PARTITIONS_PER_TOPIC_MAX} allowed"),
                )),
                Ok(count) if count > present => Ok(Alteration::Partitions(count)),
                _ => Err(Error::new(
                    ErrorKind::InvalidPartitions,
                    format!("{name} has {present} partitions; the number can only be raised, not set to {count}"),
                )),
            }
        })
        .await
        .map(|_before| ())
    }

    /// Decides on a topic's current value and commits the decision on the condition that the value
    /// is still the same; decides anew when it is not. Returns the value decided on.
    pub(crate) async fn alter(
        &self,
        cx: &Context,
        topic: &TopicRef,
        validate_only: bool,
        decide: impl Fn(&Topic) -> Result<Alteration, Error> + Send,
    ) -> Result<Arc<Topic>, Error> {
        if let TopicRef::Name(text) = topic {
            request::name(text)?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let current = sync::read(&self.shared.topics.view).find(topic)?.clone();
            may_change(cx, &current.topic.name)?;
            let alteration = decide(&current.topic)?;
            if validate_only {
                if let Alteration::Partitions(count) = alteration {
                    self.check_room(count - current.topic.partitions.len())?;
                }
                return Ok(current.topic);
            }
            match self.submit_alteration(&current, alteration)?.wait().await {
                Ok(_) => return Ok(current.topic),
                Err(CommitError::ConditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorKind::RequestTimedOut,
            "the topic was changed by others all the time; try again",
        ))
    }

    fn submit_alteration(
        &self,
        current: &view::Stored,
        alteration: Alteration,
    ) -> Result<commit::Outcome, Error> {
        let (current, value) = (&current.topic, current.value.clone());
        let next = match alteration {
            Alteration::Partitions(count) => {
                let added = count - current.partitions.len();
                let (outcome, _) = self.submit_partitions(added, |numbers| {
                    let mut next = Topic::clone(current);
                    next.partitions.extend_from_slice(numbers);
                    (next, Some(value))
                })?;
                return Ok(outcome);
            }
            Alteration::Config(config) => Some(Topic {
                config: config.into(),
                ..Topic::clone(current)
            }),
            Alteration::Delete => None,
        };
        let mut unit = replace_value(
            &current.name,
            Some(value),
            next.as_ref().map(record::encode),
        );
        if next.is_none() {
            let removed = current
                .partitions
                .iter()
                .copied()
                .map(PartitionChange::Remove);
            unit.partitions.extend(removed);
        }
        let (shared, before) = (Arc::clone(&self.shared), Arc::clone(current));
        let encoded = unit.state[0].value.clone();
        Ok(commit::submit(
            &self.shared.appender,
            unit,
            move |outcome| {
                if outcome.is_err() {
                    return;
                }
                let mut view = sync::write(&shared.topics.view);
                match (next, encoded) {
                    (Some(next), Some(encoded)) => view.put(&Arc::new(next), encoded),
                    _ => {
                        view.remove(&before);
                        drop(view);
                        // Fetches waiting for the topic learn that it is gone.
                        shared.fetch.wake(&before.partitions);
                        shared.groups.topic_deleted(before.name.as_str());
                    }
                }
            },
        ))
    }

    /// Numbers `count` new partitions and submits the topic that `build` makes of them, on the
    /// condition that its stored value is still the one `build` returns with it.
    fn submit_partitions(
        &self,
        count: usize,
        build: impl FnOnce(&[PartitionId]) -> (Topic, Option<Bytes>),
    ) -> Result<(commit::Outcome, Arc<Topic>), Error> {
        let topics = &self.shared.topics;
        let mut next_number = sync::lock(&topics.next_number);
        self.check_room(count)?;
        let first = *next_number;
        *next_number += count as u64;
        topics.pending.fetch_add(count, Ordering::Relaxed);
        let new: Vec<PartitionId> = (first..*next_number).map(PartitionId).collect();
        let (topic, before) = build(&new);
        let value = record::encode(&topic);
        let mut unit = replace_value(&topic.name, before, Some(value.clone()));
        unit.partitions = new.into_iter().map(PartitionChange::Create).collect();
        unit.state.push(StateChange {
            key: keys::PARTITION_COUNTER,
            value: Some(encode_counter(*next_number)),
        });
        let topic = Arc::new(topic);
        let (shared, visible) = (Arc::clone(&self.shared), Arc::clone(&topic));
        let applied = move |outcome: &Result<Committed, CommitError>| {
            if outcome.is_ok() {
                sync::write(&shared.topics.view).put(&visible, value);
            }
            shared.topics.pending.fetch_sub(count, Ordering::Relaxed);
        };
        // Submitted under the lock: commit order is numbering order.
        Ok((commit::submit(&self.shared.appender, unit, applied), topic))
    }

    /// Refuses `count` more partitions beyond what the node holds.
    fn check_room(&self, count: usize) -> Result<(), Error> {
        let max = self.shared.options.partitions_max;
        let present = sync::read(&self.shared.topics.view).partition_count();
        let pending = self.shared.topics.pending.load(Ordering::Relaxed);
        if present + pending + count > max {
            return Err(Error::new(
                ErrorKind::PolicyViolation,
                format!("{count} more partitions would exceed the {max} this node holds at most"),
            ));
        }
        Ok(())
    }

    /// Refuses a name that exists, or that differs from an existing one only in `.` and `_`.
    fn check_free(&self, name: &TopicName) -> Result<(), Error> {
        match sync::read(&self.shared.topics.view).occupant(name.as_str()) {
            None => Ok(()),
            Some(occupant) if occupant == name => Err(exists(name)),
            Some(occupant) => Err(Error::new(
                ErrorKind::InvalidTopic,
                format!(
                    "{name} collides with the existing topic {occupant}: '.' and '_' count as the same"
                ),
            )),
        }
    }
}

fn exists(name: &TopicName) -> Error {
    Error::new(
        ErrorKind::TopicAlreadyExists,
        format!("the topic {name} already exists"),
    )
}

/// A unit that replaces a topic's value if it still is `before`.
fn replace_value(name: &TopicName, before: Option<Bytes>, after: Option<Bytes>) -> Unit {
    let key = keys::topic(name.as_str());
    Unit {
        conditions: vec![Condition::StateEquals {
            key: key.clone(),
            value: before,
        }],
        state: vec![StateChange { key, value: after }],
        ..Unit::default()
    }
}
