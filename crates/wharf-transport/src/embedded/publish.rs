//! Publishing: what is published at the same time shares a batch, without a timer.
//!
//! A partition with little on its way takes a message at once. While its batches are being synced,
//! further messages gather, and the next batch takes all of them. A publish is queued by the call,
//! so calls in order stay in order; it is answered after the sync. No producer id is needed: every
//! batch is answered once, in this process, so nothing is ever sent again.
//!
//! Invariants: what waits is bounded by [`WAITING_BYTES_MAX`]; a message that is refused does not take
//! others with it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use wharf_broker::records::{self, Record};
use wharf_broker::{Error as BrokerError, ErrorKind, Produce, Produced, Topic, TopicRef};
use wharf_message::transport::{Error, Position, deliver_at};
use wharf_message::{Message, TopicName, partitioner};

use super::{Core, lock, message_bytes_max, read, record, write};

/// How many batches of a partition are on their way at once: one is being synced, the next one
/// waits for its turn.
const BATCHES_MAX: usize = 2;
/// No batch is made larger, in bytes; a single message may be.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The most bytes that wait for the disk.
const WAITING_BYTES_MAX: usize = 256 << 20;

type Answer = Result<Option<Position>, Error>;

/// Where messages to each topic are gathered.
#[derive(Default)]
pub(super) struct Publisher {
    topics: RwLock<HashMap<TopicName, Arc<Mutex<Gathering>>>>,
    waiting: AtomicUsize,
}

/// What is gathered for one topic.
#[derive(Default)]
struct Gathering {
    /// The topic as it was when last looked at; `None` before it is known to exist.
    topic: Option<Arc<Topic>>,
    /// What waits for the topic to be found or created.
    unrouted: VecDeque<Queued>,
    is_finding: bool,
    lanes: Vec<Lane>,
    /// Where messages without a key go, until a batch is made of them.
    keyless: usize,
}

/// What waits for one partition.
#[derive(Default)]
struct Lane {
    queue: VecDeque<Queued>,
    on_the_way: usize,
}

struct Queued {
    record: Record,
    /// Its size as it counts against limits, and what it takes in a batch at most.
    size: usize,
    bytes: usize,
    answer: oneshot::Sender<Answer>,
}

/// A batch that was submitted.
struct Sent {
    topic: Arc<Topic>,
    partition: usize,
    queued: Vec<Queued>,
    outcome: BoxFuture<'static, Vec<Result<Produced, BrokerError>>>,
}

impl Core {
    /// Queues a message; the future only waits.
    pub(super) fn publish(
        self: &Arc<Self>,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'static, Answer> {
        match self.queue(topic, message) {
            Ok((answer, is_scheduled)) => Box::pin(async move {
                let position = answer.await.unwrap_or(Err(Error::Closed))?;
                // Where it waits for its time is not where it will be.
                Ok(position.filter(|_| !is_scheduled))
            }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn queue(
        self: &Arc<Self>,
        topic: &TopicName,
        message: Message,
    ) -> Result<(oneshot::Receiver<Answer>, bool), Error> {
        self.check_open()?;
        let now = self.now();
        let scheduled = match deliver_at(&message)?.filter(|due| *due > now) {
            Some(_) => {
                self.forward(topic);
                Some(super::scheduled(topic)?)
            }
            None => None,
        };
        let (size, bytes) = (message.size(), record::bytes(&message));
        let waiting = self.publisher.waiting.fetch_add(bytes, Ordering::Relaxed);
        if waiting > WAITING_BYTES_MAX {
            self.publisher.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::Unavailable(format!(
                "{waiting} bytes of messages wait for the disk; publish again when some are answered"
            )));
        }
        let (answer, receiver) = oneshot::channel();
        let queued = Queued {
            record: record::record(message, now),
            size,
            bytes,
            answer,
        };
        let name = scheduled.as_ref().unwrap_or(topic);
        let gathering = self.publisher.of(name);
        let mut gathered = lock(&gathering);
        if gathered.topic.is_some() {
            self.route(&gathering, &mut gathered, queued);
        } else {
            gathered.unrouted.push_back(queued);
            if !std::mem::replace(&mut gathered.is_finding, true) {
                let beside = scheduled.is_some().then(|| topic.clone());
                let (core, name) = (Arc::clone(self), name.clone());
                self.handle
                    .spawn(core.open(name, beside, Arc::clone(&gathering)));
            }
        }
        Ok((receiver, scheduled.is_some()))
    }

    /// Finds or creates the topic, and sends what waited for it on its way. `beside` is the topic
    /// that it keeps the scheduled messages of.
    async fn open(
        self: Arc<Self>,
        name: TopicName,
        beside: Option<TopicName>,
        gathering: Arc<Mutex<Gathering>>,
    ) {
        let found = self.find_or_create(&name, beside.as_ref()).await;
        let mut gathered = lock(&gathering);
        gathered.is_finding = false;
        let waiting = std::mem::take(&mut gathered.unrouted);
        match found {
            Ok(topic) => {
                gathered.fit(&topic);
                gathered.topic = Some(topic);
                for queued in waiting {
                    self.route(&gathering, &mut gathered, queued);
                }
            }
            Err(error) => {
                for queued in waiting {
                    self.publisher.answer(queued, Err(error.clone()));
                }
            }
        }
    }

    /// Puts a message into its partition's queue.
    fn route(
        self: &Arc<Self>,
        gathering: &Arc<Mutex<Gathering>>,
        gathered: &mut Gathering,
        queued: Queued,
    ) {
        let Some(topic) = &gathered.topic else {
            return self.publisher.answer(queued, Err(Error::Closed));
        };
        let (count, bytes_max) = (topic.partitions.len(), message_bytes_max(topic));
        if queued.size > bytes_max {
            let bytes = queued.size;
            let refused = Error::TooLarge { bytes, bytes_max };
            return self.publisher.answer(queued, Err(refused));
        }
        let at = match &queued.record.key {
            Some(key) => partitioner::partition(key, count),
            None => gathered.keyless % count,
        };
        gathered.lanes[at].queue.push_back(queued);
        if gathered.lanes[at].on_the_way < BATCHES_MAX
            && let Some(sent) = self.send(gathered, at)
        {
            let (core, gathering) = (Arc::clone(self), Arc::clone(gathering));
            self.handle.spawn(core.carry(gathering, sent));
        }
    }

    /// Submits one batch of what waits for a partition.
    fn send(&self, gathered: &mut Gathering, at: usize) -> Option<Sent> {
        let topic = gathered.topic.clone()?;
        let lane = gathered.lanes.get_mut(at)?;
        let bytes_max = topic.config.max_message_bytes.min(BATCH_BYTES_MAX);
        let mut bytes = records::BATCH_BYTES;
        let fits = |queued: &&Queued| {
            bytes += queued.bytes;
            bytes <= bytes_max
        };
        let count = lane.queue.iter().take_while(fits).count().max(1);
        let mut queued: Vec<Queued> = lane.queue.drain(..count.min(lane.queue.len())).collect();
        if queued.is_empty() {
            return None;
        }
        lane.on_the_way += 1;
        if queued.iter().any(|queued| queued.record.key.is_none()) {
            gathered.keyless = at + 1;
        }
        let records: Vec<Record> = queued
            .iter_mut()
            .map(|queued| std::mem::take(&mut queued.record))
            .collect();
        let outcome = self.produce(&topic, at, &records);
        for (queued, record) in queued.iter_mut().zip(records) {
            queued.record = record;
        }
        Some(Sent {
            topic,
            partition: at,
            queued,
            outcome,
        })
    }

    fn produce(
        &self,
        topic: &Topic,
        partition: usize,
        records: &[Record],
    ) -> BoxFuture<'static, Vec<Result<Produced, BrokerError>>> {
        let produce = Produce {
            topic: TopicRef::Id(topic.id),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
            records: Some(records::encode(records)),
        };
        Box::pin(self.broker.produce(&self.cx, vec![produce]))
    }

    /// Waits for a batch and answers its messages, then sends what has gathered meanwhile.
    async fn carry(self: Arc<Self>, gathering: Arc<Mutex<Gathering>>, sent: Sent) {
        let mut next = Some(sent);
        while let Some(mut sent) = next {
            let outcome = sent.outcome.await.pop();
            let outcome = outcome.unwrap_or_else(|| Err(stopped()));
            match outcome {
                Ok(produced) => {
                    let queued = std::mem::take(&mut sent.queued);
                    self.publisher.answer_all(queued, sent.partition, produced);
                }
                Err(error) => {
                    let (topic, at) = (&sent.topic, sent.partition);
                    self.refused(topic, at, std::mem::take(&mut sent.queued), error)
                        .await;
                }
            }
            let current = self.broker.topic(&TopicRef::Id(sent.topic.id));
            let mut gathered = lock(&gathering);
            if let Some(lane) = gathered.lanes.get_mut(sent.partition) {
                lane.on_the_way -= 1;
            }
            match current {
                Ok(topic) => {
                    gathered.fit(&topic);
                    gathered.topic = Some(topic);
                    next = self.send(&mut gathered, sent.partition);
                }
                Err(_deleted) => {
                    self.forget(&gathering, &mut gathered);
                    next = None;
                }
            }
        }
    }

    /// The topic was deleted: what waits goes to the one that is created anew.
    fn forget(self: &Arc<Self>, gathering: &Arc<Mutex<Gathering>>, gathered: &mut Gathering) {
        let Some(topic) = gathered.topic.take() else {
            return;
        };
        for lane in &mut gathered.lanes {
            gathered.unrouted.append(&mut lane.queue);
        }
        if !gathered.unrouted.is_empty() && !std::mem::replace(&mut gathered.is_finding, true) {
            let (core, name) = (Arc::clone(self), topic.name.clone());
            self.handle
                .spawn(core.open(name, None, Arc::clone(gathering)));
        }
    }

    /// A batch was refused. When that may be for one of its messages, each is tried alone.
    async fn refused(
        &self,
        topic: &Topic,
        partition: usize,
        queued: Vec<Queued>,
        refusal: BrokerError,
    ) {
        let of_one = matches!(
            refusal.kind,
            ErrorKind::InvalidRecord
                | ErrorKind::InvalidTimestamp
                | ErrorKind::MessageTooLarge
                | ErrorKind::RecordListTooLarge
        );
        if queued.len() == 1 || !of_one {
            for queued in queued {
                let error = self.publish_error(topic, queued.size, refusal.clone());
                self.publisher.answer(queued, Err(error));
            }
            return;
        }
        for queued in queued {
            let outcome = self.produce(topic, partition, std::slice::from_ref(&queued.record));
            let answer = match outcome.await.pop() {
                Some(Ok(produced)) => Ok(Some(position(partition, produced.base_offset))),
                Some(Err(error)) => Err(self.publish_error(topic, queued.size, error)),
                None => Err(self.publish_error(topic, queued.size, stopped())),
            };
            self.publisher.answer(queued, answer);
        }
    }

    fn publish_error(&self, topic: &Topic, size: usize, error: BrokerError) -> Error {
        match error.kind {
            ErrorKind::MessageTooLarge | ErrorKind::RecordListTooLarge => Error::TooLarge {
                bytes: size,
                bytes_max: message_bytes_max(topic),
            },
            _ => record::error(error, &topic.name),
        }
    }
}

impl Gathering {
    /// Makes room for every partition of the topic.
    fn fit(&mut self, topic: &Topic) {
        let count = topic.partitions.len().max(self.lanes.len());
        self.lanes.resize_with(count, Lane::default);
    }
}

impl Publisher {
    fn of(&self, topic: &TopicName) -> Arc<Mutex<Gathering>> {
        if let Some(known) = read(&self.topics).get(topic) {
            return Arc::clone(known);
        }
        let mut topics = write(&self.topics);
        Arc::clone(topics.entry(topic.clone()).or_default())
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    fn answer_all(&self, queued: Vec<Queued>, partition: usize, produced: Produced) {
        for (index, queued) in queued.into_iter().enumerate() {
            let offset = produced.base_offset + i64::try_from(index).unwrap_or(i64::MAX);
            self.answer(queued, Ok(Some(position(partition, offset))));
        }
    }

    fn answer(&self, queued: Queued, answer: Answer) {
        self.waiting.fetch_sub(queued.bytes, Ordering::Relaxed);
        // Whoever does not wait for the answer does not need it.
        drop(queued.answer.send(answer));
    }
}

fn position(partition: usize, offset: i64) -> Position {
    Position {
        partition: i32::try_from(partition).unwrap_or(i32::MAX),
        offset,
    }
}

fn stopped() -> BrokerError {
    BrokerError::new(ErrorKind::NotLeaderOrFollower, "the node is stopping")
}
