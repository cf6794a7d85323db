//! `{% … %}` in any JSON value: `Arguments`, `Output`, `Assign`, `Items`, `Condition`.

use serde_json::{Map, Value};

use super::{Budget, Failure, Scope, Syntax};

/// The value with every text `{% … %}` replaced by what the expression gives.
pub fn fill(template: &Value, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (template, scope, budget);
    Err(Failure::new(Failure::QUERY, "being built"))
}

/// The variables that an `Assign` sets.
pub fn assign(
    template: &Map<String, Value>,
    scope: &Scope<'_>,
    budget: Budget,
) -> Result<Map<String, Value>, Failure> {
    let _ = (template, scope, budget);
    Err(Failure::new(Failure::QUERY, "being built"))
}

/// The value of one expression, with its `{%` and `%}`.
pub fn value(text: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (text, scope, budget);
    Err(Failure::new(Failure::QUERY, "being built"))
}

/// Whether a text is an expression: it begins with `{%` and ends with `%}`.
pub fn is_expression(text: &str) -> bool {
    text.len() >= 4 && text.starts_with("{%") && text.ends_with("%}")
}

/// Everything in a value that is not written right.
pub fn check(template: &Value) -> Vec<Syntax> {
    let _ = template;
    Vec::new()
}

/// Whether one expression, with its `{%` and `%}`, is written right.
pub fn check_value(text: &str) -> Result<(), Syntax> {
    let _ = text;
    Ok(())
}
