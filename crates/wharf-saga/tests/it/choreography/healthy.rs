//! No false alarm on healthy instances, and every fault found in time.

use wharf_message::Timestamp;
use wharf_saga::choreography::contract::check::check;
use wharf_saga::choreography::contract::{End, Expect};
use wharf_saga::choreography::verdict::{Change, Kind, Limits};
use wharf_saga::choreography::{Contract, Monitor};

use super::SHOP;
use super::world::{Dice, Event, REORDER, Read, Run, WITHIN, World, pass, record, stream, watch};

const INSTANCES: usize = 100_000;
const WORLDS: u64 = 250;
const MINUTE: i64 = 60_000;

fn monitor(contract: &Contract) -> Monitor {
    Monitor::new(contract.clone(), Limits::default())
}

fn reads(world: &World, number: usize, run: &Run) -> Vec<Read> {
    let instance = format!("order-{number}");
    run.events
        .iter()
        .map(|event| record(&world.contract, &instance, event))
        .collect()
}

#[test]
fn a_hundred_thousand_healthy_instances_and_no_false_stuck() {
    let (mut completed, mut compensated) = (0, 0);
    let each = INSTANCES / usize::try_from(WORLDS).unwrap();
    for seed in 0..WORLDS {
        let dice = &mut Dice(seed);
        let world = World::random(dice);
        assert_eq!(check(&world.contract), [], "seed {seed}\n{}", world.text);
        let mut all = Vec::new();
        let mut expected = Vec::new();
        for number in 0..each {
            let start = MINUTE + i64::try_from(dice.below(60_000)).unwrap();
            let run = world.run(dice, number, start);
            all.extend(reads(&world, number, &run));
            expected.push(if run.has_failed {
                Kind::Compensated
            } else {
                Kind::Completed
            });
        }
        let mut monitor = monitor(&world.contract);
        let stream = stream(dice, all);
        watch(&mut monitor, &stream);
        let end = stream
            .iter()
            .map(|read| read.record.timestamp.as_millis())
            .max()
            .unwrap();
        pass(&mut monitor, end + 5 * MINUTE);
        for change in monitor.take_changes() {
            let context = || show(&world, &stream, &change);
            assert!(
                !change.verdict.verdict.is_bad(),
                "seed {seed}: {}",
                context()
            );
        }
        for (number, expected) in expected.into_iter().enumerate() {
            let id = format!("order-{number}");
            let verdict = monitor.verdict(&id).map(|verdict| verdict.verdict);
            assert_eq!(verdict, Some(expected), "seed {seed}, {id}\n{}", world.text);
            match expected {
                Kind::Completed => completed += 1,
                _ => compensated += 1,
            }
        }
    }
    assert_eq!(completed + compensated, INSTANCES);
    assert!(compensated > INSTANCES / 10, "{compensated}");
}

fn show(world: &World, stream: &[Read], change: &Change) -> String {
    let mut text = format!("{change:?}\n{}", world.text);
    for read in stream {
        let seen = read.seen();
        if seen.header("ce_correlationid") == Some(&change.instance) {
            let at = read.record.timestamp;
            text.push_str(&format!("{at} {} {:?}\n", seen.event(), seen.id()));
        }
    }
    text
}

/// The verdict of one instance at a moment, and when it became bad.
fn judged(world: &World, dice: &mut Dice, run: &Run, until: i64) -> (Kind, Vec<Change>) {
    let mut monitor = monitor(&world.contract);
    let stream = stream(dice, reads(world, 0, run));
    watch(&mut monitor, &stream);
    pass(&mut monitor, until);
    let changes = monitor.take_changes();
    (monitor.verdict("order-0").unwrap().verdict, changes)
}

/// Random runs, changed by `spoil`, which says what is to be found and when it is due.
fn every_fault_is_found(
    mut spoil: impl FnMut(&World, &mut Dice, &mut Run) -> Option<(Vec<Kind>, i64)>,
) {
    let mut found = 0;
    for seed in 0..3_000 {
        let dice = &mut Dice(seed);
        let world = World::random(dice);
        let mut run = world.run(dice, 0, MINUTE);
        let healthy = run.clone();
        let Some((kinds, due)) = spoil(&world, dice, &mut run) else {
            continue;
        };
        let (kind, changes) = judged(&world, dice, &run, due + 1_000);
        assert!(
            kinds.contains(&kind),
            "seed {seed}: {kind} instead of {kinds:?}\n{}\n{:#?}\nspoilt: {:#?}\n{changes:#?}",
            world.text,
            healthy.events,
            run.events,
        );
        found += 1;
    }
    assert!(found > 500, "{found}");
}

/// Without an event, and everything that came of it.
fn cut(run: &mut Run, index: usize) {
    let mut gone = vec![false; run.events.len()];
    gone[index] = true;
    for (number, event) in run.events.iter().enumerate() {
        gone[number] |= event.cause.is_some_and(|cause| gone[cause]);
    }
    let mut gone = gone.into_iter();
    run.events.retain(|_| !gone.next().unwrap());
}

#[test]
fn an_event_that_never_came_is_found_within_its_deadline_and_a_second() {
    every_fault_is_found(|world, dice, run| {
        if run.has_failed {
            return None;
        }
        let index = 1 + dice.index(run.events.len() - 1);
        let name = run.events[index].name.clone();
        // Whatever waits for it: it is due when the last of those is over.
        let rules = world.contract.rules.iter();
        let waits = rules.filter(|rule| {
            rule.events()
                .iter()
                .any(|event| world.contract.event(*event) == name)
        });
        let on: Vec<&str> = waits.map(|rule| world.contract.event(rule.on)).collect();
        cut(run, index);
        let waiting = run
            .events
            .iter()
            .filter(|event| on.contains(&event.name.as_str()));
        let due = waiting.map(|event| event.at + WITHIN).max()?;
        Some((
            vec![Kind::Stuck, Kind::Diverged],
            due.max(run.events.iter().map(|event| event.at).max()? + REORDER),
        ))
    });
}

#[test]
fn an_undo_that_never_came_is_found_as_half_compensated_within_its_deadline_and_a_second() {
    every_fault_is_found(|_, dice, run| {
        let undos: Vec<usize> = (0..run.events.len())
            .filter(|index| run.events[*index].name.ends_with("-undone"))
            .collect();
        if undos.is_empty() {
            return None;
        }
        let index = undos[dice.index(undos.len())];
        let last = run.events.iter().map(|event| event.at).max()?;
        run.events.remove(index);
        // Where it was the only one, nothing is undone yet and all is absent.
        let kind = if undos.len() > 1 {
            Kind::HalfCompensated
        } else {
            Kind::Stuck
        };
        Some((vec![kind], last + WITHIN))
    });
}

#[test]
fn an_effect_that_happened_twice_is_found_within_a_second() {
    every_fault_is_found(|_, dice, run| {
        let mut again: Event = run.events[dice.index(run.events.len())].clone();
        let repeats = |event: &Event| {
            run.events
                .iter()
                .any(|one| one.name == format!("{}-again", event.name.trim_end_matches("-again")))
        };
        if repeats(&again) {
            return None;
        }
        again.id = "the-second".to_owned();
        again.at += i64::try_from(dice.below(2_000)).unwrap();
        let due = again.at + REORDER;
        let end = run.events.iter().map(|event| event.at).max()?;
        run.events.push(again);
        Some((vec![Kind::Duplicated], due.max(end)))
    });
}

#[test]
fn an_event_that_is_not_allowed_is_found_within_a_second() {
    every_fault_is_found(|world, dice, run| {
        let name = match run.has_failed {
            true => "finished".to_owned(),
            false => {
                let failures = world
                    .contract
                    .events
                    .iter()
                    .filter(|event| event.name.ends_with("-failed"));
                let failures: Vec<&str> = failures.map(|event| event.name.as_str()).collect();
                if failures.is_empty() {
                    return None;
                }
                failures[dice.index(failures.len())].to_owned()
            }
        };
        let done = name.trim_end_matches("-failed").to_owned();
        if run
            .events
            .iter()
            .any(|event| event.name == format!("{done}-again"))
        {
            return None;
        }
        let last = run.events.iter().map(|event| event.at).max()?;
        let at = last + i64::try_from(dice.below(2_000)).unwrap();
        run.events.push(Event {
            name,
            at,
            id: "wrong".to_owned(),
            cause: None,
        });
        Some((vec![Kind::Diverged], at + REORDER))
    });
}

#[test]
fn an_undo_of_what_was_never_done_is_found_within_a_second() {
    every_fault_is_found(|world, dice, run| {
        let contract = &world.contract;
        let never = contract.events.iter().filter(|event| {
            let undoes = event.undoes.map(|done| contract.event(done));
            undoes.is_some_and(|done| run.events.iter().all(|event| event.name != done))
        });
        let never: Vec<String> = never.map(|event| event.name.clone()).collect();
        if never.is_empty() {
            return None;
        }
        let name = never[dice.index(never.len())].clone();
        let last = run.events.iter().map(|event| event.at).max()?;
        run.events.push(Event {
            name,
            at: last,
            id: "orphan".to_owned(),
            cause: None,
        });
        Some((vec![Kind::Orphan], last + REORDER))
    });
}

#[test]
fn the_verdict_is_the_same_in_whatever_order_topics_are_read() {
    for seed in 0..300 {
        let dice = &mut Dice(seed);
        let world = World::random(dice);
        let run = world.run(dice, 0, MINUTE);
        let mut all = reads(&world, 0, &run);
        let spoilt = dice.index(all.len());
        if dice.one_in(2) {
            all.remove(spoilt);
        }
        let verdict = |all: &[Read]| {
            let mut monitor = monitor(&world.contract);
            for read in all {
                monitor.observe(&read.seen());
            }
            monitor.tick(Timestamp::from_millis(MINUTE * 10));
            monitor.verdict("order-0").cloned()
        };
        let one = verdict(&all);
        for _ in 0..5 {
            for index in (1..all.len()).rev() {
                all.swap(index, dice.index(index + 1));
            }
            assert_eq!(verdict(&all), one, "seed {seed}\n{}", world.text);
        }
    }
}

#[test]
fn the_shops_contract_is_sound() {
    let contract = Contract::parse(SHOP).unwrap();
    assert_eq!(check(&contract), []);
    assert_eq!(
        contract.groups(),
        ["inventory", "order", "payment", "shipping"]
    );
    let ends = contract.events.iter().filter_map(|event| event.end);
    let ends: Vec<End> = ends.collect();
    assert_eq!(ends, [End::Completed, End::Compensated, End::Compensated]);
    assert!(
        contract
            .rules
            .iter()
            .any(|rule| matches!(rule.expect, Expect::AllOf(_)))
    );
}
