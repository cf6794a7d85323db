//! Batches compressed as their topic wants them (`compression.type`).
//!
//! The only place where a produced batch is changed, and only for topics that ask for it: all others
//! keep what the producer sent, byte for byte. Records, times, offsets and the producer's numbers
//! stay as they are; what was accepted once is what is read, in another codec.

use bytes::Bytes;
use wharf_log::batch::{self, Compression, HEADER_BYTES, Header};

use crate::{Error, ErrorKind, codec};

/// The codec that a topic's batches are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCodec {
    /// The codec.
    pub compression: Compression,
    /// Its level, where it has levels and not its default one is meant.
    pub level: Option<i32>,
}

impl StoredCodec {
    /// The batch in this codec, with its header; the same when it is in it already.
    pub(crate) fn recompress(self, header: Header, batch: Bytes) -> Result<(Header, Bytes), Error> {
        if header.compression() == Some(self.compression) {
            return Ok((header, batch));
        }
        let records = codec::body(&header, &batch)?;
        let records = codec::compress_at(self.compression, self.level, &records)
            .map_err(|error| failed(&error))?;
        let batch = batch::recompressed(&batch, self.compression, &records)
            .map_err(|error| failed(&error))?;
        let header = batch::header(&batch).map_err(|error| failed(&error))?;
        debug_assert_eq!(header.batch_bytes(), HEADER_BYTES + records.len());
        Ok((header, batch))
    }
}

fn failed(error: &dyn std::error::Error) -> Error {
    let message = format!("the batch could not be compressed as its topic wants it: {error}");
    Error::new(ErrorKind::UnknownServerError, message)
}

#[cfg(test)]
mod tests {
    use wharf_log::batch::{Producer, Record, build, build_transactional, header, records, verify};

    use super::*;

    const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn some_records() -> Vec<Record> {
        let record = |number: usize| Record {
            key: Some(Bytes::from(format!("key {}", number % 7))),
            value: Some(Bytes::from(format!("value {number} ").repeat(20))),
            ..Record::default()
        };
        (0..500).map(record).collect()
    }

    fn in_codec(batch: &Bytes, compression: Compression, level: Option<i32>) -> Bytes {
        let stored = StoredCodec { compression, level };
        let (header, batch) = stored
            .recompress(header(batch).unwrap(), batch.clone())
            .unwrap();
        assert_eq!(verify(&batch), Ok(header));
        assert_eq!(header.compression(), Some(compression));
        batch
    }

    fn read(batch: &Bytes) -> Vec<Record> {
        let header = header(batch).unwrap();
        records(&header, &codec::body(&header, batch).unwrap()).unwrap()
    }

    #[test]
    fn every_codec_becomes_every_other_and_nothing_else_changes() {
        let producer = Producer {
            id: 7,
            epoch: 3,
            sequence: 11,
        };
        let plain = build_transactional(&some_records(), producer);
        let original = header(&plain).unwrap();
        for from in ALL {
            let sent = in_codec(&plain, from, None);
            for to in ALL {
                let stored = in_codec(&sent, to, None);
                assert_eq!(read(&stored), read(&plain), "{from:?} to {to:?}");
                let found = header(&stored).unwrap();
                let expected = Header {
                    length: found.length,
                    crc: found.crc,
                    attributes: found.attributes,
                    ..original
                };
                assert_eq!(found, expected, "{from:?} to {to:?}");
                assert!(found.is_transactional() && !found.is_control());
                assert_eq!(stored.len() < plain.len(), to != Compression::None);
                if from == to {
                    assert_eq!(stored.as_ptr(), sent.as_ptr(), "not even copied");
                }
            }
        }
    }

    #[test]
    fn levels_change_the_size_and_not_the_records() {
        let plain = build(&some_records(), None);
        for (codec, fast, best) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -50, 19)] {
            let fast = in_codec(&plain, codec, Some(fast));
            let best = in_codec(&plain, codec, Some(best));
            assert!(
                best.len() < fast.len(),
                "{codec:?}: {} {}",
                best.len(),
                fast.len()
            );
            assert_eq!(read(&best), read(&fast));
        }
    }

    #[test]
    fn records_that_cannot_be_read_are_refused() {
        let zstd = in_codec(&build(&some_records(), None), Compression::Zstd, None);
        let torn = batch::recompressed(&zstd, Compression::Gzip, b"no gzip").unwrap();
        let stored = StoredCodec {
            compression: Compression::Lz4,
            level: None,
        };
        let refused = stored.recompress(header(&torn).unwrap(), torn).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::CorruptMessage);
    }
}
