//! What one consumer after the other is told.

use wharf_message::idempotency::Key;
use wharf_outbox::{Error, Inbox, OUTPUTS_BYTES_MAX, Once};

use crate::support::{
    Server, count, duplicate, effect, fresh, handle, hash, inbox, key, on_every_database, outputs,
};

async fn the_first_is_told_so_and_a_duplicate_is_handed_the_outputs<D: Server>() {
    let pool = fresh::<D>().await;
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    for _ in 0..2 {
        assert_eq!(handle(&pool, "a").await.unwrap(), duplicate("a"));
    }
    assert_eq!(handle(&pool, "b").await.unwrap(), Once::First);
    assert_eq!(count(&pool, "effects", "id = 'a'").await, 1);
}

async fn a_rollback_leaves_nothing<D: Server>() {
    let pool = fresh::<D>().await;
    for explicit in [true, false] {
        let mut transaction = pool.begin().await.unwrap();
        let once = inbox().once(&mut transaction, &key("a"), &hash("a")).await;
        assert_eq!(
            once.unwrap(),
            Once::First,
            "after a rollback it is the first"
        );
        D::run(&mut transaction, effect("a")).await.unwrap();
        let (inbox, outputs) = (inbox(), outputs("a"));
        let kept = inbox
            .record_outputs(&mut transaction, &key("a"), &outputs)
            .await;
        kept.unwrap();
        if explicit {
            transaction.rollback().await.unwrap();
        } else {
            drop(transaction);
        }
    }
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    assert_eq!(count(&pool, "effects", "1 = 1").await, 1);
    assert_eq!(count(&pool, "wharf_inbox", "1 = 1").await, 1);
}

async fn another_payload_under_the_same_id_is_told<D: Server>() {
    let pool = fresh::<D>().await;
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    let mut transaction = pool.begin().await.unwrap();
    let once = inbox()
        .once(&mut transaction, &key("a"), &hash("other"))
        .await;
    let expected = Once::Duplicate {
        outputs: outputs("a"),
        same_payload: false,
    };
    assert_eq!(once.unwrap(), expected);
}

async fn consumers_sources_and_ids_are_told_apart_byte_by_byte<D: Server>() {
    let pool = fresh::<D>().await;
    let long = "x".repeat(100_000);
    let longer = "x".repeat(100_001);
    let texts = [
        "", " ", "a", "A", "a ", " a", "ä", "a\u{308}", "Ä", "ß", "ss", "🦀", "a\0", "a\0b", "\n",
        "'", "\\", "%", "_", "null", "0", "00", "sha256:", &long, &longer,
    ];
    let mut transaction = pool.begin().await.unwrap();
    for id in texts {
        for (consumer, source) in [("c", "s"), (id, "s"), ("c", id)] {
            if (consumer, source) != ("c", "s") && ["c", "s"].contains(&id) {
                continue;
            }
            let (inbox, key) = (Inbox::new(consumer), Key::operation(source, id));
            let once = inbox.once(&mut transaction, &key, &hash("p")).await;
            assert_eq!(
                once.unwrap(),
                Once::First,
                "{consumer:.9?} {source:.9?} {id:.9?}"
            );
            let once = inbox.once(&mut transaction, &key, &hash("p")).await;
            assert!(matches!(once.unwrap(), Once::Duplicate { .. }), "{id:.9?}");
        }
    }
}

async fn outputs_are_kept_only_for_a_claimed_message_and_up_to_a_size<D: Server>() {
    let pool = fresh::<D>().await;
    let mut transaction = pool.begin().await.unwrap();
    let (inbox, key) = (inbox(), key("a"));
    let mut large = outputs("a");
    large[0].1.payload = Some(vec![7; OUTPUTS_BYTES_MAX - 1_000].into());
    let unclaimed = inbox.record_outputs(&mut transaction, &key, &large).await;
    assert!(matches!(unclaimed, Err(Error::NotFirst)), "{unclaimed:?}");
    assert_eq!(
        inbox
            .once(&mut transaction, &key, &hash("a"))
            .await
            .unwrap(),
        Once::First
    );
    inbox
        .record_outputs(&mut transaction, &key, &large)
        .await
        .unwrap();
    let again = inbox
        .once(&mut transaction, &key, &hash("a"))
        .await
        .unwrap();
    assert!(matches!(again, Once::Duplicate { outputs, .. } if outputs == large));
    large[0].1.payload = Some(vec![7; OUTPUTS_BYTES_MAX].into());
    let refused = inbox.record_outputs(&mut transaction, &key, &large).await;
    assert!(
        matches!(refused, Err(Error::OutputsTooLarge { .. })),
        "{refused:?}"
    );
}

async fn damaged_outputs_are_an_error<D: Server>() {
    let pool = fresh::<D>().await;
    assert_eq!(handle(&pool, "a").await.unwrap(), Once::First);
    let mut connection = pool.acquire().await.unwrap();
    let damage = "UPDATE wharf_inbox SET outputs = payload_hash".to_owned();
    D::run(&mut connection, damage).await.unwrap();
    let error = handle(&pool, "a").await.unwrap_err();
    assert!(matches!(error, Error::OutputsDamaged(_)), "{error:?}");
    assert!(error.to_string().contains("WHARF-5105"), "{error}");
}

on_every_database! {
    the_first_is_told_so_and_a_duplicate_is_handed_the_outputs
    a_rollback_leaves_nothing
    another_payload_under_the_same_id_is_told
    consumers_sources_and_ids_are_told_apart_byte_by_byte
    outputs_are_kept_only_for_a_claimed_message_and_up_to_a_size
    damaged_outputs_are_an_error
}
