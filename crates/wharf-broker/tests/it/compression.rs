//! Topics that want their batches in a codec of their own, whatever producers send.

use bytes::Bytes;
use wharf_broker::ErrorKind;
use wharf_log::batch::{Compression, HEADER_BYTES, Header, header, records};

use crate::fetching::{fetch, from, request};
use crate::listing::{compressed, timed};
use crate::producing::{batch, produce};
use crate::support::World;

/// What is stored of `orders` from an offset on: the first batch.
fn stored(world: &World, offset: i64) -> (Header, Bytes) {
    let fetched = fetch(world, request(vec![from("orders", 0, offset)]));
    let batch = fetched.partitions[0].batches[0].clone();
    let header = header(&batch).unwrap();
    (header, batch.slice(..header.batch_bytes()))
}

#[test]
fn a_topic_stores_its_batches_in_the_codec_it_names_whatever_producers_send() {
    let world = World::new();
    world.topic(
        "orders",
        1,
        &[
            ("compression.type", "zstd"),
            ("compression.zstd.level", "9"),
        ],
    );
    let plain = timed(&[100, 200, 300]);
    for (round, codec) in (0..5_u8).enumerate() {
        let base = i64::try_from(round * 3).unwrap();
        assert_eq!(
            produce(&world, compressed(&plain, codec))
                .unwrap()
                .base_offset,
            base
        );
        let (header, batch) = stored(&world, base);
        assert_eq!(
            header.compression(),
            Some(Compression::Zstd),
            "codec {codec}"
        );
        let body = zstd::decode_all(&batch[HEADER_BYTES..]).unwrap();
        let found = records(&header, &body.into()).unwrap();
        let times: Vec<_> = found
            .iter()
            .map(|record| record.timestamp.as_millis())
            .collect();
        assert_eq!(times, [100, 200, 300]);
        assert_eq!((found[0].offset, found[2].offset), (base, base + 2));
    }
}

#[test]
fn a_topic_that_names_none_keeps_what_producers_send_to_the_byte() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let plain = timed(&[100, 200, 300]);
    for (round, codec) in (0..5_u8).enumerate() {
        let sent = compressed(&plain, codec);
        let base = produce(&world, sent.clone()).unwrap().base_offset;
        assert_eq!(base, i64::try_from(round * 3).unwrap());
        let (_, batch) = stored(&world, base);
        assert_eq!(batch[21..], sent[21..], "codec {codec}");
    }
}

#[test]
fn a_batch_that_outgrows_its_topics_limit_uncompressed_is_refused() {
    let world = World::new();
    let limited = [
        ("compression.type", "uncompressed"),
        ("max.message.bytes", "2000"),
    ];
    world.topic("orders", 1, &limited);
    let plain = batch(&[&"x".repeat(3_000)]);
    let small = compressed(&plain, 4);
    assert!(small.len() < 2_000);
    assert_eq!(
        produce(&world, small).unwrap_err().kind,
        ErrorKind::MessageTooLarge
    );
    let fits = batch(&[&"x".repeat(1_000)]);
    assert_eq!(
        produce(&world, compressed(&fits, 1)).unwrap().base_offset,
        0
    );
    assert_eq!(stored(&world, 0).0.compression(), Some(Compression::None));
}
