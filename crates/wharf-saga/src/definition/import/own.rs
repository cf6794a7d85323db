//! What an export of ours put into a machine, taken out again.

use std::collections::HashMap;

use serde_json::Value;

use super::super::export::{PREFIX, in_texts};
use super::super::{Assign, Compensation, Data, Flow, Kind, Machine, Next, State, States};
use super::words::rebased;

fn assign(state: &State) -> &Assign {
    match &state.data {
        Data::Path(data) => &data.assign,
        Data::Jsonata(data) => &data.assign,
    }
}

/// Where a state leads that only sets variables of an export, and nothing otherwise.
fn helper(state: &State) -> Option<&str> {
    let sets = assign(state);
    let own = !sets.is_empty() && sets.keys().all(|key| key.starts_with(PREFIX));
    match (&state.kind, &state.next, &state.data) {
        (Kind::Pass(_), Next::To(next), Data::Jsonata(data)) if own && data.output.is_none() => {
            Some(next)
        }
        _ => None,
    }
}

/// The machine without the states that remember inputs.
pub(super) fn without_helpers(mut machine: Machine) -> Machine {
    let over: HashMap<String, String> = machine
        .flow
        .states
        .iter()
        .filter_map(|state| Some((state.name.clone(), helper(state)?.to_owned())))
        .collect();
    let on = |name: &String| {
        let mut name = name;
        // No way over helpers is longer than there are helpers.
        for _ in 0..=over.len() {
            match over.get(name) {
                Some(next) => name = next,
                None => break,
            }
        }
        name.clone()
    };
    let mut states = States::default();
    for mut state in machine.flow.states.iter().cloned() {
        if over.contains_key(&state.name) {
            continue;
        }
        if let Next::To(next) = &mut state.next {
            *next = on(next);
        }
        state
            .catch
            .iter_mut()
            .for_each(|catcher| catcher.next = on(&catcher.next));
        if let Kind::Choice(choice) = &mut state.kind {
            choice
                .rules
                .iter_mut()
                .for_each(|rule| rule.next = on(&rule.next));
            choice.default = choice.default.as_ref().map(on);
        }
        let _taken = states.push(state).is_err();
    }
    let start_at = on(&machine.flow.start_at);
    machine.flow = Flow {
        comment: machine.flow.comment,
        start_at,
        states,
    };
    machine
}

/// The machine without the variables that remember inputs and results, where nothing reads them
/// but an undo.
pub(super) fn without_variables(mut machine: Machine) -> Machine {
    for state in machine.flow.states.iter_mut() {
        if state.compensate.is_none() {
            continue;
        }
        match &mut state.data {
            Data::Path(data) => data.assign.retain(|key, _| !key.starts_with(PREFIX)),
            Data::Jsonata(data) => data.assign.retain(|key, _| !key.starts_with(PREFIX)),
        }
        let of_path = matches!(state.data, Data::Path(_));
        if let Some(undo) = &mut state.compensate {
            restore(undo, of_path);
        }
    }
    machine
}

fn restore(undo: &mut Compensation, of_path: bool) {
    let Some(arguments) = undo.arguments.take() else {
        return;
    };
    let (input, result) = (format!("${PREFIX}input_"), format!("${PREFIX}result_"));
    let change = |text: &str, root: &str| {
        let text = renamed(text, &input, &format!("{root}input"));
        renamed(&text, &result, &format!("{root}result"))
    };
    let restored = if of_path {
        rebased(arguments, &mut |path| change(path, "$."))
    } else {
        in_texts(arguments, &|text| change(text, "$states."))
    };
    let names = if of_path {
        ["input.$", "result.$"]
    } else {
        ["input", "result"]
    };
    let default = restored.as_object().is_some_and(|map| {
        let is = |name: &str, text: &str| map.get(name).and_then(Value::as_str) == Some(text);
        let both = [
            ("$.input", "$.result"),
            ("{% $states.input %}", "{% $states.result %}"),
        ];
        map.len() == 2
            && both
                .iter()
                .any(|(input, result)| is(names[0], input) && is(names[1], result))
    });
    undo.arguments = (!default).then_some(restored);
}

/// A text with every variable of that beginning, its number too, under another name.
fn renamed(text: &str, start: &str, name: &str) -> String {
    let mut parts = text.split(start);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(name);
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}
