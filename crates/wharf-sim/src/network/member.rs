//! A member of a group: joins, is told what it owns, commits offsets as a member, and joins again when
//! told so. The member that is made leader deals out the partitions.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;
use wharf_log::disk::simulated::Random;

use super::clients::{Client, Knowledge, Numbers, Outbox};
use super::wire::{self, PARTITIONS, topic};
use crate::checkers::{Broken, broken};

/// The group of all members.
pub(super) const GROUP: &str = "team";
const JOIN_VERSION: i16 = 5;
const SYNC_VERSION: i16 = 3;
const COMMIT_VERSION: i16 = 7;
const UNKNOWN_TOPIC: i16 = 3;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER: i16 = 25;
const REBALANCE: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Out,
    /// Joined; with the members to deal out to, when it leads.
    Joined(Vec<StrBytes>),
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Join,
    Sync,
    /// The number of the commit.
    Commit(i64),
}

/// The member.
#[derive(Debug)]
pub(super) struct MemberClient {
    numbers: Numbers,
    asked: Option<(i32, Asked)>,
    stage: Stage,
    member: StrBytes,
    generation: i32,
    /// What it owns.
    owned: Vec<u8>,
    commits: i64,
}

impl MemberClient {
    pub(super) fn new(index: usize) -> Self {
        Self {
            numbers: Numbers::default(),
            asked: None,
            stage: Stage::Out,
            member: StrBytes::default(),
            generation: -1,
            owned: Vec::new(),
            commits: i64::try_from(index).unwrap_or(0),
        }
    }

    /// What every answer of a group may say; true when the request was carried out.
    fn carried_out(&mut self, what: &str, code: i16, known: &Knowledge) -> Result<bool, Broken> {
        match code {
            0 => return Ok(true),
            UNKNOWN_MEMBER => self.member = StrBytes::default(),
            ILLEGAL_GENERATION | REBALANCE => {}
            code => known.may_retry(what, code)?,
        }
        self.stage = Stage::Out;
        Ok(false)
    }

    fn joined(&mut self, answer: Bytes, known: &Knowledge) -> Result<(), Broken> {
        let answer = wire::answer::<JoinGroupRequest>(JOIN_VERSION, answer)?;
        if answer.error_code == MEMBER_ID_REQUIRED {
            self.member = answer.member_id;
            return Ok(());
        }
        if !self.carried_out("join", answer.error_code, known)? {
            return Ok(());
        }
        let (member, generation) = (answer.member_id, answer.generation_id);
        let members = answer.members.into_iter().map(|one| one.member_id);
        (self.member, self.generation) = (member, generation);
        self.stage = Stage::Joined(members.collect());
        Ok(())
    }

    fn synced(&mut self, answer: Bytes, known: &mut Knowledge) -> Result<(), Broken> {
        let answer = wire::answer::<SyncGroupRequest>(SYNC_VERSION, answer)?;
        if !self.carried_out("sync", answer.error_code, known)? {
            return Ok(());
        }
        self.owned = answer.assignment.to_vec();
        self.stage = Stage::In;
        known.assignments += 1;
        let at = (known.life, self.generation);
        known.owners.assigned(at, &self.member, &self.owned)
    }

    fn committed(
        &mut self,
        commit: i64,
        answer: Bytes,
        known: &mut Knowledge,
    ) -> Result<(), Broken> {
        let answer = wire::answer::<OffsetCommitRequest>(COMMIT_VERSION, answer)?;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        for code in codes.map(|partition| partition.error_code) {
            if code == UNKNOWN_TOPIC {
                return Ok(());
            }
            if !self.carried_out("commit", code, known)? {
                return Ok(());
            }
        }
        for partition in &self.owned {
            known.commits.acknowledged(&name(*partition), commit);
        }
        Ok(())
    }

    fn join(&mut self, out: &mut Outbox) -> i32 {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("dealt"))
            .with_metadata(Bytes::from_static(b"member"));
        let request = JoinGroupRequest::default()
            .with_group_instance_id(None)
            .with_group_id(group())
            .with_session_timeout_ms(6_000)
            .with_rebalance_timeout_ms(2_000)
            .with_member_id(self.member.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        self.numbers.ask(out, JOIN_VERSION, &request)
    }

    fn sync(&mut self, out: &mut Outbox, members: &[StrBytes]) -> i32 {
        let deal = |index: usize| {
            let partitions = 0..u8::try_from(PARTITIONS).unwrap_or(0);
            let mine = partitions.filter(|one| usize::from(*one) % members.len() == index);
            mine.collect::<Vec<u8>>()
        };
        let assignments = members.iter().enumerate().map(|(index, member)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member.clone())
                .with_assignment(deal(index).into())
        });
        let request = SyncGroupRequest::default()
            .with_group_instance_id(None)
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(self.member.clone())
            .with_assignments(assignments.collect());
        self.numbers.ask(out, SYNC_VERSION, &request)
    }

    fn commit(&mut self, out: &mut Outbox, known: &mut Knowledge) -> Option<(i32, Asked)> {
        // Offsets grow over all members: each takes every second number, beyond what is known.
        self.commits += 2;
        let partitions = self.owned.iter().map(|partition| {
            known.commits.attempted(&name(*partition), self.commits);
            OffsetCommitRequestPartition::default()
                .with_partition_index(i32::from(*partition))
                .with_committed_offset(self.commits)
        });
        let partitions: Vec<_> = partitions.collect();
        if partitions.is_empty() {
            return None;
        }
        let wanted = OffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(partitions);
        let request = OffsetCommitRequest::default()
            .with_group_instance_id(None)
            .with_group_id(group())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.member.clone())
            .with_topics(vec![wanted]);
        let number = self.numbers.ask(out, COMMIT_VERSION, &request);
        Some((number, Asked::Commit(self.commits)))
    }

    /// Continues from what another member committed before.
    fn catch_up(&mut self, known: &Knowledge) {
        let newest = known.commits.newest();
        while self.commits <= newest {
            self.commits += 2;
        }
    }
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str(GROUP))
}

/// The name under which the offsets of a partition are known.
pub(super) fn name(partition: u8) -> String {
    partition.to_string()
}

impl Client for MemberClient {
    fn cut(&mut self) {
        self.asked = None;
        // A client goes on with its member id; what it owns may have changed meanwhile.
        self.stage = Stage::Out;
    }

    fn answer(&mut self, answer: Bytes, known: &mut Knowledge) -> Result<(), Broken> {
        let number = wire::correlation(&answer);
        match self.asked.take() {
            Some((expected, asked)) if expected == number => match asked {
                Asked::Join => self.joined(answer, known),
                Asked::Sync => self.synced(answer, known),
                Asked::Commit(commit) => self.committed(commit, answer, known),
            },
            other => broken(
                "answers keep the order of requests",
                format!("{number}: {other:?}"),
            ),
        }
    }

    fn act(&mut self, out: &mut Outbox, known: &mut Knowledge, random: &mut Random) {
        if self.asked.is_some() || !random.percent(60) {
            return;
        }
        self.asked = match self.stage.clone() {
            Stage::Out => Some((self.join(out), Asked::Join)),
            Stage::Joined(members) => Some((self.sync(out, &members), Asked::Sync)),
            Stage::In => {
                self.catch_up(known);
                self.commit(out, known)
            }
        };
    }
}
