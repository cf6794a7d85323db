//! What is inside a Parallel or Map under test: each branch becomes one task, which the mock answers.
//! What is inside is validated before, as it was given. Depth is that of the parsed definition.

use serde_json::{Map, Value, json};

use super::super::fault::Fault;

/// The fields of a state that hold flows.
const FLOWS: [&str; 3] = ["Branches", "ItemProcessor", "Iterator"];

/// The flows inside a state.
fn flows(state: &Value) -> Vec<&Value> {
    let fields = FLOWS.into_iter().filter_map(|field| state.get(field));
    let mut found = Vec::new();
    for field in fields {
        match field {
            Value::Array(branches) => found.extend(branches),
            flow => found.push(flow),
        }
    }
    found
}

/// The state of that name in a machine, however deep, in the machine's language.
pub(super) fn find(flow: &Value, name: &str, language: Option<&Value>) -> Option<Value> {
    let states = flow.get("States")?.as_object()?;
    if let Some(state) = states.get(name) {
        let mut state = state.clone();
        if let (Some(language), Some(state)) = (language, state.as_object_mut()) {
            state
                .entry("QueryLanguage")
                .or_insert_with(|| language.clone());
        }
        return Some(state);
    }
    let mut inside = states.values().flat_map(flows);
    inside.find_map(|flow| find(flow, name, language))
}

/// A Parallel or Map whose branches are one task each; and the number of the branch in which the
/// error of this state is caused.
pub(super) fn answered(mut state: Value, caused_by: Option<&str>) -> Result<(Value, u32), Fault> {
    let place = |flow: &&Value| caused_by.is_some_and(|name| find(flow, name, None).is_some());
    let failing = flows(&state).iter().position(place);
    if let (Some(name), None) = (caused_by, failing) {
        return Err(Fault::validation(format!(
            "'errorCausedByState' is {name:?}, and there is no such state inside"
        )));
    }
    let state_fields = state.as_object_mut().into_iter().flatten();
    for (field, value) in state_fields {
        if !FLOWS.contains(&field.as_str()) {
            continue;
        }
        match value {
            Value::Array(branches) => branches.iter_mut().for_each(replace),
            flow => replace(flow),
        }
    }
    let failing = failing.and_then(|index| u32::try_from(index).ok());
    Ok((state, failing.unwrap_or(0)))
}

/// One task in place of a flow, under the name of its first state.
fn replace(flow: &mut Value) {
    let first = flow.get("StartAt").and_then(Value::as_str);
    let first = first.unwrap_or_default().to_owned();
    let task = json!({ "Type": "Task", "Resource": "wharf:handler:mock", "End": true });
    if let Some(fields) = flow.as_object_mut() {
        fields.insert("States".to_owned(), Map::from_iter([(first, task)]).into());
    }
}
