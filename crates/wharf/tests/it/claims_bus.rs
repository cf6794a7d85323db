//! Claim checks of a bus: what it publishes above the threshold goes to the store first.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::task::JoinHandle;
use wharf::claim::{
    BlobStore, ByteStream, Claims, Listed, Name, Object, ObjectBlobs, Receipt, Reference,
    StoreError,
};
use wharf::{
    Bus, BusError, Clock, Event, Message, Msg, Publish, Reply, Request, Router, ServeError, State,
    To, group, header,
};
use wharf_message::transport::memory::MemoryTransport;

use crate::support::{OrderPlaced, START, StockReserved, order, topic};

/// A service with a bus of its own on a broker in memory.
struct World {
    transport: Arc<MemoryTransport>,
    bus: Bus,
    serving: Option<JoinHandle<Result<(), ServeError>>>,
}

impl World {
    fn new() -> Self {
        let transport = Arc::new(MemoryTransport::new(START));
        let clock = Clock::starting_at(START);
        let bus = Bus::with_clock(transport.clone(), "inventory", clock);
        Self {
            transport,
            bus,
            serving: None,
        }
    }

    /// Serves a router; returns when it is subscribed.
    async fn serve(&mut self, router: Router) {
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let serve = self.bus.serve(router).tell_when_ready(ready);
        self.serving = Some(tokio::spawn(serve.into_future()));
        subscribed.await.unwrap();
    }

    /// Lets time pass until nothing is under way any more.
    async fn settle(&self) {
        let settled = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if self.transport.in_flight() == 0 {
                    return;
                }
            }
        };
        let day = Duration::from_secs(86_400);
        tokio::time::timeout(day, settled).await.unwrap();
    }

    async fn stop(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
    }
}

/// More than the threshold in these tests, which is 1,000 bytes.
fn large(letter: &str) -> String {
    letter.repeat(2_000)
}

/// The payloads of a topic, and whether each is in the store.
async fn payloads(world: &World, claims: &Claims, topic: &str) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    for message in world.transport.messages(topic) {
        let blob = claims.open(&message).await.unwrap();
        let (stored, bytes) = (blob.is_stored(), blob.bytes().await.unwrap());
        assert_eq!(stored, message.payload.as_ref().unwrap().is_empty());
        all.push((stored, String::from_utf8(bytes.to_vec()).unwrap()));
    }
    all
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "test.copy.asked", topic = "copies")]
struct AskCopy {
    text: String,
}

#[derive(serde::Serialize, serde::Deserialize, Event)]
#[event(type = "test.copy", topic = "copies")]
struct Copied {
    text: String,
}

impl Request for AskCopy {
    type Reply = Copied;
}

#[tokio::test(start_paused = true)]
async fn a_bus_with_claim_checks_stores_what_is_large_wherever_it_is_published() {
    let mut world = World::new();
    let claims = Claims::new("payloads", ObjectBlobs::memory()).unwrap();
    world.bus = world.bus.with_claims(&claims, 1_000);
    let reserve = async |Msg(placed): Msg<OrderPlaced>| {
        Publish(StockReserved {
            order: placed.order,
        })
    };
    let copy = async |Msg(asked): Msg<AskCopy>| Reply(Copied { text: asked.text });
    let router = Router::new()
        .topic(
            "orders",
            group("inventory").on(reserve).layer(claims.layer()),
        )
        .topic("copies", group("copier").on(copy).layer(claims.layer()));
    world.serve(router).await;

    // Outside of handlers, and what a handler makes of it.
    world.bus.publish(&order("small", 1)).await.unwrap();
    world.bus.publish(&order(&large("p"), 1)).await.unwrap();
    let both = (
        To::topic("archive", order("small", 1)),
        To::topic("archive", order(&large("e"), 1)),
    );
    world.bus.emit(both).await.unwrap();
    let message = Message::new(large("s"));
    world.bus.send(topic("scans"), message).await.unwrap();
    world.settle().await;
    for (name, expected) in [
        ("orders", vec![false, true]),
        ("stock", vec![false, true]),
        ("archive", vec![false, true]),
        ("scans", vec![true]),
    ] {
        let published = payloads(&world, &claims, name).await;
        let stored: Vec<bool> = published.iter().map(|(stored, _)| *stored).collect();
        assert_eq!(stored, expected, "{name}");
    }
    let stock = payloads(&world, &claims, "stock").await;
    assert!(stock[1].1.contains(&large("p")), "{stock:?}");

    // A request and its reply.
    let text = large("r");
    let copied = world.bus.request(AskCopy { text: text.clone() }).await;
    assert_eq!(copied.unwrap().text, text);
    for name in ["copies", "replies.inventory"] {
        assert!(payloads(&world, &claims, name).await[0].0, "{name}");
    }
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_published_as_it_comes_and_one_that_breaks_off_is_not() {
    let mut world = World::new();
    let store = ObjectBlobs::memory();
    let claims = Claims::new("payloads", store.clone()).unwrap();
    let chunks = |count: usize| stream::iter((0..count).map(|_| Ok("chunk".into()))).boxed();
    let refused = world
        .bus
        .send_stream(topic("scans"), Message::default(), chunks(1));
    let error = refused.await.unwrap_err();
    assert!(error.to_string().contains("with_claims"), "{error}");

    world.bus = world.bus.with_claims(&claims, 1_000);
    // The last size is larger than what is held of a stored payload at once.
    for count in [0, 1, 200, 201, 5_000_000] {
        let message = Message::default().with_key(count.to_string());
        let sent = world
            .bus
            .send_stream(topic("scans"), message, chunks(count));
        sent.await.unwrap();
        let published = world.transport.messages("scans").pop().unwrap();
        assert_eq!(published.key.as_deref(), Some(count.to_string().as_bytes()));
        assert!(published.headers.contains(header::CE_ID));
        let blob = claims.open(&published).await.unwrap();
        let expected = (5 * count as u64, 5 * count > 1_000);
        assert_eq!((blob.size(), blob.is_stored()), expected);
        assert_eq!(blob.bytes().await.unwrap(), "chunk".repeat(count));
    }
    assert_eq!(world.transport.messages("scans").len(), 5);
    let stored = store.list("").count().await;
    for whole in [1, 300] {
        let broken = chunks(whole).chain(stream::iter([Err(std::io::Error::other("cut"))]));
        let sent = world
            .bus
            .send_stream(topic("scans"), Message::default(), broken.boxed());
        let error = sent.await.unwrap_err();
        assert!(matches!(&error, BusError::Claim(_)), "{error}");
        assert!(error.to_string().contains("cut"), "{error}");
    }
    assert_eq!(world.transport.messages("scans").len(), 5);
    assert_eq!(store.list("").count().await, stored);
}

/// A store that is away for the first few payloads.
struct Away {
    store: ObjectBlobs,
    left: AtomicU32,
}

impl BlobStore for Away {
    fn put<'a>(
        &'a self,
        name: Name<'a>,
        payload: ByteStream<'a>,
    ) -> BoxFuture<'a, Result<Receipt, StoreError>> {
        let away = |left: u32| left.checked_sub(1);
        let away = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, away);
        match away {
            Ok(_) => async { Err(StoreError::Unavailable("away".to_owned())) }.boxed(),
            Err(_) => self.store.put(name, payload),
        }
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        self.store.get(key)
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.delete(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.store.list(prefix)
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_wait_for_a_store_that_is_away_and_their_handler_runs_once() {
    let (runs, mut world) = (Arc::new(AtomicU32::new(0)), World::new());
    let store = Away {
        store: ObjectBlobs::memory(),
        left: AtomicU32::new(3),
    };
    let claims = Claims::new("payloads", store).unwrap();
    world.bus = world.bus.with_claims(&claims, 1_000);
    let reserve = async |State(runs): State<Arc<AtomicU32>>, Msg(placed): Msg<OrderPlaced>| {
        runs.fetch_add(1, Ordering::SeqCst);
        Publish(StockReserved {
            order: placed.order.repeat(2_000),
        })
    };
    let router = Router::new().topic("orders", group("inventory").on(reserve));
    world.serve(router.with_state(Arc::clone(&runs))).await;
    world.bus.publish(&order("o", 1)).await.unwrap();
    world.settle().await;
    world.stop().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let [reserved] = &world.transport.messages("stock")[..] else {
        panic!("one, when the store is back")
    };
    assert!(Reference::of(reserved).unwrap().is_some());
    assert!(world.transport.messages("dlq.orders.inventory").is_empty());
    // Outside of a handler it is the caller who knows what to do.
    let store = Away {
        store: ObjectBlobs::memory(),
        left: AtomicU32::new(1),
    };
    let claims = Claims::new("payloads", store).unwrap();
    let bus = world.bus.with_claims(&claims, 1_000);
    let refused = bus.send(topic("scans"), Message::new(large("s"))).await;
    assert!(matches!(refused, Err(BusError::Claim(_))), "{refused:?}");
    assert!(world.transport.messages("scans").is_empty());
}
