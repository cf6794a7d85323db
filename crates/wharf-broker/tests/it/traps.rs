//! What other brokers have got wrong, where no other test shows it. The list of all of it is
//! `docs/specs/traps.md`.

use std::time::Duration;

use bytes::Bytes;
use wharf_broker::{
    Error, ErrorKind, InitTransactions, Produce, ProducerIdentity, Protocol, TransactionalProducer,
};
use wharf_log::batch::{Producer, Record, build_transactional};
use wharf_log::disk::simulated::Faults;

use crate::fetching::name;
use crate::producing::batch;
use crate::support::{START, World, client};

/// A producer in an open transaction with one record in `orders`.
fn in_transaction(world: &World) -> TransactionalProducer {
    let broker = world.broker.clone();
    let producer = world.run(async move {
        let (id, timeout) = ("one".to_owned(), Duration::from_secs(600));
        let init = InitTransactions {
            id,
            timeout,
            current: None,
        };
        broker.init_transactions(&client(), init).await
    });
    let producer = producer.unwrap();
    let record = Record {
        timestamp: START,
        value: Some(Bytes::from_static(b"a")),
        ..Record::default()
    };
    let sequenced = Producer {
        id: producer.id,
        epoch: producer.epoch,
        sequence: 0,
    };
    let records = Some(build_transactional(&[record], sequenced));
    let produce = Produce {
        topic: name("orders"),
        partition: 0,
        records,
    };
    let sending =
        world
            .broker
            .produce_in_transaction(&client(), "one", Protocol::Implicit, vec![produce]);
    world.run(sending).remove(0).unwrap();
    TransactionalProducer {
        id: "one".to_owned(),
        producer,
    }
}

fn commit(world: &World, caller: &TransactionalProducer) -> Result<ProducerIdentity, Error> {
    let (broker, caller) = (world.broker.clone(), caller.clone());
    world.run(async move {
        broker
            .end_transaction(&client(), &caller, true, Protocol::Implicit)
            .await
    })
}

/// Writes ever smaller batches until the disk takes not even one of a byte.
fn fill_the_disk(world: &World) {
    let used = world.disk.used_bytes();
    world.disk.set_faults(Faults {
        capacity_bytes: Some(used),
        ..Faults::default()
    });
    for bytes in [100_000, 10_000, 1_000, 1] {
        let is_full = (0..1_000).any(|_| {
            let produce = Produce {
                topic: name("orders"),
                partition: 1,
                records: Some(batch(&[&"x".repeat(bytes)])),
            };
            let sending = world.broker.produce(&client(), vec![produce]);
            world.maintain();
            world.run(sending).remove(0).is_err()
        });
        assert!(is_full, "batches of {bytes} bytes never fill the disk");
    }
}

/// An answer that means "perhaps" to an end leaves the producer with nothing it could do.
#[test]
fn an_end_that_cannot_be_stored_now_is_told_so_and_succeeds_when_asked_again() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    let caller = in_transaction(&world);
    fill_the_disk(&world);
    // The client looks for the coordinator and asks again, which is right: nothing was stored.
    let refused = commit(&world, &caller).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::CoordinatorNotAvailable);
    world.disk.set_faults(Faults::default());
    world.advance(Duration::from_secs(5));
    world.maintain();
    let ended = commit(&world, &caller).unwrap();
    assert_eq!(
        commit(&world, &caller),
        Ok(ended),
        "asked again it is the same"
    );
}

#[test]
fn an_end_that_finds_the_log_closed_sends_its_client_to_look_for_the_coordinator() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    let caller = in_transaction(&world);
    world.close_log();
    assert_eq!(
        commit(&world, &caller).unwrap_err().kind,
        ErrorKind::NotCoordinator
    );
}
