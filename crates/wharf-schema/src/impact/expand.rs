//! Schemas in between: the old one and the new one side by side, so that writers can fill both while
//! readers move. What comes out is a proposal until the engine has compared it.

use serde_json::{Map, Value, json};

use crate::model::SchemaType;

/// The end of the name of a field whose type changes.
const SECOND: &str = "_v2";

/// Both side by side; none where that has no general form.
pub(super) fn expand(kind: SchemaType, old: &str, new: &str) -> Option<String> {
    let (old, new) = (
        serde_json::from_str(old).ok()?,
        serde_json::from_str(new).ok()?,
    );
    let both = match kind {
        SchemaType::Avro => avro(&old, &new)?,
        SchemaType::Json => json_schema(&old, &new)?,
        SchemaType::Protobuf => return None,
    };
    serde_json::to_string_pretty(&both).ok()
}

fn named<'a>(fields: &'a [Value], name: &str) -> Option<&'a Value> {
    fields
        .iter()
        .find(|field| field["name"].as_str() == Some(name))
}

fn avro(old: &Value, new: &Value) -> Option<Value> {
    let is_record = |schema: &Value| schema["type"].as_str() == Some("record");
    if !is_record(old) || !is_record(new) {
        return None;
    }
    let (before, after) = (old["fields"].as_array()?, new["fields"].as_array()?);
    let mut fields = Vec::new();
    for field in before {
        let name = field["name"].as_str()?;
        let mut kept = field.clone();
        let counterpart = named(after, name);
        if kept.get("default").is_none() {
            let default = counterpart
                .filter(|other| other["type"] == field["type"])
                .and_then(|other| other.get("default").cloned())
                .or_else(|| zero(&field["type"]).filter(|_| counterpart.is_none()));
            if let Some(default) = default {
                kept["default"] = default;
            }
        }
        fields.push(kept);
        if let Some(other) = counterpart.filter(|other| other["type"] != field["type"]) {
            fields.push(optional(&format!("{name}{SECOND}"), other));
        }
    }
    for field in after {
        let name = field["name"].as_str()?;
        if named(before, name).is_none() {
            fields.push(match field.get("default") {
                Some(_) => field.clone(),
                None => optional(name, field),
            });
        }
    }
    let mut both = old.clone();
    both["fields"] = Value::Array(fields);
    Some(both)
}

/// The field under this name, that may be left out.
fn optional(name: &str, field: &Value) -> Value {
    let branches = match &field["type"] {
        Value::Array(branches) => branches
            .iter()
            .filter(|branch| branch.as_str() != Some("null"))
            .cloned()
            .collect(),
        single => vec![single.clone()],
    };
    let branches: Vec<Value> = std::iter::once(json!("null")).chain(branches).collect();
    let mut optional = field.clone();
    optional["name"] = json!(name);
    optional["type"] = Value::Array(branches);
    optional["default"] = Value::Null;
    optional
}

/// A default for a type that has an obvious one.
fn zero(kind: &Value) -> Option<Value> {
    let name = match kind {
        Value::String(name) => name.as_str(),
        Value::Array(branches) => return zero(branches.first()?),
        Value::Object(_) => kind["type"].as_str()?,
        _ => return None,
    };
    match name {
        "null" => Some(Value::Null),
        "boolean" => Some(json!(false)),
        "int" | "long" => Some(json!(0)),
        "float" | "double" => Some(json!(0.0)),
        "string" | "bytes" => Some(json!("")),
        "array" => Some(json!([])),
        "map" => Some(json!({})),
        _ => None,
    }
}

fn json_schema(old: &Value, new: &Value) -> Option<Value> {
    let before = old["properties"].as_object()?;
    let after = new["properties"].as_object()?;
    let mut properties = Map::new();
    for (name, property) in before {
        properties.insert(name.clone(), property.clone());
        if let Some(other) = after.get(name).filter(|other| *other != property) {
            properties.insert(format!("{name}{SECOND}"), other.clone());
        }
    }
    for (name, property) in after {
        if !before.contains_key(name) {
            properties.insert(name.clone(), property.clone());
        }
    }
    let mut both = old.clone();
    both["properties"] = Value::Object(properties);
    for shared in ["definitions", "$defs"] {
        for (name, definition) in new[shared].as_object().into_iter().flatten() {
            if both[shared].get(name).is_none() {
                both[shared][name] = definition.clone();
            }
        }
    }
    // Indexing a missing key for reading above may have left a null behind.
    if let Value::Object(object) = &mut both {
        object.retain(|_, value| !value.is_null());
    }
    Some(both)
}
