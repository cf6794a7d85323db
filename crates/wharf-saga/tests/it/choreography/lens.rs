//! The lens: live sagas out of traffic.

use std::time::Duration;

use wharf_message::Timestamp;
use wharf_saga::choreography::contract::draw::Drawing;
use wharf_saga::choreography::lens::{Limits, OTHER};
use wharf_saga::choreography::{Correlation, Lens};

use super::world::{Dice, Read, World, record};

const MINUTE: i64 = 60_000;

fn lens(limits: Limits) -> Lens {
    Lens::new(Correlation::default(), limits)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A record by hand: type, id, correlation, cause, time.
fn plain(event: &str, id: &str, saga: &str, cause: Option<&str>, millis: i64) -> Read {
    let mut headers = vec![
        ("ce_type", event),
        ("ce_id", id),
        ("ce_correlationid", saga),
    ];
    headers.extend(cause.map(|cause| ("ce_causationid", cause)));
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name, Some(value.to_owned().into())));
    Read {
        topic: "t".to_owned(),
        partition: 0,
        offset: millis,
        record: wharf_message::ledger::Record {
            timestamp: at(millis),
            headers: headers
                .map(|(name, value): (&str, _)| (name.to_owned().into(), value))
                .collect(),
            ..Default::default()
        },
    }
}

#[test]
fn what_follows_what_is_mined_with_its_counts_and_times() {
    let mut lens = lens(Limits::default());
    for number in 0..200_i64 {
        let id = |name: &str| format!("{name}-{number}");
        let saga = format!("saga-{number}");
        let start = number * 1_000;
        let mut seen = vec![plain("placed", &id("p"), &saga, None, start)];
        seen.push(plain(
            "stocked",
            &id("s"),
            &saga,
            Some(&id("p")),
            start + 20,
        ));
        // Caused by the first, although the other came between.
        seen.push(plain("paid", &id("m"), &saga, Some(&id("p")), start + 100));
        if number == 7 {
            seen.push(plain(
                "refunded",
                &id("r"),
                &saga,
                Some(&id("m")),
                start + 400,
            ));
        } else if number != 13 {
            seen.push(plain(
                "shipped",
                &id("x"),
                &saga,
                Some(&id("m")),
                start + 200,
            ));
        }
        for read in seen {
            assert!(lens.observe(&read.seen(), at(start + 500)));
        }
    }
    lens.tick(at(10_000_000));
    let kinds = lens.kinds();
    assert_eq!(
        (kinds.len(), kinds[0].saga.as_str(), kinds[0].instances),
        (1, "placed", 200)
    );
    let graph = lens.graph("placed").unwrap();
    let edge = |from: &str, to: &str| {
        graph
            .edges
            .iter()
            .find(|edge| edge.from == from && edge.to == to)
            .unwrap()
    };
    assert_eq!(edge("placed", "stocked").count, 200);
    assert!((19..=21).contains(&edge("placed", "stocked").p50_ms));
    assert!((97..=103).contains(&edge("placed", "paid").p99_ms));
    assert!(!edge("paid", "shipped").is_rare);
    assert!(edge("paid", "refunded").is_rare);
    assert!((edge("paid", "shipped").percent - 99.0).abs() < 0.01);
    let missing = &graph.missing;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(
        (missing[0].after.as_str(), missing[0].instances),
        ("paid", 1)
    );
    assert_eq!(missing[0].usually, ["shipped", "refunded"]);
    assert_eq!(missing[0].examples, ["saga-13"]);
    insta::assert_snapshot!(Drawing::of_graph(&graph).mermaid());
    let shown = lens.instance("saga-7").unwrap();
    let follows: Vec<Option<usize>> = shown.events.iter().map(|step| step.follows).collect();
    assert_eq!(follows, [None, Some(0), Some(0), Some(2)]);
    assert!(shown.is_at_rest);
    assert_eq!(lens.graph("nothing"), None);
}

#[test]
fn the_graph_is_the_same_in_whatever_order_topics_are_read() {
    for seed in 0..30 {
        let dice = &mut Dice(seed);
        let world = World::random(dice);
        let mut all = Vec::new();
        for number in 0..30 {
            let run = world.run(dice, number, MINUTE);
            let instance = format!("order-{number}");
            all.extend(run.events.iter().enumerate().map(|(place, event)| {
                let mut read = record(&world.contract, &instance, event);
                read.offset = i64::try_from(number * 1_000 + place).unwrap();
                read
            }));
        }
        let shown = |all: &[Read]| {
            let mut lens = lens(Limits::default());
            for read in all {
                lens.observe(&read.seen(), at(MINUTE));
                lens.observe(&read.seen(), at(MINUTE));
            }
            lens.tick(at(MINUTE * 60));
            let kinds = lens.kinds();
            let graphs: Vec<_> = kinds
                .iter()
                .map(|kind| lens.graph(&kind.saga).unwrap())
                .collect();
            let graphs: Vec<_> = graphs
                .into_iter()
                .map(|mut graph| {
                    // The examples are by when they were read.
                    graph
                        .missing
                        .iter_mut()
                        .for_each(|missing| missing.examples.clear());
                    graph
                })
                .collect();
            (kinds, graphs)
        };
        let one = shown(&all);
        for index in (1..all.len()).rev() {
            all.swap(index, dice.index(index + 1));
        }
        assert_eq!(shown(&all), one, "seed {seed}");
    }
}

#[test]
fn what_nothing_correlates_is_counted_and_what_comes_again_changes_nothing() {
    let mut lens = lens(Limits::default());
    let mut stray = plain("placed", "1", "", None, 0);
    stray.record.headers.truncate(2);
    assert!(!lens.observe(&stray.seen(), at(0)));
    let read = plain("placed", "1", "s", None, 0);
    lens.observe(&read.seen(), at(0));
    let mut again = read.clone();
    again.offset = 7;
    lens.observe(&again.seen(), at(1));
    let dropped = lens.dropped();
    assert_eq!((dropped.uncorrelated, dropped.redelivered), (1, 1));
    assert_eq!(lens.graph("placed").unwrap().events[0].count, 1);
}

#[test]
fn nothing_grows_beyond_its_limit_and_what_is_let_go_of_is_counted() {
    let limits = Limits {
        instances_max: 20,
        events_max: 5,
        names_max: 30,
        kinds_max: 4,
        edges_max: 6,
        idle: Duration::from_secs(1),
    };
    let mut lens = lens(limits);
    let dice = &mut Dice(3);
    for number in 0..5_000_i64 {
        let (event, saga) = (
            format!("e{}", dice.below(60)),
            format!("s{}", dice.below(100)),
        );
        let read = plain(&event, &number.to_string(), &saga, None, number);
        lens.observe(&read.seen(), at(number * 5));
        assert!(lens.instances_len() <= 20);
    }
    assert!(lens.kinds().len() <= 5);
    for kind in lens.kinds() {
        assert!(kind.edges <= 6 && kind.events <= 30, "{kind:?}");
    }
    assert!(lens.graph(OTHER).is_some());
    let dropped = lens.dropped();
    let all = [
        dropped.instances,
        dropped.events,
        dropped.names,
        dropped.kinds,
    ];
    assert!(all.iter().all(|count| *count > 0), "{dropped:?}");
}

#[test]
fn an_instance_rests_when_nothing_comes_and_wakes_when_something_does() {
    let mut lens = lens(Limits::default());
    lens.observe(&plain("placed", "1", "s", None, 0).seen(), at(0));
    lens.tick(at(600_000));
    assert!(!lens.instance("s").unwrap().is_at_rest);
    lens.tick(at(600_001));
    assert!(lens.instance("s").unwrap().is_at_rest);
    assert_eq!(lens.graph("placed").unwrap().events[0].ends, 1);
    lens.observe(&plain("paid", "2", "s", None, 700_000).seen(), at(700_000));
    assert!(!lens.instance("s").unwrap().is_at_rest);
    let graph = lens.graph("placed").unwrap();
    assert_eq!(graph.events.iter().map(|event| event.ends).sum::<u64>(), 0);
    assert_eq!(lens.instances(Some("placed"), 10).len(), 1);
    assert_eq!(lens.instances(Some("paid"), 10).len(), 0);
}
