//! Compacted topics: superseded records go, whatever codec they were sent with.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use wharf_broker::{Options, Produce, TopicRef};
use wharf_log::PartitionId;
use wharf_log::batch::{HEADER_BYTES, Record, build, header, records, verify_stored};

use crate::support::{World, client};

/// Attribute values of the codecs.
const CODECS: [u8; 5] = [0, 1, 2, 3, 4];

fn small_log() -> wharf_log::Options {
    wharf_log::Options {
        journal_file_bytes: 1 << 20,
        journal_files_max: 1,
        tail_bytes_max: 0,
        ..wharf_log::Options::default()
    }
}

/// The batch as a client compresses it.
fn compressed(batch: &Bytes, codec: u8) -> Bytes {
    let records = &batch[HEADER_BYTES..];
    let body = match codec {
        0 => records.to_vec(),
        1 => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(records, 1).unwrap(),
    };
    let mut output = BytesMut::from(&batch[..HEADER_BYTES]);
    output.put_slice(&body);
    let length = i32::try_from(output.len() - 12).unwrap();
    output[8..12].copy_from_slice(&length.to_be_bytes());
    output[22] |= codec;
    let crc = crc32c::crc32c(&output[21..]);
    output[17..21].copy_from_slice(&crc.to_be_bytes());
    output.freeze()
}

/// The records of a stored batch.
fn decoded(batch: &Bytes) -> Vec<Record> {
    let header = verify_stored(batch).unwrap();
    let body = batch.slice(HEADER_BYTES..);
    let plain: Vec<u8> = match header.attributes & 7 {
        0 => body.to_vec(),
        1 => {
            let mut output = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&body[..]);
            std::io::copy(&mut decoder, &mut output).unwrap();
            output
        }
        2 => unframed(&body),
        3 => {
            let mut output = Vec::new();
            let mut decoder = lz4_flex::frame::FrameDecoder::new(&body[..]);
            std::io::copy(&mut decoder, &mut output).unwrap();
            output
        }
        _ => zstd::decode_all(&body[..]).unwrap(),
    };
    records(&header, &plain.into()).unwrap()
}

/// Snappy, raw as it was sent or in the framing of the Java clients.
fn unframed(body: &[u8]) -> Vec<u8> {
    let mut decoder = snap::raw::Decoder::new();
    if !body.starts_with(b"\x82SNAPPY\0") {
        return decoder.decompress_vec(body).unwrap();
    }
    let mut output = Vec::new();
    let mut rest = &body[16..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (block, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        output.extend(decoder.decompress_vec(block).unwrap());
        rest = after;
    }
    output
}

fn produce(world: &World, topic: &str, batch: Bytes) -> Result<i64, wharf_broker::ErrorKind> {
    let produce = Produce {
        topic: TopicRef::Name(topic.to_owned()),
        partition: 0,
        records: Some(batch),
    };
    let sending = world.broker.produce(&client(), vec![produce]);
    let answer = world.run(sending).remove(0);
    answer
        .map(|produced| produced.base_offset)
        .map_err(|error| error.kind)
}

fn record(world: &World, key: &str, value: Option<&str>) -> Record {
    Record {
        timestamp: world.runtime_now(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    }
}

fn partition(world: &World, topic: &str) -> PartitionId {
    let topic = TopicRef::Name(topic.to_owned());
    world.broker.topic(&topic).unwrap().partitions[0]
}

/// Offset, codec and value of every record left.
fn left(world: &World, topic: &str) -> BTreeMap<i64, (i16, Option<Bytes>)> {
    let reader = world.broker.reader();
    let id = partition(world, topic);
    let mut next = reader.bounds(id).unwrap().start;
    let mut left = BTreeMap::new();
    loop {
        let slice = reader.read(id, next, 1, true).unwrap();
        let Some(batch) = slice.batches.first() else {
            return left;
        };
        let header = header(batch).unwrap();
        for record in decoded(batch) {
            left.insert(record.offset, (header.attributes & 7, record.value));
        }
        next = header.last_offset() + 1;
    }
}

fn compact(world: &World) {
    world.advance(Duration::from_secs(10));
    world.maintain();
    world.settle();
    world.maintain();
}

const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("max.compaction.lag.ms", "1"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "60000"),
];

#[test]
fn of_each_key_the_last_record_stays_readable_with_the_codec_it_was_sent_with() {
    let world = World::with_log(Options::default(), small_log());
    for codec in CODECS {
        let topic = format!("codec-{codec}");
        world.topic(&topic, 1, &SETTINGS);
        let send = |pairs: &[(&str, Option<&str>)]| {
            let records: Vec<Record> = pairs
                .iter()
                .map(|(key, value)| record(&world, key, *value))
                .collect();
            produce(&world, &topic, compressed(&build(&records, None), codec)).unwrap()
        };
        send(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        send(&[("a", Some("2")), ("d", Some("1"))]);
        send(&[("c", None), ("a", Some("3"))]);
        compact(&world);
        let codec = i16::from(codec);
        let value = |text: &'static str| (codec, Some(Bytes::from_static(text.as_bytes())));
        let expected = [
            (1, value("1")),
            (4, value("1")),
            (5, (codec, None)),
            (6, value("3")),
        ];
        assert_eq!(left(&world, &topic), BTreeMap::from(expected), "{topic}");
        world.advance(Duration::from_secs(61));
        compact(&world);
        let expected = [(1, value("1")), (4, value("1")), (6, value("3"))];
        assert_eq!(left(&world, &topic), BTreeMap::from(expected), "{topic}");
    }
}

#[test]
fn a_record_without_a_key_is_refused_by_a_compacted_topic_and_the_others_with_it() {
    let world = World::with_log(Options::default(), small_log());
    world.topic("compacted", 1, &SETTINGS);
    let mut keyless = record(&world, "", Some("v"));
    keyless.key = None;
    let batch = build(&[record(&world, "a", Some("v")), keyless], None);
    let refused = produce(&world, "compacted", batch);
    assert_eq!(refused, Err(wharf_broker::ErrorKind::InvalidRecord));
    assert!(left(&world, "compacted").is_empty());
}

#[test]
fn compact_and_delete_together_do_both() {
    let world = World::with_log(Options::default(), small_log());
    let settings = [
        ("cleanup.policy", "compact,delete"),
        ("max.compaction.lag.ms", "1"),
        ("min.cleanable.dirty.ratio", "0"),
        ("retention.ms", "3600000"),
    ];
    world.topic("both", 1, &settings);
    for value in ["1", "2"] {
        let batch = build(
            &[
                record(&world, "a", Some(value)),
                record(&world, value, Some("x")),
            ],
            None,
        );
        produce(&world, "both", batch).unwrap();
    }
    compact(&world);
    let offsets: Vec<i64> = left(&world, "both").into_keys().collect();
    assert_eq!(offsets, [1, 2, 3]);
    world.advance(Duration::from_secs(2 * 3600));
    let batch = build(&[record(&world, "young", Some("x"))], None);
    produce(&world, "both", batch).unwrap();
    compact(&world);
    let offsets: Vec<i64> = left(&world, "both").into_keys().collect();
    assert_eq!(offsets, [4]);
}
