//! What people do: parked sagas, alarms, actions, definitions, what is kept how long.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_server::config::{Limit, Period, SecretUrl};

use super::http::server;
use super::kafka::Worker;
use super::{act, ask, checkout, config, deploy, node, read, start, until};
use crate::client::{PATIENCE, get};
use crate::node::outside;

/// A step behind the pivot: it may not be undone, so it parks.
fn pivoted() -> Value {
    json!({
        "StartAt": "Pay",
        "Saga": { "Pivot": "Pay" },
        "States": {
            "Pay": { "Type": "Task", "Resource": "wharf:topic:pay", "TimeoutSeconds": 60, "Next": "Ship" },
            "Ship": { "Type": "Task", "Resource": "wharf:topic:ship", "TimeoutSeconds": 60, "End": true }
        }
    })
}

#[tokio::test]
async fn a_parked_saga_raises_an_alarm_and_is_repaired_by_one_action() {
    let data = tempfile::tempdir().unwrap();
    let mut config = config(data.path());
    let (webhook, alarms) = server(vec![(500, ""), (200, "")]).await;
    config.saga.alarm_webhook = Some(SecretUrl::from(format!("http://{webhook}/alarm").as_str()));
    let (node, http, kafka) = node(config).await;
    outside(move || {
        deploy(http, "shop", &pivoted());
        let id = start(http, "shop", "1", &json!({}));
        let mut pay = Worker::new(kafka, "pay");
        let command = pay.take();
        pay.answer(&command, "SUCCESS", &json!({}));
        let mut ship = Worker::new(kafka, "ship");
        let command = ship.take();
        ship.answer(&command, "RETRYABLE", &json!({ "error": "NoTruck" }));
        let told = until(http, &id, "PARKED");
        assert_eq!(told["parked_steps"][0]["error"], "NoTruck", "{told}");
        // The first post failed, the second was taken.
        for _ in 0..2 {
            let alarm = alarms.recv_timeout(PATIENCE).unwrap();
            assert!(alarm.contains(&id) && alarm.contains("NoTruck"), "{alarm}");
        }
        let (_, _, metrics) = get(http, "/metrics");
        assert!(
            metrics.contains("wharf_saga_parked{type=\"shop\"} 1"),
            "{metrics}"
        );
        let mut recorded = Worker::new(kafka, "_wharf.saga-alarms");
        assert_eq!(recorded.take().arguments()["saga"], id.as_str());
        let nobody = json!({ "reason": "x" });
        let (status, told) = ask(http, "POST", &format!("/api/v1/sagas/{id}/retry"), &nobody);
        assert_eq!(
            (status, &told["code"]),
            (400, &json!("WHARF-7013")),
            "{told}"
        );
        let (status, told) = act(http, &id, "retry", &json!({}));
        assert_eq!(status, 200, "{told}");
        let command = ship.take();
        ship.answer(&command, "SUCCESS", &json!({ "truck": 1 }));
        until(http, &id, "COMPLETED");
        let audited = Worker::new(kafka, "_wharf.audit").take().arguments();
        assert_eq!(
            (&audited["by"], &audited["before"]),
            (&json!("ada"), &json!("PARKED"))
        );
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_bulk_action_counts_first_and_acts_on_as_many_as_expected() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    outside(move || {
        deploy(http, "checkout", &checkout());
        let ids = ["1", "2", "3"].map(|key| start(http, "checkout", key, &json!({})));
        let mut order = json!({
            "filter": { "type": "checkout", "status": "RUNNING" },
            "action": "pause", "by": "ada", "reason": "maintenance"
        });
        let (_, told) = ask(http, "POST", "/api/v1/sagas/bulk", &order);
        assert_eq!(
            (&told["dry_run"], &told["count"]),
            (&json!(true), &json!(3)),
            "{told}"
        );
        order["expect"] = json!(2);
        assert_eq!(ask(http, "POST", "/api/v1/sagas/bulk", &order).0, 400);
        order["expect"] = json!(3);
        let (_, told) = ask(http, "POST", "/api/v1/sagas/bulk", &order);
        assert_eq!(
            (&told["count"], &told["refused"]),
            (&json!(3), &json!(0)),
            "{told}"
        );
        for id in &ids {
            assert_eq!(read(http, &format!("/api/v1/sagas/{id}"))["paused"], true);
        }
        let page = read(http, "/api/v1/sagas?limit=2&paused=true");
        let next = page["next"].as_str().unwrap();
        let rest = read(
            http,
            &format!("/api/v1/sagas?limit=2&paused=true&after={next}"),
        );
        assert_eq!(rest["sagas"].as_array().unwrap().len(), 1);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn definitions_are_refused_with_every_problem_and_kept_while_sagas_need_them() {
    let data = tempfile::tempdir().unwrap();
    let (node, http, _) = node(config(data.path())).await;
    outside(move || {
        let path = "/api/v1/saga-definitions/checkout";
        let unknown = json!({ "StartAt": "A", "States": { "A": { "Type": "Task", "Resource": "arn:aws:states:::dynamodb:putItem", "End": true } } });
        let (status, told) = ask(http, "PUT", path, &unknown);
        assert_eq!((status, &told["code"]), (400, &json!("WHARF-7006")), "{told}");
        assert_eq!(told["problems"][0]["path"], "A");
        let broken = json!({ "StartAt": "B", "States": { "A": { "Type": "Task", "End": 1 } } });
        let (status, told) = ask(http, "PUT", path, &broken);
        assert_eq!((status, &told["code"]), (400, &json!("WHARF-7004")), "{told}");
        assert!(told["problems"].as_array().unwrap().len() > 1, "{told}");
        let body = json!({ "type": "checkout", "input": {} });
        let (status, told) = ask(http, "POST", "/api/v1/sagas", &body);
        assert_eq!((status, &told["code"]), (404, &json!("WHARF-7005")), "{told}");
        deploy(http, "checkout", &checkout());
        deploy(http, "checkout", &checkout());
        assert_eq!(read(http, path)["current"], 1);
        let id = start(http, "checkout", "1", &json!({}));
        let (status, told) = ask(http, "DELETE", path, &Value::Null);
        assert_eq!((status, &told["code"]), (409, &json!("WHARF-7007")), "{told}");
        let large = json!({ "type": "checkout", "input": "x".repeat(9 << 20) });
        let (status, told) = ask(http, "POST", "/api/v1/sagas", &large);
        assert_eq!((status, &told["code"]), (413, &json!("WHARF-7009")), "{told}");
        assert_eq!(act(http, &id, "resume", &json!({})).0, 409);
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_ended_is_forgotten_after_its_time_also_by_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = config(data.path());
    settings.saga.keep = Limit::At(Period(Duration::from_millis(1)));
    let (first, http, _) = node(settings.clone()).await;
    let id = outside(move || {
        let nothing = json!({ "StartAt": "A", "States": { "A": { "Type": "Succeed" } } });
        deploy(http, "nothing", &nothing);
        let id = start(http, "nothing", "1", &json!({}));
        let begun = Instant::now();
        while ask(http, "GET", &format!("/api/v1/sagas/{id}"), &Value::Null).0 != 404 {
            assert!(begun.elapsed() < PATIENCE, "it is still there");
        }
        id
    })
    .await;
    first.shutdown().await.unwrap();
    settings.saga.keep = Limit::Unlimited;
    let (second, http, _) = node(settings).await;
    outside(move || {
        let told = ask(http, "GET", &format!("/api/v1/sagas/{id}"), &Value::Null);
        assert_eq!((told.0, &told.1["code"]), (404, &json!("WHARF-7002")));
        assert_eq!(start(http, "nothing", "1", &json!({ "other": 1 })), id);
    })
    .await;
    second.shutdown().await.unwrap();
}

#[test]
fn the_reference_is_what_the_routes_say() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/saga-api.md");
    let written = wharf_server::saga::reference();
    if std::env::var_os("WHARF_REWRITE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        written,
        "run with WHARF_REWRITE=1"
    );
}
