//! Routers that bear duplicates, and some that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::yield_now;

use super::check_router;
use crate::testing::duplicates::{Check, Effects, Error, Verdict};
use crate::{Event, Message, Publish, Raw, Router, State, group, header};

#[derive(Clone, Default)]
struct Store(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    seen: BTreeSet<String>,
    counts: BTreeMap<String, u64>,
}

impl Store {
    fn effects(&self) -> Effects {
        let tables = self.0.lock().unwrap();
        Effects::new().rows(
            "counts",
            tables.counts.iter().map(|(key, n)| json!([key, n])),
        )
    }

    fn is_new(&self, id: &str) -> bool {
        self.0.lock().unwrap().seen.insert(id.to_owned())
    }

    /// Counts, unless the id was seen.
    fn count(&self, id: Option<&str>, key: &str) {
        let mut tables = self.0.lock().unwrap();
        if id.is_none_or(|id| tables.seen.insert(id.to_owned())) {
            *tables.counts.entry(key.to_owned()).or_default() += 1;
        }
    }
}

fn checked<'a>(store: &'a Store, router: impl FnMut() -> Router + 'a) -> Check<'a> {
    let message = |number: u64| {
        Message::new(json!({ "n": number }).to_string())
            .with_key(format!("key {}", number % 2))
            .with_header(header::CE_ID, number.to_string())
            .with_header(header::CE_SOURCE, "test")
    };
    check_router("counting", "numbers", router)
        .messages((1..=5).map(message))
        .reset(async || *store.0.lock().unwrap() = Tables::default())
        .effects(async || store.effects())
}

fn key(message: &Message) -> String {
    String::from_utf8_lossy(message.key.as_deref().unwrap_or_default()).into_owned()
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "counted", topic = "counted", key = "key")]
struct Counted {
    key: String,
}

async fn count_once(State(store): State<Store>, Raw(message): Raw) -> Publish<Counted> {
    yield_now().await;
    let id = message.headers.text(header::CE_ID).unwrap();
    store.count(id, &key(&message));
    yield_now().await;
    Publish(Counted { key: key(&message) })
}

#[tokio::test]
async fn a_router_bears_everything_when_it_remembers_and_what_it_publishes_again_has_the_same_id() {
    let store = Store::default();
    let router = || {
        let route = group("g").on(count_once);
        Router::new()
            .topic("numbers", route)
            .with_state(store.clone())
    };
    let report = checked(&store, router).run().await;
    assert_eq!(report.verdict, Verdict::Idempotent);
    assert!(
        report.cases.iter().all(|case| case.schedules > 0),
        "{report}"
    );
}

#[tokio::test]
async fn a_router_that_counts_every_delivery_is_found() {
    async fn count(State(store): State<Store>, Raw(message): Raw) {
        store.count(None, &key(&message));
    }
    let store = Store::default();
    let router = || {
        Router::new()
            .topic("numbers", group("g").on(count))
            .with_state(store.clone())
    };
    let report = checked(&store, router).report().await.unwrap();
    assert_eq!(
        report.failure().unwrap().minimal.to_string(),
        "1 1",
        "{report}"
    );
}

#[tokio::test]
async fn a_router_that_is_killed_between_two_effects_is_found() {
    async fn count(State(store): State<Store>, Raw(message): Raw) {
        let id = message.headers.text(header::CE_ID).unwrap().unwrap();
        if store.is_new(id) {
            yield_now().await;
            store.count(None, &key(&message));
        }
    }
    let store = Store::default();
    let router = || {
        Router::new()
            .topic("numbers", group("g").on(count))
            .with_state(store.clone())
    };
    let report = checked(&store, router).report().await.unwrap();
    assert_eq!(
        report.failure().unwrap().minimal.to_string(),
        "1x1 1",
        "{report}"
    );
}

#[tokio::test]
async fn a_message_that_is_set_aside_again_is_the_same_dead_letter() {
    async fn refuse(State(store): State<Store>, Raw(message): Raw) -> Result<(), wharf::Error> {
        let id = message.headers.text(header::CE_ID).unwrap().unwrap();
        store.count(Some(id), &key(&message));
        if id == "2" {
            return Err(wharf::Error::dead_letter("it is never right"));
        }
        Ok(())
    }
    let store = Store::default();
    let router = || {
        Router::new()
            .topic("numbers", group("g").on(refuse))
            .with_state(store.clone())
    };
    let report = checked(&store, router).run().await;
    assert_eq!(report.verdict, Verdict::Idempotent);
}

#[tokio::test]
async fn a_router_that_does_not_read_the_topic_is_told() {
    let store = Store::default();
    let router = || {
        let route = group("g").on(count_once);
        Router::new()
            .topic("letters", route)
            .with_state(store.clone())
    };
    let error = checked(&store, router).report().await.unwrap_err();
    assert!(matches!(&error, Error::GivenUp(_)), "{error}");
    assert!(
        error.to_string().contains("no route reads numbers"),
        "{error}"
    );
}
