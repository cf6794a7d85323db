//! Questions about offsets and times, DeleteRecords, sizes, producers.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use wharf_broker::{
    EpochEnd, Error, ErrorKind, ListedOffset, OffsetQuery, OffsetQueryAt, TopicRef,
};
use wharf_log::batch::{HEADER_BYTES, Producer, Record, build};
use wharf_message::Timestamp;

use crate::producing::{batch, produce};
use crate::support::{START, World, client};

fn orders() -> TopicRef {
    TopicRef::Name("orders".to_owned())
}

fn list(world: &World, at: OffsetQueryAt) -> Result<(i64, i64), Error> {
    let query = OffsetQuery {
        topic: orders(),
        partition: 0,
        current_leader_epoch: -1,
        at,
        read_committed: false,
    };
    let broker = world.broker.clone();
    let listed = world.run(async move { broker.list_offset(&client(), query).await })?;
    let ListedOffset {
        offset,
        timestamp,
        leader_epoch,
    } = listed;
    assert_eq!(leader_epoch, if offset < 0 { -1 } else { 0 });
    Ok((offset, timestamp))
}

fn delete_before(world: &World, offset: i64) -> Result<i64, Error> {
    let broker = world.broker.clone();
    world
        .run(async move { broker.delete_records(&client(), &orders(), 0, offset).await })
        .map(|deleted| deleted.low_watermark)
}

/// A batch of records with these times.
pub fn timed(times: &[i64]) -> Bytes {
    let record = |time: &i64| Record {
        timestamp: Timestamp::from_millis(*time),
        value: Some(Bytes::from_static(
            b"some value that compresses, compresses, compresses",
        )),
        ..Record::default()
    };
    build(&times.iter().map(record).collect::<Vec<_>>(), None)
}

/// The same batch with its records compressed.
pub fn compressed(batch: &Bytes, codec: u8) -> Bytes {
    let body = &batch[HEADER_BYTES..];
    let body = match codec {
        1 => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(body).unwrap(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        4 => zstd::encode_all(body, 1).unwrap(),
        _ => body.to_vec(),
    };
    let mut batch = BytesMut::from(&batch[..HEADER_BYTES]);
    batch.extend_from_slice(&body);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] |= codec;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// The same batch with another newest time in its header.
fn with_newest(batch: &Bytes, time: i64) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    batch[35..43].copy_from_slice(&time.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_inside_every_kind_of_batch() {
    for codec in 0..=4 {
        let world = World::new();
        world.topic("orders", 1, &[]);
        produce(&world, compressed(&timed(&[100, 110, 120]), codec)).unwrap();
        produce(&world, compressed(&timed(&[200, 190, 230]), codec)).unwrap();
        for (time, expected) in [
            (0, (0, 100)),
            (101, (1, 110)),
            (110, (1, 110)),
            (121, (3, 200)),
            (195, (3, 200)),
            (201, (5, 230)),
            (231, (-1, -1)),
        ] {
            let found = list(&world, OffsetQueryAt::Time(time)).unwrap();
            assert_eq!(found, expected, "time {time}, codec {codec}");
        }
    }
}

#[test]
fn the_newest_record_is_found_and_the_first_of_equals_wins() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    assert_eq!(list(&world, OffsetQueryAt::MaxTimestamp).unwrap(), (-1, -1));
    produce(&world, timed(&[100, 300, 300, 120])).unwrap();
    produce(&world, timed(&[300, 200])).unwrap();
    assert_eq!(list(&world, OffsetQueryAt::MaxTimestamp).unwrap(), (1, 300));
}

#[test]
fn the_newest_record_is_found_where_a_header_promised_too_much_or_its_record_is_deleted() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, timed(&[100, 500, 110])).unwrap();
    produce(&world, timed(&[200])).unwrap();
    produce(&world, with_newest(&timed(&[150]), 600)).unwrap();
    assert_eq!(list(&world, OffsetQueryAt::MaxTimestamp).unwrap(), (1, 500));
    delete_before(&world, 2).unwrap();
    assert_eq!(list(&world, OffsetQueryAt::MaxTimestamp).unwrap(), (3, 200));
}

#[test]
fn ends_and_absent_tiers_are_answered() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, timed(&[100, 110])).unwrap();
    assert_eq!(list(&world, OffsetQueryAt::Earliest).unwrap(), (0, -1));
    assert_eq!(list(&world, OffsetQueryAt::Latest).unwrap(), (2, -1));
    assert_eq!(list(&world, OffsetQueryAt::LatestTiered).unwrap(), (-1, -1));
    assert_eq!(
        list(&world, OffsetQueryAt::EarliestPendingUpload).unwrap(),
        (-1, -1)
    );
    let refused = list(&world, OffsetQueryAt::Time(-7)).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidRequest);
}

#[test]
fn a_batch_whose_header_promises_too_much_does_not_hide_the_next() {
    let world = World::new();
    world.topic(
        "orders",
        1,
        &[("message.timestamp.after.max.ms", "9223372036854775807")],
    );
    produce(&world, with_newest(&timed(&[100, 110]), 500)).unwrap();
    produce(&world, timed(&[300])).unwrap();
    produce(&world, timed(&[400])).unwrap();
    assert_eq!(list(&world, OffsetQueryAt::Time(250)).unwrap(), (2, 300));
    assert_eq!(list(&world, OffsetQueryAt::Time(350)).unwrap(), (3, 400));
    assert_eq!(list(&world, OffsetQueryAt::Time(450)).unwrap(), (-1, -1));
}

#[test]
fn a_batch_that_cannot_be_decompressed_is_an_error_not_a_crash() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    for codec in 1..=4 {
        let mut broken = BytesMut::from(&timed(&[100, 110])[..]);
        broken[22] |= codec;
        let crc = crc32c::crc32c(&broken[21..]);
        broken[17..21].copy_from_slice(&crc.to_be_bytes());
        produce(&world, broken.freeze()).unwrap();
        let refused = list(&world, OffsetQueryAt::Time(105)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::CorruptMessage);
        delete_before(&world, -1).unwrap();
    }
}

#[test]
fn deleted_records_are_gone_for_every_question() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, timed(&[100, 110, 120])).unwrap();
    produce(&world, timed(&[130])).unwrap();
    assert_eq!(delete_before(&world, 1).unwrap(), 1);
    assert_eq!(list(&world, OffsetQueryAt::Time(0)).unwrap(), (1, 110));
    assert_eq!(delete_before(&world, 0).unwrap(), 1, "never backwards");
    let refused = delete_before(&world, 5).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::OffsetOutOfRange);
    assert_eq!(
        delete_before(&world, -2).unwrap_err().kind,
        ErrorKind::OffsetOutOfRange
    );
    assert_eq!(delete_before(&world, 3).unwrap(), 3);
    let world = world.lose_power();
    assert_eq!(list(&world, OffsetQueryAt::Earliest).unwrap(), (3, -1));
    assert_eq!(list(&world, OffsetQueryAt::Time(0)).unwrap(), (3, 130));
    assert_eq!(delete_before(&world, -1).unwrap(), 4);
    assert_eq!(list(&world, OffsetQueryAt::Earliest).unwrap(), (4, -1));
    assert_eq!(produce(&world, timed(&[140])).unwrap().base_offset, 4);
}

#[test]
fn of_two_concurrent_deletions_the_shorter_one_is_no_failure() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, timed(&[100, 110, 120])).unwrap();
    world.hold_commits(true);
    let running = [3, 1].map(|offset| {
        let broker = world.broker.clone();
        world.start(async move { broker.delete_records(&client(), &orders(), 0, offset).await })
    });
    world.settle();
    world.hold_commits(false);
    for deleted in &running {
        assert_eq!(world.finish(deleted).unwrap().low_watermark, 3);
    }
}

#[test]
fn records_of_a_topic_that_is_only_compacted_are_not_deleted() {
    let world = World::new();
    world.topic("orders", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(
        delete_before(&world, -1).unwrap_err().kind,
        ErrorKind::PolicyViolation
    );
}

#[test]
fn the_only_epoch_ends_at_the_end() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    produce(&world, timed(&[100, 110])).unwrap();
    let ask = |current, epoch| {
        world
            .broker
            .epoch_end(&client(), &orders(), 0, current, epoch)
    };
    assert_eq!(
        ask(-1, 0).unwrap(),
        EpochEnd {
            leader_epoch: 0,
            end_offset: 2
        }
    );
    assert_eq!(
        ask(0, 3).unwrap(),
        EpochEnd {
            leader_epoch: -1,
            end_offset: -1
        }
    );
    assert_eq!(ask(1, 0).unwrap_err().kind, ErrorKind::UnknownLeaderEpoch);
    let missing = world
        .broker
        .epoch_end(&client(), &orders(), 9, -1, 0)
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::UnknownTopicOrPartition);
}

#[test]
fn sizes_and_producers_are_described() {
    let world = World::new();
    world.topic("orders", 2, &[]);
    let sent = batch(&["a"]);
    produce(&world, sent.clone()).unwrap();
    let sizes = world.broker.describe_sizes(&client(), None);
    let bytes: Vec<_> = sizes
        .iter()
        .map(|size| (size.partition, size.bytes))
        .collect();
    assert_eq!(bytes, [(0, sent.len() as u64), (1, 0)]);
    let asked = [
        ("orders".to_owned(), vec![1, 7, -1]),
        ("none".to_owned(), vec![0]),
    ];
    assert_eq!(
        world.broker.describe_sizes(&client(), Some(&asked)).len(),
        1
    );

    let record = Record {
        timestamp: START,
        ..Record::default()
    };
    let producer = Producer {
        id: 7,
        epoch: 2,
        sequence: 0,
    };
    produce(&world, build(&[record], Some(producer))).unwrap();
    let producers = world
        .broker
        .describe_producers(&client(), &orders(), 0)
        .unwrap();
    assert_eq!(producers.len(), 1);
    assert_eq!(
        (
            producers[0].id,
            producers[0].epoch,
            producers[0].last_sequence
        ),
        (7, 2, 0)
    );
}
