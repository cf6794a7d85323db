//! The target over a transport: a Kafka cluster, RabbitMQ, NATS JetStream.
//!
//! It keeps no checkpoints, so after a crash or a lost connection a source begins again behind what was
//! confirmed to it, and messages come again with the same ids, for inboxes to remove. All messages of
//! the deliveries under way are handed to the transport in order and without awaiting in between.
//!
//! Invariants: a delivery counts as durable when every message of it is, and those before it are; one
//! whose outcome is unknown never does.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use wharf_message::transport::{Error, Publish};
use wharf_message::{Code, Message, Timestamp, TopicName, header};

use super::queue::{Done, Waiting, queue};
use super::{Delivered, Opened, Target};
use crate::route::refused;
use crate::{Routed, Trouble};

/// The largest message that the dead-letter topic gets whole.
const KEEP_BYTES_MAX: usize = 512 << 10;

/// Makes the connection.
pub type Connect =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Publish>, Error>> + Send + Sync>;

/// A target over a transport.
pub struct PublishTarget {
    connect: Connect,
    partitions: u32,
    now: fn() -> Timestamp,
}

impl std::fmt::Debug for PublishTarget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PublishTarget")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl PublishTarget {
    /// A target over the transport that `connect` reaches, once for each opening; topics that are
    /// missing are created with so many partitions, where there are such.
    pub fn new(connect: Connect, partitions: u32, now: fn() -> Timestamp) -> Self {
        Self {
            connect,
            partitions,
            now,
        }
    }
}

impl Target for PublishTarget {
    fn keeps_checkpoints(&self) -> bool {
        false
    }

    fn open(&self, source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let source = source.to_owned();
        async move {
            let publish = (self.connect)().await.map_err(|error| trouble(&error))?;
            let (sink, waiting) = queue();
            let worker = Worker {
                source,
                partitions: self.partitions,
                now: self.now,
                known: HashSet::new(),
            };
            tokio::spawn(worker.run(publish, waiting));
            let history = Vec::new();
            Ok(Opened { sink, history })
        }
        .boxed()
    }
}

/// Hands deliveries to the transport in their order.
struct Worker {
    source: String,
    partitions: u32,
    now: fn() -> Timestamp,
    /// The topics that were created or found.
    known: HashSet<TopicName>,
}

impl Worker {
    async fn run(
        mut self,
        publish: Arc<dyn Publish>,
        mut waiting: mpsc::UnboundedReceiver<Waiting>,
    ) {
        let publish = &*publish;
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some((done, outcome)) = under_way.next() => {
                    let is_over = Result::is_err(&outcome);
                    // Whoever does not wait for an answer does not need it.
                    drop(Done::send(done, outcome));
                    if is_over {
                        return;
                    }
                }
                // The source keeps the checkpoints of a target like this.
                Some(Waiting { messages, checkpoint: _, done }) = waiting.recv() => {
                    if let Err(trouble) = self.create_topics(publish, &messages).await {
                        drop(done.send(Err(trouble)));
                        return;
                    }
                    let carried = self.hand_over(publish, messages);
                    under_way.push_back(carried.map(|outcome| (done, outcome)));
                }
                else => return,
            }
        }
    }

    async fn create_topics(
        &mut self,
        publish: &dyn Publish,
        messages: &[Routed],
    ) -> Result<(), Trouble> {
        for Routed { topic, .. } in messages {
            if !self.known.contains(topic) {
                let created = publish.create_topic(topic, self.partitions).await;
                created.map_err(|error| trouble(&error))?;
                self.known.insert(topic.clone());
            }
        }
        Ok(())
    }

    /// Hands the messages over; the future waits for all of them, and sets aside what the transport
    /// does not take.
    fn hand_over<'a>(
        &self,
        publish: &'a dyn Publish,
        messages: Vec<Routed>,
    ) -> BoxFuture<'a, Result<Delivered, Trouble>> {
        let (source, now, partitions) = (self.source.clone(), self.now, self.partitions);
        let handed_over: Vec<_> = messages
            .into_iter()
            .map(|routed| {
                let Routed {
                    topic,
                    partition,
                    message,
                } = routed;
                let taken = match partition {
                    None => publish.publish(&topic, message.clone()),
                    Some(_) => {
                        let why = "this target chooses partitions by the key alone";
                        std::future::ready(Err(Error::Refused(why.to_owned()))).boxed()
                    }
                };
                taken.map(|taken| taken.err().map(|error| (topic, message, error)))
            })
            .collect();
        async move {
            let mut delivered = Delivered::default();
            let failed = join_all(handed_over).await.into_iter().flatten();
            let mut aside = Vec::new();
            for (topic, message, error) in failed {
                let why = match error {
                    Error::TooLarge { .. } | Error::Unsupported { .. } | Error::Refused(_) => {
                        format!("{topic} does not take the message: {error}")
                    }
                    error => return Err(trouble(&error)),
                };
                tracing::warn!(
                    source,
                    why,
                    "a row of the outbox was set aside ({})",
                    Code::OUTBOX_ROW_SET_ASIDE
                );
                aside.push(refused(&source, message, why, KEEP_BYTES_MAX, now()));
            }
            for Routed { topic, message, .. } in aside {
                let created = publish.create_topic(&topic, partitions).await;
                created.map_err(|error| trouble(&error))?;
                let kept = publish.publish(&topic, portable(message)).await;
                kept.map_err(|error| trouble(&error))?;
                delivered.set_aside += 1;
            }
            Ok(delivered)
        }
        .boxed()
    }
}

/// A dead letter as every transport takes it: without what the message itself may have failed for.
fn portable(letter: Message) -> Message {
    let mut letter = letter;
    letter.payload.get_or_insert_default();
    letter.headers = letter
        .headers
        .into_entries()
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value?;
            let is_text = std::str::from_utf8(&value).is_ok();
            (is_text && name != header::DELIVER_AT).then_some((name, Some(value)))
        })
        .collect();
    letter
}

fn trouble(error: &Error) -> Trouble {
    let code = Code::OUTBOX_TARGET_UNAVAILABLE;
    let what = format!("the target takes no messages: {error}");
    match error {
        Error::Denied(_) => {
            let fix = "allow the user in the target's address to create and write its topics";
            Trouble::refused(code, what, fix)
        }
        Error::Unavailable(_) | Error::Closed | Error::UnknownTopic(_) => {
            Trouble::unavailable(code, what)
        }
        _ => Trouble::refused(
            code,
            what,
            "check the address and the settings of the target",
        ),
    }
}
