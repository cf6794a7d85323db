//! The records of `_schemas`, byte for byte as Confluent writes them now, and read in every form that
//! it, or another registry, ever wrote them.
//!
//! A key is what it says, not how it is spelled: [`Key`] is compared, bytes are not. What cannot be
//! read is a reason, never a panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::subject::{Subject, normalize_context};
use super::types::{Content, Mode, Refusal, null_is_default};
use crate::model::{Metadata, Reference, RuleSet, SchemaType};

/// What a record is about. Subjects are qualified names in their one form; the empty one is the
/// default context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Schema(Arc<str>, i32),
    Config(Arc<str>),
    Mode(Arc<str>),
    DeleteSubject(Arc<str>),
    ClearSubject(Arc<str>),
    Context(Arc<str>),
    Noop,
    /// Of a kind that means nothing here, such as ASSOC.
    Other(String),
}

/// The fields of every kind of key. Others, such as `seq` and `node`, are nobody's business here.
#[derive(Deserialize)]
struct AnyKey {
    keytype: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    version: Option<i32>,
    #[serde(default)]
    magic: Option<i32>,
    #[serde(default)]
    context: Option<String>,
}

#[derive(Serialize)]
struct KeyOut<'a> {
    keytype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    magic: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
}

impl Key {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let key: AnyKey = serde_json::from_slice(bytes)
            .map_err(|error| format!("the key is unreadable: {error}"))?;
        let subject = || Subject::parse(key.subject.as_deref().unwrap_or_default()).shared();
        match key.keytype.as_str() {
            "SCHEMA" => {
                if !matches!(key.magic, None | Some(0 | 1)) {
                    return Err(format!("magic {:?} of a SCHEMA is unknown", key.magic));
                }
                match key.version {
                    Some(version) if version > 0 && !subject().is_empty() => {
                        Ok(Self::Schema(subject(), version))
                    }
                    _ => Err("a SCHEMA without subject or version".to_owned()),
                }
            }
            "CONFIG" => Ok(Self::Config(subject())),
            "MODE" => Ok(Self::Mode(subject())),
            "DELETE_SUBJECT" => Ok(Self::DeleteSubject(subject())),
            "CLEAR_SUBJECT" => Ok(Self::ClearSubject(subject())),
            "CONTEXT" => match key.context {
                Some(context) => Ok(Self::Context(normalize_context(&context).into())),
                None => Err("a CONTEXT without its name".to_owned()),
            },
            "NOOP" => Ok(Self::Noop),
            other => Ok(Self::Other(other.to_owned())),
        }
    }

    /// The form that is written now; `None` for what is never written here.
    pub(super) fn encode(&self) -> Option<Bytes> {
        let of = |keytype, subject: Option<&'_ Arc<str>>, version, magic| {
            let subject = subject
                .map(|subject| &**subject)
                .filter(|text| !text.is_empty());
            json(&KeyOut {
                keytype,
                subject,
                version,
                magic: Some(magic),
                tenant: None,
                context: None,
            })
        };
        Some(match self {
            Self::Schema(subject, version) => of("SCHEMA", Some(subject), Some(*version), 1),
            Self::Config(subject) => of("CONFIG", Some(subject), None, 0),
            Self::Mode(subject) => of("MODE", Some(subject), None, 0),
            Self::DeleteSubject(subject) => of("DELETE_SUBJECT", Some(subject), None, 0),
            Self::ClearSubject(subject) => of("CLEAR_SUBJECT", Some(subject), None, 0),
            Self::Noop => of("NOOP", None, None, 0),
            Self::Context(context) => json(&KeyOut {
                keytype: "CONTEXT",
                subject: None,
                version: None,
                magic: None,
                tenant: Some("default"),
                context: Some(context),
            }),
            Self::Other(_) => return None,
        })
    }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("these types have string keys and no failing serializer")
        .into()
}

/// A version as a record has it.
#[derive(Debug)]
pub(super) struct SchemaValue {
    pub(super) id: i32,
    pub(super) content: Content,
    pub(super) deleted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SchemaIn {
    id: i32,
    #[serde(default, deserialize_with = "null_is_default")]
    schema_type: String,
    #[serde(default, deserialize_with = "null_is_default")]
    references: Vec<Reference>,
    #[serde(default)]
    metadata: Option<Metadata>,
    #[serde(default)]
    rule_set: Option<RuleSet>,
    schema: String,
    #[serde(default, deserialize_with = "null_is_default")]
    deleted: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SchemaOut<'a> {
    subject: &'a str,
    version: i32,
    id: i32,
    md5: String,
    #[serde(skip_serializing_if = "SchemaType::is_avro")]
    schema_type: SchemaType,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    references: &'a [Reference],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_set: Option<&'a RuleSet>,
    schema: &'a str,
    deleted: bool,
}

pub(super) fn decode_schema(value: &[u8]) -> Result<SchemaValue, String> {
    let value: SchemaIn = serde_json::from_slice(value)
        .map_err(|error| format!("the value of a SCHEMA is unreadable: {error}"))?;
    if value.id < 0 {
        return Err(format!("the id {} of a SCHEMA is negative", value.id));
    }
    let kind = match value.schema_type.as_str() {
        "" => SchemaType::Avro,
        name => name.parse()?,
    };
    let rules = value.rule_set.map(RuleSet::with_defaults);
    Ok(SchemaValue {
        id: value.id,
        content: Content::new(
            kind,
            value.schema.into(),
            value.references,
            value.metadata,
            rules,
        ),
        deleted: value.deleted,
    })
}

pub(super) fn encode_schema(
    subject: &str,
    version: i32,
    id: i32,
    content: &Content,
    deleted: bool,
) -> Bytes {
    json(&SchemaOut {
        subject,
        version,
        id,
        md5: STANDARD.encode(content.guid.as_bytes()),
        schema_type: content.schema_type,
        references: &content.references,
        metadata: content.metadata.as_ref(),
        rule_set: content.rule_set.as_ref(),
        schema: &content.schema,
        deleted,
    })
}

#[derive(Serialize)]
struct ConfigOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    #[serde(flatten)]
    config: &'a Config,
}

pub(super) fn encode_config(subject: &str, config: &Config) -> Bytes {
    json(&ConfigOut { subject, config })
}

pub(super) fn decode_config(value: &[u8]) -> Result<Config, String> {
    serde_json::from_slice(value)
        .map_err(|error| format!("the value of a CONFIG is unreadable: {error}"))
}

#[derive(Serialize)]
struct ModeOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    mode: Mode,
}

#[derive(Deserialize)]
struct ModeIn {
    mode: String,
}

pub(super) fn encode_mode(subject: &str, mode: Mode) -> Bytes {
    json(&ModeOut { subject, mode })
}

pub(super) fn decode_mode(value: &[u8]) -> Result<Mode, String> {
    let value: ModeIn = serde_json::from_slice(value)
        .map_err(|error| format!("the value of a MODE is unreadable: {error}"))?;
    value.mode.parse().map_err(|refusal: Refusal| {
        let Refusal { message, .. } = refusal;
        format!("{}: {message}", value.mode)
    })
}

#[derive(Serialize)]
struct DeleteSubjectOut<'a> {
    subject: &'a str,
    version: i32,
}

#[derive(Deserialize)]
struct DeleteSubjectIn {
    version: i32,
}

pub(super) fn encode_delete_subject(subject: &str, version: i32) -> Bytes {
    json(&DeleteSubjectOut { subject, version })
}

/// Up to which version the subject is deleted.
pub(super) fn decode_delete_subject(value: &[u8]) -> Result<i32, String> {
    let value: DeleteSubjectIn = serde_json::from_slice(value)
        .map_err(|error| format!("the value of a DELETE_SUBJECT is unreadable: {error}"))?;
    Ok(value.version)
}

#[derive(Serialize)]
struct ClearSubjectOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
}

pub(super) fn encode_clear_subject(subject: &str) -> Bytes {
    json(&ClearSubjectOut { subject })
}

#[derive(Serialize)]
struct ContextOut<'a> {
    tenant: &'static str,
    context: &'a str,
}

pub(super) fn encode_context(context: &str) -> Bytes {
    json(&ContextOut {
        tenant: "default",
        context,
    })
}

/// The highest ids that were ever given, for contexts whose highest id is gone: Confluent writes a
/// NOOP without a value and reads none, so its value is free for what its format has no place for.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Marks {
    #[serde(default)]
    pub(super) highest_ids: BTreeMap<String, i32>,
}

pub(super) fn encode_marks(marks: &Marks) -> Bytes {
    json(marks)
}

pub(super) fn decode_marks(value: &[u8]) -> Result<Marks, String> {
    serde_json::from_slice(value)
        .map_err(|error| format!("the value of a NOOP is unreadable: {error}"))
}
