//! High-water marks: one row for each key.

use futures_util::future::join_all;
use sqlx::Pool;
use wharf_outbox::{Advance, Class, Error};

use crate::support::{Server, count, effect, fresh, inbox, on_every_database, outputs};

async fn advance<D: Server>(pool: &Pool<D>, key: &[u8], sequence: i64) -> Advance {
    let mut transaction = pool.begin().await.unwrap();
    let advance = inbox()
        .advance(&mut transaction, "orders", key, sequence)
        .await;
    transaction.commit().await.unwrap();
    advance.unwrap()
}

fn behind(last: i64) -> Advance {
    Advance::Behind {
        last,
        outputs: Vec::new(),
    }
}

async fn only_what_is_beyond_the_last_sequence_of_its_key_is_accepted<D: Server>() {
    let pool = fresh::<D>().await;
    for (key, sequence, expected) in [
        (&b"a"[..], -5, Advance::Accepted),
        (b"a", -5, behind(-5)),
        (b"a", 7, Advance::Accepted),
        (b"a", 6, behind(7)),
        (b"A", 6, Advance::Accepted),
        (b"\xff\0", 1, Advance::Accepted),
        (b"\xff\0", 1, behind(1)),
        (b"", i64::MIN, Advance::Accepted),
        (b"", i64::MIN, behind(i64::MIN)),
        (b"", i64::MAX, Advance::Accepted),
        (b"", i64::MAX, behind(i64::MAX)),
        (b"a", 8, Advance::Accepted),
    ] {
        let context = format!("{} {sequence}", key.escape_ascii());
        assert_eq!(advance(&pool, key, sequence).await, expected, "{context}");
    }
    assert_eq!(count(&pool, "wharf_inbox_high_water", "1 = 1").await, 4);
}

async fn a_rollback_leaves_the_mark_where_it_was<D: Server>() {
    let pool = fresh::<D>().await;
    assert_eq!(advance(&pool, b"a", 1).await, Advance::Accepted);
    let mut transaction = pool.begin().await.unwrap();
    for key in [b"a", b"b"] {
        let advance = inbox().advance(&mut transaction, "orders", key, 9).await;
        assert_eq!(advance.unwrap(), Advance::Accepted);
    }
    transaction.rollback().await.unwrap();
    assert_eq!(advance(&pool, b"a", 2).await, Advance::Accepted);
    assert_eq!(advance(&pool, b"b", 1).await, Advance::Accepted);
}

async fn the_outputs_of_the_last_sequence_of_a_key_are_handed_back<D: Server>() {
    let pool = fresh::<D>().await;
    for sequence in [1, 2] {
        let mut transaction = pool.begin().await.unwrap();
        let inbox = inbox();
        let unclaimed = outputs("x");
        let early = inbox
            .record_sequence_outputs(&mut transaction, "orders", b"a", sequence, &unclaimed)
            .await;
        assert!(matches!(early, Err(Error::NotFirst)), "{early:?}");
        let advance = inbox
            .advance(&mut transaction, "orders", b"a", sequence)
            .await;
        assert_eq!(advance.unwrap(), Advance::Accepted);
        let published = outputs(&sequence.to_string());
        let kept = inbox
            .record_sequence_outputs(&mut transaction, "orders", b"a", sequence, &published)
            .await;
        kept.unwrap();
        transaction.commit().await.unwrap();
        let again = Advance::Behind {
            last: sequence,
            outputs: published,
        };
        assert_eq!(self::advance(&pool, b"a", sequence).await, again);
    }
    assert_eq!(advance(&pool, b"a", 1).await, behind(2));
    assert_eq!(advance(&pool, b"a", 3).await, Advance::Accepted);
    assert_eq!(
        advance(&pool, b"a", 3).await,
        behind(3),
        "it published nothing"
    );
}

async fn racing_consumers_accept_every_sequence_at_most_once<D: Server>() {
    let pool = fresh::<D>().await;
    let one = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for sequence in 1..=20 {
                while let Err(class) = try_one(&pool, sequence).await {
                    assert_eq!(class, Class::Conflict);
                }
            }
        })
    };
    for ended in join_all((0..8).map(one)).await {
        ended.unwrap();
    }
    assert_eq!(advance(&pool, b"a", 20).await, behind(20));
    for sequence in 1..=20 {
        let found = count(&pool, "effects", &format!("id = '{sequence}'")).await;
        assert!(found <= 1, "{sequence} was handled {found} times");
    }
    assert_eq!(count(&pool, "effects", "id = '20'").await, 1);
}

async fn try_one<D: Server>(pool: &Pool<D>, sequence: i64) -> Result<(), Class> {
    let classify = |error: sqlx::Error| wharf_outbox::classify(&error);
    let mut transaction = pool.begin().await.map_err(classify)?;
    let advance = inbox()
        .advance(&mut transaction, "orders", b"a", sequence)
        .await;
    if advance.map_err(|error| error.class())? == Advance::Accepted {
        let effect = D::run(&mut transaction, effect(&sequence.to_string()));
        effect.await.map_err(classify)?;
        transaction.commit().await.map_err(classify)?;
    }
    Ok(())
}

on_every_database! {
    only_what_is_beyond_the_last_sequence_of_its_key_is_accepted
    a_rollback_leaves_the_mark_where_it_was
    the_outputs_of_the_last_sequence_of_a_key_are_handed_back
    racing_consumers_accept_every_sequence_at_most_once
}
