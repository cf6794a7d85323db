//! The instances of one contract: events in, changes of verdicts out.
//!
//! Invariants: nothing is judged before it is said that everything up to a moment was read, so that
//! reading late never makes an instance look stuck; what is kept is bounded, and what is let go of is
//! counted; after a restart the same records come to the same verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wharf_message::Timestamp;

use super::judge::{Judge, Offsets, Seen};
use super::view::{Change, Counts, Dropped, InstanceView, Step, Summary};
use super::{Consumption, Finding, Kind, Verdict};
use crate::choreography::contract::Contract;
use crate::choreography::observed::{Observed, hash};

/// What a monitor bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instances.
    pub instances_max: usize,
    /// Events of one instance.
    pub events_max: usize,
    /// How long an instance that ended well is remembered, for messages that come again.
    pub linger: Duration,
    /// How long one with a bad verdict is remembered.
    pub keep: Duration,
    /// Instances that are remembered by nothing but that they were here.
    pub forgotten_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances_max: 100_000,
            events_max: 200,
            linger: Duration::from_secs(600),
            keep: Duration::from_secs(7 * 24 * 3600),
            forgotten_max: 1_000_000,
        }
    }
}

#[derive(Debug)]
struct Instance {
    events: Vec<Seen>,
    verdict: Verdict,
    serial: u64,
    /// Its place in the order.
    place: Place,
    is_dirty: bool,
    is_unjudged: bool,
}

/// In which order instances are let go of: those that ended well, bad ones, running ones; each by
/// their last event.
type Place = (u8, Timestamp, u64);

const WELL: u8 = 0;
const BAD: u8 = 1;
const RUNNING: u8 = 2;

/// The instances of one contract.
#[derive(Debug)]
pub struct Monitor {
    judge: Judge,
    limits: Limits,
    /// Events by their type: one, and it may be in topics of dead letters too.
    numbers: HashMap<String, Vec<usize>>,
    /// The groups that the contract names.
    groups: HashSet<String>,
    instances: HashMap<Arc<str>, Instance>,
    order: BTreeMap<Place, Arc<str>>,
    due: BTreeSet<(Timestamp, Arc<str>)>,
    dirty: Vec<Arc<str>>,
    offsets: Offsets,
    /// Groups that came further since the last tick.
    further: HashSet<(String, String, i32)>,
    /// Records before this were not read.
    horizon: Option<Timestamp>,
    now: Timestamp,
    forgotten: HashSet<u64>,
    forgotten_order: VecDeque<u64>,
    changes: Vec<Change>,
    /// Instances that are remembered no more, since they were taken last.
    gone: Vec<String>,
    counts: Counts,
    dropped: Dropped,
    serial: u64,
}

impl Monitor {
    /// A monitor that has seen nothing.
    pub fn new(contract: Contract, limits: Limits) -> Self {
        let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, event) in contract.events.iter().enumerate() {
            let of_kind = numbers.entry(contract.kind(event)).or_default();
            of_kind.push(number);
        }
        Self {
            numbers,
            groups: contract.groups().into_iter().map(str::to_owned).collect(),
            judge: Judge::new(contract),
            limits,
            instances: HashMap::new(),
            order: BTreeMap::new(),
            due: BTreeSet::new(),
            dirty: Vec::new(),
            offsets: Offsets::default(),
            further: HashSet::new(),
            horizon: None,
            now: Timestamp::ZERO,
            forgotten: HashSet::new(),
            forgotten_order: VecDeque::new(),
            changes: Vec::new(),
            gone: Vec::new(),
            counts: Counts::default(),
            dropped: Dropped::default(),
            serial: 0,
        }
    }

    /// The contract.
    pub fn contract(&self) -> &Contract {
        &self.judge.contract
    }

    /// Records before this time were not read: an instance that seems to have no beginning may have
    /// had one there, and is not judged.
    pub fn begins(&mut self, at: Timestamp) {
        self.horizon = Some(self.horizon.map_or(at, |horizon| horizon.max(at)));
    }

    /// Takes a record in. Whether it is one of an instance: other records of the contract's events are
    /// counted as uncorrelated.
    pub fn observe(&mut self, seen: &Observed<'_>) -> bool {
        let contract = &self.judge.contract;
        let Some(topic) = self
            .judge
            .topics
            .iter()
            .position(|topic| topic == seen.topic)
        else {
            return false;
        };
        let mut numbers = self.numbers.get(seen.event()).into_iter().flatten();
        let number = numbers.find(|number| contract.events[**number].topic == seen.topic);
        let number = number.copied();
        if number.is_none() && contract.ignores_others {
            return false;
        }
        // What begins an instance may name it by its own id, which what comes of it carries on.
        let begins = number.is_some_and(|number| contract.starts.contains(&number));
        let own = || seen.id().filter(|_| begins).map(str::to_owned);
        let found = contract.correlation.of(seen);
        let Some(id) = found.map(|found| found.id).or_else(own) else {
            self.dropped.uncorrelated += 1;
            return false;
        };
        let is_letter = number.is_some_and(|it| contract.events[it].dead_letter_of.is_some());
        let identity = match is_letter {
            // It is the same message as what it was, and an event of its own.
            true => hash(&[b"dead letter", &seen.identity().to_be_bytes()]),
            false => seen.identity(),
        };
        let id: Arc<str> = id.into();
        if !self.instances.contains_key(&id) {
            if self.forgotten.contains(&hash(&[id.as_bytes()])) {
                self.dropped.late += 1;
                return true;
            }
            self.begin(&id, seen.at());
        }
        self.insert(
            &id,
            Seen {
                event: number,
                foreign: number.is_none().then(|| seen.event().into()),
                at: seen.at(),
                topic: u32::try_from(topic).unwrap_or(u32::MAX),
                partition: seen.partition,
                offset: seen.offset,
                identity,
                id: seen.id().map(Into::into),
                service: seen.service().map(Into::into),
            },
        );
        while self.instances.len() > self.limits.instances_max {
            self.let_go();
        }
        true
    }

    fn begin(&mut self, id: &Arc<str>, at: Timestamp) {
        self.serial += 1;
        let place = (RUNNING, at, self.serial);
        let instance = Instance {
            events: Vec::new(),
            verdict: Verdict::default(),
            serial: self.serial,
            place,
            is_dirty: false,
            is_unjudged: false,
        };
        self.order.insert(place, Arc::clone(id));
        self.instances.insert(Arc::clone(id), instance);
        *self.counts.now.entry(Kind::Running).or_default() += 1;
    }

    /// Puts an event in its place; of one message that came twice, the earlier record counts.
    fn insert(&mut self, id: &Arc<str>, event: Seen) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let place = |seen: &Seen| (seen.at, seen.topic, seen.partition, seen.offset);
        let events = &mut instance.events;
        if let Some(same) = events.iter().position(|one| one.identity == event.identity) {
            self.dropped.redelivered += 1;
            if place(&events[same]) <= place(&event) {
                return;
            }
            events.remove(same);
        }
        if events.len() >= self.limits.events_max {
            self.dropped.events += 1;
            return;
        }
        let index = events.partition_point(|one| place(one) < place(&event));
        events.insert(index, event);
        if !std::mem::replace(&mut instance.is_dirty, true) {
            self.dirty.push(Arc::clone(id));
        }
    }

    /// Lets go of the instance that is missed least.
    fn let_go(&mut self) {
        let Some((place, id)) = self.order.pop_first() else {
            return;
        };
        match place.0 {
            WELL => {}
            BAD => self.dropped.bad += 1,
            _ => self.dropped.running += 1,
        }
        self.forget(&id);
    }

    fn forget(&mut self, id: &Arc<str>) {
        let Some(instance) = self.instances.remove(id) else {
            return;
        };
        self.order.remove(&instance.place);
        if (instance.verdict.verdict, instance.verdict.findings.len()) != (Kind::Running, 0) {
            self.gone.push(id.to_string());
        }
        if let Some(due) = instance.verdict.due {
            self.due.remove(&(due, Arc::clone(id)));
        }
        if let Some(count) = self.counts.now.get_mut(&instance.verdict.verdict) {
            *count = count.saturating_sub(1);
        }
        let hash = hash(&[id.as_bytes()]);
        if self.limits.forgotten_max > 0 && self.forgotten.insert(hash) {
            self.forgotten_order.push_back(hash);
        }
        if self.forgotten_order.len() > self.limits.forgotten_max
            && let Some(oldest) = self.forgotten_order.pop_front()
        {
            self.forgotten.remove(&oldest);
        }
    }

    /// How far a group has come: the next offset that it wants.
    pub fn committed(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        let is_known = self.judge.topics.iter().any(|known| known == topic);
        if !self.groups.contains(group) || !is_known {
            return;
        }
        let place = (group.to_owned(), topic.to_owned(), partition);
        if self.offsets.0.insert(place.clone(), offset) != Some(offset) {
            self.further.insert(place);
        }
    }

    /// When [`Self::tick`] is wanted next, if no record comes.
    pub fn due(&self) -> Option<Timestamp> {
        match self.dirty.is_empty() {
            true => self.due.first().map(|(due, _)| *due),
            false => Some(self.now),
        }
    }

    /// Everything that happened before `now` was read: judges what came in and what is due.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        for id in std::mem::take(&mut self.dirty) {
            self.judge_one(&id);
        }
        while let Some((due, id)) = self.due.first().cloned()
            && due <= self.now
        {
            self.due.remove(&(due, Arc::clone(&id)));
            self.judge_one(&id);
        }
        self.look_at_offsets();
        self.forget_old();
    }

    fn judge_one(&mut self, id: &Arc<str>) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        instance.is_dirty = false;
        let first = instance.events.first().map(|seen| seen.at);
        let lifetime = self.judge.contract.lifetime;
        let is_cut =
            |horizon: Timestamp| first.is_some_and(|first| first < horizon.after(lifetime));
        let verdict = if self.horizon.is_some_and(is_cut) && !self.judge.began(&instance.events) {
            if !std::mem::replace(&mut instance.is_unjudged, true) {
                self.dropped.unjudged += 1;
            }
            Verdict::default()
        } else {
            self.judge.judge(&instance.events, self.now, &self.offsets)
        };
        let was = std::mem::replace(&mut instance.verdict, verdict.clone());
        if let Some(due) = was.due {
            self.due.remove(&(due, Arc::clone(id)));
        }
        if let Some(due) = verdict.due {
            self.due.insert((due, Arc::clone(id)));
        }
        let last = instance.events.last().map_or(self.now, |seen| seen.at);
        let class = match verdict.verdict {
            Kind::Running => RUNNING,
            kind if kind.is_bad() => BAD,
            _ => WELL,
        };
        self.order.remove(&instance.place);
        instance.place = (class, last, instance.serial);
        self.order.insert(instance.place, Arc::clone(id));
        if (was.verdict, &was.findings) != (verdict.verdict, &verdict.findings) {
            self.change(id, was.verdict, verdict);
        }
    }

    fn change(&mut self, id: &Arc<str>, was: Kind, verdict: Verdict) {
        if was != verdict.verdict {
            if let Some(count) = self.counts.now.get_mut(&was) {
                *count = count.saturating_sub(1);
            }
            *self.counts.now.entry(verdict.verdict).or_default() += 1;
            *self.counts.reached.entry(verdict.verdict).or_default() += 1;
        }
        self.changes.push(Change {
            choreography: self.judge.contract.name.clone(),
            instance: id.to_string(),
            was,
            verdict,
            at: self.now.to_rfc3339(),
        });
    }

    /// Judges anew what was stuck because a group had not come so far.
    fn look_at_offsets(&mut self) {
        let further = std::mem::take(&mut self.further);
        if further.is_empty() {
            return;
        }
        let is_touched = |finding: &Finding| match finding {
            Finding::Missing {
                consumption:
                    Consumption::NeverConsumed { group, .. } | Consumption::NothingCommitted { group },
                position,
                ..
            } => further.contains(&(group.clone(), position.topic.clone(), position.partition)),
            _ => false,
        };
        let bad = self
            .order
            .range((BAD, Timestamp::from_millis(i64::MIN), 0)..);
        let bad = bad.take_while(|((class, ..), _)| *class == BAD);
        let touched = bad.filter(|(_, id)| {
            let instance = self.instances.get(*id);
            instance.is_some_and(|instance| instance.verdict.findings.iter().any(is_touched))
        });
        let touched: Vec<Arc<str>> = touched.map(|(_, id)| Arc::clone(id)).collect();
        for id in touched {
            self.judge_one(&id);
        }
    }

    fn forget_old(&mut self) {
        let limits = self.limits;
        let lifetime = self.judge.contract.lifetime.max(limits.linger);
        for (class, age) in [
            (WELL, limits.linger),
            (BAD, limits.keep),
            (RUNNING, lifetime),
        ] {
            loop {
                let from = (class, Timestamp::from_millis(i64::MIN), 0);
                let first = self.order.range(from..).next();
                let Some(((found, last, _), id)) = first else {
                    break;
                };
                if *found != class || self.now.since(*last) <= age {
                    break;
                }
                // One that still waits for something has a longer time than its lifetime.
                if class == RUNNING
                    && self
                        .instances
                        .get(id)
                        .is_some_and(|one| one.verdict.due.is_some())
                {
                    break;
                }
                let id = Arc::clone(id);
                self.forget(&id);
            }
        }
    }

    /// The changes since they were taken last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The instances with a verdict that were forgotten since they were taken last.
    pub fn take_gone(&mut self) -> Vec<String> {
        std::mem::take(&mut self.gone)
    }

    /// How many instances have which verdict.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was let go of.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many instances are remembered.
    pub fn instances_len(&self) -> usize {
        self.instances.len()
    }

    /// What an instance has come to.
    pub fn verdict(&self, id: &str) -> Option<&Verdict> {
        self.instances.get(id).map(|instance| &instance.verdict)
    }

    /// The instances with a verdict, or all; those whose last event is latest, first.
    pub fn instances(&self, kind: Option<Kind>, count_max: usize) -> Vec<Summary> {
        let all = self.instances.iter();
        let all = all.filter(|(_, one)| kind.is_none_or(|kind| one.verdict.verdict == kind));
        let mut all: Vec<(&Arc<str>, &Instance)> = all.collect();
        all.sort_by_key(|(_, one)| std::cmp::Reverse((one.place.1, one.serial)));
        all.truncate(count_max);
        all.into_iter()
            .map(|(id, one)| self.summary(id, one))
            .collect()
    }

    /// One instance.
    pub fn instance(&self, id: &str) -> Option<InstanceView> {
        let instance = self.instances.get(id)?;
        let step = |seen: &Seen| Step {
            event: self.name(seen),
            at: seen.at.to_rfc3339(),
            topic: self
                .judge
                .topics
                .get(usize::try_from(seen.topic).unwrap_or(0))
                .cloned()
                .unwrap_or_default(),
            partition: seen.partition,
            offset: seen.offset,
            id: seen.id.as_deref().map(str::to_owned),
            service: seen.service.as_deref().map(str::to_owned),
        };
        Some(InstanceView {
            choreography: self.judge.contract.name.clone(),
            summary: self.summary(id, instance),
            details: instance.verdict.findings.clone(),
            due: instance.verdict.due.map(Timestamp::to_rfc3339),
            events: instance.events.iter().map(step).collect(),
        })
    }

    fn name(&self, seen: &Seen) -> String {
        match seen.event {
            Some(event) => self.judge.contract.event(event).to_owned(),
            None => seen.foreign.as_deref().unwrap_or("").to_owned(),
        }
    }

    fn summary(&self, id: &str, instance: &Instance) -> Summary {
        let at = |seen: Option<&Seen>| seen.map_or(Timestamp::ZERO, |seen| seen.at).to_rfc3339();
        let last = instance.events.last();
        Summary {
            instance: id.to_owned(),
            verdict: instance.verdict.verdict,
            began_at: at(instance.events.first()),
            last_event: last.map(|seen| self.name(seen)).unwrap_or_default(),
            last_at: at(last),
            findings: instance
                .verdict
                .findings
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}
