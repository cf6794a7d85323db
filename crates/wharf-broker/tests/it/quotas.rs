//! Quotas as durable state: what power loss and restarts leave, and what those who change them at
//! the same time do to each other.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_broker::{ErrorKind, QuotaEntity, QuotaEntry, QuotaKey, QuotaName};

use crate::support::{World, client};

fn user(name: &str) -> QuotaEntity {
    let user = Some(QuotaName::Named(name.into()));
    QuotaEntity {
        user,
        ..QuotaEntity::default()
    }
}

fn everybody() -> QuotaEntity {
    QuotaEntity {
        user: Some(QuotaName::Default),
        ..QuotaEntity::default()
    }
}

fn change(world: &World, entity: QuotaEntity, key: QuotaKey, value: Option<f64>) {
    let (broker, changes) = (world.broker.clone(), [(key.name().to_owned(), value)]);
    let altered = async move {
        broker
            .alter_quotas(&client(), &entity, &changes, false)
            .await
    };
    world.run(altered).unwrap();
}

fn entry(entity: QuotaEntity, values: &[(QuotaKey, f64)]) -> QuotaEntry {
    QuotaEntry {
        entity,
        values: BTreeMap::from_iter(values.iter().copied()),
    }
}

const PRODUCE: QuotaKey = QuotaKey::ProducerByteRate;
const FETCH: QuotaKey = QuotaKey::ConsumerByteRate;

#[test]
fn quotas_survive_power_loss_and_restarts_and_what_was_removed_stays_removed() {
    let world = World::new();
    change(&world, user("alice"), PRODUCE, Some(10.0));
    change(&world, user("bob"), FETCH, Some(20.5_f64.floor()));
    change(&world, user("bob"), PRODUCE, Some(30.0));
    change(&world, user("alice"), PRODUCE, None);
    let expected = [entry(user("bob"), &[(PRODUCE, 30.0), (FETCH, 20.0)])];
    assert_eq!(world.broker.quotas(&client()), expected);
    let world = world.lose_power();
    assert_eq!(world.broker.quotas(&client()), expected);
    let world = world.restart();
    assert_eq!(world.broker.quotas(&client()), expected);
    assert!(world.broker.has_quotas());
    change(&world, user("bob"), PRODUCE, None);
    change(&world, user("bob"), FETCH, None);
    assert!(!world.restart().broker.has_quotas());
}

#[test]
fn a_quota_holds_only_once_it_is_durable() {
    let world = World::new();
    world.hold_commits(true);
    let broker = world.broker.clone();
    let running = world.start(async move {
        let changes = [(PRODUCE.name().to_owned(), Some(1.0))];
        broker
            .alter_quotas(&client(), &everybody(), &changes, false)
            .await
    });
    world.settle();
    assert!(!running.is_done() && !world.broker.has_quotas());
    world.hold_commits(false);
    world.finish(&running).unwrap();
    assert!(world.broker.has_quotas());
}

#[test]
fn changes_of_one_entity_at_the_same_time_all_count() {
    let world = World::new();
    world.hold_commits(true);
    let start = |key: QuotaKey| {
        let broker = world.broker.clone();
        world.start(async move {
            let changes = [(key.name().to_owned(), Some(7.0))];
            broker
                .alter_quotas(&client(), &everybody(), &changes, false)
                .await
        })
    };
    let running = [start(PRODUCE), start(FETCH)];
    world.settle();
    world.hold_commits(false);
    for one in &running {
        world.finish(one).unwrap();
    }
    let expected = [entry(everybody(), &[(PRODUCE, 7.0), (FETCH, 7.0)])];
    assert_eq!(world.broker.quotas(&client()), expected);
}

#[test]
fn a_changed_quota_counts_at_once_and_setting_the_clock_changes_nothing() {
    let world = World::new();
    change(&world, everybody(), PRODUCE, Some(100.0));
    let charge = |amount| world.broker.charge(&client(), PRODUCE, amount);
    assert_eq!(charge(300.0), Duration::from_secs(2));
    world.jump_clock(-86_400_000);
    assert_eq!(charge(0.0), Duration::from_secs(2));
    change(&world, everybody(), PRODUCE, Some(1000.0));
    assert_eq!(charge(0.0), Duration::from_millis(200));
    world.advance(Duration::from_millis(200));
    assert_eq!(charge(0.0), Duration::ZERO);
    change(&world, everybody(), PRODUCE, None);
    assert_eq!(charge(1e12), Duration::ZERO);
}

#[test]
fn connections_that_come_too_early_are_turned_away_until_it_is_time() {
    let world = World::new();
    let address = |text: &str| text.parse().unwrap();
    assert_eq!(
        world.broker.charge_connection(address("127.0.0.1")),
        Duration::ZERO
    );
    let each = QuotaEntity {
        ip: Some(QuotaName::Default),
        ..QuotaEntity::default()
    };
    change(&world, each, QuotaKey::ConnectionCreationRate, Some(2.0));
    let mut waits = Vec::new();
    for _ in 0..4 {
        waits.push(
            world
                .broker
                .charge_connection(address("127.0.0.1"))
                .as_millis(),
        );
    }
    assert_eq!(
        waits,
        [0, 0, 500, 500],
        "whoever is turned away is not counted"
    );
    // The same address in another writing shares; another one does not.
    assert_eq!(
        world
            .broker
            .charge_connection(address("::ffff:127.0.0.1"))
            .as_millis(),
        500
    );
    assert_eq!(
        world.broker.charge_connection(address("127.0.0.2")),
        Duration::ZERO
    );
    world.advance(Duration::from_millis(500));
    assert_eq!(
        world.broker.charge_connection(address("127.0.0.1")),
        Duration::ZERO
    );
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let world = World::new();
    let broker = world.broker.clone();
    let refused = world.run(async move {
        let changes = [
            (PRODUCE.name().to_owned(), Some(1.0)),
            ("controller_mutation_rate".to_owned(), Some(1.0)),
        ];
        broker
            .alter_quotas(&client(), &everybody(), &changes, false)
            .await
    });
    assert_eq!(refused.unwrap_err().kind, ErrorKind::InvalidRequest);
    assert!(!world.broker.has_quotas());
}
