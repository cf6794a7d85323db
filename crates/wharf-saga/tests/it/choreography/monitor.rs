//! Verdicts on the shop's orders, and the bounds of what is kept.

use std::time::Duration;

use wharf_message::Timestamp;
use wharf_saga::choreography::verdict::{Consumption, Finding, Kind, Limits, Position};
use wharf_saga::choreography::{Contract, Monitor};

use super::SHOP;
use super::world::{Event, record};

const T0: i64 = 1_000_000;

struct Shop {
    monitor: Monitor,
    contract: Contract,
    offset: i64,
}

impl Shop {
    fn new(limits: Limits) -> Self {
        let contract = Contract::parse(SHOP).unwrap();
        Self {
            monitor: Monitor::new(contract.clone(), limits),
            contract,
            offset: 0,
        }
    }

    /// An event of an order, so many milliseconds after the beginning.
    fn sees(&mut self, order: &str, name: &str, after: i64) -> Position {
        self.sees_as(order, name, after, &format!("{order}/{name}"))
    }

    fn sees_as(&mut self, order: &str, name: &str, after: i64, id: &str) -> Position {
        let event = Event {
            name: format!("shop.{name}"),
            at: T0 + after,
            id: id.to_owned(),
            cause: None,
        };
        let mut read = record(&self.contract, order, &event);
        read.offset = self.offset;
        self.offset += 1;
        assert!(self.monitor.observe(&read.seen()), "{name}");
        Position {
            topic: read.topic,
            partition: read.partition,
            offset: read.offset,
        }
    }

    fn ticks(&mut self, after: i64) {
        self.monitor.tick(Timestamp::from_millis(T0 + after));
    }

    fn kind(&self, order: &str) -> Kind {
        self.monitor.verdict(order).unwrap().verdict
    }

    fn findings(&self, order: &str) -> Vec<String> {
        let verdict = self.monitor.verdict(order).unwrap();
        verdict.findings.iter().map(ToString::to_string).collect()
    }
}

impl Default for Shop {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

const HAPPY: [&str; 6] = [
    "checkout.submitted",
    "order.placed",
    "stock.reserved",
    "payment.captured",
    "parcel.shipped",
    "order.completed",
];

#[test]
fn an_order_is_running_until_it_is_completed() {
    let mut shop = Shop::default();
    for (step, name) in (0..).zip(HAPPY) {
        shop.sees("o", name, step * 100);
        shop.ticks(step * 100);
        let expected = if step == 5 {
            Kind::Completed
        } else {
            Kind::Running
        };
        assert_eq!(shop.kind("o"), expected, "{name}");
    }
    let changes = shop.monitor.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(shop.monitor.due(), None);
    assert_eq!(shop.monitor.counts().now[&Kind::Completed], 1);
}

#[test]
fn a_declined_card_ends_compensated() {
    let mut shop = Shop::default();
    let events = [
        "checkout.submitted",
        "order.placed",
        "stock.reserved",
        "payment.declined",
        "order.rejected",
    ];
    for name in events {
        shop.sees("o", name, 0);
    }
    shop.ticks(10);
    assert_eq!(shop.kind("o"), Kind::Running);
    shop.sees("o", "stock.released", 50);
    shop.ticks(60);
    assert_eq!(shop.kind("o"), Kind::Compensated);
}

#[test]
fn a_stuck_order_says_whether_its_last_event_was_consumed() {
    let mut shop = Shop::default();
    shop.sees("o", "checkout.submitted", 0);
    let placed = shop.sees("o", "order.placed", 100);
    shop.ticks(30_100);
    assert_eq!(shop.kind("o"), Kind::Running);
    assert_eq!(
        shop.monitor.due(),
        Some(Timestamp::from_millis(T0 + 30_101))
    );
    shop.ticks(30_101);
    assert_eq!(shop.kind("o"), Kind::Stuck);
    let consumption = |shop: &Shop| match &shop.monitor.verdict("o").unwrap().findings[0] {
        Finding::Missing {
            consumption,
            expected,
            ..
        } => {
            assert_eq!(*expected, ["shop.stock.reserved", "shop.stock.unavailable"]);
            consumption.clone()
        }
        other => panic!("{other:?}"),
    };
    let group = "inventory".to_owned();
    assert_eq!(
        consumption(&shop),
        Consumption::NothingCommitted {
            group: group.clone()
        }
    );
    let Position {
        topic,
        partition,
        offset,
    } = placed;
    shop.monitor
        .committed("inventory", &topic, partition, offset);
    shop.monitor
        .committed("strangers", &topic, partition, offset + 1);
    shop.ticks(31_000);
    let committed = offset;
    assert_eq!(
        consumption(&shop),
        Consumption::NeverConsumed {
            group: group.clone(),
            committed
        }
    );
    shop.monitor
        .committed("inventory", &topic, partition, offset + 1);
    shop.ticks(32_000);
    assert_eq!(
        consumption(&shop),
        Consumption::ConsumedWithoutSuccessor { group }
    );
    insta::assert_snapshot!(shop.findings("o").join("\n"));
    // Better late than never.
    shop.sees("o", "stock.unavailable", 33_000);
    shop.sees("o", "order.rejected", 33_100);
    shop.ticks(34_000);
    assert_eq!(shop.kind("o"), Kind::Compensated);
    let kinds: Vec<Kind> = shop
        .monitor
        .take_changes()
        .iter()
        .map(|change| change.verdict.verdict)
        .collect();
    assert_eq!(
        kinds,
        [Kind::Stuck, Kind::Stuck, Kind::Stuck, Kind::Compensated]
    );
}

#[test]
fn a_half_compensated_order_lists_what_was_undone_and_what_was_not() {
    let mut shop = Shop::default();
    for name in [
        "checkout.submitted",
        "order.placed",
        "stock.reserved",
        "payment.declined",
        "order.rejected",
    ] {
        shop.sees("o", name, 0);
    }
    shop.ticks(60_001);
    assert_eq!(shop.kind("o"), Kind::HalfCompensated);
    insta::assert_snapshot!(shop.findings("o").join("\n"));
}

#[test]
fn a_charge_by_two_messages_is_duplicated_and_by_one_that_came_twice_is_not() {
    let mut shop = Shop::default();
    for name in HAPPY {
        shop.sees("once", name, 0);
        shop.sees("twice", name, 0);
    }
    shop.sees("once", "payment.captured", 500);
    shop.sees_as("twice", "payment.captured", 500, "another");
    shop.ticks(2_000);
    assert_eq!(shop.kind("once"), Kind::Completed);
    assert_eq!(shop.kind("twice"), Kind::Duplicated);
    assert_eq!(shop.monitor.dropped().redelivered, 1);
    assert!(shop.findings("twice")[0].contains("shop.payment.captured has happened again"));
}

#[test]
fn what_is_not_allowed_there_has_diverged_and_an_undo_of_nothing_is_an_orphan() {
    let mut shop = Shop::default();
    for name in ["checkout.submitted", "order.placed"] {
        shop.sees("early", name, 0);
        shop.sees("orphan", name, 0);
    }
    shop.sees("early", "parcel.shipped", 100);
    shop.sees("orphan", "stock.released", 100);
    shop.sees("unbegun", "payment.captured", 100);
    shop.ticks(1_000);
    assert_eq!(shop.kind("early"), Kind::Running, "it may only be early");
    shop.ticks(1_101);
    assert_eq!(shop.kind("early"), Kind::Diverged);
    assert_eq!(shop.kind("orphan"), Kind::Orphan);
    assert_eq!(shop.kind("unbegun"), Kind::Diverged);
    assert!(shop.findings("unbegun")[0].contains("nothing has begun the instance"));
    // What it waited for comes after all.
    shop.sees("early", "stock.reserved", 200);
    shop.sees("early", "payment.captured", 300);
    shop.ticks(1_400);
    assert_eq!(shop.kind("early"), Kind::Running);
}

#[test]
fn an_event_of_another_service_has_diverged() {
    let mut shop = Shop::default();
    let event = Event {
        name: "shop.checkout.submitted".to_owned(),
        at: T0,
        id: "1".to_owned(),
        cause: None,
    };
    for (order, source) in [("good", "/shop/storefront"), ("bad", "/shop/fraud")] {
        let mut read = record(&shop.contract, order, &event);
        read.record
            .headers
            .push(("ce_source".into(), Some(source.into())));
        shop.monitor.observe(&read.seen());
    }
    shop.ticks(1);
    assert_eq!(shop.kind("good"), Kind::Running);
    assert_eq!(shop.kind("bad"), Kind::Diverged);
    assert!(shop.findings("bad")[0].contains("it comes from /shop/fraud, and not from storefront"));
}

#[test]
fn what_begins_an_instance_may_name_it_by_its_own_id() {
    let mut shop = Shop::default();
    let mut taken = |name: &str, id: &str| {
        let event = Event {
            name: name.to_owned(),
            at: T0,
            id: id.to_owned(),
            cause: None,
        };
        let mut read = record(&shop.contract, "", &event);
        let headers = &mut read.record.headers;
        headers.retain(|(name, _)| &name[..] != b"ce_correlationid");
        shop.monitor.observe(&read.seen())
    };
    assert!(taken("shop.checkout.submitted", "o"));
    assert!(!taken("shop.order.placed", "1"), "it begins nothing");
    assert!(!taken("shop.checkout.submitted", ""), "it has no id");
    shop.sees("o", "order.placed", 100);
    shop.ticks(100);
    assert_eq!(shop.kind("o"), Kind::Running);
    assert_eq!(shop.monitor.instances_len(), 1);
    assert_eq!(shop.monitor.dropped().uncorrelated, 2);
}

#[test]
fn a_message_that_was_set_aside_is_an_event_where_the_contract_says_so() {
    let mut shop = Shop::default();
    shop.sees_as("o", "checkout.submitted", 0, "1");
    shop.ticks(50);
    assert_eq!(shop.kind("o"), Kind::Running);
    let event = Event {
        name: "shop.checkout.submitted".to_owned(),
        at: T0 + 100,
        id: "1".to_owned(),
        cause: None,
    };
    let mut letter = record(&shop.contract, "o", &event);
    "dlq.shop.checkouts.order".clone_into(&mut letter.topic);
    assert!(shop.monitor.observe(&letter.seen()));
    shop.ticks(200);
    assert_eq!(
        (shop.kind("o"), shop.findings("o")),
        (Kind::Compensated, vec![])
    );
    // Set aside and done all the same is not what the contract says.
    shop.sees("o", "order.placed", 300);
    shop.ticks(2_000);
    assert!(shop.kind("o").is_bad());
}

#[test]
fn other_events_are_ignored_unless_they_are_refused() {
    let seen = |text: &str| {
        let contract = Contract::parse(text).unwrap();
        let mut monitor = Monitor::new(contract.clone(), Limits::default());
        let event = Event {
            name: "shop.order.archived".to_owned(),
            at: T0,
            id: "1".to_owned(),
            cause: None,
        };
        let mut read = record(&contract, "o", &event);
        read.topic = "shop.orders".to_owned();
        let taken = monitor.observe(&read.seen());
        monitor.tick(Timestamp::from_millis(T0));
        (taken, monitor.verdict("o").map(|verdict| verdict.verdict))
    };
    assert_eq!(seen(SHOP), (false, None));
    assert_eq!(
        seen(&format!("{SHOP}other-events: refused\n")),
        (true, Some(Kind::Diverged))
    );
}

#[test]
fn an_instance_whose_beginning_is_no_more_there_is_not_judged() {
    let mut shop = Shop::default();
    shop.monitor.begins(Timestamp::from_millis(T0 - 10));
    shop.sees("cut", "payment.captured", 0);
    shop.sees("whole", "checkout.submitted", 0);
    shop.ticks(100_000);
    assert_eq!(shop.kind("cut"), Kind::Running);
    assert_eq!(shop.kind("whole"), Kind::Stuck);
    assert_eq!(shop.monitor.dropped().unjudged, 1);
}

#[test]
fn instances_are_bounded_and_those_that_ended_well_go_first() {
    let limits = Limits {
        instances_max: 10,
        events_max: 6,
        forgotten_max: 5,
        ..Limits::default()
    };
    let mut shop = Shop::new(limits);
    shop.sees("stuck", "checkout.submitted", 0);
    for name in HAPPY {
        shop.sees("well", name, 40_000);
    }
    shop.ticks(50_000);
    for number in 0..9 {
        shop.sees(&format!("n{number}"), "checkout.submitted", 50_000);
        shop.ticks(50_000);
    }
    assert_eq!(shop.monitor.instances_len(), 10);
    assert_eq!(shop.monitor.verdict("well"), None);
    assert_eq!(shop.kind("stuck"), Kind::Stuck);
    // A message of it that comes once more begins nothing.
    shop.sees("well", "payment.captured", 60_000);
    assert_eq!(shop.monitor.dropped().late, 1);
    for number in 0..100 {
        shop.sees(&format!("m{number}"), "checkout.submitted", 60_000);
        shop.ticks(60_000);
        for step in 0..10 {
            shop.sees_as(
                &format!("m{number}"),
                "order.placed",
                60_000 + step,
                &step.to_string(),
            );
        }
    }
    assert_eq!(shop.monitor.instances_len(), 10);
    let dropped = shop.monitor.dropped();
    assert_eq!(
        (dropped.bad, dropped.events > 0, dropped.running > 80),
        (1, true, true)
    );
}

#[test]
fn what_has_ended_is_forgotten_after_its_time() {
    let mut shop = Shop::default();
    for name in HAPPY {
        shop.sees("well", name, 0);
    }
    shop.sees("stuck", "checkout.submitted", 0);
    shop.ticks(100_000);
    assert_eq!(shop.monitor.instances_len(), 2);
    shop.ticks(i64::try_from(Duration::from_secs(601).as_millis()).unwrap());
    assert_eq!(shop.monitor.instances_len(), 1);
    shop.ticks(i64::try_from(Duration::from_secs(8 * 86_400).as_millis()).unwrap());
    assert_eq!(shop.monitor.instances_len(), 0);
    assert_eq!(shop.monitor.counts().now.values().sum::<u64>(), 0);
}

#[test]
fn one_instance_is_shown_with_its_events_and_lists_are_by_verdict() {
    let mut shop = Shop::default();
    for name in HAPPY {
        shop.sees("o", name, 0);
    }
    shop.sees("other", "checkout.submitted", 10);
    shop.ticks(40_000);
    let view = shop.monitor.instance("o").unwrap();
    assert_eq!(view.events.len(), 6);
    assert_eq!(view.summary.verdict, Kind::Completed);
    let stuck = shop.monitor.instances(Some(Kind::Stuck), 10);
    assert_eq!(stuck.len(), 1);
    assert_eq!(stuck[0].instance, "other");
    let all = shop.monitor.instances(None, 10);
    assert_eq!(all[0].instance, "other");
    assert_eq!(shop.monitor.instances(None, 1).len(), 1);
}
