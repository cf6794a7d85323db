//! Worlds to watch: contracts of random shape, and instances that keep them, with their events in the
//! order in which they are read.

use std::fmt::Write as _;
use std::time::Duration;

use wharf_message::Timestamp;
use wharf_message::ledger::Record;
use wharf_saga::choreography::{Contract, Monitor, Observed};

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A step of a random saga.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    name: String,
    can_fail: bool,
    can_repeat: bool,
    is_undoable: bool,
}

/// Steps one after the other, and branches beside each other.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    Step(Step),
    Branches(Vec<Vec<Step>>),
}

/// A saga and its contract.
#[derive(Clone, Debug)]
pub(crate) struct World {
    blocks: Vec<Block>,
    pub(crate) text: String,
    pub(crate) contract: Contract,
}

/// What happens, and what caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) at: i64,
    pub(crate) id: String,
    pub(crate) cause: Option<usize>,
}

/// A run of a saga.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) events: Vec<Event>,
    pub(crate) has_failed: bool,
}

/// How long every rule allows, and by how much records may be out of order.
pub(crate) const WITHIN: i64 = 30_000;
pub(crate) const REORDER: i64 = 1_000;
const PARTITIONS: u64 = 2;

impl World {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let mut number = 0;
        let mut step = |dice: &mut Dice, before_pivot: bool| {
            number += 1;
            Step {
                name: format!("s{number}"),
                can_fail: before_pivot && !dice.one_in(3),
                can_repeat: dice.one_in(5),
                is_undoable: before_pivot,
            }
        };
        let (before, after) = (1 + dice.below(4), dice.below(3));
        let mut blocks = Vec::new();
        for _ in 0..before {
            let block = if dice.one_in(3) {
                let branches = 2 + dice.below(2);
                let mut branch =
                    |dice: &mut Dice| (0..=dice.below(2)).map(|_| step(dice, true)).collect();
                Block::Branches((0..branches).map(|_| branch(dice)).collect())
            } else {
                Block::Step(step(dice, true))
            };
            blocks.push(block);
        }
        let has_pivot = after > 0;
        if has_pivot {
            let mut pivot = step(dice, false);
            "pivot".clone_into(&mut pivot.name);
            pivot.can_repeat = false;
            blocks.push(Block::Step(pivot));
        }
        for _ in 1..after {
            blocks.push(Block::Step(step(dice, false)));
        }
        let text = text(&blocks, has_pivot);
        let contract =
            Contract::parse(&text).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"));
        Self {
            blocks,
            text,
            contract,
        }
    }

    /// One instance that keeps the contract.
    pub(crate) fn run(&self, dice: &mut Dice, number: usize, start: i64) -> Run {
        let mut maker = Maker {
            dice,
            number,
            run: Run::default(),
            failed: Vec::new(),
        };
        let mut last = vec![maker.event("begun", start, None)];
        for block in &self.blocks {
            last = match block {
                Block::Step(step) => maker.step(step, &last).into_iter().collect(),
                Block::Branches(branches) => maker.branches(branches, &last),
            };
            if !maker.failed.is_empty() {
                break;
            }
        }
        match maker.failed.is_empty() {
            true => {
                let at = maker.after(&last);
                maker.event("finished", at, last.first().copied());
            }
            false => maker.undo(&self.blocks),
        }
        maker.skew();
        maker.run
    }
}

struct Maker<'d> {
    dice: &'d mut Dice,
    number: usize,
    run: Run,
    failed: Vec<usize>,
}

impl Maker<'_> {
    fn event(&mut self, name: &str, at: i64, cause: Option<usize>) -> usize {
        let index = self.run.events.len();
        self.run.events.push(Event {
            name: name.to_owned(),
            at,
            id: format!("{}-{index}", self.number),
            cause,
        });
        index
    }

    /// A while after the last of several events.
    fn after(&mut self, causes: &[usize]) -> i64 {
        let causes = causes.iter().map(|cause| self.run.events[*cause].at);
        let delay = i64::try_from(self.dice.below(4_000)).unwrap();
        causes.max().unwrap_or(0) + delay * i64::from(!self.dice.one_in(4))
    }

    /// Clocks differ, so what comes after may look as if it came before.
    fn skew(&mut self) {
        for event in &mut self.run.events {
            event.at +=
                i64::try_from(self.dice.below(REORDER.unsigned_abs())).unwrap() - REORDER / 2;
        }
    }

    fn step(&mut self, step: &Step, causes: &[usize]) -> Option<usize> {
        let mut causes = causes.to_vec();
        while step.can_repeat && self.dice.one_in(3) {
            let at = self.after(&causes);
            causes = vec![self.event(&format!("{}-again", step.name), at, causes.first().copied())];
        }
        let at = self.after(&causes);
        let cause = causes.first().copied();
        if step.can_fail && self.dice.one_in(8) {
            let failed = self.event(&format!("{}-failed", step.name), at, cause);
            self.failed.push(failed);
            return None;
        }
        Some(self.event(&step.name, at, cause))
    }

    fn branches(&mut self, branches: &[Vec<Step>], causes: &[usize]) -> Vec<usize> {
        let mut ends = Vec::new();
        for branch in branches {
            let mut last = causes.to_vec();
            for step in branch {
                // Where another branch has failed, this one may stop anywhere.
                if !self.failed.is_empty() && self.dice.one_in(3) {
                    break;
                }
                match self.step(step, &last) {
                    Some(done) => last = vec![done],
                    None => break,
                }
            }
            ends.extend(last);
        }
        ends
    }

    fn undo(&mut self, blocks: &[Block]) {
        self.run.has_failed = true;
        let failed = self.failed.clone();
        let at = self.after(&failed[..1]);
        self.event("cancelled", at, Some(failed[0]));
        let steps = blocks.iter().flat_map(|block| match block {
            Block::Step(step) => vec![step],
            Block::Branches(branches) => branches.iter().flatten().collect(),
        });
        for step in steps.filter(|step| step.is_undoable) {
            let done = self
                .run
                .events
                .iter()
                .position(|event| event.name == step.name);
            let Some(done) = done else { continue };
            let at = self.after(&[done, failed[0]]);
            self.event(&format!("{}-undone", step.name), at, Some(done));
        }
    }
}

/// The parts of a contract's text.
#[derive(Default)]
struct Parts {
    events: String,
    rules: String,
    undos: String,
    topic: u32,
    has_failure: bool,
}

impl Parts {
    fn event(&mut self, name: &str, rest: &str) {
        self.topic += 1;
        let topic = self.topic % 4;
        writeln!(self.events, "  {name}: {{topic: t{topic}{rest}}}").unwrap();
    }

    fn rule(&mut self, on: &str, expect: &str) {
        writeln!(
            self.rules,
            "- {{on: {on}, expect: '{expect}', within: 30s}}"
        )
        .unwrap();
    }

    fn step(&mut self, step: &Step, before: &[String]) {
        let name = &step.name;
        let mut answers = vec![name.clone()];
        self.event(name, &format!(", from: svc-{name}"));
        if step.can_fail {
            self.has_failure = true;
            let failed = format!("{name}-failed");
            self.event(&failed, &format!(", from: svc-{name}, effect: none"));
            self.rule(&failed, "cancelled");
            self.rule(&failed, "compensation");
            answers.push(failed);
        }
        let mut before = before.to_vec();
        if step.can_repeat {
            let again = format!("{name}-again");
            self.event(&again, &format!(", from: svc-{name}, effect: none"));
            answers.push(again.clone());
            before.push(again);
        }
        if step.is_undoable {
            self.event(&format!("{name}-undone"), "");
            writeln!(self.undos, "  {name}: {name}-undone").unwrap();
        }
        for before in before {
            self.rule(&before, &format!("one of [{}]", answers.join(", ")));
        }
    }
}

fn text(blocks: &[Block], has_pivot: bool) -> String {
    let mut parts = Parts::default();
    parts.event("begun", ", effect: none");
    parts.event("finished", "");
    let mut last = vec!["begun".to_owned()];
    for block in blocks {
        last = match block {
            Block::Step(one) => {
                parts.step(one, &last);
                vec![one.name.clone()]
            }
            Block::Branches(branches) => {
                let end = |branch: &Vec<Step>| {
                    let mut before = last.clone();
                    for one in branch {
                        parts.step(one, &before);
                        before = vec![one.name.clone()];
                    }
                    before
                };
                branches.iter().flat_map(end).collect()
            }
        };
    }
    last.iter().for_each(|last| parts.rule(last, "finished"));
    let mut text = "choreography: random\nstarts: begun\nundo-within: 30s\n".to_owned();
    if has_pivot {
        text.push_str("pivot: pivot\n");
    }
    text.push_str("ends:\n  completed: [finished]\n");
    if parts.has_failure {
        parts.event("cancelled", "");
        text.push_str("  compensated: [cancelled]\n");
    }
    if !parts.undos.is_empty() {
        write!(text, "compensation:\n{}", parts.undos).unwrap();
    }
    write!(text, "events:\n{}rules:\n{}", parts.events, parts.rules).unwrap();
    text
}

/// A record of the stream, as it is read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) record: Record,
}

impl Read {
    pub(crate) fn seen(&self) -> Observed<'_> {
        Observed {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            record: &self.record,
        }
    }
}

/// An event as a record of its instance.
pub(crate) fn record(contract: &Contract, instance: &str, event: &Event) -> Read {
    let declared = contract.events.iter().find(|one| one.name == event.name);
    let topic = declared.map_or("t0", |event| &event.topic).to_owned();
    let mut headers = vec![
        ("ce_type", event.name.clone()),
        ("ce_id", event.id.clone()),
        ("ce_correlationid", instance.to_owned()),
    ];
    if let Some(from) = declared.and_then(|event| event.from.clone()) {
        headers.push(("ce_source", from));
    }
    let partition = instance.bytes().map(u64::from).sum::<u64>() % PARTITIONS;
    Read {
        topic,
        partition: i32::try_from(partition).unwrap(),
        offset: 0,
        record: Record {
            timestamp: Timestamp::from_millis(event.at),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.into(), Some(value.into())))
                .collect(),
            ..Record::default()
        },
    }
}

/// All records of several instances in the order in which they are read: each topic and partition in
/// its own order, and all of them out of step with each other.
pub(crate) fn stream(dice: &mut Dice, mut all: Vec<Read>) -> Vec<Read> {
    // Some messages are delivered again.
    for index in 0..all.len() {
        if dice.one_in(10) {
            let mut again = all[index].clone();
            let later = Duration::from_millis(dice.below(5_000));
            again.record.timestamp = again.record.timestamp.after(later);
            all.push(again);
        }
    }
    all.sort_by_key(|read| read.record.timestamp);
    let mut places: Vec<(String, i32, i64, i64)> = Vec::new();
    let mut timed: Vec<(i64, Read)> = Vec::new();
    for mut read in all {
        let mine = |place: &&mut (String, i32, i64, i64)| {
            place.0 == read.topic && place.1 == read.partition
        };
        if !places
            .iter()
            .any(|place| place.0 == read.topic && place.1 == read.partition)
        {
            places.push((read.topic.clone(), read.partition, 0, 0));
        }
        let place = places.iter_mut().find(mine).unwrap();
        read.offset = place.2;
        place.2 += 1;
        let late = i64::try_from(dice.below(3_000)).unwrap();
        place.3 = place.3.max(read.record.timestamp.as_millis() + late);
        timed.push((place.3, read));
    }
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, read)| read).collect()
}

/// Reads a stream: everything before the earliest record that is still to come was read.
pub(crate) fn watch(monitor: &mut Monitor, stream: &[Read]) {
    let mut earliest = i64::MAX;
    let mut reached: Vec<i64> = stream
        .iter()
        .rev()
        .map(|read| {
            let was = earliest;
            earliest = earliest.min(read.record.timestamp.as_millis());
            was
        })
        .collect();
    reached.reverse();
    for (read, reached) in stream.iter().zip(reached) {
        monitor.observe(&read.seen());
        if reached != i64::MAX {
            monitor.tick(Timestamp::from_millis(reached));
        }
    }
    let last = stream.iter().map(|read| read.record.timestamp).max();
    monitor.tick(last.unwrap_or(Timestamp::ZERO));
}

/// Lets time pass until `end`, stopping whenever the monitor wants to.
pub(crate) fn pass(monitor: &mut Monitor, end: i64) {
    let end = Timestamp::from_millis(end);
    while let Some(due) = monitor.due().filter(|due| *due < end) {
        monitor.tick(due);
    }
    monitor.tick(end);
}
