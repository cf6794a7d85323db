//! DescribeUserScramCredentials: nobody has any here (KIP-554). Tools that show a user's quotas ask
//! for these as well.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::Card;
use crate::frame::Call;
use crate::shape::{Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 50,
    name: "DescribeUserScramCredentials",
    advertised: 0..=0,
    answered: 0..=0,
    kips: &[554],
    shape: Shape::new(0, &[array(&[TEXT])]),
    notes: "Nobody has credentials: every user that is asked for is RESOURCE_NOT_FOUND.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|_call, request: DescribeUserScramCredentialsRequest| {
        let users = request.users.unwrap_or_default();
        let results = users.into_iter().map(|user| nobody(user.name)).collect();
        DescribeUserScramCredentialsResponse::default()
            .with_error_message(None)
            .with_results(results)
    })
}

fn nobody(user: StrBytes) -> DescribeUserScramCredentialsResult {
    DescribeUserScramCredentialsResult::default()
        .with_user(user)
        .with_error_code(ResponseError::ResourceNotFound.code())
        .with_error_message(Some(text("the user has no SCRAM credentials")))
}
