//! DescribeCluster: the one node (KIP-700, KIP-919, KIP-1073).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::Card;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, Shape};
use crate::wire::{operations, text};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 60,
    name: "DescribeCluster",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[430, 700, 919, 1073],
    shape: Shape::new(0, &[BOOL, INT8.from(1), BOOL.from(2)]),
    notes: "Endpoints of controllers are refused: there are none.",
};

/// The type of endpoints clients talk to.
const BROKERS: i8 = 1;
/// The type of endpoints only controllers have.
const CONTROLLERS: i8 = 2;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of every answer"
)]
fn answer(call: &Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default();
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(ResponseError::MismatchedEndpointType),
        _ => Some(ResponseError::UnsupportedEndpointType),
    };
    if let Some(error) = refusal {
        return response
            .with_error_code(error.code())
            .with_error_message(Some(text("only endpoints of brokers can be described")))
            .with_endpoint_type(request.endpoint_type);
    }
    let options = call.broker.options();
    let node = BrokerId(options.node_id);
    let asked = request.include_cluster_authorized_operations;
    response
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(options.cluster_id.as_str()))
        .with_controller_id(node)
        .with_brokers(vec![
            DescribeClusterBroker::default()
                .with_broker_id(node)
                .with_host(text(call.endpoint.host.as_str()))
                .with_port(i32::from(call.endpoint.port)),
        ])
        .with_cluster_authorized_operations(operations::when(asked, operations::CLUSTER))
}
