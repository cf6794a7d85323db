//! What is declared on the broker: exchanges, queues and bindings, each once for a connection.
//!
//! | name | what |
//! |---|---|
//! | `<topic>` | durable topic exchange |
//! | `<topic>:<group>` | durable quorum queue of a group, bound to all of its topic |
//! | `dlq.<topic>.<group>` | the exchange of the dead letters, and a durable quorum queue that keeps them |
//! | `wharf.everyone:<topic>:<id>` | queue of one listener, gone some minutes after it |
//! | `wharf.delay.<level>` | exchange and quorum queue of a level of delay |
//! | `wharf.delay.due` | exchange that delivers what has waited |
//! | `wharf.delay.sink` | queue that drops what is due in a topic that nobody subscribed to |
//! | `wharf.delay.undeliverable` | exchange and queue that keep what is due for a queue that is gone |
//!
//! A `:` is in no topic's and no group's name, so the names are reversible and collide with nothing.

use std::collections::HashSet;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use wharf_message::transport::Error;
use wharf_message::{GroupName, TopicName};

use super::codec::{DELAY_TARGET, short};
use super::delay::{LEVEL_MIN, binding_key};
use super::link::answered;

/// The exchange that delivers what has waited.
const DUE: &str = "wharf.delay.due";
const SINK: &str = "wharf.delay.sink";
const UNDELIVERABLE: &str = "wharf.delay.undeliverable";
/// A listener's queue is kept for so long after its connection was lost, in milliseconds.
const LISTENER_KEPT_MS: i64 = 5 * 60 * 1_000;
/// A message that ended its consumer so often is set aside by the broker.
const DELIVERIES_MAX: i64 = 100;

/// What there is to declare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    /// A topic's exchange.
    Topic(TopicName),
    /// The exchange of dead letters and the queue that keeps them.
    DeadLetters(TopicName),
    /// The queue of a group, and where the broker puts what kills its consumers.
    Group {
        topic: TopicName,
        group: GroupName,
        dead_letters: TopicName,
    },
    /// The queue of one listener.
    Listener { topic: TopicName, queue: String },
    /// The levels of delay up to this one.
    Delay(u32),
    /// That what is due for a topic gets there.
    DueTopic(TopicName),
}

/// The queue of a group.
///
/// # Errors
/// [`Error::Refused`] when the names are too long together.
pub(super) fn group_queue(topic: &TopicName, group: &GroupName) -> Result<String, Error> {
    let name = format!("{topic}:{group}");
    match short(&name) {
        Some(_) => Ok(name),
        None => Err(Error::Refused(format!(
            "the names of the topic {topic} and of the group {group} are too long together for a queue of RabbitMQ (255 bytes)"
        ))),
    }
}

/// What a delayed message for a topic is addressed to; a queue is addressed by its name.
pub(super) fn due_topic(topic: &TopicName) -> String {
    format!("{topic}:")
}

/// The exchange of a level of delay.
pub(super) fn level_exchange(level: u32) -> String {
    format!("wharf.delay.{level:02}")
}

/// What this connection has declared already.
#[derive(Debug, Default)]
pub(super) struct Declared(HashSet<Thing>);

impl Declared {
    /// Forgets everything: it is another connection, or something turned out to be missing.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether this is known to be there.
    pub(super) fn has(&self, thing: &Thing) -> bool {
        match thing {
            Thing::Delay(level) => (*level..=super::delay::LEVEL_MAX)
                .any(|higher| self.0.contains(&Thing::Delay(higher))),
            thing => self.0.contains(thing),
        }
    }

    /// Declares it on `channel`, which an error ends.
    pub(super) async fn declare(&mut self, channel: &Channel, thing: Thing) -> Result<(), Error> {
        if !self.has(&thing) {
            answered(declare(channel, &thing)).await?;
            self.0.insert(thing);
        }
        Ok(())
    }
}

async fn declare(channel: &Channel, thing: &Thing) -> lapin::Result<()> {
    match thing {
        Thing::Topic(topic) => exchange(channel, topic.as_str(), ExchangeKind::Topic).await,
        Thing::DeadLetters(topic) => {
            exchange(channel, topic.as_str(), ExchangeKind::Topic).await?;
            queue(channel, topic.as_str(), quorum([])).await?;
            bind(channel, topic.as_str(), topic.as_str(), "#", none()).await
        }
        Thing::Group {
            topic,
            group,
            dead_letters,
        } => {
            let name = format!("{topic}:{group}");
            let arguments = quorum([
                ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERIES_MAX)),
                ("x-dead-letter-exchange", text(dead_letters.as_str())),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ]);
            receiving(channel, topic, &name, arguments).await
        }
        Thing::Listener { topic, queue } => {
            let kept = [("x-expires", AMQPValue::LongLongInt(LISTENER_KEPT_MS))];
            receiving(channel, topic, queue, table(kept)).await
        }
        Thing::Delay(top) => {
            due(channel).await?;
            for level in LEVEL_MIN..=*top {
                delay_level(channel, level).await?;
            }
            Ok(())
        }
        Thing::DueTopic(topic) => {
            due(channel).await?;
            exchange(channel, topic.as_str(), ExchangeKind::Topic).await?;
            let target = target(&due_topic(topic));
            // Without a queue, what is due would block its level until somebody subscribes.
            let sink = [("x-message-ttl", AMQPValue::LongLongInt(0))];
            queue(channel, SINK, table(sink)).await?;
            bind(channel, SINK, DUE, "", target.clone()).await?;
            channel
                .exchange_bind(
                    topic.as_str().into(),
                    DUE.into(),
                    "".into(),
                    ExchangeBindOptions::default(),
                    target,
                )
                .await
        }
    }
}

/// A queue that receives a topic's messages, and delayed ones addressed to it.
async fn receiving(
    channel: &Channel,
    topic: &TopicName,
    name: &str,
    arguments: FieldTable,
) -> lapin::Result<()> {
    exchange(channel, topic.as_str(), ExchangeKind::Topic).await?;
    due(channel).await?;
    queue(channel, name, arguments).await?;
    bind(channel, name, DUE, "", target(name)).await?;
    bind(channel, name, topic.as_str(), "#", none()).await
}

/// The exchange that delivers what has waited, by the header that says where to.
async fn due(channel: &Channel) -> lapin::Result<()> {
    exchange(channel, UNDELIVERABLE, ExchangeKind::Fanout).await?;
    queue(channel, UNDELIVERABLE, quorum([])).await?;
    bind(channel, UNDELIVERABLE, UNDELIVERABLE, "", none()).await?;
    let otherwise = [("alternate-exchange", text(UNDELIVERABLE))];
    let kind = ExchangeKind::Headers;
    exchange_with(channel, DUE, kind, table(otherwise)).await
}

async fn delay_level(channel: &Channel, level: u32) -> lapin::Result<()> {
    let name = level_exchange(level);
    let below = match level {
        LEVEL_MIN => DUE.to_owned(),
        _ => level_exchange(level - 1),
    };
    let arguments = quorum([
        ("x-message-ttl", AMQPValue::LongLongInt(1 << level)),
        ("x-dead-letter-exchange", text(&below)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]);
    exchange(channel, &name, ExchangeKind::Topic).await?;
    queue(channel, &name, arguments).await?;
    bind(channel, &name, &name, &binding_key(level, true), none()).await?;
    channel
        .exchange_bind(
            below.as_str().into(),
            name.as_str().into(),
            binding_key(level, false).as_str().into(),
            ExchangeBindOptions::default(),
            none(),
        )
        .await
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    exchange_with(channel, name, kind, none()).await
}

async fn exchange_with(
    channel: &Channel,
    name: &str,
    kind: ExchangeKind,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, arguments)
        .await
}

async fn queue(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), options, arguments)
        .await
        .map(drop)
}

async fn bind(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        )
        .await
}

fn none() -> FieldTable {
    FieldTable::default()
}

/// What a binding of [`DUE`] selects.
fn target(name: &str) -> FieldTable {
    table([("x-match", text("all")), (DELAY_TARGET, text(name))])
}

fn quorum<const N: usize>(more: [(&str, AMQPValue); N]) -> FieldTable {
    let mut arguments = table(more);
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn table<const N: usize>(fields: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert(name.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
