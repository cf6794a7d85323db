//! The shipping service: sends a parcel for every captured payment.

use std::sync::Arc;

use wharf::{Msg, Publish, Router, State, Unknown, group};

use super::{Kit, Service, TOGETHER};
use crate::event::{PAYMENTS, ParcelShipped, PaymentCaptured};
use crate::tally::Tally;

pub(super) const SERVICE: Service = Service {
    name: "shipping",
    topics: &[PAYMENTS],
    router,
};

fn router(Kit { tally, intake, .. }: Kit) -> Router {
    let route = group(SERVICE.name)
        .on(ship)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(intake.with_memory());
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(tally)
}

async fn ship(
    State(tally): State<Arc<Tally>>,
    Msg(PaymentCaptured { order, .. }): Msg<PaymentCaptured>,
) -> Publish<ParcelShipped> {
    tally.shipped.add(1);
    Publish(ParcelShipped { order })
}
