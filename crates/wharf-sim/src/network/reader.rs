//! A reader: fetches from where it stands, over every restart, and remembers what it was handed.

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use wharf_log::batch;
use wharf_log::disk::simulated::Random;

use super::clients::{Client, Knowledge, Numbers, Outbox};
use super::wire::{self, topic};
use crate::checkers::{Broken, broken};
use crate::view::Stored;

const FETCH_VERSION: i16 = 12;
const READS: &str = "a read returns what was asked for";
/// UNKNOWN_TOPIC_OR_PARTITION: nobody has made it yet.
const UNKNOWN_TOPIC: i16 = 3;

/// The reader.
#[derive(Debug)]
pub(super) struct ReaderClient {
    partition: i32,
    next: i64,
    numbers: Numbers,
    asked: Option<i32>,
}

impl ReaderClient {
    pub(super) fn new(partition: i32) -> Self {
        Self {
            partition,
            next: 0,
            numbers: Numbers::default(),
            asked: None,
        }
    }

    fn take(&mut self, records: &Bytes, known: &mut Knowledge) -> Result<(), Broken> {
        let mut rest = records.clone();
        while !rest.is_empty() {
            let header = match batch::header(&rest) {
                Ok(header) if header.batch_bytes() <= rest.len() => header,
                // The last batch of an answer may be cut off.
                _ => break,
            };
            let bytes = rest.split_to(header.batch_bytes());
            if let Err(error) = batch::verify(&bytes) {
                return broken(READS, error.to_string());
            }
            if header.last_offset() < self.next {
                continue;
            }
            if header.base_offset > self.next {
                let detail = format!("{} after {}", header.base_offset, self.next);
                return broken(READS, detail);
            }
            self.next = header.last_offset() + 1;
            known.fetched += 1;
            known.sent.seen(self.partition, &Stored { header, bytes })?;
        }
        Ok(())
    }
}

impl Client for ReaderClient {
    fn cut(&mut self) {
        self.asked = None;
    }

    fn answer(&mut self, answer: Bytes, known: &mut Knowledge) -> Result<(), Broken> {
        if self.asked.take() != Some(wire::correlation(&answer)) {
            return broken("answers keep the order of requests", "a fetch");
        }
        let answer = wire::answer::<FetchRequest>(FETCH_VERSION, answer)?;
        let topics = answer.responses.first();
        let Some(data) = topics.and_then(|topic| topic.partitions.first()) else {
            return broken(READS, format!("nothing, with error {}", answer.error_code));
        };
        match data.error_code {
            0 => {}
            UNKNOWN_TOPIC if self.next == 0 => return Ok(()),
            code => return broken(READS, format!("error {code} at {}", self.next)),
        }
        match data.records.clone() {
            Some(records) => self.take(&records, known),
            None => Ok(()),
        }
    }

    fn act(&mut self, out: &mut Outbox, _known: &mut Knowledge, random: &mut Random) {
        if self.asked.is_some() {
            return;
        }
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(self.next)
            .with_partition_max_bytes(1 + i32::try_from(random.below(5_000)).unwrap_or(0));
        let wanted = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_wait_ms(i32::try_from(random.below(300)).unwrap_or(0))
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        self.asked = Some(self.numbers.ask(out, FETCH_VERSION, &request));
    }
}
