//! Running a route: deliveries in, attempts, outputs out, settlement.
//!
//! ```text
//! next ─► lanes ─► worker: expired? ─► handler ─► publish what it returned ─► accept
//!           ▲                             │ failed
//!           └── again after a delay ◄─────┼─► retry at the broker
//!                                         └─► dead letter
//! ```
//!
//! One task asks for deliveries, several work. A message leaves in exactly one way: accepted, retried,
//! dead-lettered or expired, each counted; what is here when the service stops is given back. What a
//! handler returned is acknowledged by the transport before its message is accepted. Nothing here may
//! hold a message without holding its lane.

mod attempt;
mod lanes;
mod worker;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wharf_message::transport::{Audience, Deliveries, Delivery, Error, Subscription};
use wharf_message::{Timestamp, header};

use crate::bus::{Bus, Shared};
use crate::incoming::Context;
use crate::router::{BoundRoute, Concurrency};
use lanes::{Lane, Lanes};

/// The most deliveries asked for at a time.
const ASKED_MAX: usize = 256;
/// How long a lost connection is left alone before it is asked again.
const PAUSE_AFTER_LOSS: Duration = Duration::from_millis(200);

/// A delivery and what happened to it here.
pub(crate) struct Work {
    delivery: Delivery,
    /// Which handler it is for; `None` when there is none.
    handler: Option<usize>,
    /// Failed attempts since it came here.
    failed: u32,
    /// Conflicts since the last failed attempt.
    conflicts: u32,
    first_failed_at: Option<Timestamp>,
    /// Not to be handled after this time.
    expires_at: Option<Timestamp>,
    /// Handled alone although its handler takes batches.
    alone: bool,
}

impl Work {
    /// The number of the attempt that is made now or next.
    fn attempt(&self) -> u32 {
        self.delivery.attempt.saturating_add(self.failed)
    }
}

/// What is to be known of a delivery when it comes in.
struct Read {
    lane: Option<Lane>,
    handler: Option<usize>,
    first_failed_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

/// A route that runs.
struct Running {
    route: BoundRoute,
    context: Arc<Context>,
    bus: Arc<Shared>,
    queue: Mutex<Queue>,
    /// As many permits as workers are woken; closed when the route ends.
    woken: Semaphore,
    /// How many workers can run at the same instant.
    threads: usize,
    /// Something is to be looked at again earlier than before.
    held: Notify,
    /// Turns true when the route ends.
    stop: watch::Receiver<bool>,
    /// Whether a handler takes several messages at a time.
    takes_batches: bool,
    hasher: RandomState,
}

#[derive(Default)]
struct Queue {
    lanes: Lanes<Work>,
    /// What waits for its next attempt, by time. Its lane waits with it.
    held: BTreeMap<(Instant, u64), (Option<Lane>, Work)>,
    /// Counts what was held, so that no two have the same place.
    holds: u64,
    /// How many workers were woken and have not looked yet.
    woken: usize,
    /// The route has ended: what comes back now is given back.
    has_ended: bool,
}

impl Running {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues new deliveries.
    fn take_in(&self, deliveries: Vec<Delivery>) {
        // Read before the lock is taken: the workers wait for it.
        let read: Vec<Read> = deliveries.iter().map(|one| self.read(one)).collect();
        let mut queue = self.queue();
        for (delivery, read) in deliveries.into_iter().zip(read) {
            let work = Work {
                delivery,
                handler: read.handler,
                failed: 0,
                conflicts: 0,
                first_failed_at: read.first_failed_at,
                expires_at: read.expires_at,
                alone: false,
            };
            queue.lanes.push(read.lane, work);
        }
        self.wake(&mut queue, self.threads);
    }

    fn read(&self, delivery: &Delivery) -> Read {
        let [kind, first_failed_at, expires_at] = delivery.message.headers.get_all([
            header::CE_TYPE,
            header::FIRST_FAILED_AT,
            header::EXPIRES_AT,
        ]);
        let time = |text: &Bytes| Timestamp::parse_rfc3339(std::str::from_utf8(text).ok()?);
        Read {
            lane: self.lane(delivery),
            handler: self
                .route
                .handler(kind.map(|kind| &**kind), &delivery.message.headers),
            first_failed_at: first_failed_at.and_then(time),
            expires_at: expires_at.and_then(time),
        }
    }

    fn lane(&self, delivery: &Delivery) -> Option<Lane> {
        match self.route.settings.concurrency {
            _ if self.takes_batches => {}
            Concurrency::ByPartition => {}
            Concurrency::Free(_) => return None,
            Concurrency::ByKey(_) => {
                let key = delivery.message.key.as_ref();
                return key.map(|key| self.hasher.hash_one(key));
            }
        }
        let partition = delivery.position.map(|position| position.partition);
        Some(self.hasher.hash_one((delivery.topic.as_str(), partition)))
    }

    /// Wakes workers for what is ready, as long as no more than `most` are on their way. Waking one
    /// costs more than most handlers do, so it is one at a time, and whoever takes a message wakes the
    /// next if there are more. Only for what came in there may be one for each thread: a worker that
    /// was woken on a thread waits there until the handler that runs on it gives the thread away.
    fn wake(&self, queue: &mut Queue, most: usize) {
        let missing = queue.lanes.ready().min(most).saturating_sub(queue.woken);
        queue.woken += missing;
        self.woken.add_permits(missing);
    }

    /// Puts what is due back to the front of its lane; says when the next one is.
    fn release_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut queue = self.queue();
        while let Some(first) = queue.held.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            let (lane, work) = first.remove();
            queue.lanes.put_back(lane, [work].into_iter());
            self.wake(&mut queue, self.threads);
        }
        None
    }

    fn workers(&self) -> usize {
        match self.route.settings.concurrency {
            Concurrency::ByKey(count) | Concurrency::Free(count) => count.get(),
            Concurrency::ByPartition => 64,
        }
    }
}

/// Runs a route until `stop` turns true, then lets what is handled at the moment finish.
///
/// # Errors
/// When the transport refuses the subscription or is closed.
pub(crate) async fn run(
    route: BoundRoute,
    bus: Arc<Shared>,
    stop: watch::Receiver<bool>,
    subscribed: impl FnOnce(),
) -> Result<(), Error> {
    let subscription = Subscription {
        topics: route.topics.clone(),
        audience: Audience::Group(route.group.clone()),
        start: route.settings.start,
        in_flight_max: route.settings.in_flight_max,
    };
    let mut deliveries = bus.transport.subscribe(subscription).await?;
    subscribed();
    let context = Context {
        group: route.group.clone(),
        service: Arc::clone(&bus.service),
        clock: bus.clock,
        bus: Bus::of(Arc::clone(&bus)),
    };
    // The route also ends by itself, when the transport is closed; its workers then end with it.
    let (halt, halted) = watch::channel(false);
    let running = Arc::new(Running {
        takes_batches: route.handlers.iter().any(|handler| handler.batch),
        route,
        context: Arc::new(context),
        bus,
        queue: Mutex::default(),
        woken: Semaphore::new(0),
        threads: Handle::current().metrics().num_workers(),
        held: Notify::new(),
        stop: halted,
        hasher: RandomState::default(),
    });
    let mut workers = JoinSet::new();
    for _ in 0..running.workers() {
        workers.spawn(worker::run(Arc::clone(&running)));
    }
    let ended = receive(&running, &mut *deliveries, stop).await;
    halt.send_replace(true);
    // What is neither handled nor settled goes back.
    {
        let mut queue = running.queue();
        queue.has_ended = true;
        queue.lanes.clear();
        queue.held.clear();
    }
    running.woken.close();
    let grace = running.bus.grace;
    let finish = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finish).await.is_err() {
        tracing::warn!(
            group = %running.route.group,
            "handlers did not end within {grace:?} and are dropped; their messages are delivered again"
        );
        workers.shutdown().await;
    }
    let closed = deliveries.close().await;
    ended.and(closed)
}

/// Asks for deliveries until the service stops.
async fn receive(
    running: &Running,
    deliveries: &mut dyn Deliveries,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut lost = false;
    loop {
        let due = running.release_due();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let next = async {
            if let Some(gate) = &running.route.settings.gate {
                gate.open().await;
            }
            deliveries.next(ASKED_MAX).await
        };
        let received = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = timer => continue,
            () = running.held.notified() => continue,
            received = next => received,
        };
        match received {
            Ok(received) => {
                if std::mem::take(&mut lost) {
                    tracing::info!(group = %running.route.group, "the broker is back");
                }
                running
                    .bus
                    .telemetry
                    .received(&running.route.group, &received);
                let is_full = received.len() == ASKED_MAX;
                running.take_in(received);
                if is_full {
                    // More lies ready. What came goes first, as long as the processor's cache has it.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    group = %running.route.group, %error,
                    "no deliveries at the moment; the connection is tried again by itself"
                );
                lost = true;
                tokio::time::sleep(PAUSE_AFTER_LOSS).await;
            }
            Err(error) => return Err(error),
        }
    }
}
