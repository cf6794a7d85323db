//! Rows on their way, with writers beside each other, transactions that stay open or are rolled back,
//! and targets that crash.

use std::time::Duration;

use sqlx::Pool;
use wharf_message::Code;
use wharf_relay::TroubleKind;
use wharf_relay::target::memory::MemoryTarget;

use super::databases::{Server, fresh, insert, on_every_database, run, texts};
use super::relays::{
    Forgetful, exactly_the_committed_rows, in_order, payloads, settings, start, until,
};

on_every_database! {
    rows_of_concurrent_writers_arrive_exactly_once_and_in_order_through_crashes
    t12_a_row_that_is_committed_late_is_not_skipped
    t15_rows_are_confirmed_no_earlier_than_they_are_durable
    a_relay_stands_by_until_the_other_one_stops
    a_backlog_of_many_pages_arrives_in_order
    t1_t3_a_crash_in_the_middle_of_a_backlog_repeats_and_loses_nothing
    a_row_is_noticed_at_once_by_its_hint
    a_missing_table_or_cursor_is_told_with_what_creates_it_and_then_it_goes_on
}

/// Transactions of one writer: each locks an aggregate and writes some rows; some are rolled back, in
/// part or as a whole.
async fn write<D: Server>(pool: Pool<D>, writer: u32, transactions: u32) {
    for number in 0..transactions {
        let random = (writer * 7919 + number * 104_729) % 97;
        let aggregate = format!("a{}", random % 4);
        loop {
            let mut connection = pool.acquire().await.unwrap();
            let done = transaction::<D>(&mut connection, &aggregate, random).await;
            if done.is_ok() {
                break;
            }
            // Deadlocks and such; the connection may hold a transaction.
            connection.detach();
        }
    }
}

async fn transaction<D: Server>(
    connection: &mut D::Connection,
    aggregate: &str,
    random: u32,
) -> Result<(), sqlx::Error> {
    let run = D::run;
    run(connection, D::BEGIN.to_owned()).await?;
    if random.is_multiple_of(2) {
        // Takes the transaction's id before it waits.
        let same = format!("UPDATE aggregates SET version = version WHERE name = '{aggregate}'");
        run(connection, same).await?;
    }
    let lock = format!(
        "SELECT CAST(version AS CHAR(10)) FROM aggregates WHERE name = '{aggregate}' {}",
        D::LOCK
    );
    let version = D::texts(connection, lock).await?.remove(0);
    let mut version: u32 = version.trim().parse().unwrap();
    let rows = 1 + random % 5;
    for row in 0..rows {
        let lost = row == 2 && random.is_multiple_of(3);
        if lost {
            run(connection, "SAVEPOINT here".to_owned()).await?;
        }
        let payload = match lost {
            true => format!("{aggregate}:999999"),
            false => {
                version += 1;
                format!("{aggregate}:{version}")
            }
        };
        run(connection, insert(aggregate, payload)).await?;
        if lost {
            run(connection, "ROLLBACK TO SAVEPOINT here".to_owned()).await?;
        }
    }
    let update = format!("UPDATE aggregates SET version = {version} WHERE name = '{aggregate}'");
    run(connection, update).await?;
    let end = if random.is_multiple_of(7) {
        "ROLLBACK"
    } else {
        "COMMIT"
    };
    run(connection, end.to_owned()).await
}

async fn rows_of_concurrent_writers_arrive_exactly_once_and_in_order_through_crashes<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let relay = start(D::source(&options, settings()), target.clone());
    let writers = (0..6).map(|writer| tokio::spawn(write(pool.clone(), writer, 40)));
    let writers: Vec<_> = writers.collect();
    for at_least in [50, 150, 250] {
        until(|| target.messages().len() >= at_least).await;
        target.crash();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    exactly_the_committed_rows(&pool, &target).await;
    assert!(relay.status.view().connects > 1, "the crashes were seen");
    relay.stop().await;
}

async fn t12_a_row_that_is_committed_late_is_not_skipped<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let relay = start(D::source(&options, settings()), target.clone());
    run(&pool, insert("a0", "a0:1")).await;
    until(|| target.messages().len() == 1).await;
    if D::NAME == "SQLite" {
        // It has one writer: nobody can commit beside an open transaction.
        run(&pool, insert("a1", "a1:1")).await;
    } else {
        let mut early = pool.acquire().await.unwrap();
        D::run(&mut early, D::BEGIN.to_owned()).await.unwrap();
        D::run(&mut early, insert("a1", "a1:1")).await.unwrap();
        for number in 2..=20 {
            run(&pool, insert("a0", format!("a0:{number}"))).await;
        }
        let mut rolled_back = pool.acquire().await.unwrap();
        D::run(&mut rolled_back, D::BEGIN.to_owned()).await.unwrap();
        D::run(&mut rolled_back, insert("a2", "a2:1"))
            .await
            .unwrap();
        D::run(&mut rolled_back, "ROLLBACK".to_owned())
            .await
            .unwrap();
        D::run(&mut early, insert("a1", "a1:2")).await.unwrap();
        D::run(&mut early, "COMMIT".to_owned()).await.unwrap();
    }
    run(&pool, insert("a0", "a0:21")).await;
    exactly_the_committed_rows(&pool, &target).await;
    relay.stop().await;
}

async fn t15_rows_are_confirmed_no_earlier_than_they_are_durable<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let source = || D::source(&options, settings());
    let relay = start(source(), Forgetful(target.clone()));
    run(&pool, insert("a0", "a0:1")).await;
    until(|| relay.status.view().rows == 1).await;
    target.hold(true);
    run(&pool, insert("a0", "a0:2")).await;
    until(|| relay.status.view().lag.rows == Some(1)).await;
    let saved = "SELECT 'saved' FROM wharf_outbox_cursor WHERE checkpoint IS NOT NULL";
    while texts(&pool, saved).await.is_empty() {
        tokio::task::yield_now().await;
    }
    relay.stop().await;
    target.hold(false);
    // What was held is lost with the sink; the row is still there.
    let relay = start(source(), Forgetful(target.clone()));
    until(|| target.messages().len() >= 2).await;
    run(&pool, insert("a0", "a0:3")).await;
    until(|| target.messages().len() >= 3).await;
    assert_eq!(payloads(&target), ["a0:1", "a0:2", "a0:3"]);
    relay.stop().await;
}

async fn a_relay_stands_by_until_the_other_one_stops<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let first = start(D::source(&options, settings()), target.clone());
    run(&pool, insert("a0", "a0:1")).await;
    until(|| target.messages().len() == 1).await;
    let second = start(D::source(&options, settings()), target.clone());
    until(|| second.status.view().trouble.is_some()).await;
    let (_, trouble) = second.status.view().trouble.unwrap();
    assert_eq!(
        (trouble.kind, trouble.code),
        (TroubleKind::Standby, Code::OUTBOX_TAKEN),
        "{trouble}"
    );
    run(&pool, insert("a0", "a0:2")).await;
    until(|| target.messages().len() == 2).await;
    assert_eq!(first.status.view().connects, 1, "it was not disturbed");
    first.stop().await;
    run(&pool, insert("a0", "a0:3")).await;
    let released = tokio::time::timeout(
        Duration::from_secs(5),
        until(|| target.messages().len() == 3),
    );
    released.await.expect("it was released, not left to expire");
    assert_eq!(payloads(&target), ["a0:1", "a0:2", "a0:3"]);
    second.stop().await;
}

async fn a_backlog_of_many_pages_arrives_in_order<D: Server>() {
    const ROWS: usize = 2_500;
    let (pool, options) = fresh::<D>().await;
    let mut connection = pool.acquire().await.unwrap();
    for from in (1..=ROWS).step_by(100) {
        D::run(&mut connection, D::BEGIN.to_owned()).await.unwrap();
        for number in from..from + 100 {
            D::run(&mut connection, insert("a0", format!("a0:{number}")))
                .await
                .unwrap();
        }
        D::run(&mut connection, "COMMIT".to_owned()).await.unwrap();
    }
    let target = MemoryTarget::default();
    let relay = start(D::source(&options, settings()), target.clone());
    until(|| target.messages().len() >= ROWS).await;
    let payloads = payloads(&target);
    assert_eq!(payloads.len(), ROWS);
    in_order(&payloads);
    assert!(relay.status.view().batches > 3);
    until(|| relay.status.view().lag.rows == Some(0)).await;
    relay.stop().await;
}

async fn t1_t3_a_crash_in_the_middle_of_a_backlog_repeats_and_loses_nothing<D: Server>() {
    const ROWS: usize = 2_500;
    let (pool, options) = fresh::<D>().await;
    let beside = D::NAME != "SQLite";
    let mut open = pool.acquire().await.unwrap();
    if beside {
        D::run(&mut open, D::BEGIN.to_owned()).await.unwrap();
        D::run(&mut open, insert("a1", "a1:1")).await.unwrap();
    }
    let mut connection = pool.acquire().await.unwrap();
    D::run(&mut connection, D::BEGIN.to_owned()).await.unwrap();
    for number in 1..=ROWS {
        let row = insert("a0", format!("a0:{number}"));
        D::run(&mut connection, row).await.unwrap();
    }
    D::run(&mut connection, "COMMIT".to_owned()).await.unwrap();
    let target = MemoryTarget::default();
    let mut few = settings();
    few.sorted_max = 700;
    let relay = start(D::source(&options, few), target.clone());
    for at_least in [200, 900, 1_600] {
        until(|| target.messages().len() >= at_least).await;
        target.crash();
        if beside && at_least == 900 {
            // Begun before all the others, and committed while the relay is down.
            D::run(&mut open, insert("a1", "a1:2")).await.unwrap();
            D::run(&mut open, "COMMIT".to_owned()).await.unwrap();
        }
        run(&pool, insert("a2", format!("a2:{at_least}"))).await;
    }
    exactly_the_committed_rows(&pool, &target).await;
    assert!(relay.status.view().connects > 1, "the crashes were seen");
    relay.stop().await;
}

async fn a_row_is_noticed_at_once_by_its_hint<D: Server>() {
    let (pool, options) = fresh::<D>().await;
    let target = MemoryTarget::default();
    let mut slow = settings();
    slow.idle_max = Duration::from_secs(3600);
    let relay = start(D::source(&options, slow), target.clone());
    until(|| relay.status.view().connects == 1).await;
    for number in 1..=3 {
        run(&pool, insert("a0", format!("a0:{number}"))).await;
        // Other cases of the database may hold the horizon for a moment: told again until it helps.
        until(|| {
            wharf_outbox::hint::notify("wharf_outbox");
            target.messages().len() == number
        })
        .await;
    }
    relay.stop().await;
}

async fn a_missing_table_or_cursor_is_told_with_what_creates_it_and_then_it_goes_on<D: Server>() {
    let (pool, options) = D::empty().await;
    let target = MemoryTarget::default();
    let relay = start(D::source(&options, settings()), target.clone());
    let told = |code: Code| {
        let trouble = relay.status.view().trouble.map(|(_, trouble)| trouble);
        trouble.filter(|trouble| trouble.code == code && trouble.kind == TroubleKind::Refused)
    };
    until(|| told(Code::OUTBOX_NOT_INSTALLED).is_some()).await;
    super::databases::prepare(&pool).await;
    run(&pool, "DROP TABLE wharf_outbox_cursor").await;
    let fix = || told(Code::OUTBOX_NOT_INSTALLED)?.fix;
    until(|| fix().is_some_and(|fix| fix.starts_with("CREATE TABLE"))).await;
    run(&pool, fix().unwrap()).await;
    run(&pool, insert("a0", "a0:1")).await;
    exactly_the_committed_rows(&pool, &target).await;
    relay.stop().await;
}
