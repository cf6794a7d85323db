//! The five services. Each is a handful of async functions from messages to messages, and a router
//! that says which group they handle which topics for. Order and payment keep their rows in a database
//! and publish through its outbox; the others have their state in memory and return what is published.

mod inventory;
mod notification;
mod order;
mod payment;
mod shipping;

use std::num::NonZeroUsize;
use std::sync::Arc;

use wharf::{Concurrency, Router};

use crate::database::Database;
use crate::intake::Intake;
use crate::tally::Tally;

pub(crate) use notification::SERVICE as NOTIFICATION;
pub(crate) use order::accepted;
pub(crate) use payment::DECLINED_CARD;

/// So many messages of a service at a time: each waits until the broker has what came of it, and the
/// more wait together, the more share one synced write.
pub(crate) const TOGETHER: Concurrency =
    Concurrency::ByKey(const { NonZeroUsize::new(500).expect("not zero") });

/// A service, as the shop starts it.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    /// Its name, which is its consumer group too.
    pub(crate) name: &'static str,
    /// What it listens to.
    pub(crate) topics: &'static [&'static str],
    /// Its handlers.
    pub(crate) router: fn(Kit) -> Router,
}

/// What the shop gives a service.
pub(crate) struct Kit {
    pub(crate) tally: Arc<Tally>,
    pub(crate) intake: Intake,
    pub(crate) database: Database,
}

/// All of them.
pub(crate) const SERVICES: [Service; 5] = [
    order::SERVICE,
    inventory::SERVICE,
    payment::SERVICE,
    shipping::SERVICE,
    notification::SERVICE,
];

#[cfg(test)]
mod tests;
