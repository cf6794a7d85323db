//! Keywords one by one: which belong to which type in which draft, and the plain values they have.

use std::collections::BTreeSet;

use jsonschema::Draft;
use serde_json::{Map, Number, Value};

use super::documents::is_modern;
use super::shape::{Choice, Note, Numeric};

/// One form for all ways to write the same value: keys in order, `1.0` as `1`.
pub(super) fn form(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.0}").replace("-0", "0")
            }
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let items = items.iter().map(form).collect::<Vec<_>>();
            format!("[{}]", items.join(","))
        }
        Value::Object(members) => {
            let mut members = members
                .iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), form(value)))
                .collect::<Vec<_>>();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        plain => plain.to_string(),
    }
}

pub(super) fn note(members: &Map<String, Value>, draft: Draft) -> Note {
    let text = |keyword: &str| members.get(keyword).and_then(Value::as_str);
    let id = if draft == Draft::Draft4 { "id" } else { "$id" };
    Note {
        id: text(id).map(str::to_owned),
        title: text("title").map(str::to_owned),
        description: text("description").map(str::to_owned),
        default: members.get("default").cloned(),
        is_connect_bytes: text("connect.type") == Some("bytes"),
    }
}

pub(super) fn keywords_of(family: &str, draft: Draft) -> &'static [&'static str] {
    match (family, is_modern(draft), draft) {
        ("string", false, _) => &["minLength", "maxLength", "pattern", "format"],
        ("string", true, _) => &["minLength", "maxLength", "pattern"],
        ("number", ..) => &[
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
        ],
        ("array", false, Draft::Draft4) => &[
            "items",
            "additionalItems",
            "minItems",
            "maxItems",
            "uniqueItems",
        ],
        ("array", false, _) => &[
            "items",
            "additionalItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
        ],
        ("array", true, _) => &[
            "items",
            "additionalItems",
            "prefixItems",
            "unevaluatedItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
        ],
        (_, false, Draft::Draft4) => &[
            "properties",
            "required",
            "minProperties",
            "maxProperties",
            "dependencies",
            "patternProperties",
            "additionalProperties",
        ],
        (_, false, _) => &[
            "properties",
            "required",
            "minProperties",
            "maxProperties",
            "dependencies",
            "patternProperties",
            "additionalProperties",
            "propertyNames",
        ],
        (_, true, _) => &[
            "properties",
            "required",
            "minProperties",
            "maxProperties",
            "dependentRequired",
            "dependentSchemas",
            "patternProperties",
            "additionalProperties",
            "propertyNames",
            "unevaluatedProperties",
        ],
    }
}

pub(super) fn choice(values: &[Value]) -> Choice {
    Choice {
        values: values.to_vec(),
        forms: values.iter().map(form).collect(),
    }
}

pub(super) fn count(members: &Map<String, Value>, keyword: &str) -> Option<u64> {
    let number = members.get(keyword)?;
    number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        (float >= 0.0 && float.fract() == 0.0 && float < 1e15).then_some(float as u64)
    })
}

pub(super) fn names(list: Option<&Value>) -> BTreeSet<String> {
    let list = list
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The bounds of numbers; draft 4's `exclusiveMaximum: true` makes `maximum` an exclusive one.
pub(super) fn numeric(members: &Map<String, Value>, is_integer: bool) -> Numeric {
    let number = |keyword: &str| -> Option<Number> {
        members.get(keyword).and_then(Value::as_number).cloned()
    };
    let is_exclusive = |keyword: &str| members.get(keyword) == Some(&Value::Bool(true));
    let mut numeric = Numeric {
        is_integer,
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: number("exclusiveMinimum"),
        exclusive_maximum: number("exclusiveMaximum"),
        multiple_of: number("multipleOf"),
    };
    if is_exclusive("exclusiveMinimum") {
        numeric.exclusive_minimum = numeric.minimum.take();
    }
    if is_exclusive("exclusiveMaximum") {
        numeric.exclusive_maximum = numeric.maximum.take();
    }
    numeric
}

pub(super) fn shortened(text: &str) -> String {
    let mut short = text.chars().take(60).collect::<String>();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
