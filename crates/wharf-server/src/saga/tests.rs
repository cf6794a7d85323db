//! The role over a ledger in memory: what is hard to bring about on a node.

use std::collections::BTreeSet;
use std::future::ready;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry as Metrics;
use serde_json::{Value, json};
use wharf_message::ledger::memory::MemoryLedger;
use wharf_message::ledger::{
    Commit, Committed, Due, Entry, Error, Ledger, Owner, Partition, TopicSpec,
};
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::{Action, Command, Data, Order, Outcome, SagaId, TaskToken};

use super::claims::sweep;
use super::definitions::DEFINITIONS;
use super::{Engine, NewSaga, Place, Running, assemble, reporting, store, tokens};
use crate::clock;
use crate::config::Sagas;

const PATIENCE: Duration = Duration::from_secs(20);

/// The role over a ledger; it has not begun.
fn role(ledger: &Arc<dyn Ledger>) -> Running {
    role_with(ledger, None)
}

fn role_with(ledger: &Arc<dyn Ledger>, claims: Option<PathBuf>) -> Running {
    let config = Sagas {
        partitions: 2,
        ..Sagas::default()
    };
    let maker = Arc::clone(ledger);
    let place = Place {
        config: &config,
        partitions: 1,
        ledger: Arc::clone(ledger),
        make: Arc::new(move |name, partitions| {
            let maker = Arc::clone(&maker);
            Box::pin(async move {
                let spec = TopicSpec {
                    name,
                    partitions,
                    compacted: false,
                };
                let created = maker.create_topic(spec).await;
                created.map_err(|error| error.to_string())
            })
        }),
        http: None,
        claims,
    };
    let assembled = assemble(place, &mut Metrics::default()).unwrap();
    let engine = assembled.engine;
    engine.shared().handlers.report_to(reporting(&engine));
    Running {
        engine,
        stop: assembled.stop,
        tasks: Vec::new(),
    }
}

/// A task for whoever asks.
const SLOW: &str = r#"{ "StartAt": "Slow", "States": { "Slow":
    { "Type": "Task", "Resource": "wharf:activity:slow", "End": true } } }"#;

fn new(key: &str) -> NewSaga {
    NewSaga {
        saga_type: "slow".to_owned(),
        key: Some(key.to_owned()),
        ..NewSaga::default()
    }
}

/// Starts a saga whose task a worker takes.
async fn taken(engine: &Engine, key: &str) -> Command {
    engine.deploy("slow", SLOW, "tests").await.unwrap();
    engine.start(new(key)).await.unwrap();
    engine.poll_activity("slow", PATIENCE).await.unwrap()
}

async fn output(engine: &Engine, id: SagaId) -> Option<Value> {
    let output = engine.look(id, |saga| {
        saga.output().map(|output| output.value().clone())
    });
    output.await.unwrap()
}

#[tokio::test]
async fn a_token_without_a_seal_is_good_only_for_what_was_given_out_before_there_was_a_key() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let first = role(&ledger);
    let old = taken(first.engine(), "1").await.token();
    let refused = first.engine().task(&old.to_string()).await.unwrap_err();
    assert_eq!(refused.code, Code::SAGA_TOKEN_UNKNOWN, "{refused}");
    first.stop().await;

    // As if it had been an earlier version, which has no key.
    let topic = wharf_message::TopicName::new(DEFINITIONS).unwrap();
    let place = Partition { topic, index: 0 };
    let owner: Owner = ledger.own(place.clone()).await.unwrap();
    let gone = store::record(tokens::KEY.to_owned(), None, clock::now());
    let commit = Commit {
        records: vec![(place, gone)],
        ..Commit::default()
    };
    ledger.commit(&owner, commit).await.unwrap();
    let before = clock::now();
    while clock::now() <= before {
        tokio::task::yield_now().await;
    }

    let second = role(&ledger);
    second.engine().begin().await.unwrap();
    let engine = second.engine();
    let other = TaskToken {
        generation: old.generation + 1,
        ..old
    };
    for guessed in [other.to_string(), format!("{old}.{:032x}", 0)] {
        let refused = engine.task(&guessed).await.unwrap_err();
        assert_eq!(refused.code, Code::SAGA_TOKEN_UNKNOWN, "{refused}");
    }
    let task = engine.task(&old.to_string()).await.unwrap();
    let done = Outcome::Success(Data::from(json!(7)));
    engine.reply(task, done).await.unwrap();
    assert_eq!(output(engine, old.saga).await, Some(json!(7)));
    let refused = engine.task(&old.to_string()).await.unwrap_err();
    assert_eq!(
        refused.code,
        Code::SAGA_TOKEN_UNKNOWN,
        "nobody waits for it"
    );
    let younger = taken(engine, "2").await.token();
    assert!(engine.task(&younger.to_string()).await.is_err());
    let sealed = engine.token(younger);
    assert_eq!(engine.task(&sealed).await, Ok(younger));
    second.stop().await;
}

#[tokio::test]
async fn what_is_asked_before_the_sagas_were_read_is_unavailable_and_not_unknown() {
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let first = role(&ledger);
    let never = first.engine().start(new("1")).await.unwrap_err();
    assert_eq!(never.code, Code::SAGA_DEFINITION_UNKNOWN, "{never}");
    let known = taken(first.engine(), "1").await.token();
    let sealed = first.engine().token(known);
    first.stop().await;

    let second = role(&ledger);
    let engine = second.engine();
    let order = Order {
        action: Action::Pause,
        by: "ada".to_owned(),
        reason: "why".to_owned(),
    };
    let refusals = [
        engine.start(new("1")).await.unwrap_err(),
        engine.reply(known, Outcome::Heartbeat).await.unwrap_err(),
        engine
            .signal(known.saga, "go", json!({}))
            .await
            .unwrap_err(),
        engine.operate(known.saga, order).await.unwrap_err(),
        engine.look(known.saga, |_| ()).await.unwrap_err(),
        engine.history(known.saga).await.unwrap_err(),
        engine.task(&sealed).await.unwrap_err(),
        engine.definition("slow", None).unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.code, Code::SAGA_UNAVAILABLE, "{refused}");
        assert_eq!(refused.status(), 503);
    }
    engine.begin().await.unwrap();
    assert_eq!(engine.task(&sealed).await, Ok(known));
    assert!(!engine.start(new("1")).await.unwrap().is_new);
    second.stop().await;
}

#[tokio::test]
async fn a_large_payload_stays_for_as_long_as_a_saga_that_is_kept_refers_to_it() {
    let data = tempfile::tempdir().unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let first = role_with(&ledger, Some(data.path().join("claims")));
    let engine = first.engine();
    engine.deploy("slow", SLOW, "tests").await.unwrap();
    let large = |letter: &str| NewSaga {
        input: json!(letter.repeat(300 << 10)),
        ..new("1")
    };
    let id = engine.start(large("a")).await.unwrap().id;
    let taken = engine.poll_activity("slow", PATIENCE).await.unwrap();
    assert_eq!(*taken.arguments, large("a").input);
    // It was stored, and nobody refers to it.
    let refused = engine.start(large("b")).await.unwrap_err();
    assert_eq!(refused.code, Code::SAGA_KEY_TAKEN, "{refused}");
    let unknown = NewSaga {
        saga_type: "unknown".to_owned(),
        ..large("c")
    };
    let refused = engine.start(unknown).await.unwrap_err();
    assert_eq!(refused.code, Code::SAGA_DEFINITION_UNKNOWN, "{refused}");

    let claims = engine.shared().claims.clone().unwrap();
    let later = Timestamp::from_millis(clock::now().as_millis() + 60_000);
    let none = BTreeSet::new();
    let young = sweep(engine, &claims, &none, Timestamp::ZERO)
        .await
        .unwrap();
    assert!(young.is_empty());
    let suspects = sweep(engine, &claims, &none, later).await.unwrap();
    assert_eq!(suspects.len(), 1);
    let orphan = suspects.first().unwrap().as_str().to_owned();
    assert!(
        engine.claim(&orphan).await.is_ok(),
        "one look is not enough"
    );
    let rest = sweep(engine, &claims, &suspects, later).await.unwrap();
    assert!(rest.is_empty());
    assert!(engine.claim(&orphan).await.is_err());
    let input = engine.look(id, |saga| {
        saga.start().map(|start| start.input.value().clone())
    });
    let input = input.await.unwrap().unwrap();
    assert!(claims.content(&input).await.unwrap().is_some());
    first.stop().await;

    // Nothing is removed while the sagas are not read.
    let second = role_with(&ledger, Some(data.path().join("claims")));
    let refused = sweep(second.engine(), &claims, &none, later).await;
    assert!(refused.is_err(), "{refused:?}");
}

/// A ledger from which a topic may vanish, and which tells what each commit holds.
#[derive(Default)]
struct Vanishing {
    inner: MemoryLedger,
    gone: AtomicBool,
    commits: Mutex<Vec<String>>,
}

/// The topic that vanishes.
const WORK: &str = "work";

impl Vanishing {
    fn check(&self, partition: &Partition) -> Result<(), Error> {
        match self.gone.load(Ordering::SeqCst) && partition.topic.as_str() == WORK {
            true => Err(Error::UnknownPartition(partition.clone())),
            false => Ok(()),
        }
    }
}

impl Ledger for Vanishing {
    fn create_topic(&self, topic: TopicSpec) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.create_topic(topic)
    }

    fn own(&self, partition: Partition) -> BoxFuture<'_, Result<Owner, Error>> {
        self.inner.own(partition)
    }

    fn commit(&self, owner: &Owner, commit: Commit) -> BoxFuture<'_, Result<Committed, Error>> {
        let mut records = commit.records.iter();
        if let Err(error) = records.try_for_each(|(place, _)| self.check(place)) {
            return Box::pin(ready(Err(error)));
        }
        let values = commit.records.iter();
        let values = values.filter_map(|(_, record)| record.value.as_deref());
        let text = values.map(|value| String::from_utf8_lossy(value).into_owned());
        self.commits.lock().unwrap().push(text.collect());
        self.inner.commit(owner, commit)
    }

    fn follow(
        &self,
        partition: Partition,
        offset: i64,
        records_max: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        match self.check(&partition) {
            Ok(()) => self.inner.follow(partition, offset, records_max),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn progress(
        &self,
        reader: &str,
        partition: Partition,
    ) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        self.inner.progress(reader, partition)
    }

    fn due(&self, owner: &Owner, now: Timestamp, max: usize) -> BoxFuture<'_, Result<Due, Error>> {
        self.inner.due(owner, now, max)
    }
}

#[tokio::test]
async fn that_a_command_topic_is_gone_is_a_failure_in_the_very_commit_of_the_task() {
    let vanishing = Arc::new(Vanishing::default());
    let ledger: Arc<dyn Ledger> = Arc::clone(&vanishing) as Arc<dyn Ledger>;
    let role = role(&ledger);
    let engine = role.engine();
    let definition = r#"{ "StartAt": "Work", "States": { "Work":
        { "Type": "Task", "Resource": "wharf:topic:work", "End": true } } }"#;
    engine.deploy("slow", definition, "tests").await.unwrap();
    vanishing.gone.store(true, Ordering::SeqCst);
    // It was there a moment ago, so the first commits are refused.
    let begun = std::time::Instant::now();
    let id = loop {
        match engine.start(new("1")).await {
            Ok(started) => break started.id,
            Err(refused) => assert!(refused.is_unknown(), "{refused}"),
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    };
    let error = engine.look(id, |saga| saga.error().map(|(error, _)| error.to_owned()));
    assert_eq!(error.await.unwrap().as_deref(), Some("Wharf.TopicUnknown"));
    let commits = vanishing.commits.lock().unwrap().clone();
    let dispatching = commits
        .iter()
        .find(|text| text.contains("wharf:topic:work") && text.contains("\"1\""));
    let dispatching = dispatching.unwrap();
    assert!(dispatching.contains("Wharf.TopicUnknown"), "{dispatching}");
    role.stop().await;
}
