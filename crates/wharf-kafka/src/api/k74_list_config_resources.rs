//! ListConfigResources: which resources have settings (KIP-1142).
//!
//! Version 0 lists client metrics subscriptions, of which there are none. Version 1 lists the
//! kinds asked for, all when none is named.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use wharf_broker::{Broker, Context, ErrorKind};

use super::Card;
use super::config_resource::Kind;
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{INT8, Shape, items};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 74,
    name: "ListConfigResources",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[714, 1142],
    shape: Shape::new(0, &[items(&INT8).from(1)]),
    notes: "Topics, groups with settings of their own, and this node. There are no client metrics \
            subscriptions.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let version = call.version();
    let response = ListConfigResourcesResponse::default();
    let asked: Vec<i8> = if version == 0 {
        vec![Kind::ClientMetrics.code()]
    } else if request.resource_types.is_empty() {
        Kind::ALL.map(Kind::code).to_vec()
    } else {
        request.resource_types
    };
    let kinds: Result<Vec<_>, _> = asked.into_iter().map(Kind::from_code).collect();
    let Ok(kinds) = kinds else {
        return response.with_error_code(error_code(ErrorKind::UnsupportedVersion));
    };
    let mut resources = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let names = names(broker, cx, kind).into_iter().map(|name| {
            ConfigResource::default()
                .with_resource_name(text(name))
                .with_resource_type(kind.code())
        });
        resources.extend(names);
    }
    response.with_config_resources(resources)
}

fn names(broker: &Broker, cx: &Context, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Topic => broker
            .topics()
            .iter()
            .map(|topic| topic.name.to_string())
            .collect(),
        Kind::Node | Kind::NodeLoggers => vec![broker.options().node_id.to_string()],
        Kind::Group => broker.groups_with_config(cx),
        Kind::ClientMetrics => Vec::new(),
    }
}
