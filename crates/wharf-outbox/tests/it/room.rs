//! Making room: what goes, and that nothing goes which a relay has not confirmed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, MySql, PgPool, Pool, Postgres, Sqlite};
use wharf_message::{Message, TopicName};
use wharf_outbox::{Confirmed, Horizon, Maintained, Outbox, OutboxError};

use crate::outbox::fresh;
use crate::support::{Server, case, count};

const DAY: Duration = Duration::from_secs(86_400);

fn topic() -> TopicName {
    TopicName::new("shop.orders").unwrap()
}

/// Writes so many rows.
async fn publish<D: Server>(pool: &Pool<D>, rows: usize) {
    let all: Vec<_> = (0..rows)
        .map(|nth| (topic(), Message::new("x").with_key(nth.to_string())))
        .collect();
    let mut transaction = pool.begin().await.unwrap();
    Outbox::new()
        .publish_all(&mut transaction, &all)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

async fn run<D: Server>(pool: &Pool<D>, sql: &str) {
    D::run(&mut pool.acquire().await.unwrap(), sql.to_owned())
        .await
        .unwrap();
}

async fn rows<D: Server>(pool: &Pool<D>) -> i64 {
    count(pool, "wharf_outbox", "1 = 1").await
}

async fn maintain<D: Server>(pool: &Pool<D>, confirmed: Confirmed, keep: Duration) -> Maintained {
    Outbox::new().maintain(pool, confirmed, keep).await.unwrap()
}

/// `T14`, `T15`, `T17` of the traps: the rows that go are the oldest ones, none beyond the cursor goes,
/// and each is compared by its own whole position.
async fn rows_go_when_they_are_old_and_confirmed_and_never_beyond_the_cursor<D: Server>(
    age: &'static str,
) {
    let pool = fresh::<D>().await;
    publish(&pool, 2_500).await;
    run(
        &pool,
        &format!("UPDATE wharf_outbox SET created_at = {age} WHERE sequence <= 2400"),
    )
    .await;
    let nothing = maintain(&pool, Confirmed::NOTHING, Duration::ZERO).await;
    assert_eq!(nothing, Maintained::default());
    assert_eq!(
        maintain(&pool, Confirmed::sequence(2_100), DAY)
            .await
            .deleted,
        2_100
    );
    assert_eq!(count(&pool, "wharf_outbox", "sequence <= 2100").await, 0);
    assert_eq!(rows(&pool).await, 400);
    assert_eq!(
        maintain(&pool, Confirmed::sequence(2_450), DAY)
            .await
            .deleted,
        300
    );
    assert_eq!(
        count(&pool, "wharf_outbox", "sequence > 2400").await,
        100,
        "young ones stay"
    );
    let more = maintain(&pool, Confirmed::sequence(i64::MAX), 40 * DAY).await;
    assert_eq!((more.deleted, more.more), (0, false));
    publish(&pool, 1).await;
    assert_eq!(
        count(&pool, "wharf_outbox", "sequence > 2500").await,
        1,
        "numbers go on"
    );
}

#[test]
fn t14_rows_of_mariadb_go_by_their_position_and_never_beyond_the_cursor() {
    case(
        rows_go_when_they_are_old_and_confirmed_and_never_beyond_the_cursor::<MySql>(
            "CURRENT_TIMESTAMP(6) - INTERVAL 30 DAY",
        ),
    );
}

#[test]
fn t14_rows_of_sqlite_go_by_their_position_and_never_beyond_the_cursor() {
    case(
        rows_go_when_they_are_old_and_confirmed_and_never_beyond_the_cursor::<Sqlite>(
            "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-30 days')",
        ),
    );
}

/// Everything that is there. The horizon of the server is held back by the other tests.
async fn here(pool: &PgPool) -> Confirmed {
    let sql = "SELECT pg_current_xact_id()::text";
    let next: String = sqlx::query_scalar(sql).fetch_one(pool).await.unwrap();
    Confirmed::before_transaction(next.parse().unwrap())
}

/// Partitions of days so many days ago, with a row of each.
async fn old_days(pool: &PgPool, days: &[i32]) {
    for day in days {
        let sql = format!(
            "DO $$ DECLARE day date := (now() AT TIME ZONE 'UTC')::date - {day}; BEGIN
                EXECUTE format('CREATE TABLE wharf_outbox_p%s PARTITION OF wharf_outbox FOR VALUES FROM (%L) TO (%L)',
                    to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
                INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, created_at)
                    VALUES (gen_random_uuid(), 't', 'k', '', (day || ' 12:00:00+00')::timestamptz);
            END $$"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(pool)
            .await
            .unwrap();
    }
}

#[test]
fn a_partition_is_dropped_when_all_of_it_is_old_and_confirmed() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let before = here(&pool).await;
        old_days(&pool, &[9, 8, 3]).await;
        publish(&pool, 10).await;
        let held = maintain(&pool, before, 7 * DAY).await;
        assert_eq!((held.dropped.len(), held.unconfirmed.len()), (0, 2));
        assert_eq!(
            rows(&pool).await,
            13,
            "what is not confirmed stays, however old"
        );
        let done = maintain(&pool, here(&pool).await, 7 * DAY).await;
        assert_eq!((done.dropped.len(), done.unconfirmed.len()), (2, 0));
        assert_eq!(
            rows(&pool).await,
            11,
            "what is young stays, though it is confirmed"
        );
        let again = maintain(&pool, here(&pool).await, 7 * DAY).await;
        assert_eq!(again, Maintained::default());
    });
}

/// `T15`: the row is written before the position is taken, and committed after it.
#[test]
fn t15_a_partition_with_a_row_of_a_transaction_that_was_open_is_not_dropped() {
    case(async {
        let pool = fresh::<Postgres>().await;
        old_days(&pool, &[9]).await;
        let late = "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, created_at) \
            VALUES (gen_random_uuid(), 't', 'k', '', now() - interval '9 days')";
        let mut open = pool.begin().await.unwrap();
        sqlx::query(late).execute(&mut *open).await.unwrap();
        // As the horizon says it while that one is open.
        let sql = "SELECT pg_current_xact_id()::text";
        let own: String = sqlx::query_scalar(sql).fetch_one(&mut *open).await.unwrap();
        let confirmed = Confirmed::before_transaction(own.parse().unwrap());
        let held = maintain(&pool, confirmed, 7 * DAY).await;
        assert_eq!((held.dropped.len(), held.busy.len()), (0, 1), "{held:?}");
        open.commit().await.unwrap();
        let held = maintain(&pool, confirmed, 7 * DAY).await;
        assert_eq!(
            (held.dropped.len(), held.unconfirmed.len()),
            (0, 1),
            "{held:?}"
        );
        let done = maintain(&pool, here(&pool).await, 7 * DAY).await;
        assert_eq!(done.dropped.len(), 1);
    });
}

#[test]
fn t17_a_position_confirms_its_transaction_up_to_its_row_and_no_further() {
    case(async {
        let pool = fresh::<Postgres>().await;
        old_days(&pool, &[9]).await;
        let sql = "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, created_at) \
            SELECT gen_random_uuid(), 't', 'k', '', now() - interval '9 days' FROM generate_series(1, 3)";
        sqlx::query(sql).execute(&pool).await.unwrap();
        let (transaction, sequence): (String, i64) = sqlx::query_as(
            "SELECT transaction_id::text, sequence FROM wharf_outbox ORDER BY sequence DESC LIMIT 1",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        let transaction = transaction.parse().unwrap();
        let short = Confirmed::position(transaction, sequence - 1);
        assert_eq!(maintain(&pool, short, 7 * DAY).await.unconfirmed.len(), 1);
        let whole = Confirmed::position(transaction, sequence);
        assert_eq!(maintain(&pool, whole, 7 * DAY).await.dropped.len(), 1);
    });
}

#[test]
fn a_horizon_is_reached_when_the_log_is_confirmed_beyond_what_was_committed() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let mut open = pool.begin().await.unwrap();
        Outbox::new()
            .publish(&mut open, &topic(), &Message::new("open"))
            .await
            .unwrap();
        publish(&pool, 1).await;
        let horizon = Horizon::take(&pool).await.unwrap();
        assert_eq!(horizon.confirmed(horizon.lsn() - 1), None);
        let confirmed = horizon.confirmed(horizon.lsn()).unwrap();
        let sql = "SELECT transaction_id::text FROM wharf_outbox";
        let committed: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        let own: String = sqlx::query_scalar(sql).fetch_one(&mut *open).await.unwrap();
        assert!(confirmed < Confirmed::position(own.parse().unwrap(), i64::MIN));
        assert!(committed.parse::<u64>().unwrap() > own.parse::<u64>().unwrap());
    });
}

/// Removes the partitions of days, so that rows go to the default one.
async fn without_days(pool: &PgPool) {
    let sql = "DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT relname FROM pg_class WHERE relname ~ '^wharf_outbox_p[0-9]{8}$' LOOP
            EXECUTE 'DROP TABLE ' || name;
        END LOOP; END $$";
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

#[test]
fn partitions_are_made_ahead_and_rows_of_the_default_one_are_moved_to_theirs() {
    case(async {
        let pool = fresh::<Postgres>().await;
        assert_eq!(
            maintain(&pool, Confirmed::NOTHING, DAY).await,
            Maintained::default()
        );
        without_days(&pool).await;
        publish(&pool, 7).await;
        assert_eq!(count(&pool, "wharf_outbox_default", "1 = 1").await, 7);
        let ordered = "SELECT string_agg(ROW(id, transaction_id, sequence, created_at)::text, ',' ORDER BY sequence) FROM wharf_outbox";
        let before: String = sqlx::query_scalar(ordered).fetch_one(&pool).await.unwrap();
        let made = maintain(&pool, Confirmed::NOTHING, DAY).await;
        assert_eq!(
            (made.created.len(), made.moved, made.in_default),
            (3, 7, 0),
            "{made:?}"
        );
        let after: String = sqlx::query_scalar(ordered).fetch_one(&pool).await.unwrap();
        assert_eq!(before, after, "rows keep what they are ordered by");
        publish(&pool, 1).await;
        assert_eq!(count(&pool, "wharf_outbox_default", "1 = 1").await, 0);
        assert_eq!(count(&pool, "wharf_outbox", "sequence > 7").await, 1);
    });
}

#[test]
fn who_reads_while_rows_are_moved_sees_every_row_once() {
    case(async {
        let pool = fresh::<Postgres>().await;
        without_days(&pool).await;
        publish(&pool, 5_000).await;
        let moving = AtomicBool::new(true);
        let read = |_| async {
            let mut counts = BTreeSet::new();
            while moving.load(Ordering::Relaxed) {
                let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM wharf_outbox");
                counts.insert(count.persistent(false).fetch_one(&pool).await.unwrap());
            }
            counts
        };
        let moved = async {
            let mut moved = 0;
            while moved == 0 {
                moved = maintain(&pool, Confirmed::NOTHING, DAY).await.moved;
            }
            moving.store(false, Ordering::Relaxed);
            moved
        };
        let (moved, counts) = futures_util::future::join(moved, join_all((0..4).map(read))).await;
        assert_eq!(moved, 5_000);
        assert!(
            counts.iter().all(|counts| counts.iter().eq([&5_000])),
            "{counts:?}"
        );
    });
}

#[test]
fn what_is_moved_does_not_come_to_a_relay_that_reads_the_log_again() {
    case(async {
        let pool = fresh::<Postgres>().await;
        without_days(&pool).await;
        let sql = "CREATE PUBLICATION relay FOR TABLE wharf_outbox WITH (publish_via_partition_root = true)";
        run(&pool, sql).await;
        let slot = format!("moved_{}", std::process::id());
        let create =
            format!("SELECT 1 FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')");
        run(&pool, &create).await;
        publish(&pool, 3).await;
        let made = maintain(&pool, Confirmed::NOTHING, DAY).await;
        assert_eq!(made.moved, 3);
        publish(&pool, 2).await;
        // The first byte of a message of pgoutput is its kind; `I` is an insert.
        let inserts = format!(
            "SELECT count(*) FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'relay') WHERE get_byte(data, 0) = ascii('I')"
        );
        let inserts = Postgres::number(&mut pool.acquire().await.unwrap(), inserts).await;
        run(&pool, &format!("SELECT pg_drop_replication_slot('{slot}')")).await;
        assert_eq!(inserts.unwrap(), 5);
    });
}

#[test]
fn a_lock_of_others_is_not_waited_for_and_the_next_time_it_is_done() {
    case(async {
        let pool = fresh::<Postgres>().await;
        without_days(&pool).await;
        let mut open = pool.begin().await.unwrap();
        Outbox::new()
            .publish(&mut open, &topic(), &Message::new("open"))
            .await
            .unwrap();
        let busy = maintain(&pool, Confirmed::NOTHING, DAY).await;
        assert_eq!((busy.created.len(), busy.busy.len()), (0, 3), "{busy:?}");
        open.commit().await.unwrap();
        let made = maintain(&pool, Confirmed::NOTHING, DAY).await;
        assert_eq!((made.created.len(), made.moved), (3, 1), "{made:?}");
    });
}

#[test]
fn rows_of_past_days_in_the_default_partition_are_deleted_once_they_are_confirmed() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let sql = "INSERT INTO wharf_outbox (id, aggregatetype, aggregateid, type, created_at) \
            SELECT gen_random_uuid(), 't', 'k', '', now() - interval '9 days' FROM generate_series(1, 1200)";
        sqlx::query(sql).execute(&pool).await.unwrap();
        let held = maintain(&pool, Confirmed::NOTHING, DAY).await;
        assert_eq!((held.deleted, held.in_default), (0, 1_200));
        let done = maintain(&pool, here(&pool).await, DAY).await;
        assert_eq!((done.deleted, done.in_default), (1_200, 0));
    });
}

#[test]
fn several_instances_make_room_at_once() {
    case(async {
        let pool = fresh::<Postgres>().await;
        without_days(&pool).await;
        old_days(&pool, &[9, 8]).await;
        publish(&pool, 5).await;
        let confirmed = here(&pool).await;
        let one = |_| async {
            let done = Outbox::new()
                .maintain(&pool, confirmed, 7 * DAY)
                .await
                .unwrap();
            (done.created.len(), done.dropped.len())
        };
        let all = join_all((0..4).map(one)).await;
        assert!(all.iter().map(|done| done.0).sum::<usize>() <= 3, "{all:?}");
        // What one found locked by another is done the next time.
        let last = maintain(&pool, confirmed, 7 * DAY).await;
        assert_eq!(
            (last.unconfirmed.len(), last.busy.len()),
            (0, 0),
            "{last:?}"
        );
        let partitions =
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'wharf_outbox'::regclass";
        let partitions =
            Postgres::number(&mut pool.acquire().await.unwrap(), partitions.to_owned()).await;
        assert_eq!(partitions.unwrap(), 4, "three days and the default");
        assert_eq!(rows(&pool).await, 5);
    });
}

#[test]
fn a_table_without_partitions_is_cleaned_by_deleting() {
    case(async {
        let pool = Postgres::empty().await;
        let sql = "CREATE TABLE wharf_outbox (id uuid, aggregatetype text, aggregateid text, type text, payload bytea, \
            headers jsonb, created_at timestamptz DEFAULT now() - interval '9 days', \
            transaction_id xid8 DEFAULT pg_current_xact_id(), sequence bigserial)";
        run(&pool, sql).await;
        publish(&pool, 3).await;
        let confirmed = here(&pool).await;
        publish(&pool, 2).await;
        assert_eq!(maintain(&pool, confirmed, DAY).await.deleted, 3);
        assert_eq!(rows(&pool).await, 2);
        run(&pool, "ALTER TABLE wharf_outbox DROP COLUMN transaction_id").await;
        let refused = Outbox::new().maintain(&pool, confirmed, DAY).await;
        assert!(
            matches!(refused, Err(OutboxError::OtherTable { .. })),
            "{refused:?}"
        );
    });
}
