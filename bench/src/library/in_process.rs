//! What the library itself costs for each message: the same messages, from the same transport, to the
//! same handler, once through `Bus::serve` and once in a plain loop that asks, decodes, calls and
//! accepts. What is left between the two is routing, lanes, workers, the panic guard and the clock.
//!
//! Two transports: a shelf on which all deliveries lie ready, which costs next to nothing; and the
//! library's own in memory, which takes a lock for each settlement that both sides contend for.

use std::future::{IntoFuture as _, ready};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, oneshot};
use wharf::{Bus, Event, Message, Msg, Raw, Router, State, Timestamp, TopicName, group, header};
use wharf_message::GroupName;
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{
    Capabilities, Deliveries, Delivery, Error, Position, Publish, Settle, Settlement, Subscribe,
    Subscription, Token, Transport,
};

/// The name of the transport that the targets are judged by.
pub(crate) const READY: &str = "ready deliveries";
const TOPIC: &str = "orders";
const GROUP: &str = "billing";
/// How many deliveries are asked for at a time, as the library does.
const ASKED_MAX: usize = 256;
const KEYS: u64 = 1_000;

/// One way to measure, and what it cost for each message.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) transport: String,
    /// What the handler takes.
    pub(crate) handler: String,
    pub(crate) runtime: String,
    /// Medians of all rounds, in nanoseconds.
    pub(crate) library_ns: f64,
    pub(crate) plain_ns: f64,
    /// The fewest of all rounds.
    pub(crate) library_allocations: f64,
    pub(crate) plain_allocations: f64,
}

/// What the counting allocator has counted so far; in a process that does not count, 0.
pub(crate) type Allocations = fn() -> usize;

#[derive(Clone, Debug, Deserialize, Serialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = "order")]
struct OrderPlaced {
    order: String,
    article: String,
    quantity: u32,
}

/// Every way, in turn.
pub(crate) fn measure(
    messages: u64,
    rounds: usize,
    allocations: Allocations,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for transport in [Kind::Shelf, Kind::Memory] {
        for handler in [Takes::Event, Takes::Bytes] {
            for (name, runtime) in [
                ("one thread", Builder::new_current_thread()),
                ("all cores", Builder::new_multi_thread()),
            ] {
                let mut runtime = runtime;
                let way = Way {
                    transport,
                    handler,
                    runtime: runtime.enable_all().build()?,
                    allocations,
                };
                figures.push(way.figure(name, messages, rounds)?);
            }
        }
    }
    Ok(figures)
}

#[derive(Clone, Copy)]
enum Kind {
    Shelf,
    Memory,
}

#[derive(Clone, Copy)]
enum Takes {
    Event,
    Bytes,
}

struct Way {
    transport: Kind,
    handler: Takes,
    runtime: Runtime,
    allocations: Allocations,
}

/// Of one message in one round.
#[derive(Clone, Copy)]
struct Cost {
    ns: f64,
    allocations: f64,
}

impl Way {
    fn figure(&self, runtime: &str, messages: u64, rounds: usize) -> Result<Figure> {
        let (mut library, mut plain) = (Vec::new(), Vec::new());
        // The first round only warms up.
        for round in 0..=rounds {
            let by_hand = self.runtime.block_on(self.plain(messages))?;
            let served = self.runtime.block_on(self.library(messages))?;
            if round > 0 {
                plain.push(by_hand);
                library.push(served);
            }
        }
        Ok(Figure {
            transport: match self.transport {
                Kind::Shelf => READY,
                Kind::Memory => "memory",
            }
            .to_owned(),
            handler: match self.handler {
                Takes::Event => "Msg<T>",
                Takes::Bytes => "Raw",
            }
            .to_owned(),
            runtime: runtime.to_owned(),
            library_ns: median(library.iter().map(|cost| cost.ns)),
            plain_ns: median(plain.iter().map(|cost| cost.ns)),
            library_allocations: fewest(&library),
            plain_allocations: fewest(&plain),
        })
    }

    async fn transport(&self, messages: u64) -> Result<Arc<dyn Transport>> {
        let topic = TopicName::new(TOPIC)?;
        let messages = (0..messages).map(message);
        Ok(match self.transport {
            Kind::Shelf => Arc::new(Shelf::new(&topic, messages.collect::<Result<_>>()?)),
            Kind::Memory => {
                let memory = MemoryTransport::new(Timestamp::ZERO);
                for message in messages {
                    memory.publish(&topic, message?).await?;
                }
                Arc::new(memory)
            }
        })
    }

    /// From serving to the last call of the handler.
    async fn library(&self, messages: u64) -> Result<Cost> {
        let transport = self.transport(messages).await?;
        let tally = Tally::new(messages);
        let route = match self.handler {
            Takes::Event => group(GROUP).on(place),
            Takes::Bytes => group(GROUP).on(place_raw),
        };
        let router = Router::new().topic(TOPIC, route).with_state(tally.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let signal = stopped.map(|_| ());
        let serve = Bus::new(transport, "bench").serve(router);
        let serve = serve.with_graceful_shutdown(signal);
        let taking = Taking::begin(self.allocations);
        let mut serving = tokio::spawn(serve.into_future());
        tokio::select! {
            () = tally.0.done.notified() => {}
            ended = &mut serving => bail!("it ended before all were handled: {ended:?}"),
        }
        let cost = taking.end(messages);
        drop(stop);
        serving.await??;
        tally.check()?;
        Ok(cost)
    }

    /// The same without the library, on a task as it would be in a service.
    async fn plain(&self, messages: u64) -> Result<Cost> {
        let transport = self.transport(messages).await?;
        let tally = Tally::new(messages);
        let (handler, allocations) = (self.handler, self.allocations);
        let looping = tokio::spawn(async move {
            let subscription =
                Subscription::group(GroupName::new(GROUP)?, vec![TopicName::new(TOPIC)?]);
            let taking = Taking::begin(allocations);
            let mut deliveries = transport.subscribe(subscription).await?;
            let mut handled = 0;
            while handled < messages {
                for mut delivery in deliveries.next(ASKED_MAX).await? {
                    match handler {
                        Takes::Event => {
                            let payload = delivery.message.payload.as_deref();
                            let order = serde_json::from_slice(payload.unwrap_or_default())?;
                            place(State(tally.clone()), Msg(order)).await;
                        }
                        Takes::Bytes => {
                            let message = std::mem::take(&mut delivery.message);
                            place_raw(State(tally.clone()), Raw(message)).await;
                        }
                    }
                    delivery.accept();
                    handled += 1;
                }
            }
            let cost = taking.end(messages);
            tally.check()?;
            deliveries.close().await?;
            anyhow::Ok(cost)
        });
        looping.await?
    }
}

/// A message with the envelope that the library gives to what it publishes.
fn message(number: u64) -> Result<Message> {
    let order = OrderPlaced {
        order: format!("order-{}", number % KEYS),
        article: "a box of eleven pencils, sharpened".to_owned(),
        quantity: 3,
    };
    let message = Message::new(serde_json::to_vec(&order)?)
        .with_key(order.order)
        .with_header(header::CE_SPECVERSION, header::CE_SPECVERSION_VALUE)
        .with_header(header::CE_ID, format!("id-{number}"))
        .with_header(header::CE_SOURCE, "shop")
        .with_header(header::CE_TYPE, OrderPlaced::TYPE)
        .with_header(header::CE_TIME, "2026-01-31T12:00:00Z")
        .with_header(header::CONTENT_TYPE, "application/json");
    Ok(message)
}

/// Counts what the handler was called with; the whole effect of the handlers.
#[derive(Clone)]
struct Tally(Arc<Counts>);

struct Counts {
    expected: u64,
    calls: AtomicU64,
    sum: AtomicU64,
    done: Notify,
}

impl Tally {
    fn new(expected: u64) -> Self {
        Self(Arc::new(Counts {
            expected,
            calls: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            done: Notify::new(),
        }))
    }

    fn add(&self, value: u64) {
        self.0.sum.fetch_add(value, Ordering::Relaxed);
        if self.0.calls.fetch_add(1, Ordering::AcqRel) + 1 == self.0.expected {
            self.0.done.notify_one();
        }
    }

    fn check(&self) -> Result<()> {
        let calls = self.0.calls.load(Ordering::Acquire);
        let expected = self.0.expected;
        ensure!(calls == expected, "{calls} of {expected} were handled");
        let sum = self.0.sum.load(Ordering::Acquire);
        ensure!(sum >= expected, "the messages were not what was published");
        Ok(())
    }
}

async fn place(State(tally): State<Tally>, Msg(placed): Msg<OrderPlaced>) {
    tally.add(u64::from(placed.quantity));
}

async fn place_raw(State(tally): State<Tally>, Raw(message): Raw) {
    tally.add(message.payload.map_or(0, |payload| payload.len() as u64));
}

struct Taking {
    began: Instant,
    allocations: Allocations,
    before: usize,
}

impl Taking {
    fn begin(allocations: Allocations) -> Self {
        Self {
            before: allocations(),
            allocations,
            began: Instant::now(),
        }
    }

    fn end(self, messages: u64) -> Cost {
        let took = self.began.elapsed();
        let made = (self.allocations)() - self.before;
        Cost {
            ns: took.as_secs_f64() * 1e9 / messages as f64,
            allocations: made as f64 / messages as f64,
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn fewest(costs: &[Cost]) -> f64 {
    let allocations = costs.iter().map(|cost| cost.allocations);
    allocations.fold(f64::INFINITY, f64::min)
}

/// A transport with everything ready: one subscription gets what lies on it, and no more.
struct Shelf {
    deliveries: Mutex<Vec<Delivery>>,
    settled: Arc<Settled>,
}

/// Settling is counted, as the least that a transport must do to bound what is in flight.
#[derive(Default)]
struct Settled {
    count: AtomicUsize,
    is_awaited: AtomicBool,
    more: Notify,
}

impl Settle for Settled {
    fn settle(&self, _: Token, _: Settlement) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            self.more.notify_one();
        }
    }

    fn accept_with(
        &self,
        token: Token,
        _: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        self.settle(token, Settlement::Accept);
        ready(Ok(())).boxed()
    }
}

impl Settled {
    async fn wait_for(&self, count: usize) {
        self.is_awaited.store(true, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < count {
            self.more.notified().await;
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }
}

impl Shelf {
    fn new(topic: &TopicName, messages: Vec<Message>) -> Self {
        let settled = Arc::new(Settled::default());
        let deliveries = messages.into_iter().zip(0..).map(|(message, offset)| {
            let position = Position {
                partition: 0,
                offset,
            };
            let token = offset.unsigned_abs();
            let settle: Arc<dyn Settle> = settled.clone();
            Delivery::new(topic.clone(), Some(position), message, 1, settle, token)
        });
        Self {
            deliveries: Mutex::new(deliveries.collect()),
            settled: Arc::clone(&settled),
        }
    }
}

impl Publish for Shelf {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn create_topic(&self, _: &TopicName, _: u32) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    fn publish(&self, _: &TopicName, _: Message) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        ready(Err(Error::Closed)).boxed()
    }
}

impl Subscribe for Shelf {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let mut all = self
            .deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let taken: Box<dyn Deliveries> = Box::new(Taken {
            rest: std::mem::take(&mut *all).into_iter(),
            taken: 0,
            settled: Arc::clone(&self.settled),
            in_flight_max: subscription.in_flight_max,
        });
        ready(Ok(taken)).boxed()
    }
}

impl Transport for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }
}

struct Taken {
    rest: std::vec::IntoIter<Delivery>,
    taken: usize,
    settled: Arc<Settled>,
    in_flight_max: usize,
}

impl Deliveries for Taken {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        async move {
            // Not before there is room for as many, or half of all: one at a time would be dear.
            let max = max.min(self.in_flight_max.div_ceil(2));
            let before = (self.taken + max).saturating_sub(self.in_flight_max);
            self.settled.wait_for(before).await;
            let next: Vec<Delivery> = self.rest.by_ref().take(max).collect();
            if next.is_empty() {
                std::future::pending::<()>().await;
            }
            self.taken += next.len();
            Ok(next)
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        ready(Ok(())).boxed()
    }
}
