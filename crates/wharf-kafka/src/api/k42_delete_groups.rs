//! DeleteGroups: empty groups with their offsets. A group named twice is deleted once and
//! answered once.

use std::collections::HashSet;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Card;
use super::in_order::in_order;
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{Shape, TEXT, items};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 42,
    name: "DeleteGroups",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[229],
    shape: Shape::new(2, &[items(&TEXT)]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let mut seen = HashSet::new();
    let groups = request
        .groups_names
        .into_iter()
        .filter(|id| seen.insert(id.clone()));
    let work = groups.map(|id| async move {
        let deleted = broker.delete_group(cx, &id).await;
        DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(code_of(&deleted))
    });
    DeleteGroupsResponse::default().with_results(in_order(work).await)
}
