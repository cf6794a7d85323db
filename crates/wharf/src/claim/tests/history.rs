//! Topics as places that refer: all that derives from them is read, and what cannot be read is told.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use wharf_message::{GroupName, TopicName};

use super::*;

/// Topics of one partition each, whose beginning may move when something is read.
#[derive(Default)]
struct Topics {
    kept: Mutex<BTreeMap<String, (i64, Vec<Message>)>>,
    /// Reading this topic cuts the beginning of the other one.
    cuts: Option<(&'static str, &'static str)>,
}

impl Topics {
    fn of(topics: &[(&str, &str)]) -> Self {
        let topic = |(name, payload): &(&str, &str)| {
            let message = Message::new((*payload).to_owned());
            ((*name).to_owned(), (0, vec![message]))
        };
        Self {
            kept: Mutex::new(topics.iter().map(topic).collect()),
            cuts: None,
        }
    }
}

impl TopicHistory for Topics {
    fn extents<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<Vec<Extent>>, String>> {
        Box::pin(async move {
            if topic.as_str() == "denied" {
                return Err("access denied".to_owned());
            }
            let kept = self.kept.lock().expect("no panic");
            Ok(kept.get(topic.as_str()).map(|(first, messages)| {
                let end = first + messages.len() as i64;
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
        _: Extent,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let mut kept = self.kept.lock().expect("no panic");
            if let Some((_, messages)) = kept.get(topic.as_str()) {
                messages.iter().for_each(each);
            }
            if let Some((read, cut)) = self.cuts
                && read == topic.as_str()
                && let Some((first, messages)) = kept.get_mut(cut)
            {
                *first += messages.len() as i64;
                messages.clear();
            }
            Ok(())
        })
    }
}

async fn visit(topics: Topics, named: &[&str]) -> Result<Vec<String>, Unread> {
    let names: Vec<_> = named
        .iter()
        .map(|name| TopicName::new(name).expect("valid"))
        .collect();
    let groups = [GroupName::new("billing").expect("valid")];
    let references = TopicReferences::new(Arc::new(topics), &names, &groups).expect("short");
    let mut seen = Vec::new();
    let mut each = |message: &Message| {
        let payload = message.payload.as_deref().unwrap_or_default();
        seen.push(String::from_utf8_lossy(payload).into_owned());
    };
    references.visit(&mut each).await?;
    seen.sort();
    Ok(seen)
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
    let seen = visit(topics, &["orders"]).await.expect("readable");
    assert_eq!(seen, ["letter", "message", "retry", "scheduled"]);
}

#[tokio::test]
async fn a_topic_that_was_named_and_is_not_there_or_not_readable_is_told() {
    let topics = || Topics::of(&[("orders", "message")]);
    assert_eq!(
        visit(topics(), &["orders"]).await.expect("readable"),
        ["message"]
    );
    let error = visit(topics(), &["orders", "misspelt"])
        .await
        .expect_err("not there");
    assert_eq!(error.place, "the topic misspelt");
    let error = visit(topics(), &["denied", "orders"])
        .await
        .expect_err("not readable");
    assert_eq!(error.why, "access denied");
}

#[tokio::test]
async fn a_topic_that_lost_its_beginning_before_it_was_read_is_told() {
    for read in ["dlq.orders.billing", "orders"] {
        let topics = Topics {
            cuts: Some((read, "orders")),
            ..Topics::of(&[("orders", "message"), ("dlq.orders.billing", "letter")])
        };
        let error = visit(topics, &["orders"]).await.expect_err("cut");
        assert!(error.why.contains("beginning"), "{error}");
    }
}
