//! A relay in the real binary, killed again and again while rows are written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use wharf_outbox::Outbox;

use crate::run::command;
use crate::serve::{Served, serve};

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const KILLS: u64 = 8;

async fn shop(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(20));
    let pool = SqlitePoolOptions::new().max_connections(2);
    let pool = pool.connect_with(options).await.unwrap();
    Outbox::new().install(&pool).await.unwrap();
    pool
}

/// Writes until it is told to stop: two rows in a transaction, and every fifth is rolled back.
async fn write(pool: &SqlitePool, written: &AtomicU32, stop: &AtomicBool) {
    let mut number = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for turn in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let is_kept = turn % 5 != 4;
        let mut transaction = pool.begin().await.unwrap();
        for row in 0..2 {
            let payload = match is_kept {
                true => (number + row).to_string(),
                false => "rolled back".to_owned(),
            };
            let insert = "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload) VALUES (?, 'orders', 'k', 't', ?)";
            sqlx::query(insert)
                .bind(format!("id-{turn}-{row}"))
                .bind(payload)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        if is_kept {
            transaction.commit().await.unwrap();
            number += 2;
            written.store(number, Ordering::Relaxed);
        } else {
            transaction.rollback().await.unwrap();
        }
        pace.tick().await;
    }
}

fn wharf(directory: &Path, node: &Served, arguments: &[&str]) -> (i32, String) {
    let mut command = command(directory);
    command
        .env("WHARF_HTTP", node.text("http"))
        .env("WHARF_BROKER", node.text("kafka"));
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

#[test]
fn a_relay_killed_at_random_points_moves_every_committed_row_once_and_says_how_it_stands() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let database = directory.join("shop.db");
    let settings = format!(
        "[relay.shop]\nurl = \"sqlite://{}\"\ntopic = \"{{aggregatetype}}\"\nlease = \"1s\"\n",
        database.display()
    );
    std::fs::write(directory.join("wharf.toml"), settings).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pool = runtime.block_on(shop(&database));
    let (written, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let writing = {
        let (written, stop) = (Arc::clone(&written), Arc::clone(&stop));
        runtime.spawn(async move { write(&pool, &written, &stop).await })
    };
    for kill in 0..KILLS {
        let mut node = serve(directory, &["--data", "data"], &[]);
        // Until it has moved something, and then for a time of no meaning.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, status) = wharf(
                directory,
                &node,
                &["outbox", "status", "shop", "-o", "json"],
            );
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            if status[0]["rows"].as_u64().is_some_and(|rows| rows > 0) {
                break;
            }
            assert!(Instant::now() < deadline, "{status}");
        }
        std::thread::park_timeout(Duration::from_millis(kill * 37 % 113));
        node.group.kill().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(writing).unwrap();

    let node = serve(directory, &["--data", "data"], &[]);
    let (code, _) = wharf(
        directory,
        &node,
        &["outbox", "drain", "shop", "--timeout", "60s"],
    );
    assert_eq!(code, 0, "nothing is left");
    let (code, records) = wharf(
        directory,
        &node,
        &["consume", "orders", "--until", "end", "--values"],
    );
    assert_eq!(code, 0);
    let arrived: Vec<u32> = records.lines().map(|line| line.parse().unwrap()).collect();
    let all: Vec<u32> = (0..written.load(Ordering::Relaxed)).collect();
    assert_eq!(
        arrived, all,
        "each once, in order, and nothing that was rolled back"
    );
    let (code, table) = wharf(directory, &node, &["outbox", "status"]);
    assert_eq!(code, 0);
    let words: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(
        words.contains(&"shop") && words.contains(&"running"),
        "{table}"
    );
    let (code, _) = wharf(directory, &node, &["outbox", "status", "other"]);
    assert_eq!(code, 3);
}
