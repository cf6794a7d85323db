//! What breaks between schemas: levels, differences, witnesses.
//!
//! The engines (one in each kind's module) say in which ways a reader differs from a writer; here
//! that becomes a verdict for a level. A verdict "incompatible" comes with a witness wherever one
//! can be made, and a witness that does not fail is a bug.

use serde::Serialize;
use serde_json::Value;

use crate::model::{Level, SchemaType};
use crate::{Invalid, Limits, Parsed};

/// How strictly differences are judged (`compatibilityPolicy` of Confluent 8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Policy {
    /// As Confluent always did.
    #[default]
    Strict,
    /// JSON Schema: what only a closed or partly open model forbids is allowed.
    Lenient,
}

/// A difference between a writer's and a reader's schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The kind, in the vocabulary that Confluent's clients know, such as
    /// `READER_FIELD_MISSING_DEFAULT_VALUE`.
    pub kind: &'static str,
    /// Whether the reader still reads what the writer wrote.
    pub is_compatible: bool,
    /// Where, as a JSON pointer into the reader's schema (Avro, JSON Schema) or a dotted name of
    /// type and field (Protobuf).
    pub path: String,
    /// One sentence. `{new}` and `{old}` stand for "new" and "old" in the direction of the check;
    /// [`Difference::sentence`] fills them in.
    pub message: String,
    /// What Confluent gives as `additionalInfo`.
    pub additional: String,
    /// A record that shows it; incompatible differences only.
    pub witness: Option<Witness>,
}

impl Difference {
    /// Another language altogether.
    pub fn other_kind(reader: SchemaType, writer: SchemaType) -> Self {
        Self {
            kind: "SCHEMA_TYPE_CHANGED",
            is_compatible: false,
            path: "/".to_owned(),
            message: format!("The {{new}} schema is {reader}, the {{old}} schema is {writer}"),
            additional: format!("reader: {reader}, writer: {writer}"),
            witness: None,
        }
    }

    /// The sentence, for a reader that is the new schema (`Direction::Backward`) or the old one.
    pub fn sentence(&self, direction: Direction) -> String {
        let (reader, writer) = match direction {
            Direction::Backward => ("new", "old"),
            Direction::Forward => ("old", "new"),
        };
        self.message
            .replace("{new}", reader)
            .replace("{old}", writer)
    }
}

/// A record that the writer's schema allows and the reader fails on; it was really encoded with the
/// one and decoded with the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Witness {
    /// The record, as JSON.
    pub record: Value,
    /// What the writer makes of it, in hexadecimal digits.
    pub payload: String,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What a reader makes of a witness.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It cannot read it, with the reader's error.
    Unreadable(String),
    /// It reads something else: the record as the reader sees it.
    ReadsDifferently(Value),
}

/// Who reads whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The new schema reads what the old one wrote.
    Backward,
    /// The old schema reads what the new one writes.
    Forward,
}

/// The differences that one pair of schemas has in one direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The version compared with.
    pub version: i32,
    /// Who read.
    pub direction: Direction,
    /// All of them; a level is broken by those that are not compatible.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// The differences that break it.
    pub fn incompatibilities(&self) -> impl Iterator<Item = &Difference> {
        self.differences
            .iter()
            .filter(|difference| !difference.is_compatible)
    }
}

/// Compares a schema with the versions before it, as the level wants: `older` has the live versions,
/// newest last. Versions are looked at from the newest on; with a level that is not transitive, only
/// the newest.
pub fn check(
    level: Level,
    policy: Policy,
    new: &Parsed,
    older: &[(i32, Parsed)],
    limits: &Limits,
) -> Result<Vec<Comparison>, Invalid> {
    let depth = if level.is_transitive() {
        older.len()
    } else {
        1
    };
    let mut comparisons = Vec::new();
    for (version, old) in older.iter().rev().take(depth) {
        if level.is_backward() {
            comparisons.push(Comparison {
                version: *version,
                direction: Direction::Backward,
                differences: new.reads(old, policy, limits)?,
            });
        }
        if level.is_forward() {
            comparisons.push(Comparison {
                version: *version,
                direction: Direction::Forward,
                differences: old.reads(new, policy, limits)?,
            });
        }
    }
    Ok(comparisons)
}
