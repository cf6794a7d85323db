//! Codecs: every framing clients use is read, every bomb and every damage is refused.

use std::io::Write;

use proptest::prelude::*;
use wharf_log::batch::{Record, build, header};

use super::*;

fn compress(compression: Compression, input: &[u8]) -> Bytes {
    let output = match compression {
        Compression::None => input.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(input).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(input).unwrap(),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(input).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(input, 1).unwrap(),
    };
    output.into()
}

/// As Kafka's Java clients frame Snappy.
fn xerial(input: &[u8], block_bytes: usize) -> Bytes {
    let mut output = XERIAL_MAGIC.to_vec();
    output.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    for block in input.chunks(block_bytes) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        output.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        output.extend(block);
    }
    output.into()
}

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn what_any_codec_compressed_is_read_up_to_the_bound_and_refused_beyond() {
    let input: Vec<u8> = (0..200_000_u32)
        .map(|number| (number / 100) as u8)
        .collect();
    for codec in ALL {
        let compressed = compress(codec, &input);
        assert_eq!(
            decompress(codec, &compressed, input.len()).unwrap(),
            input,
            "{codec:?}"
        );
        if codec != Compression::None {
            let refused = decompress(codec, &compressed, input.len() - 1);
            assert_eq!(
                refused.unwrap_err().kind,
                ErrorKind::CorruptMessage,
                "{codec:?}"
            );
        }
    }
    for block_bytes in [1, 1000, 1 << 20] {
        let framed = xerial(&input[..10_000], block_bytes);
        let codec = Compression::Snappy;
        assert_eq!(decompress(codec, &framed, 10_000).unwrap(), input[..10_000]);
        assert!(decompress(codec, &framed, 9_999).is_err());
    }
}

#[test]
fn a_bomb_is_refused_at_the_bound() {
    let zeros = vec![0; 4 << 20];
    for codec in &ALL[1..] {
        let bomb = compress(*codec, &zeros);
        assert!(
            bomb.len() * 20 < zeros.len(),
            "{codec:?} compresses zeros well"
        );
        let refused = decompress(*codec, &bomb, 1 << 20).unwrap_err();
        assert!(
            refused.message.contains("more than"),
            "{codec:?}: {refused}"
        );
    }
}

#[test]
fn a_snappy_block_may_not_claim_more_than_its_bytes_can_hold() {
    // A length of 100 MB, and one byte.
    let claim = Bytes::from_static(&[0x80, 0xc2, 0xd7, 0x2f, 0x00]);
    let refused = decompress(Compression::Snappy, &claim, OUTPUT_BYTES_MAX).unwrap_err();
    assert!(refused.message.contains("impossible"), "{refused}");
}

fn batch_of(count: usize) -> Bytes {
    let record = Record {
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    };
    build(&vec![record; count], None)
}

#[test]
fn glancing_stops_where_it_is_told_to() {
    let batch = batch_of(5);
    let header = header(&batch).unwrap();
    let mut seen = 0;
    let found = glance(&header, &batch, |record| {
        seen += 1;
        if record.offset == 2 {
            ControlFlow::Break(record)
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((found.unwrap().unwrap().offset, seen), (2, 3));
}

proptest! {
    #[test]
    fn hostile_input_is_refused_without_a_panic(codec in 0..5_usize, input: Vec<u8>) {
        let input = Bytes::from(input);
        if let Ok(output) = decompress(ALL[codec], &input, 1 << 16) {
            prop_assert!(output.len() <= input.len().max(1 << 16));
        }
        let framed = [XERIAL_MAGIC, &[0; 8], &input].concat().into();
        if let Ok(output) = decompress(Compression::Snappy, &framed, 1 << 16) {
            prop_assert!(output.len() <= 1 << 16);
        }
    }

    #[test]
    fn damaged_batches_are_looked_into_without_a_panic(at: prop::sample::Index, byte: u8, codec: u8) {
        let mut batch = batch_of(4).to_vec();
        let at = at.index(batch.len() - 17) + 17;
        batch[at] = byte;
        batch[22] = codec;
        let batch = Bytes::from(batch);
        if let Ok(header) = header(&batch) {
            let mut seen = 0;
            let outcome = glance(&header, &batch, |_| {
                seen += 1;
                ControlFlow::<()>::Continue(())
            });
            prop_assert!(outcome.is_err() || seen == header.record_count.max(0));
        }
        let mut records = Vec::new();
        let outcome = records_from(&batch, 0, 2, &mut records);
        prop_assert!(records.len() <= 2);
        prop_assert!(outcome.is_ok() || records.len() <= 2);
    }
}

#[test]
fn what_compaction_compresses_is_what_clients_read() {
    let input: Bytes = (0..100_000_u32)
        .map(|number| (number / 100 % 251) as u8)
        .collect::<Vec<u8>>()
        .into();
    for codec in ALL {
        for input in [input.clone(), Bytes::new()] {
            let compressed = super::compress(codec, &input).unwrap();
            let read = decompress(codec, &compressed, OUTPUT_BYTES_MAX).unwrap();
            assert_eq!(read, input, "{codec:?}");
        }
    }
    assert_eq!(
        super::compress(Compression::Snappy, &input).unwrap(),
        xerial(&input, XERIAL_BLOCK_BYTES)
    );
}
