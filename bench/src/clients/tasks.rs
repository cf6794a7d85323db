//! What the asynchronous clients share: a runtime of their own, and the two ends that the
//! measurements hold while tasks do the work.
//!
//! Invariant: nothing waits for longer than [`WITHIN`], and nobody waits for the acknowledgement of
//! one message before the next one is sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::window::{Gate, Window};
use super::{Consumer, Producer, WITHIN};

/// How many messages may be under way.
pub(super) const UNDER_WAY: u64 = 4_000;
/// How many received messages wait to be looked at.
const RECEIVED: usize = 20_000;

/// The messages to send, each with its partition, in order.
pub(super) type Queue = mpsc::UnboundedReceiver<(usize, Bytes)>;
/// Where received messages go; closed when nobody looks at them any more.
pub(super) type Arrived = mpsc::Sender<Result<Bytes>>;

/// The runtime of one client.
pub(super) struct Tasks(Arc<Runtime>);

impl Tasks {
    pub(super) fn new() -> Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(runtime)))
    }

    /// Waits for something, but not for ever.
    pub(super) fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.0.block_on(async { timeout(WITHIN, work).await? })
    }

    /// A producer whose messages the task `publish` sends, reporting each at the gate.
    pub(super) fn producer<F>(&self, publish: impl FnOnce(Queue, Gate) -> F) -> Box<dyn Producer>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let window = Window::new(UNDER_WAY);
        let (messages, queue) = mpsc::unbounded_channel();
        self.0.spawn(publish(queue, window.gate()));
        Box::new(Sending { messages, window })
    }

    /// A consumer of what the task `receive` takes from the server.
    pub(super) fn consumer<F>(&self, receive: impl FnOnce(Arrived) -> F) -> Box<dyn Consumer>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (arrived, queue) = mpsc::channel(RECEIVED);
        self.0.spawn(receive(arrived));
        Box::new(Receiving {
            runtime: Arc::clone(&self.0),
            queue,
            batch: Vec::new(),
        })
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

struct Sending {
    messages: mpsc::UnboundedSender<(usize, Bytes)>,
    window: Window,
}

impl Producer for Sending {
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()> {
        self.window.enter(WITHIN)?;
        let message = (partition, Bytes::copy_from_slice(payload));
        self.messages.send(message).context("the client has ended")
    }

    fn flush(&mut self) -> Result<()> {
        self.window.drain(WITHIN)
    }
}

struct Receiving {
    runtime: Arc<Runtime>,
    queue: mpsc::Receiver<Result<Bytes>>,
    batch: Vec<Result<Bytes>>,
}

impl Consumer for Receiving {
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
