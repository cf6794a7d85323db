//! AlterConfigs: replaces all settings of a resource. Old tools use it; newer ones change single
//! settings with IncrementalAlterConfigs.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::Card;
use super::config_resource::{Alteration, Change, Mode, alter_all};
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, Shape, TEXT, array};
use crate::wire::message_of;
use crate::{Disconnect, Outcome};

/// The number of "set" among the operations.
const SET: i8 = 0;

pub(super) static CARD: Card = Card {
    key: 33,
    name: "AlterConfigs",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[133],
    shape: Shape::new(2, &[array(&[INT8, TEXT, array(&[TEXT, TEXT])]), BOOL]),
    notes: "Topics and groups. The node's settings come from its configuration; a change is refused with \
            INVALID_REQUEST.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

async fn answer(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let alterations = request.resources.into_iter().map(|resource| {
        let settings = resource.configs.into_iter();
        Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            changes: settings
                .map(|one| Change {
                    name: one.name,
                    operation: SET,
                    value: one.value,
                })
                .collect(),
        }
    });
    let mode = Mode {
        replace: true,
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
    AlterConfigsResponse::default().with_responses(responses.collect())
}
