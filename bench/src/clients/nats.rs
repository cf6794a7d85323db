//! NATS JetStream with async-nats: a stream in a file for each partition, publishing with
//! acknowledgements, pulling without.

use anyhow::Result;
use async_nats::jetstream::{self, Context, consumer, stream};
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use tokio::sync::mpsc;

use super::tasks::{Queue, Tasks, UNDER_WAY, report};
use super::window::Gate;
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic, WITHIN};

/// How many messages the server hands to a consumer before it is asked again.
const BATCH: usize = 5_000;

/// A connection to a NATS server.
pub(crate) struct Nats {
    tasks: Tasks,
    context: Context,
}

impl Nats {
    pub(super) fn connect(address: &str) -> Result<Self> {
        let tasks = Tasks::new()?;
        let context = tasks.within(async {
            let client = async_nats::connect(address).await?;
            Ok(jetstream::ContextBuilder::new()
                .timeout(WITHIN)
                .ack_timeout(WITHIN)
                .max_ack_inflight(usize::try_from(UNDER_WAY)? * 2)
                .build(client))
        })?;
        Ok(Self { tasks, context })
    }
}

impl Client for Nats {
    fn make(&self, topic: &Topic) -> Result<()> {
        self.tasks.within(async {
            for name in topic.parts() {
                let config = stream::Config {
                    subjects: vec![name.clone()],
                    storage: stream::StorageType::File,
                    name,
                    ..stream::Config::default()
                };
                self.context.create_stream(config).await?;
            }
            Ok(())
        })
    }

    fn remove(&self, topic: &Topic) -> Result<()> {
        self.tasks.within(async {
            for name in topic.parts() {
                self.context.delete_stream(name).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, topic: &Topic, _pace: Pace, _codec: Codec) -> Result<Box<dyn Producer>> {
        let subjects = topic.parts().collect();
        let context = self.context.clone();
        Ok(self
            .tasks
            .producer(|queue, gate| publish(context, subjects, queue, gate)))
    }

    fn consumer(&self, topic: &Topic, from: From) -> Result<Box<dyn Consumer>> {
        let policy = match from {
            From::Beginning => consumer::DeliverPolicy::All,
            From::End => consumer::DeliverPolicy::New,
        };
        let messages = self.tasks.within(async {
            let mut streams = Vec::new();
            for name in topic.parts() {
                let stream = self.context.get_stream(name).await?;
                let config = consumer::pull::Config {
                    deliver_policy: policy,
                    ack_policy: consumer::AckPolicy::None,
                    ..consumer::pull::Config::default()
                };
                let consumer = stream.create_consumer(config).await?;
                let messages = consumer.stream().max_messages_per_batch(BATCH);
                streams.push(messages.messages().await?);
            }
            Ok(streams)
        })?;
        Ok(self.tasks.consumer(|arrived| async move {
            let mut messages = select_all(messages);
            while let Some(message) = messages.next().await {
                let payload = message.map(|message| message.message.payload);
                let payload = payload.map_err(anyhow::Error::from);
                if arrived.send(payload).await.is_err() {
                    return;
                }
            }
        }))
    }
}

/// Publishes in order; acknowledgements are awaited apart, so that nobody waits for one.
async fn publish(context: Context, subjects: Vec<String>, mut queue: Queue, gate: Gate) {
    let subjects: Vec<async_nats::Subject> = subjects.into_iter().map(Into::into).collect();
    let (pending, acknowledgements) = mpsc::unbounded_channel();
    let reporting = report(acknowledgements, gate.clone(), |outcome| {
        let outcome: Result<_, jetstream::context::PublishError> = outcome;
        outcome.map(|_ack| ()).map_err(|error| error.to_string())
    });
    tokio::spawn(reporting);
    while let Some((partition, payload)) = queue.recv().await {
        match context.publish(subjects[partition].clone(), payload).await {
            Ok(acknowledgement) => {
                if pending.send(acknowledgement).is_err() {
                    return;
                }
            }
            Err(error) => gate.leave(Err(error.to_string())),
        }
    }
}
