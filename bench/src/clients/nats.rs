//! NATS JetStream with async-nats: a stream in a file for each partition, publishing with
//! acknowledgements, pulling without.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, Context, consumer, stream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::window::{Gate, Window};
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic, WITHIN};

/// How many messages may be under way.
const UNDER_WAY: u64 = 4_000;
/// How many messages the server hands to a consumer before it is asked again.
const BATCH: usize = 5_000;
/// How many received messages wait to be looked at.
const RECEIVED: usize = 20_000;

/// A connection to a NATS server.
pub(crate) struct Nats {
    runtime: Arc<Runtime>,
    context: Context,
}

impl Nats {
    pub(super) fn connect(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async_nats::connect(address))?;
        // The context starts a task of its own.
        let entered = runtime.enter();
        let context = jetstream::ContextBuilder::new()
            .timeout(WITHIN)
            .ack_timeout(WITHIN)
            .max_ack_inflight(usize::try_from(UNDER_WAY)? * 2)
            .build(client);
        drop(entered);
        Ok(Self {
            runtime: Arc::new(runtime),
            context,
        })
    }

    /// Waits for something, but not for ever.
    fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime
            .block_on(async { timeout(WITHIN, work).await? })
    }
}

impl Client for Nats {
    fn make(&self, topic: &Topic) -> Result<()> {
        self.within(async {
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
        self.within(async {
            for name in topic.parts() {
                self.context.delete_stream(name).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, topic: &Topic, _pace: Pace, _codec: Codec) -> Result<Box<dyn Producer>> {
        let window = Window::new(UNDER_WAY);
        let (messages, queue) = mpsc::unbounded_channel();
        let subjects = topic.parts().collect();
        let publishing = publish(self.context.clone(), subjects, queue, window.gate());
        self.runtime.spawn(publishing);
        Ok(Box::new(NatsProducer { messages, window }))
    }

    fn consumer(&self, topic: &Topic, from: From) -> Result<Box<dyn Consumer>> {
        let policy = match from {
            From::Beginning => consumer::DeliverPolicy::All,
            From::End => consumer::DeliverPolicy::New,
        };
        let messages = self.within(async {
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
        let (arrived, queue) = mpsc::channel(RECEIVED);
        self.runtime.spawn(async move {
            let mut messages = select_all(messages);
            while let Some(message) = messages.next().await {
                let payload = message.map(|message| message.message.payload);
                if arrived
                    .send(payload.map_err(anyhow::Error::from))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Box::new(Received::new(Arc::clone(&self.runtime), queue)))
    }
}

/// Publishes in order; acknowledgements are awaited apart, so that nobody waits for one.
async fn publish(
    context: Context,
    subjects: Vec<String>,
    mut queue: mpsc::UnboundedReceiver<(usize, Bytes)>,
    gate: Gate,
) {
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

/// Awaits acknowledgements in the order of sending and reports each.
pub(super) async fn report<F: IntoFuture>(
    mut pending: mpsc::UnboundedReceiver<F>,
    gate: Gate,
    judge: impl Fn(F::Output) -> Result<(), String>,
) {
    while let Some(pending) = pending.recv().await {
        gate.leave(judge(pending.await));
    }
}

struct NatsProducer {
    messages: mpsc::UnboundedSender<(usize, Bytes)>,
    window: Window,
}

impl Producer for NatsProducer {
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()> {
        self.window.enter(WITHIN)?;
        let message = (partition, Bytes::copy_from_slice(payload));
        self.messages.send(message).context("the client has ended")
    }

    fn flush(&mut self) -> Result<()> {
        self.window.drain(WITHIN)
    }
}

/// What a task of a client has received.
pub(super) struct Received {
    runtime: Arc<Runtime>,
    queue: mpsc::Receiver<Result<Bytes>>,
    batch: Vec<Result<Bytes>>,
}

impl Received {
    pub(super) fn new(runtime: Arc<Runtime>, queue: mpsc::Receiver<Result<Bytes>>) -> Self {
        Self {
            runtime,
            queue,
            batch: Vec::new(),
        }
    }
}

impl Consumer for Received {
    fn poll(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (queue, batch) = (&mut self.queue, &mut self.batch);
        // Nothing may have arrived in time.
        self.runtime
            .block_on(async { timeout(patience, queue.recv_many(batch, 1000)).await.ok() });
        for payload in self.batch.drain(..) {
            each(&payload?);
        }
        Ok(())
    }
}
