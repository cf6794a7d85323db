//! Transactions over the wire: every key in every version, both generations of the protocol.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FetchRequest, GroupId, InitProducerIdRequest,
    ListTransactionsRequest, OffsetFetchRequest, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use wharf_log::batch::{Producer, Record, build_transactional};
use wharf_message::Timestamp;

use crate::records::{Named, create, fetch_request, offsets, only, produce_request, produce_with};
use crate::support::{Node, START, frame_as, read};

const TOPIC: &str = "orders";

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn id(value: &str) -> TransactionalId {
    TransactionalId(text(value))
}

fn topic_name() -> TopicName {
    TopicName(text(TOPIC))
}

/// A producer as the node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who(i64, i16);

fn init_in(node: &Node, version: i16, name: &str, current: Option<Who>) -> (i16, Who) {
    let Who(producer, epoch) = current.unwrap_or(Who(-1, -1));
    let mut request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id(name)))
        .with_transaction_timeout_ms(60_000);
    if version >= 3 {
        request = request
            .with_producer_id(ProducerId(producer))
            .with_producer_epoch(epoch);
    }
    let answer = node.ask(version, &request);
    (
        answer.error_code,
        Who(answer.producer_id.0, answer.producer_epoch),
    )
}

fn init(node: &Node, name: &str) -> Who {
    let (error, who) = init_in(node, 5, name, None);
    assert_eq!(error, 0);
    who
}

fn transactional_batch(who: Who, sequence: i32) -> Bytes {
    let record = Record {
        timestamp: Timestamp::from_millis(START),
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    };
    let producer = Producer {
        id: who.0,
        epoch: who.1,
        sequence,
    };
    build_transactional(&[record], producer)
}

fn produce(node: &Node, version: i16, topic: Named, name: &str, batch: Bytes) -> i16 {
    let request = produce_request(version, topic, 0, batch).with_transactional_id(Some(id(name)));
    produce_with(node, version, &request).error_code
}

fn add_partitions(node: &Node, version: i16, name: &str, who: Who, indexes: &[i32]) -> Vec<i16> {
    ask_partitions(node, version, name, who, indexes, false)
}

fn ask_partitions(
    node: &Node,
    version: i16,
    name: &str,
    who: Who,
    indexes: &[i32],
    verify_only: bool,
) -> Vec<i16> {
    let topic = AddPartitionsToTxnTopic::default()
        .with_name(topic_name())
        .with_partitions(indexes.to_vec());
    let request = AddPartitionsToTxnRequest::default();
    let request = if version < 4 {
        request
            .with_v3_and_below_transactional_id(id(name))
            .with_v3_and_below_producer_id(ProducerId(who.0))
            .with_v3_and_below_producer_epoch(who.1)
            .with_v3_and_below_topics(vec![topic])
    } else {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(id(name))
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(who.1)
            .with_verify_only(verify_only)
            .with_topics(vec![topic]);
        request.with_transactions(vec![transaction])
    };
    let answer = node.ask(version, &request);
    assert_eq!(answer.error_code, 0);
    let topics = if version < 4 {
        answer.results_by_topic_v3_and_below
    } else {
        let results = answer.results_by_transaction.into_iter().next().unwrap();
        assert_eq!(results.transactional_id, id(name));
        results.topic_results
    };
    let results = topics.into_iter().next().unwrap().results_by_partition;
    results
        .iter()
        .map(|result| result.partition_error_code)
        .collect()
}

fn end(node: &Node, version: i16, name: &str, who: Who, commit: bool) -> (i16, Who) {
    let request = EndTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(who.0))
        .with_producer_epoch(who.1)
        .with_committed(commit);
    let answer = node.ask(version, &request);
    (
        answer.error_code,
        Who(answer.producer_id.0, answer.producer_epoch),
    )
}

fn commit_offset(node: &Node, version: i16, name: &str, who: Who, offset: i64) -> i16 {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("näme")));
    let topic = TxnOffsetCommitRequestTopic::default()
        .with_name(topic_name())
        .with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(id(name))
        .with_group_id(GroupId(text("g")))
        .with_producer_id(ProducerId(who.0))
        .with_producer_epoch(who.1)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    let answer = node.ask(version, &request);
    answer.topics[0].partitions[0].error_code
}

fn add_offsets(node: &Node, version: i16, name: &str, who: Who) -> i16 {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id(name))
        .with_producer_id(ProducerId(who.0))
        .with_producer_epoch(who.1)
        .with_group_id(GroupId(text("g")));
    node.ask(version, &request).error_code
}

/// The error and the offset that OffsetFetch answers.
fn fetch_offset(node: &Node, version: i16, stable: bool) -> (i16, i64) {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name())
            .with_partition_indexes(vec![0]);
        let request = request
            .with_group_id(GroupId(text("g")))
            .with_topics(Some(vec![topic]));
        let request = if version >= 7 {
            request.with_require_stable(stable)
        } else {
            request
        };
        let answer = node.ask(version, &request);
        let found = &answer.topics[0].partitions[0];
        return (found.error_code, found.committed_offset);
    }
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name())
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]));
    let request = request.with_groups(vec![group]).with_require_stable(stable);
    let answer = node.ask(version, &request);
    let found = &answer.groups[0].topics[0].partitions[0];
    (found.error_code, found.committed_offset)
}

fn fetch_committed(version: i16, topic: Named) -> FetchRequest {
    fetch_request(version, topic, 0, 0).with_isolation_level(1)
}

fn state(node: &Node, name: &str) -> (i16, String) {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(name)]);
    let answer = node.ask(0, &request);
    let found = &answer.transaction_states[0];
    (found.error_code, found.transaction_state.to_string())
}

#[test]
fn the_first_generation_goes_its_way_in_every_version() {
    for version in 0..=5 {
        let node = Node::new();
        let topic = create(&node, TOPIC, &[]);
        let (error, who) = init_in(&node, version, "one", None);
        assert_eq!((error, who.1), (0, 0), "v{version}");
        assert_eq!(
            add_partitions(&node, version, "one", who, &[0]),
            [0],
            "v{version}"
        );
        assert_eq!(state(&node, "one"), (0, "Ongoing".to_owned()));
        for (sequence, produce_version) in (3..=11).enumerate() {
            let batch = transactional_batch(who, i32::try_from(sequence).unwrap());
            assert_eq!(produce(&node, produce_version, topic, "one", batch), 0);
        }
        assert_eq!(
            add_offsets(&node, version.min(4), "one", who),
            0,
            "v{version}"
        );
        assert_eq!(
            commit_offset(&node, version.min(4), "one", who, 7),
            0,
            "v{version}"
        );
        assert_eq!(fetch_offset(&node, 9, false), (0, -1));
        let (error, _) = end(&node, version.min(4), "one", who, true);
        assert_eq!(error, 0, "v{version}");
        assert_eq!(fetch_offset(&node, 9, true), (0, 7));
        assert_eq!(state(&node, "one"), (0, "CompleteCommit".to_owned()));
    }
}

#[test]
fn the_second_generation_adds_by_writing_and_raises_the_epoch_with_every_end() {
    for version in [12, 13] {
        let node = Node::new();
        let topic = create(&node, TOPIC, &[]);
        let mut who = init(&node, "one");
        for round in 0..3 {
            assert_eq!(
                produce(&node, version, topic, "one", transactional_batch(who, 0)),
                0
            );
            assert_eq!(commit_offset(&node, 5, "one", who, round), 0);
            let (error, next) = end(&node, 5, "one", who, true);
            assert_eq!((error, next), (0, Who(who.0, who.1 + 1)));
            // The answer was lost: asked again, it is the same.
            assert_eq!(end(&node, 5, "one", who, true), (0, next));
            who = next;
            assert_eq!(fetch_offset(&node, 9, true), (0, round));
        }
        let fetched = node.ask(12, &fetch_committed(12, topic));
        assert_eq!(only(&fetched).last_stable_offset, 6);
        assert!(
            only(&fetched)
                .aborted_transactions
                .as_ref()
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn aborted_transactions_are_told_to_readers_of_committed_records_in_every_version() {
    let node = Node::new();
    let topic = create(&node, TOPIC, &[]);
    let (one, two) = (init(&node, "one"), init(&node, "two"));
    for (name, who) in [("one", one), ("two", two)] {
        assert_eq!(
            produce(&node, 12, topic, name, transactional_batch(who, 0)),
            0
        );
    }
    for version in 4..=18 {
        let open = node.ask(version, &fetch_committed(version, topic));
        assert_eq!(only(&open).last_stable_offset, 0, "v{version}");
        assert_eq!(only(&open).high_watermark, 2, "v{version}");
        assert!(
            only(&open).records.as_ref().unwrap().is_empty(),
            "v{version}"
        );
    }
    // The later one is aborted first: what is told is in the order of the first offsets.
    for (name, who) in [("two", two), ("one", one)] {
        assert_eq!(end(&node, 5, name, who, false).0, 0);
    }
    for version in 4..=18 {
        let committed = node.ask(version, &fetch_committed(version, topic));
        let found = only(&committed);
        assert_eq!(
            (found.last_stable_offset, found.high_watermark),
            (4, 4),
            "v{version}"
        );
        let aborted = found.aborted_transactions.as_ref().unwrap();
        let aborted: Vec<_> = aborted
            .iter()
            .map(|one| (one.producer_id.0, one.first_offset))
            .collect();
        assert_eq!(aborted, [(one.0, 0), (two.0, 1)], "v{version}");
        // Control batches travel as they are.
        assert_eq!(
            offsets(found.records.clone().unwrap()).len(),
            4,
            "v{version}"
        );
        let all = node.ask(version, &fetch_request(version, topic, 0, 0));
        assert!(only(&all).aborted_transactions.is_none(), "v{version}");
        assert_eq!(only(&all).last_stable_offset, 4, "v{version}");
    }
}

#[test]
fn a_fenced_producer_is_told_so_in_the_words_of_its_version() {
    let node = Node::new();
    let topic = create(&node, TOPIC, &[]);
    let old = init(&node, "one");
    init(&node, "one");
    let fenced = ResponseError::ProducerFenced.code();
    let old_epoch = ResponseError::InvalidProducerEpoch.code();
    let expected = |version, since| if version >= since { fenced } else { old_epoch };
    for version in 0..=5 {
        let added = add_partitions(&node, version, "one", old, &[0]);
        assert_eq!(added, [expected(version, 2)], "v{version}");
        let (error, _) = end(&node, version, "one", old, true);
        assert_eq!(error, expected(version, 2), "v{version}");
        // The way of offsets knows no fencing of its own in any version.
        assert_eq!(
            commit_offset(&node, version, "one", old, 1),
            old_epoch,
            "v{version}"
        );
    }
    for version in 0..=4 {
        assert_eq!(
            add_offsets(&node, version, "one", old),
            expected(version, 2),
            "v{version}"
        );
    }
    for version in 3..=5 {
        let (error, who) = init_in(&node, version, "one", Some(old));
        // The newest instance has not begun anything: an earlier one may not go on all the same.
        assert_eq!(
            (error, who),
            (expected(version, 4), Who(-1, -1)),
            "v{version}"
        );
    }
    for version in [9, 11, 12, 13] {
        let refused = produce(&node, version, topic, "one", transactional_batch(old, 0));
        assert_eq!(refused, old_epoch, "v{version}");
    }
}

#[test]
fn an_unknown_id_and_a_producer_of_another_one_are_told_apart_from_fenced_ones() {
    let node = Node::new();
    let topic = create(&node, TOPIC, &[]);
    let who = init(&node, "one");
    let other = init(&node, "other");
    let mapping = ResponseError::InvalidProducerIdMapping.code();
    for (name, who) in [("nobody", who), ("one", other)] {
        assert_eq!(add_partitions(&node, 3, name, who, &[0]), [mapping]);
        assert_eq!(add_offsets(&node, 4, name, who), mapping);
        assert_eq!(end(&node, 5, name, who, true), (mapping, Who(-1, -1)));
        assert_eq!(commit_offset(&node, 5, name, who, 1), mapping);
        assert_eq!(
            produce(&node, 12, topic, name, transactional_batch(who, 0)),
            mapping
        );
    }
    let not_found = ResponseError::TransactionalIdNotFound.code();
    assert_eq!(state(&node, "nobody"), (not_found, String::new()));
    assert_eq!(
        end(&node, 5, "", who, true).0,
        ResponseError::InvalidRequest.code()
    );
}

#[test]
fn a_partition_that_does_not_exist_keeps_out_the_others() {
    let node = Node::new();
    create(&node, TOPIC, &[]);
    let who = init(&node, "one");
    let missing = ResponseError::UnknownTopicOrPartition.code();
    let not_tried = ResponseError::OperationNotAttempted.code();
    for version in 0..=5 {
        let added = add_partitions(&node, version, "one", who, &[0, 9]);
        assert_eq!(added, [not_tried, missing], "v{version}");
        assert_eq!(state(&node, "one"), (0, "Empty".to_owned()));
    }
}

#[test]
fn what_was_added_can_be_verified() {
    let node = Node::new();
    create(&node, TOPIC, &[]);
    let who = init(&node, "one");
    let state = ResponseError::InvalidTxnState.code();
    let abortable = ResponseError::TransactionAbortable.code();
    for (version, error) in [(4, state), (5, abortable)] {
        assert_eq!(
            ask_partitions(&node, version, "one", who, &[0], true),
            [error]
        );
    }
    assert_eq!(add_partitions(&node, 4, "one", who, &[0]), [0]);
    for version in [4, 5] {
        assert_eq!(ask_partitions(&node, version, "one", who, &[0], true), [0]);
    }
}

#[test]
fn an_offset_that_is_about_to_change_is_withheld_from_who_wants_a_stable_one() {
    let node = Node::new();
    create(&node, TOPIC, &[]);
    let who = init(&node, "one");
    assert_eq!(commit_offset(&node, 5, "one", who, 7), 0);
    let unstable = ResponseError::UnstableOffsetCommit.code();
    for version in 1..=9 {
        assert_eq!(fetch_offset(&node, version, false), (0, -1), "v{version}");
        if version >= 7 {
            assert_eq!(
                fetch_offset(&node, version, true),
                (unstable, -1),
                "v{version}"
            );
        }
    }
    assert_eq!(end(&node, 5, "one", who, true).0, 0);
    for version in 7..=9 {
        assert_eq!(fetch_offset(&node, version, true), (0, 7), "v{version}");
    }
}

#[test]
fn transactions_are_listed_by_state_producer_age_and_pattern() {
    let node = Node::new();
    let topic = create(&node, TOPIC, &[]);
    let open = init(&node, "open-1");
    init(&node, "idle-1");
    assert_eq!(
        produce(&node, 12, topic, "open-1", transactional_batch(open, 0)),
        0
    );
    let list = |version, request: ListTransactionsRequest| {
        let answer = node.ask(version, &request);
        let mut ids: Vec<_> = answer
            .transaction_states
            .iter()
            .map(|one| one.transactional_id.to_string())
            .collect();
        ids.sort();
        (answer.error_code, ids, answer.unknown_state_filters)
    };
    let none = Vec::<String>::new();
    let all = ListTransactionsRequest::default;
    for version in 0..=2 {
        let (_, ids, _) = list(version, all());
        assert_eq!(ids, ["idle-1", "open-1"], "v{version}");
        let (_, ids, _) = list(version, all().with_state_filters(vec![text("Ongoing")]));
        assert_eq!(ids, ["open-1"], "v{version}");
        let (_, ids, unknown) = list(version, all().with_state_filters(vec![text("Odd")]));
        assert_eq!(
            (ids, unknown),
            (none.clone(), vec![text("Odd")]),
            "v{version}"
        );
        let of_open = all().with_producer_id_filters(vec![ProducerId(open.0)]);
        assert_eq!(list(version, of_open).1, ["open-1"], "v{version}");
    }
    for version in 1..=2 {
        assert_eq!(list(version, all().with_duration_filter(60_000)).1, none);
        assert_eq!(list(version, all().with_duration_filter(-1)).1.len(), 2);
    }
    let pattern = |pattern| all().with_transactional_id_pattern(Some(text(pattern)));
    for wanted in ["open-.*", r"open-\d", "(?i)OPEN-[0-9]+"] {
        assert_eq!(list(2, pattern(wanted)).1, ["open-1"], "{wanted}");
    }
    assert_eq!(
        list(2, pattern("open")).1,
        none,
        "the whole name must match"
    );
    assert_eq!(list(2, pattern("")).1.len(), 2);
    let invalid = ResponseError::InvalidRegularExpression.code();
    assert_eq!(list(2, pattern("(")).0, invalid);
    assert_eq!(list(2, pattern("(a{1000}){1000}")).0, invalid);
}

#[test]
fn an_open_transaction_is_described_with_what_it_writes_to() {
    let node = Node::new();
    let topic = create(&node, TOPIC, &[]);
    let who = init(&node, "one");
    assert_eq!(
        produce(&node, 12, topic, "one", transactional_batch(who, 0)),
        0
    );
    let twice = vec![id("one"), id("one")];
    let request = DescribeTransactionsRequest::default().with_transactional_ids(twice);
    let answer = node.ask(0, &request);
    assert_eq!(answer.transaction_states.len(), 1);
    let found = &answer.transaction_states[0];
    assert_eq!((found.producer_id.0, found.producer_epoch), (who.0, who.1));
    assert_eq!(found.transaction_timeout_ms, 60_000);
    let began = found.transaction_start_time_ms;
    assert!(began >= START);
    assert_eq!(found.topics[0].topic, topic_name());
    assert_eq!(found.topics[0].partitions, [0]);
    assert_eq!(describe_producer(&node), (0, -1));
    assert_eq!(end(&node, 5, "one", who, false).0, 0);
    assert_eq!(describe_producer(&node), (-1, 0));
    let found = &node.ask(0, &request).transaction_states[0];
    assert_eq!(found.transaction_start_time_ms, began);
}

/// Where the only producer's transaction begins, and the epoch of who ended its last one.
fn describe_producer(node: &Node) -> (i64, i32) {
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    let topic = TopicRequest::default()
        .with_name(topic_name())
        .with_partition_indexes(vec![0]);
    let answer = node.ask(
        0,
        &DescribeProducersRequest::default().with_topics(vec![topic]),
    );
    let producers = &answer.topics[0].partitions[0].active_producers;
    assert_eq!(producers.len(), 1);
    (
        producers[0].current_txn_start_offset,
        producers[0].coordinator_epoch,
    )
}

#[test]
fn an_administrator_ends_a_transaction_in_a_partition() {
    for version in [1, 2] {
        let node = Node::new();
        let topic = create(&node, TOPIC, &[]);
        let who = init(&node, "one");
        assert_eq!(
            produce(&node, 12, topic, "one", transactional_batch(who, 0)),
            0
        );
        let marker = WritableTxnMarker::default()
            .with_producer_id(ProducerId(who.0))
            .with_producer_epoch(who.1)
            .with_transaction_result(false)
            .with_coordinator_epoch(0)
            .with_topics(vec![
                WritableTxnMarkerTopic::default()
                    .with_name(topic_name())
                    .with_partition_indexes(vec![0, 5]),
            ]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let mut sent = frame_as(version, 1, &request).to_vec();
        if version == 2 {
            // The version of the transaction stands before the tags of the marker and the request.
            sent.truncate(sent.len() - 2);
            sent.extend([2, 0, 0]);
        }
        let answer = node.send(sent.into()).unwrap().unwrap();
        let answer = read::<WriteTxnMarkersRequest>(version, 1, answer);
        assert_eq!(answer.markers[0].producer_id.0, who.0);
        let results = &answer.markers[0].topics[0].partitions;
        let missing = ResponseError::UnknownTopicOrPartition.code();
        let results: Vec<_> = results
            .iter()
            .map(|one| (one.partition_index, one.error_code))
            .collect();
        assert_eq!(results, [(0, 0), (5, missing)], "v{version}");
        assert_eq!(state(&node, "one"), (0, "CompleteAbort".to_owned()));
        assert_eq!(describe_producer(&node), (-1, 0));
    }
}
