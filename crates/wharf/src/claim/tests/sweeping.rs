//! What a sweep removes and what it must not, whoever comes in between and wherever it dies.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::faults::{Door, Faulty};
use super::*;

/// Messages that may refer.
#[derive(Default)]
struct Messages(Mutex<Vec<Message>>);

impl Messages {
    fn of(messages: &[Message]) -> Self {
        Self(Mutex::new(messages.to_vec()))
    }
}

impl References for Messages {
    fn visit<'a>(
        &'a self,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>> {
        self.0.lock().expect("no panic").iter().for_each(each);
        Box::pin(async { Ok(()) })
    }
}

/// A topic that lost its beginning after some messages were read.
struct Broken(Vec<Message>);

impl References for Broken {
    fn visit<'a>(
        &'a self,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>> {
        self.0.iter().for_each(each);
        Box::pin(async {
            Err(Unread {
                place: "the topic orders".to_owned(),
                why: "its beginning is gone".to_owned(),
            })
        })
    }
}

/// Does something while references are read.
struct Meanwhile<F>(F);

impl<F: Fn() -> BoxFuture<'static, ()> + Send + Sync> References for Meanwhile<F> {
    fn visit<'a>(
        &'a self,
        _: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>> {
        Box::pin(async move {
            (self.0)().await;
            Ok(())
        })
    }
}

const SETTINGS: SweepSettings = SweepSettings {
    grace: Duration::from_secs(7 * 86_400),
    dry_run: false,
};

fn day(days: i64) -> Timestamp {
    Timestamp::from_millis(days * 86_400_000)
}

async fn put(claims: &Claims, text: &'static str) -> Message {
    claims
        .check_in(Message::new(text), 0)
        .await
        .expect("stored")
}

#[tokio::test]
async fn what_is_referred_to_or_young_stays_and_the_rest_goes() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    let letter = put(&claims, "in a dead letter").await;
    let scheduled = put(&claims, "scheduled").await;
    put(&claims, "nobody's").await;
    store.set_clock(5);
    put(&claims, "young").await;
    store
        .0
        .inner
        .put(Name::Key("readme"), chunked(vec![1], 1))
        .await
        .expect("stored");

    let (letters, schedule) = (
        Messages::of(std::slice::from_ref(&letter)),
        Messages::of(std::slice::from_ref(&scheduled)),
    );
    let places: [&dyn References; 2] = [&letters, &schedule];
    let dry = SweepSettings {
        dry_run: true,
        ..SETTINGS
    };
    let told = sweep(&claims, &places, day(8), dry)
        .await
        .expect("it can read");
    assert_eq!(keys(&store).await.len(), 5);
    let report = sweep(&claims, &places, day(8), SETTINGS)
        .await
        .expect("it can read");
    assert_eq!(report, told);
    assert_eq!((report.objects, report.live), (4, 2));
    assert_eq!(report.deleted, [Digest::of(b"nobody's").key("")]);
    assert_eq!(keys(&store).await.len(), 4);
    assert!(read(&claims, &letter).await.is_ok() && read(&claims, &scheduled).await.is_ok());

    let report = sweep(&claims, &places, day(100), SETTINGS)
        .await
        .expect("it can read");
    assert_eq!(report.deleted, [Digest::of(b"young").key("")]);
    assert!(keys(&store).await.contains(&"readme".to_owned()));
}

#[tokio::test]
async fn nothing_is_deleted_when_anything_that_may_refer_cannot_be_read() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    let kept = put(&claims, "kept").await;
    put(&claims, "nobody's").await;
    let (good, broken) = (Messages::of(&[]), Broken(vec![kept]));
    let refused = sweep(&claims, &[&good, &broken], day(100), SETTINGS).await;
    let error = refused.expect_err("it cannot read").to_string();
    assert!(
        error.contains("orders") && error.starts_with("WHARF-5216"),
        "{error}"
    );
    assert_eq!(keys(&store).await.len(), 2);

    assert_eq!(
        sweep(&claims, &[], day(100), SETTINGS).await,
        Err(SweepError::NothingToRead)
    );
    let hasty = SweepSettings {
        grace: Duration::from_secs(60),
        ..SETTINGS
    };
    assert!(sweep(&claims, &[&good], day(100), hasty).await.is_err());
    assert_eq!(keys(&store).await.len(), 2);
}

#[tokio::test]
async fn a_reference_that_is_not_in_order_keeps_what_it_names() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    let mut odd = put(&claims, "kept").await;
    odd.headers.set(header::CLAIM_SIZE, "many");
    let report = sweep(&claims, &[&Messages::of(&[odd])], day(100), SETTINGS).await;
    assert_eq!(report.expect("it can read").live, 1);
}

#[tokio::test]
async fn a_sweep_touches_its_own_tenant_only() {
    let store = Faulty::new(None);
    let acme = claims(store.clone()).tenant("acme").expect("a good name");
    put(&acme, "nobody's").await;
    put(&claims(store.clone()), "nobody's").await;
    let nothing = Messages::default();
    let report = sweep(&acme, &[&nothing], day(100), SETTINGS)
        .await
        .expect("it can read");
    assert_eq!(
        report.deleted,
        [Digest::of(b"nobody's").key("tenants/acme/")]
    );
    assert_eq!(keys(&store).await, [Digest::of(b"nobody's").key("")]);
}

#[tokio::test]
async fn a_payload_stored_again_after_the_listing_stays() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    put(&claims, "again").await;
    store.set_clock(100);
    let writer = claims.clone();
    let again = Meanwhile(move || {
        let claims = writer.clone();
        Box::pin(async move { drop(put(&claims, "again").await) }) as BoxFuture<'static, ()>
    });
    let report = sweep(&claims, &[&again], day(100), SETTINGS)
        .await
        .expect("it can read");
    assert!(report.deleted.is_empty());
    assert_eq!(keys(&store).await, [Digest::of(b"again").key("")]);
}

#[tokio::test]
async fn a_writer_that_comes_between_the_last_look_and_the_deletion_stores_its_payload_again() {
    for streamed in [false, true] {
        let store = Faulty::new(Some(Door::default()));
        let claims = claims(store.clone());
        put(&claims, "again").await;
        store.set_clock(100);
        let sweeping = tokio::spawn({
            let claims = claims.clone();
            async move { sweep(&claims, &[&Messages::default()], day(100), SETTINGS).await }
        });
        // The sweep has looked for the last time and is about to delete; it goes on when the writer has
        // seen its mark, which is after the writer has stored.
        let door = store.0.door.as_ref().expect("there is one");
        door.reached.notified().await;
        let written = if streamed {
            let once = chunked(b"again".to_vec(), 2);
            claims.check_in_stream(Message::default(), once).await
        } else {
            claims.check_in(Message::new("again"), 0).await
        };
        let report = sweeping.await.expect("no panic").expect("it can read");
        assert_eq!(report.deleted.len(), 1);
        match written {
            Ok(message) => {
                assert!(!streamed);
                assert_eq!(read(&claims, &message).await.expect("it is there"), "again");
            }
            // A stream cannot be read again; whoever has it tries again, and nothing was published.
            Err(error) => assert!(streamed && error.reason().is_none(), "{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_mark_of_a_sweep_that_died_stops_no_writer_for_good() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    let mark = sweep::mark("", &Digest::of(b"again"));
    store
        .put(Name::Key(&mark), chunked(Vec::new(), 1))
        .await
        .expect("stored");
    let message = put(&claims, "again").await;
    assert_eq!(read(&claims, &message).await.expect("it is there"), "again");
    assert_eq!(keys(&store).await, [Digest::of(b"again").key("")]);
}

#[tokio::test]
async fn a_sweep_may_die_anywhere_and_the_next_one_finishes_its_work() {
    for survived in 0..40 {
        let store = Faulty::new(None);
        let claims = claims(store.clone());
        let kept = put(&claims, "kept").await;
        for text in ["one", "two", "three"] {
            put(&claims, text).await;
        }
        let upload = format!("{}1", object::UPLOADS);
        store
            .put(Name::Key(&upload), chunked(vec![1], 1))
            .await
            .expect("stored");
        let references = Messages::of(std::slice::from_ref(&kept));

        store.0.left.store(survived, Ordering::SeqCst);
        let died = sweep(&claims, &[&references], day(100), SETTINGS).await;
        store.0.left.store(i64::MAX, Ordering::SeqCst);
        assert_eq!(read(&claims, &kept).await.expect("it is there"), "kept");

        let again = sweep(&claims, &[&references], day(100), SETTINGS).await;
        assert!(again.is_ok(), "{again:?}");
        let left = keys(&store).await;
        assert_eq!(
            left,
            [Digest::of(b"kept").key("")],
            "after {survived} ({died:?})"
        );
    }
}
