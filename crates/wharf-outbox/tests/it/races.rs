//! The same message at several consumers at once.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Barrier;
use wharf_outbox::{Class, Once};

use crate::support::{
    Server, count, duplicate, effect, fresh, handle_again, hash, inbox, key, on_every_database,
    outputs,
};

const RACERS: usize = 8;
const MESSAGES: usize = 12;

async fn eight_connections_on_the_same_messages_have_one_effect_each<D: Server>() {
    let pool = fresh::<D>().await;
    let barrier = Arc::new(Barrier::new(RACERS));
    let racer = |_| {
        let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut firsts = 0;
            for message in 0..MESSAGES {
                barrier.wait().await;
                let id = format!("m{message}");
                match handle_again(&pool, &id).await {
                    Once::First => firsts += 1,
                    other => assert_eq!(other, duplicate(&id)),
                }
            }
            firsts
        })
    };
    let ended = join_all((0..RACERS).map(racer)).await;
    let firsts: usize = ended.into_iter().map(Result::unwrap).sum();
    assert_eq!(firsts, MESSAGES);
    for message in 0..MESSAGES {
        assert_eq!(
            count(&pool, "effects", &format!("id = 'm{message}'")).await,
            1
        );
    }
}

async fn a_claim_that_is_rolled_back_leaves_the_message_to_one_of_those_that_wait<D: Server>() {
    let pool = fresh::<D>().await;
    let mut first = pool.begin().await.unwrap();
    let once = inbox().once(&mut first, &key("a"), &hash("a")).await;
    assert_eq!(once.unwrap(), Once::First);
    let waiting = (1..RACERS).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { handle_again(&pool, "a").await })
    });
    let waiting: Vec<_> = waiting.collect();
    D::run(&mut first, effect("a")).await.unwrap();
    first.rollback().await.unwrap();
    let mut firsts = 0;
    for ended in join_all(waiting).await {
        match ended.unwrap() {
            Once::First => firsts += 1,
            other => assert_eq!(other, duplicate("a")),
        }
    }
    assert_eq!((firsts, count(&pool, "effects", "1 = 1").await), (1, 1));
}

async fn a_claim_that_waits_too_long_is_told_a_conflict<D: Server>() {
    let pool = fresh::<D>().await;
    let mut first = pool.begin().await.unwrap();
    let once = inbox().once(&mut first, &key("a"), &hash("a")).await;
    assert_eq!(once.unwrap(), Once::First);
    let mut connection = pool.acquire().await.unwrap();
    D::run(&mut connection, D::WAIT_SHORTLY.to_owned())
        .await
        .unwrap();
    let mut second = sqlx::Connection::begin(&mut *connection).await.unwrap();
    let error = inbox()
        .once(&mut second, &key("a"), &hash("a"))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Conflict, "{error:?}");
    second.rollback().await.unwrap();
    inbox()
        .record_outputs(&mut first, &key("a"), &outputs("a"))
        .await
        .unwrap();
    first.commit().await.unwrap();
    let mut third = sqlx::Connection::begin(&mut *connection).await.unwrap();
    let once = inbox().once(&mut third, &key("a"), &hash("a")).await;
    assert_eq!(once.unwrap(), duplicate("a"));
}

async fn consumers_that_wait_for_each_other_are_told_a_conflict<D: Server>() {
    let pool = fresh::<D>().await;
    let barrier = Arc::new(Barrier::new(2));
    let one = |ids: [&'static str; 2]| {
        let (pool, barrier) = (pool.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap();
            D::run(&mut connection, D::WAIT_SHORTLY.to_owned())
                .await
                .unwrap();
            let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
            let mut answers = Vec::new();
            for id in ids {
                let once = inbox().once(&mut transaction, &key(id), &hash(id)).await;
                answers.push(once.map_err(|error| error.class()));
                // Both have claimed their first before either asks for its second.
                if answers.len() == 1 {
                    barrier.wait().await;
                }
            }
            answers
        })
    };
    let (a, b) = (one(["a", "b"]), one(["b", "a"]));
    let answers = [a.await.unwrap(), b.await.unwrap()].concat();
    assert!(answers.contains(&Err(Class::Conflict)), "{answers:?}");
    let other = |answer: &_| !matches!(answer, Ok(Once::First) | Err(Class::Conflict));
    // Where the conflict was met is the database's choice; that a transaction that goes on in spite of
    // it is refused (Postgres) is not the inbox's business.
    assert!(!answers.iter().any(other), "{answers:?}");
}

on_every_database! {
    eight_connections_on_the_same_messages_have_one_effect_each
    a_claim_that_is_rolled_back_leaves_the_message_to_one_of_those_that_wait
    a_claim_that_waits_too_long_is_told_a_conflict
    consumers_that_wait_for_each_other_are_told_a_conflict
}
