//! The task that pulls one topic's messages for a subscription.
//!
//! Invariants: no more is asked for than the service waits for, because the server counts a delivery
//! that is given back unhandled as an attempt; what arrives has its receipt at once, so that it is
//! extended while it waits. What was delivered to a consumer
//! that is gone is waited for before anything newer is taken, as far as the server tells. A request that the server may have forgotten (a lost
//! connection, a restart) is asked again under another inbox.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{self, BatchConfig};
use async_nats::jetstream::{self, Context};
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wharf_message::transport::{Error, Position, Start};
use wharf_message::{GroupName, Timestamp, TopicName};

use super::receipt::{Live, Receipt};
use super::{State, codec, streams};
use crate::backoff::Backoff;
use crate::held::{Arrival, Desk, now, told, until_due};

/// How long a request for messages stands at the server.
const REQUEST_STANDS: Duration = Duration::from_secs(30);
/// How much later its end is taken for granted.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
/// What comes at most this much before its time is held here, so that it counts no attempt.
const HOLD_MAX: Duration = Duration::from_secs(60);
/// How long the last words of a member that ended take to the server.
const SETTLES_WITHIN: Duration = Duration::from_millis(50);
/// How often in a row other members must show themselves.
const SIGNS: u32 = 2;
/// How long to wait for what is on its way when the subscription ends.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Whose messages they are.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// A group's.
    Group(GroupName, Start),
    /// One listener's, by the name of its consumer, from a sequence on.
    Listener(String, u64),
}

/// The task's parts.
#[derive(Debug)]
pub(super) struct Puller {
    pub(super) context: Context,
    pub(super) topic: TopicName,
    pub(super) whose: Whose,
    pub(super) ack_wait: Duration,
    pub(super) desk: Arc<Desk<Receipt>>,
    pub(super) live: Live,
    /// Room for deliveries that are unsettled.
    pub(super) room: Arc<Semaphore>,
    /// How much room there is in all.
    pub(super) ahead: usize,
    /// Tells when the service waits, and for how many.
    pub(super) asks: watch::Receiver<usize>,
    /// For how many it waits that did not all come yet.
    pub(super) wanted: usize,
    pub(super) state: watch::Receiver<State>,
    pub(super) closing: watch::Receiver<bool>,
}

/// Why pulling ended.
enum Over {
    Closing,
    Reconnected,
    Lost(String),
}

/// What came before its time.
type Early = FuturesUnordered<BoxFuture<'static, Arrival<Receipt>>>;

/// A request that stands at the server.
struct Request {
    permits: OwnedSemaphorePermit,
    until: Instant,
}

impl Puller {
    /// The consumer that it pulls from, made if there is none.
    pub(super) async fn consumer(&self) -> Result<Consumer<pull::Config>, Error> {
        let stream = streams::ensure(&self.context, &self.topic).await?;
        match &self.whose {
            Whose::Group(group, start) => {
                streams::of_group(&stream, &self.topic, group, *start, self.ack_wait).await
            }
            Whose::Listener(name, first) => {
                streams::of_listener(&stream, &self.topic, name, *first, self.ack_wait).await
            }
        }
    }

    /// Pulls until the subscription is closed.
    pub(super) async fn run(mut self, mut consumer: Consumer<pull::Config>) {
        let mut early = Early::new();
        let mut backoff = Backoff::new();
        loop {
            let mut closing = self.closing.clone();
            tokio::select! {
                () = self.await_orphans(&consumer) => {}
                () = told(&mut closing) => return,
            }
            match self.pull(&consumer, &mut early).await {
                Over::Closing => return,
                Over::Reconnected => backoff = Backoff::new(),
                Over::Lost(why) => {
                    tracing::warn!(
                        why, topic = %self.topic,
                        "the consumer was lost and is made sure of; check that nobody deletes it and that the server has room"
                    );
                    loop {
                        if self.pause(&mut backoff).await {
                            return;
                        }
                        match self.consumer().await {
                            Ok(again) => break consumer = again,
                            Err(error) => tracing::warn!(
                                %error, topic = %self.topic,
                                "the consumer cannot be made sure of yet"
                            ),
                        }
                    }
                }
            }
        }
    }

    /// Waits until the server takes back what it had delivered to a consumer that crashed, or on a
    /// connection that was lost, because until then it would deliver newer messages of the same keys.
    /// Not where other members are at work: then there is no order to keep.
    async fn await_orphans(&self, consumer: &Consumer<pull::Config>) {
        let ack_wait = consumer.cached_info().config.ack_wait;
        let until = Instant::now() + ack_wait + ack_wait / 4;
        let (mut seen, mut signs) = (None, 0);
        // A request of one that has just ended may still be on its way to the server.
        sleep(SETTLES_WITHIN).await;
        while Instant::now() < until {
            if let Ok(info) = consumer.get_info().await {
                let held = self.ahead.saturating_sub(self.room.available_permits());
                if info.num_ack_pending <= held {
                    return;
                }
                let delivered = info.delivered.consumer_sequence;
                let is_alive = info.num_waiting > 0 || seen.is_some_and(|seen| seen != delivered);
                // One that has just crashed leaves signs of life for a moment.
                signs = if is_alive { signs + 1 } else { 0 };
                if signs > SIGNS {
                    return;
                }
                seen = Some(delivered);
            }
            sleep(ack_wait / 10).await;
        }
    }

    /// Waits; whether the subscription was closed meanwhile.
    async fn pause(&mut self, backoff: &mut Backoff) -> bool {
        tokio::select! {
            () = backoff.wait() => false,
            () = told(&mut self.closing) => true,
        }
    }

    async fn pull(&mut self, consumer: &Consumer<pull::Config>, early: &mut Early) -> Over {
        let (mut state, mut closing) = (self.state.clone(), self.closing.clone());
        state.mark_unchanged();
        let client = self.context.client();
        let inbox = client.new_inbox();
        let mut subscriber = match client.subscribe(inbox.clone()).await {
            Ok(subscriber) => subscriber,
            Err(error) => return Over::Lost(error.to_string()),
        };
        let mut request: Option<Request> = None;
        loop {
            let until = request.as_ref().map(|request| request.until);
            tokio::select! {
                message = subscriber.next() => match message {
                    Some(message) => {
                        if let Some(why) = self.take(message, &mut request, early) {
                            return Over::Lost(why);
                        }
                    }
                    None => return Over::Lost("the subscription ended".to_owned()),
                },
                Some(arrival) = early.next() => self.desk.arrive(arrival),
                Ok(()) = self.asks.changed(), if request.is_none() && self.wanted == 0 => {
                    self.wanted = *self.asks.borrow_and_update();
                }
                permits = room(&self.room, self.wanted), if request.is_none() && self.wanted > 0 => {
                    let batch = BatchConfig {
                        batch: permits.num_permits(),
                        expires: Some(REQUEST_STANDS),
                        ..BatchConfig::default()
                    };
                    if let Err(error) = consumer.request_batch(batch, inbox.clone().into()).await {
                        return Over::Lost(error.to_string());
                    }
                    let until = Instant::now() + REQUEST_STANDS + REQUEST_GRACE;
                    request = Some(Request { permits, until });
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    request = None;
                }
                changed = state.changed() => {
                    if changed.is_err() {
                        return Over::Closing;
                    }
                    if state.borrow_and_update().is_connected {
                        // The server has forgotten the request with the connection.
                        self.take_rest(&mut subscriber, early);
                        return Over::Reconnected;
                    }
                }
                () = told(&mut closing) => {
                    self.drain(subscriber).await;
                    return Over::Closing;
                }
            }
        }
    }

    /// Takes a message or what the server says of the request; the reason when the consumer is lost.
    fn take(
        &mut self,
        message: async_nats::Message,
        request: &mut Option<Request>,
        early: &Early,
    ) -> Option<String> {
        match message.status {
            None | Some(StatusCode::OK) => {
                let permit = request.as_mut().and_then(|it| it.permits.split(1));
                if request
                    .as_ref()
                    .is_some_and(|it| it.permits.num_permits() == 0)
                {
                    *request = None;
                    // What the service waited for is there; what it still waits for it asks for again.
                    self.asks.mark_unchanged();
                    self.wanted = 0;
                }
                if let Some(arrival) = self.arrival(message, permit) {
                    self.receive(arrival, early);
                }
                None
            }
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => {
                *request = None;
                None
            }
            Some(StatusCode::IDLE_HEARTBEAT) => None,
            Some(status) => {
                let description = message.description.unwrap_or_default();
                Some(format!("{status} {description}"))
            }
        }
    }

    fn arrival(
        &self,
        message: async_nats::Message,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Option<Arrival<Receipt>> {
        let message = jetstream::Message {
            message,
            context: self.context.clone(),
        };
        let Ok(info) = message.info() else {
            tracing::warn!(
                subject = %message.subject,
                "something that is no delivery of a stream arrived and is dropped"
            );
            return None;
        };
        let position = Position {
            partition: 0,
            offset: i64::try_from(info.stream_sequence).unwrap_or(i64::MAX),
        };
        let attempt = u32::try_from(info.delivered).unwrap_or(u32::MAX).max(1);
        let millis = info.published.unix_timestamp_nanos() / 1_000_000;
        let published = Timestamp::from_millis(i64::try_from(millis).unwrap_or(0));
        let (sequence, subject) = (info.stream_sequence, message.reply.as_ref()?.to_string());
        let payload = message.payload.clone();
        Some(Arrival {
            topic: self.topic.clone(),
            position: Some(position),
            message: codec::decode(message.headers.as_ref(), payload, published),
            attempt,
            receipt: Receipt::new(sequence, subject, &self.live, permit),
        })
    }

    /// Puts a delivery on the desk, unless it came before its time.
    fn receive(&mut self, arrival: Arrival<Receipt>, early: &Early) {
        let wait = until_due(&arrival.message, now());
        if wait.is_zero() {
            self.desk.arrive(arrival);
            return;
        }
        // The service still waits.
        self.wanted = self.wanted.max(1);
        if wait <= HOLD_MAX {
            early.push(Box::pin(async move {
                sleep(wait).await;
                arrival
            }));
        } else {
            let client = self.context.client();
            tokio::spawn(async move { arrival.receipt.give_back(&client, wait).await });
        }
    }

    /// Takes what had arrived before the connection was lost.
    fn take_rest(&mut self, subscriber: &mut Subscriber, early: &Early) {
        use futures_util::FutureExt as _;
        while let Some(Some(message)) = subscriber.next().now_or_never() {
            // Whatever the server said of the request is no longer of interest.
            self.take(message, &mut None, early);
        }
    }

    /// Gives back what is still on its way.
    async fn drain(&self, mut subscriber: Subscriber) {
        let client = self.context.client();
        let drained = async {
            subscriber.unsubscribe().await.ok();
            while let Some(message) = subscriber.next().await {
                if message.status.is_none()
                    && let Some(arrival) = self.arrival(message, None)
                {
                    arrival.receipt.give_back(&client, Duration::ZERO).await;
                }
            }
        };
        if timeout(DRAIN_WITHIN, drained).await.is_err() {
            tracing::debug!("what was on its way is delivered again later");
        }
    }
}

/// Room for as many as are wanted, or for as many as there is, at least for one.
async fn room(room: &Arc<Semaphore>, wanted: usize) -> OwnedSemaphorePermit {
    let one = Arc::clone(room).acquire_owned().await;
    let mut permits = one.expect("this semaphore is never closed");
    let more = room.available_permits().min(wanted.saturating_sub(1));
    if let Ok(more) = Arc::clone(room).try_acquire_many_owned(u32::try_from(more).unwrap_or(0)) {
        permits.merge(more);
    }
    permits
}
