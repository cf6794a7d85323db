//! Paths, in the dialect of AWS: that of Jayway, not RFC 9535. Nothing is written here but by
//! [`put`], which returns a new value.

mod find;
mod syntax;

use serde_json::{Map, Value};

use super::meter::Meter;
use super::{Budget, Failure, Scope, Syntax};
use crate::definition::Selection;

pub(super) use find::find;
pub(super) use syntax::{Path, Pick, Reader, Root, parse};

/// How far beyond the end of a list `ResultPath` may write: not at all.
const HOLE: &str = "the list has no such item";

/// What a path finds: one value for a path that can only mean one, a list for any other. A path
/// that finds nothing is `States.Runtime`.
pub fn value(path: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let mut meter = Meter::new(budget);
    let parsed = parse(path).map_err(|wrong| invalid(path, &wrong))?;
    match find(&parsed, scope, &mut meter)? {
        Some(found) => meter.finish(found),
        None => Err(missing(path)),
    }
}

/// What `InputPath`, `OutputPath` or `ItemsPath` select; nothing is the empty object.
pub fn select(selection: &Selection, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    match selection {
        Selection::All => {
            let mut meter = Meter::new(budget);
            meter.copy(scope.input)
        }
        Selection::Nothing => Ok(Value::Object(Map::new())),
        Selection::At(path) => value(path, scope, budget),
    }
}

/// `ResultPath`: the input with the result at its place. `$` replaces it, nothing keeps it as it
/// is; objects on the way that are not there are made.
pub fn put(
    selection: &Selection,
    input: &Value,
    result: Value,
    budget: Budget,
) -> Result<Value, Failure> {
    let mut meter = Meter::new(budget);
    let path = match selection {
        Selection::All => return meter.finish(result),
        Selection::Nothing => return meter.copy(input),
        Selection::At(path) => path,
    };
    let mismatch = |what: &str| {
        let cause = format!("Unable to apply ReferencePath {path} to the input: {what}");
        Failure::new(Failure::RESULT_PATH, cause)
    };
    let parsed = parse(path).map_err(|wrong| invalid(path, &wrong))?;
    if parsed.root != Root::Input || !parsed.is_reference() {
        return Err(mismatch("it does not mean one place of the input"));
    }
    let mut whole = meter.copy(input)?;
    let mut place = &mut whole;
    for segment in &parsed.segments {
        meter.step(1)?;
        place = match &segment.pick {
            Pick::Name(name) => {
                if place.is_null() {
                    *place = Value::Object(Map::new());
                }
                let object = place.as_object_mut().ok_or_else(|| {
                    mismatch(&format!(
                        "`{name}` would be inside something that is no object"
                    ))
                })?;
                object.entry(name.clone()).or_insert(Value::Null)
            }
            Pick::Index(index) => {
                let at = usize::try_from(*index).unwrap_or(usize::MAX);
                let list = place.as_array_mut().ok_or_else(|| {
                    mismatch(&format!(
                        "[{index}] would be inside something that is no list"
                    ))
                })?;
                list.get_mut(at).ok_or_else(|| mismatch(HOLE))?
            }
            _ => return Err(mismatch("it does not mean one place")),
        };
    }
    *place = result;
    meter.finish(whole)
}

/// Whether a path is written right.
pub fn check(path: &str) -> Result<(), Syntax> {
    parse(path).map(|_| ())
}

/// Whether it is a reference path, which means one place and can be written to: `ResultPath`.
pub fn check_reference(path: &str) -> Result<(), Syntax> {
    let parsed = parse(path)?;
    if parsed.root != Root::Input {
        return Err(Syntax::new(
            0,
            "a path that is written to begins with `$`, the input",
        ));
    }
    if !parsed.is_reference() {
        let what = "a reference path means one place: names and indexes only, without `..`, `*`, `?`, `,` or `:`";
        return Err(Syntax::new(0, what));
    }
    Ok(())
}

pub(super) fn invalid(path: &str, wrong: &Syntax) -> Failure {
    Failure::new(Failure::RUNTIME, format!("Invalid path '{path}': {wrong}"))
}

pub(super) fn missing(path: &str) -> Failure {
    let cause = format!("Invalid path '{path}': it finds nothing");
    Failure::new(Failure::RUNTIME, cause)
}
