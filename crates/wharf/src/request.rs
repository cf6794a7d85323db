//! Request/reply (Hohpe and Woolf's *Request-Reply* with a *Return Address* and a *Correlation
//! Identifier*): a question is a message like any other, and the answer comes to every instance of
//! the service that asked, where only the one that waits takes it.
//!
//! The requester's deadline travels with the request, so that nobody works on what nobody waits for. A
//! reply that comes later is dropped and counted.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;
use wharf_message::dead_letter::Reason;
use wharf_message::transport::{Audience, Capability, Deliveries, Error, Start, Subscription};
use wharf_message::{Message, TopicName, header};

use crate::bus::{Bus, BusError, Shared};
use crate::envelope::{self, Cause};
use crate::extract::{FromParts, Waiting};
use crate::failure::Failed;
use crate::incoming::Incoming;
use crate::{Event, Request};

/// How many requests that were given up are remembered, to tell their late replies from others'.
const GIVEN_UP_MAX: usize = 10_000;

/// The replies that are waited for.
#[derive(Default)]
pub(crate) struct Replies {
    waiting: Mutex<Waits>,
    listening: OnceCell<Listening>,
    late: AtomicU64,
}

/// The subscription to this service's replies.
struct Listening {
    topic: TopicName,
    /// The task that hands them out. It ends with the bus.
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Waits {
    by_id: HashMap<String, oneshot::Sender<Message>>,
    given_up: VecDeque<String>,
}

impl Replies {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reply came.
    fn arrived(&self, message: Message) {
        let id = message
            .headers
            .text(header::REPLY_FOR)
            .ok()
            .flatten()
            .map(str::to_owned);
        let Some(id) = id else {
            return;
        };
        let mut waits = self.waits();
        if let Some(waiting) = waits.by_id.remove(&id) {
            // The requester may have gone this very moment.
            let _gone = waiting.send(message);
        } else if let Some(at) = waits.given_up.iter().position(|known| *known == id) {
            waits.given_up.remove(at);
            self.late.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                request = id,
                "a reply came too late and is dropped; allow more time, or make its handler quicker"
            );
        }
    }
}

/// Waits for one reply; gives up when dropped.
struct Wait {
    shared: Arc<Shared>,
    id: String,
    reply: oneshot::Receiver<Message>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = self.shared.replies.waits();
        if waits.by_id.remove(&self.id).is_some() {
            if waits.given_up.len() == GIVEN_UP_MAX {
                waits.given_up.pop_front();
            }
            waits.given_up.push_back(std::mem::take(&mut self.id));
        }
    }
}

impl Bus {
    /// Asks, and waits for the reply: 30 s unless another time is set.
    ///
    /// The handler that answers returns [`Reply`](crate::Reply). Needs the transport's `broadcast`.
    /// In a handler use the extractor [`Requests`], which keeps the correlation.
    ///
    /// ```no_run
    /// # use serde::{Deserialize, Serialize};
    /// # use std::time::Duration;
    /// # use wharf::{Bus, Event, Request};
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(type = "shop.price.asked", topic = "shop.prices")]
    /// struct AskPrice { article: String }
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(type = "shop.price", topic = "shop.prices")]
    /// struct Price { cents: u64 }
    ///
    /// impl Request for AskPrice {
    ///     type Reply = Price;
    /// }
    ///
    /// # async fn ask(bus: &Bus) -> Result<(), wharf::BusError> {
    /// let price = bus.request(AskPrice { article: "tea".to_owned() }).timeout(Duration::from_secs(2)).await?;
    /// println!("{} cents", price.cents);
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<R: Request>(&self, request: R) -> Asking<R> {
        Asking {
            bus: self.clone(),
            request,
            timeout: Duration::from_secs(30),
            cause: None,
        }
    }

    /// How many replies came after their requester had given up.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// let bus = wharf::Bus::connect("memory:", "shop").await?;
    /// assert_eq!(bus.late_replies(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn late_replies(&self) -> u64 {
        self.shared().replies.late.load(Ordering::Relaxed)
    }
}

/// A request that is made when this is awaited.
#[must_use = "a request is made when it is awaited"]
pub struct Asking<R> {
    bus: Bus,
    request: R,
    timeout: Duration,
    cause: Option<Cause>,
}

impl<R: Request> Asking<R> {
    /// How long to wait. The time travels with the request.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    async fn ask(self) -> Result<R::Reply, BusError> {
        let shared = Arc::clone(self.bus.shared());
        let replies = shared
            .replies
            .listening
            .get_or_try_init(|| listen(&self.bus))
            .await?
            .topic
            .clone();
        let invalid = |why: String| BusError::Invalid(why);
        let topic = TopicName::new(R::TOPIC).map_err(|error| invalid(error.to_string()))?;
        let mut message =
            envelope::message_of(&self.request).map_err(|error| invalid(error.to_string()))?;
        let id = Uuid::now_v7().to_string();
        let now = shared.clock.now();
        let headers = &mut message.headers;
        headers.set(header::CE_ID, id.clone());
        headers.push(header::REPLY_TO, replies.to_string());
        headers.push(header::DEADLINE, now.after(self.timeout).to_rfc3339());
        headers.push(header::EXPIRES_AT, now.after(self.timeout).to_rfc3339());
        envelope::complete(
            &mut message,
            &shared.service,
            now,
            self.cause.as_ref().map(|cause| (cause, 0)),
        );
        let (sender, reply) = oneshot::channel();
        shared.replies.waits().by_id.insert(id.clone(), sender);
        let mut wait = Wait {
            shared: Arc::clone(&shared),
            id,
            reply,
        };
        let none = || BusError::NoReply {
            request: R::TYPE,
            waited: self.timeout,
        };
        let answered = async {
            let mut message = shared.checking.check_in(&topic, message).await?;
            let span = shared.telemetry.publish(&topic, &mut message);
            let sent = shared.transport.publish(&topic, message).await;
            span.end(&sent);
            sent?;
            let reply = (&mut wait.reply).await.ok().ok_or_else(none)?;
            let reply = shared.checking.check_out(reply).await?;
            #[cfg(feature = "schema")]
            if let Some(schemas) = &shared.checking.schemas {
                schemas.fetch(&reply).await?;
            }
            Ok(reply)
        };
        let answered = tokio::time::timeout(self.timeout, answered).await;
        let message = answered.unwrap_or_else(|_| Err(none()))?;
        read::<R>(&shared, &message)
    }
}

impl<R: Request> IntoFuture for Asking<R> {
    type Output = Result<R::Reply, BusError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

impl<R> fmt::Debug for Asking<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Asking")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn read<R: Request>(shared: &Shared, message: &Message) -> Result<R::Reply, BusError> {
    let bad = |why: String| BusError::BadReply {
        request: R::TYPE,
        why,
    };
    let kind = message
        .headers
        .text(header::CE_TYPE)
        .map_err(|error| bad(error.to_string()))?;
    if kind != Some(R::Reply::TYPE) {
        let kind = kind.unwrap_or("without a type");
        return Err(bad(format!(
            "it is {kind}, and {} was expected",
            R::Reply::TYPE
        )));
    }
    let read = shared.checking.read::<R::Reply>(message);
    read.map_err(|failed| bad(failed.error))
}

/// Begins to listen for the replies of this service; once for each bus.
async fn listen(bus: &Bus) -> Result<Listening, BusError> {
    if !bus.transport().capabilities().has(Capability::Broadcast) {
        return Err(bus.unsupported(Capability::Broadcast));
    }
    let invalid = |error: wharf_message::InvalidName| BusError::Invalid(error.to_string());
    let topic = TopicName::new(&format!("replies.{}", bus.service())).map_err(invalid)?;
    bus.transport().create_topic(&topic, 1).await?;
    let subscription = Subscription {
        topics: vec![topic.clone()],
        audience: Audience::Everyone,
        start: Start::Latest,
        in_flight_max: 1_000,
    };
    let deliveries = bus.transport().subscribe(subscription).await?;
    let mut task = JoinSet::new();
    task.spawn(take_replies(Arc::downgrade(bus.shared()), deliveries));
    Ok(Listening { topic, _task: task })
}

/// Hands replies out, until the transport is closed or the bus is gone and ends its task.
async fn take_replies(shared: std::sync::Weak<Shared>, mut deliveries: Box<dyn Deliveries>) {
    loop {
        let received = deliveries.next(100).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match received {
            Ok(received) => {
                for mut delivery in received {
                    shared
                        .replies
                        .arrived(std::mem::take(&mut delivery.message));
                    delivery.accept();
                }
            }
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "no replies at the moment; requests may time out");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Asks other services from within a handler, with the correlation of what is handled. Cannot stand
/// beside [`Tx`](crate::Tx): a transaction must not wait for another service.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[derive(Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.price.asked", topic = "shop.prices")]
/// # struct AskPrice { article: String }
/// # #[derive(Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.price", topic = "shop.prices")]
/// # struct Price { cents: u64 }
/// # impl wharf::Request for AskPrice { type Reply = Price; }
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use std::time::Duration;
/// use wharf::{Msg, Reply, Requests, Router, group};
///
/// async fn buy(requests: Requests, Msg(placed): Msg<OrderPlaced>) -> Result<(), wharf::Error> {
///     let price = requests.ask(AskPrice { article: placed.order });
///     let price = price.timeout(Duration::from_secs(2)).await?;
///     assert_eq!(price.cents, 995);
///     Ok(())
/// }
///
/// async fn price(Msg(_): Msg<AskPrice>) -> Reply<Price> {
///     Reply(Price { cents: 995 })
/// }
///
/// let router = Router::new()
///     .topic("shop.orders", group("buying").on(buy))
///     .topic("shop.prices", group("prices").on(price));
/// # let bus = wharf::testing::TestBus::start(router).await;
/// # bus.publish(OrderPlaced { order: "tea".to_owned() }).await;
/// # bus.settle().await;
/// # assert_eq!(bus.bus().ends().accepted, 2);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Requests {
    bus: Bus,
    cause: Cause,
}

impl Requests {
    /// Asks, as [`Bus::request`] does.
    pub fn ask<R: Request>(&self, request: R) -> Asking<R> {
        Asking {
            cause: Some(self.cause.clone()),
            ..self.bus.request(request)
        }
    }
}

impl<S> FromParts<S> for Requests {
    type Holds = Waiting;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let bus = incoming.context().bus.clone();
        if !bus.transport().capabilities().has(Capability::Broadcast) {
            let why = bus.unsupported(Capability::Broadcast);
            return Err(Failed::for_ever(Reason::Rejected, why));
        }
        let first = incoming.first();
        let group = incoming.context().group.as_str();
        let cause = Cause::of(&first.message.headers, &first.topic, first.position, group);
        Ok(Self { bus, cause })
    }
}
