//! AddPartitionsToTxn: what a transaction is going to write to (KIP-98). From version 4 on several
//! transactions at once, and the question whether partitions were added (KIP-890).
//!
//! All partitions of a transaction are added, or none: one that does not exist keeps out the rest.

use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use wharf_broker::{ErrorKind, ProducerIdentity, TopicRef, TransactionalProducer};

use super::Card;
use super::repeated::once;
use crate::error::{NONE, error_code, producer_code};
use crate::frame::Call;
use crate::shape::{BOOL, INT16, INT32, INT64, Shape, TEXT, array, items};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 24,
    name: "AddPartitionsToTxn",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[98, 588, 890],
    shape: Shape::new(
        3,
        &[
            array(&[TEXT, INT64, INT16, BOOL, array(&[TEXT, items(&INT32)])]).from(4),
            TEXT.to(3),
            INT64.to(3),
            INT16.to(3),
            array(&[TEXT, items(&INT32)]).to(3),
        ],
    ),
    notes: "Versions 4 and 5 are for brokers in Kafka; here anyone may ask.",
};

/// The first version with several transactions.
const BATCHED_FROM: i16 = 4;
/// The first version that knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// The first version that knows TRANSACTION_ABORTABLE.
const ABORTABLE_FROM: i16 = 5;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let response = AddPartitionsToTxnResponse::default();
    if call.version() < BATCHED_FROM {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let results = add(&call, transaction).await;
        return response.with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let id = transaction.transactional_id.clone();
        let of_topics = add(&call, transaction).await;
        let result = AddPartitionsToTxnResult::default().with_transactional_id(id);
        results.push(result.with_topic_results(of_topics));
    }
    response.with_results_by_transaction(results)
}

/// Adds what one transaction asks for, or answers whether it was added.
async fn add(
    call: &Call,
    transaction: AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let caller = TransactionalProducer {
        id: transaction.transactional_id.to_string(),
        producer: ProducerIdentity {
            id: transaction.producer_id.0,
            epoch: transaction.producer_epoch,
        },
    };
    let topics = transaction.topics.into_iter();
    let topics = topics.map(
        |AddPartitionsToTxnTopic {
             name, partitions, ..
         }| (name, partitions),
    );
    let topics = once(topics.collect());
    let partitions: Vec<(TopicRef, i32)> = topics
        .iter()
        .flat_map(|(name, indexes)| {
            let topic = TopicRef::Name(name.to_string());
            indexes.iter().map(move |index| (topic.clone(), *index))
        })
        .collect();
    let codes = match missing(call, &partitions) {
        Some(codes) => codes,
        None if transaction.verify_only => verified(call, &caller, &partitions),
        None => {
            let (broker, cx) = (&call.broker, &call.cx);
            let added = broker
                .add_partitions_to_transaction(cx, &caller, &partitions)
                .await;
            let code = added.map_or_else(|error| code(call, error.kind), |()| NONE);
            vec![code; partitions.len()]
        }
    };
    let mut codes = codes.into_iter();
    let results = topics.into_iter().map(|(name, indexes)| {
        let results = indexes.into_iter().zip(&mut codes).map(|(index, code)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(name)
            .with_results_by_partition(results.collect())
    });
    results.collect()
}

fn code(call: &Call, kind: ErrorKind) -> i16 {
    producer_code(kind, call.version() >= FENCED_FROM)
}

/// When a partition does not exist: that, and that the others were not tried.
fn missing(call: &Call, partitions: &[(TopicRef, i32)]) -> Option<Vec<i16>> {
    let exists = |(topic, index): &(TopicRef, i32)| {
        let topic = call.broker.topic(topic)?;
        let index = usize::try_from(*index).ok();
        match index.is_some_and(|index| index < topic.partitions.len()) {
            true => Ok(()),
            false => Err(wharf_broker::Error::new(
                ErrorKind::UnknownTopicOrPartition,
                "there is no such partition",
            )),
        }
    };
    let found: Vec<_> = partitions.iter().map(exists).collect();
    if found.iter().all(Result::is_ok) {
        return None;
    }
    let code = |found: Result<(), wharf_broker::Error>| match found {
        Ok(()) => error_code(ErrorKind::OperationNotAttempted),
        Err(error) => error_code(error.kind),
    };
    Some(found.into_iter().map(code).collect())
}

fn verified(
    call: &Call,
    caller: &TransactionalProducer,
    partitions: &[(TopicRef, i32)],
) -> Vec<i16> {
    let not_added = match call.version() >= ABORTABLE_FROM {
        true => ErrorKind::TransactionAbortable,
        false => ErrorKind::InvalidTxnState,
    };
    let code_of = |was_added| {
        if was_added {
            NONE
        } else {
            error_code(not_added)
        }
    };
    let (broker, cx) = (&call.broker, &call.cx);
    match broker.verify_partitions_in_transaction(cx, caller, partitions) {
        Ok(verified) => verified.into_iter().map(code_of).collect(),
        Err(error) => vec![code(call, error.kind); partitions.len()],
    }
}
