//! What a case works with: clients, names that nobody else uses, and waiting with a deadline.
//!
//! Invariants: a case never waits without a deadline, and it judges by what the contract promises: a
//! message may come several times, but never not at all. A broken promise is a panic that says what
//! was expected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join_all, select, select_all};
use futures_util::{FutureExt, pin_mut};

use super::Fixture;
use crate::dead_letter::{Failure, Reason};
use crate::transport::faults::{Fault, Faulty};
use crate::transport::{
    Audience, Capabilities, Deliveries, Delivery, Error, Position, Start, Subscription, Transport,
};
use crate::{GroupName, Message, Timestamp, TopicName};

/// How a case ends, if it holds.
pub type Outcome = Result<(), Skipped>;

/// Why a case could not be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped(pub String);

/// What a case works with.
pub struct World<'a> {
    /// The broker.
    pub(super) fixture: &'a dyn Fixture,
    /// What the transport can do.
    pub(super) capabilities: Capabilities,
    fault: Option<Fault>,
    prefix: String,
    names: AtomicU32,
    clients: Mutex<Vec<Arc<dyn Transport>>>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("World")
            .field("prefix", &self.prefix)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl<'a> World<'a> {
    pub(super) fn new(
        fixture: &'a dyn Fixture,
        capabilities: Capabilities,
        fault: Option<Fault>,
        prefix: String,
    ) -> Self {
        Self {
            fixture,
            capabilities,
            fault,
            prefix,
            names: AtomicU32::new(0),
            clients: Mutex::new(Vec::new()),
        }
    }

    /// Shuts its clients down; what that answers no longer matters.
    pub(super) async fn end(self) {
        let clients = self.clients.into_inner();
        let clients = clients.unwrap_or_else(PoisonError::into_inner);
        let shutdown = join_all(clients.iter().map(|client| client.shutdown()));
        let deadline = self.fixture.sleep(self.fixture.patience());
        pin_mut!(shutdown);
        drop(select(shutdown, deadline).await);
    }

    /// Whether what is promised without faults only must not be asked for.
    pub(super) fn is_under_faults(&self) -> bool {
        self.fault.is_some()
    }

    // Names and clients

    fn unique(&self, what: &str) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{}.{what}-{number}", self.prefix)
    }

    /// A name that no other case uses.
    pub(super) fn topic_name(&self) -> TopicName {
        TopicName::new(&self.unique("topic")).expect("valid")
    }

    /// A topic that exists, with room for several members.
    pub(super) async fn topic(&self, client: &dyn Transport) -> TopicName {
        let topic = self.topic_name();
        self.create(client, &topic).await;
        topic
    }

    /// Makes a topic, also over an outage.
    pub(super) async fn create(&self, client: &dyn Transport, topic: &TopicName) {
        let create = async {
            while let Err(error) = client.create_topic(topic, 8).await {
                self.wait_out(&error, "creating a topic").await;
            }
        };
        self.within("creating a topic", create).await;
    }

    /// A group of this case.
    pub(super) fn group(&self) -> GroupName {
        GroupName::new(&self.unique("group")).expect("valid")
    }

    /// A new client of the broker, behind the fault that the case runs under.
    pub(super) async fn connect(&self) -> Arc<dyn Transport> {
        self.connect_under(self.fault).await
    }

    /// A new client without faults: for the part of a case that only looks.
    pub(super) async fn connect_plainly(&self) -> Arc<dyn Transport> {
        self.connect_under(None).await
    }

    async fn connect_under(&self, fault: Option<Fault>) -> Arc<dyn Transport> {
        let client = self.within("connecting", self.fixture.connect()).await;
        let client: Arc<dyn Transport> = match fault {
            Some(fault) => Arc::new(Faulty::new(client, fault.faults(&self.prefix))),
            None => client,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(Arc::clone(&client));
        client
    }

    /// A subscription for a group from the beginning.
    pub(super) async fn join(
        &self,
        client: &dyn Transport,
        group: &GroupName,
        topics: &[&TopicName],
    ) -> Box<dyn Deliveries> {
        let topics = topics.iter().map(|topic| (*topic).clone()).collect();
        self.subscribe(client, Subscription::group(group.clone(), topics))
            .await
    }

    /// What most cases begin with: a new client that reads a new topic for a new group.
    pub(super) async fn member(
        &self,
    ) -> (
        Arc<dyn Transport>,
        TopicName,
        GroupName,
        Box<dyn Deliveries>,
    ) {
        let client = self.connect().await;
        let topic = self.topic(&*client).await;
        let group = self.group();
        let deliveries = self.join(&*client, &group, &[&topic]).await;
        (client, topic, group, deliveries)
    }

    /// A subscription for everyone.
    pub(super) async fn listen(
        &self,
        client: &dyn Transport,
        topic: &TopicName,
    ) -> Box<dyn Deliveries> {
        let subscription = Subscription {
            topics: vec![topic.clone()],
            audience: Audience::Everyone,
            start: Start::Latest,
            in_flight_max: 1_000,
        };
        self.subscribe(client, subscription).await
    }

    /// Any subscription, also over an outage.
    pub(super) async fn subscribe(
        &self,
        client: &dyn Transport,
        subscription: Subscription,
    ) -> Box<dyn Deliveries> {
        let subscribe = async {
            loop {
                match client.subscribe(subscription.clone()).await {
                    Ok(deliveries) => return deliveries,
                    Err(error) => self.wait_out(&error, "subscribing").await,
                }
            }
        };
        self.within("subscribing", subscribe).await
    }

    // Outages

    /// Restarts the broker, if the fixture can.
    pub(super) async fn restart_broker(&self) -> Outcome {
        let restarted = self.within("restarting the broker", self.fixture.restart_broker());
        restarted.await.map_err(|why| Skipped(why.to_owned()))
    }

    /// Cuts the network, if the fixture can.
    pub(super) async fn cut_network(&self) -> Outcome {
        let cut = self.within("cutting the network", self.fixture.cut_network());
        cut.await.map_err(|why| Skipped(why.to_owned()))
    }

    /// Heals the network.
    pub(super) async fn heal_network(&self) -> Outcome {
        let healed = self.within("healing the network", self.fixture.heal_network());
        healed.await.map_err(|why| Skipped(why.to_owned()))
    }

    // Waiting

    /// Waits for `future`, but not longer than the fixture is patient.
    pub(super) async fn within<F: Future>(&self, what: &str, future: F) -> F::Output {
        let patience = self.fixture.patience();
        let deadline = self.fixture.sleep(patience);
        let future = Box::pin(future);
        match select(future, deadline).await {
            Either::Left((output, _)) => output,
            Either::Right(_) => panic!("{what} did not come to an end within {patience:?}"),
        }
    }

    /// After an error that may pass, waits a little; any other one fails the case.
    async fn wait_out(&self, error: &Error, what: &str) {
        assert!(error.is_transient(), "{what}: {error}");
        self.fixture.sleep(Duration::from_millis(50)).await;
    }

    // Publishing

    /// Publishes until it is acknowledged.
    pub(super) async fn publish(
        &self,
        client: &dyn Transport,
        topic: &TopicName,
        message: Message,
    ) -> Option<Position> {
        let publish = async {
            loop {
                match client.publish(topic, message.clone()).await {
                    Ok(position) => return position,
                    Err(error) => self.wait_out(&error, "publishing").await,
                }
            }
        };
        self.within("publishing", publish).await
    }

    /// Publishes all in order: without waiting in between, except where each may have to be repeated.
    pub(super) async fn publish_all(
        &self,
        client: &dyn Transport,
        topic: &TopicName,
        messages: Vec<Message>,
    ) {
        if self.fault.is_some() {
            for message in messages {
                self.publish(client, topic, message).await;
            }
            return;
        }
        let published = messages
            .into_iter()
            .map(|message| client.publish(topic, message));
        let published: Vec<_> = published.collect();
        for published in self.within("publishing", join_all(published)).await {
            published.expect("publishing is taken");
        }
    }

    // Receiving

    /// The next deliveries, over outages.
    pub(super) async fn take(&self, deliveries: &mut dyn Deliveries, max: usize) -> Vec<Delivery> {
        let take = self.take_patiently(deliveries, max);
        self.within("the next delivery", take).await
    }

    async fn take_patiently(&self, deliveries: &mut dyn Deliveries, max: usize) -> Vec<Delivery> {
        loop {
            match deliveries.next(max).await {
                Ok(taken) => {
                    let count = taken.len();
                    assert!(
                        count > 0 && count <= max,
                        "{count} deliveries of at most {max}"
                    );
                    return taken;
                }
                Err(error) => self.wait_out(&error, "the next delivery").await,
            }
        }
    }

    /// The next delivery alone.
    pub(super) async fn take_one(&self, deliveries: &mut dyn Deliveries) -> Delivery {
        self.take(deliveries, 1).await.remove(0)
    }

    /// What comes next at any of several members, and at which. Each is asked first in turn.
    pub(super) async fn take_any(
        &self,
        members: &mut [Box<dyn Deliveries>],
        max: usize,
    ) -> (usize, Vec<Delivery>) {
        let turn = self.names.fetch_add(1, Ordering::Relaxed) as usize;
        let count = members.len();
        let mut all = Vec::new();
        for (at, member) in members.iter_mut().enumerate() {
            let take = self.take_patiently(&mut **member, max);
            all.push(Box::pin(take.map(move |taken| (at, taken))));
        }
        all.rotate_left(turn % count);
        let any = self.within("the next delivery of any member", select_all(all));
        any.await.0
    }

    /// Takes and accepts until `wanted` different payloads were seen.
    pub(super) async fn accept_until(
        &self,
        deliveries: &mut dyn Deliveries,
        seen: &mut Seen,
        wanted: usize,
    ) {
        let accept = async {
            while seen.distinct() < wanted {
                for delivery in self.take(deliveries, 16).await {
                    seen.note(&delivery);
                    delivery.accept();
                }
            }
        };
        accept.await;
    }

    /// Takes until the message with this payload comes; others are released.
    pub(super) async fn take_until(
        &self,
        deliveries: &mut dyn Deliveries,
        payload: &str,
    ) -> Delivery {
        loop {
            let delivery = self.take_one(deliveries).await;
            if is(&delivery, payload) {
                return delivery;
            }
        }
    }

    /// What comes while nothing should, within the fixture's quiet time.
    pub(super) async fn quietly(&self, deliveries: &mut dyn Deliveries) -> Vec<Delivery> {
        let quiet = self.fixture.sleep(self.fixture.quiet());
        let take = Box::pin(self.take_patiently(deliveries, 16));
        match select(take, quiet).await {
            Either::Left((taken, _)) => taken,
            Either::Right(_) => Vec::new(),
        }
    }

    /// That a group has nothing to read, shown by a message that comes after all others would have.
    pub(super) async fn assert_nothing_left(
        &self,
        client: &dyn Transport,
        group: &GroupName,
        topic: &TopicName,
    ) {
        let mut deliveries = self.join(client, group, &[topic]).await;
        self.publish(client, topic, Message::new("the last")).await;
        let last = self.take_one(&mut *deliveries).await;
        assert!(is(&last, "the last"), "it comes again: {last:?}");
        last.accept();
        let more = self.quietly(&mut *deliveries).await;
        assert!(more.is_empty(), "it comes again: {more:?}");
        self.close(deliveries).await;
    }

    /// Ends a subscription in order.
    pub(super) async fn close(&self, deliveries: Box<dyn Deliveries>) {
        let closed = self.within("closing", deliveries.close()).await;
        closed.expect("closing goes well");
    }

    /// A failure, as the library would hand it over.
    pub(super) fn failure(&self, attempts: u32) -> Failure {
        Failure {
            reason: Reason::Rejected,
            error: "no such card\ncaused by: grüße, 404".to_owned(),
            attempts,
            first_failed_at: Some(Timestamp::from_millis(1_000)),
            failed_at: self.fixture.now(),
            handler: "conformance".to_owned(),
        }
    }
}

/// Whether a delivery has this payload.
pub(super) fn is(delivery: &Delivery, payload: &str) -> bool {
    delivery.message.payload.as_deref() == Some(payload.as_bytes())
}

/// `count` messages over the keys `k0`, `k1`, …, three of a key behind each other, each with a payload
/// of its own that tells its place.
pub(super) fn keyed(count: usize, keys: usize) -> Vec<Message> {
    let message = |number: usize| {
        let key = format!("k{}", number / 3 % keys);
        Message::new(format!("{number:06}")).with_key(key)
    };
    (0..count).map(message).collect()
}

/// What was seen so far, by payload.
#[derive(Debug, Default)]
pub(super) struct Seen {
    first: Vec<(Option<Bytes>, Bytes)>,
    times: HashMap<Bytes, u32>,
}

impl Seen {
    /// Notes a delivery; whether it is the first of its payload.
    pub(super) fn note(&mut self, delivery: &Delivery) -> bool {
        let payload = delivery.message.payload.clone().unwrap_or_default();
        let times = self.times.entry(payload.clone()).or_default();
        *times += 1;
        if *times == 1 {
            self.first.push((delivery.message.key.clone(), payload));
        }
        *times == 1
    }

    /// How many different payloads there were.
    pub(super) fn distinct(&self) -> usize {
        self.times.len()
    }

    /// Whether this payload was there.
    pub(super) fn has(&self, payload: &str) -> bool {
        self.times.contains_key(payload.as_bytes())
    }

    /// That nothing came twice.
    pub(super) fn assert_once(&self) {
        let twice: Vec<_> = self.times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "came several times: {twice:?}");
    }

    /// That of each key, every payload came first after all smaller ones had.
    pub(super) fn assert_keys_in_order(&self) {
        let mut newest: HashMap<&Option<Bytes>, &Bytes> = HashMap::new();
        for (key, payload) in &self.first {
            if let Some(before) = newest.insert(key, payload) {
                assert!(
                    before < payload,
                    "of {key:?}, {payload:?} came after {before:?}"
                );
            }
        }
    }
}
