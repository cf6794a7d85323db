//! What somebody has to mend: the cause and the statement are named, and it goes on by itself once that
//! is done. And what passes by itself.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use harness::Database;
use tokio::time::Instant;
use wharf_message::Code;
use wharf_relay::postgres::PostgresLog;
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{Opened, Settings, State, StatusView, Target, Trouble, TroubleKind};

use super::support::{Bed, Gate, Running, arrive, numbers, rows, server, until};

/// A relay that tries again soon.
fn start(source: PostgresLog, target: &MemoryTarget) -> Running {
    let settings = Settings {
        patience: Duration::from_millis(50),
        ..Settings::default()
    };
    Running::with(source, Arc::new(target.clone()), settings)
}

fn has(view: &StatusView, code: Code) -> bool {
    view.trouble
        .as_ref()
        .is_some_and(|(_, trouble)| trouble.code == code)
}

/// Until it is refused with this code.
async fn refused(relay: &Running, code: Code) -> Trouble {
    let refused = |view: &StatusView| {
        let trouble = view.trouble.as_ref().map(|(_, trouble)| trouble);
        trouble.is_some_and(|it| it.code == code && it.kind == TroubleKind::Refused)
    };
    relay.until("it is refused", refused).await;
    let (_, trouble) = relay.status.view().trouble.unwrap();
    trouble
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_grants_are_named_with_the_statement_that_gives_them() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let user = format!("{}_user", bed.slot);
    bed.run(format!("CREATE ROLE {user} LOGIN")).await;
    let source = PostgresLog::new(bed.url_of(&user), "wharf_outbox", &bed.slot).unwrap();
    let relay = start(source, &target);
    for expected in ["GRANT SELECT ON", "ALTER ROLE", "CREATE PUBLICATION"] {
        let is_this = |view: &StatusView| {
            let trouble = view.trouble.as_ref().map(|(_, trouble)| trouble.clone());
            let fix =
                trouble.and_then(|it| it.fix.filter(|_| it.code == Code::OUTBOX_ACCESS_REFUSED));
            fix.is_some_and(|fix| fix.starts_with(expected))
        };
        relay.until(expected, is_this).await;
        let (_, trouble) = relay.status.view().trouble.unwrap();
        bed.run(trouble.fix.unwrap()).await;
    }
    bed.following().await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named_and_right_ones_serve_with_scram() {
    let server = server(&[]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    bed.run("CREATE ROLE secretive LOGIN SUPERUSER REPLICATION PASSWORD 's3cr/t'")
        .await;
    let file = server.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("local all secretive scram-sha-256\n{rules}")).unwrap();
    bed.run("SELECT pg_reload_conf()").await;
    let url = |user: &str| bed.url_of(user);
    let wrong = PostgresLog::new(url("secretive:wrong"), "wharf_outbox", &bed.slot).unwrap();
    let relay = start(wrong, &target);
    let trouble = refused(&relay, Code::OUTBOX_ACCESS_REFUSED).await;
    assert!(trouble.what.contains("secretive"), "{trouble}");
    assert!(!trouble.to_string().contains("wrong"), "{trouble}");
    relay.stop().await;
    let nobody = PostgresLog::new(url("nobody_knows"), "wharf_outbox", &bed.slot).unwrap();
    let relay = start(nobody, &target);
    refused(&relay, Code::OUTBOX_ACCESS_REFUSED).await;
    relay.stop().await;
    let right = PostgresLog::new(url("secretive:s3cr%2Ft"), "wharf_outbox", &bed.slot).unwrap();
    let relay = start(right, &target);
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    bed.following().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_cannot_be_decoded_is_named() {
    let server = server(&["-c", "wal_level=replica"]);
    let bed = Bed::on(&server).await;
    let relay = start(bed.source(), &MemoryTarget::default());
    let trouble = refused(&relay, Code::OUTBOX_LOG_OFF).await;
    assert!(trouble.fix.unwrap().contains("wal_level"));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_or_column_is_named_and_goes_on_when_it_is_there() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    bed.run("ALTER TABLE wharf_outbox RENAME TO later; ALTER TABLE later DROP COLUMN type")
        .await;
    let relay = start(bed.source(), &target);
    refused(&relay, Code::OUTBOX_NOT_INSTALLED).await;
    bed.run("ALTER TABLE later RENAME TO wharf_outbox").await;
    let trouble = refused(&relay, Code::OUTBOX_TABLE_WRONG).await;
    bed.run(trouble.fix.unwrap()).await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_not_published_for_a_while_come_from_the_table() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = start(bed.source(), &target);
    bed.following().await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    bed.run(format!(
        "ALTER PUBLICATION {} DROP TABLE wharf_outbox",
        bed.slot
    ))
    .await;
    let trouble = refused(&relay, Code::OUTBOX_ACCESS_REFUSED).await;
    bed.insert(&["2"]).await;
    let fix = trouble.fix.unwrap();
    assert!(fix.starts_with("ALTER PUBLICATION"), "{fix}");
    bed.run(format!(
        "ALTER PUBLICATION {} ADD TABLE wharf_outbox",
        bed.slot
    ))
    .await;
    bed.insert(&["3"]).await;
    arrive(&target, &numbers(1, 3)).await;
    bed.following().await;
    bed.insert(&["4"]).await;
    arrive(&target, &numbers(1, 4)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_stands_by_and_takes_over_within_ten_seconds() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let first = Running::start(bed.source(), &target);
    bed.following().await;
    let elsewhere = MemoryTarget::default();
    let second = Running::start(bed.source(), &elsewhere);
    let stands_by =
        |view: &StatusView| view.state == State::Standby && has(view, Code::OUTBOX_TAKEN);
    second.until("it stands by", stands_by).await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    first.kill().await;
    let killed = Instant::now();
    bed.following().await;
    assert!(killed.elapsed() < Duration::from_secs(10));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_another_program_reads_is_waited_for() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    relay.stop().await;
    // The lock of a relay of the same slot, held by somebody else.
    let mut holder = bed.pool.acquire().await.unwrap();
    let lock = "SELECT pg_advisory_lock(1464357446, hashtext($1))";
    sqlx::query(lock)
        .bind(&bed.slot)
        .execute(&mut *holder)
        .await
        .unwrap();
    let relay = start(bed.source(), &target);
    relay
        .until("it stands by", |view| view.state == State::Standby)
        .await;
    drop(holder.detach());
    bed.following().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_keeps_too_much_is_given_up_and_made_again_when_allowed() {
    let (bed, gate) = (Bed::new().await, Gate::new(u64::MAX));
    let source = bed.source().retained_max(Some(4 << 20)).recreate_slot(true);
    let relay = Running::with(source, Arc::new(gate.clone()), Settings::default());
    bed.following().await;
    bed.insert(&["1"]).await;
    arrive(&gate.target, &["1"]).await;
    gate.target.hold(true);
    let gone = until(async || {
        bed.run(rows(2, 2).replace("convert_to(n::text, 'UTF8')", "''::bytea"))
            .await;
        bed.run("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000))")
            .await;
        bed.slots().await == 0
    });
    assert!(gone.await, "the slot is given up");
    let told = until(async || has(&relay.status.view(), Code::OUTBOX_LOG_RETAINED)).await;
    assert!(told, "{:?}", relay.status.view());
    gate.target.hold(false);
    bed.following().await;
    assert_eq!(bed.slots().await, 1, "it is made again");
    bed.insert(&["end"]).await;
    let count = bed.number("SELECT count(*) FROM wharf_outbox").await as usize;
    assert!(until(async || gate.target.messages().len() >= count).await);
    assert_eq!(gate.target.messages().len(), count, "nothing came twice");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_open_for_long_is_named_with_the_statement_that_ends_it() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    let mut open = bed.pool.acquire().await.unwrap();
    let begin = "BEGIN; SELECT pg_current_xact_id()";
    sqlx::raw_sql(begin).execute(&mut *open).await.unwrap();
    let ask = sqlx::query_scalar("SELECT pg_backend_pid()");
    let process: i32 = ask.fetch_one(&mut *open).await.unwrap();
    let ends_it = format!("pg_terminate_backend({process})");
    let named = |view: &StatusView| {
        let held_by = view.lag.held_by.as_ref();
        held_by.is_some_and(|held_by| held_by.contains(&ends_it))
    };
    relay.until("it is named", named).await;
    drop(open.detach());
    relay.until("it is gone", |view| !named(view)).await;
    relay.stop().await;
}

/// A target that is not there.
struct Closed;

impl Target for Closed {
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    fn open(&self, _source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let code = Code::OUTBOX_TARGET_UNAVAILABLE;
        ready(Err(Trouble::unavailable(code, "it is not there"))).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_keeps_too_much_is_given_up_also_while_the_target_cannot_be_opened() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let source = || bed.source().retained_max(Some(4 << 20)).recreate_slot(true);
    let relay = Running::start(source(), &target);
    bed.following().await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    relay.stop().await;
    bed.free().await;
    bed.insert(&["2"]).await;
    bed.run("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 5)")
        .await;
    let relay = Running::with(source(), Arc::new(Closed), Settings::default());
    assert!(
        until(async || bed.slots().await == 0).await,
        "it is given up"
    );
    relay.stop().await;
    let relay = Running::start(source(), &target);
    arrive(&target, &["1", "2"]).await;
    bed.following().await;
    bed.insert(&["3"]).await;
    arrive(&target, &["1", "2", "3"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_and_a_killed_database_lose_and_repeat_nothing() {
    let mut server = server(&["-c", "fsync=on"]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    let relay = start(bed.source(), &target);
    bed.following().await;
    let mut last = 0;
    for round in 0..6 {
        for _ in 0..10 {
            last += 1;
            bed.insert(&[&last.to_string()]).await;
        }
        match round {
            0 | 3 => bed.cut().await,
            1 | 4 => target.crash(),
            _ => kill(&mut server, &bed).await,
        }
    }
    arrive(&target, &numbers(1, last)).await;
    bed.following().await;
    relay.stop().await;
}

/// Kills the server and starts it again.
async fn kill(server: &mut Database, bed: &Bed) {
    server.kill().unwrap();
    server.up().unwrap();
    let up = until(async || sqlx::query("SELECT 1").execute(&bed.pool).await.is_ok());
    assert!(up.await);
}
