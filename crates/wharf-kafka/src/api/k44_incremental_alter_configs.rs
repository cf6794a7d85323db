//! IncrementalAlterConfigs: sets, deletes, appends and subtracts single settings (KIP-339).

use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Card;
use super::config_resource::{Alteration, Change, Mode, alter_all};
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, Shape, TEXT, array};
use crate::wire::message_of;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 44,
    name: "IncrementalAlterConfigs",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[339],
    shape: Shape::new(1, &[array(&[INT8, TEXT, array(&[TEXT, INT8, TEXT])]), BOOL]),
    notes: "Topics and groups. The node's settings come from its configuration; a change is refused with \
            INVALID_REQUEST.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let alterations = request.resources.into_iter().map(|resource| {
        let settings = resource.configs.into_iter();
        Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: settings
                .map(|one| Change {
                    name: one.name,
                    operation: one.config_operation,
                    value: one.value,
                })
                .collect(),
        }
    });
    let mode = Mode {
        replace: false,
        validate_only: request.validate_only,
    };
    let results = alter_all(broker, cx, alterations.collect(), mode).await;
    let responses = results.into_iter().map(|(kind, name, result)| {
        AlterConfigsResourceResponse::default()
            .with_resource_type(kind)
            .with_resource_name(name)
            .with_error_code(code_of(&result))
            .with_error_message(message_of(&result))
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}
