//! JSON Schema: parsing, canonical text, compatibility, payloads.
//!
//! - [`text`](self) holds Confluent's canonical text; `documents` resolves references among the
//!   given documents and nothing else; `build` turns keywords into the shapes of `shape`.
//! - `compare` finds the differences of [`Kind`], `witness` shows them with records.
//! - `payload` judges records with the `jsonschema` crate, compiled once and on demand.
//!
//! Everything is written by strangers: nothing here may recurse over references, reach a network or
//! a file, or work beyond the given [`Limits`].

mod build;
mod chains;
mod compare;
mod documents;
mod keywords;
mod kind;
mod pattern;
mod payload;
mod sample;
mod shape;
#[cfg(test)]
mod soundness;
#[cfg(test)]
mod tests;
mod text;
mod witness;

use std::fmt;
use std::sync::{Arc, OnceLock};

use jsonschema::Draft;
use serde_json::Value;

pub use kind::{Kind, Verdict};

use self::documents::Document;
use self::payload::Judge;
use self::shape::Model;
use crate::compat::{Difference, Policy};
use crate::{Dependency, Invalid, Limits, Unreadable};

/// A schema with everything it refers to. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    inner: Arc<Inner>,
}

struct Inner {
    canonical: String,
    documents: Vec<Document>,
    model: Model,
    judge: OnceLock<Result<Judge, String>>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Schema")
            .field(&self.inner.canonical)
            .finish()
    }
}

impl Schema {
    /// Understands the text of a new schema: JSON, valid by the meta-schema of the draft that `$schema` names (draft 7
    /// where it names none), with references that lead somewhere.
    pub fn parse(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        Self::understood(text, dependencies, limits, true)
    }

    /// Understands the text of a schema that a registry has accepted before: that need not be valid
    /// by a meta-schema, as Confluent's registry does not ask for it.
    pub fn parse_stored(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        Self::understood(text, dependencies, limits, false)
    }

    fn understood(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
        is_new: bool,
    ) -> Result<Self, Invalid> {
        let root = serde_json::from_str(text)
            .map_err(|error| Invalid::new(format!("the schema is not JSON: {error}")))?;
        if !matches!(root, Value::Object(_) | Value::Bool(_)) {
            return Err(Invalid::new("a JSON Schema is an object, true or false"));
        }
        let documents = documents::documents(root, dependencies)?;
        for document in &documents {
            documents::check_depth(&document.value, limits)?;
            if is_new {
                check_meta_schema(document)?;
            }
        }
        let model = build::model(&documents, limits)?;
        Ok(Self {
            inner: Arc::new(Inner {
                canonical: text::canonical(text, false),
                documents,
                model,
                judge: OnceLock::new(),
            }),
        })
    }

    /// The text that two equal schemas share: the JSON without white space, as Jackson writes it.
    pub fn canonical(&self) -> String {
        self.inner.canonical.clone()
    }

    /// The canonical text with the keys of every object in order.
    pub fn normalized(&self) -> String {
        text::canonical(&self.inner.canonical, true)
    }

    /// The text in another format; JSON Schema has none.
    pub fn formatted(&self, _format: &str) -> Option<String> {
        None
    }

    /// The title.
    pub fn name(&self) -> Option<String> {
        let title = self.root().get("title")?.as_str()?;
        Some(title.to_owned())
    }

    /// The differences to a writer's schema.
    pub fn reads(
        &self,
        writer: &Self,
        policy: Policy,
        limits: &Limits,
    ) -> Result<Vec<Difference>, Invalid> {
        let found = compare::differences(&self.inner.model, &writer.inner.model, policy, limits)?;
        let mut search = witness::Search::new(writer, self);
        Ok(found
            .iter()
            .map(|found| {
                let path = found.path();
                let is_compatible = found.kind.verdict().holds(policy);
                Difference {
                    kind: found.kind.as_str(),
                    is_compatible,
                    message: found.kind.sentence(&path),
                    path,
                    additional: String::new(),
                    witness: if is_compatible {
                        None
                    } else {
                        search.witness(found)
                    },
                }
            })
            .collect())
    }

    /// Reads a payload: JSON that the schema accepts.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, Unreadable> {
        let record = serde_json::from_slice(payload)
            .map_err(|error| Unreadable::new(format!("the payload is not JSON: {error}")))?;
        self.judge()?.judge(&record)?;
        Ok(record)
    }

    /// Writes a record that the schema accepts.
    pub fn encode(&self, record: &Value) -> Result<Vec<u8>, Unreadable> {
        self.judge()?.judge(record)?;
        serde_json::to_vec(record).map_err(|error| Unreadable::new(error.to_string()))
    }

    fn root(&self) -> &Value {
        &self.inner.documents[0].value
    }

    fn judge(&self) -> Result<&Judge, Unreadable> {
        let inner = &*self.inner;
        let judge = inner.judge.get_or_init(|| {
            Judge::compile(&inner.documents, inner.model.chain, inner.model.explains)
        });
        judge.as_ref().map_err(|error| {
            Unreadable::new(format!("no payload can be judged by the schema: {error}"))
        })
    }
}

fn check_meta_schema(document: &Document) -> Result<(), Invalid> {
    let value = &document.value;
    let result = match document.draft {
        Draft::Draft4 => jsonschema::draft4::meta::validate(value),
        Draft::Draft6 => jsonschema::draft6::meta::validate(value),
        Draft::Draft201909 => jsonschema::draft201909::meta::validate(value),
        Draft::Draft202012 => jsonschema::draft202012::meta::validate(value),
        _ => jsonschema::draft7::meta::validate(value),
    };
    result.map_err(|error| {
        let place = match error.instance_path().as_str() {
            "" => "#".to_owned(),
            path => format!("#{path}"),
        };
        let what = error.to_string().chars().take(300).collect::<String>();
        Invalid::new(format!(
            "it is no JSON Schema of its draft: at {place}, {what}"
        ))
    })
}
