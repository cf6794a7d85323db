//! Faults on purpose: a transport around another one that delivers twice, out of order, crashes and
//! loses its connection, by a plan that is the same in every run.
//!
//! Everything it does can happen to any consumer: nothing is lost that the contract of
//! [`Subscribe`] says is kept. The conformance suite runs its cases under each of [`FAULTS`], and
//! the test kit lets a service's own handlers run under them.

mod deliveries;
mod plan;
#[cfg(test)]
mod tests;

use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use self::plan::{FAULTS, Fault, Faults};

use self::deliveries::FaultyDeliveries;
use self::plan::{Loss, Plan};
use super::{
    Capabilities, Deliveries, Error, Position, Publish, Subscribe, Subscription, TopicHistory,
    Transport,
};
use crate::{Message, TopicName};

/// A transport with faults.
///
/// ```
/// # use std::sync::Arc;
/// # use futures_util::FutureExt;
/// use wharf_message::transport::faults::{Faults, Faulty};
/// use wharf_message::transport::memory::MemoryTransport;
/// use wharf_message::transport::{Publish, Subscribe, Subscription};
/// use wharf_message::{GroupName, Message, Timestamp, TopicName};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = Arc::new(MemoryTransport::new(Timestamp::ZERO));
/// let transport = Faulty::new(memory, Faults::none().duplicate_every(1));
/// let orders = TopicName::new("orders")?;
/// transport.publish(&orders, Message::new("one")).await?;
///
/// let subscription = Subscription::group(GroupName::new("billing")?, vec![orders]);
/// let mut deliveries = transport.subscribe(subscription).await?;
/// for _ in 0..2 {
///     let delivery = deliveries.next(1).await?.remove(0);
///     assert_eq!(delivery.message.payload.as_deref(), Some(&b"one"[..]));
///     delivery.accept();
/// }
/// # Ok(())
/// # }
/// # run().now_or_never().expect("nothing waits").expect("nothing is refused");
/// ```
#[derive(Debug)]
pub struct Faulty {
    shared: Arc<Shared>,
}

/// What all subscriptions of a [`Faulty`] share.
struct Shared {
    inner: Arc<dyn Transport>,
    plan: Plan,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("inner", &self.inner.name())
            .field("plan", &self.plan)
            .finish()
    }
}

impl Faulty {
    /// `inner` with these faults.
    pub fn new(inner: Arc<dyn Transport>, faults: Faults) -> Self {
        let plan = Plan::new(faults);
        Self {
            shared: Arc::new(Shared { inner, plan }),
        }
    }
}

/// The error of a connection that was lost on purpose.
fn lost() -> Error {
    Error::Unavailable("the connection was lost (an injected fault)".to_owned())
}

impl Publish for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.shared.inner.capabilities()
    }

    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.shared.inner.create_topic(topic, partitions)
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        let inner = &self.shared.inner;
        match self.shared.plan.publish() {
            None => inner.publish(topic, message),
            Some(Loss::BeforeItHappened) => Box::pin(ready(Err(lost()))),
            Some(Loss::AfterItHappened) => {
                let published = inner.publish(topic, message);
                Box::pin(published.map(|published| published.and_then(|_| Err(lost()))))
            }
        }
    }
}

impl Subscribe for Faulty {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let inner = shared.inner.subscribe(subscription.clone()).await?;
            let deliveries = FaultyDeliveries::new(shared, subscription, inner);
            Ok(Box::new(deliveries) as Box<dyn Deliveries>)
        })
    }
}

impl Transport for Faulty {
    fn name(&self) -> &'static str {
        self.shared.inner.name()
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.shared.inner.shutdown()
    }

    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        self.shared.inner.history()
    }
}
