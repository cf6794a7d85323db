//! DescribeTransactions: the state of transactional ids (KIP-664). An id asked for twice is
//! answered once.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::TransactionDescription;

use super::Card;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{Shape, TEXT, items};
use crate::wire::topic_name;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 65,
    name: "DescribeTransactions",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[664],
    shape: Shape::new(0, &[items(&TEXT)]),
    notes: "PrepareCommit and PrepareAbort do not occur: one unit of the log ends a transaction.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let mut seen = HashSet::new();
    let ids = request.transactional_ids.into_iter();
    let states = ids.filter(|id| seen.insert(id.clone())).map(|id| {
        let state = TransactionState::default().with_transactional_id(id.clone());
        match call.broker.describe_transaction(&call.cx, &id) {
            Ok(found) => described(state, found),
            Err(error) => state.with_error_code(error_code(error.kind)),
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn described(state: TransactionState, found: TransactionDescription) -> TransactionState {
    let mut topics = BTreeMap::<String, Vec<i32>>::new();
    for (topic, partition) in found.partitions {
        topics
            .entry(topic.as_str().to_owned())
            .or_default()
            .push(partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        TopicData::default()
            .with_topic(topic_name(topic))
            .with_partitions(partitions)
    });
    let timeout = i32::try_from(found.timeout.as_millis()).unwrap_or(i32::MAX);
    state
        .with_transaction_state(StrBytes::from_static_str(found.state.name()))
        .with_transaction_timeout_ms(timeout)
        .with_transaction_start_time_ms(found.started_at.unwrap_or(-1))
        .with_producer_id(ProducerId(found.producer.id))
        .with_producer_epoch(found.producer.epoch)
        .with_topics(topics.collect())
}
