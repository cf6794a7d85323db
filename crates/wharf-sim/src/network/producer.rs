//! An idempotent producer: makes the topic, gets an id, sends batches without waiting, and after a cut
//! or a refusal sends everything again that was not acknowledged, in order.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, InitProducerIdRequest, ProduceRequest, ProducerId,
};
use wharf_log::batch::{self, Producer, Record};
use wharf_log::disk::simulated::Random;

use super::clients::{Client, Knowledge, Numbers, Outbox};
use super::wire::{self, PARTITIONS, topic};
use crate::broker::EPOCH;
use crate::checkers::{Broken, broken};

const CREATE_VERSION: i16 = 5;
const INIT_VERSION: i16 = 4;
const PRODUCE_VERSION: i16 = 9;
/// Kafka's bound for idempotent producers.
const IN_FLIGHT_MAX: usize = 5;
/// TOPIC_ALREADY_EXISTS.
const ALREADY_EXISTS: i16 = 36;
/// OUT_OF_ORDER_SEQUENCE_NUMBER.
const OUT_OF_ORDER: i16 = 45;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create,
    Id,
    /// The first sequence of the batch.
    Batch(i32),
}

#[derive(Debug)]
struct Batch {
    sequence: i32,
    records: i32,
    bytes: Bytes,
}

/// The producer.
#[derive(Debug)]
pub(super) struct ProducerClient {
    partition: i32,
    numbers: Numbers,
    asked: VecDeque<(i32, Asked)>,
    topic_made: bool,
    id: Option<(i64, i16)>,
    /// Batches that were not acknowledged; the first `sent` of them are on their way.
    waiting: VecDeque<Batch>,
    sent: usize,
    next_sequence: i32,
    /// Something was refused: everything is sent again once every answer is there.
    again: bool,
}

impl ProducerClient {
    pub(super) fn new(index: usize) -> Self {
        Self {
            partition: i32::try_from(index).unwrap_or(0) % PARTITIONS,
            numbers: Numbers::default(),
            asked: VecDeque::new(),
            topic_made: false,
            id: None,
            waiting: VecDeque::new(),
            sent: 0,
            next_sequence: 0,
            again: false,
        }
    }

    fn make(&mut self, known: &mut Knowledge, random: &mut Random) {
        let Some((id, epoch)) = self.id else { return };
        let count = random.between(1, 3);
        let value = vec![b'n'; random.index(400)];
        // Far from any retention.
        let record = Record {
            timestamp: EPOCH,
            value: Some(value.into()),
            ..Record::default()
        };
        let records = vec![record; usize::try_from(count).unwrap_or(1)];
        let producer = Producer {
            id,
            epoch,
            sequence: self.next_sequence,
        };
        let bytes = batch::build(&records, Some(producer));
        known.sent.sent(&bytes);
        let records = i32::try_from(count).unwrap_or(1);
        self.waiting.push_back(Batch {
            sequence: self.next_sequence,
            records,
            bytes,
        });
        self.next_sequence += records;
    }

    fn send(&mut self, out: &mut Outbox) {
        while let Some(batch) = self.waiting.get(self.sent) {
            let data = PartitionProduceData::default()
                .with_index(self.partition)
                .with_records(Some(batch.bytes.clone()));
            let data = TopicProduceData::default()
                .with_name(topic())
                .with_partition_data(vec![data]);
            let request = ProduceRequest::default()
                .with_transactional_id(None)
                .with_acks(-1)
                .with_timeout_ms(30_000)
                .with_topic_data(vec![data]);
            let number = self.numbers.ask(out, PRODUCE_VERSION, &request);
            self.asked.push_back((number, Asked::Batch(batch.sequence)));
            self.sent += 1;
        }
    }

    fn made(&mut self, answer: Bytes, known: &Knowledge) -> Result<(), Broken> {
        let answer = wire::answer::<CreateTopicsRequest>(CREATE_VERSION, answer)?;
        match answer.topics.first().map(|topic| topic.error_code) {
            Some(0 | ALREADY_EXISTS) => {
                self.topic_made = true;
                Ok(())
            }
            code => known.may_retry("create topic", code.unwrap_or(-1)),
        }
    }

    fn identified(&mut self, answer: Bytes, known: &Knowledge) -> Result<(), Broken> {
        let answer = wire::answer::<InitProducerIdRequest>(INIT_VERSION, answer)?;
        if answer.error_code != 0 {
            return known.may_retry("init producer", answer.error_code);
        }
        self.id = Some((answer.producer_id.0, answer.producer_epoch));
        Ok(())
    }

    fn produced(
        &mut self,
        sequence: i32,
        answer: Bytes,
        known: &mut Knowledge,
    ) -> Result<(), Broken> {
        let answer = wire::answer::<ProduceRequest>(PRODUCE_VERSION, answer)?;
        let topics = answer.responses.first();
        let Some(answer) = topics.and_then(|topic| topic.partition_responses.first()) else {
            return broken("units are answered by the rules", "an empty answer");
        };
        match answer.error_code {
            0 => {
                let expected = self.waiting.front();
                let expected = expected.is_some_and(|batch| batch.sequence == sequence);
                let first = expected.then(|| self.waiting.pop_front()).flatten();
                let Some(batch) = first else {
                    let detail = format!("{sequence} was acknowledged before an older one");
                    return broken("units are answered by the rules", detail);
                };
                self.sent -= 1;
                debug_assert!(batch.records > 0, "batches have records");
                known
                    .sent
                    .acknowledged((self.partition, answer.base_offset), &batch.bytes)
            }
            // What follows a refused batch comes too early.
            OUT_OF_ORDER if self.again => Ok(()),
            code => {
                self.again = true;
                known.may_retry("produce", code)
            }
        }
    }
}

impl Client for ProducerClient {
    fn cut(&mut self) {
        self.asked.clear();
        self.again |= self.sent > 0;
    }

    fn answer(&mut self, answer: Bytes, known: &mut Knowledge) -> Result<(), Broken> {
        let number = wire::correlation(&answer);
        match self.asked.pop_front() {
            Some((expected, asked)) if expected == number => match asked {
                Asked::Create => self.made(answer, known),
                Asked::Id => self.identified(answer, known),
                Asked::Batch(sequence) => self.produced(sequence, answer, known),
            },
            other => broken(
                "answers keep the order of requests",
                format!("{number}: {other:?}"),
            ),
        }
    }

    fn act(&mut self, out: &mut Outbox, known: &mut Knowledge, random: &mut Random) {
        let idle = self.asked.is_empty();
        if !self.topic_made {
            if idle {
                let new = CreatableTopic::default()
                    .with_name(topic())
                    .with_num_partitions(PARTITIONS)
                    .with_replication_factor(1);
                let request = CreateTopicsRequest::default()
                    .with_timeout_ms(30_000)
                    .with_topics(vec![new]);
                let number = self.numbers.ask(out, CREATE_VERSION, &request);
                self.asked.push_back((number, Asked::Create));
            }
            return;
        }
        if self.id.is_none() {
            if idle {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_transaction_timeout_ms(60_000)
                    .with_producer_id(ProducerId(-1))
                    .with_producer_epoch(-1);
                let number = self.numbers.ask(out, INIT_VERSION, &request);
                self.asked.push_back((number, Asked::Id));
            }
            return;
        }
        if self.again {
            if !idle {
                return;
            }
            known.sent_again += self.sent as u64;
            (self.again, self.sent) = (false, 0);
        }
        while self.waiting.len() < IN_FLIGHT_MAX && random.percent(40) {
            self.make(known, random);
        }
        self.send(out);
    }
}
