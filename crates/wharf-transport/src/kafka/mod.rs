//! Kafka, and everything that speaks its protocol: `kafka://host:9092[,host2][?property=value…]`.
//!
//! Records are plain Kafka records: any client can write what is received here and read what is
//! published here. What Kafka has not, topics stand for: retries wait in `retry.<topic>.<group>`,
//! scheduled messages in `scheduled.<topic>`, dead letters lie in `dlq.<topic>.<group>`. See
//! `docs/how-to/use-kafka.md` for the options, the topics and the access rules.
//!
//! The parts: an idempotent producer for everything that goes out (`outbox`), a thread with a
//! consumer for each subscription (`reader`, with `state` shared by those who settle), the partitions
//! it reads (`readings`), what is published before a delivery is settled (`errand`), and commits and transactions (`committer`); what is
//! kept is read back by a consumer of its own (`history`). librdkafka
//! blocks in many of its calls, so each of these has a thread of its own and none is called on a task.

mod address;
mod admin;
mod committer;
mod context;
mod deliveries;
mod errand;
mod error;
mod history;
mod outbox;
mod reader;
mod readings;
mod record;
mod state;
mod subscribing;
mod wiring;

pub use address::Options;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use rdkafka::config::RDKafkaLogLevel;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use wharf_message::transport::{
    Audience, Capabilities, Deliveries, Error, Position, Publish, Subscribe, Subscription,
    TopicHistory, Transport,
};
use wharf_message::{Message, Timestamp, TopicName};

use admin::{Admin, Form, PATIENCE};
use deliveries::{Running, Subscribed};
use history::History;
use outbox::{Outbox, lock};
use state::Shared;
use wiring::Wiring;

use crate::log::detour;

/// The scheme of its addresses.
const NAME: &str = "kafka";
/// How long `shutdown` waits for what was handed over.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(30);

/// A Kafka cluster as a transport. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct KafkaTransport(Arc<Inner>);

struct Inner {
    wiring: Wiring,
    /// Of each topic that somebody here is subscribed to.
    forwarders: Mutex<HashMap<TopicName, Weak<Running>>>,
    subscriptions: Mutex<Vec<Weak<Shared>>>,
    closed: AtomicBool,
}

impl std::fmt::Debug for KafkaTransport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = &self.0.wiring.options;
        formatter
            .debug_tuple("KafkaTransport")
            .field(options)
            .finish()
    }
}

impl KafkaTransport {
    /// Connects to the cluster of an address; see [`Options::parse`].
    ///
    /// # Errors
    /// [`Error::Refused`] for an address that is wrong, [`Error::Denied`] for credentials that are,
    /// [`Error::Unavailable`] when no broker answers within ten seconds.
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::open(Options::parse(address)?).await
    }

    /// Connects to a cluster.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        let runtime = Handle::current();
        blocking(move || {
            let outbox = Outbox::open(&options)?;
            outbox.reach(PATIENCE)?;
            let admin = Arc::new(Admin::open(&options, runtime)?);
            let wiring = Wiring {
                options,
                outbox,
                admin,
            };
            Ok(Self(Arc::new(Inner {
                wiring,
                forwarders: Mutex::new(HashMap::new()),
                subscriptions: Mutex::new(Vec::new()),
                closed: AtomicBool::new(false),
            })))
        })
        .await
    }

    /// The forwarder of a topic, which all subscriptions of this transport share.
    fn forwarder(&self, topic: &TopicName) -> Result<Arc<Running>, Error> {
        let mut forwarders = lock(&self.0.forwarders);
        if let Some(running) = forwarders.get(topic).and_then(Weak::upgrade) {
            return Ok(running);
        }
        let running = Arc::new(subscribing::forward(&self.0.wiring, topic)?);
        forwarders.insert(topic.clone(), Arc::downgrade(&running));
        Ok(running)
    }

    fn begin(&self, subscription: Subscription) -> Result<Box<dyn Deliveries>, Error> {
        let forwarders = match subscription.audience {
            Audience::Group(_) => {
                let topics = subscription.topics.iter();
                topics
                    .map(|topic| self.forwarder(topic))
                    .collect::<Result<_, _>>()?
            }
            Audience::Everyone => Vec::new(),
        };
        let running = subscribing::subscribe(&self.0.wiring, subscription)?;
        let mut subscriptions = lock(&self.0.subscriptions);
        subscriptions.retain(|one| one.strong_count() > 0);
        subscriptions.push(Arc::downgrade(&running.0));
        drop(subscriptions);
        // It may have been shut down meanwhile, and not have seen this one.
        self.check_open()?;
        Ok(Box::new(Subscribed {
            running,
            forwarders,
        }))
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        Ok(())
    }
}

impl Publish for KafkaTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>> {
        let (admin, topic) = (Arc::clone(&self.0.wiring.admin), topic.clone());
        let open = self.check_open();
        async move {
            open?;
            let partitions = i32::try_from(partitions)
                .ok()
                .filter(|partitions| *partitions > 0)
                .ok_or_else(|| {
                    Error::Refused(format!("{partitions} is no number of partitions"))
                })?;
            blocking(move || admin.ensure(&topic, Form::Messages(Some(partitions)))).await
        }
        .boxed()
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        let wiring = &self.0.wiring;
        let bytes = message.size();
        let (to, message) = match route(&wiring.options, topic.clone(), message) {
            Ok(routed) => routed,
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        if to != *topic {
            return self.schedule(to, message).boxed();
        }
        let published = wiring.outbox.publish(to, message);
        let topic = topic.clone();
        async move {
            match published.await {
                // The broker refused it, so it is the topic that takes less than we do.
                Err(Error::TooLarge { bytes_max, .. }) => {
                    let of_topic = wiring.admin.bytes_max_of(&topic).await;
                    let bytes_max = of_topic.unwrap_or(bytes_max);
                    Err(Error::TooLarge { bytes, bytes_max })
                }
                other => other,
            }
        }
        .boxed()
    }
}

impl KafkaTransport {
    /// Publishes to a topic for scheduled messages, which is made if it is missing. Where it lies
    /// there is nobody's business.
    fn schedule(
        &self,
        to: TopicName,
        message: Message,
    ) -> impl Future<Output = Result<Option<Position>, Error>> + use<> {
        let Wiring { admin, outbox, .. } = self.0.wiring.clone();
        if admin.knows(&to) {
            let published = outbox.publish(to, message);
            return async move { published.await.map(|_| None) }.boxed();
        }
        // A task, so that it is handed over whether or not somebody waits for it.
        let task = tokio::spawn(async move {
            let topic = to.clone();
            blocking(move || admin.ensure(&topic, Form::Detour)).await?;
            outbox.publish(to, message).await.map(|_| None)
        });
        async move { task.await.unwrap_or(Err(Error::Closed)) }.boxed()
    }
}

impl Subscribe for KafkaTransport {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let me = self.clone();
        let open = self.check_open();
        async move {
            open?;
            blocking(move || me.begin(subscription)).await
        }
        .boxed()
    }
}

impl Transport for KafkaTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.0.closed.store(true, Ordering::Release);
        let subscriptions = std::mem::take(&mut *lock(&self.0.subscriptions));
        let running = subscriptions.iter().filter_map(Weak::upgrade);
        let closing: Vec<_> = running.map(|shared| shared.close()).collect();
        let outbox = Arc::clone(&self.0.wiring.outbox);
        async move {
            // All of them before the producer: they may have something to publish.
            let closed: Vec<Result<(), Error>> = join_all(closing).await;
            blocking(move || outbox.close(SHUTDOWN_WAIT)).await?;
            closed.into_iter().collect()
        }
        .boxed()
    }

    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        self.check_open()?;
        Ok(Arc::new(History::open(&self.0.wiring.options)?))
    }
}

/// Where a message goes: to its topic, or to wait for its time. What is too large is refused here, so
/// that our own bookkeeping always has room beside it.
fn route(
    options: &Options,
    topic: TopicName,
    message: Message,
) -> Result<(TopicName, Message), Error> {
    let (bytes, bytes_max) = (message.size(), options.message_bytes_max());
    if bytes > bytes_max {
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    // Most messages have no such header: the clock is not asked for them.
    if !message.headers.contains(wharf_message::header::DELIVER_AT)
        || detour::scheduled_for(&message, now())?.is_none()
    {
        return Ok((topic, message));
    }
    let scheduled = detour::scheduled_topic(&topic);
    let scheduled = scheduled.map_err(|error| Error::Refused(error.to_string()))?;
    Ok((scheduled, message))
}

/// Does what blocks where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Refused(error.to_string())))
}

fn now() -> Timestamp {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// The pause after so many failures: doubling, up to `max`, of which the upper half is random.
fn backoff(failures: u32, max: Duration) -> Duration {
    let whole = Duration::from_millis(100)
        .saturating_mul(1 << failures.min(20))
        .min(max);
    let share = f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX);
    whole.mul_f64(0.5 + share / 2.0)
}

fn random() -> [u8; 4] {
    let [a, b, c, d, ..] = uuid::Uuid::new_v4().into_bytes();
    [a, b, c, d]
}

/// librdkafka's log lines as ours. Lost connections are told once by the transport itself.
fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        for (failures, at_most) in [(1, 200), (3, 800), (7, 10_000), (u32::MAX, 10_000)] {
            let pause = backoff(failures, Duration::from_secs(10));
            let at_most = Duration::from_millis(at_most);
            assert!(
                pause <= at_most && pause >= at_most / 2,
                "{failures}: {pause:?}"
            );
        }
    }
}
