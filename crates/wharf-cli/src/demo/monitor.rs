//! What the node says of the shop's orders, by the shop's contract, asked over its HTTP API as anybody
//! would.
//!
//! Nothing here knows what the services did: the figures come from the topics alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wharf_saga::choreography::Contract;
use wharf_saga::choreography::verdict::Kind;

use crate::node_api::NodeApi;
use crate::output;

/// How often the node is asked.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take until it has seen everything; and, beyond the deadline, to say what is stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many orders are listed at most.
const LISTED: usize = 10_000;
/// How many of those that are stuck are shown.
const SHOWN: usize = 3;
/// How long a step may take, as the shop's contract says.
const WITHIN: &str = "within: 30s";

/// The shop's contract on a node, and what it had seen before this run.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    node: Arc<NodeApi>,
    http: String,
    name: String,
    /// The longest time of a step.
    within: Duration,
    before: Figures,
    stuck_before: BTreeSet<String>,
}

/// Figures of a contract since the node was started.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    completed: u64,
    compensated: u64,
    redelivered: u64,
    uncorrelated: u64,
}

impl Monitor {
    /// Has the node watch the contract, with this time for each step; done when it has read what there is.
    pub(super) async fn deploy(http: String, within: Option<Duration>) -> anyhow::Result<Self> {
        let text = within.map_or_else(|| shop::CHOREOGRAPHY.to_owned(), allowing);
        let contract = Contract::parse(&text).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the shop's contract is wrong: {}", problems.join("; "))
        })?;
        let mut monitor = Self {
            node: Arc::new(NodeApi::at(http.clone())),
            http,
            name: contract.name.clone(),
            within: contract
                .rules
                .iter()
                .map(|rule| rule.within)
                .max()
                .unwrap_or_default(),
            before: Figures::default(),
            stuck_before: BTreeSet::new(),
        };
        let place = format!("/contracts/{}", monitor.name);
        let body = json!({ "contract": text });
        monitor.ask("PUT", place, Some(body)).await?;
        let begun = Instant::now();
        loop {
            let shown = monitor.shown().await?;
            if shown["isRead"] == true {
                monitor.before = Figures::of(&shown);
                break;
            }
            let is_late = begun.elapsed() > PATIENCE;
            anyhow::ensure!(
                !is_late,
                "the node does not come to an end of reading the shop's topics"
            );
            sleep(LOOK).await;
        }
        let stuck = monitor.instances(Kind::Stuck).await?;
        monitor.stuck_before = stuck.iter().map(id).collect();
        Ok(monitor)
    }

    async fn ask(
        &self,
        method: &'static str,
        tail: String,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let node = Arc::clone(&self.node);
        let path = format!("/api/v1/choreographies{tail}");
        let asked = tokio::task::spawn_blocking(move || {
            let answer = node.send(method, &path, body.as_ref(), Duration::ZERO)?;
            answer.good("look into the node's log")
        });
        asked.await?
    }

    /// What the node shows of the contract.
    async fn shown(&self) -> anyhow::Result<Value> {
        let mut all = self.ask("GET", String::new(), None).await?;
        let contracts = all["contracts"].as_array_mut().map(std::mem::take);
        let mut contracts = contracts.unwrap_or_default().into_iter();
        let ours = contracts.find(|contract| contract["name"] == *self.name);
        ours.context("the node does not watch the shop's contract")
    }

    /// The instances with a verdict.
    async fn instances(&self, kind: Kind) -> anyhow::Result<Vec<Value>> {
        let tail = format!(
            "/contracts/{}/instances?limit={LISTED}&verdict={kind}",
            self.name
        );
        let mut answer = self.ask("GET", tail, None).await?;
        let all = answer["instances"].as_array_mut().map(std::mem::take);
        Ok(all.unwrap_or_default())
    }

    /// What must hold between the node's figures and the shop's, once the node has seen all of it.
    pub(super) async fn checks(&self, summary: &shop::Summary) -> anyhow::Result<Vec<shop::Check>> {
        let ours = format!("{}-", summary.run);
        let turned_away = summary.rejected + summary.set_aside;
        let begun = Instant::now();
        loop {
            let now = Figures::of(&self.shown().await?);
            let (mut running, mut ill) = (0, Vec::new());
            for kind in Kind::ALL.into_iter().filter(|kind| kind.is_bad()) {
                let all = self.instances(kind).await?;
                ill.extend(
                    all.iter()
                        .filter(|one| id(one).starts_with(&ours))
                        .map(told),
                );
            }
            for one in self.instances(Kind::Running).await? {
                running += u64::from(id(&one).starts_with(&ours));
            }
            let before = self.before;
            let check = shop::Check::new;
            let checks = vec![
                check(
                    "orders the node saw completed = completed",
                    now.completed.saturating_sub(before.completed),
                    summary.completed,
                ),
                check(
                    "orders it saw compensated = rejected + set aside",
                    now.compensated.saturating_sub(before.compensated),
                    turned_away,
                ),
                check(
                    "messages it saw again = repeats suppressed",
                    now.redelivered.saturating_sub(before.redelivered),
                    summary.suppressed,
                ),
                check(
                    "records it found no order for = none",
                    now.uncorrelated.saturating_sub(before.uncorrelated),
                    0,
                ),
                check("orders it sees running = none", running, 0),
                check(
                    "orders it sees stuck, half-compensated, duplicated, orphan or diverged = none",
                    u64::try_from(ill.len()).unwrap_or(u64::MAX),
                    0,
                ),
            ];
            // What is still to be read is waited for.
            if checks.iter().all(shop::Check::holds) || begun.elapsed() > PATIENCE {
                for told in ill.iter().take(SHOWN) {
                    output::note(told)?;
                }
                return Ok(checks);
            }
            sleep(LOOK).await;
        }
    }

    /// A service was stopped: waits until the node says that orders are stuck because the service's group
    /// does not consume, and until it was stopped long enough. Whether the node said so.
    pub(super) async fn looks_for_stuck(
        &self,
        service: &str,
        at_least: Duration,
    ) -> anyhow::Result<bool> {
        let begun = Instant::now();
        output::note(&format!(
            "{service} is stopped; each step may take {}",
            humantime::format_duration(self.within)
        ))?;
        loop {
            let stuck = self.instances(Kind::Stuck).await?;
            let mut ours = stuck
                .iter()
                .filter(|one| !self.stuck_before.contains(&id(one)));
            if let Some(first) = ours.find(|one| never_consumed(one, service)) {
                let count = stuck.len() - self.stuck_before.len().min(stuck.len());
                let after = self.found_after(&id(first)).await?;
                output::note(&format!(
                    "the node says, {after}, that {count} are stuck:\n{}\n\
                     Look from another terminal:\n\n\
                     \x20 wharf choreography instances {name} --verdict stuck --http {http}\n\
                     \x20 wharf choreography show {name} {} --http {http}\n",
                    told(first),
                    id(first),
                    name = self.name,
                    http = self.http,
                ))?;
                sleep(at_least.saturating_sub(begun.elapsed())).await;
                return Ok(true);
            }
            if begun.elapsed() > self.within + PATIENCE {
                output::note(&format!(
                    "the node does not say that an order is stuck without {service}"
                ))?;
                return Ok(false);
            }
            sleep(LOOK).await;
        }
    }

    /// How long after its time an order was found to be stuck.
    async fn found_after(&self, id: &str) -> anyhow::Result<String> {
        let now = SystemTime::now();
        let tail = format!("/contracts/{}/instances/{id}", self.name);
        let shown = self.ask("GET", tail, None).await?;
        let due = shown["details"][0]["due"].as_str().unwrap_or_default();
        let due = humantime::parse_rfc3339(due).context("the node says no time")?;
        let after = now.duration_since(due).unwrap_or_default();
        Ok(format!("{:.1} s after the deadline", after.as_secs_f64()))
    }
}

impl Figures {
    fn of(shown: &Value) -> Self {
        let figure = |of: &str, name: &str| shown[of][name].as_u64().unwrap_or(0);
        Self {
            completed: figure("reached", Kind::Completed.name()),
            compensated: figure("reached", Kind::Compensated.name()),
            redelivered: figure("dropped", "redelivered"),
            uncorrelated: figure("dropped", "uncorrelated"),
        }
    }
}

/// The shop's contract with another time for each step.
fn allowing(within: Duration) -> String {
    let within = format!("within: {}", humantime::format_duration(within));
    shop::CHOREOGRAPHY.replace(WITHIN, &within)
}

fn id(instance: &Value) -> String {
    instance["instance"].as_str().unwrap_or_default().to_owned()
}

fn findings(instance: &Value) -> impl Iterator<Item = &str> {
    let all = instance["findings"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str)
}

/// An order and what is wrong with it, for people.
fn told(instance: &Value) -> String {
    let findings: Vec<&str> = findings(instance).collect();
    format!("  {}: {}", id(instance), findings.join("; "))
}

/// Whether an order waits for a group that has not read its event.
fn never_consumed(instance: &Value, group: &str) -> bool {
    let names = [
        format!("the group {group} never consumed it"),
        format!("the group {group} has never consumed anything"),
    ];
    findings(instance).any(|finding| names.iter().any(|name| finding.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_gets_the_time_that_is_asked_for() {
        let usual = Contract::parse(shop::CHOREOGRAPHY).unwrap();
        let hurried = Contract::parse(&allowing(Duration::from_millis(2_500))).unwrap();
        assert!(
            usual
                .rules
                .iter()
                .all(|rule| rule.within == Duration::from_secs(30))
        );
        assert!(
            hurried
                .rules
                .iter()
                .all(|rule| rule.within == Duration::from_millis(2_500))
        );
        assert_eq!(hurried.undo_within, usual.undo_within);
    }
}
