//! The loop itself, over a source of numbers and the target in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep;
use wharf_message::{Code, Message, Timestamp, TopicName};
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{
    Batch, Checkpoint, Column, Columns, Feed, Kind, Place, Relay, Routed, Router, Row, Settings,
    Source, Trouble, Unroutable,
};

const ROWS: u64 = 100;

/// The numbers below [`ROWS`], in batches of three; checks what it is told.
struct Numbers {
    columns: Columns,
    done: watch::Sender<bool>,
}

impl Numbers {
    fn new() -> Self {
        let name = "number".to_owned();
        let kind = Kind::Integer;
        Self {
            columns: Arc::new([Column { name, kind }]),
            done: watch::channel(false).0,
        }
    }

    fn row(&self, number: u64) -> Row {
        Row {
            place: Place {
                commit: number,
                ordinal: 0,
            },
            committed_at: None,
            columns: Arc::clone(&self.columns),
            values: vec![Some(Bytes::from(number.to_string()))],
        }
    }
}

impl Source for Numbers {
    fn describe(&self) -> String {
        "numbers".to_owned()
    }

    fn run(&self, history: Vec<Bytes>, mut feed: Feed) -> BoxFuture<'_, Trouble> {
        async move {
            feed.status().set_running(false);
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let first: u64 = history.last().map_or(0, |last| text(last).parse().unwrap());
            let mut sent = 0;
            for from in (first..ROWS).step_by(3) {
                // On the test's own clock, so that others get their turns.
                sleep(Duration::from_millis(1)).await;
                let next = (from + 3).min(ROWS);
                let rows = (from..next).map(|number| self.row(number)).collect();
                let bytes = Bytes::from(next.to_string());
                let checkpoint = Checkpoint { bytes, whole: true };
                feed.send(Batch { rows, checkpoint }).await.unwrap();
                sent += 1;
                assert!(feed.confirmed() <= sent);
            }
            while feed.confirmed() < sent {
                let confirmed = feed.confirmed_beyond(feed.confirmed()).await.unwrap();
                assert_eq!(confirmed, feed.confirmed());
            }
            self.done.send_replace(true);
            std::future::pending().await
        }
        .boxed()
    }
}

/// Until the target holds so many messages.
async fn reach(target: &MemoryTarget, count: usize) {
    let reached = async {
        while target.messages().len() < count {
            sleep(Duration::from_micros(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached)
        .await
        .unwrap();
}

/// Sends every number to `numbers`, and has none for 7.
struct ToNumbers;

impl Router for ToNumbers {
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable> {
        let payload = row.get("number").unwrap().1.unwrap().clone();
        if payload == "7" {
            return Err(Unroutable("seven is no number here".to_owned()));
        }
        Ok(Some(routed("numbers", payload)))
    }

    fn set_aside(&self, source: &str, row: &Row, reason: &Unroutable) -> Routed {
        let text = format!("{} {reason}", row.place);
        routed(&format!("dlq.{source}"), Bytes::from(text))
    }
}

fn routed(topic: &str, payload: Bytes) -> Routed {
    Routed {
        topic: TopicName::new(topic).unwrap(),
        partition: None,
        message: Message::new(payload),
    }
}

fn zero() -> Timestamp {
    Timestamp::ZERO
}

#[tokio::test(start_paused = true)]
async fn rows_arrive_once_in_order_through_crashes_and_one_that_cannot_go_is_set_aside() {
    let (source, target) = (Arc::new(Numbers::new()), MemoryTarget::default());
    let done = source.done.clone();
    let relay = Relay::new(
        "n",
        source,
        Arc::new(ToNumbers),
        Arc::new(target.clone()),
        zero,
    );
    let mut done = done.subscribe();
    let small = Settings {
        bytes_max: 20,
        ..Settings::default()
    };
    let relay = relay.with_settings(small);
    let status = relay.status();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(relay.run(stopped));
    for at_least in [10, 40, 70] {
        reach(&target, at_least).await;
        target.crash();
    }
    reach(&target, ROWS as usize).await;
    let messages = target.messages();
    let payload = |routed: &Routed| routed.message.payload.clone().unwrap();
    let (good, aside): (Vec<_>, Vec<_>) = messages
        .iter()
        .partition(|routed| routed.topic.as_str() == "numbers");
    let expected: Vec<_> = (0..ROWS)
        .filter(|&number| number != 7)
        .map(|n| n.to_string())
        .collect();
    assert_eq!(good.into_iter().map(payload).collect::<Vec<_>>(), expected);
    assert_eq!(
        aside.into_iter().map(payload).collect::<Vec<_>>(),
        ["7:0 seven is no number here"]
    );
    done.wait_for(|&done| done).await.unwrap();
    assert!(status.view().connects > 1, "the crashes were seen");
    let (_, trouble) = status.view().trouble.unwrap();
    assert_eq!(trouble.code, Code::OUTBOX_TARGET_UNAVAILABLE);
    stop.send_replace(true);
    running.await.unwrap();
}

/// Sends batches without a row, one after the other, and counts them.
struct Markers(watch::Sender<u64>);

/// Ends a source that nothing holds back.
const MARKERS_MAX: u64 = 100_000;

impl Source for Markers {
    fn describe(&self) -> String {
        "markers".to_owned()
    }

    fn run(&self, _history: Vec<Bytes>, feed: Feed) -> BoxFuture<'_, Trouble> {
        async move {
            for _ in 0..MARKERS_MAX {
                feed.send(Batch::default()).await.unwrap();
                self.0.send_modify(|sent| *sent += 1);
            }
            std::future::pending().await
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn batches_without_rows_take_room_too_while_the_target_takes_nothing() {
    let (sent, target) = (watch::channel(0).0, MemoryTarget::default());
    target.hold(true);
    let source = Arc::new(Markers(sent.clone()));
    let relay = Relay::new(
        "m",
        source,
        Arc::new(ToNumbers),
        Arc::new(target.clone()),
        zero,
    );
    let small = Settings {
        bytes_max: 100_000,
        ..Settings::default()
    };
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(relay.with_settings(small).run(stopped));
    // On the test's own clock: passes as soon as nobody can go on.
    sleep(Duration::from_secs(1)).await;
    let held = *sent.borrow();
    assert!((1..1_000).contains(&held), "{held} were sent");
    target.hold(false);
    let mut sent = sent.subscribe();
    sent.wait_for(|&sent| sent > held).await.unwrap();
    stop.send_replace(true);
    running.await.unwrap();
}
