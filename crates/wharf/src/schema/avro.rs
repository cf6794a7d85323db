//! Avro of a shape: the schema's text, and a value's JSON between serde's form and Avro's.
//!
//! The two forms differ in unions. serde writes `"x"` or null where Avro's JSON encoding has
//! `{"string": "x"}` or null, and a variant as `"Cash"` or `{"Card": …}` where Avro has a record of
//! its own for each (`PaymentCash`, `PaymentCard`). A variant's one value is the field `value` of its
//! record.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::shape::{Content, Definition, Definitions, Field, Shape, Variant};

/// The field that holds a variant's value.
const VALUE: &str = "value";

/// Writes and converts for one event.
#[derive(Debug)]
pub(super) struct Avro {
    definitions: Definitions,
    root: String,
    namespace: String,
}

impl Avro {
    pub(super) fn new(root: String, namespace: String, definitions: Definitions) -> Self {
        Self {
            definitions,
            root,
            namespace,
        }
    }

    /// The schema.
    ///
    /// # Errors
    /// When a name is none in Avro, or a default cannot be one.
    pub(super) fn schema(&self) -> Result<Value, String> {
        let mut writer = Writer {
            avro: self,
            written: BTreeSet::new(),
        };
        let mut schema = writer.named(&self.root)?;
        if let Some(record) = schema.as_object_mut()
            && !self.namespace.is_empty()
        {
            for part in self.namespace.split('.') {
                check_name(part)?;
            }
            let mut first = Map::new();
            for key in ["type", "name"] {
                if let Some(value) = record.remove(key) {
                    first.insert(key.to_owned(), value);
                }
            }
            first.insert("namespace".to_owned(), json!(self.namespace));
            first.append(record);
            schema = Value::Object(first);
        }
        Ok(schema)
    }

    /// serde's JSON as Avro's.
    pub(super) fn to_avro(&self, value: Value) -> Result<Value, String> {
        self.write(&Shape::Named(self.root.clone()), value)
    }

    /// Avro's JSON as serde's.
    pub(super) fn to_serde(&self, value: Value) -> Result<Value, String> {
        self.read(&Shape::Named(self.root.clone()), value)
    }

    /// The full name of a type.
    fn full(&self, name: &str) -> String {
        match self.namespace.as_str() {
            "" => name.to_owned(),
            namespace => format!("{namespace}.{name}"),
        }
    }

    fn definition(&self, name: &str) -> Result<&Definition, String> {
        let definition = self.definitions.get(name);
        definition.ok_or_else(|| format!("the type {name} is not defined"))
    }

    /// The variants, where a shape is a choice.
    fn choice(&self, shape: &Shape) -> Option<(&str, &[Variant])> {
        let Shape::Named(name) = shape else {
            return None;
        };
        match self.definitions.get_key(name)? {
            (name, Definition::Choice { variants, .. }) => Some((name, variants)),
            _ => None,
        }
    }

    /// The name of a branch in Avro's JSON.
    fn tag(&self, shape: &Shape) -> String {
        match shape {
            Shape::Boolean => "boolean".to_owned(),
            Shape::Int => "int".to_owned(),
            Shape::Long => "long".to_owned(),
            Shape::Float => "float".to_owned(),
            Shape::Double => "double".to_owned(),
            Shape::Text | Shape::Uuid => "string".to_owned(),
            Shape::List(_) => "array".to_owned(),
            Shape::Map(_) => "map".to_owned(),
            Shape::Named(name) => self.full(name),
            Shape::Optional(inner) => self.tag(inner),
        }
    }

    fn write(&self, shape: &Shape, value: Value) -> Result<Value, String> {
        if let Some((name, variants)) = self.choice(shape) {
            return self.write_choice(name, variants, value);
        }
        Ok(match (shape, value) {
            (Shape::Optional(_), Value::Null) => Value::Null,
            (Shape::Optional(inner), value) => match self.choice(inner) {
                Some(_) => self.write(inner, value)?,
                None => tagged(self.tag(inner), self.write(inner, value)?),
            },
            (Shape::List(inner), Value::Array(items)) => {
                let items = items.into_iter().map(|item| self.write(inner, item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (Shape::Map(inner), Value::Object(entries)) => {
                let entries = entries.into_iter();
                let entries =
                    entries.map(|(key, item)| Ok::<_, String>((key, self.write(inner, item)?)));
                Value::Object(entries.collect::<Result<_, _>>()?)
            }
            (Shape::Named(name), value) => match (self.definition(name)?, value) {
                (Definition::Record { fields, .. }, Value::Object(entries)) => {
                    self.write_fields(fields, entries)?
                }
                (_, value) => value,
            },
            (_, value) => value,
        })
    }

    fn write_fields(
        &self,
        fields: &[Field],
        mut entries: Map<String, Value>,
    ) -> Result<Value, String> {
        let mut written = Map::new();
        for field in fields {
            if let Some(value) = entries.remove(&field.name) {
                written.insert(field.name.clone(), self.write(&field.shape, value)?);
            }
        }
        match entries.keys().next() {
            None => Ok(Value::Object(written)),
            Some(other) => Err(format!("the field {other} is not in the schema")),
        }
    }

    fn write_choice(
        &self,
        name: &str,
        variants: &[Variant],
        value: Value,
    ) -> Result<Value, String> {
        let (chosen, inner) = match value {
            Value::String(chosen) => (chosen, Value::Null),
            Value::Object(entries) if entries.len() == 1 => {
                entries.into_iter().next().unwrap_or_default()
            }
            _ => return Err(format!("the JSON is no variant of {name}")),
        };
        let variant = variants.iter().find(|variant| variant.name == chosen);
        let variant = variant.ok_or_else(|| format!("{name} has no variant {chosen}"))?;
        let record = match (&variant.content, inner) {
            (Content::Unit, _) => json!({}),
            (Content::Value(shape), inner) => json!({ VALUE: self.write(shape, inner)? }),
            (Content::Fields(fields), Value::Object(entries)) => {
                self.write_fields(fields, entries)?
            }
            (Content::Fields(_), _) => return Err(format!("{chosen} of {name} is no object")),
        };
        Ok(tagged(self.full(&format!("{name}{chosen}")), record))
    }

    fn read(&self, shape: &Shape, value: Value) -> Result<Value, String> {
        if let Some((name, variants)) = self.choice(shape) {
            return self.read_choice(name, variants, value);
        }
        Ok(match (shape, value) {
            (Shape::Optional(_), Value::Null) => Value::Null,
            (Shape::Optional(inner), value) => match self.choice(inner) {
                Some(_) => self.read(inner, value)?,
                None => self.read(inner, untagged(value)?.1)?,
            },
            (Shape::List(inner), Value::Array(items)) => {
                let items = items.into_iter().map(|item| self.read(inner, item));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (Shape::Map(inner), Value::Object(entries)) => {
                let entries = entries.into_iter();
                let entries =
                    entries.map(|(key, item)| Ok::<_, String>((key, self.read(inner, item)?)));
                Value::Object(entries.collect::<Result<_, _>>()?)
            }
            (Shape::Named(name), value) => match (self.definition(name)?, value) {
                (Definition::Record { fields, .. }, Value::Object(entries)) => {
                    self.read_fields(fields, entries)?
                }
                (_, value) => value,
            },
            (_, value) => value,
        })
    }

    fn read_fields(
        &self,
        fields: &[Field],
        mut entries: Map<String, Value>,
    ) -> Result<Value, String> {
        let mut read = Map::new();
        for field in fields {
            if let Some(value) = entries.remove(&field.name) {
                read.insert(field.name.clone(), self.read(&field.shape, value)?);
            }
        }
        Ok(Value::Object(read))
    }

    fn read_choice(&self, name: &str, variants: &[Variant], value: Value) -> Result<Value, String> {
        let (tag, inner) = untagged(value)?;
        let is_it = |variant: &&Variant| self.full(&format!("{name}{}", variant.name)) == tag;
        let variant = variants.iter().find(is_it);
        let variant = variant.ok_or_else(|| format!("{name} has no variant {tag}"))?;
        let chosen = variant.name.clone();
        Ok(match (&variant.content, inner) {
            (Content::Unit, _) => Value::String(chosen),
            (Content::Value(shape), Value::Object(mut entries)) => {
                let inner = entries.remove(VALUE).unwrap_or_default();
                tagged(chosen, self.read(shape, inner)?)
            }
            (Content::Fields(fields), Value::Object(entries)) => {
                tagged(chosen, self.read_fields(fields, entries)?)
            }
            _ => return Err(format!("{tag} is no record")),
        })
    }
}

fn tagged(tag: String, value: Value) -> Value {
    Value::Object(Map::from_iter([(tag, value)]))
}

fn untagged(value: Value) -> Result<(String, Value), String> {
    match value {
        Value::Object(entries) if entries.len() == 1 => {
            Ok(entries.into_iter().next().unwrap_or_default())
        }
        _ => Err("a union's value has no name".to_owned()),
    }
}

/// Writes the schema; a name is written out where it comes first.
struct Writer<'a> {
    avro: &'a Avro,
    written: BTreeSet<String>,
}

impl Writer<'_> {
    fn of(&mut self, shape: &Shape) -> Result<Value, String> {
        Ok(match shape {
            Shape::Uuid => json!({ "type": "string", "logicalType": "uuid" }),
            Shape::Optional(inner) => self.optional(inner, false)?,
            Shape::List(inner) => json!({ "type": "array", "items": self.of(inner)? }),
            Shape::Map(inner) => json!({ "type": "map", "values": self.of(inner)? }),
            Shape::Named(name) => self.named(name)?,
            simple => Value::String(self.avro.tag(simple)),
        })
    }

    /// A union with null, whose first branch is what the default belongs to.
    fn optional(&mut self, inner: &Shape, null_last: bool) -> Result<Value, String> {
        let mut branches = match self.of(inner)? {
            Value::Array(branches) => branches,
            branch => vec![branch],
        };
        let at = if null_last { branches.len() } else { 0 };
        branches.insert(at, json!("null"));
        Ok(Value::Array(branches))
    }

    fn named(&mut self, name: &str) -> Result<Value, String> {
        let definition = self.avro.definition(name)?;
        if let Definition::Choice { variants, .. } = definition {
            let records = variants.iter().map(|variant| self.variant(name, variant));
            return Ok(Value::Array(records.collect::<Result<_, _>>()?));
        }
        check_name(name)?;
        if !self.written.insert(name.to_owned()) {
            return Ok(json!(self.avro.full(name)));
        }
        let (kind, doc) = match definition {
            Definition::Enum { doc, .. } => ("enum", doc),
            Definition::Record { doc, .. } | Definition::Choice { doc, .. } => ("record", doc),
        };
        let mut schema = start(kind, name, doc.as_deref());
        match definition {
            Definition::Enum { symbols, .. } => {
                symbols.iter().try_for_each(|symbol| check_name(symbol))?;
                schema.insert("symbols".to_owned(), json!(symbols));
            }
            Definition::Record { fields, .. } => {
                schema.insert("fields".to_owned(), self.fields(fields)?);
            }
            Definition::Choice { .. } => {}
        }
        Ok(Value::Object(schema))
    }

    fn variant(&mut self, choice: &str, variant: &Variant) -> Result<Value, String> {
        let name = format!("{choice}{}", variant.name);
        check_name(&name)?;
        if !self.written.insert(name.clone()) {
            return Ok(json!(self.avro.full(&name)));
        }
        let fields = match &variant.content {
            Content::Unit => json!([]),
            Content::Value(shape) => json!([{ "name": VALUE, "type": self.of(shape)? }]),
            Content::Fields(fields) => self.fields(fields)?,
        };
        let mut schema = start("record", &name, None);
        schema.insert("fields".to_owned(), fields);
        Ok(Value::Object(schema))
    }

    fn fields(&mut self, fields: &[Field]) -> Result<Value, String> {
        let mut written = Vec::with_capacity(fields.len());
        for field in fields {
            check_name(&field.name)?;
            let mut schema = Map::from_iter([("name".to_owned(), json!(field.name))]);
            let default = field.default.clone();
            let kind = match (&field.shape, &default) {
                (Shape::Optional(inner), Some(default)) if !default.is_null() => {
                    self.optional(inner, true)?
                }
                (shape, _) => self.of(shape)?,
            };
            schema.insert("type".to_owned(), kind);
            if let Some(doc) = &field.doc {
                schema.insert("doc".to_owned(), json!(doc));
            }
            if let Some(default) = default {
                schema.insert("default".to_owned(), self.default(field, default)?);
            }
            written.push(Value::Object(schema));
        }
        Ok(Value::Array(written))
    }

    /// A default in the schema: without the name of a union's branch, which is the first one.
    fn default(&self, field: &Field, default: Value) -> Result<Value, String> {
        let of_choice = match &field.shape {
            Shape::Optional(inner) => !default.is_null() && self.avro.choice(inner).is_some(),
            shape => self.avro.choice(shape).is_some(),
        };
        if of_choice {
            return Err(format!(
                "the default of {} is a variant with a record of its own, which Avro allows for the \
                 first one alone; make the field an Option",
                field.name
            ));
        }
        let written = self.avro.write(&field.shape, default)?;
        match (&field.shape, written) {
            (Shape::Optional(_), written @ Value::Object(_)) => Ok(untagged(written)?.1),
            (_, written) => Ok(written),
        }
    }
}

fn start(kind: &str, name: &str, doc: Option<&str>) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!(kind));
    schema.insert("name".to_owned(), json!(name));
    if let Some(doc) = doc {
        schema.insert("doc".to_owned(), json!(doc));
    }
    schema
}

fn check_name(name: &str) -> Result<(), String> {
    let mut characters = name.chars();
    let first = characters.next();
    let starts = first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if starts && characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a name in Avro, which has letters, digits and underscores: rename it, or \
         use another kind of schema"
    ))
}
