//! What a report says. Everything is in a fixed order: the same evidence gives the same bytes.

use serde::{Deserialize, Serialize};

use super::evidence::{Referrer, Rule};
use crate::compat::Direction;
use crate::findings::Change;
use crate::model::{Level, SchemaType};

/// The report on a proposed change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this document: 1.
    pub format: u32,
    /// When the evidence was gathered, in milliseconds since 1970.
    pub taken_at: i64,
    /// The subject.
    pub subject: String,
    /// The file that was proposed, if it has a name.
    pub file: Option<String>,
    /// The kind of schema.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// The answer.
    pub decision: Decision,
    /// What the registry demands, and who demands it.
    pub rule: Rule,
    /// What each level would say.
    pub verdicts: Vec<LevelVerdict>,
    /// Each pair that was compared, newest version first.
    pub comparisons: Vec<Compared>,
    /// Who reads; those in traffic and in no catalogue first.
    pub consumers: Vec<Consumer>,
    /// What is retained of each version.
    pub retained: Vec<Retained>,
    /// Whether earlier versions than the level compares with matter.
    pub transitive: Transitive,
    /// In which order to deploy.
    pub order: Order,
    /// How to get there without breaking anybody.
    pub steps: Vec<Step>,
    /// Who imports the schema.
    pub references: Vec<Referrer>,
    /// Other subjects of the same topics.
    pub neighbours: Vec<String>,
    /// What is not known.
    pub gaps: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether something breaks: the registry refuses it, or somebody cannot read.
    pub breaks: bool,
    /// Whether the registry refuses it at the level that holds.
    pub is_refused: bool,
    /// In one sentence.
    pub sentence: String,
}

/// What a level says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelVerdict {
    /// The level.
    pub level: Level,
    /// Whether it is the one that holds.
    pub holds: bool,
    /// Whether it allows the change.
    pub is_compatible: bool,
    /// How many incompatibilities it sees.
    pub incompatibilities: usize,
    /// The versions it compares with.
    pub versions: Vec<i32>,
}

/// A comparison with one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The version.
    pub version: i32,
    /// Who read.
    pub direction: DirectionName,
    /// Whether the level that holds wants it.
    pub is_wanted: bool,
    /// All differences.
    pub differences: Vec<Change>,
}

/// A direction, as the report writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionName {
    /// The proposed schema reads what the version wrote.
    Backward,
    /// The version reads what the proposed schema writes.
    Forward,
}

impl From<Direction> for DirectionName {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Backward => Self::Backward,
            Direction::Forward => Self::Forward,
        }
    }
}

/// How well something is known; the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Nothing says so.
    #[serde(rename = "no evidence")]
    NoEvidence,
    /// By a name that is alike.
    #[serde(rename = "inferred")]
    Inferred,
    /// A catalogue says so.
    #[serde(rename = "declared")]
    Declared,
    /// The broker or the registry saw it.
    #[serde(rename = "observed")]
    Observed,
    /// The consumer's own schema was run against the change.
    #[serde(rename = "proved")]
    Proved,
}

impl Grade {
    /// As the report writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoEvidence => "no evidence",
            Self::Inferred => "inferred",
            Self::Declared => "declared",
            Self::Observed => "observed",
            Self::Proved => "proved",
        }
    }
}

/// Whether a consumer is affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affected {
    /// It is.
    Yes,
    /// Nothing says so, and nothing says that it is not.
    Unknown,
    /// It is not.
    No,
}

/// A consumer of the subject's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name: that of the catalogue, else of the group, else what the client calls itself.
    pub name: String,
    /// The group it reads as.
    pub group: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Whether it is in traffic and in no catalogue.
    pub is_unlisted: bool,
    /// Whether it is affected.
    pub affected: Affected,
    /// How well that is known.
    pub grade: Grade,
    /// Why, a sentence each.
    pub why: Vec<String>,
    /// What that stands on, best first.
    pub evidence: Vec<Fact>,
    /// The newest time among the facts, in milliseconds since 1970.
    pub newest: Option<i64>,
    /// Records it has yet to read, by version.
    pub unread: Vec<Unread>,
}

/// A fact and how well it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// How well.
    pub grade: Grade,
    /// In one sentence.
    pub sentence: String,
}

/// Records that a group has yet to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The topic.
    pub topic: String,
    /// The version; none for records of no version of this subject.
    pub version: Option<i32>,
    /// The id in the records.
    pub id: Option<i32>,
    /// How many, at most.
    pub records: u64,
    /// Whether it is that many.
    pub is_exact: bool,
    /// Whether the proposed schema reads them.
    pub is_readable: Option<bool>,
}

/// What is retained of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// The version.
    pub version: i32,
    /// Its id.
    pub id: i32,
    /// Whether it is soft-deleted.
    pub deleted: bool,
    /// How many records.
    pub records: u64,
    /// Where.
    pub places: Vec<Place>,
    /// The earliest time among them.
    pub oldest: Option<i64>,
    /// The latest.
    pub newest: Option<i64>,
    /// Whether the proposed schema reads them.
    pub is_readable: bool,
    /// The groups that have yet to read some.
    pub unread_by: Vec<String>,
    /// When it is out of reach, in one sentence.
    pub reach: String,
    /// From when on no record of it is retained, if nobody writes it again.
    pub unreachable_at: Option<i64>,
    /// Whether a hard delete is safe.
    pub hard_delete: Safety,
}

/// Where records are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many.
    pub records: u64,
    /// The first offset.
    pub first: i64,
    /// The last offset.
    pub last: i64,
}

/// Whether something is safe, and why (not).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// Whether it is; none if that is not known.
    pub is_safe: Option<bool>,
    /// Why.
    pub reasons: Vec<String>,
}

/// Whether versions that the level does not compare with matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitive {
    /// Whether they do; none if that is not known.
    pub matters: Option<bool>,
    /// Why.
    pub sentence: String,
}

/// Who is deployed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// Any order will do.
    Any,
    /// Consumers.
    Consumers,
    /// Producers.
    Producers,
    /// No order will do: a way around is needed.
    Neither,
}

/// The order of deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who is first.
    pub first: First,
    /// Why.
    pub sentence: String,
    /// Who must be deployed before the others.
    pub before: Vec<String>,
}

/// A step of the migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What kind of step: `add-with-default`, `alias-rename`, `expand`, `contract`, `grow-enum`,
    /// `keep-field`, `readers-first`, `reserve`, `close-content`, `new-topic`, `deploy`.
    pub id: String,
    /// What to do.
    pub title: String,
    /// How and why.
    pub detail: String,
    /// The places in the schema that it is for.
    pub paths: Vec<String>,
    /// A schema that was generated for it, and checked.
    pub schema: Option<Generated>,
}

/// A generated schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Its text.
    pub text: String,
    /// What the engine checked of it, a sentence each.
    pub checked: Vec<String>,
}
