//! DeleteAcls: there is no authorizer, so there is no rule to delete, as in a Kafka without one.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::Card;
use super::k29_describe_acls::NO_AUTHORIZER;
use crate::frame::Call;
use crate::shape::{INT8, Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 31,
    name: "DeleteAcls",
    advertised: 1..=3,
    answered: 1..=3,
    kips: &[140, 290],
    shape: Shape::new(2, &[array(&[INT8, TEXT, INT8, TEXT, TEXT, INT8, INT8])]),
    notes: "SECURITY_DISABLED for every filter, as in a Kafka without an authorizer.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|_call, request: DeleteAclsRequest| {
        let refused = DeleteAclsFilterResult::default()
            .with_error_code(ResponseError::SecurityDisabled.code())
            .with_error_message(Some(text(NO_AUTHORIZER)));
        DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
    })
}
