//! A service that runs on a broker in memory, whose time goes with tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf::{Bus, Clock, Event, Message, Router, ServeError, Timestamp, TopicName, header};
use wharf_message::transport::Publish as _;
use wharf_message::transport::memory::MemoryTransport;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "orders", key = "order")]
pub(crate) struct OrderPlaced {
    pub(crate) order: String,
    pub(crate) quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "shop.stock.reserved", topic = "stock", key = "order")]
pub(crate) struct StockReserved {
    pub(crate) order: String,
}

pub(crate) fn order(name: &str, quantity: u32) -> OrderPlaced {
    OrderPlaced {
        order: name.to_owned(),
        quantity,
    }
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

/// A broker in memory and a service on it.
pub(crate) struct World {
    pub(crate) transport: Arc<MemoryTransport>,
    pub(crate) bus: Bus,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<Result<(), ServeError>>>,
    clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(MemoryTransport::new(START))
    }

    pub(crate) fn on(transport: MemoryTransport) -> Self {
        let transport = Arc::new(transport);
        let clock = Clock::starting_at(START);
        let bus = Bus::with_clock(transport.clone(), "inventory", clock);
        Self {
            transport,
            bus,
            stop: None,
            serving: None,
            clock,
        }
    }

    /// Serves a router; returns when it is subscribed.
    pub(crate) async fn serve(&mut self, router: Router) {
        let (stop, stopped) = oneshot::channel();
        let (ready, subscribed) = oneshot::channel();
        let signal = async {
            let _dropped_is_a_signal_too = stopped.await;
        };
        let serve = self
            .bus
            .serve(router)
            .with_graceful_shutdown(signal)
            .tell_when_ready(ready);
        self.serving = Some(tokio::spawn(serve.into_future()));
        self.stop = Some(stop);
        subscribed.await.unwrap();
    }

    /// Lets time pass until nothing is under way any more.
    pub(crate) async fn settle(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(24 * 60 * 60);
        while tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.transport.advance_to(self.clock.now());
            if self.transport.in_flight() == 0 && self.transport.next_due().is_none() {
                return;
            }
        }
        panic!(
            "{} messages are still under way after a day",
            self.transport.in_flight()
        );
    }

    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        self.serving.take().unwrap().await.unwrap().unwrap();
    }

    pub(crate) async fn publish(&self, name: &str, message: Message) {
        self.transport.publish(&topic(name), message).await.unwrap();
    }
}

pub(crate) fn text<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.text(name).unwrap().unwrap_or_default()
}

/// The reason, attempts and error of a dead letter.
pub(crate) fn verdict(message: &Message) -> (&str, &str, &str) {
    let first = text(message, header::DLQ_ERROR)
        .lines()
        .next()
        .unwrap_or_default();
    (
        text(message, header::DLQ_REASON),
        text(message, header::DLQ_ATTEMPTS),
        first,
    )
}
