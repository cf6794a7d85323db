//! JSON Schema (draft 7, as Confluent's own clients write it) of a shape.
//!
//! Objects are closed (`additionalProperties: false`): in an open model nothing can be added under
//! BACKWARD, because an older record may have had anything under the new name.

use serde_json::{Map, Value, json};

use super::shape::{Content, Definition, Definitions, Field, Shape};

/// The schema of an event whose type is `root`.
pub(super) fn schema(root: &str, definitions: &Definitions) -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    schema.insert("title".to_owned(), json!(root));
    if let Some(definition) = definitions.get(root) {
        schema.extend(define(definition));
    }
    let mut others = Map::new();
    for (name, definition) in definitions.iter() {
        if name != root || is_used(root, definitions) {
            others.insert(name.to_owned(), Value::Object(define(definition)));
        }
    }
    if !others.is_empty() {
        schema.insert("definitions".to_owned(), Value::Object(others));
    }
    Value::Object(schema)
}

/// Whether anything refers to the type.
fn is_used(name: &str, definitions: &Definitions) -> bool {
    fn within(name: &str, shape: &Shape) -> bool {
        match shape {
            Shape::Named(other) => other == name,
            Shape::Optional(inner) | Shape::List(inner) | Shape::Map(inner) => within(name, inner),
            _ => false,
        }
    }
    let fields = |fields: &[Field]| fields.iter().any(|field| within(name, &field.shape));
    definitions.iter().any(|(_, definition)| match definition {
        Definition::Record { fields: all, .. } => fields(all),
        Definition::Enum { .. } => false,
        Definition::Choice { variants, .. } => {
            variants.iter().any(|variant| match &variant.content {
                Content::Unit => false,
                Content::Value(shape) => within(name, shape),
                Content::Fields(all) => fields(all),
            })
        }
    })
}

fn define(definition: &Definition) -> Map<String, Value> {
    let (doc, mut schema) = match definition {
        Definition::Record { doc, fields } => (doc, object(fields)),
        Definition::Enum { doc, symbols } => {
            (doc, entries(json!({ "type": "string", "enum": symbols })))
        }
        Definition::Choice { doc, variants } => {
            let variants: Vec<Value> = variants
                .iter()
                .map(|variant| {
                    let name = variant.name.as_str();
                    let inner = match &variant.content {
                        Content::Unit => return json!({ "type": "string", "enum": [name] }),
                        Content::Value(shape) => of(shape),
                        Content::Fields(fields) => Value::Object(object(fields)),
                    };
                    json!({
                        "type": "object",
                        "properties": { name: inner },
                        "required": [name],
                        "additionalProperties": false,
                    })
                })
                .collect();
            (doc, entries(json!({ "oneOf": variants })))
        }
    };
    if let Some(doc) = doc {
        schema.insert("description".to_owned(), json!(doc));
    }
    schema
}

fn entries(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    }
}

fn object(fields: &[Field]) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = entries(of(&field.shape));
        // Beside a `$ref`, draft 7 sees nothing else.
        if schema.contains_key("$ref") && (field.doc.is_some() || field.default.is_some()) {
            schema = entries(json!({ "allOf": [schema] }));
        }
        if let Some(doc) = &field.doc {
            schema.insert("description".to_owned(), json!(doc));
        }
        match &field.default {
            Some(default) => {
                schema.insert("default".to_owned(), default.clone());
            }
            None => required.push(field.name.clone()),
        }
        properties.insert(field.name.clone(), Value::Object(schema));
    }
    let mut schema = entries(json!({ "type": "object", "properties": properties }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn of(shape: &Shape) -> Value {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Int | Shape::Long => json!({ "type": "integer" }),
        Shape::Float | Shape::Double => json!({ "type": "number" }),
        Shape::Text => json!({ "type": "string" }),
        Shape::Uuid => json!({ "type": "string", "format": "uuid" }),
        Shape::Optional(inner) => json!({ "oneOf": [{ "type": "null" }, of(inner)] }),
        Shape::List(inner) => json!({ "type": "array", "items": of(inner) }),
        Shape::Map(inner) => json!({ "type": "object", "additionalProperties": of(inner) }),
        Shape::Named(name) => json!({ "$ref": format!("#/definitions/{name}") }),
    }
}
