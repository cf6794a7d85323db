//! The names a text refers to without defining them, so that the texts behind them can be found
//! before it is parsed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::SchemaType;
use crate::{Invalid, Limits};

/// What Avro defines itself.
const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

/// The names that a text refers to and does not define: full names of Avro, URIs of JSON Schema
/// without their fragment, import paths of Protobuf. In order, each once.
pub fn referred(kind: SchemaType, text: &str, limits: &Limits) -> Result<Vec<String>, Invalid> {
    let mut names = Names {
        limits,
        nodes: 0,
        defined: BTreeSet::new(),
        used: BTreeSet::new(),
    };
    match kind {
        SchemaType::Avro => {
            if let Ok(schema) = serde_json::from_str::<Value>(text) {
                names.avro(&schema, "", 0)?;
            }
        }
        SchemaType::Json => {
            let schema: Value =
                serde_json::from_str(text).map_err(|error| Invalid::new(error.to_string()))?;
            names.json(&schema, 0)?;
        }
        SchemaType::Protobuf => {
            let file = protox::file::File::from_source("schema.proto", text);
            let file = file.map_err(|error| Invalid::new(error.to_string()))?;
            let imports = file.file_descriptor_proto().dependency.iter();
            names.used.extend(imports.cloned());
        }
    }
    Ok(names.used.difference(&names.defined).cloned().collect())
}

/// The full name of an Avro text's outermost type, if it has one.
pub fn avro_name(text: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(text).ok()?;
    let name = schema["name"].as_str()?;
    Some(full(name, schema["namespace"].as_str().unwrap_or_default()))
}

fn full(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

struct Names<'a> {
    limits: &'a Limits,
    nodes: usize,
    defined: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl Names<'_> {
    fn enter(&mut self, depth: usize) -> Result<(), Invalid> {
        self.nodes += 1;
        match depth > self.limits.depth_max || self.nodes > self.limits.nodes_max {
            true => Err(Invalid::new("the schema is too large or too deep")),
            false => Ok(()),
        }
    }

    fn avro(&mut self, schema: &Value, namespace: &str, depth: usize) -> Result<(), Invalid> {
        self.enter(depth)?;
        match schema {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => {}
            Value::String(name) => {
                self.used.insert(full(name, namespace));
            }
            Value::Array(branches) => {
                for branch in branches {
                    self.avro(branch, namespace, depth + 1)?;
                }
            }
            Value::Object(object) => {
                let text = |key: &str| object.get(key).and_then(Value::as_str);
                let mut namespace = text("namespace").unwrap_or(namespace);
                let name = full(text("name").unwrap_or_default(), namespace);
                match text("type") {
                    Some("record" | "error" | "enum" | "fixed") => {
                        namespace = name.rsplit_once('.').map_or(namespace, |(space, _)| space);
                        self.defined.insert(name.clone());
                        let fields = schema["fields"].as_array().into_iter().flatten();
                        for field in fields {
                            self.avro(&field["type"], namespace, depth + 1)?;
                        }
                    }
                    Some("array") => self.avro(&schema["items"], namespace, depth + 1)?,
                    Some("map") => self.avro(&schema["values"], namespace, depth + 1)?,
                    _ => self.avro(&schema["type"], namespace, depth + 1)?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn json(&mut self, schema: &Value, depth: usize) -> Result<(), Invalid> {
        self.enter(depth)?;
        match schema {
            Value::Array(items) => {
                for item in items {
                    self.json(item, depth + 1)?;
                }
            }
            Value::Object(object) => {
                if let Some(Value::String(id)) = object.get("$id").or_else(|| object.get("id")) {
                    self.defined.insert(id.trim_end_matches('#').to_owned());
                }
                if let Some(Value::String(target)) = object.get("$ref") {
                    let target = target.split('#').next().unwrap_or_default();
                    if !target.is_empty() {
                        self.used.insert(target.to_owned());
                    }
                }
                for (key, value) in object {
                    // What stands there is data, not a schema.
                    if !matches!(key.as_str(), "const" | "enum" | "default" | "examples") {
                        self.json(value, depth + 1)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_and_not_defined_is_named() {
        let limits = Limits::default();
        let avro = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
            {"name":"lines","type":{"type":"array","items":"Line"}},
            {"name":"before","type":["null","Order","other.Thing"]}]}"#;
        assert_eq!(
            referred(SchemaType::Avro, avro, &limits).unwrap(),
            ["other.Thing", "shop.Line"]
        );
        assert_eq!(avro_name(avro).as_deref(), Some("shop.Order"));
        let json = r##"{"$id":"order.json","properties":{"a":{"$ref":"line.json#/x"},
            "b":{"$ref":"#/y"},"c":{"const":{"$ref":"data.json"}}}}"##;
        assert_eq!(
            referred(SchemaType::Json, json, &limits).unwrap(),
            ["line.json"]
        );
        let protobuf = "syntax = \"proto3\"; import \"a/line.proto\"; message M {}";
        assert_eq!(
            referred(SchemaType::Protobuf, protobuf, &limits).unwrap(),
            ["a/line.proto"]
        );
    }
}
