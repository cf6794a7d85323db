//! The transport of a router under test: hands over what the harness gives, takes down what is
//! published, and tells how each delivery was settled.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use wharf_message::transport::{
    Audience, Capabilities, Deliveries, Delivery, Error, Position, Publish, Settle, Settlement,
    Subscribe, Subscription, Token, Transport,
};
use wharf_message::{Message, TopicName};

use super::stop::Stop;
use crate::testing::duplicates::{Given, Recorder};

/// The table that shows what was set aside; a message that comes again is set aside again, which
/// is the same dead letter.
const DEAD_LETTERS: &str = "dead letters";

/// A transport with one user.
pub(super) struct Bench {
    stop: Stop,
    recorder: Recorder,
    subscribed: Mutex<Vec<(Vec<TopicName>, mpsc::UnboundedSender<Delivery>)>>,
    flights: Arc<Flights>,
}

/// What was handed over and is not settled.
struct Flights {
    stop: Stop,
    recorder: Recorder,
    last: AtomicU64,
    open: Mutex<HashMap<Token, oneshot::Sender<Settlement>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    pub(super) fn new(stop: Stop, recorder: Recorder) -> Self {
        let flights = Flights {
            stop: stop.clone(),
            recorder: recorder.clone(),
            last: AtomicU64::new(0),
            open: Mutex::default(),
        };
        Self {
            stop,
            recorder,
            subscribed: Mutex::default(),
            flights: Arc::new(flights),
        }
    }

    /// Hands a message to every group that reads the topic, and waits until all have settled it.
    pub(super) async fn deliver(&self, topic: &TopicName, given: &Given) -> Result<(), String> {
        let mut settling = Vec::new();
        for (topics, hand) in &*locked(&self.subscribed) {
            if !topics.contains(topic) {
                continue;
            }
            let (settled, settlement) = oneshot::channel();
            let token = self.flights.last.fetch_add(1, Ordering::Relaxed);
            locked(&self.flights.open).insert(token, settled);
            let settle = Arc::clone(&self.flights) as Arc<dyn Settle>;
            let (position, message) = (Some(given.position), given.message.clone());
            let delivery = Delivery::new(
                topic.clone(),
                position,
                message,
                given.attempt,
                settle,
                token,
            );
            // A route that is gone drops it, which settles it.
            drop(hand.send(delivery));
            settling.push(settlement);
        }
        if settling.is_empty() {
            return Err(format!("no route reads {topic}"));
        }
        for settlement in settling {
            match settlement.await {
                Ok(Settlement::Accept) => {}
                Ok(Settlement::Reject { failure, .. }) => {
                    let reason = failure.reason.name();
                    let row = serde_json::json!({ "message": given.number + 1, "reason": reason });
                    let id = given.number.to_string();
                    self.recorder.once(DEAD_LETTERS, &id, row);
                }
                Ok(other) => return Err(format!("it is to be delivered again: {}", name(&other))),
                Err(_) => return Err("it was never settled".to_owned()),
            }
        }
        Ok(())
    }
}

fn name(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Retry { .. } => "retry",
        _ => "release",
    }
}

impl Publish for Bench {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all()
    }

    fn create_topic(&self, _: &TopicName, _: u32) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        let topic = topic.clone();
        async move {
            self.stop.pass().await;
            self.recorder.published(topic.as_str(), &message);
            self.stop.pass().await;
            Ok(None)
        }
        .boxed()
    }
}

impl Subscribe for Bench {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        let (hand, deliveries) = mpsc::unbounded_channel();
        if let Audience::Group(_) = subscription.audience {
            locked(&self.subscribed).push((subscription.topics, hand));
        }
        ready(Ok(Box::new(Waiting { deliveries }) as Box<dyn Deliveries>)).boxed()
    }
}

impl Transport for Bench {
    fn name(&self) -> &'static str {
        "test"
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        ready(Ok(())).boxed()
    }
}

/// The deliveries of a group. A replies' subscription gets none.
struct Waiting {
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl Deliveries for Waiting {
    fn next(&mut self, _: usize) -> BoxFuture<'_, Result<Vec<Delivery>, Error>> {
        async {
            match self.deliveries.recv().await {
                Some(delivery) => Ok(vec![delivery]),
                None => pending().await,
            }
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        ready(Ok(())).boxed()
    }
}

impl Settle for Flights {
    fn settle(&self, token: Token, settlement: Settlement) {
        if let Some(waiting) = locked(&self.open).remove(&token) {
            // Nobody waits for it after a crash.
            drop(waiting.send(settlement));
        }
    }

    fn accept_with(
        &self,
        token: Token,
        outputs: Vec<(TopicName, Message)>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.stop.pass().await;
            for (topic, message) in outputs {
                self.recorder.published(topic.as_str(), &message);
            }
            self.settle(token, Settlement::Accept);
            Ok(())
        }
        .boxed()
    }
}
