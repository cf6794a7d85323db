//! Rules for Avro. The recursion is bounded by the limits.

use serde_json::Value;

use super::Found;
use crate::Invalid;

/// Looks through a text.
pub(super) fn look(text: &str, found: &mut Found<'_>) -> Result<(), Invalid> {
    let Ok(schema) = serde_json::from_str::<Value>(text) else {
        // A name alone may stand without quotes; there is nothing to say of it.
        return Ok(());
    };
    let namespace = schema["namespace"].as_str();
    let dotted = schema["name"]
        .as_str()
        .is_some_and(|name| name.contains('.'));
    if is(&schema, "record") && namespace.is_none_or(str::is_empty) && !dotted {
        let name = schema["name"].as_str().unwrap_or_default();
        let message = format!("the record {name} has no namespace");
        found.at("avro-namespace", "/", message);
    }
    walk(&schema, "", 0, found)
}

fn is(schema: &Value, kind: &str) -> bool {
    schema["type"].as_str() == Some(kind)
}

fn walk(schema: &Value, path: &str, depth: usize, found: &mut Found<'_>) -> Result<(), Invalid> {
    found.enter(depth)?;
    if let Value::Array(branches) = schema {
        for (index, branch) in branches.iter().enumerate() {
            walk(branch, &format!("{path}/{index}"), depth + 1, found)?;
        }
        return Ok(());
    }
    let name = schema["name"].as_str().unwrap_or_default();
    let here = if path.is_empty() { "/" } else { path };
    match schema["type"].as_str() {
        Some("record" | "error") => {
            if schema["doc"].as_str().is_none_or(str::is_empty) {
                let message = format!("the record {name} has no doc");
                found.at("avro-record-doc", here, message);
            }
            let fields = schema["fields"].as_array().into_iter().flatten();
            for (index, field) in fields.enumerate() {
                look_at_field(field, &format!("{path}/fields/{index}"), depth, found)?;
            }
        }
        Some("enum") if schema.get("default").is_none() => {
            let message = format!("the enum {name} has no default, so it can never grow");
            found.at("avro-enum-default", here, message);
        }
        Some("array") => walk(&schema["items"], &format!("{path}/items"), depth + 1, found)?,
        Some("map") => walk(
            &schema["values"],
            &format!("{path}/values"),
            depth + 1,
            found,
        )?,
        _ if schema["type"].is_object() || schema["type"].is_array() => {
            walk(&schema["type"], &format!("{path}/type"), depth + 1, found)?;
        }
        _ => {}
    }
    Ok(())
}

fn look_at_field(
    field: &Value,
    path: &str,
    depth: usize,
    found: &mut Found<'_>,
) -> Result<(), Invalid> {
    let name = field["name"].as_str().unwrap_or_default();
    if field["doc"].as_str().is_none_or(str::is_empty) {
        found.at(
            "avro-field-doc",
            path,
            format!("the field {name} has no doc"),
        );
    }
    let kind = &field["type"];
    let defaulted = field.get("default").is_some();
    let union = kind.as_array();
    let null_later = union.is_some_and(|branches| {
        let mut later = branches.iter().skip(1);
        later.any(|branch| branch.as_str() == Some("null"))
    });
    if null_later && !defaulted {
        let message = format!("the field {name} may be null, but null is not first in its union");
        found.at("avro-null-first", path, message);
    } else if !defaulted {
        let message = format!("the field {name} has no default, so it can hardly be removed");
        found.at("avro-field-default", path, message);
    }
    let long = |kind: &Value| kind.as_str() == Some("long");
    let plain_long = long(kind) || union.is_some_and(|branches| branches.iter().any(long));
    if plain_long && like_a_time(name) {
        let message = format!("the field {name} is a long without a logical type");
        found.at("avro-time-as-long", path, message);
    }
    walk(kind, &format!("{path}/type"), depth + 1, found)
}

fn like_a_time(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["_at", "_time", "timestamp", "_date"]
        .iter()
        .any(|end| name.ends_with(end))
}
