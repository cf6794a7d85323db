//! The calls of the broker on groups: what is checked before a group is asked, and the waiting.

use std::sync::Arc;

use futures_channel::oneshot::Receiver;
use uuid::Uuid;
use wharf_message::Timestamp;

use super::consumer::ClassicJoin;
use super::machine::{JoinRequest, Machine, State, refusal, store_failed};
use super::offsets::Commit;
use super::protocol::Protocol;
use super::record::OffsetRecord;
use super::shell::{Cell, Group, stopping};
use super::{
    CommitCall, CommitOffset, CommittedOffset, GroupCounts, GroupDescription, Join, JoinRefused,
    Joined, Leaving, ListedGroup, Member, MemberDescription, Sync, Synced, keys,
};
use crate::{Broker, Context, Error, ErrorKind, Topic, TopicRef};

/// How the answer to a join arrives: when the group has formed, or is stored.
enum Joining {
    Formed(Receiver<Result<Joined, JoinRefused>>),
    Stored(Receiver<Result<Joined, Error>>),
}

impl Broker {
    /// Joins a group; returns when the join phase ends. Dropping the future abandons the wait,
    /// not the membership: the member stays until its deadlines pass.
    pub async fn join_group(&self, cx: &Context, join: Join) -> Result<Joined, JoinRefused> {
        let said = join.member.clone();
        let refused = |error| JoinRefused {
            error,
            member: said.clone(),
        };
        check_name(&join.group).map_err(refused)?;
        let options = &self.shared.options;
        let sessions = options.group_session_timeout_min..=options.group_session_timeout_max;
        if !sessions.contains(&join.session_timeout) {
            return Err(refused(refusal(ErrorKind::InvalidSessionTimeout)));
        }
        let (member, name) = (join.member.clone(), join.group.clone());
        let new_member = self.new_member(cx, &join);
        let groups = &self.shared.groups.inner;
        let step = |cell: &Arc<Cell>, group: &mut Group, now| {
            let (client_id, client_host) = (cx.client_id.clone(), cx.client_host.clone());
            groups.empty_to_classic(cell, group, now);
            match &mut group.protocol {
                Protocol::Consumer(consumer) => {
                    let request = ClassicJoin {
                        join,
                        new_member,
                        client_id,
                        client_host,
                    };
                    let joined = consumer.join(&request, groups.around(&cell.name, now))?;
                    Ok(Joining::Stored(group.stores.answer(joined)))
                }
                Protocol::Classic(_) => {
                    let (ticket, answer) = group.expect_join();
                    let request = JoinRequest {
                        ticket,
                        join,
                        new_member,
                        client_id,
                        client_host,
                    };
                    if let Protocol::Classic(machine) = &mut group.protocol {
                        machine.join(&request, now);
                    }
                    Ok(Joining::Formed(answer))
                }
            }
        };
        let joining = if member.is_empty() {
            groups.with_new(&name, step).map_err(refused)
        } else {
            let unknown = || refused(refusal(ErrorKind::UnknownMemberId));
            groups.with(&name, step).ok_or_else(unknown)
        };
        let canceled = |_canceled| Err(refused(stopping()));
        match joining?? {
            Joining::Formed(answer) => answer.await.unwrap_or_else(canceled),
            Joining::Stored(answer) => match answer.await {
                Ok(stored) => stored.map_err(refused),
                Err(canceled_by) => canceled(canceled_by),
            },
        }
    }

    fn new_member(&self, cx: &Context, join: &Join) -> String {
        let id = uuid::Builder::from_random_bytes(self.shared.runtime.random()).into_uuid();
        let name = join.instance.as_deref().unwrap_or(&cx.client_id);
        format!("{name}-{id}")
    }

    /// Waits for the leader's assignment.
    pub async fn sync_group(&self, _cx: &Context, sync: Sync) -> Result<Synced, Error> {
        check_name(&sync.group)?;
        let groups = &self.shared.groups.inner;
        let syncing = groups.with(&sync.group, |cell, group, now| {
            if let Protocol::Consumer(consumer) = &mut group.protocol {
                let synced = consumer.sync(&sync, groups.around(&cell.name, now))?;
                return Ok(group.stores.answer(synced));
            }
            let (ticket, answer) = group.expect_sync();
            if let Protocol::Classic(machine) = &mut group.protocol {
                machine.sync(ticket, &sync, now);
            }
            Ok::<_, Error>(answer)
        });
        let syncing = syncing.ok_or_else(|| refusal(ErrorKind::UnknownMemberId))?;
        syncing?.await.unwrap_or_else(|_canceled| Err(stopping()))
    }

    /// Keeps a member alive.
    pub fn heartbeat(&self, _cx: &Context, member: &Member) -> Result<(), Error> {
        check_name(&member.group)?;
        let groups = &self.shared.groups.inner;
        groups
            .with(&member.group, |cell, group, now| {
                match &mut group.protocol {
                    Protocol::Classic(machine) => machine.heartbeat(member, now),
                    Protocol::Consumer(consumer) => {
                        consumer.classic_heartbeat(member, groups.around(&cell.name, now))
                    }
                }
            })
            .unwrap_or_else(|| Err(refusal(ErrorKind::UnknownMemberId)))
    }

    /// Removes members; one result each, in order.
    pub fn leave_group(
        &self,
        _cx: &Context,
        group: &str,
        leaving: Vec<Leaving>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        check_name(group)?;
        let groups = &self.shared.groups.inner;
        groups
            .with(group, |cell, group, now| match &mut group.protocol {
                Protocol::Classic(machine) => machine.leave(&leaving, now),
                Protocol::Consumer(consumer) => {
                    consumer.leave_all(&leaving, groups.around(&cell.name, now))
                }
            })
            .unwrap_or_else(|| {
                Ok(leaving
                    .into_iter()
                    .map(|_| Err(refusal(ErrorKind::UnknownMemberId)))
                    .collect())
            })
    }

    /// Commits offsets; durable when this returns. One result each, in order. The outer error
    /// concerns the member or the group. Offsets of topics that do not exist are refused without
    /// asking the group.
    pub async fn commit_offsets(
        &self,
        _cx: &Context,
        member: &Member,
        call: CommitCall,
        offsets: Vec<CommitOffset>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        check_name_length(&member.group)?;
        let now = self.shared.runtime.steady();
        let mut commits = Vec::new();
        let mut results = Vec::new();
        let mut is_known = false;
        for offset in offsets {
            let topic = self.topic(&offset.topic).and_then(|topic| {
                partition_exists(&topic, offset.partition)?;
                Ok(topic)
            });
            is_known |= topic.is_ok();
            results.push(topic.and_then(|topic| {
                commits.push(self.new_commit(&topic, offset, now)?);
                Ok(())
            }));
        }
        if !is_known {
            return Ok(results);
        }
        let groups = &self.shared.groups.inner;
        let step = |cell: &Arc<_>, group: &mut Group, now| {
            group.protocol.check_commit(member, call, now)?;
            Ok((!commits.is_empty()).then(|| groups.commit(cell, group, commits)))
        };
        let outcome = if member.generation < 0 {
            groups.with_new(&member.group, step)??
        } else {
            let known = groups.with(&member.group, step);
            known.unwrap_or_else(|| Err(no_such_group(call)))?
        };
        if let Some(outcome) = outcome {
            outcome
                .wait()
                .await
                .map_err(|error| store_failed(error.into()))?;
        }
        Ok(results)
    }

    pub(super) fn new_commit(
        &self,
        topic: &Topic,
        offset: CommitOffset,
        now: Timestamp,
    ) -> Result<Commit, Error> {
        let metadata = offset.metadata.unwrap_or_default();
        if metadata.len() > self.shared.options.offset_metadata_bytes_max {
            return Err(refusal(ErrorKind::OffsetMetadataTooLarge));
        }
        let record = OffsetRecord {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            topic_id: topic.id,
            committed_at: now,
            expires_at: offset.retention.map(|retention| now.after(retention)),
            metadata,
        };
        Ok(Commit {
            topic: topic.name.to_string(),
            partition: offset.partition,
            record,
        })
    }

    /// The committed offsets of a group; all of them when `partitions` is `None`. With `member`
    /// given, it must be one of the group in its current epoch, if that speaks the consumer protocol
    /// (OffsetFetch v9). A group or topic (by name) that does not
    /// exist has no offsets, which is no error.
    pub fn committed_offsets(
        &self,
        _cx: &Context,
        group: &str,
        member: Option<&Member>,
        partitions: Option<&[(TopicRef, i32)]>,
    ) -> Result<Vec<Result<CommittedOffset, Error>>, Error> {
        let Some(partitions) = partitions else {
            return self.all_committed(group, member);
        };
        let topics: Vec<_> = partitions
            .iter()
            .map(|(topic, _)| self.topic(topic))
            .collect();
        let found = self.shared.groups.inner.with(group, |_, group, _now| {
            check_fetch(group, member)?;
            let asked = topics.iter().zip(partitions);
            let found = asked.map(|(topic, (_, partition))| {
                let Ok(topic) = topic.as_ref() else {
                    return (None, false);
                };
                let (name, offsets) = (topic.name.as_str(), &group.offsets);
                let record = offsets.get(name, topic.id, *partition).cloned();
                (
                    record,
                    offsets.pending.is_pending(&(name.to_owned(), *partition)),
                )
            });
            Ok::<Vec<_>, Error>(found.collect())
        });
        let found = found.unwrap_or_else(|| Ok(vec![(None, false); partitions.len()]))?;
        let answers = topics.into_iter().zip(partitions).zip(found);
        let answers = answers.map(
            |((topic, (asked, partition)), record)| match (topic, asked) {
                (Ok(topic), _) => Ok(committed(
                    topic.name.to_string(),
                    Some(topic.id),
                    *partition,
                    record,
                )),
                (Err(_), TopicRef::Name(name)) => {
                    Ok(committed(name.clone(), None, *partition, (None, false)))
                }
                (Err(error), TopicRef::Id(_)) => Err(error),
            },
        );
        Ok(answers.collect())
    }

    fn all_committed(
        &self,
        group: &str,
        member: Option<&Member>,
    ) -> Result<Vec<Result<CommittedOffset, Error>>, Error> {
        let found = self.shared.groups.inner.with(group, |_, group, _now| {
            check_fetch(group, member)?;
            let all = group.offsets.iter();
            let all = all.map(|(topic, partition, record)| {
                let key = (topic.to_owned(), partition);
                let is_unstable = group.offsets.pending.is_pending(&key);
                (key.0, partition, record.clone(), is_unstable)
            });
            Ok::<Vec<_>, Error>(all.collect())
        });
        let found = found.unwrap_or_else(|| Ok(Vec::new()))?;
        let current = found
            .into_iter()
            .filter_map(|(name, partition, record, is_unstable)| {
                let topic = self.topic(&TopicRef::Name(name.clone())).ok()?;
                let is_current = topic.id == record.topic_id;
                let record = (Some(record), is_unstable);
                is_current.then(|| Ok(committed(name, Some(topic.id), partition, record)))
            });
        Ok(current.collect())
    }

    /// Every group.
    pub fn list_groups(&self, _cx: &Context) -> Vec<ListedGroup> {
        let cells = self.shared.groups.inner.cells();
        let listed = cells.iter().filter_map(|cell| {
            let group = cell.open()?;
            Some(ListedGroup {
                group: cell.name.clone(),
                protocol_type: group.protocol.protocol_type().to_owned(),
                state: group.protocol.state(),
                group_type: group.protocol.name(),
            })
        });
        listed.collect()
    }

    /// One classic group; `GroupIdNotFound` when there is none.
    pub fn describe_group(&self, _cx: &Context, group: &str) -> Result<GroupDescription, Error> {
        let description =
            self.shared
                .groups
                .inner
                .with(group, |_, group, _now| match &group.protocol {
                    Protocol::Classic(machine) => Ok(describe(machine)),
                    Protocol::Consumer(_) => {
                        let message = "the group is not a classic group";
                        Err(Error::new(ErrorKind::GroupIdNotFound, message))
                    }
                });
        description.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))
    }

    /// Deletes an empty group with its offsets.
    pub async fn delete_group(&self, _cx: &Context, group: &str) -> Result<(), Error> {
        let groups = &self.shared.groups.inner;
        let outcome = groups.with(group, |cell, group, _now| groups.delete(cell, group));
        let outcome = outcome.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))?;
        outcome
            .wait()
            .await
            .map_err(|error| store_failed(error.into()))?;
        Ok(())
    }

    /// Deletes committed offsets (KIP-496); one result each, in order. Deleting what is not there
    /// succeeds.
    pub async fn delete_offsets(
        &self,
        _cx: &Context,
        group: &str,
        partitions: Vec<(String, i32)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        let known: Vec<_> = partitions
            .iter()
            .map(|(topic, partition)| {
                let topic = self.topic(&TopicRef::Name(topic.clone()))?;
                partition_exists(&topic, *partition)
            })
            .collect();
        let groups = &self.shared.groups.inner;
        let outcome = groups.with(group, |cell, group, _now| {
            group.protocol.check_delete_offsets()?;
            let results = known
                .into_iter()
                .zip(&partitions)
                .map(|(known, (topic, _))| {
                    known?;
                    match group.protocol.is_subscribed(topic) {
                        true => Err(refusal(ErrorKind::GroupSubscribedToTopic)),
                        false => Ok(()),
                    }
                });
            let results: Vec<_> = results.collect();
            let kept = group.offsets.keys();
            let keys = partitions
                .iter()
                .zip(&results)
                .filter(|(key, result)| result.is_ok() && kept.binary_search(key).is_ok());
            let keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
            let outcome = (!keys.is_empty()).then(|| groups.remove_offsets(cell, group, keys));
            Ok((results, outcome))
        });
        let (results, outcome) =
            outcome.unwrap_or_else(|| Err(refusal(ErrorKind::GroupIdNotFound)))?;
        if let Some(outcome) = outcome {
            outcome
                .wait()
                .await
                .map_err(|error| store_failed(error.into()))?;
        }
        Ok(results)
    }

    /// How many groups, members and committed offsets there are.
    pub fn group_counts(&self) -> GroupCounts {
        let mut counts = GroupCounts::default();
        for cell in self.shared.groups.inner.cells() {
            let Some(group) = cell.open() else { continue };
            *counts.by_state.entry(group.protocol.state()).or_default() += 1;
            counts.members += group.protocol.member_count();
            counts.offsets += group.offsets.iter().count();
        }
        counts
    }
}

/// As in Kafka, metadata is shown only while it belongs to the generation at work.
fn describe(machine: &Machine) -> GroupDescription {
    let is_stable = machine.state() == State::Stable;
    let protocol = if is_stable { machine.protocol() } else { None };
    let members = machine
        .members()
        .iter()
        .map(|(id, member)| MemberDescription {
            member: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.to_string(),
            client_host: member.client_host.to_string(),
            metadata: member.terms.metadata(protocol),
            assignment: member.assignment.clone(),
        });
    GroupDescription {
        state: machine.state().name(),
        protocol_type: machine.protocol_type().unwrap_or_default().to_owned(),
        protocol: protocol.unwrap_or_default().to_owned(),
        rebalance_reason: machine.rebalance_reason().to_owned(),
        members: members.collect(),
    }
}

/// What a commit by a member of a group that is not there is told.
fn no_such_group(call: CommitCall) -> Error {
    refusal(match call {
        CommitCall::New => ErrorKind::GroupIdNotFound,
        CommitCall::Old | CommitCall::Transactional => ErrorKind::IllegalGeneration,
    })
}

fn check_fetch(group: &Group, member: Option<&Member>) -> Result<(), Error> {
    member.map_or(Ok(()), |member| group.protocol.check_fetch(member))
}

fn committed(
    topic: String,
    topic_id: Option<Uuid>,
    partition: i32,
    (record, is_unstable): (Option<OffsetRecord>, bool),
) -> CommittedOffset {
    let (offset, leader_epoch, metadata) = match record {
        Some(record) => (record.offset, record.leader_epoch, record.metadata),
        None => (-1, -1, String::new()),
    };
    CommittedOffset {
        topic,
        topic_id,
        partition,
        offset,
        leader_epoch,
        metadata,
        is_unstable,
    }
}

pub(super) fn partition_exists(topic: &Topic, partition: i32) -> Result<(), Error> {
    let index = usize::try_from(partition).ok();
    match index.is_some_and(|index| index < topic.partitions.len()) {
        true => Ok(()),
        false => {
            let message = format!("topic {} has no partition {partition}", topic.name);
            Err(Error::new(ErrorKind::UnknownTopicOrPartition, message))
        }
    }
}

pub(super) fn check_name(group: &str) -> Result<(), Error> {
    match group.is_empty() {
        true => Err(refusal(ErrorKind::InvalidGroupId)),
        false => check_name_length(group),
    }
}

/// Offsets may be committed for the group without a name, as in Kafka.
fn check_name_length(group: &str) -> Result<(), Error> {
    match group.len() <= keys::GROUP_NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(refusal(ErrorKind::InvalidGroupId)),
    }
}
