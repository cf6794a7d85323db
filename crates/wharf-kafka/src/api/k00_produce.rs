//! Produce: one record batch per partition, passed through as received.
//!
//! The batches are handed to the broker before `handle` returns, so requests of a connection keep
//! their order although the next frame is read before this one is answered. `acks=1` and
//! `acks=-1` mean the same here: synced; the time-out is for replicas, which there are none of.
//! `acks=0` sends no byte back; when it fails the connection ends.

use futures_util::FutureExt;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use uuid::Uuid;
use wharf_broker::{Error, ErrorKind, Produce, Produced, Protocol, RecordError};
use wharf_log::batch::{Compression, header};
use wharf_message::Timestamp;

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BYTES, INT16, INT32, Shape, TEXT, UUID, array};
use crate::wire::{message, text, topic_ref};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 0,
    name: "Produce",
    advertised: 0..=13,
    answered: 3..=13,
    kips: &[98, 110, 467, 516, 890],
    shape: Shape::new(
        9,
        &[
            TEXT,
            INT16,
            INT32,
            array(&[TEXT.to(12), UUID.from(13), array(&[INT32, BYTES])]),
        ],
    ),
    notes: "Versions 0 to 2 are advertised, as Kafka does for old librdkafka, and end the \
            connection. `acks=1` is synced like `acks=all`. From version 12 on a transactional batch \
            adds its partition to the transaction (KIP-890). Single records are looked \
            at where a setting asks for it (`cleanup.policy=compact`, \
            `message.timestamp.before.max.ms`, `wharf.schema.validation` and Confluent's names for it), \
            and of those that are refused at most 1,000 are named; \
            what else Kafka would refuse inside a batch, an LZ4 frame with dependent blocks say, is \
            kept as it came.",
};

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;
/// The first version that may carry zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// The first version that adds partitions to the transaction by writing to them (KIP-890).
const IMPLICIT_FROM: i16 = 12;
/// The first version with the first offset kept in the answer.
const LOG_START_FROM: i16 = 5;
/// The first version with sentences in the answer (KIP-467).
const MESSAGES_FROM: i16 = 8;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    let request: ProduceRequest = call.decode()?;
    let Call {
        broker, cx, reply, ..
    } = call;
    let acks = request.acks;
    let transactional_id = request.transactional_id.clone();
    let protocol = match reply.version >= IMPLICIT_FROM {
        true => Protocol::Implicit,
        false => Protocol::Explicit,
    };
    let (records, outline) = outline(request, reply.version);
    let produced = match transactional_id {
        Some(id) => broker
            .produce_in_transaction(&cx, &id, protocol, records)
            .left_future(),
        None => broker.produce(&cx, records).right_future(),
    };
    if acks == 0 {
        let finished = produced.map(move |produced| outline.fill(produced, reply.version));
        return Ok(Outcome::Silent(
            finished.map(|answer| unanswered(&answer)).boxed(),
        ));
    }
    let answer = produced.map(move |produced| reply.encode(&outline.fill(produced, reply.version)));
    Ok(Outcome::Queued(answer.boxed()))
}

/// What becomes of a connection whose producer wants no answer.
fn unanswered(answer: &ProduceResponse) -> Result<(), Disconnect> {
    let mut partitions = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    match partitions.find_map(|partition| partition.error_code.err()) {
        None => Ok(()),
        Some(error) => Err(Disconnect(format!(
            "records sent with acks=0 were refused: {error}"
        ))),
    }
}

/// What goes to the broker, and what the answer will look like.
fn outline(request: ProduceRequest, version: i16) -> (Vec<Produce>, Outline) {
    let refusal = refusal(&request);
    let mut records = Vec::new();
    let mut outline = Outline {
        topics: Vec::with_capacity(request.topic_data.len()),
    };
    for topic in request.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let produce = Produce {
                topic: topic_ref(version >= BY_ID_FROM, &topic.name, topic.topic_id),
                partition: partition.index,
                records: partition.records,
            };
            let refused = refusal.clone().or_else(|| refused_codec(&produce, version));
            if refused.is_none() {
                records.push(produce);
            }
            partitions.push((partition.index, refused));
        }
        outline.topics.push(Topic {
            name: topic.name,
            id: topic.topic_id,
            partitions,
        });
    }
    (records, outline)
}

/// Why the whole request is refused, if it is.
fn refusal(request: &ProduceRequest) -> Option<Error> {
    if !matches!(request.acks, -1..=1) {
        let sentence = format!("acks must be -1, 0 or 1, not {}", request.acks);
        return Some(Error::new(ErrorKind::InvalidRequiredAcks, sentence));
    }
    None
}

fn refused_codec(produce: &Produce, version: i16) -> Option<Error> {
    let header = header(produce.records.as_ref()?).ok()?;
    let early = version < ZSTD_FROM && header.compression() == Some(Compression::Zstd);
    early.then(|| {
        let sentence = format!("zstd needs Produce version {ZSTD_FROM} or later");
        Error::new(ErrorKind::UnsupportedCompressionType, sentence)
    })
}

/// The answer to come: every partition in the order of the request, some refused already.
struct Outline {
    topics: Vec<Topic>,
}

struct Topic {
    name: TopicName,
    id: Uuid,
    partitions: Vec<(i32, Option<Error>)>,
}

impl Outline {
    /// Fills in what became of the partitions that were not refused, in order.
    fn fill(self, produced: Vec<Result<Produced, Error>>, version: i16) -> ProduceResponse {
        let mut produced = produced.into_iter();
        let mut partition = |(index, refused): (i32, Option<Error>)| {
            let result = refused.map_or_else(|| produced.next().unwrap_or_else(lost), Err);
            answer(index, &result, version)
        };
        let mut topic = |topic: Topic| {
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.id)
                .with_partition_responses(
                    topic.partitions.into_iter().map(&mut partition).collect(),
                )
        };
        let responses = self.topics.into_iter().map(&mut topic).collect();
        ProduceResponse::default().with_responses(responses)
    }
}

fn lost() -> Result<Produced, Error> {
    Err(Error::new(
        ErrorKind::UnknownServerError,
        "the broker gave no answer for the partition",
    ))
}

fn answer(index: i32, result: &Result<Produced, Error>, version: i16) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(produced) => answer
            .with_base_offset(produced.base_offset)
            .with_log_append_time_ms(produced.append_time.map_or(-1, Timestamp::as_millis))
            .with_log_start_offset(if version >= LOG_START_FROM {
                produced.log_start
            } else {
                -1
            }),
        Err(error) => answer
            .with_error_code(error_code(error.kind))
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message((version >= MESSAGES_FROM).then(|| message(error)))
            .with_record_errors(match version >= MESSAGES_FROM {
                true => error.records.iter().map(record_error).collect(),
                false => Vec::new(),
            }),
    }
}

fn record_error(error: &RecordError) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(error.index)
        .with_batch_index_error_message(Some(text(error.message.as_str())))
}
