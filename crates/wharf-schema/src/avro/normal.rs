//! What Confluent's `normalize=true` changes in a canonical text: attributes that Avro does not know
//! are sorted by name, those of a valid logical type first; aliases are sorted; defaults have the
//! form of their types; an empty `doc` of a named type is dropped.
//!
//! Nothing here changes what the schema means: a default of a union's later branch, which Confluent
//! drops, is kept.

use serde_json::{Map, Value};

use super::check::Steps;
use super::decode::{double_value, float_value};
use super::graph::{Graph, Kind, Node, NodeId, Properties};

/// How much of a default may be looked at to find its branch; beyond, it stays as it is.
const STEPS_MAX: usize = 10_000;
const DEPTH_MAX: usize = 128;

/// The attributes of a type in their order.
pub(super) fn properties_of(node: &Node) -> Properties {
    let mut sorted = sorted(&node.properties);
    let mut first = Properties::new();
    let leaders: &[&str] = match logical_type(node) {
        Some("decimal") if scale(node) == Some(0) => &["logicalType", "precision"],
        Some("decimal") => &["logicalType", "precision", "scale"],
        Some(_) => &["logicalType"],
        None => &[],
    };
    for leader in leaders {
        if let Some(value) = sorted.shift_remove(*leader) {
            first.insert((*leader).to_owned(), value);
        }
    }
    first.extend(sorted);
    first
}

/// Attributes by name, and the same for every object within.
pub(super) fn sorted(properties: &Properties) -> Properties {
    let mut entries: Vec<_> = properties.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    let entries = entries.into_iter();
    entries
        .map(|(key, value)| (key.clone(), sorted_value(value)))
        .collect()
}

fn sorted_value(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(sorted(object)),
        Value::Array(items) => items.iter().map(sorted_value).collect(),
        simple => simple.clone(),
    }
}

/// A default in the form of its type: a float has a float's digits, a double has a point.
pub(super) fn default_of(graph: &Graph, node: NodeId, default: &Value) -> Value {
    match (graph.kind(node), default) {
        #[expect(clippy::cast_possible_truncation, reason = "a float has fewer digits")]
        (Kind::Float, Value::Number(number)) => number
            .as_f64()
            .map_or_else(|| default.clone(), |it| float_value(it as f32)),
        (Kind::Double, Value::Number(number)) => number
            .as_f64()
            .map_or_else(|| default.clone(), double_value),
        (Kind::Array(inner), Value::Array(items)) => items
            .iter()
            .map(|item| default_of(graph, *inner, item))
            .collect(),
        (Kind::Map(inner), Value::Object(entries)) => {
            entries_of(entries, |_, value| default_of(graph, *inner, value))
        }
        (Kind::Record(record), Value::Object(entries)) => {
            entries_of(entries, |key, value| match record.places.get(key) {
                Some(place) => default_of(graph, record.fields[*place].node, value),
                None => sorted_value(value),
            })
        }
        (Kind::Union(branches), _) => {
            let mut steps = Steps {
                left: STEPS_MAX,
                depth_max: DEPTH_MAX,
            };
            let mut branches = branches.iter();
            let fitting = branches.find(|it| steps.fits(graph, **it, default, 0) == Ok(true));
            fitting.map_or_else(
                || sorted_value(default),
                |it| default_of(graph, *it, default),
            )
        }
        _ => sorted_value(default),
    }
}

fn entries_of(entries: &Map<String, Value>, of: impl Fn(&str, &Value) -> Value) -> Value {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    let entries = entries.into_iter();
    Value::Object(
        entries
            .map(|(key, value)| (key.clone(), of(key, value)))
            .collect(),
    )
}

fn scale(node: &Node) -> Option<i64> {
    node.properties.get("scale").map_or(Some(0), Value::as_i64)
}

/// The logical type, where Java takes it for one on this type.
fn logical_type(node: &Node) -> Option<&str> {
    let word = node.properties.get("logicalType")?.as_str()?;
    let is_valid = match (word, &node.kind) {
        ("date" | "time-millis", Kind::Int)
        | (
            "time-micros"
            | "timestamp-millis"
            | "timestamp-micros"
            | "timestamp-nanos"
            | "local-timestamp-millis"
            | "local-timestamp-micros"
            | "local-timestamp-nanos",
            Kind::Long,
        )
        | ("uuid", Kind::String)
        | ("big-decimal", Kind::Bytes) => true,
        ("uuid", Kind::Fixed(fixed)) => fixed.size == 16,
        ("duration", Kind::Fixed(fixed)) => fixed.size == 12,
        ("decimal", Kind::Bytes) => is_decimal(node, None),
        ("decimal", Kind::Fixed(fixed)) => is_decimal(node, Some(fixed.size)),
        _ => false,
    };
    is_valid.then_some(word)
}

fn is_decimal(node: &Node, size: Option<usize>) -> bool {
    let precision = node.properties.get("precision").and_then(Value::as_i64);
    let (Some(precision), Some(scale)) = (precision, scale(node)) else {
        return false;
    };
    let fits = size.is_none_or(|bytes| {
        // As many digits as a signed number of so many bytes always has.
        #[expect(
            clippy::cast_precision_loss,
            reason = "sizes near it are beyond any precision"
        )]
        let digits = ((8.0 * bytes as f64 - 1.0) * 2f64.log10()).floor();
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let precision = precision as f64;
        precision <= digits
    });
    precision > 0 && scale >= 0 && scale <= precision && fits
}
