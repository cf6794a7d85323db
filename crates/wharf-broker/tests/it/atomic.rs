//! Outputs and offsets in one step: together or not at all, whatever happens.

use wharf_broker::group::{CommitOffset, Member};
use wharf_broker::{Broker, Error, ErrorKind, Produce, Produced, TopicRef};
use wharf_log::batch::{Producer, Record, build_transactional};

use crate::consumer_groups::{join, ok};
use crate::fetching::{fetch, from, request, values};
use crate::groups::{committed, offset, simple};
use crate::producing::batch;
use crate::support::{World, client};

/// One batch to `out`, and the offset 7 of `orders` for the member's group.
fn step(
    broker: &Broker,
    member: &Member,
    outputs: Vec<Produce>,
    offsets: Vec<CommitOffset>,
) -> impl Future<Output = Result<Vec<Produced>, Error>> + Send + use<> {
    broker.produce_and_commit(&client(), outputs, Some((member, offsets)))
}

fn output(topic: &str, values: &[&str]) -> Produce {
    Produce {
        topic: TopicRef::Name(topic.to_owned()),
        partition: 0,
        records: Some(batch(values)),
    }
}

fn world() -> World {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.topic("out", 1, &[]);
    world.topic("audit", 1, &[]);
    world
}

/// What is readable in `out` and `audit`, and the group's offset in `orders`.
fn effects(world: &World) -> (Vec<String>, Vec<String>, i64) {
    let read = |topic| values(&fetch(world, request(vec![from(topic, 0, 0)])).partitions[0]);
    (
        read("out"),
        read("audit"),
        committed(world, "g", "orders", 0).offset,
    )
}

#[test]
fn outputs_and_an_offset_count_together_and_survive_the_loss_of_power() {
    let mut world = world();
    let outputs = vec![
        output("out", &["a", "b"]),
        output("audit", &["c"]),
        output("out", &["d"]),
    ];
    let done = world.run(step(
        &world.broker,
        &simple("g"),
        outputs,
        vec![offset("orders", 0, 7)],
    ));
    let at: Vec<_> = done.unwrap().iter().map(|one| one.base_offset).collect();
    assert_eq!(at, [0, 0, 2]);
    let expected = (
        ["a", "b", "d"].map(str::to_owned).to_vec(),
        vec!["c".to_owned()],
        7,
    );
    assert_eq!(effects(&world), expected);
    world = world.lose_power();
    assert_eq!(effects(&world), expected);
}

#[test]
fn whatever_is_refused_refuses_everything() {
    let world = world();
    let transactional = Produce {
        records: Some(build_transactional(
            &[Record::default()],
            Producer {
                id: 1,
                epoch: 0,
                sequence: 0,
            },
        )),
        ..output("out", &["a"])
    };
    let stranger = Member {
        generation: 3,
        member: "gone".to_owned(),
        ..simple("g")
    };
    let cases = [
        (
            simple("g"),
            vec![output("out", &["a"]), output("missing", &["b"])],
            offset("orders", 0, 7),
            ErrorKind::UnknownTopicOrPartition,
        ),
        (
            simple("g"),
            vec![output("out", &["a"])],
            offset("orders", 5, 7),
            ErrorKind::UnknownTopicOrPartition,
        ),
        (
            simple("g"),
            vec![transactional],
            offset("orders", 0, 7),
            ErrorKind::InvalidTxnState,
        ),
        (
            stranger,
            vec![output("out", &["a"])],
            offset("orders", 0, 7),
            ErrorKind::GroupIdNotFound,
        ),
    ];
    for (member, outputs, offset, kind) in cases {
        let refused = world.run(step(&world.broker, &member, outputs, vec![offset]));
        assert_eq!(refused.unwrap_err().kind, kind);
    }
    assert_eq!(effects(&world), (Vec::new(), Vec::new(), -1));
}

#[test]
fn a_member_of_an_earlier_epoch_gets_nothing_through() {
    let world = world();
    let joined = ok(&world, join("g", "first"));
    let mut member = Member {
        generation: joined.epoch,
        member: "first".to_owned(),
        ..simple("g")
    };
    let outputs = || vec![output("out", &["a"])];
    let run = |member: &Member| {
        let offsets = vec![offset("orders", 0, 7)];
        world.run(step(&world.broker, member, outputs(), offsets))
    };
    run(&member).unwrap();
    member.generation -= 1;
    assert_eq!(run(&member).unwrap_err().kind, ErrorKind::StaleMemberEpoch);
    assert_eq!(effects(&world).0, ["a"]);
}

#[test]
fn power_lost_at_any_operation_leaves_both_or_neither() {
    let mut left_both = 0;
    for operation in 0.. {
        let world = world();
        world
            .disk
            .power_off_at(world.disk.counters().operations + operation);
        let outputs = vec![output("out", &["a"]), output("audit", &["b"])];
        let offsets = vec![offset("orders", 0, 7)];
        let done = world.run(step(&world.broker, &simple("g"), outputs, offsets));
        let survived = !world.disk.is_off();
        let world = world.lose_power();
        let (out, audit, at) = effects(&world);
        let counts = [out.len() == 1, audit.len() == 1, at == 7];
        assert!(
            counts.iter().all(|one| *one == counts[0]),
            "{operation}: {counts:?}"
        );
        assert!(
            counts[0] || done.is_err(),
            "{operation}: it was acknowledged and is gone"
        );
        left_both += usize::from(counts[0]);
        if survived {
            break;
        }
    }
    assert!(left_both > 0);
}
