//! Records in, records out, in every version.

use bytes::Bytes;
use futures_util::future::join;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest, ProduceRequest};
use wharf_kafka::Outcome;
use wharf_log::batch::Producer;

use crate::records::{
    batch_of, create, fetch, fetch_request, nowhere, offsets, only, produce, produce_request,
    produce_with,
};
use crate::support::{Node, frame, read};

/// Where the attributes of a batch are.
const ATTRIBUTES_AT: usize = 21;

#[test]
fn what_is_produced_in_every_version_is_fetched_in_every_version() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let mut expected = Vec::new();
    for (index, version) in (3..=13).enumerate() {
        let base = index as i64 * 2;
        let answer = produce(&node, version, topic, batch_of(&["one", "two"], None));
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, base),
            "v{version}"
        );
        assert_eq!(answer.log_append_time_ms, -1);
        assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert!(answer.error_message.is_none() && answer.record_errors.is_empty());
        expected.push((base, base + 1));
    }
    let end = expected.len() as i64 * 2;
    for version in 4..=18 {
        let data = fetch(&node, version, topic, 0);
        assert_eq!(
            (data.error_code, data.high_watermark),
            (0, end),
            "v{version}"
        );
        assert_eq!(data.last_stable_offset, end);
        assert_eq!(data.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert_eq!(data.preferred_read_replica, -1);
        assert_eq!(offsets(data.records.unwrap()), expected, "v{version}");
    }
}

#[test]
fn a_refused_batch_names_its_records_from_the_version_on_that_can() {
    let node = Node::new();
    let topic = create(&node, "orders", &[("cleanup.policy", "compact")]);
    for version in 3..=13 {
        let answer = produce(&node, version, topic, batch_of(&["one", "two"], None));
        let code = ResponseError::InvalidRecord.code();
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (code, -1),
            "v{version}"
        );
        let errors = answer.record_errors;
        assert_eq!(answer.error_message.is_some(), version >= 8, "v{version}");
        if version < 8 {
            assert_eq!(errors, [], "v{version}");
            continue;
        }
        let indexes: Vec<i32> = errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(indexes, [0, 1], "v{version}");
        for error in errors {
            let message = error.batch_index_error_message.unwrap();
            assert!(message.contains("key"), "v{version}: {message}");
        }
    }
    let data = fetch(&node, 12, topic, 0);
    assert_eq!(
        (data.error_code, data.high_watermark),
        (0, 0),
        "nothing of it was appended"
    );
}

#[test]
fn a_fetch_inside_a_batch_answers_the_whole_batch() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    produce(&node, 9, topic, batch_of(&["a", "b", "c"], None));
    produce(&node, 9, topic, batch_of(&["d"], None));
    let data = fetch(&node, 12, topic, 2);
    assert_eq!(offsets(data.records.unwrap()), [(0, 2), (3, 3)]);
    let beyond = fetch(&node, 12, topic, 5);
    assert_eq!(beyond.error_code, ResponseError::OffsetOutOfRange.code());
    assert_eq!(beyond.records.as_deref(), Some(&b""[..]));
}

#[test]
fn a_fetch_at_the_end_waits_as_long_as_asked_and_answers_nothing() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let request = fetch_request(12, topic, 0, 0).with_max_wait_ms(500);
    let before = node.now();
    let answer = node.ask(12, &request);
    assert_eq!(only(&answer).records.as_deref(), Some(&b""[..]));
    assert_eq!(node.now() - before, 500);
}

#[test]
fn a_waiting_fetch_is_answered_by_the_next_produce() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let request = fetch_request(12, topic, 0, 0).with_max_wait_ms(30_000);
    let before = node.now();
    let waiting = node.service.handle(&node.cx, frame(12, &request)).unwrap();
    let Outcome::Answer(waiting) = waiting else {
        panic!("a fetch waits its turn")
    };
    let produced = produce_request(9, topic, 0, batch_of(&["a"], None));
    let produced = node.service.handle(&node.cx, frame(9, &produced)).unwrap();
    let Outcome::Queued(produced) = produced else {
        panic!("a produce is queued")
    };
    let (fetched, produced) = node.run(join(waiting, produced));
    assert!(produced.is_ok());
    let answer = read::<FetchRequest>(12, 12, fetched.unwrap().parts.concat().into());
    assert_eq!(offsets(only(&answer).records.clone().unwrap()), [(0, 0)]);
    assert_eq!(node.now(), before);
}

#[test]
fn produce_requests_keep_their_order_before_anyone_waits_for_them() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let queue = |value| {
        let request = produce_request(9, topic, 0, batch_of(&[value], None));
        node.service.handle(&node.cx, frame(9, &request)).unwrap()
    };
    let mut queued: Vec<Outcome> = ["a", "b", "c"].into_iter().map(queue).collect();
    queued.reverse();
    let base = |outcome| {
        let answer = node.finish(outcome).unwrap().unwrap();
        read::<ProduceRequest>(9, 9, answer).responses[0].partition_responses[0].base_offset
    };
    let bases: Vec<i64> = queued.into_iter().map(base).collect();
    assert_eq!(bases, [2, 1, 0]);
}

#[test]
fn acks_zero_that_failed_ends_the_connection() {
    let node = Node::new();
    let request = produce_request(9, nowhere(), 0, batch_of(&["a"], None)).with_acks(0);
    let ended = node.send(frame(9, &request)).unwrap_err();
    assert_eq!(
        ended.0,
        "records sent with acks=0 were refused: UnknownTopicOrPartition"
    );
}

#[test]
fn acks_that_do_not_exist_are_refused_and_nothing_is_written() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    for (version, acks) in [(3, 2), (9, -2), (13, i16::MAX)] {
        let request = produce_request(version, topic, 0, batch_of(&["a"], None)).with_acks(acks);
        let refused = produce_with(&node, version, &request);
        assert_eq!(
            refused.error_code,
            ResponseError::InvalidRequiredAcks.code()
        );
        assert_eq!(refused.base_offset, -1);
    }
    assert_eq!(fetch(&node, 12, topic, 0).high_watermark, 0);
}

#[test]
fn a_wrong_checksum_is_a_corrupt_message_with_a_sentence_where_there_is_room() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    for version in 3..=13 {
        let mut damaged = batch_of(&["a"], None).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let refused = produce(&node, version, topic, damaged.into());
        assert_eq!(
            refused.error_code,
            ResponseError::CorruptMessage.code(),
            "v{version}"
        );
        assert_eq!(refused.base_offset, -1);
        assert_eq!(refused.error_message.is_some(), version >= 8, "v{version}");
    }
    assert_eq!(fetch(&node, 12, topic, 0).high_watermark, 0);
}

#[test]
fn batches_that_are_none_are_refused_one_by_one() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let mut old = batch_of(&["a"], None).to_vec();
    old[16] = 1;
    let two = [batch_of(&["a"], None), batch_of(&["b"], None)].concat();
    let whole = batch_of(&["a"], None);
    for bad in [
        Bytes::new(),
        Bytes::from_static(b"x"),
        old.into(),
        two.into(),
        whole.slice(..whole.len() - 1),
    ] {
        let refused = produce(&node, 9, topic, bad.clone());
        assert_ne!(refused.error_code, 0, "{bad:?}");
        assert_ne!(
            refused.error_code,
            ResponseError::UnknownServerError.code(),
            "{bad:?}"
        );
    }
    let mut request = produce_request(9, topic, 0, Bytes::new());
    request.topic_data[0].partition_data[0].records = None;
    assert_ne!(produce_with(&node, 9, &request).error_code, 0);
    assert_eq!(fetch(&node, 12, topic, 0).high_watermark, 0);
}

#[test]
fn one_bad_partition_does_not_keep_the_others_from_being_written() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let mut request = produce_request(9, topic, 7, batch_of(&["a"], None));
    let second = produce_request(9, topic, 1, batch_of(&["b"], None));
    request.topic_data[0]
        .partition_data
        .extend(second.topic_data[0].partition_data.clone());
    let answer = node.ask(9, &request);
    let partitions = &answer.responses[0].partition_responses;
    let results: Vec<_> = partitions.iter().map(|p| (p.index, p.error_code)).collect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(results, [(7, unknown), (1, 0)]);
}

#[test]
fn unknown_topics_are_refused_by_name_and_by_id() {
    let node = Node::new();
    for (version, error) in [
        (12, ResponseError::UnknownTopicOrPartition),
        (13, ResponseError::UnknownTopicId),
    ] {
        let refused = produce(&node, version, nowhere(), batch_of(&["a"], None));
        assert_eq!(refused.error_code, error.code());
        assert_eq!(fetch(&node, version, nowhere(), 0).error_code, error.code());
    }
}

#[test]
fn zstd_needs_the_version_that_knows_it() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let mut zstd = batch_of(&["a"], None).to_vec();
    zstd[ATTRIBUTES_AT + 1] = 4;
    let zstd = Bytes::from(zstd);
    let unsupported = ResponseError::UnsupportedCompressionType.code();
    assert_eq!(
        produce(&node, 6, topic, zstd.clone()).error_code,
        unsupported
    );
    let corrupt = ResponseError::CorruptMessage.code();
    assert_eq!(produce(&node, 7, topic, zstd).error_code, corrupt);
}

#[test]
fn a_duplicate_of_an_idempotent_producer_answers_with_the_original_offset() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    let producer = node.ask(2, &init);
    assert_eq!(producer.error_code, 0);
    let batch = |sequence| {
        let (id, epoch) = (producer.producer_id.0, producer.producer_epoch);
        batch_of(
            &["a", "b"],
            Some(Producer {
                id,
                epoch,
                sequence,
            }),
        )
    };
    assert_eq!(produce(&node, 9, topic, batch(0)).base_offset, 0);
    assert_eq!(produce(&node, 9, topic, batch(2)).base_offset, 2);
    let again = produce(&node, 9, topic, batch(0));
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = produce(&node, 9, topic, batch(40));
    assert_eq!(
        gap.error_code,
        ResponseError::OutOfOrderSequenceNumber.code()
    );
    assert_eq!(fetch(&node, 12, topic, 0).high_watermark, 4);
}

#[test]
fn append_time_is_told_where_the_topic_asks_for_it() {
    let node = Node::new();
    let topic = create(
        &node,
        "stamped",
        &[("message.timestamp.type", "LogAppendTime")],
    );
    let answer = produce(&node, 9, topic, batch_of(&["a"], None));
    assert_eq!(answer.log_append_time_ms, node.now());
}

#[test]
fn a_session_answers_only_what_is_new() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    for version in 7..=18 {
        let end = fetch(&node, version, topic, 0).high_watermark;
        let first = fetch_request(version, topic, 0, end).with_session_epoch(0);
        let answer = node.ask(version, &first);
        let session = answer.session_id;
        assert_ne!(session, 0, "v{version}");
        assert_eq!(only(&answer).records.as_deref(), Some(&b""[..]));
        let next = |epoch| {
            let request = fetch_request(version, topic, 0, end).with_topics(Vec::new());
            node.ask(
                version,
                &request.with_session_id(session).with_session_epoch(epoch),
            )
        };
        assert!(next(1).responses.is_empty(), "v{version}");
        produce(&node, 9, topic, batch_of(&["a"], None));
        let news = next(2);
        assert_eq!(news.session_id, session);
        assert_eq!(offsets(only(&news).records.clone().unwrap()), [(end, end)]);
        let stale = next(2);
        assert_eq!(
            stale.error_code,
            ResponseError::InvalidFetchSessionEpoch.code()
        );
    }
}

#[test]
fn a_partition_can_leave_a_session_and_an_unknown_session_is_refused() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let first = fetch_request(12, topic, 0, 0).with_session_epoch(0);
    let session = node.ask(12, &first).session_id;
    produce(&node, 9, topic, batch_of(&["a"], None));
    let forgotten = ForgottenTopic::default()
        .with_topic(topic.name())
        .with_partitions(vec![0]);
    let forget = first
        .clone()
        .with_topics(Vec::new())
        .with_session_id(session)
        .with_session_epoch(1)
        .with_forgotten_topics_data(vec![forgotten]);
    assert!(node.ask(12, &forget).responses.is_empty());
    let unknown = first.with_session_id(session + 1000).with_session_epoch(1);
    let refused = node.ask(12, &unknown);
    assert_eq!(
        refused.error_code,
        ResponseError::FetchSessionIdNotFound.code()
    );
    assert!(refused.responses.is_empty());
}

#[test]
fn a_session_begun_with_names_does_not_go_on_with_ids() {
    let node = Node::new();
    let topic = create(&node, "orders", &[]);
    let session = node
        .ask(12, &fetch_request(12, topic, 0, 0).with_session_epoch(0))
        .session_id;
    produce(&node, 9, topic, batch_of(&["a"], None));
    let by_id = fetch_request(13, topic, 0, 0).with_topics(Vec::new());
    let refused = node.ask(13, &by_id.with_session_id(session).with_session_epoch(1));
    assert_eq!(
        refused.error_code,
        ResponseError::FetchSessionTopicIdError.code()
    );
    assert!(refused.responses.is_empty());
}
