//! AlterClientQuotas: sets and removes quotas, each entity on its own (KIP-546, KIP-612).

use kafka_protocol::messages::alter_client_quotas_request::EntryData as Asked;
use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use wharf_broker::{Broker, Context, Error, ErrorKind};

use super::Card;
use super::in_order::in_order;
use super::quota_entity::entity;
use super::repeated::repeated;
use crate::error::code_of;
use crate::frame::Call;
use crate::shape::{BOOL, FLOAT64, Shape, TEXT, array};
use crate::wire::message_of;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 49,
    name: "AlterClientQuotas",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[546, 612],
    shape: Shape::new(
        1,
        &[
            array(&[array(&[TEXT, TEXT]), array(&[TEXT, FLOAT64, BOOL])]),
            BOOL,
        ],
    ),
    notes: "`producer_byte_rate`, `consumer_byte_rate`, `request_percentage` of users and client \
            ids, `connection_creation_rate` of addresses. `controller_mutation_rate` is refused.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer(answer)
}

/// An entity's parts in a stable order, to find it named twice.
fn parts(asked: &Asked) -> Vec<(String, Option<String>)> {
    let part = |part: &kafka_protocol::messages::alter_client_quotas_request::EntityData| {
        (
            part.entity_type.to_string(),
            part.entity_name.as_ref().map(ToString::to_string),
        )
    };
    let mut parts: Vec<_> = asked.entity.iter().map(part).collect();
    parts.sort();
    parts
}

async fn answer(call: Call, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let validate_only = request.validate_only;
    let repeated = repeated(request.entries.iter().map(parts));
    let repeated = &repeated;
    let work = request.entries.into_iter().map(|asked| async move {
        let altered = if repeated.contains(&parts(&asked)) {
            let message = "an entity may be named only once in a request";
            Err(Error::new(ErrorKind::InvalidRequest, message))
        } else {
            alter(broker, cx, &asked, validate_only).await
        };
        let entity = asked.entity.into_iter().map(|part| {
            EntityData::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        });
        EntryData::default()
            .with_error_code(code_of(&altered))
            .with_error_message(message_of(&altered))
            .with_entity(entity.collect())
    });
    AlterClientQuotasResponse::default().with_entries(in_order(work).await)
}

async fn alter(
    broker: &Broker,
    cx: &Context,
    asked: &Asked,
    validate_only: bool,
) -> Result<(), Error> {
    let names = asked
        .entity
        .iter()
        .map(|part| (&part.entity_type, part.entity_name.as_ref()));
    let entity = entity(names)?;
    let changes: Vec<_> = asked
        .ops
        .iter()
        .map(|change| {
            (
                change.key.to_string(),
                (!change.remove).then_some(change.value),
            )
        })
        .collect();
    broker
        .alter_quotas(cx, &entity, &changes, validate_only)
        .await
}
