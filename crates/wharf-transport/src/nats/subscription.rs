//! The task of a subscription: it carries out settlements and extends what is unsettled, beside one
//! puller for each topic.
//!
//! Invariant: a message is acknowledged only after its dead letter is in a stream.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use wharf_message::dead_letter;
use wharf_message::transport::{Error, Settlement};
use wharf_message::{GroupName, Message, TopicName};

use super::State;
use super::names;
use super::publisher::{Publication, Publisher};
use super::receipt::{Live, Receipt};
use crate::backoff::Backoff;
use crate::held::{Driver, Settled, told};

/// A delivery is extended so many times in the time after which it would be delivered again.
const EXTENSIONS: u32 = 3;
/// How long closing waits for the server.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// The task's parts.
pub(super) struct Consuming {
    pub(super) context: Context,
    pub(super) publisher: Publisher,
    pub(super) group: Option<GroupName>,
    /// A listener's consumers, which go with it.
    pub(super) listeners: Vec<(TopicName, String)>,
    pub(super) ack_wait: Duration,
    pub(super) live: Live,
    pub(super) pullers: JoinSet<()>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) state: watch::Receiver<State>,
    /// Whether the transport is being shut down, which waits until this is dropped.
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) driver: Driver<Receipt>,
}

type Work = FuturesUnordered<BoxFuture<'static, ()>>;

impl Consuming {
    /// Runs until the subscription is closed, or the transport is.
    pub(super) async fn run(mut self) {
        let mut work = Work::new();
        let every = self.ack_wait / EXTENSIONS;
        let mut extend = interval_at(Instant::now() + every, every);
        extend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let client = self.context.client();
        let mut is_connected = true;
        loop {
            tokio::select! {
                Some(settled) = self.driver.settled.recv() => self.settle(settled, &work),
                Some(()) = work.next() => {}
                _ = extend.tick(), if is_connected => self.live.extend(&client).await,
                changed = self.state.changed() => {
                    let state = *self.state.borrow_and_update();
                    if changed.is_err() {
                        break;
                    }
                    if is_connected && !state.is_connected {
                        let why = "the connection to NATS is lost".to_owned();
                        tracing::warn!("{why} and is made again; what is not settled in time is delivered again");
                        self.driver.desk.outage(why);
                    }
                    is_connected = state.is_connected;
                }
                () = told(&mut self.shutdown) => {
                    if timeout(CLOSE_WITHIN, self.close(&client, work)).await.is_err() {
                        tracing::warn!("not every settlement was answered before the shutdown");
                    }
                    break;
                }
                answer = &mut self.driver.close => {
                    let closed = timeout(CLOSE_WITHIN, self.close(&client, work)).await;
                    if let Ok(answer) = answer {
                        let late = || "not every settlement was answered in time".to_owned();
                        let closed = closed.map_err(|_late| Error::Unavailable(late()));
                        answer.send(closed.and_then(|it| it)).ok();
                    }
                    break;
                }
            }
        }
        self.driver.desk.close();
    }

    /// Begins to carry out a settlement.
    fn settle(&self, mut settled: Settled<Receipt>, work: &Work) {
        let client = self.context.client();
        let settlement = settled.take_settlement();
        let letter = match settlement {
            Settlement::Accept => None,
            Settlement::Retry { after, .. } => {
                work.push(Box::pin(give_back(settled, client, after)));
                return;
            }
            Settlement::Reject { message, failure } => {
                let letter = self.letter(message, &failure, &settled);
                if letter.is_none() {
                    tracing::warn!(
                        topic = %settled.topic, error = failure.error,
                        "a listener rejected a message; nothing keeps it, because it belongs to no group"
                    );
                }
                letter
            }
            // Also whatever comes later: it is delivered again.
            _ => {
                work.push(Box::pin(give_back(settled, client, Duration::ZERO)));
                return;
            }
        };
        let publisher = self.publisher.clone();
        work.push(Box::pin(async move {
            if let Some(letter) = letter {
                set_aside(publisher, letter).await;
            }
            settled
                .carry_out(|receipt| async move { receipt.accept(&client).await })
                .await;
        }));
    }

    fn letter(
        &self,
        message: Message,
        failure: &dead_letter::Failure,
        settled: &Settled<Receipt>,
    ) -> Option<Publication> {
        let group = self.group.as_ref()?;
        // Subscribing has checked that there is such a name.
        let topic = dead_letter::topic(&settled.topic, group).ok()?;
        let position = settled.position;
        // One dead letter for each delivery that was rejected, however often it is sent.
        let id = format!(
            "{} {} {} {}",
            settled.topic,
            position.map_or(0, |position| position.offset),
            settled.attempt,
            failure.failed_at.as_millis()
        );
        let message = dead_letter::dead_letter(message, &settled.topic, position, group, failure);
        Some(Publication {
            topic,
            message,
            id: Some(id),
            due: None,
        })
    }

    /// Carries out what was settled, then gives everything else back.
    async fn close(&mut self, client: &Client, mut work: Work) -> Result<(), Error> {
        self.closing.send_replace(true);
        while self.pullers.join_next().await.is_some() {}
        while let Ok(settled) = self.driver.settled.try_recv() {
            self.settle(settled, &work);
        }
        for arrival in self.driver.desk.take_waiting() {
            let client = client.clone();
            work.push(Box::pin(async move {
                arrival.receipt.give_back(&client, Duration::ZERO).await;
            }));
        }
        while work.next().await.is_some() {}
        for (topic, consumer) in &self.listeners {
            let stream = self.context.get_stream_no_info(names::stream(topic)).await;
            if let Ok(stream) = stream {
                // It goes by itself some minutes later otherwise.
                stream.delete_consumer(consumer).await.ok();
            }
        }
        Ok(())
    }
}

async fn give_back(settled: Settled<Receipt>, client: Client, after: Duration) {
    let tell = |receipt: Receipt| async move { receipt.give_back(&client, after).await };
    settled.carry_out(tell).await;
}

/// Publishes a dead letter until a stream has it.
async fn set_aside(publisher: Publisher, letter: Publication) {
    let mut backoff = Backoff::new();
    while let Err(error) = publisher.publish(letter.clone()).await {
        tracing::warn!(
            %error, topic = %letter.topic,
            "a dead letter cannot be published and its message is kept unsettled; check the stream's limits and the user's permissions"
        );
        backoff.wait().await;
    }
}
