//! Payload templates of JSONPath: `Parameters`, `ResultSelector`, `ItemSelector`, `Assign`.

use serde_json::{Map, Value};

use super::{Budget, Failure, Scope, Syntax};

/// The template with every field `"name.$"` replaced by `"name"` and what its path or intrinsic
/// function gives.
pub fn fill(template: &Value, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (template, scope, budget);
    Err(Failure::new(Failure::PARAMETER, "being built"))
}

/// The variables that an `Assign` sets.
pub fn assign(
    template: &Map<String, Value>,
    scope: &Scope<'_>,
    budget: Budget,
) -> Result<Map<String, Value>, Failure> {
    let _ = (template, scope, budget);
    Err(Failure::new(Failure::PARAMETER, "being built"))
}

/// The value of one path or intrinsic function.
pub fn value(text: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (text, scope, budget);
    Err(Failure::new(Failure::PARAMETER, "being built"))
}

/// Everything in a template that is not written right.
pub fn check(template: &Value) -> Vec<Syntax> {
    let _ = template;
    Vec::new()
}

/// Whether one path or intrinsic function is written right.
pub fn check_value(text: &str) -> Result<(), Syntax> {
    let _ = text;
    Ok(())
}
