//! Which schedules are tried: first each fault on every message, then seeded mixtures.

use std::collections::BTreeMap;

use wharf_message::{Message, header};

use super::fault::{Fault, Faults};
use super::judge::Options;
use super::schedule::{Point, Schedule, Step, Twist};

/// Other orders that are tried for themselves.
const ORDERS: u64 = 3;
/// A duplicate after at most so many different other messages is near, one after more is late.
pub(super) const NEAR: usize = 2;

/// A schedule, and what it is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) class: &'static str,
    pub(super) schedule: Schedule,
}

impl Trial {
    fn new(class: &'static str, schedule: Schedule) -> Self {
        Self {
            class,
            schedule: schedule.repair(),
        }
    }

    /// Leaves out what kills the consumer more often.
    fn kill_at_most(&mut self, crashes_max: usize) {
        let mut crashes = 0;
        let mut schedule = std::mem::take(&mut self.schedule);
        schedule.steps.retain(|step| {
            crashes += usize::from(step.kills());
            !step.kills() || crashes <= crashes_max
        });
        self.schedule = schedule.repair();
    }
}

/// A step in which a message comes again.
type Again = fn(usize) -> Step;

/// The ways in which a message comes again.
fn again(faults: Faults) -> impl Iterator<Item = (Fault, Again)> {
    let ways = [
        (Fault::Repeat, Step::deliver as Again),
        (Fault::Copy, Step::copy),
    ];
    ways.into_iter()
        .filter(move |(fault, _)| faults.has(*fault))
}

/// All that is tried, in order: what fails soonest and is explained shortest comes first.
pub(super) fn plan(messages: &[Message], faults: Faults, options: &Options) -> Vec<Trial> {
    let seed = options.seed;
    let mut trials = alike(messages);
    trials.extend(soon(messages, faults));
    trials.extend(killed(messages.len(), faults, options.waits));
    for (fault, within) in [(Fault::Reorder, false), (Fault::ReorderWithinKey, true)] {
        for order in (0..ORDERS).filter(|_| faults.has(fault)) {
            let mut random = Random::new(seed, order);
            let order = shuffled(messages, within, &mut random);
            trials.push(Trial::new(fault.name(), Schedule::golden(&order)));
        }
    }
    for run in 0..options.runs {
        let mut random = Random::new(seed, ORDERS + run as u64);
        let schedule = mixture(messages, faults, options.waits, &mut random);
        trials.push(Trial::new("all of it mixed", schedule));
    }
    trials.extend(late(messages.len(), faults));
    trials
        .iter_mut()
        .for_each(|trial| trial.kill_at_most(options.crashes_max));
    trials
}

/// Messages that look alike are made to differ.
fn alike(messages: &[Message]) -> Vec<Trial> {
    let all: Vec<usize> = (0..messages.len()).collect();
    let twists = [Twist::PayloadsApart, Twist::IdsApart].into_iter();
    let found = twists.filter(|twist| !twisted(messages, *twist).is_empty());
    let trial = |twist| {
        let steps = Schedule::golden(&all).steps;
        Trial::new(
            "different messages stay different",
            Schedule {
                twist: Some(twist),
                steps,
            },
        )
    };
    found.map(trial).collect()
}

/// Every message again, at once and after a few others.
fn soon(messages: &[Message], faults: Faults) -> Vec<Trial> {
    let all: Vec<usize> = (0..messages.len()).collect();
    let mut trials = Vec::new();
    for (fault, again) in again(faults) {
        for distance in 0..=NEAR {
            trials.push(Trial::new(fault.name(), echo(&all, distance, again)));
        }
        trials.push(Trial::new(fault.name(), overtaken(messages, again)));
    }
    trials
}

/// The consumer is killed at every message, or is not alone.
fn killed(messages: usize, faults: Faults, waits: u32) -> Vec<Trial> {
    let all: Vec<usize> = (0..messages).collect();
    let mut schedules = Vec::new();
    for point in [Point::After, Point::Before] {
        schedules.push((Fault::Crash, crashes(&all, point)));
    }
    for wait in 1..=waits {
        schedules.push((Fault::Midway, crashes(&all, Point::Midway(wait))));
    }
    schedules.push((
        Fault::Race,
        Schedule::of(all.iter().copied().map(Step::race).collect()),
    ));
    for back in [1, NEAR + 1, all.len()] {
        schedules.push((Fault::Rewind, after_all(&all, &[Step::Rewind(back)])));
    }
    for (_, again) in again(faults) {
        let steps = all
            .iter()
            .flat_map(|&one| [Step::deliver(one), Step::Restart, again(one)]);
        schedules.push((Fault::Restart, Schedule::of(steps.collect())));
    }
    let allowed = schedules
        .into_iter()
        .filter(|(fault, _)| faults.has(*fault));
    allowed
        .map(|(fault, schedule)| Trial::new(fault.name(), schedule))
        .collect()
}

/// Every message again after all the others, and after the window.
fn late(messages: usize, faults: Faults) -> Vec<Trial> {
    let all: Vec<usize> = (0..messages).collect();
    let mut trials = Vec::new();
    for (fault, again) in again(faults) {
        let name = if fault == Fault::Copy {
            "late producer's retry"
        } else {
            "late redelivery"
        };
        let duplicates: Vec<Step> = all.iter().copied().map(again).collect();
        trials.push(Trial::new(name, after_all(&all, &duplicates)));
        let backwards: Vec<Step> = all.iter().rev().copied().map(again).collect();
        trials.push(Trial::new(name, after_all(&all, &backwards)));
        if faults.has(Fault::Window) {
            let later = [&[Step::Window], &duplicates[..]].concat();
            trials.push(Trial::new(Fault::Window.name(), after_all(&all, &later)));
        }
    }
    trials
}

/// Whether a schedule has no fault but these: no step that is one, and no other order.
pub(super) fn permits(messages: &[Message], faults: Faults, schedule: &Schedule) -> bool {
    let mut first: Vec<usize> = Vec::new();
    for message in schedule.steps.iter().filter_map(|step| step.message()) {
        if first.contains(&message) {
            continue;
        }
        let passed = first.iter().filter(|earlier| **earlier > message);
        let mut same_key = passed
            .clone()
            .filter(|one| messages[**one].key == messages[message].key);
        let within = same_key.next().is_none() || faults.has(Fault::ReorderWithinKey);
        let across = passed.count() == 0
            || faults.has(Fault::Reorder)
            || faults.has(Fault::ReorderWithinKey);
        if !within || !across {
            return false;
        }
        first.push(message);
    }
    schedule.needs().into_iter().all(|fault| faults.has(fault))
}

/// Each message again after `distance` others.
fn echo(all: &[usize], distance: usize, again: Again) -> Schedule {
    let mut steps = Vec::new();
    for at in 0..all.len() + distance {
        steps.extend(all.get(at).map(|&one| Step::deliver(one)));
        steps.extend(
            at.checked_sub(distance)
                .and_then(|at| all.get(at))
                .map(|&one| again(one)),
        );
    }
    Schedule::of(steps)
}

/// Each message again after the next one of its key.
fn overtaken(messages: &[Message], again: Again) -> Schedule {
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        steps.push(Step::deliver(at));
        let key = message.key.as_deref().unwrap_or_default();
        steps.extend(last.insert(key, at).map(again));
    }
    Schedule::of(steps)
}

fn crashes(all: &[usize], point: Point) -> Schedule {
    let steps = all
        .iter()
        .flat_map(|&one| [Step::crash(one, point), Step::deliver(one)]);
    Schedule::of(steps.collect())
}

fn after_all(all: &[usize], steps: &[Step]) -> Schedule {
    let mut schedule = Schedule::golden(all);
    schedule.steps.extend_from_slice(steps);
    schedule
}

/// Another order: any, or one that keeps each key's.
fn shuffled(messages: &[Message], within_keys: bool, random: &mut Random) -> Vec<usize> {
    let mut queues: BTreeMap<&[u8], std::collections::VecDeque<usize>> = BTreeMap::new();
    for (at, message) in messages.iter().enumerate() {
        queues
            .entry(message.key.as_deref().unwrap_or_default())
            .or_default()
            .push_back(at);
    }
    let mut queues: Vec<_> = if within_keys {
        (0..messages.len()).map(|at| [at].into()).collect()
    } else {
        queues.into_values().collect()
    };
    let mut order = Vec::with_capacity(messages.len());
    while !queues.is_empty() {
        let chosen = random.below(queues.len());
        order.extend(queues[chosen].pop_front());
        if queues[chosen].is_empty() {
            queues.swap_remove(chosen);
        }
    }
    order
}

/// Everything that is allowed, at random.
fn mixture(messages: &[Message], faults: Faults, waits: u32, random: &mut Random) -> Schedule {
    let mut order: Vec<usize> = (0..messages.len()).collect();
    if faults.has(Fault::ReorderWithinKey) && random.one_in(2) {
        order = shuffled(messages, true, random);
    } else if faults.has(Fault::Reorder) && random.one_in(2) {
        order = shuffled(messages, false, random);
    }
    let mut steps = Vec::new();
    for message in order {
        if faults.has(Fault::Crash) && random.one_in(6) {
            let points = [Point::After, Point::Before];
            steps.push(Step::crash(message, points[random.below(points.len())]));
        }
        if faults.has(Fault::Midway) && waits > 0 && random.one_in(4) {
            let wait = 1 + random.below(waits as usize) as u32;
            steps.push(Step::crash(message, Point::Midway(wait)));
        }
        let race = faults.has(Fault::Race) && random.one_in(6);
        steps.push(if race {
            Step::race(message)
        } else {
            Step::deliver(message)
        });
        for (fault, step, odds) in [
            (Fault::Restart, Step::Restart, 8),
            (Fault::Rewind, Step::Rewind(1 + random.below(NEAR + 1)), 8),
            (Fault::Window, Step::Window, 20),
        ] {
            if faults.has(fault) && random.one_in(odds) {
                steps.push(step);
            }
        }
    }
    let again: Vec<_> = again(faults).collect();
    for message in 0..messages.len() {
        if let Some((_, again)) = again.get(random.below(again.len().max(1)))
            && random.one_in(2)
        {
            let first = steps
                .iter()
                .rposition(|step| step.message() == Some(message));
            let first = first.map_or(0, |at| at + 1);
            let room = steps.len() - first;
            steps.insert(first + random.below(room.min(2 * NEAR) + 1), again(message));
        }
    }
    Schedule::of(steps)
}

/// The messages that a twist changes, each with a number from 1 that tells it from those that are
/// like it and came before. Duplicates of one message among them stay the same.
pub(super) fn twisted(messages: &[Message], twist: Twist) -> Vec<(usize, usize)> {
    type Texts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
    let mut alike: BTreeMap<Option<&[u8]>, Vec<Texts<'_>>> = BTreeMap::new();
    let mut changed = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let text = |name| message.headers.get(name).map(|value| &**value);
        let (id, source) = (text(header::CE_ID), text(header::CE_SOURCE));
        let payload = message.payload.as_deref();
        let is_json = |bytes| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
        let (common, own) = match twist {
            Twist::PayloadsApart if payload.is_some_and(is_json) => (payload, (id, source)),
            Twist::IdsApart => (id, (source, None)),
            Twist::PayloadsApart => continue,
        };
        if id.is_none() {
            continue;
        }
        let known = alike.entry(common).or_default();
        let number = known.iter().position(|one| *one == own).unwrap_or_else(|| {
            known.push(own);
            known.len() - 1
        });
        if number > 0 {
            changed.push((at, number));
        }
    }
    changed
}

/// A small generator of numbers (SplitMix64): the same seed gives the same schedules everywhere.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end - 1`; `end` is at least 1.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(keys: &[&'static str]) -> Vec<Message> {
        keys.iter()
            .map(|key| Message::new("{}").with_key(*key))
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_schedules_again_and_another_gives_others() {
        let messages = messages(&["a", "b", "a", "c", "b"]);
        let plan = |seed| {
            let options = Options {
                seed,
                ..Options::new("it")
            };
            plan(&messages, Faults::all(), &options)
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
    }

    #[test]
    fn schedules_have_no_fault_that_is_not_allowed_and_settle_every_message() {
        let messages = messages(&["a", "b", "a", "c", "b"]);
        for missing in Fault::ALL {
            let faults = Faults::all().without(missing);
            for trial in plan(&messages, faults, &Options::new("it")) {
                let line = trial.schedule.to_string();
                assert_eq!(trial.schedule.clone().repair(), trial.schedule, "{line}");
                assert_eq!(trial.schedule.messages().len(), messages.len(), "{line}");
                assert!(
                    permits(&messages, faults, &trial.schedule),
                    "{line} without {missing}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_allowed_is_not_permitted() {
        let messages = messages(&["a", "b", "a"]);
        let all = Faults::all();
        for (line, missing) in [
            ("1 1", Fault::Repeat),
            ("1 1+", Fault::Copy),
            ("1x 1", Fault::Crash),
            ("1x0 1", Fault::Crash),
            ("1x3 1", Fault::Midway),
            ("1=", Fault::Race),
            ("1 restart", Fault::Restart),
            ("1 back1", Fault::Rewind),
            ("1 later", Fault::Window),
            ("3 1", Fault::ReorderWithinKey),
        ] {
            let schedule = line.parse().expect("it is a schedule");
            assert!(permits(&messages, all, &schedule), "{line}");
            assert!(
                !permits(&messages, all.without(missing), &schedule),
                "{line}"
            );
        }
        let across = "2 1".parse().expect("it is a schedule");
        let in_order = all.without(Fault::ReorderWithinKey);
        assert!(permits(&messages, in_order, &across));
        assert!(!permits(
            &messages,
            in_order.without(Fault::Reorder),
            &across
        ));
    }

    #[test]
    fn the_consumer_is_killed_no_oftener_than_it_may_be() {
        let messages = messages(&["a", "b", "a", "c", "b"]);
        let kills = |crashes_max| {
            let options = Options {
                crashes_max,
                ..Options::new("it")
            };
            let trials = plan(&messages, Faults::all(), &options).into_iter();
            let kills = trials.map(|trial| {
                trial
                    .schedule
                    .steps
                    .into_iter()
                    .filter(|step| step.kills())
                    .count()
            });
            kills.max()
        };
        assert_eq!(kills(0), Some(0));
        assert_eq!(kills(2), Some(2));
        assert!(kills(usize::MAX) > Some(2));
    }

    #[test]
    fn another_order_keeps_that_of_each_key_unless_that_is_allowed() {
        let messages = messages(&["a", "b", "a", "b", "a", "b"]);
        let in_order = |order: &[usize]| {
            let of = |odd| order.iter().filter(move |&&one| one % 2 == odd).is_sorted();
            of(0) && of(1)
        };
        let orders: Vec<_> = (0..20)
            .map(|seed| shuffled(&messages, false, &mut Random::new(seed, 0)))
            .collect();
        assert!(orders.iter().all(|order| in_order(order)));
        assert!(orders.iter().any(|order| !order.is_sorted()));
        let mut within = (0..20).map(|seed| shuffled(&messages, true, &mut Random::new(seed, 0)));
        assert!(within.any(|order| !in_order(&order)));
    }

    #[test]
    fn messages_that_look_alike_are_told_apart() {
        let message = |id: &'static str, source: &'static str, payload: &'static str| {
            Message::new(payload)
                .with_header(header::CE_ID, id)
                .with_header(header::CE_SOURCE, source)
        };
        let messages = [
            message("1", "a", "{}"),
            message("2", "a", "{}"),
            message("1", "b", "{\"n\":1}"),
            message("1", "a", "{}"),
        ];
        assert_eq!(twisted(&messages, Twist::PayloadsApart), [(1, 1)]);
        assert_eq!(twisted(&messages, Twist::IdsApart), [(2, 1)]);
    }
}
