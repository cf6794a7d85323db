//! Definitions, checked: every problem at once, with Amazon's codes and places.

use std::sync::Arc;

use serde_json::{Value, json};
use wharf_message::Code;
use wharf_saga::definition::{self, Definition};

use super::super::engine::Engine;
use super::super::refusal::Refused;
use super::Api;
use super::fault::Fault;
use super::operations::{Answer, Call};
use super::wire;

/// How many problems are told at once.
const TOLD_MAX: u64 = 100;

/// A definition that may be deployed.
pub(super) fn accepted(engine: &Engine, text: &str) -> Result<Definition, Fault> {
    let checked = engine.check(text);
    checked
        .map(|(definition, _)| definition)
        .map_err(|refused| fault(&refused))
}

/// A refusal of a definition, with every problem in one text.
pub(super) fn fault(refused: &Refused) -> Fault {
    let is_definition = matches!(
        refused.code,
        Code::SAGA_DEFINITION_INVALID | Code::SAGA_RESOURCE_UNMAPPED
    );
    if !is_definition {
        return Fault::of(refused);
    }
    let problems = diagnostics(refused.details.as_ref());
    let problems = problems
        .iter()
        .filter(|problem| problem["severity"] == "ERROR");
    let told: Vec<_> = problems
        .take(20)
        .map(|problem| {
            let part = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            format!(
                "'{}: {} at {}'",
                part("code"),
                part("message"),
                part("location")
            )
        })
        .collect();
    let why = match told.is_empty() {
        true => refused.message.clone(),
        false => told.join(", "),
    };
    Fault::new(
        "InvalidDefinition",
        format!("Invalid State Machine Definition: {why}"),
    )
}

/// Problems in the words of this API.
fn diagnostics(details: Option<&Value>) -> Vec<Value> {
    let problems = details.and_then(Value::as_array);
    let problems = problems.into_iter().flatten();
    problems.filter_map(diagnostic).collect()
}

fn diagnostic(problem: &Value) -> Option<Value> {
    let part = |name: &str| problem[name].as_str().unwrap_or_default();
    let (code, path) = (part("code"), part("path"));
    let severity = match part("severity") {
        "error" => "ERROR",
        "warning" => "WARNING",
        _ => return None,
    };
    let known = definition::Code::ALL
        .iter()
        .find(|known| known.as_str() == code);
    let unmapped = known.is_none();
    let aws = known.map_or("INVALID_RESOURCE", |known| known.aws());
    // Of a resource that leads nowhere, the path is the name of its state.
    let location = match unmapped {
        true => format!("/States/{path}/Resource"),
        false => path.to_owned(),
    };
    let message = match code == aws {
        true => part("message").to_owned(),
        false => format!("{code}: {}", part("message")),
    };
    Some(json!({ "severity": severity, "code": aws, "message": message, "location": location }))
}

pub(super) async fn run(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let text = fields.needed("definition")?;
    fields.word("type", &["STANDARD", "EXPRESS"])?;
    let warnings = fields.word("severity", &["ERROR", "WARNING"])? == Some("WARNING");
    let max = match fields.number("maxResults")?.unwrap_or(0) {
        0 => TOLD_MAX,
        max @ 1..=TOLD_MAX => max,
        _ => {
            return Err(Fault::validation(format!(
                "Value at 'maxResults' must be at most {TOLD_MAX}"
            )));
        }
    };
    if text.len() > wire::DEFINITION_BYTES_MAX {
        let why = format!("the definition has {} bytes; 1 MiB is allowed", text.len());
        return Err(Fault::validation(why));
    }
    let (details, is_good) = match api.engine.check(text) {
        Ok((_, remarks)) => (serde_json::to_value(remarks).ok(), true),
        Err(refused) => match refused.code {
            Code::SAGA_DEFINITION_INVALID | Code::SAGA_RESOURCE_UNMAPPED => {
                (refused.details, false)
            }
            _ => return Err(Fault::of(&refused)),
        },
    };
    let mut found = diagnostics(details.as_ref());
    found.retain(|problem| warnings || problem["severity"] == "ERROR");
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let truncated = found.len() > max;
    found.truncate(max);
    Ok(json!({
        "result": if is_good { "OK" } else { "FAIL" },
        "diagnostics": found,
        "truncated": truncated,
    }))
}
