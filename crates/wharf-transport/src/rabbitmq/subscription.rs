//! The task of a subscription: a channel with a consumer for each topic, made again when it is lost.
//!
//! Invariants: a message is acknowledged only after what its settlement promises (a dead letter, the
//! next attempt) is confirmed; what a lost channel delivered is not acknowledged on another one, the
//! broker delivers it again by itself.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll};
use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{Mutex, watch};
use wharf_message::dead_letter::{self, Failure};
use wharf_message::transport::{Audience, Error, Settlement, Subscription};
use wharf_message::{GroupName, Message, TopicName, header};

use super::codec;
use super::delay::Delay;
use super::link::{Link, answered};
use super::publisher::{Destination, Publisher, Routed};
use super::topology::{Declared, Thing, group_queue};
use crate::backoff::Backoff;
use crate::held::{Arrival, Driver, Settled, now, told, until_due};

/// What a subscription receives from, and for whom.
#[derive(Debug)]
pub(super) struct Plan {
    queues: Vec<Queue>,
    group: Option<GroupName>,
    prefetch: u16,
}

#[derive(Clone, Debug)]
struct Queue {
    topic: TopicName,
    name: String,
    things: Vec<Thing>,
}

impl Plan {
    /// # Errors
    /// [`Error::Refused`] when a queue's name is too long.
    pub(super) fn new(subscription: &Subscription) -> Result<Self, Error> {
        let topics = subscription.topics.len().max(1);
        let share = subscription.in_flight_max.div_ceil(topics).max(1);
        let (group, queues) = match &subscription.audience {
            Audience::Group(group) => {
                let queues = subscription.topics.iter().map(|it| of_group(it, group));
                (Some(group.clone()), queues.collect::<Result<_, _>>()?)
            }
            Audience::Everyone => {
                let queues = subscription.topics.iter().map(of_listener);
                (None, queues.collect::<Result<_, _>>()?)
            }
        };
        Ok(Self {
            queues,
            group,
            prefetch: u16::try_from(share).unwrap_or(u16::MAX),
        })
    }
}

fn of_group(topic: &TopicName, group: &GroupName) -> Result<Queue, Error> {
    let name = group_queue(topic, group)?;
    let dead_letters = dead_letter::topic(topic, group)
        .map_err(|error| Error::Refused(format!("for the dead letters, {error}")))?;
    let queue = Thing::Group {
        topic: topic.clone(),
        group: group.clone(),
        dead_letters: dead_letters.clone(),
    };
    Ok(Queue {
        topic: topic.clone(),
        name,
        things: vec![Thing::DeadLetters(dead_letters), queue],
    })
}

fn of_listener(topic: &TopicName) -> Result<Queue, Error> {
    let id = uuid::Uuid::new_v4().simple();
    let name = format!("wharf.everyone:{topic}:{id}");
    if codec::short(&name).is_none() {
        let text = format!("the name of the topic {topic} is too long for a listener's queue");
        return Err(Error::Refused(text));
    }
    let queue = Thing::Listener {
        topic: topic.clone(),
        queue: name.clone(),
    };
    Ok(Queue {
        topic: topic.clone(),
        name,
        things: vec![queue],
    })
}

/// A channel that consumes.
pub(super) struct Session {
    channel: Channel,
    incoming: SelectAll<BoxStream<'static, Incoming>>,
}

type Incoming = (usize, Option<lapin::Result<Delivery>>);

impl Session {
    /// Declares the queues, as far as this was not done before, and begins to consume.
    pub(super) async fn begin(
        link: &Link,
        plan: &Plan,
        declared: &SharedDeclared,
    ) -> Result<Self, Error> {
        let channel = link.channel().await?;
        let mut declared = declared.lock().await;
        for thing in plan.queues.iter().flat_map(|queue| &queue.things) {
            declared.declare(&channel, thing.clone()).await?;
        }
        // Something may have been deleted if it fails.
        let session = answered(Self::consume(channel, plan)).await;
        session.inspect_err(|_| declared.forget())
    }

    async fn consume(channel: Channel, plan: &Plan) -> lapin::Result<Self> {
        let options = BasicQosOptions { global: false };
        channel.basic_qos(plan.prefetch, options).await?;
        let mut incoming = SelectAll::new();
        for (number, queue) in plan.queues.iter().enumerate() {
            let consumer = channel.basic_consume(
                queue.name.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            incoming.push(numbered(number, consumer.await?));
        }
        Ok(Self { channel, incoming })
    }
}

/// The deliveries of one queue with its number, and `None` at the end.
fn numbered(number: usize, consumer: Consumer) -> BoxStream<'static, Incoming> {
    consumer
        .map(Some)
        .chain(futures_util::stream::once(async { None }))
        .map(move |delivery| (number, delivery))
        .boxed()
}

/// How a session ended.
enum End {
    Lost(String),
    Closed,
}

/// The task.
pub(super) struct Consuming {
    pub(super) link: Arc<Link>,
    pub(super) publisher: Publisher,
    pub(super) plan: Arc<Plan>,
    pub(super) driver: Driver<Acker>,
    pub(super) declared: SharedDeclared,
    /// Whether the transport is being shut down, which waits until this is dropped.
    pub(super) shutdown: watch::Receiver<bool>,
}

/// What the consuming connection has declared.
pub(super) type SharedDeclared = Arc<Mutex<Declared>>;

impl Consuming {
    /// Runs until the subscription is closed.
    pub(super) async fn run(mut self, session: Session) {
        let mut session = Some(session);
        let mut backoff = Backoff::new();
        loop {
            if let Some(session) = session.take() {
                match self.serve(session).await {
                    End::Closed => break,
                    End::Lost(_) if self.link.is_closed() => break,
                    End::Lost(why) => {
                        self.driver.desk.take_waiting();
                        self.declared.lock().await.forget();
                        tracing::warn!(
                            why,
                            "the subscription lost RabbitMQ and connects again; what was unsettled is delivered again"
                        );
                        self.driver.desk.outage(why);
                        backoff = Backoff::new();
                    }
                }
            }
            if self.pause(backoff.step()).await {
                break;
            }
            match Session::begin(&self.link, &self.plan, &self.declared).await {
                Ok(again) => session = Some(again),
                Err(Error::Closed) => break,
                Err(error) => tracing::warn!(
                    %error,
                    "RabbitMQ cannot be subscribed to again yet; check that it runs and that the user may configure, write and read"
                ),
            }
        }
        self.driver.desk.close();
    }

    /// Waits; whether the subscription was closed meanwhile. What is settled meanwhile belonged to the
    /// lost session.
    async fn pause(&mut self, wait: std::time::Duration) -> bool {
        let wait = tokio::time::sleep(wait);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return false,
                Some(_) = self.driver.settled.recv() => {}
                () = told(&mut self.shutdown) => return true,
                answer = &mut self.driver.close => {
                    if let Ok(answer) = answer {
                        let lost = "the connection was lost before; recent settlements may be too";
                        answer.send(Err(Error::Unavailable(lost.to_owned()))).ok();
                    }
                    return true;
                }
            }
        }
    }

    async fn serve(&mut self, mut session: Session) -> End {
        let mut work: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((number, delivery)) = session.incoming.next() => match delivery {
                    Some(Ok(delivery)) => self.arrive(number, delivery, &mut work),
                    Some(Err(error)) => return End::Lost(error.to_string()),
                    None => return End::Lost("the broker ended the consumer".to_owned()),
                },
                Some(settled) = self.driver.settled.recv() => {
                    if let Err(error) = self.settle(settled, &mut work).await {
                        return End::Lost(error.to_string());
                    }
                }
                Some(()) = work.next() => {}
                () = told(&mut self.shutdown) => {
                    if let Err(error) = self.close(session, work).await {
                        tracing::warn!(%error, "not every settlement was told before the shutdown");
                    }
                    return End::Closed;
                }
                answer = &mut self.driver.close => {
                    let ended = self.close(session, work).await;
                    if let Ok(answer) = answer {
                        answer.send(ended).ok();
                    }
                    return End::Closed;
                }
            }
        }
    }

    /// Puts a delivery on the desk, unless it came before its time.
    fn arrive(
        &self,
        number: usize,
        delivery: Delivery,
        work: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) {
        let Some(queue) = self.plan.queues.get(number) else {
            return;
        };
        let message = codec::decode(&delivery.properties, delivery.data);
        let early = until_due(&message, now());
        if !early.is_zero() {
            let later = Destination::QueueLater(queue.name.clone(), Delay::exact(early));
            let keep = keep(self.publisher.clone(), later, message, delivery.acker);
            work.push(Box::pin(keep));
            return;
        }
        // Only what we sent back to the queue ourselves counts attempts; what was published to the
        // topic is new, whatever headers its producer copied.
        let is_new = delivery.exchange.as_str() == queue.topic.as_str();
        self.driver.desk.arrive(Arrival {
            topic: queue.topic.clone(),
            position: None,
            attempt: if is_new { 1 } else { attempt(&message) },
            message,
            receipt: delivery.acker,
        });
    }

    /// Carries out a settlement, or begins to.
    async fn settle(
        &self,
        mut settled: Settled<Acker>,
        work: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    ) -> Result<(), Error> {
        let kept = match settled.take_settlement() {
            Settlement::Accept => None,
            Settlement::Retry { message, after } => {
                let queue = self.queue_of(&settled.topic);
                Some(again(queue, message, settled.attempt, after))
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
                answered(settled.receipt.nack(requeue())).await?;
                return Ok(());
            }
        };
        match kept {
            None => {
                answered(settled.receipt.ack(BasicAckOptions::default())).await?;
            }
            Some((destination, message)) => {
                let publisher = self.publisher.clone();
                work.push(Box::pin(async move {
                    keep(publisher, destination, message, settled.receipt.clone()).await;
                    // Until now it counted as in flight.
                    drop(settled);
                }));
            }
        }
        Ok(())
    }

    fn queue_of(&self, topic: &TopicName) -> String {
        let queue = self.plan.queues.iter().find(|queue| queue.topic == *topic);
        queue.map_or_else(String::new, |queue| queue.name.clone())
    }

    fn letter(
        &self,
        message: Message,
        failure: &Failure,
        settled: &Settled<Acker>,
    ) -> Option<(Destination, Message)> {
        let group = self.plan.group.as_ref()?;
        // Subscribing has checked that there is such a name.
        let topic = dead_letter::topic(&settled.topic, group).ok()?;
        let position = settled.position;
        let letter = dead_letter::dead_letter(message, &settled.topic, position, group, failure);
        Some((Destination::DeadLetters(topic), letter))
    }

    /// Carries out what was settled, then gives everything else back.
    async fn close(
        &mut self,
        session: Session,
        mut work: FuturesUnordered<BoxFuture<'static, ()>>,
    ) -> Result<(), Error> {
        while let Ok(settled) = self.driver.settled.try_recv() {
            self.settle(settled, &mut work).await?;
        }
        self.driver.desk.take_waiting();
        while !work.is_empty() && session.channel.status().connected() {
            work.next().await;
        }
        if self.plan.group.is_none() {
            for queue in &self.plan.queues {
                let options = QueueDeleteOptions::default();
                let name = queue.name.as_str().into();
                // It goes by itself some minutes later otherwise.
                answered(session.channel.queue_delete(name, options))
                    .await
                    .ok();
            }
        }
        answered(session.channel.close(200, "closed".into())).await
    }
}

fn requeue() -> BasicNackOptions {
    BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    }
}

fn attempt(message: &Message) -> u32 {
    let attempt = message.headers.text(header::ATTEMPT).ok().flatten();
    attempt
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
        .max(1)
}

/// The next attempt at a message, and where it waits for it.
fn again(
    queue: String,
    mut message: Message,
    attempt: u32,
    after: std::time::Duration,
) -> (Destination, Message) {
    let next = attempt.saturating_add(1);
    message.headers.set(header::ATTEMPT, next.to_string());
    let at = now();
    if !message.headers.contains(header::FIRST_FAILED_AT) {
        message
            .headers
            .push(header::FIRST_FAILED_AT, at.to_rfc3339());
    }
    if after.is_zero() {
        return (Destination::Queue(queue), message);
    }
    let delay = Delay::rounded(after);
    if delay == Delay::MAX {
        // Longer than the levels reach: it is sent round again until its time has come.
        let due = at.after(after).to_rfc3339();
        message.headers.set(header::DELIVER_AT, due);
    }
    (Destination::QueueLater(queue, delay), message)
}

/// Publishes until it is kept, and only then acknowledges what it came from.
async fn keep(publisher: Publisher, destination: Destination, message: Message, acker: Acker) {
    let mut backoff = Backoff::new();
    // Once the channel is lost, the broker delivers the original again.
    while acker.usable() {
        match publisher
            .publish(destination.clone(), message.clone())
            .await
        {
            Ok(Routed::Yes) => {
                // A lost channel shows at its consumer.
                answered(acker.ack(BasicAckOptions::default())).await.ok();
                return;
            }
            Ok(Routed::No) => tracing::warn!(
                ?destination,
                "no queue takes it; the queue was deleted and is declared again"
            ),
            Err(error) => tracing::warn!(
                %error, ?destination,
                "a message cannot be set aside and is kept unsettled; check the broker's limits and the user's permissions"
            ),
        }
        backoff.wait().await;
    }
}
