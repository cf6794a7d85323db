//! Producing: what is accepted, refused, repeated; producer ids.

use bytes::{Bytes, BytesMut};
use wharf_broker::{
    ConfigChange, ConfigOperation, Context, Error, ErrorKind, Produce, Produced, ProducerIdentity,
    RECORD_ERRORS_MAX, TopicRef,
};
use wharf_log::batch::{Producer, Record, build};
use wharf_log::disk::simulated::Faults;
use wharf_message::Timestamp;

use crate::fetching::{fetch, from, request, values};
use crate::support::{START, World, client, creation};

/// A batch of records with these values, without keys.
pub fn batch(values: &[&str]) -> Bytes {
    build(&records(values), None)
}

fn records(values: &[&str]) -> Vec<Record> {
    let record = |value: &&str| Record {
        timestamp: START,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    };
    values.iter().map(record).collect()
}

fn sequenced(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    build(
        &records(values),
        Some(Producer {
            id,
            epoch,
            sequence,
        }),
    )
}

/// Sends one batch to partition 0 of `orders`.
pub fn produce(world: &World, batch: Bytes) -> Result<Produced, Error> {
    produce_to(world, "orders", 0, Some(batch))
}

fn produce_to(
    world: &World,
    topic: &str,
    partition: i32,
    records: Option<Bytes>,
) -> Result<Produced, Error> {
    let topic = TopicRef::Name(topic.to_owned());
    let sending = world.broker.produce(
        &client(),
        vec![Produce {
            topic,
            partition,
            records,
        }],
    );
    world.run(sending).remove(0)
}

fn kind<T: std::fmt::Debug>(outcome: Result<T, Error>) -> ErrorKind {
    outcome.unwrap_err().kind
}

/// Changes header fields of a batch and gives it the checksum that belongs to them.
fn forged(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut forged = BytesMut::from(&batch[..]);
    change(&mut forged);
    let crc = crc32c::crc32c(&forged[21..]);
    forged[17..21].copy_from_slice(&crc.to_be_bytes());
    forged.freeze()
}

#[test]
fn records_get_consecutive_offsets_and_survive_power_loss() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    assert_eq!(produce(&world, batch(&["a", "b"])).unwrap().base_offset, 0);
    assert_eq!(produce(&world, batch(&["c"])).unwrap().base_offset, 2);
    let world = world.lose_power();
    assert_eq!(produce(&world, batch(&["d"])).unwrap().base_offset, 3);
}

#[test]
fn requests_commit_in_the_order_of_calls_even_if_polled_in_another() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let send = |value| {
        let topic = TopicRef::Name("orders".to_owned());
        let records = Some(batch(&[value]));
        world.broker.produce(
            &client(),
            vec![Produce {
                topic,
                partition: 0,
                records,
            }],
        )
    };
    let (first, second) = (send("first"), send("second"));
    let second = world.run(second).remove(0).unwrap();
    let first = world.run(first).remove(0).unwrap();
    assert_eq!((first.base_offset, second.base_offset), (0, 1));
}

#[test]
fn a_request_is_not_answered_before_the_commit() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.hold_commits(true);
    let topic = TopicRef::Name("orders".to_owned());
    let records = Some(batch(&["a"]));
    let sending = world.start(world.broker.produce(
        &client(),
        vec![Produce {
            topic,
            partition: 0,
            records,
        }],
    ));
    world.settle();
    assert!(!sending.is_done());
    world.hold_commits(false);
    world.finish(&sending).remove(0).unwrap();
}

#[test]
fn each_partition_of_a_request_is_answered_on_its_own_and_in_order() {
    let world = World::new();
    let topic = world.topic("orders", 2, &[]);
    let to = |topic, partition, records| Produce {
        topic,
        partition,
        records,
    };
    let orders = TopicRef::Name("orders".to_owned());
    let sending = world.broker.produce(
        &client(),
        vec![
            to(orders.clone(), 1, Some(batch(&["a"]))),
            to(TopicRef::Name("none".to_owned()), 0, Some(batch(&["b"]))),
            to(orders.clone(), 7, Some(batch(&["c"]))),
            to(TopicRef::Id(topic.id), 1, Some(batch(&["d"]))),
            to(
                TopicRef::Id(uuid::Uuid::from_u128(5)),
                1,
                Some(batch(&["e"])),
            ),
            to(orders.clone(), 0, None),
            to(orders, 0, Some(Bytes::new())),
        ],
    );
    let answers: Vec<_> = world
        .run(sending)
        .into_iter()
        .map(|answer| {
            answer
                .map(|produced| produced.base_offset)
                .map_err(|error| error.kind)
        })
        .collect();
    assert_eq!(
        answers,
        [
            Ok(0),
            Err(ErrorKind::UnknownTopicOrPartition),
            Err(ErrorKind::UnknownTopicOrPartition),
            Ok(1),
            Err(ErrorKind::UnknownTopicId),
            Err(ErrorKind::InvalidRecord),
            Err(ErrorKind::InvalidRecord),
        ]
    );
}

#[test]
fn bytes_that_are_no_batch_are_refused() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let good = batch(&["value"]);
    let two = Bytes::from([&good[..], &good[..]].concat());
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    let old = forged(&good, |batch| batch[16] = 1);
    let codec = forged(&good, |batch| batch[22] |= 5);
    let count = forged(&good, |batch| batch[60] = 2);
    for (bytes, expected) in [
        (good.slice(..good.len() - 1), ErrorKind::CorruptMessage),
        (flipped.freeze(), ErrorKind::CorruptMessage),
        (two, ErrorKind::InvalidRecord),
        (Bytes::from_static(b"short"), ErrorKind::CorruptMessage),
        (old, ErrorKind::UnsupportedForMessageFormat),
        (codec, ErrorKind::UnsupportedCompressionType),
        (count, ErrorKind::InvalidRecord),
    ] {
        assert_eq!(kind(produce(&world, bytes.clone())), expected, "{bytes:?}");
    }
    assert_eq!(produce(&world, good).unwrap().base_offset, 0);
}

#[test]
fn clients_write_no_control_batches_and_transactional_ones_only_under_an_id() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let good = sequenced(0, 0, 0, &["a"]);
    let control = forged(&good, |batch| batch[22] |= 0x20);
    let transactional = forged(&good, |batch| batch[22] |= 0x10);
    assert_eq!(kind(produce(&world, control)), ErrorKind::InvalidRecord);
    assert_eq!(
        kind(produce(&world, transactional)),
        ErrorKind::TransactionalIdAuthorizationFailed
    );
}

#[test]
fn a_batch_larger_than_its_topic_allows_is_refused() {
    let world = World::new();
    let size = batch(&["a"]).len();
    let (fits, segment) = (size.to_string(), (size - 1).to_string());
    world.topic("orders", 1, &[("max.message.bytes", fits.as_str())]);
    produce(&world, batch(&["a"])).unwrap();
    assert_eq!(
        kind(produce(&world, batch(&["ab"]))),
        ErrorKind::MessageTooLarge
    );
    world.topic("small", 1, &[("segment.bytes", segment.as_str())]);
    let refused = produce_to(&world, "small", 0, Some(batch(&["a"])));
    assert_eq!(kind(refused), ErrorKind::RecordListTooLarge);
}

fn at(millis: i64) -> Bytes {
    let record = Record {
        timestamp: Timestamp::from_millis(millis),
        key: Some(Bytes::from_static(b"k")),
        ..Record::default()
    };
    build(&[record], None)
}

#[test]
fn timestamps_too_far_from_the_nodes_clock_are_refused() {
    let world = World::new();
    let limits = [
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.after.max.ms", "500"),
    ];
    world.topic("orders", 1, &limits);
    let now = START.as_millis();
    for (time, accepted) in [
        (now, true),
        (now - 1000, true),
        (now - 1001, false),
        (now + 500, true),
        (now + 501, false),
    ] {
        let outcome = produce(&world, at(time));
        assert_eq!(outcome.is_ok(), accepted, "{}", time - now);
        if let Err(error) = outcome {
            assert_eq!(error.kind, ErrorKind::InvalidTimestamp);
        }
    }
    assert!(
        produce(&world, at(-1)).is_ok(),
        "a record without a timestamp has none to check"
    );
}

#[test]
fn under_log_append_time_the_nodes_clock_stamps_the_batch() {
    let world = World::new();
    world.topic("orders", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let produced = produce(&world, at(5)).unwrap();
    assert_eq!(produced.append_time, Some(START));
    world.topic("created", 1, &[]);
    let produced = produce_to(&world, "created", 0, Some(at(5))).unwrap();
    assert_eq!(produced.append_time, None);
}

#[test]
fn records_without_a_key_are_refused_by_a_compacted_topic() {
    let world = World::new();
    world.topic("orders", 1, &[("cleanup.policy", "compact,delete")]);
    produce(&world, at(START.as_millis())).unwrap();
    assert_eq!(
        kind(produce(&world, batch(&["no key"]))),
        ErrorKind::InvalidRecord
    );
}

/// Records, each with its time and whether it has a key, in one batch.
fn records_of(records: &[(i64, bool)]) -> Bytes {
    let record = |&(millis, has_key): &(i64, bool)| Record {
        timestamp: Timestamp::from_millis(millis),
        key: has_key.then(|| Bytes::from_static(b"k")),
        ..Record::default()
    };
    build(&records.iter().map(record).collect::<Vec<_>>(), None)
}

#[test]
fn a_refused_batch_names_the_records_that_it_is_refused_for() {
    let world = World::new();
    let limits = [
        ("cleanup.policy", "compact"),
        ("message.timestamp.before.max.ms", "1000"),
        ("message.timestamp.after.max.ms", "500"),
    ];
    world.topic("orders", 1, &limits);
    let now = START.as_millis();
    let (good, keyless) = ((now, true), (now, false));
    let (old, new) = ((now - 1001, true), (now + 501, true));
    let named = |records: &[(i64, bool)]| {
        let error = produce(&world, records_of(records)).unwrap_err();
        let named: Vec<i32> = error.records.iter().map(|record| record.index).collect();
        (error.kind, named)
    };
    let (record, time) = (ErrorKind::InvalidRecord, ErrorKind::InvalidTimestamp);
    assert_eq!(named(&[good, keyless, good, keyless]), (record, vec![1, 3]));
    assert_eq!(named(&[old, good, new]), (time, vec![0, 2]));
    assert_eq!(
        named(&[keyless, good, new]),
        (time, vec![0, 2]),
        "a wrong time decides"
    );
    let both = (now + 501, false);
    assert_eq!(
        named(&[both]),
        (record, vec![0]),
        "a missing key comes first"
    );
    assert!(produce(&world, records_of(&[good, (-1, true)])).is_ok());
}

#[test]
fn a_header_that_claims_a_time_its_records_do_not_have_is_refused_and_names_none() {
    let world = World::new();
    world.topic("orders", 1, &[("message.timestamp.after.max.ms", "500")]);
    let now = START.as_millis();
    let honest = records_of(&[(now, true)]);
    let lying = forged(&honest, |batch| {
        batch[35..43].copy_from_slice(&(now + 501).to_be_bytes());
    });
    let refused = produce(&world, lying).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidTimestamp);
    assert_eq!(refused.records, []);
}

#[test]
fn the_answers_to_one_request_name_a_bounded_number_of_records() {
    let world = World::new();
    world.topic("orders", 2, &[("cleanup.policy", "compact")]);
    let many = RECORD_ERRORS_MAX - 1;
    let bad = records_of(&vec![(START.as_millis(), false); many]);
    let produce = |partition| Produce {
        topic: TopicRef::Name("orders".to_owned()),
        partition,
        records: Some(bad.clone()),
    };
    let requests = vec![produce(0), produce(1), produce(0)];
    let answers = world.run(world.broker.produce(&client(), requests));
    let named: Vec<usize> = answers
        .into_iter()
        .map(|answer| answer.unwrap_err().records.len())
        .collect();
    assert_eq!(named, [many, 1, 0]);
}

#[test]
fn internal_topics_take_records_only_from_the_nodes_own_roles() {
    let world = World::new();
    let broker = world.broker.clone();
    world
        .run(async move {
            let cx = Context::internal("audit");
            broker
                .create_topic(&cx, creation("_wharf.audit", 1, &[]), false)
                .await
        })
        .unwrap();
    let refused = produce_to(&world, "_wharf.audit", 0, Some(batch(&["a"])));
    assert_eq!(kind(refused), ErrorKind::InvalidTopic);
    let produce = Produce {
        topic: TopicRef::Name("_wharf.audit".to_owned()),
        partition: 0,
        records: Some(batch(&["a"])),
    };
    let sending = world
        .broker
        .produce(&Context::internal("audit"), vec![produce]);
    world.run(sending).remove(0).unwrap();
}

#[test]
fn a_topic_may_opt_out_of_sync_before_ack() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let syncs = |world: &World| world.broker.reader().statistics().syncs;
    let before = syncs(&world);
    produce(&world, batch(&["a"])).unwrap();
    assert!(syncs(&world) > before);
    let broker = world.broker.clone();
    world
        .run(async move {
            let change = ConfigChange {
                name: "wharf.sync.before.ack".to_owned(),
                operation: ConfigOperation::Set,
                value: Some("false".to_owned()),
            };
            let topic = TopicRef::Name("orders".to_owned());
            broker
                .alter_topic_config(&client(), &topic, vec![change], false, false)
                .await
        })
        .unwrap();
    let before = syncs(&world);
    produce(&world, batch(&["b"])).unwrap();
    assert_eq!(syncs(&world), before);
}

#[test]
fn a_repeated_batch_of_an_idempotent_producer_answers_with_the_original_offset() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let id = identity(&world, None).id;
    for sequence in 0..5 {
        let produced = produce(&world, sequenced(id, 0, sequence, &["a"])).unwrap();
        assert_eq!(produced.base_offset, i64::from(sequence));
    }
    let world = world.lose_power();
    for sequence in 0..5 {
        let produced = produce(&world, sequenced(id, 0, sequence, &["a"])).unwrap();
        assert_eq!(
            produced.base_offset,
            i64::from(sequence),
            "the original offset"
        );
    }
    assert_eq!(
        kind(produce(&world, sequenced(id, 0, 9, &["gap"]))),
        ErrorKind::OutOfOrderSequenceNumber
    );
    produce(&world, sequenced(id, 1, 0, &["bumped"])).unwrap();
    assert_eq!(
        kind(produce(&world, sequenced(id, 0, 5, &["old"]))),
        ErrorKind::InvalidProducerEpoch
    );
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads_until_there_is_room_again() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, batch(&["kept"])).unwrap();
    let used = world.disk.used_bytes();
    world.disk.set_faults(Faults {
        capacity_bytes: Some(used),
        ..Faults::default()
    });
    let large = "x".repeat(1_000_000);
    let refused = (0..100).find_map(|_| {
        world.maintain();
        produce(&world, batch(&[&large])).err()
    });
    assert_eq!(refused.unwrap().kind, ErrorKind::KafkaStorageError);
    let kept = fetch(&world, request(vec![from("orders", 0, 0)]));
    assert_eq!(values(&kept.partitions[0])[0], "kept");
    let create = creation("more", 1, &[]);
    let broker = world.broker.clone();
    let outcome = world.run(async move { broker.create_topic(&client(), create, false).await });
    assert_eq!(
        outcome.is_ok(),
        world.broker.topics().len() == 2,
        "visible exactly if it worked"
    );
    world.disk.set_faults(Faults::default());
    world.advance(std::time::Duration::from_secs(5));
    world.maintain();
    produce(&world, batch(&[&large])).unwrap();
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    world.disk.set_faults(Faults {
        sync_failure_one_in: 1,
        ..Faults::default()
    });
    assert_eq!(
        kind(produce(&world, batch(&["a"]))),
        ErrorKind::KafkaStorageError
    );
    world.disk.set_faults(Faults::default());
    assert_eq!(
        kind(produce(&world, batch(&["b"]))),
        ErrorKind::KafkaStorageError
    );
    let world = world.restart();
    produce(&world, batch(&["c"])).unwrap();
}

fn identity(world: &World, current: Option<ProducerIdentity>) -> ProducerIdentity {
    let broker = world.broker.clone();
    world
        .run(async move { broker.init_producer(&client(), current).await })
        .unwrap()
}

#[test]
fn producer_ids_are_never_given_twice_even_across_power_loss() {
    let mut world = World::new();
    let mut last = -1;
    for round in 0..2_500 {
        let given = identity(&world, None);
        assert!(given.id > last, "round {round}");
        assert_eq!(given.epoch, 0);
        last = given.id;
        if round % 900 == 0 {
            world = world.lose_power();
        }
    }
}

#[test]
fn concurrent_callers_share_one_reservation_of_ids() {
    let world = World::new();
    world.hold_commits(true);
    let running: Vec<_> = (0..20)
        .map(|_| {
            let broker = world.broker.clone();
            world.start(async move { broker.init_producer(&client(), None).await })
        })
        .collect();
    world.settle();
    world.hold_commits(false);
    let mut ids: Vec<_> = running
        .iter()
        .map(|one| world.finish(one).unwrap().id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<_>>());
}

#[test]
fn an_abandoned_reservation_costs_ids_but_repeats_none() {
    let world = World::new();
    world.hold_commits(true);
    let broker = world.broker.clone();
    let abandoned = world.start(async move { broker.init_producer(&client(), None).await });
    world.settle();
    drop(abandoned);
    let broker = world.broker.clone();
    let waiting = world.start(async move { broker.init_producer(&client(), None).await });
    world.settle();
    world.hold_commits(false);
    assert_eq!(world.finish(&waiting).unwrap().id, 1_000);
}

#[test]
fn an_epoch_is_bumped_until_they_are_used_up() {
    let world = World::new();
    let first = identity(&world, None);
    let bumped = identity(&world, Some(first));
    assert_eq!(
        bumped,
        ProducerIdentity {
            id: first.id,
            epoch: 1
        }
    );
    assert_eq!(
        identity(&world, Some(first)),
        bumped,
        "a repeated request, the same answer"
    );
    let world = world.lose_power();
    let last = ProducerIdentity {
        id: first.id,
        epoch: i16::MAX - 1,
    };
    let fresh = identity(&world, Some(last));
    assert!(fresh.id > first.id);
    assert_eq!(fresh.epoch, 0);
    let foreign = ProducerIdentity {
        id: 1 << 40,
        epoch: 3,
    };
    assert_eq!(
        identity(&world, Some(foreign)).epoch,
        0,
        "unknown here: a new id"
    );
}
