//! The task that publishes: one channel with confirms, in the order of handing over.
//!
//! Invariants: a publish is answered `Ok` only once the broker has confirmed it; whatever it needs is
//! declared before it on a channel of its own, because a refused declaration ends its channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wharf_message::transport::Error;
use wharf_message::{Message, TopicName};

use super::codec::{self, DELAY_TARGET};
use super::delay::Delay;
use super::link::{Link, answered, refused, too_large};
use super::topology::{Declared, Thing, due_topic, level_exchange};
use crate::backoff::Backoff;
use crate::held::{Handed, Handover, now};

/// How long a message may wait for a connection, and then for its confirmation.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);
/// What RabbitMQ takes at most unless it is configured otherwise; it is told apart from what it takes
/// by the broker itself.
const BYTES_MAX: usize = 128 << 20;

/// Where a message goes.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// To everybody who subscribed to the topic.
    Topic(TopicName),
    /// To the topic after a wait.
    TopicLater(TopicName, Delay),
    /// To the dead letters of a group.
    DeadLetters(TopicName),
    /// To a queue, at once.
    Queue(String),
    /// To a queue after a wait.
    QueueLater(String, Delay),
}

/// What is handed over.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Publish this.
    Message(Destination, Message),
    /// Declare this.
    Thing(Thing),
    /// Answer when everything before has been answered.
    Flush,
}

/// Whether a queue has taken the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routed {
    Yes,
    /// The broker confirmed it, and no queue wanted it.
    No,
}

/// The way to the task.
#[derive(Clone, Debug)]
pub(super) struct Publisher(Arc<Handover<Outgoing, Routed>>);

impl Publisher {
    /// Starts the task.
    pub(super) fn start(link: Arc<Link>) -> Self {
        let (handover, receiver) = Handover::new();
        let task = Task {
            link,
            channel: None,
            declared: Declared::default(),
            confirms: FuturesUnordered::new(),
            flushes: Vec::new(),
        };
        tokio::spawn(task.run(receiver));
        Self(Arc::new(handover))
    }

    pub(super) fn publish(
        &self,
        destination: Destination,
        message: Message,
    ) -> BoxFuture<'static, Result<Routed, Error>> {
        let bytes = message.size();
        self.0
            .hand_over(Outgoing::Message(destination, message), bytes)
    }

    pub(super) fn declare(&self, thing: Thing) -> BoxFuture<'static, Result<Routed, Error>> {
        self.0.hand_over(Outgoing::Thing(thing), 0)
    }

    pub(super) fn flush(&self) -> BoxFuture<'static, Result<Routed, Error>> {
        self.0.hand_over(Outgoing::Flush, 0)
    }
}

type Waiting = Handed<Outgoing, Routed>;

struct Task {
    link: Arc<Link>,
    channel: Option<Channel>,
    declared: Declared,
    confirms: FuturesUnordered<BoxFuture<'static, (Waiting, Result<Routed, Error>)>>,
    flushes: Vec<Waiting>,
}

/// A message as it goes out.
struct Frame {
    exchange: String,
    routing_key: ShortString,
    properties: BasicProperties,
    payload: Bytes,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Waiting>) {
        loop {
            tokio::select! {
                handed = receiver.recv() => match handed {
                    Some(handed) => self.take(handed).await,
                    // The transport is gone; what it published before is still confirmed.
                    None => break,
                },
                Some((handed, answer)) = self.confirms.next() => self.answer(handed, answer),
            }
        }
        while let Some((handed, answer)) = self.confirms.next().await {
            self.answer(handed, answer);
        }
    }

    fn answer(&mut self, handed: Waiting, answer: Result<Routed, Error>) {
        if answer == Ok(Routed::No) {
            // What should have been there was deleted.
            self.declared.forget();
        }
        handed.answer(answer);
        if self.confirms.is_empty() {
            for flush in self.flushes.drain(..) {
                flush.answer(Ok(Routed::Yes));
            }
        }
    }

    async fn take(&mut self, handed: Waiting) {
        match &handed.item {
            Outgoing::Flush if self.confirms.is_empty() => handed.answer(Ok(Routed::Yes)),
            Outgoing::Flush => self.flushes.push(handed),
            Outgoing::Thing(thing) => {
                let declared = self.declare(handed.at, vec![thing.clone()]).await;
                handed.answer(declared.map(|()| Routed::Yes));
            }
            Outgoing::Message(destination, message) => {
                match self.send(handed.at, destination, message).await {
                    Ok(confirm) => {
                        let bytes = message.payload.as_ref().map_or(0, Bytes::len);
                        let confirmed = confirmation(confirm, bytes);
                        let waiting = async move { (handed, confirmed.await) };
                        self.confirms.push(Box::pin(waiting));
                    }
                    Err(error) => handed.answer(Err(error)),
                }
            }
        }
    }

    /// Writes a message to the channel, which is opened again as long as the message may wait.
    async fn send(
        &mut self,
        at: Instant,
        destination: &Destination,
        message: &Message,
    ) -> Result<PublisherConfirm, Error> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_send(at, destination, message).await {
                Err(Error::Unavailable(why)) => {
                    self.channel = None;
                    if at.elapsed() >= PUBLISH_WITHIN {
                        return Err(Error::Unavailable(why));
                    }
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    async fn try_send(
        &mut self,
        at: Instant,
        destination: &Destination,
        message: &Message,
    ) -> Result<PublisherConfirm, Error> {
        let payload = message.payload.as_ref().map_or(0, Bytes::len);
        if payload > BYTES_MAX {
            return Err(Error::TooLarge {
                bytes: payload,
                bytes_max: BYTES_MAX,
            });
        }
        self.declare(at, needs(destination)).await?;
        let frame = frame(destination, message)?;
        let channel = self.channel().await?;
        let (bytes, bytes_max) = (
            codec::header_bytes(message),
            self.link.header_bytes_max().await,
        );
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = codec::short(&frame.exchange).unwrap_or_default();
        let published = channel.basic_publish(
            exchange,
            frame.routing_key,
            options,
            &frame.payload,
            frame.properties,
        );
        let published = timeout(PUBLISH_WITHIN, published).await;
        let published =
            published.map_err(|_late| Error::Unavailable("the broker takes no data".to_owned()))?;
        // Not sent at all: the channel had ended before.
        published.map_err(|error| Error::Unavailable(error.to_string()))
    }

    async fn channel(&mut self) -> Result<Channel, Error> {
        if let Some(channel) = self.channel.as_ref().filter(|it| it.status().connected()) {
            return Ok(channel.clone());
        }
        self.declared.forget();
        let channel = self.link.channel().await?;
        answered(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Declares what is not known to be there.
    async fn declare(&mut self, at: Instant, things: Vec<Thing>) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_declare(&things).await {
                Err(Error::Unavailable(why)) if at.elapsed() < PUBLISH_WITHIN => {
                    tracing::debug!(why, "a declaration is tried again");
                    backoff.wait().await;
                }
                other => return other,
            }
        }
    }

    async fn try_declare(&mut self, things: &[Thing]) -> Result<(), Error> {
        // It forgets what was declared when the connection is another one.
        self.channel().await?;
        if things.iter().all(|thing| self.declared.has(thing)) {
            return Ok(());
        }
        let channel = self.link.channel().await?;
        for thing in things {
            self.declared.declare(&channel, thing.clone()).await?;
        }
        // It ends with its last owner if this fails.
        answered(channel.close(200, "declared".into())).await.ok();
        Ok(())
    }
}

fn needs(destination: &Destination) -> Vec<Thing> {
    match destination {
        Destination::Topic(topic) => vec![Thing::Topic(topic.clone())],
        Destination::TopicLater(topic, delay) => {
            vec![Thing::DueTopic(topic.clone()), Thing::Delay(delay.level())]
        }
        Destination::DeadLetters(topic) => vec![Thing::DeadLetters(topic.clone())],
        Destination::Queue(_) => vec![],
        Destination::QueueLater(_, delay) => vec![Thing::Delay(delay.level())],
    }
}

fn frame(destination: &Destination, message: &Message) -> Result<Frame, Error> {
    let mut frame = Frame {
        exchange: String::new(),
        routing_key: codec::routing_key(message),
        properties: codec::encode(message, now())?,
        payload: message.payload.clone().unwrap_or_default(),
    };
    let (delay, target) = match destination {
        Destination::Topic(topic) | Destination::DeadLetters(topic) => {
            frame.exchange = topic.to_string();
            return Ok(frame);
        }
        Destination::Queue(queue) => {
            // The default exchange takes the name of the queue for the key.
            frame.routing_key = codec::short(queue).unwrap_or_default();
            return Ok(frame);
        }
        Destination::TopicLater(topic, delay) => (delay, due_topic(topic)),
        Destination::QueueLater(queue, delay) => (delay, queue.clone()),
    };
    frame.exchange = level_exchange(delay.level());
    frame.routing_key = codec::short(&delay.routing_key()).unwrap_or_default();
    let mut headers = frame.properties.headers().clone().unwrap_or_default();
    let target = AMQPValue::LongString(target.into());
    FieldTable::insert(&mut headers, DELAY_TARGET.into(), target);
    frame.properties = frame.properties.with_headers(headers);
    Ok(frame)
}

/// What the broker says of a message with a payload of so many bytes.
async fn confirmation(confirm: PublisherConfirm, bytes: usize) -> Result<Routed, Error> {
    let confirmed = timeout(PUBLISH_WITHIN, confirm).await.map_err(|_late| {
        Error::Unavailable(format!(
            "no confirmation within {PUBLISH_WITHIN:?}; see whether the broker blocks publishers (memory or disk alarm)"
        ))
    })?;
    match confirmed {
        Ok(Confirmation::Ack(None)) => Ok(Routed::Yes),
        Ok(Confirmation::Ack(Some(_))) => Ok(Routed::No),
        Ok(_) => Err(Error::Unavailable(
            "the broker could not keep the message".to_owned(),
        )),
        Err(error) => {
            let error = refused(&error);
            Err(match too_large(&error) {
                Some((size, bytes_max)) if size == bytes => Error::TooLarge { bytes, bytes_max },
                // Another message was refused, and the channel ended with it.
                _ => Error::Unavailable(error.to_string()),
            })
        }
    }
}
