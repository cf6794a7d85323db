//! What is wrong with a database is told with the statement that mends it, and after that the relay
//! goes on by itself.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{MySql, Pool, Postgres, Sqlite};
use wharf_message::Code;
use wharf_relay::polling::Settings;
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{Trouble, TroubleKind};

use super::databases::{Server, case, fresh, insert, run, texts};
use super::relays::{Running, payloads, settings, start, until};

/// Until it is refused with this code, of which it says this.
pub(super) async fn refused(relay: &Running, code: Code, says: &str) -> Trouble {
    let told = || {
        let (_, trouble) = relay.status.view().trouble?;
        let is = trouble.kind == TroubleKind::Refused && trouble.code == code;
        (is && trouble.to_string().contains(says)).then_some(trouble)
    };
    until(|| told().is_some()).await;
    told().unwrap()
}

/// A relay that is refused until somebody runs the statement that it names, and then moves a row.
async fn mended<D: Server>(pool: &Pool<D>, options: &D::Options, code: Code, says: &str) {
    let target = MemoryTarget::default();
    let relay = start(D::source(options, settings()), target.clone());
    let trouble = refused(&relay, code, says).await;
    run(pool, trouble.fix.unwrap()).await;
    run(pool, insert("a0", "a0:1")).await;
    until(|| !target.messages().is_empty()).await;
    assert_eq!(payloads(&target), ["a0:1"]);
    relay.stop().await;
}

/// What a relay without a chance says in the end.
async fn hopeless<D: Server>(options: &D::Options, settings: Settings, code: Code, says: &str) {
    let relay = start(D::source(options, settings), MemoryTarget::default());
    refused(&relay, code, says).await;
    relay.stop().await;
}

#[test]
fn a_user_or_database_that_postgres_does_not_know_is_named() {
    case(async {
        let (_pool, options) = fresh::<Postgres>().await;
        let stranger = options.clone().username("stranger");
        hopeless::<Postgres>(
            &stranger,
            settings(),
            Code::OUTBOX_ACCESS_REFUSED,
            "stranger",
        )
        .await;
        let nowhere = options.database("nowhere");
        let code = Code::OUTBOX_SOURCE_UNAVAILABLE;
        hopeless::<Postgres>(&nowhere, settings(), code, "nowhere").await;
    });
}

#[test]
fn each_grant_that_postgres_lacks_is_named() {
    case(async {
        let (pool, options) = fresh::<Postgres>().await;
        let user = format!("relay{}", uuid::Uuid::new_v4().simple());
        run(&pool, format!("CREATE ROLE {user} LOGIN")).await;
        run(&pool, insert("a0", "a0:1")).await;
        let target = MemoryTarget::default();
        let limited = options.username(&user);
        let relay = start(Postgres::source(&limited, settings()), target.clone());
        let code = Code::OUTBOX_ACCESS_REFUSED;
        let trouble = refused(&relay, code, "wharf_outbox_cursor").await;
        run(&pool, trouble.fix.unwrap()).await;
        let trouble = refused(&relay, code, "GRANT SELECT ON \"wharf_outbox\"").await;
        run(&pool, trouble.fix.unwrap()).await;
        until(|| target.messages().len() == 1).await;
        relay.stop().await;
    });
}

#[test]
fn a_column_of_postgres_with_another_type_is_named() {
    case(async {
        let (pool, options) = fresh::<Postgres>().await;
        let other = "ALTER TABLE wharf_outbox DROP COLUMN transaction_id;
            ALTER TABLE wharf_outbox ADD COLUMN transaction_id bigint NOT NULL DEFAULT 0";
        run(&pool, other).await;
        let code = Code::OUTBOX_TABLE_WRONG;
        mended(
            &pool,
            &options,
            code,
            "transaction_id of the table wharf_outbox is bigint",
        )
        .await;
        run(&pool, "ALTER TABLE wharf_outbox DROP COLUMN type").await;
        hopeless::<Postgres>(&options, settings(), code, "no column type").await;
    });
}

#[test]
fn a_checkpoint_of_another_server_is_refused() {
    case(async {
        let (pool, options) = fresh::<Postgres>().await;
        let sql = "INSERT INTO wharf_outbox_cursor (source, checkpoint)
            VALUES ('shop', '\\x50'::bytea || '\\x01'::bytea || convert_to('17 5:9:', 'UTF8'))";
        run(&pool, sql).await;
        let code = Code::OUTBOX_OTHER_DATABASE;
        hopeless::<Postgres>(&options, settings(), code, "system identifier").await;
        let ahead = "UPDATE wharf_outbox_cursor SET checkpoint = '\\x50'::bytea || '\\x01'::bytea
            || convert_to('0 5:9000000000000:', 'UTF8')";
        run(&pool, ahead).await;
        hopeless::<Postgres>(&options, settings(), code, "numbered below").await;
    });
}

#[test]
fn a_wrong_password_and_missing_grants_of_mariadb_are_named() {
    case(async {
        let (pool, options) = fresh::<MySql>().await;
        let user = format!("r{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        run(&pool, format!("CREATE USER '{user}' IDENTIFIED BY 'right'")).await;
        let limited = options.username(&user).password("wrong");
        let code = Code::OUTBOX_ACCESS_REFUSED;
        hopeless::<MySql>(&limited, settings(), code, &user).await;
        let database = texts(&pool, "SELECT DATABASE()").await.remove(0);
        run(
            &pool,
            format!("GRANT INSERT ON {database}.aggregates TO '{user}'"),
        )
        .await;
        run(&pool, insert("a0", "a0:1")).await;
        let target = MemoryTarget::default();
        let limited = limited.password("right");
        let relay = start(MySql::source(&limited, settings()), target.clone());
        for says in ["wharf_outbox_cursor", "GRANT SELECT ON `wharf_outbox`"] {
            let trouble = refused(&relay, code, says).await;
            run(&pool, trouble.fix.unwrap()).await;
        }
        until(|| target.messages().len() == 1).await;
        relay.stop().await;
    });
}

#[test]
fn a_table_of_mariadb_without_transactions_or_numbers_is_refused() {
    case(async {
        let (pool, options) = fresh::<MySql>().await;
        let code = Code::OUTBOX_TABLE_WRONG;
        run(&pool, "ALTER TABLE wharf_outbox ENGINE = MyISAM").await;
        mended(&pool, &options, code, "no transactions").await;
        run(
            &pool,
            "ALTER TABLE wharf_outbox MODIFY COLUMN sequence BIGINT UNSIGNED NOT NULL",
        )
        .await;
        hopeless::<MySql>(&options, settings(), code, "AUTO_INCREMENT").await;
    });
}

#[test]
fn a_table_of_mariadb_whose_numbers_begin_anew_is_refused() {
    case(async {
        let (pool, options) = fresh::<MySql>().await;
        let target = MemoryTarget::default();
        let relay = start(MySql::source(&options, settings()), target.clone());
        for number in 1..=3 {
            run(&pool, insert("a0", format!("a0:{number}"))).await;
        }
        until(|| target.messages().len() == 3).await;
        run(&pool, "TRUNCATE wharf_outbox").await;
        refused(&relay, Code::OUTBOX_OTHER_DATABASE, "numbers").await;
        relay.stop().await;
    });
}

/// Rows on both sides of a number that was rolled back are removed once the hole is closed.
async fn closes_holes(sees_transactions: bool) {
    let (pool, mut options) = fresh::<MySql>().await;
    if !sees_transactions {
        let user = format!("r{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let database = texts(&pool, "SELECT DATABASE()").await.remove(0);
        run(&pool, format!("CREATE USER '{user}'")).await;
        run(&pool, format!("GRANT ALL ON {database}.* TO '{user}'")).await;
        options = options.username(&user);
    }
    let mut settings = settings();
    settings.keep = Some(Duration::ZERO);
    settings.maintain_every = Duration::from_millis(50);
    settings.insert_max = Duration::from_secs(2);
    let target = MemoryTarget::default();
    let relay = start(MySql::source(&options, settings), target.clone());
    run(&pool, insert("a0", "a0:1")).await;
    let mut open = pool.acquire().await.unwrap();
    MySql::run(&mut open, format!("BEGIN; {}", insert("a1", "a1:1")))
        .await
        .unwrap();
    run(&pool, format!("BEGIN; {}; ROLLBACK", insert("a2", "a2:1"))).await;
    run(&pool, insert("a0", "a0:2")).await;
    until(|| target.messages().len() == 2).await;
    // Both are holes; the first one is no less one for being open for long.
    MySql::run(&mut open, "COMMIT".to_owned()).await.unwrap();
    until(|| target.messages().len() == 3).await;
    let left = "SELECT CAST(payload AS CHAR(20)) FROM wharf_outbox";
    while !texts(&pool, left).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(payloads(&target), ["a0:1", "a0:2", "a1:1"]);
    relay.stop().await;
}

#[test]
fn numbers_that_were_rolled_back_are_given_up_and_those_of_open_transactions_are_not() {
    case(closes_holes(true));
}

#[test]
fn without_the_right_to_see_transactions_numbers_are_given_up_later() {
    case(closes_holes(false));
}

#[test]
fn a_table_of_sqlite_that_gives_numbers_again_and_a_file_that_is_missing_are_told() {
    case(async {
        let (pool, options) = fresh::<Sqlite>().await;
        let other =
            "DROP TABLE wharf_outbox; CREATE TABLE wharf_outbox (sequence INTEGER PRIMARY KEY,
            id, aggregatetype, aggregateid, type, payload)";
        run(&pool, other).await;
        let code = Code::OUTBOX_TABLE_WRONG;
        hopeless::<Sqlite>(&options, settings(), code, "AUTOINCREMENT").await;
        let nowhere = SqliteConnectOptions::new().filename("/nonexistent/outbox.db");
        let relay = start(
            Sqlite::source(&nowhere, settings()),
            MemoryTarget::default(),
        );
        until(|| relay.status.view().trouble.is_some()).await;
        let (_, trouble) = relay.status.view().trouble.unwrap();
        assert_eq!(trouble.code, Code::OUTBOX_SOURCE_UNAVAILABLE, "{trouble}");
        relay.stop().await;
    });
}

#[test]
fn a_file_of_sqlite_whose_numbers_begin_anew_is_refused() {
    case(async {
        let (pool, options) = fresh::<Sqlite>().await;
        let target = MemoryTarget::default();
        let relay = start(Sqlite::source(&options, settings()), target.clone());
        for number in 1..=3 {
            run(&pool, insert("a0", format!("a0:{number}"))).await;
        }
        until(|| target.messages().len() == 3).await;
        run(
            &pool,
            "DELETE FROM wharf_outbox; DELETE FROM sqlite_sequence",
        )
        .await;
        refused(&relay, Code::OUTBOX_OTHER_DATABASE, "numbers").await;
        relay.stop().await;
    });
}
