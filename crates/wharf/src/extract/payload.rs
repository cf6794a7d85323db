//! Extractors of the payload.

use std::ops::Deref;

use wharf_message::Message;

#[cfg(feature = "schema")]
use super::Contracted;
use super::{FromIncoming, Takes};
use crate::Event;
use crate::failure::Failed;
use crate::incoming::{Incoming, Received};

/// The payload as an event. The handler gets the messages of this event's type only.
///
/// ```
/// use wharf::Msg;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
///
/// async fn handle(placed: Msg<OrderPlaced>) {
///     println!("{}", placed.order);
/// }
///
/// async fn same(Msg(OrderPlaced { order }): Msg<OrderPlaced>) {
///     println!("{order}");
/// }
/// # wharf::group::<()>("g").on(handle);
/// # wharf::group::<()>("g").on(same);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg<T>(pub T);

impl<T> Deref for Msg<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S, T: Event> FromIncoming<S> for Msg<T> {
    const TAKES: Takes = Takes::Type(T::TYPE);

    #[cfg(feature = "schema")]
    fn contract() -> Contracted {
        T::contract()
    }

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        read(&incoming, incoming.first()).map(Self)
    }
}

/// Several messages of one type at once, in the order of their topic. They succeed together; when
/// they fail, each is tried again alone, so that one bad message does not take others with it.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::testing::TestBus;
/// use wharf::{Batch, Router, group};
///
/// async fn store(Batch(placed): Batch<OrderPlaced>) {
///     println!("{} orders in one statement", placed.len());
/// }
///
/// let bus = TestBus::start(Router::new().topic("shop.orders", group("store").on(store))).await;
/// for order in ["o-1", "o-2", "o-3"] {
///     bus.publish(OrderPlaced { order: order.to_owned() }).await;
/// }
/// bus.settle().await;
/// assert_eq!(bus.bus().ends().accepted, 3);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T>(pub Vec<T>);

impl<S, T: Event> FromIncoming<S> for Batch<T> {
    const TAKES: Takes = Takes::Type(T::TYPE);
    const BATCH: bool = true;

    #[cfg(feature = "schema")]
    fn contract() -> Contracted {
        T::contract()
    }

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        incoming
            .all()
            .iter()
            .map(|received| read(&incoming, received))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The message as it is, whatever its type.
///
/// ```
/// use wharf::{Raw, header};
///
/// async fn log(Raw(message): Raw) {
///     println!("{:?}: {} bytes", message.headers.get(header::CE_TYPE), message.size());
/// }
/// # wharf::group::<()>("g").on(log);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Message);

impl<S> FromIncoming<S> for Raw {
    const TAKES: Takes = Takes::Any;

    fn from_incoming(incoming: Incoming, _: &S) -> Result<Self, Failed> {
        Ok(Self(incoming.first().message.clone()))
    }
}

fn read<T: Event>(incoming: &Incoming, received: &Received) -> Result<T, Failed> {
    let checking = &incoming.context().bus.shared().checking;
    checking.read(&received.message)
}
