//! Topics, batches, and asking for them: what the tests of records share.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;
use wharf_broker::CreateTopic;
use wharf_log::batch::{Producer, Record, build, header};
use wharf_message::Timestamp;

use crate::support::{Node, START};

/// A topic as a request of some version names it.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) id: Uuid,
}

impl Named {
    pub(crate) fn name(self) -> TopicName {
        TopicName(StrBytes::from_static_str(self.name))
    }
}

pub(crate) fn create(node: &Node, name: &'static str, configs: &[(&str, &str)]) -> Named {
    let configs = configs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned())));
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(2),
        replication: None,
        assignment: Vec::new(),
        configs: configs.collect(),
    };
    let topic = node
        .run(node.broker.create_topic(&node.cx, topic, false))
        .unwrap();
    Named { name, id: topic.id }
}

pub(crate) fn nowhere() -> Named {
    Named {
        name: "nowhere",
        id: Uuid::from_u128(4711),
    }
}

pub(crate) fn batch_of(values: &[&'static str], producer: Option<Producer>) -> Bytes {
    let record = |value: &'static str| Record {
        timestamp: Timestamp::from_millis(START),
        value: Some(Bytes::from_static(value.as_bytes())),
        ..Record::default()
    };
    let records: Vec<Record> = values.iter().copied().map(record).collect();
    build(&records, producer)
}

pub(crate) fn produce_request(
    version: i16,
    topic: Named,
    partition: i32,
    records: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    let mut produced = TopicProduceData::default().with_partition_data(vec![data]);
    if version >= 13 {
        produced.topic_id = topic.id;
    } else {
        produced.name = topic.name();
    }
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![produced])
}

pub(crate) fn produce_with(
    node: &Node,
    version: i16,
    request: &ProduceRequest,
) -> PartitionProduceResponse {
    let answer = node.ask(version, request);
    let [topic] = &answer.responses[..] else {
        panic!("one topic")
    };
    assert_eq!(topic.name, request.topic_data[0].name);
    assert_eq!(topic.topic_id, request.topic_data[0].topic_id);
    let [partition] = &topic.partition_responses[..] else {
        panic!("one partition")
    };
    partition.clone()
}

pub(crate) fn produce(
    node: &Node,
    version: i16,
    topic: Named,
    records: Bytes,
) -> PartitionProduceResponse {
    produce_with(node, version, &produce_request(version, topic, 0, records))
}

pub(crate) fn fetch_request(
    version: i16,
    topic: Named,
    partition: i32,
    offset: i64,
) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let mut fetched = FetchTopic::default().with_partitions(vec![partition]);
    if version >= 13 {
        fetched.topic_id = topic.id;
    } else {
        fetched.topic = topic.name();
    }
    FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_min_bytes(1)
        .with_topics(vec![fetched])
}

pub(crate) fn only(answer: &FetchResponse) -> &PartitionData {
    assert_eq!(answer.error_code, 0);
    let [topic] = &answer.responses[..] else {
        panic!("one topic")
    };
    let [partition] = &topic.partitions[..] else {
        panic!("one partition")
    };
    partition
}

pub(crate) fn fetch(node: &Node, version: i16, topic: Named, offset: i64) -> PartitionData {
    only(&node.ask(version, &fetch_request(version, topic, 0, offset))).clone()
}

/// The first and last offset of every batch.
pub(crate) fn offsets(mut records: Bytes) -> Vec<(i64, i64)> {
    let mut offsets = Vec::new();
    while !records.is_empty() {
        let header = header(&records).unwrap();
        let batch = records.split_to(header.batch_bytes());
        assert!(wharf_log::batch::verify(&batch).is_ok());
        offsets.push((header.base_offset, header.last_offset()));
    }
    offsets
}
