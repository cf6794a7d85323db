//! Sagas by the library: workers over Kafka's protocol and in the process, starts out of handlers and
//! transactions, and what an inbox answers to a repeat.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Sqlite;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use tokio::task::JoinHandle;
use wharf::embedded::Embedded;
use wharf::saga::{
    Answer, Done, Heartbeat, Later, Saga, SagaId, Sagas, Start, State, Status, Step, Task, Undo,
    UndoTask,
};
use wharf::testing::TestBus;
use wharf::{Bus, Event, Failure, Message, Msg, Router, SqlInbox, Tx, group, outbox};

use crate::support::text;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.basket.filled", topic = "baskets", key = "order")]
struct Basket {
    order: String,
    cents: u64,
}

fn basket(order: &str, cents: u64) -> Basket {
    let order = order.to_owned();
    Basket { order, cents }
}

#[derive(Debug, thiserror::Error, Failure)]
enum ChargeError {
    #[error("the bank says no to {0} cents")]
    #[failure(declared)]
    CardDeclined(u64),
    #[error("the bank does not answer")]
    #[failure(retry)]
    Silent,
}

/// Reserve, then charge; the reservation can be undone.
fn checkout() -> Saga {
    let again = wharf::saga::Retry::on(&["Retryable"])
        .attempts(3)
        .interval(1);
    Saga::define("checkout")
        .step(
            "Reserve",
            Step::topic("stock").timeout(60).result_path("$.place"),
        )
        .undo(Undo::topic("stock").timeout(60))
        .step(
            "Charge",
            Step::topic("payments").timeout(60).result_path("$.paid"),
        )
        .retry(again)
        .pivot("Charge")
}

async fn reserve(task: Task<Basket>) -> Done<String> {
    Done(format!("shelf of {}", task.order))
}

#[derive(Clone, Default)]
struct Seen {
    released: Arc<AtomicU32>,
    charges: Arc<AtomicU32>,
}

async fn release(
    wharf::State(seen): wharf::State<Seen>,
    UndoTask(task): UndoTask<Value>,
) -> Result<(), wharf::Error> {
    assert!(
        task.undo && task.idempotency_key.ends_with("/undo"),
        "{task:?}"
    );
    seen.released.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Fails the first time with what may pass; declines what is too much.
async fn charge(
    wharf::State(seen): wharf::State<Seen>,
    heart: Heartbeat,
    task: Task<Basket>,
) -> Result<Done<u64>, ChargeError> {
    heart.beat().await.map_err(|_lost| ChargeError::Silent)?;
    seen.charges.fetch_add(1, Ordering::Relaxed);
    match (task.cents, task.attempt) {
        (cents, _) if cents > 100_000 => Err(ChargeError::CardDeclined(cents)),
        (_, 1) => Err(ChargeError::Silent),
        (cents, _) => Ok(Done(cents)),
    }
}

/// A node with listeners, its orchestrator over HTTP, and a bus over Kafka's protocol to it.
async fn node() -> (Embedded, Sagas, Bus) {
    let address = "embedded://temporary?kafka=127.0.0.1:0&http=127.0.0.1:0";
    let node = Embedded::open(address, "node").await.unwrap();
    let http = format!("http://{}", node.http_address().unwrap());
    let kafka = format!("kafka://{}", node.kafka_address().unwrap());
    let bus = Bus::connect(&kafka, "shop").await.unwrap();
    (node, Sagas::connect(&http).unwrap().by("tests"), bus)
}

fn serve(bus: &Bus, router: Router) -> JoinHandle<()> {
    let serving = bus.serve(router).into_future();
    tokio::spawn(async move { serving.await.unwrap() })
}

async fn stop(node: Embedded, bus: &Bus, serving: JoinHandle<()>) {
    serving.abort();
    bus.transport().shutdown().await.unwrap();
    wharf_message::transport::Transport::shutdown(&node)
        .await
        .unwrap();
}

async fn ended(sagas: &Sagas, id: SagaId) -> State {
    sagas.ended(id, PATIENCE).await.unwrap()
}

/// The end of one that somebody else begins.
async fn begun_and_ended(sagas: &Sagas, id: SagaId) -> State {
    let told = tokio::time::timeout(PATIENCE, async {
        while sagas.look(id).await.is_err() {
            tokio::task::yield_now().await;
        }
        ended(sagas, id).await
    });
    told.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_over_kafka_do_and_undo_and_answer_with_the_offset_of_the_command() {
    let (node, sagas, bus) = node().await;
    let deployed = sagas.deploy(&checkout()).await.unwrap();
    assert!(deployed.is_new && deployed.version == 1, "{deployed:?}");
    assert!(!sagas.deploy(&checkout()).await.unwrap().is_new);
    let seen = Seen::default();
    let router = Router::new()
        .topic(
            "stock",
            group("inventory").on(reserve).on(release).atomic_outputs(),
        )
        .topic("payments", group("bank").on(charge).atomic_outputs())
        .with_state(seen.clone());
    let serving = serve(&bus, router);

    let good = Start::of("checkout", &basket("o-1", 995))
        .key("o-1")
        .attribute("channel", "web");
    let started = sagas.start(good.clone()).await.unwrap();
    let again = sagas.start(good).await.unwrap();
    assert_eq!(
        (started.is_new, again.is_new, again.id),
        (true, false, started.id)
    );
    let told = ended(&sagas, started.id).await;
    assert_eq!(told.status, Status::Completed, "{told:?}");
    let output = json!({ "order": "o-1", "cents": 995, "place": "shelf of o-1", "paid": 995 });
    assert_eq!(
        (told.output, &*told.attributes["channel"]),
        (Some(output), "web")
    );
    assert_eq!(
        seen.charges.load(Ordering::Relaxed),
        2,
        "it was tried again"
    );

    let other = Start::of("checkout", &basket("o-1", 1)).key("o-1");
    let refused = sagas.start(other).await.unwrap_err();
    assert_eq!(refused.code(), Some("WHARF-7003"), "{refused}");

    let much = Start::of("checkout", &basket("o-2", 1_000_000)).key("o-2");
    let started = sagas.start(much).await.unwrap();
    let told = ended(&sagas, started.id).await;
    assert_eq!(
        (told.status, told.error.as_deref()),
        (Status::Compensated, Some("CardDeclined"))
    );
    assert_eq!(seen.released.load(Ordering::Relaxed), 1);
    assert_eq!(
        seen.charges.load(Ordering::Relaxed),
        3,
        "what is declared is not tried again"
    );
    stop(node, &bus, serving).await;
}

async fn check_out(Msg(filled): Msg<Basket>) -> Start {
    Start::of("checkout", &filled).key(&filled.order)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_starts_a_saga_in_the_frame_of_its_message_and_functions_do_its_tasks() {
    let node = Embedded::open("embedded://temporary", "shop")
        .await
        .unwrap();
    let sagas = node.sagas().unwrap();
    let saga = Saga::define("checkout")
        .step("Reserve", Step::handler("stock").result_path("$.place"))
        .undo(Undo::handler("stock"))
        .step("Charge", Step::handler("bank").result_path("$.paid"));
    sagas.deploy(&saga).await.unwrap();
    let undone = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&undone);
    let stock = move |task: Task<Value>| {
        count.fetch_add(u32::from(task.undo), Ordering::Relaxed);
        async move { Ok::<_, wharf::Error>(json!(task.attempt)) }
    };
    sagas.handle("stock", stock).unwrap();
    let bank = async |task: Task<Basket>| match task.cents {
        cents if cents > 100_000 => Err(ChargeError::CardDeclined(cents)),
        cents => Ok(cents),
    };
    sagas.handle("bank", bank).unwrap();

    let bus = Bus::new(Arc::new(node), "shop");
    let route = group("checkout").on(check_out).atomic_outputs();
    let serving = serve(&bus, Router::new().topic("baskets", route));
    for (order, cents) in [("o-1", 995), ("o-1", 995), ("o-2", 1_000_000)] {
        bus.publish(&basket(order, cents)).await.unwrap();
    }
    let id = |order| SagaId::of("checkout", order);
    for (order, status) in [("o-1", Status::Completed), ("o-2", Status::Compensated)] {
        let told = begun_and_ended(&sagas, id(order)).await;
        assert_eq!(told.status, status);
    }
    assert_eq!(undone.load(Ordering::Relaxed), 1);
    let all = sagas.list("checkout", Status::Completed).await.unwrap();
    assert_eq!(all, [id("o-1")], "one key is one saga");
    serving.abort();
    bus.transport().shutdown().await.unwrap();
}

async fn print(task: Task<String>) -> Later {
    assert_eq!(task.arguments, "page");
    Later
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_taken_now_and_answered_later_and_a_parked_saga_is_retried() {
    let (node, sagas, bus) = node().await;
    let saga = Saga::define("printing")
        .step("Print", Step::topic("printer").timeout(60))
        .pivot("Print")
        .step("Bind", Step::topic("binder").timeout(60));
    sagas.deploy(&saga).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let bind = {
        let tries = Arc::clone(&tries);
        move |_: Task<Value>| {
            let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if first {
                    panic!("the binder is jammed")
                }
            }
        }
    };
    let router = Router::new()
        .topic("printer", group("printer").on(print))
        .topic("binder", group("binder").on(bind));
    let serving = serve(&bus, router);
    let started = sagas
        .start(Start::of("printing", "page").key("p-1"))
        .await
        .unwrap();
    let token = wharf::saga::TaskToken {
        saga: started.id,
        step: 1,
        generation: 1,
    };
    bus.emit(Answer::done(token, 12)).await.unwrap();
    let parked = ended(&sagas, started.id).await;
    assert_eq!(parked.status, Status::Parked, "{parked:?}");
    assert_eq!(parked.parked[0].error, "Panicked", "{parked:?}");
    assert_eq!(sagas.parked("printing").await.unwrap(), [parked]);
    sagas
        .retry(started.id, "ada", "it is free again")
        .await
        .unwrap();
    assert_eq!(ended(&sagas, started.id).await.status, Status::Completed);
    stop(node, &bus, serving).await;
}

/// A command as the orchestrator writes it.
fn command(step: &str, undo: bool, generation: u32, attempt: u32, arguments: &Value) -> Message {
    let saga = SagaId::of("checkout", "o-1").to_string();
    let suffix = if undo { "/undo" } else { "" };
    let mut message = Message::new(arguments.to_string())
        .with_key(saga.clone())
        .with_header("saga-id", saga.clone())
        .with_header("saga-type", "checkout")
        .with_header("step", step.to_owned())
        .with_header("step-name", "Charge")
        .with_header("attempt", attempt.to_string())
        .with_header("generation", generation.to_string())
        .with_header("idempotency-key", format!("{saga}/{step}{suffix}"))
        .with_header("reply-to", "replies")
        .with_header("ce_source", "wharf:saga:checkout")
        .with_header("ce_type", "Charge.command")
        .with_header("ce_id", format!("{saga}.{step}.{generation}"));
    if undo {
        message = message.with_header("undo", "true");
    }
    message
}

/// What was answered: to which dispatch, what, and with what.
fn answers(bus: &TestBus) -> Vec<(String, String, Value)> {
    let replies = bus.messages("replies");
    let told = |message: &Message| {
        let payload = message.payload.as_deref().unwrap_or(b"null");
        let value = serde_json::from_slice(payload).unwrap();
        let generation = text(message, "generation").to_owned();
        (generation, text(message, "saga-reply").to_owned(), value)
    };
    replies.iter().map(told).collect()
}

async fn pool() -> SqlitePool {
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect("sqlite::memory:").await.unwrap();
    sqlx::query("CREATE TABLE charges (cents INTEGER)")
        .execute(&pool)
        .await
        .unwrap();
    pool
}

async fn charge_once(mut tx: Tx<Sqlite>, task: Task<i64>) -> Result<Done<i64>, ChargeError> {
    let sql = "INSERT INTO charges VALUES (?)";
    let inserted = sqlx::query(sql)
        .bind(task.arguments)
        .execute(&mut *tx)
        .await;
    inserted.map_err(|_error| ChargeError::Silent)?;
    match task.arguments {
        13 if task.attempt == 1 => Err(ChargeError::CardDeclined(13)),
        cents => Ok(Done(cents)),
    }
}

async fn refund_once(mut tx: Tx<Sqlite>, UndoTask(_): UndoTask<Value>) -> Result<(), wharf::Error> {
    sqlx::query("DELETE FROM charges").execute(&mut *tx).await?;
    Ok(())
}

async fn bank(pool: &SqlitePool) -> TestBus {
    let inbox = SqlInbox::new(pool.clone(), "bank");
    inbox.install().await.unwrap();
    let route = group("bank").on(charge_once).on(refund_once).inbox(inbox);
    TestBus::start(Router::new().topic("payments", route)).await
}

async fn deliver(bus: &TestBus, message: Message) {
    bus.publish_raw("payments", message).await;
    tokio::time::timeout(PATIENCE, bus.settle()).await.unwrap();
}

async fn charges(pool: &SqlitePool) -> i64 {
    let sql = "SELECT count(*) FROM charges";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_repeat_of_a_task_has_no_second_effect_and_answers_the_attempt_that_asks() {
    let pool = pool().await;
    let bus = bank(&pool).await;
    deliver(&bus, command("2", false, 4, 1, &json!(995))).await;
    deliver(&bus, command("2", false, 7, 2, &json!(995))).await;
    assert_eq!(charges(&pool).await, 1);
    let done = |generation: &str| (generation.to_owned(), "SUCCESS".to_owned(), json!(995));
    assert_eq!(answers(&bus), [done("4"), done("7")]);
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn what_failed_leaves_no_trace_in_the_inbox_so_that_it_can_be_tried_again() {
    let pool = pool().await;
    let bus = bank(&pool).await;
    deliver(&bus, command("2", false, 4, 1, &json!(13))).await;
    assert_eq!(
        charges(&pool).await,
        0,
        "nothing was done, and that is certain"
    );
    deliver(&bus, command("2", false, 5, 2, &json!(13))).await;
    assert_eq!(charges(&pool).await, 1);
    deliver(&bus, command("3", false, 6, 1, &json!("no number"))).await;
    let told = answers(&bus);
    assert_eq!(
        (&*told[0].1, &told[0].2["error"]),
        ("BUSINESS_FAILURE", &json!("CardDeclined"))
    );
    assert_eq!((&*told[1].1, &told[1].2), ("SUCCESS", &json!(13)));
    assert_eq!(
        (&*told[2].1, &told[2].2["error"]),
        ("BUSINESS_FAILURE", &json!("Undecodable"))
    );
    assert!(bus.dead_letters().is_empty(), "its saga was told");
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn an_undo_that_overtakes_its_step_bars_it() {
    let pool = pool().await;
    let bus = bank(&pool).await;
    deliver(&bus, command("2", true, 5, 1, &json!({ "input": 995 }))).await;
    deliver(&bus, command("2", false, 4, 1, &json!(995))).await;
    assert_eq!(charges(&pool).await, 0, "the late command had no effect");
    let told = answers(&bus);
    assert_eq!((&*told[0].0, &*told[0].1), ("5", "SUCCESS"));
    assert_ne!(told[1].1, "SUCCESS", "{told:?}");
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_command_goes_to_no_task_and_a_missing_undo_is_set_aside() {
    let route = group("stock").on(reserve);
    let bus = TestBus::start(Router::new().topic("payments", route)).await;
    deliver(&bus, Message::new("{}").with_header("ce_type", "other")).await;
    deliver(&bus, command("1", true, 1, 1, &Value::Null)).await;
    assert_eq!(bus.dead_letters().len(), 2);
    assert!(answers(&bus).is_empty());
    bus.stop().await.unwrap();
}

#[tokio::test]
async fn a_saga_is_started_by_a_row_of_the_callers_own_transaction() {
    let pool = pool().await;
    outbox::Outbox::new().rows().install(&pool).await.unwrap();
    let start = || {
        Start::of("checkout", &basket("o-1", 995))
            .key("o-1")
            .correlation("c-1")
    };
    let mut tx = pool.begin().await.unwrap();
    outbox::emit(&mut tx, start()).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    outbox::emit(&mut tx, start()).await.unwrap();
    tx.commit().await.unwrap();
    let sql = "SELECT aggregatetype, aggregateid, headers ->> '$.saga-type', \
               headers ->> '$.idempotency-key', headers ->> '$.correlation-id' FROM wharf_outbox";
    let rows: Vec<(String, String, String, String, String)> =
        sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
    let row = ["_wharf.saga-starts", "o-1", "checkout", "o-1", "c-1"].map(str::to_owned);
    let [topic, id, saga_type, key, correlation] = row;
    assert_eq!(rows, [(topic, id, saga_type, key, correlation)]);
}

#[cfg(feature = "claim-check")]
#[derive(Clone, Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.film.shot", topic = "films", key = "title")]
struct Film {
    title: String,
    reel: String,
}

#[cfg(feature = "claim-check")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_the_limit_goes_through_a_saga_by_claim_check() {
    use wharf::claim::{Claims, ObjectBlobs};

    async fn shot(Msg(film): Msg<Film>) -> Start {
        Start::of("filming", &film).key(&film.title)
    }
    async fn cut(task: Task<Film>) -> Done<Film> {
        let (title, reel) = (task.title.clone(), task.reel.to_uppercase());
        Done(Film { title, reel })
    }
    async fn screen(task: Task<Film>) -> Done<String> {
        Done(format!("{} of {}", task.reel.len(), &task.reel[..1]))
    }

    let (node, sagas, bus) = node().await;
    let of_node = ObjectBlobs::folder(node.data().unwrap().join("claims")).unwrap();
    let claims = Claims::new("payloads", ObjectBlobs::memory()).unwrap();
    let claims = claims.with_store("wharf-sagas", of_node).unwrap();
    let bus = bus.with_claims(&claims, 64 << 10);
    let filming = Saga::define("filming")
        .step("Cut", Step::topic("cuts").timeout(60))
        .step("Screen", Step::topic("screens").timeout(60))
        .pivot("Cut");
    sagas.deploy(&filming).await.unwrap();
    let router = Router::new()
        .topic("films", group("studio").on(shot).layer(claims.layer()))
        .topic("cuts", group("cutter").on(cut).layer(claims.layer()))
        .topic("screens", group("cinema").on(screen).layer(claims.layer()));
    let serving = serve(&bus, router);
    let film = |title: &str, size| Film {
        title: title.to_owned(),
        reel: "x".repeat(size),
    };
    let film_of_all = film("f-3", 9 << 20);
    let refused = sagas.start(Start::of("filming", &film_of_all).key("f-3"));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), Some("WHARF-7009"), "{refused}");

    bus.publish(&film("f-1", 2 << 20)).await.unwrap();
    // Over HTTP there is no claim layer, and the node's own store takes it.
    let plain = film("f-2", 2 << 20);
    sagas
        .start(Start::of("filming", &plain).key("f-2"))
        .await
        .unwrap();
    for key in ["f-1", "f-2"] {
        let told = begun_and_ended(&sagas, SagaId::of("filming", key)).await;
        assert_eq!(told.status, Status::Completed, "{told:?}");
        assert_eq!(told.output, Some(json!(format!("{} of X", 2 << 20))));
    }
    stop(node, &bus, serving).await;
}
