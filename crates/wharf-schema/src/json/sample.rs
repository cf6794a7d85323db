//! Records that a schema probably allows: raw material for witnesses and for tests.
//!
//! Nothing here promises that a record is valid: whoever uses one asks the validator. The work is
//! bounded by depth, by the variants of each part, and by the parts one sampler makes in all.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Number, Value, json};

use super::shape::{Array, Combined, Criterion, Index, Model, Numeric, Object, Shape, Text};

/// How deep records are nested.
const DEPTH_MAX: usize = 10;

/// How many variants of a part are made.
const VARIANTS_MAX: usize = 8;

/// How many characters, items or properties are made to fill a minimum.
pub(super) const LENGTH_MAX: u64 = 300;

/// The name of a property that no schema is expected to list.
pub(super) const OTHER: &str = "other";

/// One record of every type, and some more.
pub(super) fn anything() -> Vec<Value> {
    vec![
        json!("a"),
        json!(0),
        json!(true),
        json!(null),
        json!({}),
        json!([]),
        json!(1.5),
        json!(""),
    ]
}

/// Makes records for schemas of a model.
pub(super) struct Sampler<'m> {
    model: &'m Model,
    /// How many parts may still be made.
    budget: usize,
}

impl<'m> Sampler<'m> {
    pub(super) fn new(model: &'m Model, budget: usize) -> Self {
        Self { model, budget }
    }

    /// Records for a schema, those that are most likely valid and smallest first.
    pub(super) fn records(&mut self, index: Index) -> Vec<Value> {
        self.below(index, 0)
    }

    fn below(&mut self, index: Index, depth: usize) -> Vec<Value> {
        if depth > DEPTH_MAX || self.budget == 0 {
            return vec![Value::Null];
        }
        self.budget -= 1;
        let model = self.model;
        let mut records = match &model.node(model.resolve(index)).shape {
            Shape::Everything => anything(),
            Shape::Nothing | Shape::Reference(_) => Vec::new(),
            Shape::Null => vec![Value::Null],
            Shape::Boolean => vec![json!(true), json!(false)],
            Shape::String(text) => strings(text),
            Shape::Number(numeric) => numbers(numeric),
            Shape::Enum(choice) | Shape::Const(choice) => {
                choice.values.iter().take(VARIANTS_MAX).cloned().collect()
            }
            Shape::Not(inner) => {
                let inner = self.below(*inner, depth + 1);
                let mut records = anything();
                records.retain(|record| !inner.contains(record));
                records
            }
            Shape::Combined(combined) => self.combination(combined, depth),
            Shape::Conditional(parts) => {
                let mut records = Vec::new();
                for part in parts.iter().flatten() {
                    records.extend(self.below(*part, depth + 1));
                }
                records.extend(anything());
                records
            }
            Shape::Object(object) => self.objects(object, depth),
            Shape::Array(array) => self.arrays(array, depth),
        };
        records.truncate(VARIANTS_MAX);
        records
    }

    fn first(&mut self, index: Index, depth: usize) -> Value {
        let records = self.below(index, depth + 1);
        records.into_iter().next().unwrap_or_default()
    }

    fn combination(&mut self, combined: &Combined, depth: usize) -> Vec<Value> {
        let parts = combined.distinct.iter().take(VARIANTS_MAX);
        let mut of_parts = parts
            .map(|part| self.below(*part, depth + 1))
            .collect::<Vec<_>>();
        let mut records = Vec::new();
        if combined.criterion == Criterion::All {
            // What the parts want together comes before what each wants alone.
            for variant in 0..2 {
                let wanted = of_parts
                    .iter()
                    .filter_map(|records| records.get(variant).or_else(|| records.first()));
                records.extend(wanted.cloned().reduce(merged));
            }
        }
        while of_parts.iter().any(|records| !records.is_empty()) {
            for part in &mut of_parts {
                if !part.is_empty() {
                    records.push(part.remove(0));
                }
            }
        }
        records
    }

    fn objects(&mut self, object: &Object, depth: usize) -> Vec<Value> {
        let mut required = Map::new();
        for name in &object.required {
            let value = self.property(object, name, depth);
            required.insert(name.clone(), value);
        }
        let mut fillers = object
            .properties
            .keys()
            .cloned()
            .chain((0..LENGTH_MAX).map(|number| format!("{OTHER}{number}")));
        while (required.len() as u64) < object.min_properties.unwrap_or(0).min(LENGTH_MAX) {
            let Some(name) = fillers.next() else { break };
            if !required.contains_key(&name) {
                let value = self.property(object, &name, depth);
                required.insert(name, value);
            }
        }
        let mut all = required.clone();
        for (name, schema) in object.properties.iter().take(64) {
            if !all.contains_key(name) {
                let value = self.first(*schema, depth);
                all.insert(name.clone(), value);
            }
        }
        let mut other = required.clone();
        other.insert(OTHER.to_owned(), self.property(object, OTHER, depth));
        let mut records = vec![Value::Object(required.clone()), Value::Object(all)];
        for (name, schema) in object.properties.iter().take(4) {
            for value in self.below(*schema, depth + 1).into_iter().take(2) {
                let mut one = required.clone();
                one.insert(name.clone(), value);
                records.push(Value::Object(one));
            }
        }
        records.insert(2, Value::Object(other));
        records.dedup();
        records
    }

    fn property(&mut self, object: &Object, name: &str, depth: usize) -> Value {
        match object.schema_of(name) {
            Some(schema) => self.first(schema, depth),
            None => json!("a"),
        }
    }

    fn arrays(&mut self, array: &Array, depth: usize) -> Vec<Value> {
        let least = array.min_items.unwrap_or(0).min(LENGTH_MAX) as usize;
        let mut records = Vec::new();
        let contained = match array.contains {
            Some(schema) => self.below(schema, depth + 1),
            None => Vec::new(),
        };
        let wanted = array
            .min_contains
            .unwrap_or(u64::from(array.contains.is_some()));
        for count in [least, least.max(1), array.first.len().max(least), least + 2] {
            let mut items = Vec::new();
            for place in 0..count {
                let value = match array.schema_of(place) {
                    Some(schema) => {
                        let records = self.below(schema, depth + 1);
                        let variant = if array.is_unique { place } else { 0 };
                        let record = records.get(variant).or(records.first());
                        record.cloned().unwrap_or_default()
                    }
                    None if array.is_unique => json!(place),
                    None => anything()[place % 4].clone(),
                };
                items.push(value);
            }
            for extra in 0..wanted.min(LENGTH_MAX) as usize {
                let value = contained.get(if array.is_unique { extra } else { 0 });
                if extra < items.len() && array.first.is_empty() {
                    items[extra] = value.cloned().unwrap_or_default();
                } else {
                    items.push(value.cloned().unwrap_or_default());
                }
            }
            records.push(Value::Array(items));
        }
        records.dedup();
        records
    }
}

/// Two records in one: objects have what both have, of others the first stays.
pub(super) fn merged(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Object(mut left), Value::Object(right)) => {
            for (name, value) in right {
                let value = match left.remove(&name) {
                    Some(before) => merged(before, value),
                    None => value,
                };
                left.insert(name, value);
            }
            Value::Object(left)
        }
        (left, _) => left,
    }
}

/// A text of so many characters.
pub(super) fn text_of(length: u64) -> Value {
    Value::from("a".repeat(usize::try_from(length).unwrap_or_default()))
}

fn strings(text: &Text) -> Vec<Value> {
    let least = text.min_length.unwrap_or(0).min(LENGTH_MAX);
    let most = text.max_length.unwrap_or(least + 8).min(LENGTH_MAX);
    let Some(pattern) = &text.pattern else {
        let mut lengths = vec![least.max(1).min(most), least, most];
        lengths.dedup();
        return lengths.into_iter().map(text_of).collect();
    };
    let texts = matching(pattern, least).into_iter();
    let mut records = texts.map(Value::from).collect::<Vec<_>>();
    for filler in ["a", "0", "A", " ", "-"] {
        records.push(Value::from(filler.repeat(least.max(1) as usize)));
    }
    records
}

/// Texts in which an expression is found, of at least so many characters where it allows more;
/// none where it is beyond the regular language.
pub(super) fn matching(pattern: &str, least: u64) -> Vec<String> {
    let Ok(parsed) = regex_syntax::parse(pattern) else {
        return Vec::new();
    };
    [0, 1, 2]
        .into_iter()
        .map(|variant| {
            let mut text = String::new();
            generate(&parsed, variant, 0, &mut text);
            let missing = least
                .min(LENGTH_MAX)
                .saturating_sub(text.chars().count() as u64);
            let filler = text.chars().last().unwrap_or('a');
            text.extend(std::iter::repeat_n(filler, missing as usize));
            text
        })
        .collect()
}

fn generate(hir: &Hir, variant: usize, depth: usize, text: &mut String) {
    if text.len() > LENGTH_MAX as usize || depth > 30 {
        return;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges();
            let printable = ranges
                .iter()
                .find(|range| range.end() >= ' ')
                .or(ranges.first());
            if let Some(range) = printable {
                let last = range.start().max(' ').min(range.end());
                text.push(if variant == 2 && range.end().is_ascii() {
                    range.end()
                } else {
                    last
                });
            }
        }
        HirKind::Class(Class::Bytes(_)) => text.push('a'),
        HirKind::Repetition(repetition) => {
            let extra = u32::from(variant > 0 && repetition.max != Some(repetition.min));
            for _ in 0..(repetition.min + extra).min(LENGTH_MAX as u32) {
                generate(&repetition.sub, variant, depth + 1, text);
            }
        }
        HirKind::Capture(capture) => generate(&capture.sub, variant, depth + 1, text),
        HirKind::Concat(parts) => {
            for part in parts {
                generate(part, variant, depth + 1, text);
            }
        }
        HirKind::Alternation(parts) => {
            if let Some(part) = parts.get(variant % parts.len().max(1)) {
                generate(part, variant, depth + 1, text);
            }
        }
    }
}

/// Numbers at the bounds and beside them.
pub(super) fn numbers(numeric: &Numeric) -> Vec<Value> {
    let mut numbers = Vec::new();
    if let Some(step) = &numeric.multiple_of {
        let lowest = numeric
            .minimum
            .as_ref()
            .or(numeric.exclusive_minimum.as_ref());
        let start = match (lowest.and_then(Number::as_f64), step.as_f64()) {
            (Some(lowest), Some(step)) if step != 0.0 => (lowest / step).ceil(),
            _ => 0.0,
        };
        numbers.extend([0.0, 1.0, 2.0, 3.0, -1.0].map(|more| times(step, start + more)));
        numbers.retain(|number| !number.is_null());
    }
    numbers.extend(
        numeric
            .minimum
            .iter()
            .chain(&numeric.maximum)
            .map(|bound| json!(bound)),
    );
    for (bound, beside) in [
        (&numeric.exclusive_minimum, 1),
        (&numeric.exclusive_maximum, -1),
        (&numeric.minimum, 1),
        (&numeric.maximum, -1),
    ] {
        numbers.extend(bound.iter().flat_map(|bound| beside_of(bound, beside)));
    }
    numbers.extend([json!(0), json!(1), json!(-1)]);
    if !numeric.is_integer {
        numbers.insert(1, json!(0.5));
    }
    numbers
}

/// A bound plus one and plus a half, towards the side that `towards` says.
pub(super) fn beside_of(bound: &Number, towards: i64) -> Vec<Value> {
    let whole = bound.as_i64().and_then(|bound| bound.checked_add(towards));
    let float = bound.as_f64().unwrap_or_default();
    let half = json!(float + 0.5 * towards as f64);
    match whole {
        Some(whole) => vec![json!(whole), half],
        None => vec![json!(float + towards as f64), half],
    }
}

/// So many times a step, whole where the step is.
fn times(step: &Number, count: f64) -> Value {
    match step.as_i64() {
        Some(step) if count.abs() < 1e15 => step
            .checked_mul(count as i64)
            .map_or(Value::Null, Value::from),
        _ => json!(step.as_f64().unwrap_or_default() * count),
    }
}
