//! What a path finds. Values are walked by reference and paid for before they are copied.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::super::meter::Meter;
use super::super::{Failure, Scope};
use super::syntax::{Filter, Operand, Operator, Path, Pick, Root, Segment};

/// The value that a path finds; a definite one that finds nothing gives none.
pub(in super::super) fn find(
    path: &Path,
    scope: &Scope<'_>,
    meter: &mut Meter,
) -> Result<Option<Value>, Failure> {
    let Some(root) = root(path, scope, None) else {
        return Ok(None);
    };
    find_in(path, root, scope, meter)
}

fn root<'a>(path: &Path, scope: &Scope<'a>, item: Option<&'a Value>) -> Option<&'a Value> {
    match &path.root {
        Root::Input => Some(scope.input),
        Root::Context => Some(scope.context),
        Root::Variable(name) => scope.variables.get(name),
        Root::Item => item,
    }
}

fn find_in<'a>(
    path: &Path,
    root: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
) -> Result<Option<Value>, Failure> {
    let definite = path.is_definite();
    let mut found = vec![root];
    for (at, segment) in path.segments.iter().enumerate() {
        let mut next = Vec::new();
        if let (Pick::Names(names), true) = (&segment.pick, at + 1 == path.segments.len()) {
            let merged = merge(names, segment, &found, meter)?;
            return Ok(match (definite, merged.len()) {
                (true, 0) => None,
                (true, _) => merged.into_iter().next(),
                (false, _) => Some(Value::Array(merged)),
            });
        }
        for value in found {
            if segment.anywhere {
                descend(segment, value, scope, meter, &mut next, 0)?;
            } else {
                pick(&segment.pick, value, scope, meter, &mut next)?;
            }
        }
        found = next;
    }
    if definite {
        return found.first().map(|value| meter.copy(value)).transpose();
    }
    let copied: Result<Vec<_>, _> = found.into_iter().map(|value| meter.copy(value)).collect();
    Ok(Some(Value::Array(copied?)))
}

/// `['a','b']` at the end gives an object with those fields.
fn merge(
    names: &[String],
    segment: &Segment,
    found: &[&Value],
    meter: &mut Meter,
) -> Result<Vec<Value>, Failure> {
    let mut objects = Vec::new();
    for value in found {
        let mut all = Vec::new();
        if segment.anywhere {
            containers(value, meter, &mut all, 0)?;
        } else {
            all.push(*value);
        }
        for value in all {
            let Value::Object(fields) = value else {
                continue;
            };
            let mut kept = Map::new();
            for name in names {
                meter.step(1)?;
                if let Some(value) = fields.get(name) {
                    kept.insert(name.clone(), meter.copy(value)?);
                }
            }
            if !segment.anywhere || !kept.is_empty() {
                objects.push(Value::Object(kept));
            }
        }
    }
    Ok(objects)
}

/// Every object and list in a value, itself first.
fn containers<'a>(
    value: &'a Value,
    meter: &mut Meter,
    all: &mut Vec<&'a Value>,
    depth: usize,
) -> Result<(), Failure> {
    meter.step(1)?;
    meter.deep(depth)?;
    match value {
        Value::Array(items) => {
            all.push(value);
            (items.iter()).try_for_each(|item| containers(item, meter, all, depth + 1))
        }
        Value::Object(fields) => {
            all.push(value);
            (fields.values()).try_for_each(|item| containers(item, meter, all, depth + 1))
        }
        _ => Ok(()),
    }
}

fn descend<'a>(
    segment: &Segment,
    value: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
    next: &mut Vec<&'a Value>,
    depth: usize,
) -> Result<(), Failure> {
    let mut all = Vec::new();
    containers(value, meter, &mut all, depth)?;
    (all.into_iter()).try_for_each(|value| pick(&segment.pick, value, scope, meter, next))
}

fn pick<'a>(
    pick: &Pick,
    value: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
    next: &mut Vec<&'a Value>,
) -> Result<(), Failure> {
    meter.step(1)?;
    match (pick, value) {
        (Pick::Name(name), Value::Object(fields)) => next.extend(fields.get(name)),
        (Pick::Names(names), Value::Object(fields)) => {
            meter.step(names.len())?;
            next.extend(names.iter().filter_map(|name| fields.get(name)));
        }
        (Pick::Index(index), Value::Array(items)) => next.extend(at(items, *index)),
        (Pick::Indexes(indexes), Value::Array(items)) => {
            meter.step(indexes.len())?;
            next.extend(indexes.iter().filter_map(|index| at(items, *index)));
        }
        (Pick::Slice(from, to), Value::Array(items)) => {
            let from = bound(items, from.unwrap_or(0));
            let to = to.map_or(items.len(), |to| bound(items, to));
            let slice = items.get(from..to).unwrap_or_default();
            meter.step(slice.len())?;
            next.extend(slice);
        }
        (Pick::All, Value::Array(items)) => {
            meter.step(items.len())?;
            next.extend(items);
        }
        (Pick::All, Value::Object(fields)) => {
            meter.step(fields.len())?;
            next.extend(fields.values());
        }
        (Pick::Filter(filter), Value::Array(items)) => {
            for item in items {
                if holds(filter, item, scope, meter)? {
                    next.push(item);
                }
            }
        }
        (Pick::Filter(filter), Value::Object(_)) => {
            next.extend(holds(filter, value, scope, meter)?.then_some(value));
        }
        _ => {}
    }
    Ok(())
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let back = usize::try_from(index.unsigned_abs()).ok()?;
    let at = if index < 0 {
        items.len().checked_sub(back)?
    } else {
        back
    };
    items.get(at)
}

fn bound(items: &[Value], index: i64) -> usize {
    let distance = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    if index < 0 {
        items.len().saturating_sub(distance)
    } else {
        distance.min(items.len())
    }
}

fn holds<'a>(
    filter: &Filter,
    item: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
) -> Result<bool, Failure> {
    meter.step(1)?;
    match filter {
        Filter::And(sides) => {
            for side in sides {
                if !holds(side, item, scope, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Filter::Or(sides) => {
            for side in sides {
                if holds(side, item, scope, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Filter::Not(inner) => Ok(!holds(inner, item, scope, meter)?),
        Filter::Exists(path) => {
            let found = look(path, item, scope, meter)?;
            Ok(match found {
                Some(Value::Array(items)) => path.is_definite() || !items.is_empty(),
                found => found.is_some(),
            })
        }
        Filter::Compare(left, operator, right) => {
            let left = side(left, item, scope, meter)?;
            let right = side(right, item, scope, meter)?;
            compare(left.as_ref(), *operator, right.as_ref(), meter)
        }
    }
}

fn look<'a>(
    path: &Path,
    item: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
) -> Result<Option<Value>, Failure> {
    match root(path, scope, Some(item)) {
        // What a filter looks at is not part of what the path finds: its bytes are given back.
        Some(root) => meter.aside(|meter| find_in(path, root, scope, meter)),
        None => Ok(None),
    }
}

fn side<'a>(
    operand: &Operand,
    item: &'a Value,
    scope: &Scope<'a>,
    meter: &mut Meter,
) -> Result<Option<Value>, Failure> {
    match operand {
        Operand::Literal(value) => Ok(Some(value.clone())),
        Operand::Path(path) => look(path, item, scope, meter),
    }
}

fn compare(
    left: Option<&Value>,
    operator: Operator,
    right: Option<&Value>,
    meter: &mut Meter,
) -> Result<bool, Failure> {
    let within = |item: Option<&Value>, list: Option<&Value>, meter: &mut Meter| {
        let (Some(item), Some(Value::Array(list))) = (item, list) else {
            return Ok(false);
        };
        meter.step(list.len())?;
        Ok(list.iter().any(|other| same(item, other)))
    };
    let ordered = |wanted: fn(Ordering) -> bool| order(left, right).is_some_and(wanted);
    Ok(match operator {
        Operator::Equal => equal(left, right),
        Operator::NotEqual => !equal(left, right),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        Operator::In => within(left, right, meter)?,
        Operator::NotIn => !within(left, right, meter)?,
        Operator::Contains => match (left, right) {
            (Some(Value::String(text)), Some(Value::String(part))) => {
                meter.step(text.len())?;
                text.contains(part.as_str())
            }
            (list, item) => within(item, list, meter)?,
        },
        Operator::Size => length(left).is_some_and(|length| right == Some(&Value::from(length))),
        Operator::Empty => {
            length(left).is_some_and(|length| right == Some(&Value::Bool(length == 0)))
        }
    })
}

fn length(value: Option<&Value>) -> Option<usize> {
    match value? {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        _ => None,
    }
}

fn equal(left: Option<&Value>, right: Option<&Value>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same(left, right),
        (None, None) => true,
        _ => false,
    }
}

/// Numbers are equal by value; a number and a text are when the text is that number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        (Value::Number(number), Value::String(text)) => text.parse().ok() == number.as_f64(),
        (Value::String(text), Value::Number(number)) => *text == number.to_string(),
        _ => left == right,
    }
}

fn order(left: Option<&Value>, right: Option<&Value>) -> Option<Ordering> {
    match (left?, right?) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}
