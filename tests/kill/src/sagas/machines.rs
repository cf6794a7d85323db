//! The sagas of the workload: what they do, in which order, and what each step does to accounts.
//!
//! This says what a saga's end means for the accounts, from its definition alone: it is the model that
//! the banks' books are compared with.

use serde_json::{Value, json};

use crate::random::Random;

/// The topic of the bank in the north.
pub(super) const NORTH: &str = "north";
/// How many accounts each bank has, and with how much.
pub(super) const ACCOUNTS: u64 = 6;
pub(super) const OPENING: i64 = 5_000;
/// The account that fees go to, in the south.
pub(super) const FEES: &str = "fees";
/// How long an attempt may take.
const TIMEOUT_SECONDS: u64 = 7;
/// How long a transfer with a deadline may take as a whole.
const DEADLINE_SECONDS: u64 = 6;
/// How long a transfer waits for its signature.
const SIGNED_SECONDS: u64 = 5;
/// The signal that it waits for.
pub(super) const SIGNAL: &str = "signature";

/// The names of the definitions.
pub(super) const TYPES: [&str; 7] = [
    "north-south",
    "south-north",
    "long",
    "pair",
    "dated",
    "signed",
    "double",
];

/// The accounts of a bank as they are opened.
pub(super) fn accounts(bank: &str) -> Vec<(String, i64)> {
    let mut accounts: Vec<_> = (0..ACCOUNTS)
        .map(|number| (format!("{bank}-{number}"), OPENING))
        .collect();
    if bank != NORTH {
        accounts.push((FEES.to_owned(), 0));
    }
    accounts
}

/// A definition, with the addresses of the two workers in the south.
pub(super) fn definition(saga_type: &str, south: [&str; 2]) -> Value {
    let north = format!("wharf:topic:{NORTH}");
    let [south, other] = south.map(|address| format!("wharf:http:http://{address}/commands"));
    let money = |op: &str, account: &str, amount: &str| json!({ "op": op, "account.$": format!("$.{account}"), "amount.$": amount });
    let last = |mut state: Value| {
        state["End"] = true.into();
        state
    };
    let then = |mut state: Value, next: &str| {
        state["Next"] = next.into();
        state
    };
    match saga_type {
        "north-south" => json!({
            "StartAt": "Debit",
            "States": {
                "Debit": then(step(&north, &money("debit", "from", "$.amount"), true), "Credit"),
                "Credit": last(step(&south, &money("credit", "to", "$.amount"), true)),
            }
        }),
        "south-north" => json!({
            "QueryLanguage": "JSONata",
            "StartAt": "Debit",
            "States": {
                "Debit": then(sata_step(&other, "debit", "from"), "Credit"),
                "Credit": last(sata_step(&north, "credit", "to")),
            }
        }),
        "dated" | "signed" => later(saga_type, &north, &south),
        "double" => json!({
            "StartAt": "First",
            "States": {
                "First": then(transfer("dated", "first"), "Second"),
                "Second": last(transfer("north-south", "second")),
            }
        }),
        "pair" => pair(&step(
            &other,
            &json!({ "op": "look", "verdict.$": "$.second" }),
            true,
        )),
        _ => {
            let fee = json!({ "op": "credit", "account": FEES, "amount.$": "$.fee" });
            let look = |verdict: &str| json!({ "op": "look", "verdict.$": verdict });
            let capture = json!({ "op": "capture", "hold.$": "$.Hold.receipt" });
            json!({
                "StartAt": "Hold",
                "Saga": { "Pivot": "Capture" },
                "States": {
                    "Hold": then(step_to(&north, &money("hold", "from", "$.total"), "Hold"), "Checks"),
                    "Checks": {
                        "Type": "Parallel",
                        "ResultPath": null,
                        "Branches": [
                            { "StartAt": "Fee", "States": {
                                "Fee": then(step(&other, &fee, true), "Rate"),
                                "Rate": last(step(&north, &look("$.rate"), true)),
                            } },
                            { "StartAt": "Vet", "States": {
                                "Vet": last(step(&south, &look("$.vet"), true)),
                            } },
                        ],
                        "Next": "Settle",
                    },
                    "Settle": { "Type": "Wait", "Seconds": 1, "Next": "Credit" },
                    "Credit": then(step(&south, &money("credit", "to", "$.amount"), true), "Capture"),
                    "Capture": then(step(&north, &capture, false), "Receipt"),
                    "Receipt": last(step(&other, &look("$.receipt"), false)),
                }
            })
        }
    }
}

/// A transfer that waits in the middle: for a while, under a deadline, or for a signature.
fn later(saga_type: &str, north: &str, south: &str) -> Value {
    let money = |op: &str, account: &str| json!({ "op": op, "account.$": format!("$.{account}"), "amount.$": "$.amount" });
    let mut debit = step(north, &money("debit", "from"), true);
    debit["Next"] = "Between".into();
    let mut credit = step(south, &money("credit", "to"), true);
    credit["End"] = true.into();
    let linger = json!({ "Type": "Wait", "SecondsPath": "$.linger", "Next": "Credit" });
    let sign = json!({
        "Type": "Task",
        "Resource": format!("wharf:signal:{SIGNAL}"),
        "TimeoutSeconds": SIGNED_SECONDS,
        "ResultPath": "$.signed",
        "Next": "Credit",
    });
    let mut machine = json!({ "StartAt": "Debit", "States": { "Debit": debit, "Credit": credit } });
    if saga_type == "dated" {
        machine["Saga"] = json!({ "DeadlineSeconds": DEADLINE_SECONDS });
        machine["States"]["Between"] = linger;
    } else {
        machine["States"]["Between"] = sign;
    }
    machine
}

/// A transfer as a sub-saga, undone by a transfer back. Either may be given up.
fn transfer(saga_type: &str, part: &str) -> Value {
    let given = |field: &str| format!("$.{part}.{field}");
    json!({
        "Type": "Task",
        "Resource": format!("wharf:saga:{saga_type}"),
        "Parameters": {
            "from.$": given("from"),
            "to.$": given("to"),
            "amount.$": given("amount"),
            "linger.$": given("linger"),
            "mood.$": given("mood"),
        },
        "ResultPath": null,
        "TimeoutSeconds": TIMEOUT_SECONDS - 2,
        "Retry": [{ "ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1 }],
        "Compensate": {
            "Resource": "wharf:saga:south-north",
            "Parameters": {
                "from.$": format!("$.input.{part}.to"),
                "to.$": format!("$.input.{part}.from"),
                "amount.$": format!("$.input.{part}.amount"),
                "mood": "fine",
            },
            "TimeoutSeconds": TIMEOUT_SECONDS,
            "Retry": [{ "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 8 }],
        },
    })
}

/// A sub-saga, undone by a transfer back, and a step that may be declined.
fn pair(second: &Value) -> Value {
    let fields = [
        "from", "to", "amount", "fee", "total", "vet", "rate", "receipt", "mood",
    ];
    let first = fields.map(|field| (format!("{field}.$"), format!("$.first.{field}").into()));
    let first: serde_json::Map<String, Value> = first.into_iter().collect();
    let mut second = second.clone();
    second["End"] = true.into();
    json!({
        "StartAt": "First",
        "States": {
            "First": {
                "Type": "Task",
                "Resource": "wharf:saga:long",
                "Parameters": first,
                "ResultPath": null,
                "Compensate": {
                    "Resource": "wharf:saga:south-north",
                    "Parameters": {
                        "from.$": "$.input.first.to",
                        "to.$": "$.input.first.from",
                        "amount.$": "$.input.first.amount",
                        "mood": "fine",
                    },
                    "Retry": [{ "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 3 }],
                },
                "Next": "Second",
            },
            "Second": second,
        }
    })
}

fn retry() -> Value {
    let declined = [
        "InsufficientFunds",
        "AccountClosed",
        "AlreadyUndone",
        "Refused",
        "Sour",
        "MoneySpent",
    ];
    json!([
        { "ErrorEquals": declined, "MaxAttempts": 0 },
        { "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 4 },
    ])
}

fn undo_retry() -> Value {
    json!([
        { "ErrorEquals": ["Sour", "MoneySpent"], "MaxAttempts": 0 },
        { "ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "BackoffRate": 1, "MaxAttempts": 20 },
    ])
}

fn step(resource: &str, parameters: &Value, undoable: bool) -> Value {
    let mut state = json!({
        "Type": "Task",
        "Resource": resource,
        "Parameters": parameters,
        "ResultPath": null,
        "TimeoutSeconds": TIMEOUT_SECONDS,
        "Retry": retry(),
    });
    if undoable {
        state["Compensate"] = undo(resource);
    }
    state
}

/// A step whose result later steps read.
fn step_to(resource: &str, parameters: &Value, place: &str) -> Value {
    let mut state = step(resource, parameters, true);
    state["ResultPath"] = format!("$.{place}").into();
    state
}

fn sata_step(resource: &str, op: &str, account: &str) -> Value {
    json!({
        "Type": "Task",
        "Resource": resource,
        "Arguments": {
            "op": op,
            "account": format!("{{% $states.input.{account} %}}"),
            "amount": "{% $states.input.amount %}",
        },
        "Output": "{% $states.input %}",
        "TimeoutSeconds": TIMEOUT_SECONDS,
        "Retry": retry(),
        "Compensate": undo(resource),
    })
}

/// Without arguments of its own an undo gets the step's input and result.
fn undo(resource: &str) -> Value {
    json!({ "Resource": resource, "TimeoutSeconds": TIMEOUT_SECONDS, "Retry": undo_retry() })
}

/// The type and the input of the saga with this number, which follow from the seed: whoever asks again
/// with the same key asks for the same.
pub(super) fn order(seed: u64, number: u64) -> (&'static str, Value) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9e37_79b9));
    let saga_type = *random.pick(&TYPES);
    let (from, to) = match saga_type {
        "south-north" => ("south", NORTH),
        _ => (NORTH, "south"),
    };
    let one_in = |random: &mut Random, many: u64| random.below(many) == 0;
    let amount = match one_in(&mut random, 12) {
        true => 1_000_000,
        false => 1 + i64::try_from(random.below(400)).unwrap_or(0),
    };
    let fee = 1 + i64::try_from(random.below(9)).unwrap_or(0);
    let to = match one_in(&mut random, 8) {
        true => "closed".to_owned(),
        false => format!("{to}-{}", random.below(ACCOUNTS)),
    };
    let verdict =
        |random: &mut Random| match one_in(random, if saga_type == "pair" { 4 } else { 10 }) {
            true => "bad",
            false => "good",
        };
    let mood = match random.below(20) {
        0 => "bitter",
        1..4 => "sour",
        _ => "fine",
    };
    let input = json!({
        "from": format!("{from}-{}", random.below(ACCOUNTS)),
        "to": to,
        "amount": amount,
        "fee": fee,
        "total": amount + fee,
        "vet": verdict(&mut random),
        "rate": verdict(&mut random),
        "receipt": verdict(&mut random),
        "mood": mood,
    });
    let mut input = input;
    input["linger"] = (1 + random.below(2 * DEADLINE_SECONDS - 3)).into();
    input["signed"] = (random.below(5) > 0).into();
    match saga_type {
        "pair" => {
            let second = verdict(&mut random);
            (saga_type, json!({ "first": input, "second": second }))
        }
        "double" => {
            let mut second = input.clone();
            second["from"] = format!("{from}-{}", random.below(ACCOUNTS)).into();
            second["amount"] = (1 + random.below(400)).into();
            (saga_type, json!({ "first": input, "second": second }))
        }
        _ => (saga_type, input),
    }
}

/// What a step does to accounts once it is done.
pub(super) fn effect(step: &str, input: &Value) -> Option<(String, i64)> {
    let amount = |name: &str| input[name].as_i64().unwrap_or_default();
    let account = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
    match step {
        "Debit" => Some((account("from"), -amount("amount"))),
        "Hold" => Some((account("from"), -amount("total"))),
        "Fee" => Some((FEES.to_owned(), amount("fee"))),
        "Credit" => Some((account("to"), amount("amount"))),
        _ => None,
    }
}

/// The steps of a type that have workers.
pub(super) fn steps(saga_type: &str) -> &'static [&'static str] {
    match saga_type {
        "long" => &["Hold", "Fee", "Rate", "Vet", "Credit", "Capture", "Receipt"],
        "pair" | "double" => &["First", "Second"],
        _ => &["Debit", "Credit"],
    }
}

/// Whether one step must be done before another, and undone after it. Steps in different branches of a
/// Parallel have no order.
pub(super) fn is_before(saga_type: &str, one: &str, other: &str) -> bool {
    let place = |step: &str| -> (u8, u8, u8) {
        match step {
            "Second" => (1, 0, 0),
            "Fee" => (1, 1, 0),
            "Rate" => (1, 1, 1),
            "Vet" => (1, 2, 0),
            "Credit" => (2, 0, 0),
            "Capture" => (3, 0, 0),
            "Receipt" => (4, 0, 0),
            _ => (0, 0, 0),
        }
    };
    let (one, other) = (place(one), place(other));
    debug_assert!(TYPES.contains(&saga_type), "{saga_type}");
    match one.0 == other.0 {
        true => one.1 == other.1 && one.2 < other.2,
        false => one.0 < other.0,
    }
}

/// Whether a step is behind the point of no return, where nothing is undone.
pub(super) fn is_forward_only(step: &str) -> bool {
    matches!(step, "Capture" | "Receipt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_valid_and_a_completed_saga_moves_money_and_makes_none() {
        for saga_type in TYPES {
            let machine = definition(saga_type, ["127.0.0.1:1", "127.0.0.1:2"]);
            let parsed = wharf_saga::definition::Definition::of(&machine);
            assert!(parsed.is_ok(), "{saga_type}: {parsed:?}");
        }
        for number in 0..200 {
            let (saga_type, input) = order(7, number);
            let effects = steps(saga_type).iter();
            let sum: i64 = effects
                .filter_map(|step| effect(step, &input))
                .map(|(_, amount)| amount)
                .sum();
            assert_eq!(sum, 0, "{saga_type} {input}");
        }
    }

    #[test]
    fn the_order_of_steps_knows_branches() {
        for (one, other, is) in [
            ("Hold", "Fee", true),
            ("Fee", "Rate", true),
            ("Rate", "Fee", false),
            ("Fee", "Vet", false),
            ("Vet", "Rate", false),
            ("Vet", "Credit", true),
            ("Credit", "Capture", true),
        ] {
            assert_eq!(is_before("long", one, other), is, "{one} {other}");
        }
    }
}
