//! Rules for JSON Schema. The recursion is bounded by the limits.

use serde_json::{Map, Value};

use super::Found;
use crate::Invalid;

/// Keywords that hold one schema.
const ONE: [&str; 12] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "contentSchema",
];
/// Keywords that hold a list of schemas.
const MANY: [&str; 5] = ["allOf", "anyOf", "oneOf", "items", "prefixItems"];
/// Keywords that hold schemas by name.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "definitions",
    "$defs",
    "dependentSchemas",
];
/// Keywords one of which says something about the value.
const RESTRICTS: [&str; 9] = [
    "type",
    "enum",
    "const",
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
];

/// Looks through a text.
pub(super) fn look(text: &str, found: &mut Found<'_>) -> Result<(), Invalid> {
    let schema: Value =
        serde_json::from_str(text).map_err(|error| Invalid::new(error.to_string()))?;
    if let Value::Object(outermost) = &schema {
        if !outermost.contains_key("$schema") {
            let message = "the schema does not name its draft in $schema".to_owned();
            found.at("json-dialect", "#/", message);
        }
        if outermost
            .get("title")
            .is_none_or(|title| !title.is_string())
        {
            let message = "the schema has no title".to_owned();
            found.at("json-title", "#/", message);
        }
    }
    walk(&schema, "#", 0, false, found)
}

/// `composed`: other schemas apply to the same value, so what is open here may be closed there.
fn walk(
    schema: &Value,
    path: &str,
    depth: usize,
    composed: bool,
    found: &mut Found<'_>,
) -> Result<(), Invalid> {
    found.enter(depth)?;
    let Value::Object(object) = schema else {
        return Ok(());
    };
    look_at_object(object, path, composed, found);
    for keyword in ONE {
        if let Some(inner) = object.get(keyword) {
            let composed = matches!(keyword, "if" | "then" | "else" | "not");
            walk(
                inner,
                &format!("{path}/{keyword}"),
                depth + 1,
                composed,
                found,
            )?;
        }
    }
    for keyword in MANY {
        let list = object.get(keyword).and_then(Value::as_array);
        for (index, inner) in list.into_iter().flatten().enumerate() {
            let path = format!("{path}/{keyword}/{index}");
            walk(inner, &path, depth + 1, keyword == "allOf", found)?;
        }
    }
    for keyword in NAMED {
        let named = object.get(keyword).and_then(Value::as_object);
        for (name, inner) in named.into_iter().flatten() {
            let name = name.replace('~', "~0").replace('/', "~1");
            let path = format!("{path}/{keyword}/{name}");
            walk(
                inner,
                &path,
                depth + 1,
                keyword == "dependentSchemas",
                found,
            )?;
        }
    }
    Ok(())
}

fn look_at_object(object: &Map<String, Value>, path: &str, composed: bool, found: &mut Found<'_>) {
    let Some(properties) = object.get("properties").and_then(Value::as_object) else {
        return;
    };
    let open = |keyword: &str| {
        let content = object.get(keyword);
        content.is_none_or(|content| content == &Value::Bool(true))
    };
    let is_open = open("additionalProperties")
        && open("unevaluatedProperties")
        && !object.contains_key("patternProperties");
    if is_open && !composed {
        let message = "the object is open: it can never gain a property under BACKWARD".to_owned();
        found.at("json-open-content", path, message);
    }
    for (name, property) in properties {
        let says_nothing = match property {
            Value::Bool(all) => *all,
            Value::Object(keywords) => RESTRICTS.iter().all(|word| !keywords.contains_key(*word)),
            _ => false,
        };
        if says_nothing {
            let name = name.replace('~', "~0").replace('/', "~1");
            let message = format!("the property {name} allows every value");
            found.at(
                "json-untyped",
                &format!("{path}/properties/{name}"),
                message,
            );
        }
    }
    let required = object.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !properties.contains_key(name) && !composed {
            let message = format!("{name} is required and not declared");
            found.at(
                "json-required-undeclared",
                &format!("{path}/required"),
                message,
            );
        }
    }
}
