//! When a rule of a Choice holds, in both languages.
//!
//! A comparison of values of other kinds does not hold; a variable that is not there is an error,
//! unless that is what is asked.

use std::cmp::Ordering;

use serde_json::Value;

use super::meter::{Meter, moment};
use super::{Budget, Failure, Scope, Syntax, jsonata, jsonpath};
use crate::definition::{Comparison, Condition, Given, Relation, Test};

/// Whether a condition holds.
pub fn holds(condition: &Condition, scope: &Scope<'_>, budget: Budget) -> Result<bool, Failure> {
    let mut meter = Meter::new(budget);
    decide(condition, scope, &mut meter, 0)
}

/// Everything in a condition that is not written right.
pub fn check(condition: &Condition) -> Vec<Syntax> {
    let mut wrong = Vec::new();
    check_in(condition, &mut wrong);
    wrong
}

fn decide(
    condition: &Condition,
    scope: &Scope<'_>,
    meter: &mut Meter,
    depth: usize,
) -> Result<bool, Failure> {
    meter.step(1)?;
    meter.deep(depth)?;
    match condition {
        Condition::Always(holds) => Ok(*holds),
        Condition::Jsonata(text) => match jsonata::value(text, scope, meter.budget())? {
            Value::Bool(holds) => Ok(holds),
            other => {
                let cause = format!(
                    "The JSONata expression '{text}' of a Condition gave {other}, not true or false"
                );
                Err(Failure::new(Failure::QUERY, cause))
            }
        },
        Condition::And(all) => {
            for condition in all {
                if !decide(condition, scope, meter, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Condition::Or(any) => {
            for condition in any {
                if decide(condition, scope, meter, depth + 1)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Condition::Not(inner) => Ok(!decide(inner, scope, meter, depth + 1)?),
        Condition::Compare(comparison) => compare(comparison, scope, meter),
    }
}

fn look(path: &str, scope: &Scope<'_>, meter: &mut Meter) -> Result<Option<Value>, Failure> {
    let parsed = jsonpath::parse(path).map_err(|wrong| jsonpath::invalid(path, &wrong))?;
    meter.aside(|meter| jsonpath::find(&parsed, scope, meter))
}

/// The other side: what stands there, or what its path finds.
fn other<T: Clone + Into<Value>>(
    given: &Given<T>,
    scope: &Scope<'_>,
    meter: &mut Meter,
) -> Result<Value, Failure> {
    match given {
        Given::Fixed(value) => Ok(value.clone().into()),
        Given::From(path) => look(path, scope, meter)?.ok_or_else(|| jsonpath::missing(path)),
    }
}

fn compare(comparison: &Comparison, scope: &Scope<'_>, meter: &mut Meter) -> Result<bool, Failure> {
    let path = &comparison.variable;
    let found = look(path, scope, meter)?;
    if let Test::IsPresent(wanted) = comparison.test {
        return Ok(found.is_some() == wanted);
    }
    let Some(value) = found else {
        let cause = format!(
            "Invalid path '{path}': The choice state's condition path references an invalid value"
        );
        return Err(Failure::new(Failure::RUNTIME, cause));
    };
    Ok(match &comparison.test {
        Test::Text(relation, given) => {
            let other = other(given, scope, meter)?;
            let sides = value.as_str().zip(other.as_str());
            sides.is_some_and(|(left, right)| fits(*relation, Some(left.cmp(right))))
        }
        Test::Matches(pattern) => match &value {
            Value::String(text) => matches(pattern, text, meter)?,
            _ => false,
        },
        Test::Number(relation, given) => {
            let other = other(given, scope, meter)?;
            match (&value, &other) {
                (Value::Number(left), Value::Number(right)) => {
                    fits(*relation, numbers(left, right))
                }
                _ => false,
            }
        }
        Test::Boolean(given) => {
            let other = other(given, scope, meter)?;
            value.is_boolean() && value == other
        }
        Test::Moment(relation, given) => {
            let other = other(given, scope, meter)?;
            let read = |value: &Value| value.as_str().and_then(moment);
            let sides = read(&value).zip(read(&other));
            sides.is_some_and(|(left, right)| fits(*relation, Some(left.cmp(&right))))
        }
        Test::IsPresent(wanted) => *wanted,
        Test::IsNull(wanted) => value.is_null() == *wanted,
        Test::IsNumeric(wanted) => value.is_number() == *wanted,
        Test::IsString(wanted) => value.is_string() == *wanted,
        Test::IsBoolean(wanted) => value.is_boolean() == *wanted,
        Test::IsTimestamp(wanted) => value.as_str().and_then(moment).is_some() == *wanted,
    })
}

/// Integers are compared as integers, however large; anything else as doubles.
fn numbers(left: &serde_json::Number, right: &serde_json::Number) -> Option<Ordering> {
    let whole = |n: &serde_json::Number| {
        n.as_i64()
            .map(i128::from)
            .or_else(|| n.as_u64().map(i128::from))
    };
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

fn fits(relation: Relation, order: Option<Ordering>) -> bool {
    order.is_some_and(|order| match relation {
        Relation::Equal => order.is_eq(),
        Relation::Less => order.is_lt(),
        Relation::LessOrEqual => order.is_le(),
        Relation::Greater => order.is_gt(),
        Relation::GreaterOrEqual => order.is_ge(),
    })
}

/// `*` stands for anything, `\` before a character for that character.
fn matches(pattern: &str, text: &str, meter: &mut Meter) -> Result<bool, Failure> {
    // `None` is `*`.
    let mut wanted = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        wanted.push(match c {
            '*' => None,
            '\\' => Some(chars.next().unwrap_or('\\')),
            c => Some(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` did not fit.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        meter.step(1)?;
        match wanted.get(p) {
            Some(None) => {
                again = Some((p + 1, t));
                p += 1;
            }
            Some(Some(c)) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match again {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    again = Some((after, from + 1));
                }
                None => return Ok(false),
            },
        }
    }
    Ok(wanted[p..].iter().all(Option::is_none))
}

fn check_in(condition: &Condition, wrong: &mut Vec<Syntax>) {
    let mut path = |path: &str| wrong.extend(jsonpath::check(path).err());
    match condition {
        Condition::Always(_) => {}
        Condition::Jsonata(text) => wrong.extend(jsonata::check_value(text).err()),
        Condition::And(all) | Condition::Or(all) => {
            for condition in all {
                check_in(condition, wrong);
            }
        }
        Condition::Not(inner) => check_in(inner, wrong),
        Condition::Compare(comparison) => {
            path(&comparison.variable);
            match &comparison.test {
                Test::Text(_, Given::From(other))
                | Test::Number(_, Given::From(other))
                | Test::Boolean(Given::From(other))
                | Test::Moment(_, Given::From(other)) => path(other),
                _ => {}
            }
        }
    }
}
