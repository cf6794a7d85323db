//! The calls that the simulated clients make, and what each of them changes.
//!
//! Invariant: two calls that could change the same register are never in flight together, so an
//! answer always says what the register is.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use wharf_broker::group::{CommitCall, CommitOffset, Member};
use wharf_broker::{
    Broker, ConfigChange, ConfigOperation, Context, CreateTopic, Error, Produce, TopicRef,
};
use wharf_log::batch::{self, Record};
use wharf_message::Timestamp;

use super::registers::{Register, Value};
use super::transactions::Transaction;

/// The setting that is changed; its values are too large to delete anything.
pub(super) const SETTING: &str = "retention.ms";

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done; with the base offset or the id where there is one.
    Done(i64),
    Refused(Error),
}

/// A call.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Create {
        topic: String,
        setting: String,
    },
    Delete {
        topic: String,
    },
    Alter {
        topic: String,
        setting: Value,
    },
    Commit {
        topic: String,
        group: String,
        partition: i32,
        offset: i64,
        metadata: String,
    },
    Produce {
        topic: String,
        partition: i32,
        batch: Bytes,
    },
    NewProducer,
    Transact(Transaction),
}

impl Call {
    pub(super) fn create(topic: String, number: u64) -> Self {
        Self::Create {
            topic,
            setting: setting(number),
        }
    }

    pub(super) fn alter(topic: String, number: u64, remove: bool) -> Self {
        Self::Alter {
            topic,
            setting: (!remove).then(|| setting(number)),
        }
    }

    pub(super) fn commit(topic: String, group: String, partition: i32, number: u64) -> Self {
        let offset = i64::try_from(number).unwrap_or(0);
        Self::Commit {
            topic,
            group,
            partition,
            offset,
            metadata: format!("by {number}"),
        }
    }

    pub(super) fn produce(topic: String, partition: i32, number: u64, now: Timestamp) -> Self {
        let record = Record {
            timestamp: now,
            value: Some(Bytes::copy_from_slice(&number.to_be_bytes().repeat(20))),
            ..Record::default()
        };
        Self::Produce {
            topic,
            partition,
            batch: batch::build(&[record], None),
        }
    }

    fn topic(&self) -> Option<&str> {
        match self {
            Self::Create { topic, .. }
            | Self::Delete { topic }
            | Self::Alter { topic, .. }
            | Self::Commit { topic, .. }
            | Self::Produce { topic, .. } => Some(topic),
            Self::Transact(transaction) => Some(&transaction.topic),
            Self::NewProducer => None,
        }
    }

    /// The registers that it changes, and what they become.
    pub(super) fn changes(&self) -> Vec<(Register, Value)> {
        let presence = |topic: &String| Register::Presence {
            topic: topic.clone(),
        };
        let of_setting = |topic: &String| Register::Setting {
            topic: topic.clone(),
        };
        match self {
            Self::Create { topic, setting } => vec![
                (presence(topic), Some(String::new())),
                (of_setting(topic), Some(setting.clone())),
            ],
            Self::Delete { topic } => vec![(presence(topic), None)],
            Self::Alter { topic, setting } => vec![(of_setting(topic), setting.clone())],
            Self::Commit {
                topic,
                group,
                partition,
                offset,
                metadata,
            } => {
                let (topic, group, partition) = (topic.clone(), group.clone(), *partition);
                let register = Register::Offset {
                    topic,
                    group,
                    partition,
                };
                vec![(register, Some(format!("{offset}:{metadata}")))]
            }
            Self::Transact(transaction) => {
                let (topic, group) = (transaction.topic.clone(), transaction.group.clone());
                let (offset, metadata) = transaction.offset();
                let number = transaction.number;
                let register = Register::Transaction {
                    topic: topic.clone(),
                    number,
                };
                if !transaction.commit {
                    return vec![(register, None)];
                }
                let of_group = Register::Offset {
                    topic,
                    group,
                    partition: 0,
                };
                vec![
                    (register, Some("whole".to_owned())),
                    (of_group, Some(format!("{offset}:{metadata}"))),
                ]
            }
            Self::Produce { .. } | Self::NewProducer => Vec::new(),
        }
    }

    /// Whether the two must not be in flight together.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        if let (Self::Transact(one), Self::Transact(other)) = (self, other)
            && one.id == other.id
        {
            return true;
        }
        if self.topic().is_none() || self.topic() != other.topic() {
            return false;
        }
        let whole = |call: &Self| matches!(call, Self::Create { .. } | Self::Delete { .. });
        let mine = self.changes();
        whole(self)
            || whole(other)
            || other
                .changes()
                .iter()
                .any(|(register, _)| mine.iter().any(|one| one.0 == *register))
    }

    /// Begins the call.
    pub(super) fn start(&self, broker: Broker, cx: Context) -> BoxFuture<'static, Outcome> {
        let call = self.clone();
        // Producing queues its units in the order of calls, before anybody polls.
        if let Self::Produce {
            topic,
            partition,
            batch,
        } = call
        {
            let (topic, records) = (TopicRef::Name(topic), Some(batch));
            let produced = broker.produce(
                &cx,
                vec![Produce {
                    topic,
                    partition,
                    records,
                }],
            );
            return produced
                .map(|mut answers| outcome(answers.remove(0).map(|a| a.base_offset)))
                .boxed();
        }
        async move { outcome(call.run(&broker, &cx).await) }.boxed()
    }

    async fn run(self, broker: &Broker, cx: &Context) -> Result<i64, Error> {
        match self {
            Self::Create { topic, setting } => {
                let create = CreateTopic {
                    name: topic,
                    partitions: Some(2),
                    replication: None,
                    assignment: Vec::new(),
                    configs: vec![(SETTING.to_owned(), Some(setting))],
                };
                broker.create_topic(cx, create, false).await.map(|_topic| 0)
            }
            Self::Delete { topic } => broker
                .delete_topic(cx, &TopicRef::Name(topic))
                .await
                .map(|_topic| 0),
            Self::Alter { topic, setting } => {
                let operation = match setting {
                    Some(_) => ConfigOperation::Set,
                    None => ConfigOperation::Delete,
                };
                let change = ConfigChange {
                    name: SETTING.to_owned(),
                    operation,
                    value: setting,
                };
                let topic = TopicRef::Name(topic);
                broker
                    .alter_topic_config(cx, &topic, vec![change], false, false)
                    .await
                    .map(|()| 0)
            }
            Self::Commit {
                topic,
                group,
                partition,
                offset,
                metadata,
            } => {
                let member = Member {
                    group,
                    generation: -1,
                    member: String::new(),
                    instance: None,
                };
                let commit = CommitOffset {
                    topic: TopicRef::Name(topic),
                    partition,
                    offset,
                    leader_epoch: -1,
                    metadata: Some(metadata),
                    retention: None,
                };
                let mut answers = broker
                    .commit_offsets(cx, &member, CommitCall::New, vec![commit])
                    .await?;
                answers.remove(0).map(|()| 0)
            }
            Self::NewProducer => broker
                .init_producer(cx, None)
                .await
                .map(|identity| identity.id),
            Self::Transact(transaction) => transaction.run(broker, cx).await,
            Self::Produce { .. } => unreachable!("started by start"),
        }
    }
}

fn outcome(result: Result<i64, Error>) -> Outcome {
    match result {
        Ok(result) => Outcome::Done(result),
        Err(error) => Outcome::Refused(error),
    }
}

/// Far beyond any time that passes in a simulation.
fn setting(number: u64) -> String {
    (1_000_000_000_000 + number).to_string()
}
