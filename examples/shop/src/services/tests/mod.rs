//! The five services on a broker in memory, with a database in a file and the relay of its outbox: the
//! same routers, and the numbers add up.

mod choreography;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use wharf::schema::Registry;
use wharf::{Bus, Clock, Message, ServeError, Timestamp, TopicName, header};
use wharf_message::transport::Publish as _;
use wharf_message::transport::memory::MemoryTransport;

use super::{Kit, SERVICES};
use crate::database::Database;
use crate::event::{CHECKOUTS, OUTCOMES, PAYMENTS, PUBLISHED, PaymentCaptured, SHIPMENTS};
use crate::intake::Intake;
use crate::storefront::{self, Dice, submission};
use crate::tally::{ServiceTally, ServiceView, Tally};

const RUN: &str = "run";
/// Long enough for every order to end, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Enough that every kind of trouble comes to some of them.
const ORDERS: u64 = 1_500;
/// How often is looked whether everything is done.
const LOOK: Duration = Duration::from_millis(5);

/// The whole shop without Kafka.
struct Opened {
    transport: Arc<MemoryTransport>,
    registry: Registry,
    database: Database,
    relay: JoinHandle<()>,
    _folder: TempDir,
    tally: Arc<Tally>,
    services: Vec<Arc<ServiceTally>>,
    tasks: JoinSet<Result<(), ServeError>>,
    close: watch::Sender<bool>,
}

impl Opened {
    /// Returns when every service is subscribed.
    async fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap());
        let transport = Arc::new(MemoryTransport::new(now));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shop.db");
        let database = Database::sqlite(&file).await.unwrap();
        let close = watch::channel(false).0;
        let relay = crate::relay(&database, transport.clone()).unwrap();
        let mut shop = Self {
            relay: tokio::spawn(relay.run(close.subscribe())),
            transport,
            registry: Registry::in_memory(),
            database,
            _folder: folder,
            tally: Arc::default(),
            services: Vec::new(),
            tasks: JoinSet::new(),
            close,
        };
        for service in SERVICES {
            let tally = Arc::new(ServiceTally::new(service.name));
            shop.services.push(Arc::clone(&tally));
            let router = (service.router)(Kit {
                tally: Arc::clone(&shop.tally),
                intake: Intake::new(RUN, tally),
                database: shop.database.clone(),
            });
            let mut close = shop.close.subscribe();
            let closed = async move {
                let _closed_either_way = close.wait_for(|close| *close).await;
            };
            let (ready, subscribed) = oneshot::channel();
            let serve = shop.bus(service.name).serve(router);
            let serve = serve.with_graceful_shutdown(closed).tell_when_ready(ready);
            shop.tasks.spawn(serve.into_future());
            subscribed.await.unwrap();
        }
        shop
    }

    fn bus(&self, service: &str) -> Bus {
        let bus = Bus::with_clock(self.transport.clone(), service, Clock::wall());
        bus.with_registry(&self.registry)
    }

    fn service(&self, name: &str) -> ServiceView {
        let mut views = self.services.iter().map(|service| service.view());
        views.find(|view| view.name == name).unwrap()
    }

    fn total(&self, figure: fn(&ServiceView) -> u64) -> u64 {
        let views = self.services.iter().map(|service| service.view());
        views.map(|view| figure(&view)).sum()
    }

    /// Returns when everything that was published is handled, and everything in the outbox published.
    async fn idle(&self) {
        let idle = async {
            loop {
                self.transport.idle().await;
                let rows = self.rows().await;
                if self.messages() == rows {
                    self.transport.idle().await;
                    if self.rows().await == rows {
                        return;
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.unwrap();
        self.database.count(RUN, &self.tally).await.unwrap();
    }

    /// Customers send so many checkouts; returns when everything that follows from them has happened.
    async fn sells(&self, seed: u64, checkouts: u64) {
        let storefront = self.bus("storefront");
        let mut dice = Dice::new(seed);
        for number in 0..checkouts {
            let submission = submission(&mut dice, RUN, number);
            storefront::count(&self.tally, &submission);
            storefront::submit(&storefront, submission).await.unwrap();
            if number % 100 == 0 {
                self.idle().await;
            }
        }
        self.idle().await;
    }

    async fn rows(&self) -> usize {
        let rows = self.database.outbox(RUN).await.unwrap();
        usize::try_from(rows.values().sum::<u64>()).unwrap()
    }

    fn messages(&self) -> usize {
        let topics = PUBLISHED.iter();
        topics
            .map(|topic| self.transport.messages(topic).len())
            .sum()
    }

    async fn close(mut self) {
        self.close.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
        self.relay.await.unwrap();
        self.database.close(false).await.unwrap();
    }
}

#[tokio::test]
async fn every_order_ends_and_every_repeat_is_suppressed() {
    let shop = Opened::new().await;
    shop.sells(42, ORDERS).await;
    let tally = &shop.tally;
    let (repeats, rubbish) = (
        tally.checkouts_repeated.get(),
        tally.checkouts_malformed.get(),
    );
    assert_eq!(tally.placed.get(), ORDERS - rubbish);
    let ended = tally.completed.get() + tally.rejected.get();
    assert_eq!(tally.placed.get(), ended);
    let refused = tally.unavailable.get() + tally.declined.get();
    assert_eq!(tally.rejected.get(), refused);
    assert_eq!(tally.shipped.get(), tally.completed.get());
    let parcels = shop.transport.messages(SHIPMENTS);
    let names_schema = |parcel: &Message| parcel.payload.as_deref().unwrap().starts_with(&[0]);
    assert!(!parcels.is_empty() && parcels.iter().all(names_schema));
    assert_eq!(tally.notified.get(), ended);
    let suppressed = shop.total(|service| service.suppressed);
    assert_eq!(suppressed, repeats + tally.payments_repeated.get());
    let retried = shop.total(|service| service.retried);
    assert_eq!(retried, tally.gateway_failures.get());
    let dead_letters = shop.transport.messages("dlq.shop.checkouts.order");
    assert_eq!(dead_letters.len() as u64, rubbish);
    assert_eq!(shop.total(|service| service.set_aside), rubbish);
    assert_eq!(shop.transport.messages(OUTCOMES).len() as u64, ended);
    for (what, count) in [
        ("out of stock", tally.unavailable.get()),
        ("declined", tally.declined.get()),
        ("reported twice", tally.payments_repeated.get()),
        ("clicked twice", repeats),
        ("unreadable", rubbish),
        ("failed at first", retried),
    ] {
        assert!(count > 0, "none was {what}");
    }
    shop.close().await;
}

#[tokio::test]
async fn an_order_is_followed_by_its_correlation_and_a_repeated_payment_has_the_same_id() {
    let shop = Opened::new().await;
    shop.sells(3, 200).await;
    let text = |message: &Message, name| message.headers.text(name).unwrap().unwrap().to_owned();
    for outcome in shop.transport.messages(OUTCOMES) {
        let key = String::from_utf8(outcome.key.clone().unwrap().to_vec()).unwrap();
        // A conversation begins with the checkout, whose id is the order's number.
        assert_eq!(text(&outcome, header::CE_CORRELATIONID), key);
        assert_eq!(text(&outcome, header::CE_SOURCE), "order");
    }
    let mut payments: Vec<String> = Vec::new();
    for message in shop.transport.messages(PAYMENTS) {
        if text(&message, header::CE_TYPE) == <PaymentCaptured as wharf::Event>::TYPE {
            payments.push(text(&message, header::CE_ID));
        }
    }
    let all = payments.len() as u64;
    payments.sort();
    payments.dedup();
    let repeated = shop.tally.payments_repeated.get();
    assert!(repeated > 0);
    assert_eq!(payments.len() as u64, all - repeated);
    shop.close().await;
}

#[tokio::test]
async fn what_an_earlier_run_left_is_left_alone() {
    let shop = Opened::new().await;
    let storefront = shop.bus("storefront");
    let mut dice = Dice::new(1);
    let old = submission(&mut dice, "earlier", 1);
    storefront::submit(&storefront, old).await.unwrap();
    let topic = TopicName::new(CHECKOUTS).unwrap();
    // Something that somebody else has put there, without key and envelope.
    shop.transport
        .publish(&topic, Message::new("hello"))
        .await
        .unwrap();
    shop.idle().await;
    assert_eq!(shop.tally.placed.get(), 0);
    assert_eq!(shop.service("order").leftover, 1);
    assert_eq!(shop.total(|service| service.set_aside), 0);
    shop.close().await;
}
