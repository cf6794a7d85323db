//! The removal of old rows.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Pool;
use wharf_outbox::{Inbox, Once, Purged};

use crate::support::{
    Server, case, count, fresh, handle, handle_again, hash, inbox, key, on_every_database,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Claims so many messages, which then are this old.
async fn claim_and_age<D: Server>(pool: &Pool<D>, name: &str, rows: u32, seconds: u32) {
    let mut transaction = pool.begin().await.unwrap();
    for row in 0..rows {
        let key = key(&format!("{name}{row}"));
        let once = inbox().once(&mut transaction, &key, &hash("p")).await;
        assert_eq!(once.unwrap(), Once::First);
    }
    let ago = D::seconds_ago(seconds);
    let sql = format!("UPDATE wharf_inbox SET seen_at = {ago} WHERE message_id LIKE '{name}%'");
    D::run(&mut transaction, sql).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn rows_that_are_too_old_are_removed_in_bounded_batches_and_no_others<D: Server>() {
    let pool = fresh::<D>().await;
    claim_and_age(&pool, "old", 25, 3_700).await;
    claim_and_age(&pool, "recent", 5, 3_500).await;
    assert_eq!(handle(&pool, "new").await.unwrap(), Once::First);
    let mut removed = Vec::new();
    loop {
        let Purged { rows, more } = Inbox::purge(&pool, HOUR, 10).await.unwrap();
        removed.push(rows);
        if !more {
            break;
        }
    }
    assert_eq!(removed, [10, 10, 5]);
    assert_eq!(
        count(&pool, "wharf_inbox", "message_id LIKE 'old%'").await,
        0
    );
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 6);
    let all = Inbox::purge(&pool, Duration::MAX, 10).await.unwrap();
    assert_eq!(
        all,
        Purged {
            rows: 0,
            more: false
        }
    );
}

async fn what_was_purged_is_a_first_again<D: Server>() {
    let pool = fresh::<D>().await;
    claim_and_age(&pool, "a", 1, 3_700).await;
    let purged = Inbox::purge(&pool, HOUR, 10).await.unwrap();
    assert_eq!(
        purged,
        Purged {
            rows: 1,
            more: false
        }
    );
    assert_eq!(handle(&pool, "a0").await.unwrap(), Once::First);
}

async fn the_index_on_seen_at_is_there<D: Server>() {
    let pool = fresh::<D>().await;
    // Creating it fails only because it exists.
    let mut connection = pool.acquire().await.unwrap();
    let again = "CREATE INDEX wharf_inbox_seen_at ON wharf_inbox (seen_at)".to_owned();
    let error = D::run(&mut connection, again)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("exists") || error.contains("Duplicate"),
        "{error}"
    );
}

async fn writers_meet_nothing_while_old_rows_are_removed<D: Server>() {
    let pool = fresh::<D>().await;
    claim_and_age(&pool, "old", 600, 3_700).await;
    let writer = |writer| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for message in 0..30 {
                let once = handle(&pool, &format!("w{writer}-{message}")).await;
                assert_eq!(once.unwrap(), Once::First);
            }
        })
    };
    let writers: Vec<_> = (0..4).map(writer).collect();
    let mut removed = 0;
    while removed < 600 {
        let purged = Inbox::purge(&pool, HOUR, 20).await.unwrap();
        assert!(purged.rows <= 20, "{purged:?}");
        removed += purged.rows;
    }
    for ended in join_all(writers).await {
        ended.unwrap();
    }
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 120);
}

async fn two_that_remove_at_once_remove_everything_once<D: Server>() {
    let pool = fresh::<D>().await;
    claim_and_age(&pool, "old", 200, 3_700).await;
    let purger = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut removed = 0;
            while count(&pool, "wharf_inbox", "1 = 1").await > 0 {
                match Inbox::purge(&pool, HOUR, 7).await {
                    Ok(purged) => removed += purged.rows,
                    Err(error) => assert_eq!(error.class(), wharf_outbox::Class::Conflict),
                }
            }
            removed
        })
    };
    let ended = join_all((0..2).map(purger)).await;
    let removed: u64 = ended.into_iter().map(Result::unwrap).sum();
    assert_eq!(removed, 200);
    assert_eq!(handle_again(&pool, "old1").await, Once::First);
}

/// Not on SQLite, which has one writer at a time.
async fn an_open_claim_and_the_removal_do_not_wait_for_each_other<D: Server>() {
    let pool = fresh::<D>().await;
    claim_and_age(&pool, "old", 5, 3_700).await;
    let mut open = pool.begin().await.unwrap();
    let once = inbox().once(&mut open, &key("a"), &hash("p")).await;
    assert_eq!(once.unwrap(), Once::First);
    // It would wait for longer than a case may take.
    let purged = Inbox::purge(&pool, HOUR, 10).await.unwrap();
    assert_eq!((purged.rows, purged.more), (5, false));
    open.commit().await.unwrap();
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 1);
}

#[test]
fn an_open_claim_and_the_removal_do_not_wait_for_each_other_on_postgres() {
    case(an_open_claim_and_the_removal_do_not_wait_for_each_other::<
        sqlx::Postgres,
    >());
}

#[test]
fn an_open_claim_and_the_removal_do_not_wait_for_each_other_on_mariadb() {
    case(an_open_claim_and_the_removal_do_not_wait_for_each_other::<
        sqlx::MySql,
    >());
}

on_every_database! {
    rows_that_are_too_old_are_removed_in_bounded_batches_and_no_others
    what_was_purged_is_a_first_again
    the_index_on_seen_at_is_there
    writers_meet_nothing_while_old_rows_are_removed
    two_that_remove_at_once_remove_everything_once
}
