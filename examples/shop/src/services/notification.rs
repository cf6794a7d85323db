//! The notification service: one message to the customer for every order that ended.
//!
//! `python/notification.py` is the same service in another language.

use std::sync::Arc;

use wharf::{Msg, Router, State, group};

use super::{Kit, Service, TOGETHER};
use crate::event::{OUTCOMES, OrderCompleted, OrderRejected};
use crate::tally::Tally;

pub(crate) const SERVICE: Service = Service {
    name: "notification",
    topics: &[OUTCOMES],
    router,
};

fn router(Kit { tally, intake, .. }: Kit) -> Router {
    let route = group(SERVICE.name)
        .on(good_news)
        .on(bad_news)
        .concurrency(TOGETHER)
        .layer(intake.with_memory());
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(tally)
}

async fn good_news(State(tally): State<Arc<Tally>>, Msg(_): Msg<OrderCompleted>) {
    tally.notified.add(1);
}

async fn bad_news(State(tally): State<Arc<Tally>>, Msg(_): Msg<OrderRejected>) {
    tally.notified.add(1);
}
