//! Membership of a group: the consumer protocol (KIP-848), in which the broker assigns.
//!
//! A partition that is to be given up stops delivering at once and is given up when what is out of it
//! is settled, or after [`HANDOVER`]; its watermark is committed before the broker is told, so the
//! next member begins where this one ended. Members that an earlier life of this node left behind
//! cannot come back: they are shown out before anybody waits for their session to end.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;
use wharf_broker::group::{CommitCall, CommitOffset, ConsumerHeartbeat, Member};
use wharf_broker::{Error, ErrorKind, OffsetQuery, OffsetQueryAt, TopicRef};
use wharf_message::{GroupName, TopicName};

use super::part::{Kind, Part};
use super::whole;
use crate::embedded::{Core, HOST};
use crate::log::TopicPartition;

/// How long the group waits for this member to give partitions up.
const REBALANCE: Duration = Duration::from_secs(60);
/// How long a partition to be given up waits for what is out of it.
pub(super) const HANDOVER: Duration = Duration::from_secs(10);
/// No heartbeat comes later, so that partitions change hands soon. One that changes nothing writes
/// nothing.
const BEAT_MAX: Duration = Duration::from_millis(250);
/// Each member gets partitions of each topic: of messages as of retries.
const ASSIGNOR: &str = "range";
/// The epochs that join and leave.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// What a subscription reads.
#[derive(Debug)]
pub(super) struct Reading {
    /// The topics.
    pub(super) reads: Vec<(TopicName, Kind)>,
    /// Whether a group that is new to a topic begins at its end.
    pub(super) is_latest: bool,
}

impl Reading {
    fn kind(&self, topic: &TopicName) -> Option<Kind> {
        let mut reads = self.reads.iter();
        reads
            .find(|(name, _)| name == topic)
            .map(|(_, kind)| kind.clone())
    }

    fn names(&self) -> Vec<String> {
        let names: BTreeSet<_> = self
            .reads
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        names.into_iter().collect()
    }

    /// The topics that are messages, not detours.
    pub(super) fn direct(&self) -> impl Iterator<Item = &TopicName> {
        let reads = self.reads.iter();
        reads.filter_map(|(name, kind)| (*kind == Kind::Direct).then_some(name))
    }
}

/// One member of a group.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: GroupName,
    id: String,
    epoch: i32,
    /// What the broker wants read.
    pub(super) target: BTreeSet<(Uuid, i32)>,
}

impl Membership {
    /// Not a member yet.
    pub(super) fn new(core: &Core, group: GroupName) -> Self {
        Self {
            group,
            id: format!("{}{}", lives(core), Uuid::new_v4()),
            epoch: JOIN,
            target: BTreeSet::new(),
        }
    }

    /// Who commits.
    pub(super) fn member(&self) -> Member {
        Member {
            group: self.group.to_string(),
            generation: self.epoch,
            member: self.id.clone(),
            instance: None,
        }
    }

    /// Begins anew: everything it had is lost.
    pub(super) fn rejoin(&mut self) {
        self.epoch = JOIN;
        self.target.clear();
    }

    /// Sends a heartbeat that says what is read. How long until the next.
    pub(super) async fn beat(
        &mut self,
        core: &Core,
        reading: &Reading,
        owned: Vec<(Uuid, Vec<i32>)>,
    ) -> Result<Duration, Error> {
        let joins = self.epoch == JOIN;
        if joins {
            self.show_out_the_dead(core).await;
        }
        let heartbeat = ConsumerHeartbeat {
            epoch: self.epoch,
            rebalance_timeout: joins.then_some(REBALANCE),
            topics: joins.then(|| reading.names()),
            owned: Some(owned),
            assignor: joins.then(|| ASSIGNOR.to_owned()),
            ..self.heartbeat()
        };
        let answer = core.broker.consumer_heartbeat(&core.cx, heartbeat).await?;
        self.epoch = answer.epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.into_iter();
            let each = topics.flat_map(|(topic, partitions)| {
                partitions
                    .into_iter()
                    .map(move |partition| (topic, partition))
            });
            self.target = each.collect();
        }
        Ok(answer.interval.min(BEAT_MAX))
    }

    /// Leaves the group. Whoever cannot be told finds out when the session ends.
    pub(super) async fn leave(&self, core: &Core) {
        if self.epoch == JOIN {
            return;
        }
        let heartbeat = ConsumerHeartbeat {
            epoch: LEAVE,
            ..self.heartbeat()
        };
        if let Err(error) = core.broker.consumer_heartbeat(&core.cx, heartbeat).await {
            tracing::debug!(group = %self.group, %error, "a member could not leave its group");
        }
    }

    fn heartbeat(&self) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            group: self.group.to_string(),
            member: self.id.clone(),
            brings_id: true,
            ..ConsumerHeartbeat::default()
        }
    }

    /// Members of an earlier life of the node keep their partitions until their sessions end,
    /// although nobody can be behind them any more.
    async fn show_out_the_dead(&self, core: &Core) {
        let described = core
            .broker
            .describe_consumer_group(&core.cx, self.group.as_str());
        let members = described.map(|group| group.members).unwrap_or_default();
        let lives = lives(core);
        let dead = members
            .into_iter()
            .filter(|member| member.client_host == HOST && !member.member.starts_with(&lives));
        for member in dead {
            tracing::info!(group = %self.group, member = member.member, "a member of an earlier start of this node leaves its group");
            let gone = Self {
                id: member.member,
                epoch: member.epoch,
                group: self.group.clone(),
                target: BTreeSet::new(),
            };
            gone.leave(core).await;
        }
    }

    /// The partitions that the group has no offset for begin at their end.
    pub(super) async fn begin_at_the_end(
        &self,
        core: &Core,
        reading: &Reading,
    ) -> Result<(), Error> {
        let mut offsets = Vec::new();
        for name in reading.direct() {
            let topic = core.broker.topic(&TopicRef::Name(name.to_string()))?;
            for partition in 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) {
                let of = TopicRef::Id(topic.id);
                if self.committed(core, &of, partition)?.is_some() {
                    continue;
                }
                let offset = listed(core, &of, partition, OffsetQueryAt::Latest).await?;
                offsets.push(commit(of, partition, offset, None));
            }
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let member = self.member();
        let results = core
            .broker
            .commit_offsets(&core.cx, &member, CommitCall::New, offsets)
            .await?;
        results.into_iter().collect()
    }

    /// The group's offset with its metadata; `None` when there is none.
    ///
    /// # Errors
    /// Also while a transaction is about to change it.
    fn committed(
        &self,
        core: &Core,
        topic: &TopicRef,
        partition: i32,
    ) -> Result<Option<(i64, String)>, Error> {
        let asked = [(topic.clone(), partition)];
        let member = self.member();
        let group = self.group.as_str();
        let mut found =
            core.broker
                .committed_offsets(&core.cx, group, Some(&member), Some(&asked))?;
        let found = found.pop().transpose()?;
        match found {
            Some(found) if found.is_unstable => Err(Error::new(
                ErrorKind::UnstableOffsetCommit,
                "a transaction is about to change the group's offset",
            )),
            Some(found) => Ok((found.offset >= 0).then_some((found.offset, found.metadata))),
            None => Ok(None),
        }
    }

    /// A partition that was assigned, and where to begin. `None` when its topic is gone or not
    /// subscribed to any more.
    pub(super) async fn assigned(
        &self,
        core: &Core,
        reading: &Reading,
        (topic_id, partition): (Uuid, i32),
    ) -> Result<Option<(Part, i64)>, Error> {
        let of = TopicRef::Id(topic_id);
        let Ok(topic) = core.broker.topic(&of) else {
            return Ok(None);
        };
        let Some(kind) = reading.kind(&topic.name) else {
            return Ok(None);
        };
        let (offset, metadata) = match self.committed(core, &of, partition)? {
            Some(committed) => committed,
            None => {
                let first = listed(core, &of, partition, OffsetQueryAt::Earliest).await?;
                (first, String::new())
            }
        };
        let place = TopicPartition {
            topic: topic.name.clone(),
            partition,
        };
        let mut part = Part::new(place, topic_id, kind, offset);
        part.accepted = whole::read(offset, &metadata);
        Ok(Some((part, offset)))
    }
}

/// An offset to commit.
pub(super) fn commit(
    topic: TopicRef,
    partition: i32,
    offset: i64,
    metadata: Option<String>,
) -> CommitOffset {
    CommitOffset {
        topic,
        partition,
        offset,
        leader_epoch: -1,
        metadata,
        retention: None,
    }
}

/// The first or the end offset of a partition.
pub(super) async fn listed(
    core: &Core,
    topic: &TopicRef,
    partition: i32,
    at: OffsetQueryAt,
) -> Result<i64, Error> {
    let query = OffsetQuery {
        topic: topic.clone(),
        partition,
        current_leader_epoch: -1,
        at,
        read_committed: false,
    };
    Ok(core.broker.list_offset(&core.cx, query).await?.offset)
}

/// How the ids of members of this life of the node begin.
fn lives(core: &Core) -> String {
    format!("embedded-{}-", core.broker.incarnation().simple())
}
