//! What kind of trouble the databases' own errors are told to be. The errors are real ones, raised in
//! the database by their code where the trouble itself is hard to make.

use sqlx::{MySql, Pool, Postgres, Sqlite};
use wharf_outbox::{Class, Error, Once, classify, classify_chain};

use crate::support::{
    Server, case, duplicate, files, fresh, handle, hash, inbox, key, sqlite_options,
};

async fn class_of<D: Server>(connection: &mut D::Connection, sql: String) -> Class {
    let error = D::run(connection, sql.clone()).await.expect_err(&sql);
    let class = classify(&error);
    assert_eq!(classify_chain(&error), Some(class));
    class
}

#[test]
fn the_errors_of_postgres_are_told_by_their_state() {
    case(async {
        let pool = Postgres::empty().await;
        for (expected, codes) in [
            (Class::Conflict, &["40001", "40P01", "55P03"][..]),
            (
                Class::Unavailable,
                &[
                    "08006", "53100", "53300", "57P01", "57P02", "57P03", "58030", "25006",
                ],
            ),
            (Class::Other, &["23505", "42601", "57014", "22012", "P0001"]),
        ] {
            for code in codes {
                let sql =
                    format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$");
                let mut connection = pool.acquire().await.unwrap();
                let class = class_of::<Postgres>(&mut connection, sql).await;
                assert_eq!(class, expected, "{code}");
            }
        }
    });
}

#[test]
fn the_errors_of_mysql_are_told_by_their_number() {
    case(async {
        let pool = MySql::empty().await;
        for (expected, numbers) in [
            (Class::Conflict, &[1213, 1205, 1020, 3572][..]),
            (
                Class::Unavailable,
                &[1021, 1040, 1053, 1203, 1226, 1290, 1836, 1927],
            ),
            (Class::Other, &[1062, 1064, 1406, 1048]),
        ] {
            for number in numbers {
                let sql = format!("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}");
                let mut connection = pool.acquire().await.unwrap();
                let class = class_of::<MySql>(&mut connection, sql).await;
                assert_eq!(class, expected, "{number}");
            }
        }
    });
}

/// Claims a message in a transaction whose snapshot is older than the end of another one that handled
/// it.
async fn claim_after_another<D: Server>(pool: Pool<D>, begin: &'static str) -> Result<Once, Error> {
    let mut late = pool.begin_with(begin).await.unwrap();
    let looks = "SELECT COUNT(*) FROM effects".to_owned();
    D::number(&mut late, looks).await.unwrap();
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    inbox().once(&mut late, &key("a"), &hash("a")).await
}

#[test]
fn a_transaction_over_an_old_snapshot_is_told_a_conflict_by_postgres() {
    case(async {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        let claimed = claim_after_another(fresh::<Postgres>().await, begin).await;
        let error = claimed.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error:?}");
    });
}

#[test]
fn a_transaction_over_an_old_snapshot_sees_the_row_on_mysql() {
    case(async {
        match claim_after_another(fresh::<MySql>().await, "BEGIN").await {
            Ok(once) => assert_eq!(once, duplicate("a")),
            // Newer versions of MariaDB refuse instead.
            Err(error) => assert_eq!(error.class(), Class::Conflict, "{error:?}"),
        }
    });
}

#[test]
fn a_transaction_over_an_old_snapshot_is_told_a_conflict_by_sqlite() {
    case(async {
        let claimed = claim_after_another(fresh::<Sqlite>().await, "BEGIN").await;
        let error = claimed.unwrap_err();
        assert_eq!(error.class(), Class::Conflict, "{error:?}");
    });
}

#[test]
fn a_file_that_cannot_be_opened_is_unavailable_and_a_mistake_is_not() {
    case(async {
        let options = sqlite_options(&files().join("no such folder/file"));
        let error = sqlx::SqlitePool::connect_with(options).await.unwrap_err();
        assert_eq!(classify(&error), Class::Unavailable, "{error:?}");
        let pool = Sqlite::empty().await;
        let mut connection = pool.acquire().await.unwrap();
        let class = class_of::<Sqlite>(&mut connection, "SELECT".to_owned()).await;
        assert_eq!(class, Class::Other);
    });
}
