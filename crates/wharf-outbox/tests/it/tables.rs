//! How the tables come to be.

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, MySql, Postgres};
use wharf_outbox::{Error, Inbox, Once};

use crate::support::{Server, case, count, fresh, handle, on_every_database};

async fn eight_instances_that_start_at_once_create_the_tables<D: Server>() {
    let pool = D::empty().await;
    let install = |_| {
        let pool = pool.clone();
        tokio::spawn(async move { Inbox::install(&pool).await })
    };
    for ended in join_all((0..8).map(install)).await {
        ended.unwrap().unwrap();
    }
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 0);
    assert_eq!(count(&pool, "wharf_inbox_high_water", "1 = 1").await, 0);
}

async fn creating_the_tables_again_keeps_what_they_hold<D: Server>() {
    let pool = fresh::<D>().await;
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    Inbox::install(&pool).await.unwrap();
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 1);
    let mut connection = pool.acquire().await.unwrap();
    D::run(
        &mut connection,
        "DROP TABLE wharf_inbox_high_water".to_owned(),
    )
    .await
    .unwrap();
    drop(connection);
    Inbox::install(&pool).await.unwrap();
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 1);
    assert_eq!(count(&pool, "wharf_inbox_high_water", "1 = 1").await, 0);
}

async fn the_schema_that_is_shown_creates_the_tables<D: Server>() {
    let pool = D::empty().await;
    let mut connection = pool.acquire().await.unwrap();
    for _ in 0..2 {
        for sql in Inbox::schema::<D>().split_inclusive(';') {
            if !sql.trim().is_empty() {
                D::run(&mut connection, sql.to_owned()).await.unwrap();
            }
        }
    }
    drop(connection);
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 0);
    assert_eq!(count(&pool, "wharf_inbox_high_water", "1 = 1").await, 0);
}

async fn without_its_tables_the_inbox_says_what_to_do<D: Server>() {
    let pool = D::empty().await;
    let error = handle(&pool, "a").await.unwrap_err();
    assert!(matches!(error, Error::NotInstalled(_)), "{error:?}");
    assert!(error.to_string().contains("WHARF-5101"), "{error}");
}

on_every_database! {
    eight_instances_that_start_at_once_create_the_tables
    creating_the_tables_again_keeps_what_they_hold
    the_schema_that_is_shown_creates_the_tables
    without_its_tables_the_inbox_says_what_to_do
}

#[test]
fn where_the_tables_are_there_no_right_to_create_any_is_needed_on_postgres() {
    case(async {
        let pool = fresh::<Postgres>().await;
        let role = format!("reader_{}", std::process::id());
        for sql in [
            format!("CREATE ROLE {role}"),
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
            ),
            format!("ALTER DATABASE {} SET ROLE {role}", database(&pool).await),
        ] {
            sqlx::query(AssertSqlSafe(sql))
                .execute(&pool)
                .await
                .unwrap();
        }
        let options = (*pool.connect_options()).clone();
        let restricted = sqlx::postgres::PgPool::connect_with(options).await.unwrap();
        let refused = sqlx::query("CREATE TABLE more (id int)")
            .execute(&restricted)
            .await;
        assert!(refused.is_err(), "it may create tables");
        Inbox::install(&restricted).await.unwrap();
        assert_eq!(
            handle_with_grant(&pool, &restricted, &role).await,
            Once::First
        );
    });
}

async fn database(pool: &sqlx::PgPool) -> String {
    let name: (String,) = sqlx::query_as("SELECT current_database()::text")
        .fetch_one(pool)
        .await
        .unwrap();
    name.0
}

async fn handle_with_grant(pool: &sqlx::PgPool, restricted: &sqlx::PgPool, role: &str) -> Once {
    let grant = format!("GRANT ALL ON effects TO {role}");
    sqlx::query(AssertSqlSafe(grant))
        .execute(pool)
        .await
        .unwrap();
    handle(restricted, "a").await.unwrap()
}

#[test]
fn the_keys_of_mysql_are_binary_whatever_the_database_compares_by() {
    case(async {
        let pool = fresh::<MySql>().await;
        let sql = "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() \
            AND table_name LIKE 'wharf%' AND collation_name IS NOT NULL";
        let mut connection = pool.acquire().await.unwrap();
        let found = MySql::number(&mut connection, sql.to_owned())
            .await
            .unwrap();
        assert_eq!(found, 0, "columns with a collation");
    });
}
