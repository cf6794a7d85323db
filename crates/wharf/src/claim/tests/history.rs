//! Topics as places that refer: all of them are read, also while messages move between them, and what
//! cannot be read is told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use wharf_message::transport::Error;
use wharf_message::{GroupName, TopicName};

use super::*;

/// What is kept of topics of one partition each: the first offset, and the payloads from there on.
type Kept = BTreeMap<String, (i64, Vec<String>)>;
/// What happens before a topic is read for the n-th time.
type Meanwhile = fn(&mut Kept, &str, u32);

/// Topics that change while they are read.
struct Topics {
    kept: Mutex<(Kept, BTreeMap<String, u32>)>,
    meanwhile: Meanwhile,
}

impl Topics {
    fn of(topics: &[(&str, &str)]) -> Self {
        let topic =
            |(name, payload): &(&str, &str)| ((*name).to_owned(), (0, vec![(*payload).to_owned()]));
        Self {
            kept: Mutex::new((topics.iter().map(topic).collect(), BTreeMap::new())),
            meanwhile: |_, _, _| {},
        }
    }
}

/// Copies everything of a topic to another one and removes it where it was.
fn move_all(kept: &mut Kept, from: &str, to: &str) {
    let (first, payloads) = kept.get_mut(from).expect("it is there");
    *first += payloads.len() as i64;
    let payloads = std::mem::take(payloads);
    kept.entry(to.to_owned()).or_default().1.extend(payloads);
}

impl TopicHistory for Topics {
    fn topics(&self) -> BoxFuture<'_, Result<Vec<TopicName>, Error>> {
        Box::pin(async {
            let kept = self.kept.lock().expect("no panic");
            let names = kept.0.keys().map(|name| TopicName::new(name));
            Ok(names.collect::<Result<_, _>>().expect("valid"))
        })
    }

    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, Error>> {
        Box::pin(async move {
            if topic.as_str() == "denied" {
                return Err(Error::Denied("no access".to_owned()));
            }
            let kept = self.kept.lock().expect("no panic");
            Ok(kept.0.get(topic.as_str()).map(|(first, payloads)| {
                let end = first + payloads.len() as i64;
                vec![Extent {
                    partition: 0,
                    first: *first,
                    end,
                }]
            }))
        })
    }

    fn read<'a>(
        &'a self,
        topic: &'a TopicName,
        extent: Extent,
        each: &'a mut (dyn FnMut(i64, &Message) + Send),
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut kept = self.kept.lock().expect("no panic");
            let (kept, reads) = &mut *kept;
            let reads = reads.entry(topic.to_string()).or_default();
            *reads += 1;
            (self.meanwhile)(kept, topic.as_str(), *reads);
            if let Some((first, payloads)) = kept.get(topic.as_str()) {
                let payloads = payloads.iter().zip(*first..);
                payloads
                    .filter(|(_, at)| (extent.first..extent.end).contains(at))
                    .for_each(|(payload, at)| each(at, &Message::new(payload.clone())));
            }
            Ok(())
        })
    }
}

async fn visit(references: TopicReferences) -> Result<Vec<String>, Unread> {
    let mut seen = Vec::new();
    let mut each = |message: &Message| {
        let payload = message.payload.as_deref().unwrap_or_default();
        seen.push(String::from_utf8_lossy(payload).into_owned());
    };
    references.visit(&mut each).await?;
    seen.sort();
    Ok(seen)
}

async fn visit_named(topics: Topics, named: &[&str]) -> Result<Vec<String>, Unread> {
    let names: Vec<_> = named
        .iter()
        .map(|name| TopicName::new(name).expect("valid"))
        .collect();
    let groups = [GroupName::new("billing").expect("valid")];
    visit(TopicReferences::new(Arc::new(topics), &names, &groups).expect("short")).await
}

#[tokio::test]
async fn retries_schedules_and_dead_letters_of_a_topic_are_read_with_it() {
    let topics = Topics::of(&[
        ("orders", "message"),
        ("retry.orders.billing", "retry"),
        ("scheduled.orders", "scheduled"),
        ("dlq.orders.billing", "letter"),
        ("dlq.orders.other", "not ours"),
    ]);
    let seen = visit_named(topics, &["orders"]).await.expect("readable");
    assert_eq!(seen, ["letter", "message", "retry", "scheduled"]);
}

#[tokio::test]
async fn all_topics_are_read_but_for_the_brokers_own() {
    let topics = || {
        Topics::of(&[
            ("orders", "message"),
            ("dlq.orders.other", "letter"),
            ("__consumer_offsets", "not a message"),
        ])
    };
    let all = || TopicReferences::all(Arc::new(topics()));
    assert_eq!(visit(all()).await.expect("readable"), ["letter", "message"]);
    let expecting = all().expecting([TopicName::new("hidden").expect("valid")]);
    let error = visit(expecting).await.expect_err("it is not seen");
    assert_eq!(error.place, "the topic hidden");
}

#[tokio::test]
async fn a_topic_that_was_named_and_is_not_there_or_not_readable_is_told() {
    let topics = || Topics::of(&[("orders", "message")]);
    assert_eq!(
        visit_named(topics(), &["orders"]).await.expect("readable"),
        ["message"]
    );
    let error = visit_named(topics(), &["orders", "misspelt"])
        .await
        .expect_err("not there");
    assert_eq!(error.place, "the topic misspelt");
    let error = visit_named(topics(), &["denied", "orders"])
        .await
        .expect_err("not readable");
    assert!(error.why.contains("no access"), "{error}");
}

#[tokio::test]
async fn a_message_that_moves_to_a_topic_that_was_read_already_is_visited_there() {
    // The dead letters are read before the orders.
    let meanwhile: [(Meanwhile, &[&str]); 2] = [
        (
            |kept, topic, time| {
                if (topic, time) == ("orders", 1) {
                    move_all(kept, "orders", "dlq.orders.billing");
                }
            },
            &["letter", "message"],
        ),
        (
            |kept, topic, time| {
                if (topic, time) == ("orders", 1) {
                    move_all(kept, "orders", "brand.new");
                }
            },
            &["letter", "message"],
        ),
    ];
    for (meanwhile, expected) in meanwhile {
        let topics = Topics {
            meanwhile,
            ..Topics::of(&[("orders", "message"), ("dlq.orders.billing", "letter")])
        };
        let all = TopicReferences::all(Arc::new(topics));
        assert_eq!(visit(all).await.expect("readable"), expected);
    }
}

#[tokio::test]
async fn what_came_meanwhile_and_went_before_it_was_read_is_told() {
    let meanwhile: [(Meanwhile, &str); 2] = [
        (
            |kept, topic, time| match (topic, time) {
                ("orders", 1) => move_all(kept, "orders", "dlq.orders.billing"),
                ("dlq.orders.billing", 2) => move_all(kept, topic, "archive"),
                _ => {}
            },
            "the beginning of partition 0 went meanwhile",
        ),
        (
            |kept, topic, time| {
                if (topic, time) == ("orders", 1) {
                    kept.insert(topic.to_owned(), (0, Vec::new()));
                }
            },
            "partition 0 was made anew meanwhile",
        ),
    ];
    for (meanwhile, expected) in meanwhile {
        let topics = Topics {
            meanwhile,
            ..Topics::of(&[("orders", "message"), ("dlq.orders.billing", "letter")])
        };
        let all = TopicReferences::all(Arc::new(topics));
        assert_eq!(visit(all).await.expect_err("gone").why, expected);
    }
}
