//! Rows of the outbox: what is in them, when there are any, and what is refused.

use std::future::Future;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySql, Pool, Postgres, Row as _, Sqlite, Transaction};
use wharf_message::{Message, Timestamp, TopicName};
use wharf_outbox::{Class, Outbox, OutboxError, TableName};

use crate::support::{Server, case, count, on_every_database};

/// A row as it is read back with SQL.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub id: String,
    pub topic: String,
    pub key: String,
    pub kind: String,
    pub payload: Option<Vec<u8>>,
    pub headers: Option<Value>,
}

/// A database whose rows can be read back.
pub trait Reads: Server {
    /// All rows, in the order of their sequence.
    fn rows(pool: &Pool<Self>) -> impl Future<Output = Vec<Stored>> + Send;
}

macro_rules! reads {
    ($database:ty, $sql:literal) => {
        impl Reads for $database {
            async fn rows(pool: &Pool<Self>) -> Vec<Stored> {
                let rows = sqlx::query($sql).fetch_all(pool).await.unwrap();
                let stored = |row: <Self as sqlx::Database>::Row| Stored {
                    id: row.get(0),
                    topic: row.get(1),
                    key: row.get(2),
                    kind: row.get(3),
                    payload: row.get(4),
                    headers: row
                        .get::<Option<String>, _>(5)
                        .map(|headers| serde_json::from_str(&headers).unwrap()),
                };
                rows.into_iter().map(stored).collect()
            }
        }
    };
}
reads!(
    Postgres,
    "SELECT id::text, aggregatetype, aggregateid, type, payload, headers::text FROM wharf_outbox ORDER BY sequence"
);
reads!(
    MySql,
    "SELECT id, aggregatetype, aggregateid, type, payload, headers FROM wharf_outbox ORDER BY sequence"
);
reads!(
    Sqlite,
    "SELECT id, aggregatetype, aggregateid, type, payload, headers FROM wharf_outbox ORDER BY sequence"
);

pub const ID: &str = "0190b0a5-3b6f-7c11-8000-000000000001";

/// A new database with an outbox.
pub async fn fresh<D: Server>() -> Pool<D> {
    let pool = D::empty().await;
    Outbox::new().install(&pool).await.unwrap();
    pool
}

pub fn topic() -> TopicName {
    TopicName::new("shop.orders").unwrap()
}

fn message() -> Message {
    Message::new(r#"{"order":"o-1"}"#)
        .with_key("o-1")
        .with_header("ce_id", ID)
        .with_header("ce_type", "shop.order.placed")
        .with_header("ce_source", "shop")
}

/// Writes a message, which is to succeed.
async fn written<D: Server>(
    outbox: &Outbox,
    transaction: &mut Transaction<'_, D>,
    message: &Message,
) {
    let written = outbox.publish(transaction, &topic(), message).await;
    written.unwrap();
}

async fn a_committed_message_is_one_row_with_its_columns<D: Reads>() {
    let pool = fresh::<D>().await;
    let mut transaction = pool.begin().await.unwrap();
    let outbox = Outbox::new();
    written(&outbox, &mut transaction, &message()).await;
    assert_eq!(
        count(&pool, "wharf_outbox", "1 = 1").await,
        0,
        "nobody sees it before"
    );
    transaction.commit().await.unwrap();
    let stored = Stored {
        id: ID.to_owned(),
        topic: "shop.orders".to_owned(),
        key: "o-1".to_owned(),
        kind: "shop.order.placed".to_owned(),
        payload: Some(br#"{"order":"o-1"}"#.to_vec()),
        headers: Some(json!({"ce_source": "shop"})),
    };
    assert_eq!(D::rows(&pool).await, [stored]);
}

async fn a_transaction_that_is_rolled_back_leaves_no_row<D: Reads>() {
    let pool = fresh::<D>().await;
    let outbox = Outbox::new();
    let mut transaction = pool.begin().await.unwrap();
    written(&outbox, &mut transaction, &message()).await;
    transaction.rollback().await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    written(&outbox, &mut transaction, &message()).await;
    drop(transaction);
    assert!(D::rows(&pool).await.is_empty());
}

async fn a_savepoint_that_is_rolled_back_leaves_no_row<D: Reads>() {
    let pool = fresh::<D>().await;
    let outbox = Outbox::new();
    let mut transaction = pool.begin().await.unwrap();
    written(&outbox, &mut transaction, &message().with_key("before")).await;
    for (key, keep) in [("undone", false), ("kept", true)] {
        let mut savepoint = transaction.begin().await.unwrap();
        written(&outbox, &mut savepoint, &message().with_key(key)).await;
        if keep {
            savepoint.commit().await.unwrap();
        } else {
            savepoint.rollback().await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
    let keys: Vec<_> = D::rows(&pool)
        .await
        .into_iter()
        .map(|row| row.key)
        .collect();
    assert_eq!(keys, ["before", "kept"]);
}

async fn texts_that_look_like_sql_and_any_bytes_are_kept_as_they_are<D: Reads>() {
    let pool = fresh::<D>().await;
    let hostile = r#"'); DROP TABLE wharf_outbox; -- \ "ü" `$1 %s 🦀"#;
    let message = Message::new(vec![0, 0xff, b'\'', b'"'])
        .with_key(hostile)
        .with_header("ce_type", hostile)
        .with_header(hostile, hostile)
        .with_header("ce_id", hostile);
    let tombstone = Message::default().with_key("k");
    let mut transaction = pool.begin().await.unwrap();
    let outbox = Outbox::new();
    written(&outbox, &mut transaction, &message).await;
    written(&outbox, &mut transaction, &tombstone).await;
    transaction.commit().await.unwrap();
    let rows = D::rows(&pool).await;
    assert_eq!((&*rows[0].key, &*rows[0].kind), (hostile, hostile));
    assert_eq!(
        rows[0].payload.as_deref(),
        Some(&[0, 0xff, b'\'', b'"'][..])
    );
    assert_eq!(
        rows[0].headers,
        Some(json!({hostile: hostile, "ce_id": hostile}))
    );
    assert_ne!(rows[0].id, hostile);
    assert_eq!((&rows[1].payload, &rows[1].headers), (&None, &None));
}

async fn many_messages_are_written_in_their_order<D: Reads>() {
    let pool = fresh::<D>().await;
    // More than one statement takes, by number and by size.
    let mut messages: Vec<_> = (0..1_203)
        .map(|nth| (topic(), Message::new("x").with_key(nth.to_string())))
        .collect();
    for nth in 1_203..1_206 {
        let large = Message::new(vec![b'x'; 3 << 20]).with_key(nth.to_string());
        messages.push((topic(), large));
    }
    let mut transaction = pool.begin().await.unwrap();
    let outbox = Outbox::new();
    outbox
        .publish_all(&mut transaction, &messages)
        .await
        .unwrap();
    outbox.publish_all(&mut transaction, &[]).await.unwrap();
    transaction.commit().await.unwrap();
    let keys: Vec<_> = D::rows(&pool)
        .await
        .into_iter()
        .map(|row| row.key)
        .collect();
    let expected: Vec<_> = (0..1_206).map(|nth| nth.to_string()).collect();
    assert_eq!(keys, expected);
}

async fn of_several_messages_none_is_written_when_one_cannot_be_kept<D: Reads>() {
    let pool = fresh::<D>().await;
    let wrong = Message::new("x").with_header("tenant", vec![0xff]);
    let mut transaction = pool.begin().await.unwrap();
    let all = [(topic(), message()), (topic(), wrong)];
    let refused = Outbox::new().publish_all(&mut transaction, &all).await;
    assert!(
        matches!(refused, Err(OutboxError::Message { .. })),
        "{refused:?}"
    );
    transaction.commit().await.unwrap();
    assert!(D::rows(&pool).await.is_empty());
}

async fn a_scheduled_message_says_when_it_is_due<D: Reads>() {
    let pool = fresh::<D>().await;
    let at = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let outbox = Outbox::new();
    outbox
        .schedule(&mut transaction, at, &topic(), &message())
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let headers = D::rows(&pool).await.remove(0).headers.unwrap();
    assert_eq!(headers["wharf-deliver-at"], at.to_rfc3339());
}

async fn eight_instances_that_start_at_once_create_the_outbox<D: Server>() {
    let pool = D::empty().await;
    let install = |_| {
        let pool = pool.clone();
        tokio::spawn(async move { Outbox::new().install(&pool).await })
    };
    for ended in join_all((0..8).map(install)).await {
        ended.unwrap().unwrap();
    }
    assert_eq!(count(&pool, "wharf_outbox", "1 = 1").await, 0);
    assert_eq!(count(&pool, "wharf_outbox_cursor", "1 = 1").await, 0);
}

async fn creating_the_outbox_again_keeps_its_rows_and_adds_what_is_missing<D: Reads>() {
    let pool = fresh::<D>().await;
    let outbox = Outbox::new();
    let mut transaction = pool.begin().await.unwrap();
    written(&outbox, &mut transaction, &message()).await;
    transaction.commit().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    D::run(&mut connection, "DROP TABLE wharf_outbox_cursor".to_owned())
        .await
        .unwrap();
    drop(connection);
    outbox.install(&pool).await.unwrap();
    assert_eq!(D::rows(&pool).await.len(), 1);
    assert_eq!(count(&pool, "wharf_outbox_cursor", "1 = 1").await, 0);
}

async fn a_table_of_another_name_is_another_outbox<D: Reads>() {
    let pool = fresh::<D>().await;
    let name: TableName = "Order-Events".parse().unwrap();
    let outbox = Outbox::new().table(name.clone());
    outbox.install(&pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    written(&outbox, &mut transaction, &message()).await;
    transaction.commit().await.unwrap();
    assert_eq!(count(&pool, &name.quoted::<D>(), "1 = 1").await, 1);
    assert!(D::rows(&pool).await.is_empty());
}

async fn without_its_table_the_outbox_says_what_to_do<D: Server>() {
    let pool = D::empty().await;
    let mut transaction = pool.begin().await.unwrap();
    let refused = Outbox::new()
        .publish(&mut transaction, &topic(), &message())
        .await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error, OutboxError::NotInstalled { .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Other);
    for part in [
        "WHARF-5301",
        "wharf_outbox",
        "Outbox::install",
        "wharf outbox init",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

async fn a_table_that_lacks_a_column_is_told<D: Server>() {
    let pool = D::empty().await;
    let sql = "CREATE TABLE wharf_outbox (id VARCHAR(36), payload VARCHAR(9))".to_owned();
    D::run(&mut pool.acquire().await.unwrap(), sql)
        .await
        .unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let refused = Outbox::new()
        .publish(&mut transaction, &topic(), &message())
        .await;
    let error = refused.unwrap_err();
    assert!(matches!(error, OutboxError::OtherTable { .. }), "{error:?}");
    assert!(error.to_string().contains("WHARF-5302"), "{error}");
}

on_every_database! {
    a_committed_message_is_one_row_with_its_columns
    a_transaction_that_is_rolled_back_leaves_no_row
    a_savepoint_that_is_rolled_back_leaves_no_row
    texts_that_look_like_sql_and_any_bytes_are_kept_as_they_are
    many_messages_are_written_in_their_order
    of_several_messages_none_is_written_when_one_cannot_be_kept
    a_scheduled_message_says_when_it_is_due
    eight_instances_that_start_at_once_create_the_outbox
    creating_the_outbox_again_keeps_its_rows_and_adds_what_is_missing
    a_table_of_another_name_is_another_outbox
    without_its_table_the_outbox_says_what_to_do
    a_table_that_lacks_a_column_is_told
}

#[test]
fn rows_of_a_transaction_know_it_and_are_in_the_partition_of_their_day() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let mut transaction = pool.begin().await.unwrap();
        let both = [(topic(), message()), (topic(), message())];
        let outbox = Outbox::new();
        outbox.publish_all(&mut transaction, &both).await.unwrap();
        let sql = "SELECT count(*) FROM wharf_outbox WHERE transaction_id = pg_current_xact_id() \
            AND tableoid::regclass::text = 'wharf_outbox_p' || to_char(created_at AT TIME ZONE 'UTC', 'YYYYMMDD')";
        let found = Postgres::number(&mut transaction, sql.to_owned())
            .await
            .unwrap();
        assert_eq!(found, 2);
    });
}

#[test]
fn an_outbox_in_another_schema_has_everything_there() {
    case(async {
        let pool = Postgres::empty().await;
        let outbox = Outbox::new().table("shop.events".parse().unwrap());
        let refused = outbox.install(&pool).await.unwrap_err();
        assert!(
            matches!(refused, OutboxError::NotInstalled { .. }),
            "{refused:?}"
        );
        for sql in ["CREATE SCHEMA shop", &outbox.schema::<Postgres>()] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&pool)
                .await
                .unwrap();
        }
        outbox.install(&pool).await.unwrap();
        let sql = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
            WHERE n.nspname = 'shop' AND (c.relname ~ '^events(_p[0-9]{8}|_default|_position)?$' \
            OR c.relname = 'wharf_outbox_cursor')";
        let found = Postgres::number(&mut pool.acquire().await.unwrap(), sql.to_owned()).await;
        // The table, three days, the default partition, the index, the cursors.
        assert_eq!(found.unwrap(), 7);
    });
}

#[test]
fn where_the_outbox_is_there_the_right_to_insert_is_all_that_is_needed() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let role = format!("shop_{}", std::process::id());
        let database: String = sqlx::query_scalar("SELECT current_database()::text")
            .fetch_one(&pool)
            .await
            .unwrap();
        for sql in [
            format!("CREATE ROLE {role}"),
            format!("ALTER DATABASE {database} SET ROLE {role}"),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&pool)
                .await
                .unwrap();
        }
        let options = (*pool.connect_options()).clone();
        let restricted = sqlx::PgPool::connect_with(options).await.unwrap();
        let outbox = Outbox::new();
        let mut transaction = restricted.begin().await.unwrap();
        let refused = outbox.publish(&mut transaction, &topic(), &message()).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("WHARF-5304"), "{error}");
        assert!(
            error.contains(r#"GRANT INSERT ON "wharf_outbox""#),
            "{error}"
        );
        transaction.rollback().await.unwrap();
        let grant = format!("GRANT INSERT ON wharf_outbox TO {role}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant))
            .execute(&pool)
            .await
            .unwrap();
        let mut transaction = restricted.begin().await.unwrap();
        written(&outbox, &mut transaction, &message()).await;
        transaction.commit().await.unwrap();
        outbox.install(&restricted).await.unwrap_err();
        let grant = format!("GRANT SELECT ON wharf_outbox, wharf_outbox_cursor TO {role}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant))
            .execute(&pool)
            .await
            .unwrap();
        outbox.install(&restricted).await.unwrap();
        assert_eq!(Postgres::rows(&pool).await.len(), 1);
    });
}

#[test]
fn a_name_that_leaves_no_room_for_partitions_is_refused() {
    case(async {
        let pool = Postgres::empty().await;
        let outbox = Outbox::new().table("x".repeat(54).parse().unwrap());
        let refused = outbox.install(&pool).await.unwrap_err();
        assert!(
            matches!(refused, OutboxError::NameTooLong(_)),
            "{refused:?}"
        );
        let outbox = Outbox::new().table("x".repeat(53).parse().unwrap());
        outbox.install(&pool).await.unwrap();
    });
}

#[test]
fn a_message_in_the_log_alone_is_there_when_its_transaction_is_committed() {
    case(async {
        let pool = Postgres::empty().await;
        let slot = format!("emitted_{}", std::process::id());
        let create = "SELECT FROM pg_create_logical_replication_slot($1, 'test_decoding')";
        sqlx::query(create)
            .bind(&slot)
            .execute(&pool)
            .await
            .unwrap();
        for (key, keep) in [("undone", false), ("kept", true)] {
            let mut transaction = pool.begin().await.unwrap();
            wharf_outbox::emit(&mut transaction, &topic(), &message().with_key(key))
                .await
                .unwrap();
            if keep {
                transaction.commit().await.unwrap();
            }
        }
        let changes = "SELECT data FROM pg_logical_slot_get_changes($1, NULL, NULL) WHERE data LIKE 'message:%'";
        let read = sqlx::query_scalar(changes)
            .bind(&slot)
            .fetch_all(&pool)
            .await;
        let drop = "SELECT pg_drop_replication_slot($1)";
        sqlx::query(drop).bind(&slot).execute(&pool).await.unwrap();
        let changes: Vec<String> = read.unwrap();
        assert_eq!(changes.len(), 1, "{changes:?}");
        let (about, content) = changes[0].split_once(" content:").unwrap();
        assert!(
            about.starts_with("message: transactional: 1 prefix: wharf_outbox,"),
            "{about}"
        );
        let content: Value = serde_json::from_str(content).unwrap();
        let expected = json!({
            "id": ID, "aggregatetype": "shop.orders", "aggregateid": "kept", "type": "shop.order.placed",
            "payload": r#"{"order":"o-1"}"#, "headers": {"ce_source": "shop"},
        });
        assert_eq!(content, expected);
    });
}
