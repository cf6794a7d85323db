//! One face for the three kinds of schema. What is particular to a kind lives in its module.

use serde_json::Value;

use crate::compat::{Difference, Policy};
use crate::model::SchemaType;
use crate::{Limits, avro, json, protobuf};

/// A schema that another one refers to, with its text. Dependencies are listed so that each comes
/// after those it refers to itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Dependency {
    /// The name it is referred to by: a full name (Avro), a URI (JSON Schema), an import path
    /// (Protobuf).
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Why a text is no schema: a sentence with the place in the text, where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Invalid {
    /// What is wrong and where.
    pub what: String,
}

impl Invalid {
    /// With this sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// Why a payload cannot be read with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unreadable {
    /// What is wrong and where in the payload or the record.
    pub what: String,
}

impl Unreadable {
    /// With this sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// A schema that was understood, with everything it refers to. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// Avro 1.12.
    Avro(avro::Schema),
    /// JSON Schema, drafts 4, 6, 7, 2019-09 and 2020-12.
    Json(json::Schema),
    /// Protobuf, proto2 and proto3.
    Protobuf(protobuf::Schema),
}

macro_rules! each {
    ($parsed:expr, $schema:ident => $body:expr) => {
        match $parsed {
            Parsed::Avro($schema) => $body,
            Parsed::Json($schema) => $body,
            Parsed::Protobuf($schema) => $body,
        }
    };
}

impl Parsed {
    /// Understands the text of a new schema.
    pub fn parse(
        kind: SchemaType,
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        check_size(text, dependencies, limits)?;
        Ok(match kind {
            SchemaType::Avro => Self::Avro(avro::Schema::parse(text, dependencies, limits)?),
            SchemaType::Json => Self::Json(json::Schema::parse(text, dependencies, limits)?),
            SchemaType::Protobuf => {
                Self::Protobuf(protobuf::Schema::parse(text, dependencies, limits)?)
            }
        })
    }

    /// Understands the text of a schema that a registry has accepted before, which may break rules
    /// that only new ones are held to (`validateNewSchemas`): Avro's names and defaults, the
    /// meta-schemas of JSON Schema.
    pub fn parse_stored(
        kind: SchemaType,
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        check_size(text, dependencies, limits)?;
        Ok(match kind {
            SchemaType::Avro => Self::Avro(avro::Schema::parse_stored(text, dependencies, limits)?),
            SchemaType::Json => Self::Json(json::Schema::parse_stored(text, dependencies, limits)?),
            SchemaType::Protobuf => {
                Self::Protobuf(protobuf::Schema::parse(text, dependencies, limits)?)
            }
        })
    }

    /// Its kind.
    pub fn kind(&self) -> SchemaType {
        match self {
            Self::Avro(_) => SchemaType::Avro,
            Self::Json(_) => SchemaType::Json,
            Self::Protobuf(_) => SchemaType::Protobuf,
        }
    }

    /// The text that two equal schemas share: what Confluent's registry stores and compares.
    pub fn canonical(&self) -> String {
        each!(self, schema => schema.canonical())
    }

    /// The canonical text after `normalize=true`: what does not matter has one order and form.
    pub fn normalized(&self) -> String {
        each!(self, schema => schema.normalized())
    }

    /// The text in one of the kind's formats (`format=` in the API): `resolved` for Avro,
    /// `serialized` and `ignore_extensions` for Protobuf. `None` where the kind lacks it.
    pub fn formatted(&self, format: &str) -> Option<String> {
        each!(self, schema => schema.formatted(format))
    }

    /// What the schema takes in memory, in bytes, where that is many times its text: for caches.
    pub fn memory_bytes(&self) -> Option<usize> {
        match self {
            Self::Protobuf(schema) => Some(schema.memory_bytes()),
            Self::Avro(_) | Self::Json(_) => None,
        }
    }

    /// The name of its outermost type, where it has one: for subjects named after records.
    pub fn name(&self) -> Option<String> {
        each!(self, schema => schema.name())
    }

    /// The differences between what `writer` wrote and what this schema, the reader, expects; all
    /// of them, the compatible ones too. Empty also where the two are the same.
    ///
    /// A kind that is not the reader's gives one incompatible difference.
    pub fn reads(
        &self,
        writer: &Self,
        policy: Policy,
        limits: &Limits,
    ) -> Result<Vec<Difference>, Invalid> {
        match (self, writer) {
            (Self::Avro(reader), Self::Avro(writer)) => reader.reads(writer, policy, limits),
            (Self::Json(reader), Self::Json(writer)) => reader.reads(writer, policy, limits),
            (Self::Protobuf(reader), Self::Protobuf(writer)) => {
                reader.reads(writer, policy, limits)
            }
            _ => Ok(vec![Difference::other_kind(self.kind(), writer.kind())]),
        }
    }

    /// Reads a payload (without the wire format's prefix) and gives it as JSON. `index` is the path
    /// of the message in a Protobuf file, `[0]` the first, and means nothing to the others.
    pub fn decode(&self, payload: &[u8], index: &[i32]) -> Result<Value, Unreadable> {
        match self {
            Self::Avro(schema) => schema.decode(payload),
            Self::Json(schema) => schema.decode(payload),
            Self::Protobuf(schema) => schema.decode(payload, index),
        }
    }

    /// The payload of a record given as JSON: the inverse of [`Self::decode`].
    pub fn encode(&self, record: &Value, index: &[i32]) -> Result<Vec<u8>, Unreadable> {
        match self {
            Self::Avro(schema) => schema.encode(record),
            Self::Json(schema) => schema.encode(record),
            Self::Protobuf(schema) => schema.encode(record, index),
        }
    }
}

fn check_size(text: &str, dependencies: &[Dependency], limits: &Limits) -> Result<(), Invalid> {
    let below: usize = dependencies.iter().map(|it| it.text.len()).sum();
    let bytes = below + text.len();
    if bytes <= limits.text_bytes_max {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "the schema has {bytes} bytes with what it refers to; at most {} are allowed",
        limits.text_bytes_max
    )))
}
