//! Sagas that stand: over a restart with their tasks in flight, and waiting, for what they take in memory.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::Node;
use serde_json::{Value, json};

use super::Options;
use super::figures::{Figure, Report, Who};
use super::load::STEPS;
use super::wharf::{Place, api, count, deploy, start};
use super::worker::topic;
use crate::clients::{Kafka, Topic};
use crate::http::{Call, Load, Pace, Target};
use crate::report::Unit;
use crate::servers::Usage;

/// The rows.
pub(super) const STANDING: [&str; 2] = ["restart", "memory"];
/// How many requests start sagas at once.
const STARTERS: usize = 64;
/// How long it may take to start them all; a slower node has fewer, and its rows say so.
const STARTED_WITHIN: Duration = Duration::from_secs(300);
/// How long a restarted node may take to have them all.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How long a node may take to put away the sagas to which nothing happens.
const PUT_AWAY_WITHIN: Duration = Duration::from_secs(60);
const SAGA: &str = "standing";

/// Starts sagas and answers how many there are.
fn fill(node: &Node, sagas: u64) -> Result<u64> {
    let target = api(node);
    let load = Load::new(&target)?;
    let pace = Pace::Count(sagas, STARTED_WITHIN);
    load.run(STARTERS, pace, |number| {
        let input = json!({ "id": number, "fails": false, "customer": "c-17", "total": 4200 });
        start(SAGA, &format!("standing-{number}"), &input)
    })?;
    load.on_one(|mut one| async move { count(&mut one, SAGA, &["RUNNING"]).await })
}

fn few(there: u64, wanted: u64) -> String {
    match there < wanted {
        true => format!("; with {there} sagas: starting more took too long"),
        false => String::new(),
    }
}

/// The rows of sagas that stand.
pub(super) fn measure(options: &Options, who: Who, report: &mut Report) {
    if options.wants("restart") {
        report.add("restart", who, restart(options));
    }
    if options.wants("memory") {
        report.add("memory", who, memory(options));
    }
}

/// From starting the process after `kill -9` until it has every saga with its task, which nobody does.
fn restart(options: &Options) -> Result<Figure> {
    let place = Place::new(options, "restart")?;
    let node = place.start()?;
    let topic = Topic::new(topic(STEPS[0]), 4);
    Kafka::new(&node.kafka).make_all(std::slice::from_ref(&topic))?;
    deploy(
        &api(&node),
        SAGA,
        &standing(&json!({
            "Type": "Task",
            "Resource": format!("wharf:topic:{}", topic.name),
            "TimeoutSeconds": 86_400,
            "Compensate": { "Resource": format!("wharf:topic:{}", topic.name) },
            "End": true,
        })),
    )?;
    let there = fill(&node, options.in_flight())?;
    node.kill()?;
    let began = Instant::now();
    let node = place.start()?;
    let target = api(&node);
    Load::new(&target)?.on_one(|mut one| async move {
        loop {
            let back = count(&mut one, SAGA, &["RUNNING"]).await?;
            if back >= there {
                return Ok(());
            }
            let waited = began.elapsed();
            ensure!(
                waited < BACK_WITHIN,
                "{back} of {there} sagas are there after {waited:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })?;
    let millis = began.elapsed().as_secs_f64() * 1e3;
    node.stop()?;
    let few = few(there, options.in_flight());
    Ok(Figure::new(millis, Unit::Millis).noting(format!("{there} in flight{few}")))
}

/// Waits until the node has put away what waits; one that does not is measured as it is.
fn settle(node: &Node, there: u64) -> Result<()> {
    let target = Target {
        prefix: "",
        ..api(node)
    };
    Load::new(&target)?.on_one(|mut one| async move {
        let began = Instant::now();
        while asleep(&one.good(Call::get("/metrics")).await?) < there as f64
            && began.elapsed() < PUT_AWAY_WITHIN
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    })
}

/// How many sagas are put away, as the node's metrics say.
fn asleep(metrics: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(metrics);
    let mut lines = text.lines();
    let said = lines.find_map(|line| line.strip_prefix("wharf_saga_asleep "));
    said.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0.0)
}

/// What the process has resident with sagas that wait for a time far away.
fn memory(options: &Options) -> Result<Figure> {
    let place = Place::new(options, "memory")?;
    let mut node = place.start()?;
    let resident = |node: &mut Node| -> Result<f64> {
        Ok(Usage::of_group(node.id())?.memory as f64 / f64::from(1 << 20))
    };
    let before = resident(&mut node)?;
    let wait = json!({ "Type": "Wait", "Seconds": 86_400, "End": true });
    deploy(&api(&node), SAGA, &standing(&wait))?;
    let there = fill(&node, options.waiting())?;
    settle(&node, there)?;
    let value = resident(&mut node)?;
    node.stop()?;
    let each = (value - before) * f64::from(1 << 20) / there as f64;
    let few = few(there, options.waiting());
    Ok(Figure::new(value, Unit::Mebibytes)
        .noting(format!("{there} waiting, {each:.0} bytes for each{few}")))
}

fn standing(state: &Value) -> Value {
    json!({ "StartAt": "standing", "States": { "standing": state } })
}
