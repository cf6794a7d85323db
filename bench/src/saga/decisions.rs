//! What a decision of the machine costs by itself: no log, no worker, no other thread.

use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::Definition;
use wharf_saga::machine::{Env, Fact, Input, Outcome, Saga, SagaId, Start, What, step};

use super::Options;
use super::figures::{Figure, Report, Who};
use crate::report::Unit;

/// The rows.
pub(super) const DECISIONS: [&str; 3] = ["decide-pass", "decide-task", "decide-jsonata"];
/// How many states one decision passes through.
const PASSES: u32 = 100;

/// The rows of decisions.
pub(super) fn measure(options: &Options, report: &mut Report) {
    type Row = fn(&Options) -> Result<Figure>;
    let rows: [Row; 3] = [
        pass,
        |options| tasks(options, &path()),
        |options| tasks(options, &jsonata()),
    ];
    for (row, measure) in DECISIONS.into_iter().zip(rows) {
        if options.wants(row) {
            report.add(row, Who::WharfRust, measure(options));
        }
    }
}

fn accepted(definition: &Value) -> Result<Definition> {
    let read = Definition::read(&definition.to_string());
    Ok(read.map_err(|problems| anyhow!("{problems}"))?.definition)
}

fn start(definition: &Definition) -> Input {
    let input = json!({ "id": 7, "customer": "c-17", "total": 4200, "items": [1, 2, 3] });
    Input::Start(Start {
        id: SagaId::of("bench", "7"),
        saga_type: "bench".to_owned(),
        definition: definition.hash,
        key: "7".to_owned(),
        input: input.into(),
        correlation: None,
        traceparent: None,
        attributes: std::collections::BTreeMap::new(),
        parent: None,
    })
}

/// At a moment that only goes on: the machine has no clock.
fn env(at: i64) -> Env<'static> {
    Env::at(Timestamp::from_millis(1_700_000_000_000 + at), 7)
}

fn micros(began: Instant, decisions: u64) -> Figure {
    let each = began.elapsed().as_secs_f64() * 1e6 / decisions as f64;
    Figure::new(each, Unit::Micros)
}

/// States that pass their input on, many in one decision.
fn pass(options: &Options) -> Result<Figure> {
    let mut states = serde_json::Map::new();
    for at in 0..PASSES {
        let next = format!("pass-{}", at + 1);
        let state = json!({ "Type": "Pass", "Result": at, "ResultPath": "$.last", "Next": next });
        states.insert(format!("pass-{at}"), state);
    }
    states.insert(format!("pass-{PASSES}"), json!({ "Type": "Succeed" }));
    let definition = accepted(&json!({ "StartAt": "pass-0", "States": states }))?;
    let (began, mut passed) = (Instant::now(), 0);
    while began.elapsed() < options.length() / 4 {
        let mut saga = Saga::default();
        step(&definition, &mut saga, start(&definition), &env(0))
            .map_err(|refusal| anyhow!("{refusal}"))?;
        ensure!(saga.ended().is_some(), "a saga of Pass states did not end");
        passed += u64::from(PASSES);
    }
    Ok(micros(began, passed))
}

/// Two states that follow each other; only an error would end it.
fn states(state: impl Fn(&str) -> Value) -> Value {
    json!({ "here": state("there"), "there": state("here"), "end": { "Type": "Succeed" } })
}

fn path() -> Value {
    let state = |next: &str| {
        json!({
            "Type": "Task",
            "Resource": "wharf:topic:charge",
            "Parameters": { "order.$": "$.id", "total.$": "$.total", "currency": "EUR" },
            "ResultPath": "$.charged",
            "TimeoutSeconds": 60,
            "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "end" }],
            "Next": next,
        })
    };
    json!({ "StartAt": "here", "States": states(state) })
}

fn jsonata() -> Value {
    let state = |next: &str| {
        json!({
            "Type": "Task",
            "Resource": "wharf:topic:charge",
            "Arguments": {
                "order": "{% $states.input.id %}",
                "total": "{% $states.input.total * 1.19 %}",
                "currency": "EUR",
            },
            "Output": "{% $merge([$states.input, {'charged': $states.result}]) %}",
            "TimeoutSeconds": 60,
            "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "end" }],
            "Next": next,
        })
    };
    json!({ "QueryLanguage": "JSONata", "StartAt": "here", "States": states(state) })
}

/// The answer of a worker that leaves one task and dispatches the next.
fn tasks(options: &Options, definition: &Value) -> Result<Figure> {
    let definition = accepted(definition)?;
    let mut saga = Saga::default();
    let decided = step(&definition, &mut saga, start(&definition), &env(0));
    let mut facts = decided.map_err(|refusal| anyhow!("{refusal}"))?.facts;
    let (began, mut decisions) = (Instant::now(), 0_u32);
    while began.elapsed() < options.length() / 4 {
        decisions += 1;
        let input = answer(&facts)?;
        let decided = step(&definition, &mut saga, input, &env(i64::from(decisions)));
        facts = decided.map_err(|refusal| anyhow!("{refusal}"))?.facts;
    }
    Ok(micros(began, u64::from(decisions)))
}

/// What the worker of the task that just went out says.
fn answer(facts: &[Fact]) -> Result<Input> {
    let sent = facts.iter().rev().find_map(|fact| match &fact.what {
        What::Dispatched(sent) => Some((sent.step, sent.generation)),
        _ => None,
    });
    let (step, generation) = sent.ok_or_else(|| anyhow!("no task went out: {facts:?}"))?;
    Ok(Input::Reply {
        step,
        generation,
        outcome: Outcome::Success(json!({ "receipt": "r-42" }).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_takes_the_saga_to_its_next_task() {
        for definition in [path(), jsonata()] {
            let definition = accepted(&definition).unwrap();
            let mut saga = Saga::default();
            let mut input = start(&definition);
            for at in 0..5 {
                let decided = step(&definition, &mut saga, input, &env(at)).unwrap();
                input = answer(&decided.facts).unwrap();
            }
        }
    }
}
