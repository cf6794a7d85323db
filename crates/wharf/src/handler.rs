//! Async functions as handlers, and handlers as `tower` services.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use wharf_message::transport::Capabilities;

#[cfg(feature = "schema")]
use crate::extract::Contracted;
use crate::extract::{Compatible, FromIncoming, FromParts, Holding, Takes};
use crate::incoming::Incoming;
use crate::outcome::{IntoOutcome, Outcome};

/// An async function whose arguments are extractors and whose return value is an outcome.
///
/// It is implemented for functions and closures of up to eight arguments: all but the last implement
/// [`FromParts`], the last one [`FromIncoming`], the return value [`IntoOutcome`].
///
/// ```
/// use wharf::{Attempt, Meta, Msg, Publish, State, group};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[derive(Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.accepted", topic = "shop.accepted", key = "order")]
/// # struct OrderAccepted { order: String }
///
/// #[derive(Clone)]
/// struct Shop;
///
/// // Extractors first, the payload last.
/// async fn accept(
///     State(_shop): State<Shop>,
///     Attempt(_attempt): Attempt,
///     _meta: Meta,
///     Msg(placed): Msg<OrderPlaced>,
/// ) -> Result<Publish<OrderAccepted>, wharf::Error> {
///     Ok(Publish(OrderAccepted { order: placed.order }))
/// }
///
/// let route = group("accounts").on(accept);
/// # let _: wharf::Route<Shop> = route;
/// ```
///
/// What keeps a function from being one, [`#[wharf::handler]`](macro@crate::handler) says at the
/// argument or return type in question.
#[diagnostic::on_unimplemented(
    message = "this function is no handler of messages",
    label = "cannot be used with `on`",
    note = "a handler is an `async fn` (or a `Clone` closure) whose future is `Send`",
    note = "its last argument is the payload: `Msg<T>`, `Batch<T>`, `Raw` or `Blob`; those before it are extractors such as `State<T>`, `Meta` or `Tx<Db>`",
    note = "it returns `()`, `Publish(event)`, `Reply(event)`, `Schedule::after(..)`, tuples, `Vec`s, `Option`s of these, or a `Result` whose error is a `Failure` or `wharf::Error`",
    note = "`Tx` and `Requests` cannot be in one handler: a transaction must not wait for a reply",
    note = "`#[wharf::handler]` on the function says which of these it is"
)]
pub trait Handler<M, S>: Clone + Send + Sync + 'static {
    /// Which messages it takes.
    fn takes() -> Takes;

    /// Whether it takes several at a time.
    fn batch() -> bool;

    /// What it needs of the transport.
    fn needs() -> Capabilities;

    /// Whether it works in the transaction of an inbox.
    fn in_transaction() -> bool;

    /// The schema of the event it reads, if that brings one.
    #[cfg(feature = "schema")]
    fn contract() -> Contracted;

    /// Handles one attempt.
    fn call(&self, incoming: Incoming, state: &S) -> BoxFuture<'static, Outcome>;
}

macro_rules! handlers {
    ($([$($part:ident)*])+) => {$(
        impl<F, Fut, R, S, $($part,)* Last> Handler<($($part,)* Last,), S> for F
        where
            F: Fn($($part,)* Last) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoOutcome,
            $($part: FromParts<S>,)*
            Last: FromIncoming<S>,
            ($($part,)*): Compatible<S>,
        {
            fn takes() -> Takes {
                Last::TAKES
            }

            fn batch() -> bool {
                Last::BATCH
            }

            fn needs() -> Capabilities {
                R::needs()
            }

            fn in_transaction() -> bool {
                false $(|| <$part::Holds as Holding>::TRANSACTION)*
            }

            #[cfg(feature = "schema")]
            fn contract() -> Contracted {
                Last::contract()
            }

            #[expect(clippy::allow_attributes, reason = "whether it is used depends on the number of parts")]
            #[allow(unused_mut, non_snake_case, reason = "names of types serve as names; without parts nothing is taken out")]
            fn call(&self, mut incoming: Incoming, state: &S) -> BoxFuture<'static, Outcome> {
                $(
                    let $part = match $part::from_parts(&mut incoming, state) {
                        Ok(part) => part,
                        Err(failed) => return Box::pin(async { Outcome::Failed(failed) }),
                    };
                )*
                match Last::from_incoming(incoming, state) {
                    Ok(last) => {
                        let running = self($($part,)* last);
                        Box::pin(async move { running.await.into_outcome() })
                    }
                    Err(failed) => Box::pin(async { Outcome::Failed(failed) }),
                }
            }
        }
    )+};
}

handlers! { [] [A] [A B] [A B C] [A B C D] [A B C D E] [A B C D E G] [A B C D E G H] }

type Call = dyn Fn(Incoming) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A handler with its state, as a `tower` service. Cheap to clone; always ready.
#[derive(Clone)]
pub struct HandlerService(Arc<Call>);

impl HandlerService {
    pub(crate) fn new<H, M, S>(handler: H, state: S) -> Self
    where
        H: Handler<M, S>,
        S: Send + Sync + 'static,
    {
        let call: Arc<Call> = Arc::new(move |incoming| handler.call(incoming, &state));
        #[cfg(feature = "schema")]
        if matches!(H::takes(), Takes::Type(_)) {
            return Self(Arc::new(move |incoming: Incoming| {
                match incoming
                    .context()
                    .bus
                    .shared()
                    .checking
                    .lacks(incoming.all())
                {
                    true => Box::pin(fetched(Arc::clone(&call), incoming)),
                    false => call(incoming),
                }
            }));
        }
        Self(call)
    }

    /// Handles one attempt, without the ceremony of [`Service`].
    pub(crate) fn handle(&self, incoming: Incoming) -> BoxFuture<'static, Outcome> {
        (self.0)(incoming)
    }
}

/// As the handler, after the schemas that the messages name are here.
#[cfg(feature = "schema")]
async fn fetched(call: Arc<Call>, incoming: Incoming) -> Outcome {
    let shared = Arc::clone(incoming.context().bus.shared());
    match shared.checking.fetch(incoming.all()).await {
        Ok(()) => call(incoming).await,
        Err(failed) => Outcome::Failed(failed),
    }
}

impl Service<Incoming> for HandlerService {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Wrapped;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, incoming: Incoming) -> Wrapped {
        Wrapped(self.handle(incoming))
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HandlerService")
    }
}

/// The future of a [`HandlerService`].
pub struct Wrapped(BoxFuture<'static, Outcome>);

impl Future for Wrapped {
    type Output = Result<Outcome, Infallible>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(Ok)
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a running handler")
    }
}
