//! The fetch response in all versions, as parts: headers in small buffers, batches as they are.

use bytes::{BufMut, Bytes, BytesMut};
use wharf_broker::{Fetched, FetchedPartition, TopicRef};
use wharf_log::{Aborted, Stretch};

use crate::Response;
use crate::error::{NONE, error_code};
use crate::frame::Reply;

/// What the headers of one partition take at most, as a first guess for the buffer.
const PARTITION_BYTES: usize = 64;

/// The whole response.
pub(super) fn write(reply: Reply, fetched: Fetched, read_committed: bool) -> Response {
    let mut writer = Writer {
        version: reply.version,
        flexible: reply.version >= 12,
        read_committed,
        out: BytesMut::with_capacity(PARTITION_BYTES * (fetched.partitions.len() + 1)),
        parts: Vec::new(),
        stretches: Vec::new(),
    };
    reply.header(&mut writer.out);
    writer.response(fetched);
    writer.finish()
}

struct Writer {
    version: i16,
    flexible: bool,
    read_committed: bool,
    out: BytesMut,
    parts: Vec<Bytes>,
    stretches: Vec<(usize, Stretch)>,
}

impl Writer {
    fn response(&mut self, fetched: Fetched) {
        const THROTTLE_MS: i32 = 0;
        self.out.put_i32(THROTTLE_MS);
        if self.version >= 7 {
            let error = fetched
                .error
                .as_ref()
                .map_or(NONE, |error| error_code(error.kind));
            self.out.put_i16(error);
            self.out.put_i32(fetched.session_id);
        }
        let topics = by_topic(fetched.partitions);
        self.count(topics.len());
        for (topic, partitions) in topics {
            self.topic(&topic);
            self.count(partitions.len());
            partitions
                .into_iter()
                .for_each(|partition| self.partition(partition));
            self.no_tags();
        }
        self.no_tags();
    }

    fn topic(&mut self, topic: &TopicRef) {
        match topic {
            TopicRef::Id(id) => self.out.put_slice(id.as_bytes()),
            TopicRef::Name(name) if self.flexible => {
                self.varint(name.len() + 1);
                self.out.put_slice(name.as_bytes());
            }
            TopicRef::Name(name) => {
                let length = i16::try_from(name.len()).expect("names were read with such a length");
                self.out.put_i16(length);
                self.out.put_slice(name.as_bytes());
            }
        }
    }

    fn partition(&mut self, partition: FetchedPartition) {
        const THIS_REPLICA: i32 = -1;
        self.out.put_i32(partition.partition);
        self.out.put_i16(
            partition
                .error
                .as_ref()
                .map_or(NONE, |error| error_code(error.kind)),
        );
        self.out.put_i64(partition.high_watermark);
        self.out.put_i64(partition.last_stable);
        if self.version >= 5 {
            self.out.put_i64(partition.log_start);
        }
        self.aborted_transactions(&partition.aborted);
        if self.version >= 11 {
            self.out.put_i32(THIS_REPLICA);
        }
        self.records(partition.stretch, partition.batches);
        self.no_tags();
    }

    /// Null for who does not care, a list for who does.
    fn aborted_transactions(&mut self, aborted: &[Aborted]) {
        if !self.read_committed {
            return match self.flexible {
                true => self.varint(0),
                false => self.out.put_i32(-1),
            };
        }
        self.count(aborted.len());
        for transaction in aborted {
            self.out.put_i64(transaction.producer_id);
            self.out.put_i64(transaction.first_offset);
            self.no_tags();
        }
    }

    /// The length of the records, and the batches as parts of their own.
    fn records(&mut self, stretch: Option<Stretch>, batches: Vec<Bytes>) {
        let stored = stretch.as_ref().map_or(0, Stretch::bytes);
        self.count(stored + batches.iter().map(Bytes::len).sum::<usize>());
        if let Some(stretch) = stretch {
            self.flush();
            self.stretches.push((self.parts.len(), stretch));
        }
        let batches = batches.into_iter().filter(|batch| !batch.is_empty());
        for batch in batches {
            self.flush();
            self.parts.push(batch);
        }
    }

    fn count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count + 1);
        } else {
            self.out
                .put_i32(i32::try_from(count).expect("a response is far below 2 GiB"));
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out
                .put_u8(u8::try_from(value & 0x7f).expect("seven bits fit") | 0x80);
            value >>= 7;
        }
        self.out
            .put_u8(u8::try_from(value).expect("seven bits fit"));
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.parts.push(self.out.split().freeze());
        }
    }

    fn finish(mut self) -> Response {
        self.flush();
        Response {
            stretches: self.stretches,
            ..self.parts.into()
        }
    }
}

/// Neighbours of one topic together, in order.
fn by_topic(partitions: Vec<FetchedPartition>) -> Vec<(TopicRef, Vec<FetchedPartition>)> {
    let mut topics: Vec<(TopicRef, Vec<FetchedPartition>)> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some((topic, partitions)) if *topic == partition.topic => partitions.push(partition),
            _ => topics.push((partition.topic.clone(), vec![partition])),
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::Decodable;
    use uuid::Uuid;
    use wharf_broker::{Error, ErrorKind};

    use super::*;

    fn fetched(by_id: bool) -> Fetched {
        let topic = |name: &str, id: u128| match by_id {
            true => TopicRef::Id(Uuid::from_u128(id)),
            false => TopicRef::Name(name.to_owned()),
        };
        let partition = |topic, partition, batches: &[&'static [u8]]| FetchedPartition {
            topic,
            partition,
            error: None,
            high_watermark: 7,
            last_stable: 6,
            log_start: 5,
            batches: batches
                .iter()
                .map(|batch| Bytes::from_static(batch))
                .collect(),
            stretch: None,
            aborted: vec![Aborted {
                producer_id: 3,
                first_offset: 4,
                last_offset: 5,
            }],
        };
        let mut partitions = vec![
            partition(topic("a", 1), 0, &[b"one", b"two"]),
            partition(topic("a", 1), 1, &[]),
            partition(topic("b", 2), 0, &[b"three"]),
        ];
        partitions[1].error = Some(Error::new(ErrorKind::OffsetOutOfRange, "no"));
        Fetched {
            error: None,
            throttle: Default::default(),
            session_id: 9,
            partitions,
        }
    }

    #[test]
    fn every_version_is_read_back_by_the_codec_and_batches_are_not_copied() {
        for version in 4..=18 {
            for read_committed in [false, true] {
                let fetched = fetched(version >= 13);
                let batch = fetched.partitions[0].batches[1].clone();
                let reply = Reply {
                    correlation: 3,
                    version,
                    flexible_header: version >= 12,
                };
                let response = write(reply, fetched, read_committed);
                assert!(
                    response
                        .parts
                        .iter()
                        .any(|part| part.as_ptr() == batch.as_ptr())
                );
                let mut frame = Bytes::from(response.parts.concat());
                let header = if version >= 12 { 5 } else { 4 };
                assert_eq!(frame.split_to(header)[..4], 3_i32.to_be_bytes());
                let read = FetchResponse::decode(&mut frame, version).expect("a response");
                assert!(frame.is_empty(), "v{version}");
                let [a, b] = &read.responses[..] else {
                    panic!("two topics")
                };
                assert_eq!(a.topic_id.as_u128(), if version >= 13 { 1 } else { 0 });
                assert_eq!(b.topic.as_str(), if version >= 13 { "" } else { "b" });
                let first = &a.partitions[0];
                assert_eq!(first.records.as_deref(), Some(&b"onetwo"[..]));
                assert_eq!((first.high_watermark, first.last_stable_offset), (7, 6));
                assert_eq!(first.log_start_offset, if version >= 5 { 5 } else { -1 });
                assert_eq!(first.preferred_read_replica, -1);
                let aborted = first.aborted_transactions.as_deref().map(|aborted| {
                    let told = aborted
                        .iter()
                        .map(|one| (one.producer_id.0, one.first_offset));
                    told.collect::<Vec<_>>()
                });
                assert_eq!(aborted, read_committed.then(|| vec![(3, 4)]));
                assert_eq!(a.partitions[1].error_code, 1);
                assert_eq!(a.partitions[1].records.as_deref(), Some(&b""[..]));
                assert_eq!(read.session_id, if version >= 7 { 9 } else { 0 });
            }
        }
    }
}
