//! Payloads: a JSON text that is judged by the compiled schema, with the place of what is wrong.

use jsonschema::{Registry, Retrieve, Uri, Validator};
use serde_json::{Value, json};

use super::documents::Document;
use super::{documents, pattern};
use crate::Unreadable;

/// How many levels of a payload times steps of references per level validation may recurse.
const RECURSION_MAX: usize = 2_048;

/// What is behind references that no document has: a schema that accepts nothing. The validator
/// wants to see every one, those too that nothing leads to; all others were resolved before.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(
        &self,
        _address: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(json!({ "not": {} }))
    }
}

/// A schema compiled for judging payloads.
#[derive(Debug)]
pub(super) struct Judge {
    validator: Validator,
    /// How many schemas may look at one value in a row.
    chain: usize,
    /// Whether all errors of a payload can be gathered in bounded time.
    explains: bool,
}

impl Judge {
    /// Compiles the documents; they were understood before.
    pub(super) fn compile(
        documents: &[Document],
        chain: usize,
        explains: bool,
    ) -> Result<Self, String> {
        let [root, dependencies @ ..] = documents else {
            return Err("there is no schema".to_owned());
        };
        let mut registry = Registry::new()
            .retrieve_known_draft_meta_schemas(true)
            .retriever(Nowhere);
        for document in dependencies {
            let value = understood(&document.value);
            if document.uri != root.uri {
                registry = registry
                    .add(&*document.uri, document.draft.create_resource(value))
                    .map_err(|error| error.to_string())?;
            }
        }
        let registry = registry.prepare().map_err(|error| error.to_string())?;
        let validator = jsonschema::options()
            .with_retriever(Nowhere)
            .with_draft(root.draft)
            .with_base_uri(root.uri.to_string())
            .with_registry(&registry)
            .with_pattern_options(pattern::options())
            .build(&understood(&root.value))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            validator,
            chain,
            explains,
        })
    }

    /// Whether a record is valid.
    pub(super) fn accepts(&self, record: &Value) -> bool {
        depth(record) * self.chain <= RECURSION_MAX && self.validator.is_valid(record)
    }

    /// Whether a record is refused: if so, whether for something at this place or inside it, rather
    /// than around it. What is elsewhere does not count.
    pub(super) fn refuses_at(&self, record: &Value, place: &str) -> Option<bool> {
        if self.accepts(record) {
            return None;
        }
        if !self.explains || depth(record) * self.chain > RECURSION_MAX {
            return Some(false);
        }
        let is_within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut around = None;
        for error in self.validator.iter_errors(record).take(16) {
            let at = error.instance_path().as_str();
            if is_within(at, place) {
                return Some(true);
            }
            if is_within(place, at) {
                around = Some(false);
            }
        }
        around
    }

    /// Whether a record is valid, and what is wrong with it if not.
    pub(super) fn judge(&self, record: &Value) -> Result<(), Unreadable> {
        if depth(record) * self.chain > RECURSION_MAX {
            return Err(Unreadable::new(
                "the record is nested too deeply for a schema with so many references",
            ));
        }
        if self.accepts(record) {
            return Ok(());
        }
        if !self.explains {
            return Err(Unreadable::new("the record does not match the schema"));
        }
        let Err(error) = self.validator.validate(record) else {
            return Ok(());
        };
        let place = match error.instance_path().as_str() {
            "" => "the record".to_owned(),
            path => format!("the record at {path}"),
        };
        let what = shortened(&error.masked().to_string());
        Err(Unreadable::new(format!(
            "{place} does not match the schema: {what}"
        )))
    }
}

/// Levels of nesting; what comes from a text has at most 128.
fn depth(record: &Value) -> usize {
    let mut deepest = 1;
    let mut waiting = vec![(record, 1)];
    while let Some((value, depth)) = waiting.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth + 1))),
            Value::Object(members) => {
                waiting.extend(members.values().map(|member| (member, depth + 1)));
            }
            _ => {}
        }
    }
    deepest
}

fn shortened(text: &str) -> String {
    let mut short = text.chars().take(300).collect::<String>();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The document without a `$schema` that names no known draft.
fn understood(value: &Value) -> Value {
    let mut value = value.clone();
    let is_unknown =
        documents::draft_of(&value, jsonschema::Draft::Unknown) == jsonschema::Draft::Unknown;
    if is_unknown && let Some(members) = value.as_object_mut() {
        members.shift_remove("$schema");
    }
    value
}
