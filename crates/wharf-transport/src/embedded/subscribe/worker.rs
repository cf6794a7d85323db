//! The worker of a subscription: keeps its partitions and carries out its settlements.
//!
//! One unit of the log at a time; what is settled meanwhile gathers for the next. Since only the
//! worker sends heartbeats and commits, a commit always carries the epoch the broker knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use wharf_broker::group::CommitOffset;
use wharf_broker::{Error as BrokerError, ErrorKind, OffsetQueryAt, TopicRef};
use wharf_message::transport::Error;
use wharf_message::{GroupName, TopicName};

use super::Shared;
use super::member::{HANDOVER, Membership, Reading, commit, listed};
use super::part::{Kind, Part};
use super::plan::Plan;
use super::state::Phase;
use super::whole;
use crate::embedded::outputs::Output;
use crate::embedded::record;
use crate::log::{Slot, TopicPartition};

/// Offsets alone are not committed more often.
const COMMIT_PAUSE: Duration = Duration::from_millis(10);
/// How long to wait after an error before trying again, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often everyone's partitions are looked up.
const LOOK: Duration = Duration::from_millis(250);
/// How long what was settled may take to be carried out when the subscription ends.
const DRAIN: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Worker {
    shared: Arc<Shared>,
    reading: Reading,
    /// `None` for everyone.
    membership: Option<Membership>,
    next_beat: Instant,
    next_commit: Instant,
    /// After how many errors in a row.
    failures: u32,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, group: Option<GroupName>, reading: Reading) -> Self {
        let membership = group.map(|group| Membership::new(&shared.core, group));
        let now = Instant::now();
        Self {
            shared,
            reading,
            membership,
            next_beat: now,
            next_commit: now,
            failures: 0,
        }
    }

    /// Joins, and settles where to begin.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        let begun = match &self.membership {
            Some(_) => self.beat().await,
            None => self.look(OffsetQueryAt::Latest).await,
        };
        let name = self.reading.reads.first().map(|(name, _)| name.clone());
        begun.map_err(|error| told(error, name))
    }

    /// Works until the subscription ends.
    pub(super) async fn run(mut self) {
        let mut drained_by = None;
        loop {
            let phase = self.shared.state().phase;
            let now = Instant::now();
            if phase == Phase::Dropped {
                break self.end(Ok(())).await;
            }
            if now >= self.next_beat {
                self.tick().await;
            }
            self.carry_out().await;
            if phase == Phase::Closing {
                let deadline = *drained_by.get_or_insert(now + DRAIN);
                if self.shared.state().is_settled() {
                    break self.end(Ok(())).await;
                }
                if now >= deadline {
                    let error = "what was settled could not be carried out in time";
                    break self.end(Err(Error::Unavailable(error.to_owned()))).await;
                }
            }
            self.pause(drained_by).await;
        }
    }

    async fn end(self, outcome: Result<(), Error>) {
        if let Some(membership) = &self.membership {
            membership.leave(&self.shared.core).await;
        }
        self.shared.state().end();
        self.shared.ended.send_replace(Some(outcome));
        self.shared.news.notify_one();
    }

    /// Waits for something to do.
    async fn pause(&self, drained_by: Option<Instant>) {
        let (is_dirty, has_work, next_try) = {
            let state = self.shared.state();
            (state.is_dirty, state.has_work, state.next_try())
        };
        let soonest = [
            Some(self.next_beat),
            is_dirty.then_some(self.next_commit),
            has_work.then(|| self.backoff_end()),
            next_try,
            drained_by.map(|_| Instant::now() + COMMIT_PAUSE),
        ];
        let until = soonest.into_iter().flatten().min();
        tokio::select! {
            () = sleep_until(until.unwrap_or(self.next_beat)) => {}
            () = self.shared.work.notified() => {}
        }
    }

    /// When work may be tried again.
    fn backoff_end(&self) -> Instant {
        match self.failures {
            0 => Instant::now(),
            _ => self.next_commit,
        }
    }

    // Membership

    async fn tick(&mut self) {
        let outcome = match self.membership {
            Some(_) => self.beat().await,
            None => self.look(OffsetQueryAt::Earliest).await,
        };
        match outcome {
            Ok(()) => self.shared.state().is_out = false,
            Err(error) => {
                let group = self.membership.as_ref().map(|member| member.group.as_str());
                tracing::warn!(group, %error, "the subscription is interrupted; trying again");
                let first = self.reading.reads.first().map(|(name, _)| name.clone());
                self.shared.state().out_of_order(told(error, first));
                self.shared.news.notify_one();
                self.next_beat = Instant::now() + AGAIN_MAX.min(AGAIN_MIN * 10);
            }
        }
    }

    /// A heartbeat, and what follows from its answer.
    async fn beat(&mut self) -> Result<(), BrokerError> {
        let owned = self.owned();
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        let joins = membership.target.is_empty() && owned.is_empty();
        let core = Arc::clone(&self.shared.core);
        let interval = match membership.beat(&core, &self.reading, owned).await {
            Ok(interval) => interval,
            Err(error) if is_fenced(&error) => {
                self.lose(&error);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.next_beat = Instant::now() + interval;
        if joins && self.reading.is_latest {
            membership.begin_at_the_end(&core, &self.reading).await?;
            self.reading.is_latest = false;
        }
        self.reconcile().await
    }

    /// The partitions it reads, by topic, as a heartbeat tells them.
    fn owned(&self) -> Vec<(Uuid, Vec<i32>)> {
        let mut owned = BTreeMap::<Uuid, Vec<i32>>::new();
        for part in self.shared.state().parts.values() {
            let of_topic = owned.entry(part.topic_id).or_default();
            of_topic.push(part.partition.partition);
        }
        owned.into_iter().collect()
    }

    /// The broker took this member for gone: whatever it had is somebody else's.
    fn lose(&mut self, error: &BrokerError) {
        let Some(membership) = &mut self.membership else {
            return;
        };
        tracing::warn!(group = %membership.group, %error, "the member was put out of its group and joins again; what it had not settled is delivered again");
        membership.rejoin();
        let mut state = self.shared.state();
        let slots: Vec<Slot> = state.parts.keys().copied().collect();
        for slot in slots {
            state.revoke(slot);
        }
        drop(state);
        self.next_beat = Instant::now();
        self.shared.news.notify_one();
    }

    /// Takes what was assigned, and gives up what is not any more.
    async fn reconcile(&mut self) -> Result<(), BrokerError> {
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        let target = membership.target.clone();
        let now = Instant::now();
        let (mut known, mut to_give_up) = (BTreeSet::new(), Vec::new());
        {
            let mut guard = self.shared.state();
            let state = &mut *guard;
            let slots: Vec<Slot> = state.parts.keys().copied().collect();
            for slot in slots {
                let Some(part) = state.parts.get(&slot) else {
                    continue;
                };
                let key = (part.topic_id, part.partition.partition);
                known.insert(key);
                if target.contains(&key) && part.draining.is_none() {
                    continue;
                }
                state.drain(slot, now);
                let since = state.parts.get(&slot).and_then(|part| part.draining);
                let is_late = since.is_some_and(|since| now.duration_since(since) >= HANDOVER);
                let is_done = state.parts.get(&slot).is_some_and(|part| part.out == 0);
                if is_done || is_late {
                    to_give_up.push(slot);
                }
            }
        }
        if !to_give_up.is_empty() {
            self.give_up(&to_give_up).await?;
        }
        self.take_on(target.difference(&known).copied().collect())
            .await
    }

    async fn give_up(&mut self, slots: &[Slot]) -> Result<(), BrokerError> {
        // What is settled of them is said while they are still its own.
        self.next_commit = Instant::now();
        self.carry_out().await;
        let mut state = self.shared.state();
        for slot in slots {
            state.revoke(*slot);
        }
        drop(state);
        self.next_beat = Instant::now();
        Ok(())
    }

    async fn take_on(&mut self, new: Vec<(Uuid, i32)>) -> Result<(), BrokerError> {
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        for key in new {
            let core = &self.shared.core;
            match membership.assigned(core, &self.reading, key).await {
                Ok(Some((part, offset))) => self.shared.state().assign(part, offset),
                Ok(None) => continue,
                Err(error) if error.kind == ErrorKind::UnstableOffsetCommit => continue,
                Err(error) => return Err(error),
            }
            // Told with the next heartbeat, soon.
            self.next_beat = Instant::now();
            self.shared.news.notify_one();
        }
        Ok(())
    }

    /// Everyone's partitions: all there are, from `at` on.
    async fn look(&mut self, at: OffsetQueryAt) -> Result<(), BrokerError> {
        self.next_beat = Instant::now() + LOOK;
        let core = Arc::clone(&self.shared.core);
        let known: BTreeSet<(Uuid, i32)> = {
            let state = self.shared.state();
            let parts = state.parts.values();
            parts
                .map(|part| (part.topic_id, part.partition.partition))
                .collect()
        };
        for name in self.reading.direct() {
            let Ok(topic) = core.broker.topic(&TopicRef::Name(name.to_string())) else {
                continue;
            };
            for partition in 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) {
                if known.contains(&(topic.id, partition)) {
                    continue;
                }
                let offset = listed(&core, &TopicRef::Id(topic.id), partition, at).await?;
                let place = TopicPartition {
                    topic: name.clone(),
                    partition,
                };
                let part = Part::new(place, topic.id, Kind::Direct, offset);
                self.shared.state().assign(part, offset);
                self.shared.news.notify_one();
            }
        }
        Ok(())
    }

    // Settlements

    /// Carries out what was settled, in one unit after the other.
    async fn carry_out(&mut self) {
        loop {
            let now = Instant::now();
            let plan = {
                let mut state = self.shared.state();
                let may_commit = now >= self.next_commit;
                let may_work = self.failures == 0 || may_commit;
                let is_due = state.next_try().is_some_and(|time| time <= now);
                let has_work = (state.has_work || is_due) && may_work;
                let may_plan = has_work || state.is_dirty && may_commit;
                if !may_plan {
                    return;
                }
                state.plan(now)
            };
            if plan.is_empty() {
                return;
            }
            self.next_commit = now + COMMIT_PAUSE;
            match self.carry(&plan).await {
                Ok(()) => {
                    self.failures = 0;
                    if self.shared.state().carried_out(plan) {
                        self.shared.news.notify_one();
                    }
                }
                Err(Failure { error, fenced }) => {
                    self.failed(plan, error);
                    if let Some(error) = fenced {
                        self.lose(&error);
                    }
                    return;
                }
            }
        }
    }

    async fn carry(&self, plan: &Plan) -> Result<(), Failure> {
        let core = &self.shared.core;
        let outputs = plan.works.iter().flat_map(|work| &work.outputs);
        let outputs: Vec<&Output> = outputs.collect();
        let batches = core.batches(&outputs).await.map_err(Failure::of)?;
        let member = self.membership.as_ref().map(Membership::member);
        let offsets = self.offsets(plan);
        let offsets = member.as_ref().map(|member| (member, offsets));
        let carried = core.broker.produce_and_commit(&core.cx, batches, offsets);
        let first = plan.works.first().and_then(|work| work.outputs.first());
        let topic = first.map(|output| output.topic.clone());
        carried.await.map(drop).map_err(|error| Failure {
            fenced: is_fenced(&error).then(|| error.clone()),
            error: told(error, topic),
        })
    }

    /// What to commit; a topic that was deleted takes its offsets with it.
    fn offsets(&self, plan: &Plan) -> Vec<CommitOffset> {
        let state = self.shared.state();
        let offset = |(of, offset): &(TopicPartition, i64)| {
            let (slot, part) = state.parts.iter().find(|(_, part)| part.partition == *of)?;
            let topic = TopicRef::Id(part.topic_id);
            self.shared.core.broker.topic(&topic).ok()?;
            let new = plan.accepted.iter().filter(|(of, _)| of == slot);
            let mut accepted = part.accepted.clone();
            accepted.extend(new.map(|(_, offset)| *offset));
            let metadata = whole::write(*offset, &accepted);
            Some(commit(topic, of.partition, *offset, metadata))
        };
        plan.watermarks.iter().filter_map(offset).collect()
    }

    /// A unit was refused: for now, or because of one of its settlements.
    fn failed(&mut self, mut plan: Plan, error: Error) {
        let mut state = self.shared.state();
        let is_passing = matches!(error, Error::Unavailable(_) | Error::Closed);
        self.failures = self.failures.saturating_add(1);
        let wait = AGAIN_MIN
            .saturating_mul(1 << self.failures.min(10))
            .min(AGAIN_MAX);
        let again = Instant::now() + wait;
        if is_passing || plan.works.is_empty() {
            tracing::warn!(%error, "settlements cannot be carried out; trying again");
            self.next_commit = again;
            state.put_back(plan, None, false);
            state.has_work = true;
            return;
        }
        self.failures = 0;
        if plan.works.len() > 1 {
            return state.put_back(plan, None, true);
        }
        match plan.works.pop() {
            Some(work) if work.is_atomic() => state.refuse(work, error),
            Some(mut work) => {
                let wait = AGAIN_MIN
                    .saturating_mul(1 << work.refusals.min(10))
                    .min(AGAIN_MAX);
                work.refusals += 1;
                let topic = work.outputs.first().map(|output| output.topic.to_string());
                tracing::warn!(%error, topic, "a retry or a dead letter is refused, so its message stays unsettled; trying again. Check the settings of the topic (max.message.bytes) and who may write to it");
                plan.works.push(work);
                state.put_back(plan, Some(Instant::now() + wait), true);
            }
            None => {}
        }
        drop(state);
        self.shared.news.notify_one();
    }
}

/// Why a unit was not carried out.
struct Failure {
    error: Error,
    /// Whether the member is not one any more.
    fenced: Option<BrokerError>,
}

impl Failure {
    fn of(error: Error) -> Self {
        Self {
            error,
            fenced: None,
        }
    }
}

/// Whether the broker took the member for gone.
fn is_fenced(error: &BrokerError) -> bool {
    matches!(
        error.kind,
        ErrorKind::UnknownMemberId
            | ErrorKind::FencedMemberEpoch
            | ErrorKind::StaleMemberEpoch
            | ErrorKind::IllegalGeneration
            | ErrorKind::GroupIdNotFound
    )
}

/// What a refusal means, in the transport's words.
fn told(error: BrokerError, topic: Option<TopicName>) -> Error {
    match topic {
        Some(topic) => record::error(error, &topic),
        None => Error::Refused(error.message),
    }
}
