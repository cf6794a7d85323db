//! Paths, in the dialect of AWS.

use serde_json::Value;

use super::{Budget, Failure, Scope, Syntax};
use crate::definition::Selection;

/// What a path finds: one value for a path that can only mean one, a list for any other. A path
/// that finds nothing is `States.Runtime`.
pub fn value(path: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (path, scope, budget);
    Err(Failure::new(Failure::RUNTIME, "being built"))
}

/// What `InputPath`, `OutputPath` or `ItemsPath` select; nothing is the empty object.
pub fn select(selection: &Selection, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let _ = (selection, scope, budget);
    Err(Failure::new(Failure::RUNTIME, "being built"))
}

/// `ResultPath`: the input with the result at its place.
pub fn put(
    selection: &Selection,
    input: &Value,
    result: Value,
    budget: Budget,
) -> Result<Value, Failure> {
    let _ = (selection, input, result, budget);
    Err(Failure::new(Failure::RUNTIME, "being built"))
}

/// Whether a path is written right.
pub fn check(path: &str) -> Result<(), Syntax> {
    if path.starts_with('$') {
        return Ok(());
    }
    Err(Syntax::new(0, "a path begins with `$`"))
}

/// Whether it is a reference path, which means one place and can be written to: `ResultPath`.
pub fn check_reference(path: &str) -> Result<(), Syntax> {
    let _ = path;
    Ok(())
}
