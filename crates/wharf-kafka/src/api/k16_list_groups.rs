//! ListGroups: every group, filtered by state (version 4) and type (version 5), whatever the case
//! of the filter's letters. A filter that matches nothing is no error.

use std::collections::HashSet;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Card;
use crate::frame::Call;
use crate::shape::{Shape, TEXT, items};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 16,
    name: "ListGroups",
    advertised: 0..=5,
    answered: 0..=5,
    kips: &[518, 848],
    shape: Shape::new(3, &[items(&TEXT).from(4), items(&TEXT).from(5)]),
    notes: "",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let ListGroupsRequest {
        states_filter,
        types_filter,
        ..
    } = request;
    let (states, types) = (Filter::new(&states_filter), Filter::new(&types_filter));
    let groups = call.broker.list_groups(&call.cx).into_iter();
    let groups = groups
        .filter(|group| states.passes(group.state) && types.passes(group.group_type))
        .map(|group| {
            ListedGroup::default()
                .with_group_id(GroupId(text(group.group)))
                .with_protocol_type(text(group.protocol_type))
                .with_group_state(StrBytes::from_static_str(group.state))
                .with_group_type(StrBytes::from_static_str(group.group_type))
        });
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// The words that pass, in small letters; none passes all.
struct Filter(HashSet<String>);

impl Filter {
    fn new(words: &[StrBytes]) -> Self {
        Self(words.iter().map(|word| word.to_ascii_lowercase()).collect())
    }

    fn passes(&self, word: &str) -> bool {
        self.0.is_empty() || self.0.contains(&word.to_ascii_lowercase())
    }
}
