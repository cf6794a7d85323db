//! DescribeAcls: there is no authorizer, so there are no rules to tell, as in a Kafka without one.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::Card;
use crate::frame::Call;
use crate::shape::{INT8, Shape, TEXT};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 29,
    name: "DescribeAcls",
    advertised: 1..=3,
    answered: 1..=3,
    kips: &[140, 290],
    shape: Shape::new(2, &[INT8, TEXT, INT8, TEXT, TEXT, INT8, INT8]),
    notes: "SECURITY_DISABLED, as in a Kafka without an authorizer.",
};

/// What the three keys of access rules answer in words.
pub(super) const NO_AUTHORIZER: &str = "this node has no authorizer, so there are no access rules";

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|_call, _request: DescribeAclsRequest| {
        DescribeAclsResponse::default()
            .with_error_code(ResponseError::SecurityDisabled.code())
            .with_error_message(Some(text(NO_AUTHORIZER)))
    })
}
