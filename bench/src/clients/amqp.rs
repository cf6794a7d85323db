//! RabbitMQ with lapin: a durable quorum queue for each partition, persistent messages with
//! publisher confirms, consumers that acknowledge many at once.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::nats::{Received, report};
use super::window::{Gate, Window};
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic, WITHIN};

/// How many messages may be under way.
const UNDER_WAY: u64 = 4_000;
/// How many deliveries the server sends ahead of acknowledgements.
const PREFETCH: u16 = 2_000;
/// Every so many deliveries are acknowledged together.
const ACKNOWLEDGE: u64 = 500;
/// How many received messages wait to be looked at.
const RECEIVED: usize = 20_000;
/// Messages survive a restart.
const PERSISTENT: u8 = 2;

/// A connection to a RabbitMQ server.
pub(crate) struct Amqp {
    runtime: Arc<Runtime>,
    connection: Connection,
}

impl Amqp {
    pub(super) fn connect(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let uri = format!("amqp://guest:guest@{address}/%2f");
        let connection =
            runtime.block_on(Connection::connect(&uri, ConnectionProperties::default()))?;
        Ok(Self {
            runtime: Arc::new(runtime),
            connection,
        })
    }

    /// Waits for something, but not for ever.
    fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime
            .block_on(async { timeout(WITHIN, work).await? })
    }
}

impl Client for Amqp {
    fn make(&self, topic: &Topic) -> Result<()> {
        self.within(async {
            let channel = self.connection.create_channel().await?;
            let mut kind = FieldTable::default();
            kind.insert(
                "x-queue-type".into(),
                AMQPValue::LongString("quorum".into()),
            );
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            for name in topic.parts() {
                channel
                    .queue_declare(name.as_str().into(), options, kind.clone())
                    .await?;
            }
            Ok(())
        })
    }

    fn remove(&self, topic: &Topic) -> Result<()> {
        self.within(async {
            let channel = self.connection.create_channel().await?;
            for name in topic.parts() {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(name.as_str().into(), options).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, topic: &Topic, _pace: Pace, _codec: Codec) -> Result<Box<dyn Producer>> {
        let channel = self.within(async {
            let channel = self.connection.create_channel().await?;
            let options = ConfirmSelectOptions::default();
            channel.confirm_select(options).await?;
            Ok(channel)
        })?;
        let window = Window::new(UNDER_WAY);
        let (messages, queue) = mpsc::unbounded_channel();
        let names = topic.parts().collect();
        self.runtime
            .spawn(publish(channel, names, queue, window.gate()));
        Ok(Box::new(AmqpProducer { messages, window }))
    }

    fn consumer(&self, topic: &Topic, _from: From) -> Result<Box<dyn Consumer>> {
        let (channel, deliveries) = self.within(async {
            let channel = self.connection.create_channel().await?;
            channel
                .basic_qos(PREFETCH, BasicQosOptions { global: false })
                .await?;
            let mut deliveries = Vec::new();
            for name in topic.parts() {
                let options = BasicConsumeOptions::default();
                let tag = format!("bench-{name}");
                let consumer = channel.basic_consume(
                    name.as_str().into(),
                    tag.as_str().into(),
                    options,
                    FieldTable::default(),
                );
                deliveries.push(consumer.await?);
            }
            Ok((channel, deliveries))
        })?;
        let (arrived, queue) = mpsc::channel(RECEIVED);
        self.runtime.spawn(async move {
            let mut deliveries = select_all(deliveries);
            // Deliveries of several queues arrive in another order than their tags; the channel
            // takes no tag twice.
            let (mut highest, mut acknowledged) = (0, 0);
            let mut unacknowledged = 0;
            while let Some(delivery) = deliveries.next().await {
                let payload = match delivery {
                    Ok(delivery) => {
                        unacknowledged += 1;
                        highest = delivery.delivery_tag.max(highest);
                        if unacknowledged >= ACKNOWLEDGE && highest > acknowledged {
                            (acknowledged, unacknowledged) = (highest, 0);
                            let all = BasicAckOptions { multiple: true };
                            if let Err(error) = channel.basic_ack(highest, all).await {
                                // Nobody may be waiting any more.
                                arrived.send(Err(error.into())).await.ok();
                                return;
                            }
                        }
                        Ok(Bytes::from(delivery.data))
                    }
                    Err(error) => Err(error.into()),
                };
                if arrived.send(payload).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::new(Received::new(Arc::clone(&self.runtime), queue)))
    }
}

/// Publishes in order; confirms are awaited apart, so that nobody waits for one.
async fn publish(
    channel: Channel,
    queues: Vec<String>,
    mut queue: mpsc::UnboundedReceiver<(usize, Bytes)>,
    gate: Gate,
) {
    let (pending, confirms) = mpsc::unbounded_channel();
    tokio::spawn(report(
        confirms,
        gate.clone(),
        |confirmation| match confirmation {
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(_) => Err("it was not confirmed".to_owned()),
            Err(error) => Err(lapin::Error::to_string(&error)),
        },
    ));
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    while let Some((partition, payload)) = queue.recv().await {
        let name = queues[partition].as_str();
        let sent = channel.basic_publish(
            "".into(),
            name.into(),
            BasicPublishOptions::default(),
            &payload,
            properties.clone(),
        );
        match sent.await {
            Ok(confirm) => {
                if pending.send(confirm).is_err() {
                    return;
                }
            }
            Err(error) => gate.leave(Err(error.to_string())),
        }
    }
}

struct AmqpProducer {
    messages: mpsc::UnboundedSender<(usize, Bytes)>,
    window: Window,
}

impl Producer for AmqpProducer {
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()> {
        self.window.enter(WITHIN)?;
        let message = (partition, Bytes::copy_from_slice(payload));
        self.messages.send(message).context("the client has ended")
    }

    fn flush(&mut self) -> Result<()> {
        self.window.drain(WITHIN)
    }
}
