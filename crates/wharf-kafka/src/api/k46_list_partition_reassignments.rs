//! ListPartitionReassignments: never any, since there is one node (KIP-455).

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::Card;
use crate::frame::Call;
use crate::shape::{INT32, Shape, TEXT, array, items};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 46,
    name: "ListPartitionReassignments",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[455],
    shape: Shape::new(0, &[INT32, array(&[TEXT, items(&INT32)])]),
    notes: "There are never any.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|_call, _request: ListPartitionReassignmentsRequest| {
        ListPartitionReassignmentsResponse::default().with_error_message(None)
    })
}
