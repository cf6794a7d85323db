//! What runs: random machines that nobody wrote, transfers of money, and sagas of sagas.
//!
//! The resources carry the version of their definition, so that a saga that took another one's is
//! noticed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wharf_log::disk::simulated::Random;
use wharf_saga::definition::{Flow, Kind, Machine};
use wharf_saga::testing::machine;

use super::participants::ACCOUNTS;

/// The type of transfers.
pub(super) const TRANSFER: &str = "transfer";
/// The type of random machines.
pub(super) const RANDOM: &str = "random";
/// The type of sagas that have a transfer inside.
pub(super) const OUTER: &str = "outer";

/// A transfer of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) amount: i64,
}

impl Transfer {
    pub(super) fn draw(random: &mut Random) -> Self {
        let from = random.below(ACCOUNTS);
        let to = (from + random.between(1, ACCOUNTS - 1)) % ACCOUNTS;
        Self {
            from: format!("account-{from}"),
            to: format!("account-{to}"),
            amount: i64::try_from(random.between(1, 1_000)).unwrap_or(1),
        }
    }

    pub(super) fn write(&self) -> Value {
        json!({ "from": self.from, "to": self.to, "amount": self.amount })
    }

    pub(super) fn read(input: &Value) -> Option<Self> {
        Some(Self {
            from: input.get("from")?.as_str()?.to_owned(),
            to: input.get("to")?.as_str()?.to_owned(),
            amount: input.get("amount")?.as_i64()?,
        })
    }
}

/// A definition of a type, in one of its versions.
pub(super) fn draw(saga_type: &str, version: u32, random: &mut Random) -> Value {
    let mut definition = match saga_type {
        TRANSFER => transfer(random),
        OUTER => outer(random),
        _ => machine(random.next_u64()),
    };
    rename(&mut definition, version, random);
    definition
}

fn task(name: &str, random: &mut Random) -> Value {
    let mut task = json!({
        "Type": "Task", "Resource": format!("wharf:topic:{name}"), "ResultPath": null,
    });
    if random.percent(60) {
        let attempts = random.below(4);
        task["Retry"] = json!([{ "ErrorEquals": ["Broken", "States.Timeout"],
                                 "IntervalSeconds": 1, "MaxAttempts": attempts }]);
    }
    if random.percent(40) {
        task["TimeoutSeconds"] = json!(random.between(4, 20));
        if random.coin() {
            task["HeartbeatSeconds"] = json!(3);
        }
    }
    if random.percent(10) {
        task["ConcurrencyLimit"] = json!(1);
    }
    task
}

fn undo(name: &str, random: &mut Random) -> Value {
    let mut undo = json!({ "Resource": format!("wharf:topic:undo-{name}") });
    if random.percent(30) {
        undo["Retry"] = json!([{ "ErrorEquals": ["States.ALL"], "MaxAttempts": 1 }]);
    }
    if random.percent(20) {
        undo["OnUnknown"] = json!("Park");
    }
    undo
}

fn transfer(random: &mut Random) -> Value {
    let (mut withdraw, mut deposit) = (task("Withdraw", random), task("Deposit", random));
    let mut notify = task("Notify", random);
    withdraw["Compensate"] = undo("Withdraw", random);
    deposit["Compensate"] = undo("Deposit", random);
    withdraw["Next"] = json!("Deposit");
    deposit["Next"] = json!("Notify");
    notify["End"] = json!(true);
    let mut saga = json!({});
    match random.below(4) {
        0 => saga["Pivot"] = json!("Deposit"),
        1 => saga["Pivot"] = json!("Notify"),
        _ => {}
    }
    if random.percent(30) {
        saga["DeadlineSeconds"] = json!(random.between(5, 60));
        if random.percent(30) {
            saga["OnDeadline"] = json!("Park");
        }
    }
    let states = json!({ "Withdraw": withdraw, "Deposit": deposit, "Notify": notify });
    json!({ "StartAt": "Withdraw", "States": states, "Saga": saga })
}

fn outer(random: &mut Random) -> Value {
    let (mut before, mut after) = (task("Before", random), task("After", random));
    before["Compensate"] = undo("Before", random);
    before["Next"] = json!("Inside");
    let mut inside = json!({
        "Type": "Task", "Resource": format!("wharf:saga:{TRANSFER}"), "ResultPath": null,
        "Next": "After",
    });
    if random.percent(50) {
        inside["TimeoutSeconds"] = json!(random.between(3, 20));
    }
    if random.percent(30) {
        inside["Retry"] = json!([{ "ErrorEquals": ["States.ALL"], "MaxAttempts": 1 }]);
    }
    after["End"] = json!(true);
    let mut outer = json!({
        "StartAt": "Before",
        "States": { "Before": before, "Inside": inside, "After": after },
    });
    if random.percent(40) {
        outer["Saga"] = json!({ "DeadlineSeconds": random.between(3, 30) });
    }
    outer
}

/// Gives the resources their version, and some of them to handlers in the process.
fn rename(value: &mut Value, version: u32, random: &mut Random) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if name == "Resource"
                    && let Some(topic) = field
                        .as_str()
                        .and_then(|it| it.strip_prefix("wharf:topic:"))
                {
                    let kind = if random.percent(30) {
                        "handler"
                    } else {
                        "topic"
                    };
                    *field = json!(format!("wharf:{kind}:v{version}-{topic}"));
                } else {
                    rename(field, version, random);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| rename(item, version, random)),
        _ => {}
    }
}

/// The names of all states.
pub(super) fn states(machine: &Machine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(&machine.flow, &mut |name, _| {
        _ = found.insert(name.to_owned());
    });
    found
}

/// The resources of all tasks and undoes.
pub(super) fn resources(machine: &Machine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(&machine.flow, &mut |_, resource| {
        found.extend(resource.map(str::to_owned));
    });
    found
}

/// Whether some of its tasks are sagas.
pub(super) fn has_sub_sagas(machine: &Machine) -> bool {
    let all = resources(machine);
    all.iter().any(|name| name.starts_with("wharf:saga:"))
}

fn walk(flow: &Flow, seen: &mut dyn FnMut(&str, Option<&str>)) {
    for state in &flow.states {
        seen(&state.name, None);
        if let Some(undo) = &state.compensate {
            seen(&state.name, Some(&undo.resource));
        }
        match &state.kind {
            Kind::Task(task) => seen(&state.name, Some(&task.resource)),
            Kind::Parallel(parallel) => {
                for branch in &parallel.branches {
                    walk(branch, seen);
                }
            }
            Kind::Map(map) => walk(&map.processor, seen),
            _ => {}
        }
    }
}
