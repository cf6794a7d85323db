//! What librdkafka tells a consumer: partitions that come and go, commits that ended, errors.
//!
//! These calls are made by the thread that polls, inside of its polling. A partition that goes is
//! committed before it is given up, when it still can be; its deliveries that are out then do nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use wharf_message::TopicName;
use wharf_message::transport::Error;

use super::outbox::lock;
use super::state::{Committing, Kind, Shared};
use super::{error, log};
use crate::log::{Commit, Slot, TopicPartition, noted};

/// How long a partition that goes to another member waits for the deliveries that are out.
const REVOKE_GRACE: Duration = Duration::from_millis(500);
/// How long the broker may take to say what was accepted out of order.
const RECALL_WAIT: Duration = Duration::from_secs(10);
/// How long it waits for a commit or a transaction that is under way.
const COMMIT_GRACE: Duration = Duration::from_secs(10);

/// A partition that is to be read from now on.
pub(super) struct Gained {
    pub(super) slot: Slot,
    pub(super) partition: TopicPartition,
    pub(super) queue: PartitionQueue<Context>,
}

/// See the module.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) consumer: OnceLock<Weak<BaseConsumer<Context>>>,
    pub(super) gained: Mutex<Vec<Gained>>,
}

impl Context {
    /// A partition is ours: its records go to a queue of its own from the first on, so that it can
    /// be left unread while others are read.
    pub(super) fn gain(&self, topic: &str, partition: i32, position: Option<i64>) {
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let (Ok(name), Some(consumer)) = (TopicName::new(topic), consumer) else {
            return;
        };
        let Some(mut queue) = consumer.split_partition_queue(topic, partition) else {
            return;
        };
        let waker = Arc::downgrade(&self.shared);
        let is_detour = self.shared.kind(&name) != Kind::Messages;
        queue.set_nonempty_callback(move || match waker.upgrade() {
            Some(shared) if is_detour => shared.wake_reader(),
            Some(shared) => shared.arrived.notify_one(),
            None => {}
        });
        let partition = TopicPartition {
            topic: name,
            partition,
        };
        let mut state = self.shared.current();
        let slot = state.tracker.assign(partition.clone(), position);
        state.assigned.insert(partition.clone(), slot);
        state.outage = false;
        drop(state);
        lock(&self.gained).push(Gained {
            slot,
            partition,
            queue,
        });
    }

    /// What was accepted ahead of the watermark is not delivered again.
    fn recall(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let known = match consumer.committed_offsets(partitions.clone(), RECALL_WAIT) {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "what was accepted out of order could not be asked for when partitions came; messages whose outputs are published may be delivered again");
                return;
            }
        };
        let mut state = self.shared.current();
        for one in known.elements() {
            let (Offset::Offset(watermark), Ok(topic)) =
                (one.offset(), TopicName::new(one.topic()))
            else {
                continue;
            };
            let partition = one.partition();
            let slot = state
                .assigned
                .get(&TopicPartition { topic, partition })
                .copied();
            if let Some(slot) = slot {
                let offsets = noted::noted(watermark, &metadata(&one));
                state.tracker.skip(slot, offsets);
            }
        }
    }

    /// Partitions go to another member: those of their deliveries that end soon count, the others
    /// are delivered again there.
    fn lose(&self, consumer: &BaseConsumer<Self>, partitions: &[TopicPartition]) {
        // Nothing more of them is handed out.
        lock(&self.shared.readings).retain(|reading| !partitions.contains(&reading.partition));
        let lost = consumer.assignment_lost();
        if !lost {
            self.wait_for_settlements(partitions);
        }
        let mut watermarks = Vec::new();
        let mut state = self.shared.current();
        for partition in partitions {
            watermarks.extend(state.revoke(partition));
        }
        drop(state);
        lock(&self.gained).retain(|gained| !partitions.contains(&gained.partition));
        self.shared.arrived.notify_one();
        if lost || watermarks.is_empty() {
            return;
        }
        let offsets = offsets(&watermarks);
        if let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
            tracing::warn!(%error, "offsets could not be committed when partitions went to another member; it will deliver some messages again");
        }
    }

    fn wait_for_settlements(&self, partitions: &[TopicPartition]) {
        let begun = Instant::now();
        loop {
            self.shared.run_errands();
            self.shared.reader_awaits.store(true, Ordering::Relaxed);
            let mut state = self.shared.current();
            let slots: Vec<Slot> = partitions
                .iter()
                .filter_map(|partition| state.assigned.get(partition).copied())
                .collect();
            for slot in &slots {
                state.forget_waiting(*slot);
            }
            let open = slots
                .iter()
                .any(|slot| state.tracker.delivered_of(*slot) > 0);
            let wait = match (open, state.committing) {
                (_, Committing::Committer) => COMMIT_GRACE,
                (true, _) => REVOKE_GRACE,
                (false, _) => return,
            };
            drop(state);
            if begun.elapsed() >= wait {
                return;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.report(&error, reason);
    }
}

impl Shared {
    /// What the client library says besides records.
    pub(super) fn report(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka consumer reports");
        if error::is_outage(error) {
            let mut state = self.current();
            if state.outage {
                return;
            }
            state.outage = true;
            state.failure = Some(Error::Unavailable(format!("{error}: {reason}")));
            drop(state);
            tracing::warn!(%error, reason, "the connection to Kafka is lost; it is tried again until it is back: check that the brokers run and can be reached");
            self.arrived.notify_one();
            return;
        }
        match error::general(error) {
            // Without a group, nothing is asked of a coordinator that matters.
            Error::Denied(_) if self.group.is_none() && reason.contains("oordinator") => {}
            Error::Denied(why) => {
                tracing::warn!(%error, reason, "Kafka denied it: check the credentials and access rules of this client");
                self.fail(Error::Denied(format!("{why}: {reason}")));
            }
            _ if error::is_fatal(error) => {
                let why = format!("the consumer failed for good: {error}: {reason}");
                let mut state = self.current();
                state.ended = Some(Error::Refused(why));
                drop(state);
                self.arrived.notify_one();
            }
            _ => {}
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                tracing::debug!(?partitions, "partitions come");
                for one in partitions.elements() {
                    self.gain(one.topic(), one.partition(), None);
                }
                self.recall(consumer, partitions);
            }
            Rebalance::Revoke(partitions) => {
                tracing::debug!(?partitions, "partitions go");
                let named = |one: TopicPartitionListElem<'_>| {
                    let topic = TopicName::new(one.topic()).ok()?;
                    let partition = one.partition();
                    Some(TopicPartition { topic, partition })
                };
                let gone: Vec<_> = partitions
                    .elements()
                    .into_iter()
                    .filter_map(named)
                    .collect();
                self.lose(consumer, &gone);
            }
            Rebalance::Error(error) => {
                tracing::warn!(%error, "the group could not be rebalanced; it is tried again");
            }
        }
    }
}

/// These commits as the client library takes them.
pub(super) fn offsets(commits: &[Commit]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let partition = &commit.partition;
        let mut one = list.add_partition(partition.topic.as_str(), partition.partition);
        one.set_offset(Offset::Offset(commit.watermark))
            .unwrap_or_else(|error| tracing::error!(%error, "an offset cannot be committed"));
        if let Some(text) = commit.metadata().filter(|text| !text.is_empty()) {
            one.set_metadata(text);
        }
    }
    list
}

/// The metadata that was committed beside an offset. The client library panics when somebody else
/// committed what is no text.
pub(super) fn metadata(one: &TopicPartitionListElem<'_>) -> String {
    catch_unwind(AssertUnwindSafe(|| one.metadata().to_owned())).unwrap_or_default()
}
