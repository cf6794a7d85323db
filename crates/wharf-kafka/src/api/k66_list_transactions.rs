//! ListTransactions: transactional ids by state and producer (KIP-664), by how long a transaction
//! has been open (KIP-994), and by a pattern of their names (KIP-1152).

use std::collections::HashSet;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use regex::bytes::{Regex, RegexBuilder};

use super::Card;
use crate::frame::Call;
use crate::shape::{INT64, Shape, TEXT, items};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 66,
    name: "ListTransactions",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[664, 994, 1152],
    shape: Shape::new(
        0,
        &[items(&TEXT), items(&INT64), INT64.from(1), TEXT.from(2)],
    ),
    notes: "",
};

/// Kafka's names of the states; those that never occur here are known all the same.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];
/// The longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// The most a pattern may take once it is compiled.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let response = ListTransactionsResponse::default();
    let pattern = match pattern(request.transactional_id_pattern.as_deref()) {
        Ok(pattern) => pattern,
        Err(error) => return response.with_error_code(error.code()),
    };
    let (known, unknown): (Vec<_>, Vec<_>) = request
        .state_filters
        .into_iter()
        .partition(|state| STATES.contains(&state.as_str()));
    // A filter that no transaction can pass is no reason to list all of them.
    let none_passes = known.is_empty() && !unknown.is_empty();
    let states: HashSet<&str> = known.iter().map(StrBytes::as_str).collect();
    let producers: HashSet<i64> = request.producer_id_filters.iter().map(|id| id.0).collect();
    let longer_than = u64::try_from(request.duration_filter)
        .ok()
        .map(Duration::from_millis);
    let listed = call.broker.list_transactions(&call.cx).into_iter();
    let listed = listed.filter(|one| {
        let passes_state = states.is_empty() || states.contains(one.state.name());
        let passes_producer = producers.is_empty() || producers.contains(&one.producer);
        let passes_age = longer_than.is_none_or(|wanted| one.age.is_some_and(|age| age > wanted));
        let passes_name = pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(one.id.as_bytes()));
        !none_passes && passes_state && passes_producer && passes_age && passes_name
    });
    let listed = listed.map(|one| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(text(&*one.id)))
            .with_producer_id(ProducerId(one.producer))
            .with_transaction_state(StrBytes::from_static_str(one.state.name()))
    });
    let listed = listed.collect();
    response
        .with_unknown_state_filters(unknown)
        .with_transaction_states(listed)
}

/// The pattern a whole name must match, over ASCII; none for null and for the empty one.
fn pattern(wanted: Option<&str>) -> Result<Option<Regex>, ResponseError> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok(None);
    };
    if wanted.len() > PATTERN_BYTES_MAX {
        return Err(ResponseError::InvalidRegularExpression);
    }
    let whole = format!("^(?:{wanted})$");
    let regex = RegexBuilder::new(&whole)
        .unicode(false)
        .size_limit(PROGRAM_BYTES_MAX)
        .build();
    regex
        .map(Some)
        .map_err(|_invalid| ResponseError::InvalidRegularExpression)
}
