//! What goes into a registry and what comes out, in the names of Confluent's API.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use wharf_message::Timestamp;

use crate::Limits;
use crate::model::{Level, Metadata, Reference, RuleSet, SchemaType};

/// Why a request is refused, in Confluent's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The code, such as 40401. The HTTP status is the code divided by 100.
    #[serde(rename = "error_code")]
    pub code: u32,
    /// One sentence.
    pub message: String,
}

impl Refusal {
    /// With this code and sentence.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The status that belongs to the code.
    pub fn status(&self) -> u16 {
        u16::try_from(self.code / 100).unwrap_or(500)
    }
}

/// What is to become durable for a change, in this order and all at once, and what is answered then.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<T> {
    /// Keys and values for `_schemas`; `None` is a tombstone. Empty where nothing changes.
    pub records: Vec<(Bytes, Option<Bytes>)>,
    /// The answer, true once the records are durable.
    pub answer: T,
}

/// What became of a record that was replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the view.
    Changed,
    /// It is of a kind that changes nothing here, such as NOOP.
    Nothing,
    /// It was ignored, with the reason.
    Ignored(String),
}

/// A registry's own settings; those that can be changed through the API are in its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bounds for schemas.
    pub limits: Limits,
    /// The level where the topic has none.
    pub level: Level,
    /// Whether reserved fields are checked where the topic does not say.
    pub validate_fields: bool,
    /// Whether modes may be changed.
    pub mode_mutability: bool,
    /// How many references one schema may have.
    pub references_max: usize,
    /// Bytes of a schema's text, beyond which it is refused with 42209.
    pub text_bytes_max: usize,
    /// How many understood schemas are kept.
    pub parsed_max: usize,
    /// Bytes that they may take together: of their texts with what they refer to, or what a kind that
    /// takes many times that says.
    pub parsed_bytes_max: usize,
    /// How many entries a list of schemas has where the request does not say.
    pub page_default: usize,
    /// How many it may ask for.
    pub page_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            level: Level::Backward,
            validate_fields: false,
            mode_mutability: true,
            references_max: 1_000,
            text_bytes_max: 1 << 20,
            parsed_max: 2_000,
            parsed_bytes_max: 64 << 20,
            page_default: 1_000,
            page_max: 1_000,
        }
    }
}

/// A schema as it is sent: for registering, looking up and testing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Registration {
    /// The text. Empty: the latest version's.
    #[serde(deserialize_with = "null_is_default")]
    pub schema: String,
    /// `AVRO`, `JSON` or `PROTOBUF`; Avro where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_type: Option<String>,
    /// The schemas it uses.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub references: Vec<Reference>,
    /// What is said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Its rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<RuleSet>,
    /// The id it must get; in the modes IMPORT and FORWARD only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i32>,
    /// The version it must become: the next one, or in the mode IMPORT any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Tags to write into the text before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_tags_to_add: Option<Vec<SchemaTags>>,
    /// Tags to take out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_tags_to_remove: Option<Vec<SchemaTags>>,
    /// Whether the tags in the latest version's text are carried over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagate_schema_tags: Option<bool>,
}

impl Registration {
    /// A text of a kind and nothing else.
    pub fn new(kind: SchemaType, schema: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            schema_type: Some(kind.as_str().to_owned()),
            ..Self::default()
        }
    }

    /// Its kind; refused with 42201 where there is none of that name.
    pub fn kind(&self) -> Result<SchemaType, Refusal> {
        match self.schema_type.as_deref() {
            None | Some("") => Ok(SchemaType::Avro),
            Some(name) => {
                let known = |kind: &SchemaType| kind.as_str().eq_ignore_ascii_case(name);
                let kind = SchemaType::ALL.into_iter().find(known);
                kind.ok_or_else(|| Refusal::new(42201, format!("Invalid schema type {name}")))
            }
        }
    }
}

/// Tags of one place in a schema's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaTags {
    /// The place.
    pub schema_entity: SchemaEntity,
    /// The tags.
    pub tags: Vec<String>,
}

/// A type or field in a schema's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchemaEntity {
    /// Where it is: the full name of a record, or of a field in it.
    pub entity_path: String,
    /// `SR_RECORD` or `SR_FIELD`.
    pub entity_type: String,
}

/// How a schema is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterOptions {
    /// What does not matter in the text is put into one form first (the configuration may ask for it
    /// as well).
    pub normalize: bool,
    /// Compatibility is not checked.
    pub force: bool,
}

/// How a schema is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupOptions {
    /// As when registering.
    pub normalize: bool,
    /// Whether soft-deleted versions are found.
    pub deleted: bool,
}

/// What a schema says; shared by every version that says the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// Its identity in every registry.
    pub guid: Uuid,
    /// Its kind.
    pub schema_type: SchemaType,
    /// The schemas it uses.
    pub references: Vec<Reference>,
    /// What is said about it.
    pub metadata: Option<Metadata>,
    /// Its rules.
    pub rule_set: Option<RuleSet>,
    /// The text.
    pub schema: Arc<str>,
}

impl Content {
    /// Gives it its GUID.
    pub fn new(
        schema_type: SchemaType,
        schema: Arc<str>,
        references: Vec<Reference>,
        metadata: Option<Metadata>,
        rule_set: Option<RuleSet>,
    ) -> Self {
        Self {
            guid: super::guid(&schema, &references, metadata.as_ref(), rule_set.as_ref()),
            schema_type,
            references,
            metadata,
            rule_set,
            schema,
        }
    }

    /// A property of the metadata.
    pub fn property(&self, name: &str) -> Option<&str> {
        let properties = self.metadata.as_ref()?.properties.as_ref()?;
        properties.get(name).map(String::as_str)
    }
}

/// A version of a subject. Cheap to clone; as JSON it is Confluent's `Schema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its qualified subject.
    pub subject: Arc<str>,
    /// Its number in the subject, from 1.
    pub version: i32,
    /// Its number in the context, from 1.
    pub id: i32,
    /// When its record was written.
    pub ts: Timestamp,
    /// Whether it is soft-deleted.
    pub deleted: bool,
    /// What it says.
    pub content: Arc<Content>,
}

impl Serialize for Registered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let content = &self.content;
        let mut out = serializer.serialize_struct("Schema", 11)?;
        out.serialize_field("subject", &*self.subject)?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("id", &self.id)?;
        out.serialize_field("guid", &content.guid.to_string())?;
        out.serialize_field("schemaType", &content.schema_type)?;
        if !content.references.is_empty() {
            out.serialize_field("references", &content.references)?;
        }
        if let Some(metadata) = &content.metadata {
            out.serialize_field("metadata", metadata)?;
        }
        if let Some(rules) = &content.rule_set {
            out.serialize_field("ruleSet", rules)?;
        }
        out.serialize_field("schema", &*content.schema)?;
        out.serialize_field("ts", &self.ts.as_millis())?;
        out.serialize_field("deleted", &self.deleted)?;
        out.end()
    }
}

/// Which version is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSpec {
    /// The newest that is not deleted: `latest` or `-1`.
    Latest,
    /// This one.
    Number(i32),
}

impl FromStr for VersionSpec {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.eq_ignore_ascii_case("latest") || text == "-1" {
            return Ok(Self::Latest);
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err(Refusal::new(
                42202,
                format!(
                    "The specified version '{text}' is not a valid version id. Allowed values are \
                     between [1, 2^31-1] and the string \"latest\""
                ),
            )),
        }
    }
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => formatter.write_str("latest"),
            Self::Number(number) => write!(formatter, "{number}"),
        }
    }
}

/// Which versions a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Those that are not deleted.
    #[default]
    Live,
    /// Soft-deleted ones too.
    All,
    /// Only soft-deleted ones.
    Deleted,
    /// All; the numbers of soft-deleted ones are negative.
    DeletedAsNegative,
}

impl Filter {
    /// From the parameters `deleted` and `deletedOnly`; the latter wins.
    pub fn from_parameters(deleted: bool, deleted_only: bool) -> Self {
        match (deleted, deleted_only) {
            (_, true) => Self::Deleted,
            (true, false) => Self::All,
            (false, false) => Self::Live,
        }
    }

    /// Whether something in this state belongs to the list.
    pub fn includes(self, deleted: bool) -> bool {
        match self {
            Self::Live => !deleted,
            Self::Deleted => deleted,
            Self::All | Self::DeletedAsNegative => true,
        }
    }
}

/// A part of a list: `offset` and `limit` of the API; without a limit, all that is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many are left out at the beginning.
    pub offset: usize,
    /// How many there are at most.
    pub limit: Option<usize>,
}

impl Page {
    /// From the parameters as they came: a negative offset or limit means none.
    pub fn from_parameters(offset: i64, limit: i64) -> Self {
        Self {
            offset: usize::try_from(offset).unwrap_or(0),
            limit: usize::try_from(limit).ok().filter(|limit| *limit > 0),
        }
    }

    /// The part of `all`.
    pub fn of<T>(self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        let limit = self.limit.unwrap_or(usize::MAX);
        all.into_iter().skip(self.offset).take(limit).collect()
    }
}

/// What a subject, a context or everything may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// Everything.
    #[default]
    #[serde(rename = "READWRITE")]
    ReadWrite,
    /// Reading.
    #[serde(rename = "READONLY")]
    ReadOnly,
    /// Reading, for all subjects, whatever they say themselves.
    #[serde(rename = "READONLY_OVERRIDE")]
    ReadOnlyOverride,
    /// Taking over schemas with the ids that they have elsewhere.
    Import,
    /// Passing registrations on to another registry.
    Forward,
}

impl Mode {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::ReadWrite,
        Self::ReadOnly,
        Self::ReadOnlyOverride,
        Self::Import,
        Self::Forward,
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "READWRITE",
            Self::ReadOnly => "READONLY",
            Self::ReadOnlyOverride => "READONLY_OVERRIDE",
            Self::Import => "IMPORT",
            Self::Forward => "FORWARD",
        }
    }

    /// Whether ids come from outside and nothing is checked.
    pub fn takes_ids(self) -> bool {
        matches!(self, Self::Import | Self::Forward)
    }

    /// Whether nothing may be changed.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::ReadOnlyOverride)
    }
}

impl FromStr for Mode {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let known = |mode: &Self| mode.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(known).ok_or_else(|| {
            Refusal::new(
                42204,
                "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, IMPORT and \
                 FORWARD",
            )
        })
    }
}

/// A field whose JSON may be `null`.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
