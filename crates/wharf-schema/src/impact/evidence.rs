//! What a report is made of: facts, each from where it was seen. Nothing here is a conclusion.
//!
//! Whoever gathers it says what could not be looked at in [`Evidence::missing`]; an absent fact is
//! never taken for its opposite.

use serde::{Deserialize, Serialize};

use crate::Dependency;
use crate::compat::Policy;
use crate::model::{Level, SchemaType};

/// Everything known about a proposed change. Times are milliseconds since 1970 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When it was gathered.
    pub taken_at: i64,
    /// The change.
    pub proposed: Proposed,
    /// What the registry demands of it.
    pub rule: Rule,
    /// The subject's versions, deleted ones too, oldest first.
    pub versions: Vec<Version>,
    /// The topics that have its records.
    pub topics: Vec<Topic>,
    /// What a catalogue says of consumers; none if there is no catalogue.
    pub catalogue: Option<Vec<Declared>>,
    /// Who asked the registry for a schema of this subject.
    pub fetches: Vec<Fetch>,
    /// Schemas of other subjects that refer to a version of this one.
    pub referrers: Vec<Referrer>,
    /// Other subjects of the same topics.
    pub neighbours: Vec<String>,
    /// What could not be looked at, and why; a sentence each.
    pub missing: Vec<String>,
}

/// The proposed schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The subject it would be registered under.
    pub subject: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// Its text.
    pub text: String,
    /// What it refers to.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// The file it comes from.
    #[serde(default)]
    pub file: Option<String>,
}

/// The level and the policy, and who set them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The level.
    pub level: Level,
    /// Who set it: "the subject", "the global configuration", "the request".
    pub level_from: String,
    /// The policy.
    pub policy: Policy,
    /// Who set that.
    pub policy_from: String,
    /// The metadata property by which versions are compared, if one is set.
    #[serde(default)]
    pub group: Option<String>,
}

/// A version of the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: i32,
    /// Its id in records.
    pub id: i32,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// Its text.
    pub text: String,
    /// What it refers to.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Whether it is soft-deleted.
    #[serde(default)]
    pub deleted: bool,
    /// Whether the level compares with it (a compatibility group may leave it out).
    pub compared: bool,
    /// Other subjects that have the same schema, and so the same id.
    #[serde(default)]
    pub shared_with: Vec<String>,
}

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How long records are kept; none: for ever.
    pub retention_ms: Option<i64>,
    /// Whether the newest record of each key is kept for ever.
    pub is_compacted: bool,
    /// Whether the broker refuses records that do not fit their schema.
    pub validation: Option<String>,
    /// What is retained.
    pub partitions: Vec<Partition>,
    /// The groups that committed offsets there or have members that read it.
    pub groups: Vec<Group>,
}

/// What a partition retains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// Its first offset.
    pub start: i64,
    /// The offset of the next record.
    pub end: i64,
    /// From here on it was not looked through; `end` if all of it was.
    pub scanned_to: i64,
    /// Its records by schema id, in order of offset.
    pub runs: Vec<Run>,
}

/// Records of one schema id between two offsets. Two runs may overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The id; none for records that name no schema.
    pub id: Option<i32>,
    /// The offset of the first one.
    pub first: i64,
    /// The offset of the last one.
    pub last: i64,
    /// How many there are.
    pub records: u64,
    /// The earliest time among them.
    pub oldest: i64,
    /// The latest.
    pub newest: i64,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its state, as the broker names it.
    pub state: String,
    /// Who is in it now.
    pub members: Vec<Member>,
    /// Its committed offsets in the topic.
    pub offsets: Vec<Committed>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
    /// When it was committed, where that is known.
    pub at: Option<i64>,
}

/// What a catalogue says of a consumer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Its name.
    pub consumer: String,
    /// The group it reads as.
    #[serde(default)]
    pub group: Option<String>,
    /// Whom to ask.
    #[serde(default)]
    pub owner: Option<String>,
    /// The fields it reads, with dots between the levels; none: not said.
    #[serde(default)]
    pub fields: Option<Vec<String>>,
    /// The schema it reads with.
    #[serde(default)]
    pub reader: Option<Reader>,
    /// Where that is written.
    pub source: String,
}

/// The schema a consumer reads with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// Its text.
    pub text: String,
    /// The file or the version it comes from.
    pub name: String,
}

/// Somebody who asked the registry for a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The id that was asked for.
    pub id: i32,
    /// What the client says of itself, or where it connects from.
    pub client: String,
    /// The last time.
    pub at: i64,
    /// How often.
    pub count: u64,
}

/// A schema of another subject that uses this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Referrer {
    /// Its subject.
    pub subject: String,
    /// Its version.
    pub version: i32,
    /// The version of this subject that it uses.
    pub uses: i32,
}
