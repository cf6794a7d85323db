//! One record that a broker may refuse, and the words of its answer: rdkafka gives a program only
//! the code.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

/// The first version of Produce whose answer says why (KIP-467).
const VERSION: i16 = 8;
/// The number of the request, before the answer's body.
const ANSWER_HEADER_BYTES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a record to partition 0: the code, and what the answer says of the record.
pub(crate) fn produce(broker: &str, topic: &str, value: &[u8]) -> (i16, Vec<String>) {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(batch(value)));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic]);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Produce as i16)
        .with_request_api_version(VERSION);
    let mut frame = BytesMut::new();
    let version = ApiKey::Produce.request_header_version(VERSION);
    header.encode(&mut frame, version).unwrap();
    request.encode(&mut frame, VERSION).unwrap();

    let mut stream = TcpStream::connect(broker).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = u32::try_from(frame.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    let mut body = Bytes::from(answer).slice(ANSWER_HEADER_BYTES..);
    let answer = ProduceResponse::decode(&mut body, VERSION).unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    let said = partition.record_errors.iter();
    let said = said.filter_map(|error| error.batch_index_error_message.as_deref());
    (partition.error_code, said.map(str::to_owned).collect())
}

fn batch(value: &[u8]) -> Bytes {
    let since = UNIX_EPOCH.elapsed().unwrap();
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: i64::try_from(since.as_millis()).unwrap(),
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, [&record], &options).unwrap();
    batch.freeze()
}
