//! What every day brings: commits, rollbacks, savepoints, large transactions, several writers, and
//! every kind of column.

use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use wharf_relay::Settings;
use wharf_relay::target::memory::MemoryTarget;

use super::support::{
    Bed, Gate, Running, arrive, arrived, insert, numbers, row, rows, until, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_in_the_order_of_their_commits_with_the_backlog_before_them() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    bed.insert(&["1", "2"]).await;
    bed.insert(&["3"]).await;
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 3)).await;
    bed.following().await;
    bed.insert(&["4"]).await;
    bed.run(rows(5, 20)).await;
    arrive(&target, &numbers(1, 20)).await;
    relay.stop().await;
    bed.insert(&["21"]).await;
    let relay = Running::start(bed.source(), &target);
    bed.insert(&["22"]).await;
    arrive(&target, &numbers(1, 22)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_drained_while_others_write_and_while_its_own_checkpoints_are_written() {
    for target in [Gate::new(u64::MAX), Gate::forgetful()] {
        let bed = Bed::new().await;
        bed.run("CREATE TABLE others (it int)").await;
        let relay = Running::with(bed.source(), Arc::new(target), Settings::default());
        bed.following().await;
        bed.insert(&["1"]).await;
        let measured = relay.status.view().lag_measured;
        let drained = until(async || {
            bed.run("INSERT INTO others VALUES (1)").await;
            let view = relay.status.view();
            view.lag_measured >= measured + 2 && view.is_drained()
        });
        assert!(drained.await, "{:?}", relay.status.view());
        assert_eq!(relay.status.view().rows, 1);
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_the_table_come_in_the_order_of_their_commits_whatever_the_ids_of_their_transactions()
 {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let number_first = async || {
        let mut early = bed.pool.begin().await.unwrap();
        let begun = sqlx::raw_sql("SELECT pg_current_xact_id()");
        begun.execute(&mut *early).await.unwrap();
        early
    };
    let mut early = number_first().await;
    bed.insert(&["1"]).await;
    insert(&mut early, "2").await;
    early.commit().await.unwrap();
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 2)).await;
    bed.following().await;
    relay.stop().await;
    bed.drop_slot().await;
    // The same without a slot, with one more transaction open all the time.
    let open = number_first().await;
    let relay = Running::start(bed.source(), &target);
    let mut early = number_first().await;
    bed.insert(&["3"]).await;
    arrive(&target, &numbers(1, 3)).await;
    insert(&mut early, "4").await;
    early.commit().await.unwrap();
    bed.insert(&["5"]).await;
    arrive(&target, &numbers(1, 5)).await;
    open.rollback().await.unwrap();
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_never_arrives_also_not_to_a_savepoint() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    let mut transaction = bed.pool.begin().await.unwrap();
    insert(&mut transaction, "lost").await;
    transaction.rollback().await.unwrap();
    let inner = format!(
        "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; SAVEPOINT t; {}; RELEASE t; COMMIT",
        row("1"),
        row("lost too"),
        row("2"),
        row("3")
    );
    bed.run(inner).await;
    bed.run(format!(
        "BEGIN; {}; PREPARE TRANSACTION '{}'",
        row("4"),
        bed.slot
    ))
    .await;
    bed.insert(&["before the prepared one"]).await;
    bed.run(format!("COMMIT PREPARED '{}'", bed.slot)).await;
    arrive(&target, &["1", "2", "3", "before the prepared one", "4"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_lose_nothing_and_keep_the_order_of_each() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 40;
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    let write = async |writer: u64| {
        for number in 0..EACH {
            let mut transaction = bed.pool.begin().await.unwrap();
            insert(&mut transaction, &format!("{writer}:{number}")).await;
            match number % 5 {
                4 => transaction.rollback().await.unwrap(),
                _ => transaction.commit().await.unwrap(),
            }
        }
    };
    futures_util::future::join_all((0..WRITERS).map(write)).await;
    let expected = WRITERS * EACH / 5 * 4;
    assert!(until(async || target.messages().len() as u64 >= expected).await);
    let arrived = arrived(&target, "rows");
    assert_eq!(arrived.len() as u64, expected);
    for writer in 0..WRITERS {
        let prefix = format!("{writer}:");
        let own: Vec<u64> = arrived
            .iter()
            .filter_map(|it| it.strip_prefix(&prefix)?.parse().ok())
            .collect();
        let expected: Vec<_> = (0..EACH).filter(|number| number % 5 != 4).collect();
        assert_eq!(own, expected, "{writer}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_all_the_room_arrives_whole() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let small = Settings {
        bytes_max: 64 << 10,
        ..Settings::default()
    };
    let relay = Running::with(bed.source(), Arc::new(target.clone()), small);
    bed.following().await;
    bed.run(rows(1, 20_000)).await;
    arrive(&target, &numbers(1, 20_000)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_keeps_no_checkpoints_is_gone_on_with_where_it_was() {
    let (bed, gate) = (Bed::new().await, Gate::forgetful());
    bed.insert(&["1", "2"]).await;
    for round in 1..=4 {
        let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
        let last = 2 + round * 3;
        bed.run(rows(last - 2, last)).await;
        arrive(&gate.target, &numbers(1, last)).await;
        // The slot is told only when the checkpoint is kept in the database.
        let position = bed.position().await;
        assert!(until(async || bed.slots().await == 1 && bed.confirmed().await >= position).await);
        relay.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_table_arrive_when_they_are_wanted() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source().messages(true), &target);
    bed.following().await;
    let emit = |transactional: bool, content: &str| {
        format!("SELECT pg_logical_emit_message({transactional}, 'wharf_outbox', '{content}')")
    };
    let content = r#"{"aggregateid":"a","payload":"two"}"#;
    let mut transaction = bed.pool.begin().await.unwrap();
    insert(&mut transaction, "one").await;
    for sql in [
        emit(true, content),
        emit(true, "nonsense"),
        emit(false, content),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    insert(&mut transaction, "three").await;
    transaction.commit().await.unwrap();
    let mut transaction = bed.pool.begin().await.unwrap();
    let lost = emit(true, content);
    sqlx::raw_sql(AssertSqlSafe(lost))
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    bed.insert(&["four"]).await;
    let all = until(async || target.messages().len() >= 5).await;
    assert!(all && arrived(&target, "rows") == ["one", "two", "three", "four"]);
    assert_eq!(arrived(&target, "aside"), ["nonsense"]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_deleted_and_moved_rows_are_no_new_rows() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    bed.insert(&["1", "2"]).await;
    let all = "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')";
    bed.run(all.replace("{}", &bed.slot)).await;
    bed.run("UPDATE wharf_outbox SET type = 'changed' WHERE aggregateid = 'o-1'")
        .await;
    // As rows are moved from one partition to another.
    bed.run(
        "WITH moved AS (DELETE FROM wharf_outbox RETURNING *) \
         INSERT INTO wharf_outbox OVERRIDING SYSTEM VALUE SELECT * FROM moved",
    )
    .await;
    bed.run("DELETE FROM wharf_outbox").await;
    bed.insert(&["3"]).await;
    arrive(&target, &["1", "2", "3"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_another_shape_and_name_is_read_in_text_and_only_from_the_log() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    bed.run(
        "CREATE SCHEMA \"Shop\"; CREATE DOMAIN kind AS text; \
         CREATE TABLE \"Shop\".events (id uuid, aggregatetype varchar(255), aggregateid text, \
             type kind, payload jsonb, price numeric, \"when\" timestamptz, done bool)",
    )
    .await;
    let insert = |payload: &str| {
        format!(
            "INSERT INTO \"Shop\".events VALUES ('00000000-0000-0000-0000-000000000001', 'a', 'k', \
             't', '\"{payload}\"', 1.50, '2026-01-01 01:00:00+01', true)"
        )
    };
    bed.run(insert("not wanted: it was there before the slot"))
        .await;
    let source = wharf_relay::postgres::PostgresLog::new(&bed.url, "Shop.events", &bed.slot);
    let relay = Running::start(source.unwrap(), &target);
    bed.following().await;
    bed.run(insert("first")).await;
    arrive(&target, &["\"first\""]).await;
    within(relay.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_once_they_are_durable_and_the_days_to_come_get_partitions() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'wharf_outbox'::regclass";
    bed.run(
        "DO $$ BEGIN EXECUTE 'DROP TABLE wharf_outbox_p' \
         || to_char((now() AT TIME ZONE 'UTC')::date + 2, 'YYYYMMDD'); END $$",
    )
    .await;
    let before = bed.number(days).await;
    let source = bed.source().keep(Some(Duration::from_secs(3600)));
    let source = source.maintain_every(Duration::from_millis(20));
    let relay = Running::start(source, &target);
    assert!(until(async || bed.number(days).await > before).await);
    let old = async |payload: &str| {
        bed.run(format!(
            "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, payload, created_at) \
             VALUES (gen_random_uuid(), 'order', 'o-1', 'made', '{payload}', now() - interval '2 days')"
        ))
        .await;
    };
    let left = async || bed.number("SELECT count(*) FROM wharf_outbox").await;
    old("1").await;
    bed.insert(&["2"]).await;
    arrive(&target, &["1", "2"]).await;
    assert!(until(async || left().await == 1).await, "the old one goes");
    target.hold(true);
    old("3").await;
    bed.insert(&["4"]).await;
    // Some rounds of looking for what may go.
    bed.heard(2).await;
    assert_eq!(left().await, 3, "what is not durable stays");
    target.hold(false);
    arrive(&target, &numbers(1, 4)).await;
    assert!(until(async || left().await == 2).await, "now it goes, too");
    relay.stop().await;
}
