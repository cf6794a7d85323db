//! Payload templates of JSONPath: `Parameters`, `ResultSelector`, `ItemSelector`, `Assign`.
//!
//! A template without a name that ends with `.$` is itself: nothing else in it is looked at.

mod call;
mod functions;

pub(super) use functions::digest;

use serde_json::{Map, Value};

use super::meter::Meter;
use super::{Budget, Failure, Scope, Syntax, jsonpath};

/// The template with every field `"name.$"` replaced by `"name"` and what its path or intrinsic
/// function gives.
pub fn fill(template: &Value, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let mut meter = Meter::new(budget);
    let filled = filled(template, scope, &mut meter, 0)?;
    meter.finish(filled)
}

/// The variables that an `Assign` sets.
pub fn assign(
    template: &Map<String, Value>,
    scope: &Scope<'_>,
    budget: Budget,
) -> Result<Map<String, Value>, Failure> {
    let mut meter = Meter::new(budget);
    object(template, scope, &mut meter, 0)
}

/// The value of one path or intrinsic function.
pub fn value(text: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    if text.starts_with('$') {
        return jsonpath::value(text, scope, budget);
    }
    let mut meter = Meter::new(budget);
    let value = field("", text, scope, &mut meter)?;
    meter.finish(value)
}

/// Everything in a template that is not written right.
pub fn check(template: &Value) -> Vec<Syntax> {
    let mut wrong = Vec::new();
    check_in(template, "", 0, &mut wrong);
    wrong
}

/// Whether one path or intrinsic function is written right.
pub fn check_value(text: &str) -> Result<(), Syntax> {
    if text.starts_with('$') {
        return jsonpath::check(text);
    }
    call::parse(text).map(|_| ())
}

fn filled(
    template: &Value,
    scope: &Scope<'_>,
    meter: &mut Meter,
    depth: usize,
) -> Result<Value, Failure> {
    meter.step(1)?;
    meter.deep(depth)?;
    match template {
        Value::Object(fields) => Ok(Value::Object(object(fields, scope, meter, depth)?)),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| filled(item, scope, meter, depth + 1));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        plain => meter.copy(plain),
    }
}

fn object(
    fields: &Map<String, Value>,
    scope: &Scope<'_>,
    meter: &mut Meter,
    depth: usize,
) -> Result<Map<String, Value>, Failure> {
    let mut filled_fields = Map::new();
    for (name, template) in fields {
        meter.pay(name.len())?;
        match (name.strip_suffix(".$"), template) {
            (Some(plain), Value::String(text)) => {
                let value = field(name, text, scope, meter)?;
                filled_fields.insert(plain.to_owned(), value);
            }
            (Some(_), _) => {
                let cause = format!(
                    "The value for the field '{name}' must be a text: a path or an intrinsic function"
                );
                return Err(Failure::new(Failure::RUNTIME, cause));
            }
            (None, template) => {
                let value = filled(template, scope, meter, depth + 1)?;
                filled_fields.insert(name.clone(), value);
            }
        }
    }
    Ok(filled_fields)
}

/// The value of a field `name.$`.
fn field(name: &str, text: &str, scope: &Scope<'_>, meter: &mut Meter) -> Result<Value, Failure> {
    if !text.starts_with('$') {
        return call::evaluate(text, scope, meter);
    }
    let path = jsonpath::parse(text).map_err(|wrong| jsonpath::invalid(text, &wrong))?;
    jsonpath::find(&path, scope, meter)?.ok_or_else(|| {
        let cause = format!(
            "The JSONPath '{text}' specified for the field '{name}' could not be found in the input"
        );
        Failure::new(Failure::PARAMETER, cause)
    })
}

fn check_in(template: &Value, pointer: &str, depth: usize, wrong: &mut Vec<Syntax>) {
    if depth > 200 {
        return;
    }
    match template {
        Value::Object(fields) => {
            for (name, template) in fields {
                let step = name.replace('~', "~0").replace('/', "~1");
                let pointer = format!("{pointer}/{step}");
                let found = match (name.strip_suffix(".$"), template) {
                    (None, template) => {
                        check_in(template, &pointer, depth + 1, wrong);
                        continue;
                    }
                    (Some(plain), _) if fields.contains_key(plain) => Err(Syntax::new(
                        0,
                        format!("both `{name}` and `{plain}` are given"),
                    )),
                    (Some(_), Value::String(text)) => check_value(text),
                    (Some(_), _) => {
                        let what = "a name that ends with `.$` needs a text: a path or an intrinsic function";
                        Err(Syntax::new(0, what))
                    }
                };
                if let Err(found) = found {
                    wrong.push(Syntax { pointer, ..found });
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                check_in(item, &format!("{pointer}/{at}"), depth + 1, wrong);
            }
        }
        _ => {}
    }
}
