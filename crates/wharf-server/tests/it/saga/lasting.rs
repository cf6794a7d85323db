//! Long histories, full queues and disks that fail: what stays, and what is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use wharf_log::disk::simulated::{Faults, SimulatedDisk};
use wharf_message::Code;
use wharf_saga::machine::{SagaId, What};
use wharf_server::saga::NewSaga;
use wharf_server::{Config, Node};

use super::kafka::{Worker, produce};
use super::{act, ask, checkout, config, deploy, node, read, start, until};
use crate::client::{Kafka, PATIENCE, get};
use crate::node::{fill, outside};

/// Waits for signals until one says that it is the last.
fn listener() -> Value {
    json!({
        "StartAt": "Listen",
        "States": {
            "Listen": { "Type": "Task", "Resource": "wharf:signal:Go", "ResultPath": "$.go", "Next": "More" },
            "More": {
                "Type": "Choice",
                "Choices": [{ "Variable": "$.go.last", "BooleanEquals": true, "Next": "Done" }],
                "Default": "Listen"
            },
            "Done": { "Type": "Succeed" }
        }
    })
}

/// Sends signals, as many at once as a saga keeps.
async fn signals(node: &Node, id: SagaId, numbers: std::ops::Range<usize>) {
    let engine = node.sagas().unwrap();
    let numbers: Vec<_> = numbers.collect();
    for chunk in numbers.chunks(50) {
        let sent = chunk
            .iter()
            .map(|number| engine.signal(id, "Go", json!({ "last": false, "number": number })));
        for sent in join_all(sent).await {
            sent.unwrap();
        }
    }
}

/// What a route tells, read in pages.
fn in_pages(http: SocketAddr, path: &str, parts: &[&str], limit: usize) -> Value {
    let mut whole = read(http, &format!("{path}?limit={limit}"));
    while let Some(next) = whole.as_object_mut().unwrap().remove("next") {
        let next = next.as_str().unwrap();
        let mut page = read(http, &format!("{path}?limit={limit}&after={next}"));
        for part in parts {
            let more = page[part].as_array_mut().unwrap();
            assert!(more.len() <= limit);
            whole[part].as_array_mut().unwrap().append(more);
        }
        if let Some(next) = page.get("next") {
            whole["next"] = next.clone();
        }
    }
    whole
}

#[tokio::test]
async fn a_saga_that_was_left_alone_takes_little_memory_and_goes_on_as_if_nothing_had_been() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    let ids = outside(move || {
        deploy(http, "listener", &listener());
        ["1", "2", "3"].map(|key| start(http, "listener", key, &json!({ "key": key })))
    })
    .await;
    let engine = node.sagas().unwrap().clone();
    let asleep = tokio::time::timeout(PATIENCE, async {
        while engine.asleep() < ids.len() {
            tokio::task::yield_now().await;
        }
    });
    asleep.await.unwrap();
    outside(move || {
        // Looked at, started again with the same key and with another input, gone on with, aborted.
        let path = |at: usize| format!("/api/v1/sagas/{}", ids[at]);
        let told = read(http, &path(0));
        assert_eq!(
            (&told["input"]["key"], &told["steps"]),
            (&json!("1"), &json!(["Listen"]))
        );
        assert_eq!(start(http, "listener", "1", &json!({ "key": "1" })), ids[0]);
        let other = json!({ "type": "listener", "key": "1", "input": {} });
        assert_eq!(ask(http, "POST", "/api/v1/sagas", &other).0, 409);
        let last = json!({ "name": "Go", "payload": { "last": true } });
        assert_eq!(
            ask(http, "POST", &format!("{}/signals", path(1)), &last).0,
            202
        );
        until(http, &ids[1], "COMPLETED");
        assert_eq!(act(http, &ids[2], "abort", &json!({})).0, 200);
        until(http, &ids[2], "ABORTED_BY_OPERATOR");
        assert_eq!(read(http, &path(0))["status"], "RUNNING");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_saga_of_many_commits_is_the_same_after_a_restart_from_its_snapshot() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, _) = node(config(data.path())).await;
    let id = outside(move || {
        deploy(http, "listener", &listener());
        start(http, "listener", "1", &json!({}))
    })
    .await;
    let saga = SagaId::parse(&id).unwrap();
    signals(&first, saga, 0..150).await;
    let path = format!("/api/v1/sagas/{id}");
    let of = path.clone();
    let before = outside(move || (read(http, &of), read(http, &format!("{of}/timeline")))).await;
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    outside(move || {
        let after = (read(http, &path), read(http, &format!("{path}/timeline")));
        assert_eq!(before, after);
        // Every visit of Listen and of More, and the Listen that waits now.
        assert_eq!(after.1["steps"].as_array().unwrap().len(), 301);
        let whole = read(http, &format!("{path}/facts"));
        for (tail, parts, whole, limit) in [
            ("timeline", &["steps", "events"][..], &after.1, 50),
            ("timeline", &["steps", "events"][..], &after.1, 301),
            ("facts", &["facts"][..], &whole, 7),
        ] {
            assert_eq!(
                &in_pages(http, &format!("{path}/{tail}"), parts, limit),
                whole
            );
        }
        for wrong in ["limit=0", "limit=x", "after=x", "other=1"] {
            for tail in ["timeline", "facts"] {
                let (status, told) =
                    ask(http, "GET", &format!("{path}/{tail}?{wrong}"), &Value::Null);
                assert_eq!(status, 400, "{told}");
            }
        }
        let last = json!({ "name": "Go", "payload": { "last": true } });
        assert_eq!(ask(http, "POST", &format!("{path}/signals"), &last).0, 202);
        until(http, &id, "COMPLETED");
    })
    .await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn of_a_very_long_history_the_oldest_goes_and_the_saga_goes_on() {
    const MORE: usize = 10_200;
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let on = |config: Config| {
        let used = disk.clone();
        Node::start_on(config, move |_| Ok(Arc::new(used)))
    };
    let first = on(config(data.path())).await.unwrap();
    let http = first.http_address();
    let id = outside(move || {
        deploy(http, "listener", &listener());
        start(http, "listener", "1", &json!({}))
    })
    .await;
    let saga = SagaId::parse(&id).unwrap();
    signals(&first, saga, 0..MORE).await;
    let facts = first.sagas().unwrap().history(saga).await.unwrap();
    assert!(
        !facts
            .iter()
            .any(|fact| matches!(fact.what, What::Started { .. }))
    );
    let taken = |fact: &&wharf_saga::machine::Fact| matches!(fact.what, What::Succeeded { .. });
    let kept = facts.iter().filter(taken).count();
    assert!((9_900..=10_100).contains(&kept), "{kept} answers are kept");
    first.shutdown().await.unwrap();
    let second = on(config(data.path())).await.unwrap();
    signals(&second, saga, 0..10).await;
    let engine = second.sagas().unwrap();
    let visits = engine
        .look(saga, |saga| saga.current()[0].step)
        .await
        .unwrap();
    assert_eq!(usize::try_from(visits).unwrap(), 2 * (MORE + 10) + 1);
    engine
        .signal(saga, "Go", json!({ "last": true }))
        .await
        .unwrap();
    let http = second.http_address();
    outside(move || until(http, &id, "COMPLETED")).await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_saga_that_begins_while_its_definition_is_removed_keeps_it() {
    let data = tempfile::tempdir().unwrap();
    let (first, http, _) = node(config(data.path())).await;
    outside(move || deploy(http, "brief", &listener())).await;
    let engine = first.sagas().unwrap();
    let new = NewSaga {
        saga_type: "brief".to_owned(),
        key: Some("1".to_owned()),
        ..NewSaga::default()
    };
    let (started, removed) = tokio::join!(engine.start(new), engine.remove("brief"));
    let id = started.unwrap().id;
    removed.unwrap();
    first.shutdown().await.unwrap();
    let (second, http, _) = node(config(data.path())).await;
    let last = json!({ "last": true });
    second
        .sagas()
        .unwrap()
        .signal(id, "Go", last)
        .await
        .unwrap();
    outside(move || until(http, &id.to_string(), "COMPLETED")).await;
    second.shutdown().await.unwrap();
}

#[tokio::test]
async fn of_a_very_large_history_the_newest_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    let id = outside(move || {
        deploy(http, "listener", &listener());
        start(http, "listener", "1", &json!({}))
    })
    .await;
    let (engine, saga) = (node.sagas().unwrap(), SagaId::parse(&id).unwrap());
    let wide = "x".repeat(200 << 10);
    for number in 0..100 {
        let payload = json!({ "last": false, "number": number, "wide": wide });
        engine.signal(saga, "Go", payload).await.unwrap();
    }
    let facts = engine.history(saga).await.unwrap();
    let numbers = facts.iter().filter_map(|fact| match &fact.what {
        What::Succeeded { output, .. } => output.get("number")?.as_u64(),
        _ => None,
    });
    let numbers: Vec<_> = numbers.collect();
    let first = numbers[0];
    assert!((20..90).contains(&first), "from {first} on");
    assert_eq!(numbers, Vec::from_iter(first..100));
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn more_requests_than_may_wait_are_refused_and_taken_when_sent_again() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = config(data.path());
    settings.saga.waiting_max = 1;
    let (node, http, _) = node(settings).await;
    outside(move || deploy(http, "listener", &listener())).await;
    let engine = node.sagas().unwrap();
    let new = |number: usize| NewSaga {
        saga_type: "listener".to_owned(),
        key: Some(number.to_string()),
        ..NewSaga::default()
    };
    let started = join_all((0..50).map(|number| engine.start(new(number)))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert!(!taken.is_empty() && !refused.is_empty(), "{refused:?}");
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code, refused.status().as_u16()),
            (Code::SAGA_BUSY, 429)
        );
    }
    for number in 0..50 {
        engine.start(new(number)).await.unwrap();
    }
    let (rows, _) = engine.list(&wharf_server::saga::Filter::default(), None, 100);
    assert_eq!(rows.len(), 50);
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_more_sagas_are_under_way_than_may_be_and_records_that_start_them_wait() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = config(data.path());
    (settings.saga.partitions, settings.saga.open_max) = (1, 2);
    let (node, http, kafka) = node(settings).await;
    outside(move || {
        deploy(http, "listener", &listener());
        let asked = |key: &str| {
            let body = json!({ "type": "listener", "key": key, "input": {} });
            ask(http, "POST", "/api/v1/sagas", &body)
        };
        let first = start(http, "listener", "1", &json!({}));
        start(http, "listener", "2", &json!({}));
        let (status, told) = asked("3");
        assert_eq!(
            (status, &told["code"]),
            (429, &json!("WHARF-7010")),
            "{told}"
        );
        assert_eq!(asked("1").0, 200, "it is there");
        let headers = [("saga-type", "listener")];
        let mut client = Kafka::connect(kafka);
        produce(&mut client, "_wharf.saga-starts", "4", &headers, &json!({}));
        let last = json!({ "name": "Go", "payload": { "last": true } });
        let path = format!("/api/v1/sagas/{first}/signals");
        assert_eq!(ask(http, "POST", &path, &last).0, 202);
        until(http, &first, "COMPLETED");
        // The record has waited, and no request came before it.
        let begun = Instant::now();
        let fourth = format!("/api/v1/sagas/{}", SagaId::of("listener", "4"));
        while ask(http, "GET", &fourth, &Value::Null).0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "it should begin");
        }
        assert_eq!(asked("3").0, 429);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn sagas_that_ended_are_forgotten_as_fast_as_they_end() {
    // At a hundred a second nobody would wait for the last of them.
    const MANY: usize = 4_000;
    let data = tempfile::tempdir().unwrap();
    let mut settings = config(data.path());
    (settings.saga.partitions, settings.saga.keep_max) = (1, 10);
    let (node, http, _) = node(settings).await;
    let pass = json!({ "StartAt": "Done", "States": { "Done": { "Type": "Succeed" } } });
    outside(move || deploy(http, "pass", &pass)).await;
    let engine = node.sagas().unwrap();
    let new = |number: usize| NewSaga {
        saga_type: "pass".to_owned(),
        key: Some(number.to_string()),
        ..NewSaga::default()
    };
    for started in join_all((0..MANY).map(|number| engine.start(new(number)))).await {
        started.unwrap();
    }
    let begun = Instant::now();
    let kept = || {
        let filter = wharf_server::saga::Filter::default();
        engine.list(&filter, None, MANY).0.len()
    };
    while kept() > 10 {
        assert!(begun.elapsed() < PATIENCE, "{} are kept", kept());
        tokio::task::yield_now().await;
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_durable_goes_on_once_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let used = disk.clone();
    let node = Node::start_on(config(data.path()), move |_| Ok(Arc::new(used)))
        .await
        .unwrap();
    let (http, kafka) = (node.http_address(), node.kafka_address());
    outside(move || {
        let mut client = Kafka::connect(kafka);
        assert_eq!(client.create_topic("ballast"), 0);
        deploy(http, "checkout", &checkout());
        deploy(http, "listener", &listener());
        let id = start(http, "checkout", "1", &json!({}));
        let mut reserve = Worker::new(kafka, "reserve");
        let command = reserve.take();
        fill(&disk, &mut client, "ballast");
        // What is left has room for smaller ones.
        let wide = "x".repeat(100 << 10);
        let refused = (0..200).find_map(|key| {
            let body = json!({ "type": "listener", "key": format!("w{key}"), "input": wide });
            let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
            (status >= 300).then_some((status, told))
        });
        let (status, told) = refused.expect("the disk should be full at last");
        assert_eq!(
            (status, &told["code"]),
            (503, &json!("WHARF-7001")),
            "{told}"
        );
        disk.set_faults(Faults::default());
        let begun = Instant::now();
        let body = json!({ "type": "checkout", "key": "2", "input": {} });
        while ask(http, "POST", "/api/v1/sagas", &body).0 >= 300 {
            assert!(begun.elapsed() < PATIENCE, "it should take starts again");
        }
        // A worker sends its answer again until it is taken.
        while get(http, "/readyz").0 != 200 || client.produce("ballast", "room").0 != 0 {
            assert!(begun.elapsed() < PATIENCE, "it should take records again");
        }
        // The first is where it was, and its worker's answer counts.
        assert_eq!(
            read(http, &format!("/api/v1/sagas/{id}"))["steps"],
            json!(["Reserve"])
        );
        reserve.answer(&command, "SUCCESS", &json!("r"));
        let again = reserve.take();
        assert_ne!(again.header("saga-id"), command.header("saga-id"));
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        assert_eq!(command.header("saga-id"), Some(id.as_str()));
        pay.answer(&command, "SUCCESS", &json!("p"));
        until(http, &id, "COMPLETED");
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_has_what_was() {
    let data = tempfile::tempdir().unwrap();
    let disk = SimulatedDisk::new(1, Faults::default());
    let on = |config: Config| {
        let used = disk.clone();
        Node::start_on(config, move |_| Ok(Arc::new(used)))
    };
    let first = on(config(data.path())).await.unwrap();
    let http = first.http_address();
    let faulty = disk.clone();
    let id = outside(move || {
        deploy(http, "listener", &listener());
        let id = start(http, "listener", "1", &json!({}));
        faulty.set_faults(Faults {
            sync_failure_one_in: 1,
            ..Faults::default()
        });
        let signal = json!({ "name": "Go", "payload": { "last": true } });
        let path = format!("/api/v1/sagas/{id}/signals");
        let (status, told) = ask(http, "POST", &path, &signal);
        assert_eq!(
            (status, &told["code"]),
            (503, &json!("WHARF-7001")),
            "{told}"
        );
        faulty.set_faults(Faults::default());
        // A journal that failed to sync takes nothing more; what is decided in memory is not told.
        assert_eq!(ask(http, "POST", &path, &signal).0, 503);
        assert_eq!(get(http, "/readyz").0, 503);
        id
    })
    .await;
    drop(first.shutdown().await);
    let second = on(config(data.path())).await.unwrap();
    let http = second.http_address();
    outside(move || {
        let told = read(http, &format!("/api/v1/sagas/{id}"));
        if told["status"] == "RUNNING" {
            let signal = json!({ "name": "Go", "payload": { "last": true } });
            let path = format!("/api/v1/sagas/{id}/signals");
            assert_eq!(ask(http, "POST", &path, &signal).0, 202);
        }
        until(http, &id, "COMPLETED");
    })
    .await;
    second.shutdown().await.unwrap();
}
