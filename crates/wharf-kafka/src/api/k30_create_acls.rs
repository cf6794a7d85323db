//! CreateAcls: there is no authorizer, so no rule is taken, as in a Kafka without one.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use super::Card;
use super::k29_describe_acls::NO_AUTHORIZER;
use crate::frame::Call;
use crate::shape::{INT8, Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 30,
    name: "CreateAcls",
    advertised: 1..=3,
    answered: 1..=3,
    kips: &[140, 290],
    shape: Shape::new(2, &[array(&[INT8, TEXT, INT8, TEXT, TEXT, INT8, INT8])]),
    notes: "SECURITY_DISABLED for every rule, as in a Kafka without an authorizer.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|_call, request: CreateAclsRequest| {
        let refused = AclCreationResult::default()
            .with_error_code(ResponseError::SecurityDisabled.code())
            .with_error_message(Some(text(NO_AUTHORIZER)));
        CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
    })
}
