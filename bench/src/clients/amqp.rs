//! RabbitMQ with lapin: a durable quorum queue for each partition, persistent messages with
//! publisher confirms, consumers that acknowledge many at once.

use anyhow::Result;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::sync::mpsc;

use super::tasks::{Arrived, Queue, Tasks, report};
use super::window::Gate;
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic};

/// How many deliveries the server sends ahead of acknowledgements.
const PREFETCH: u16 = 2_000;
/// Every so many deliveries are acknowledged together.
const ACKNOWLEDGE: u64 = 500;
/// Messages survive a restart.
const PERSISTENT: u8 = 2;

/// A connection to a RabbitMQ server.
pub(crate) struct Amqp {
    tasks: Tasks,
    connection: Connection,
}

impl Amqp {
    pub(super) fn connect(address: &str) -> Result<Self> {
        let tasks = Tasks::new()?;
        let uri = format!("amqp://guest:guest@{address}/%2f");
        let connection = tasks.within(async {
            Ok(Connection::connect(&uri, ConnectionProperties::default()).await?)
        })?;
        Ok(Self { tasks, connection })
    }
}

impl Client for Amqp {
    fn make(&self, topic: &Topic) -> Result<()> {
        self.tasks.within(async {
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
        self.tasks.within(async {
            let channel = self.connection.create_channel().await?;
            for name in topic.parts() {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(name.as_str().into(), options).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, topic: &Topic, _pace: Pace, _codec: Codec) -> Result<Box<dyn Producer>> {
        let channel = self.tasks.within(async {
            let channel = self.connection.create_channel().await?;
            let options = ConfirmSelectOptions::default();
            channel.confirm_select(options).await?;
            Ok(channel)
        })?;
        let queues = topic.parts().collect();
        Ok(self
            .tasks
            .producer(|queue, gate| publish(channel, queues, queue, gate)))
    }

    fn consumer(&self, topic: &Topic, _from: From) -> Result<Box<dyn Consumer>> {
        let (channel, deliveries) = self.tasks.within(async {
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
        Ok(self
            .tasks
            .consumer(|arrived| receive(channel, deliveries, arrived)))
    }
}

/// Takes deliveries and acknowledges many at once.
async fn receive(channel: Channel, deliveries: Vec<lapin::Consumer>, arrived: Arrived) {
    let mut deliveries = select_all(deliveries);
    // Deliveries of several queues arrive in another order than their tags; the channel takes no tag
    // twice.
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
}

/// Publishes in order; confirms are awaited apart, so that nobody waits for one.
async fn publish(channel: Channel, queues: Vec<String>, mut queue: Queue, gate: Gate) {
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
