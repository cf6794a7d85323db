//! Who serves: leases that run out, holders that are paused, rows that are removed, and databases that
//! are killed.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::{Database, DatabaseKind};
use sqlx::{MySql, Pool, Postgres};
use wharf_message::{Code, Message, Timestamp, TopicName};
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{Relay, Routed, Router, Row, TroubleKind, Unroutable};

use super::databases::{
    Server, case, fresh, insert, new_mariadb, new_postgres, on_every_database, prepare, run, texts,
};
use super::relays::{
    Forgetful, SOURCE, exactly_the_committed_rows, payloads, settings, start, until,
};

on_every_database! {
    another_relay_takes_over_within_ten_seconds_from_one_that_vanished
    a_paused_holder_that_was_replaced_moves_nothing
    t14_t15_only_rows_that_are_durable_and_old_are_removed
    what_another_kind_of_source_left_is_refused
}

/// A relay in a thread of its own, whose router waits for leave: it can be paused, and ended without a
/// word to the database.
struct Apart {
    leave: mpsc::Sender<()>,
    asked: mpsc::Receiver<()>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Waits {
    leave: std::sync::Mutex<mpsc::Receiver<()>>,
    asked: mpsc::Sender<()>,
}

impl Router for Waits {
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable> {
        self.asked.send(()).ok();
        // The whole runtime of this relay stands still meanwhile.
        self.leave.lock().unwrap().recv().ok();
        let payload = row.get("payload").unwrap().1.cloned().unwrap_or_default();
        Ok(Some(Routed {
            topic: TopicName::new("outbox").unwrap(),
            partition: None,
            message: Message::new(payload),
        }))
    }

    fn set_aside(&self, _source: &str, row: &Row, reason: &Unroutable) -> Routed {
        unreachable!("{} {reason}", row.place)
    }
}

impl Apart {
    fn start<D: Server>(options: &D::Options, target: &MemoryTarget) -> Self {
        let (leave, leaves) = mpsc::channel();
        let (asks, asked) = mpsc::channel();
        let router = Waits {
            leave: std::sync::Mutex::new(leaves),
            asked: asks,
        };
        let source = D::source(options, settings());
        let now = || Timestamp::ZERO;
        let target = std::sync::Arc::new(Forgetful(target.clone()));
        let relay = Relay::new(SOURCE, source, std::sync::Arc::new(router), target, now);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        runtime.spawn(async move {
            let _stays = stop;
            relay.run(stopped).await;
        });
        Self {
            leave,
            asked,
            runtime: Some(runtime),
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for a thread without keeping others from running.
async fn asked(apart: &Apart) {
    while apart.asked.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
}

async fn another_relay_takes_over_within_ten_seconds_from_one_that_vanished<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let first = Apart::start::<D>(&options, &target);
    run(&pool, insert("a0", "a0:1")).await;
    asked(&first).await;
    let second = start(D::source(&options, settings()), target.clone());
    until(|| second.status.view().trouble.is_some()).await;
    let (_, trouble) = second.status.view().trouble.unwrap();
    assert_eq!(trouble.code, Code::OUTBOX_TAKEN);
    // It stands still in its router, and so gives nothing back and renews nothing any more.
    let vanished = Instant::now();
    until(|| target.messages().len() == 1).await;
    assert!(
        vanished.elapsed() < Duration::from_secs(10),
        "{:?}",
        vanished.elapsed()
    );
    assert_eq!(payloads(&target), ["a0:1"]);
    second.stop().await;
    drop(first);
}

async fn a_paused_holder_that_was_replaced_moves_nothing<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let paused = Apart::start::<D>(&options, &target);
    run(&pool, insert("a0", "a0:1")).await;
    asked(&paused).await;
    let second = start(D::source(&options, settings()), Forgetful(target.clone()));
    until(|| target.messages().len() == 1).await;
    run(&pool, insert("a0", "a0:2")).await;
    until(|| second.status.view().lag.rows == Some(0)).await;
    let cursor = "SELECT CAST(epoch AS CHAR(10)) FROM wharf_outbox_cursor";
    let epoch = texts(&pool, cursor).await;
    // It wakes up, delivers to a target that does not listen to it, and finds the lease taken.
    let resumed = Instant::now();
    paused.leave.send(()).unwrap();
    run(&pool, insert("a0", "a0:3")).await;
    until(|| target.messages().len() >= 3).await;
    while resumed.elapsed() < Duration::from_secs(3) {
        assert_eq!(
            texts(&pool, cursor).await,
            epoch,
            "the second one still serves"
        );
    }
    assert_eq!(payloads(&target), ["a0:1", "a0:2", "a0:3"]);
    assert_eq!(second.status.view().connects, 1, "it was not disturbed");
    second.stop().await;
    drop(paused);
}

async fn t14_t15_only_rows_that_are_durable_and_old_are_removed<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let mut often = settings();
    often.maintain_every = Duration::from_millis(50);
    let relay = start(D::source(&options, often), target.clone());
    let old = match D::NAME {
        "PostgreSQL" => "now() - interval '3 days'",
        "SQLite" => "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-3 days')",
        _ => "NOW(6) - INTERVAL 3 DAY",
    };
    let aged = |number: u32| {
        let insert = insert("a0", format!("a0:{number}"));
        let insert = insert.replace("payload)", "payload, created_at)");
        let insert = insert.strip_suffix(')').unwrap();
        format!("{insert}, {old})")
    };
    for number in 1..=5 {
        run(&pool, aged(number)).await;
    }
    run(&pool, insert("a0", "a0:6")).await;
    let left = async |expected: &[&str]| {
        let payload = match D::NAME {
            "PostgreSQL" => "convert_from(payload, 'UTF8')",
            _ => "CAST(payload AS CHAR(20))",
        };
        let sql = format!("SELECT {payload} FROM wharf_outbox ORDER BY sequence");
        while texts(&pool, &sql).await != expected {
            tokio::task::yield_now().await;
        }
    };
    left(&["a0:6"]).await;
    target.hold(true);
    for number in 7..=9 {
        run(&pool, aged(number)).await;
    }
    run(&pool, aged(10)).await;
    until(|| relay.status.view().lag.rows == Some(4)).await;
    left(&["a0:6", "a0:7", "a0:8", "a0:9", "a0:10"]).await;
    // Lost with the sink, and still in the table.
    target.crash();
    target.hold(false);
    until(|| target.messages().len() == 10).await;
    left(&["a0:6"]).await;
    let expected: Vec<_> = (1..=10).map(|number| format!("a0:{number}")).collect();
    assert_eq!(payloads(&target), expected);
    relay.stop().await;
}

async fn what_another_kind_of_source_left_is_refused<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let other = match D::NAME {
        "PostgreSQL" => "'S'",
        _ => "'P'",
    };
    let sql = format!(
        "INSERT INTO wharf_outbox_cursor (source, checkpoint) VALUES ('{SOURCE}', {other})"
    );
    run(&pool, sql).await;
    let relay = start(
        D::source(&options, settings()),
        Forgetful(MemoryTarget::default()),
    );
    until(|| relay.status.view().trouble.is_some()).await;
    let (_, trouble) = relay.status.view().trouble.unwrap();
    let told = (trouble.kind, trouble.code);
    assert_eq!(
        told,
        (TroubleKind::Refused, Code::OUTBOX_OTHER_DATABASE),
        "{trouble}"
    );
    relay.stop().await;
}

/// Inserts rows, some in transactions that are rolled back, while the server comes and goes; ends when
/// told to.
async fn write_through_kills<D: Server>(
    pool: Pool<D>,
    writer: u32,
    stop: tokio::sync::watch::Receiver<bool>,
) {
    let mut number = 0;
    while !*stop.borrow() {
        let Ok(mut connection) = pool.acquire().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let rows = 1 + number % 3;
        let end = if number % 5 == 4 {
            "ROLLBACK"
        } else {
            "COMMIT"
        };
        let mut done = D::run(&mut connection, D::BEGIN.to_owned()).await;
        for _ in 0..rows {
            number += 1;
            if done.is_ok() {
                let row = insert(&format!("a{writer}"), format!("a{writer}:{number}"));
                done = D::run(&mut connection, row).await;
            }
        }
        if done.is_ok() {
            done = D::run(&mut connection, end.to_owned()).await;
        }
        if done.is_err() {
            connection.detach();
        }
    }
}

async fn killed<D: Server>(mut server: Database, pool: Pool<D>, options: D::Options) {
    prepare(&pool).await;
    let target = MemoryTarget::default();
    let relay = start(D::source(&options, settings()), target.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers = (0..4)
        .map(|writer| tokio::spawn(write_through_kills(pool.clone(), writer, stopped.clone())));
    let writers: Vec<_> = writers.collect();
    for round in 1..=3 {
        let so_far = target.messages().len();
        until(|| target.messages().len() > so_far + 100).await;
        server = tokio::task::spawn_blocking(move || {
            server.kill().unwrap();
            server.up().unwrap();
            server
        })
        .await
        .unwrap();
        if round == 2 {
            target.crash();
        }
    }
    let so_far = target.messages().len();
    until(|| target.messages().len() > so_far + 50).await;
    stop.send_replace(true);
    for writer in writers {
        writer.await.unwrap();
    }
    exactly_the_committed_rows(&pool, &target).await;
    let (_, trouble) = relay.status.view().trouble.unwrap();
    assert_eq!(trouble.kind, TroubleKind::Unavailable, "{trouble}");
    relay.stop().await;
}

#[test]
fn postgres_killed_and_back_loses_and_repeats_nothing() {
    case(async {
        let server = Database::start(DatabaseKind::Postgres, &[]).unwrap();
        let (pool, options) = new_postgres(&server).await;
        killed::<Postgres>(server, pool, options).await;
    });
}

#[test]
fn mariadb_killed_and_back_loses_and_repeats_nothing() {
    case(async {
        let server = Database::start(DatabaseKind::MariaDb, &[]).unwrap();
        let (pool, options) = new_mariadb(&server).await;
        killed::<MySql>(server, pool, options).await;
    });
}
