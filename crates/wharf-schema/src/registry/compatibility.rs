//! Whether a schema may follow the versions before it, in the words that Confluent's clients print.
//!
//! Versions are looked at from the newest on, and the first that breaks ends the search, as clients
//! expect exactly its differences.

use serde::Serialize;

use super::Registry;
use super::config::Config;
use super::parse::{Source, Understood, understand};
use super::register::{Draft, is_new};
use super::subject::Subject;
use super::types::{Content, Refusal, Registered, Registration, VersionSpec};
use crate::Limits;
use crate::compat::{Comparison, Difference, Direction};
use crate::model::{Level, Metadata, SchemaType};

/// Longer texts of older schemas are cut in messages.
const SHOWN_BYTES_MAX: usize = 10 * 1024;

/// Whether a schema is compatible with others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether it is.
    pub is_compatible: bool,
    /// Why it is not, in Confluent's form; empty if it is.
    pub messages: Vec<String>,
    /// The pairs that were compared, up to the first version that breaks.
    #[serde(skip)]
    pub comparisons: Vec<Comparison>,
}

/// A schema that is to follow others.
pub(super) struct Candidate<'a> {
    pub(super) content: &'a Content,
    pub(super) understood: &'a Understood,
}

impl Registry {
    /// Tests a schema against a version of a subject, or, without one, against as many as the level
    /// in its scope wants. `latest` of a subject that has none is compatible; another version that
    /// there is not is refused with 40402; what is no schema is refused with 42201.
    pub fn test(
        &self,
        subject: &Subject,
        version: Option<VersionSpec>,
        request: &Registration,
        normalize: bool,
    ) -> Result<Verdict, Refusal> {
        subject.check()?;
        let live = || self.state.versions(subject.as_str()).into_iter().flatten();
        let mut older: Vec<&Registered> = live().filter(|version| !version.deleted).collect();
        match version {
            None => {}
            Some(VersionSpec::Latest) => drop(older.drain(..older.len().saturating_sub(1))),
            Some(VersionSpec::Number(number)) => {
                older.retain(|version| version.version == number);
                if older.is_empty() {
                    return Err(Refusal::new(40402, format!("Version {number} not found.")));
                }
            }
        }
        let config = self.config_in_scope(subject);
        let draft = Draft::new(subject, request)?;
        let normalize = normalize || config.normalize.unwrap_or(false);
        let (content, understood) = self.settle(subject, &draft, normalize, is_new(&config))?;
        let candidate = Candidate {
            content: &content,
            understood: &understood,
        };
        self.compare(&config, &candidate, &older)
    }

    /// Compares with live versions, newest last, by a configuration.
    pub(super) fn compare(
        &self,
        config: &Config,
        candidate: &Candidate<'_>,
        older: &[&Registered],
    ) -> Result<Verdict, Refusal> {
        let level = config.compatibility_level.unwrap_or(self.settings.level);
        let validate_fields = config
            .validate_fields
            .unwrap_or(self.settings.validate_fields);
        let mut messages = Vec::new();
        if validate_fields {
            messages.extend(reserved_fields(
                candidate,
                older.last().map(|latest| &*latest.content),
            ));
        }
        let mut older = older.to_vec();
        if let Some(group) = config
            .compatibility_group
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            let value = candidate.content.property(group);
            older.retain(|version| version.content.property(group) == value);
        }
        let comparisons =
            self.compare_until_broken(level, config, candidate, &older, &mut messages)?;
        if !messages.is_empty() {
            messages.push(format!(
                "{{validateFields: '{validate_fields}', compatibility: '{level}'}}"
            ));
        }
        Ok(Verdict {
            is_compatible: messages.is_empty(),
            messages,
            comparisons,
        })
    }

    fn compare_until_broken(
        &self,
        level: Level,
        config: &Config,
        candidate: &Candidate<'_>,
        older: &[&Registered],
        messages: &mut Vec<String>,
    ) -> Result<Vec<Comparison>, Refusal> {
        let mut comparisons = Vec::new();
        if level == Level::None {
            return Ok(comparisons);
        }
        let depth = if level.is_transitive() {
            older.len()
        } else {
            1
        };
        let limits = &self.settings.limits;
        for version in older.iter().rev().take(depth) {
            let old = self.understood(version)?;
            let (new, old) = (&*candidate.understood.parsed, &*old.parsed);
            let mut broken = Vec::new();
            let directions = [
                (level.is_forward(), Direction::Forward, old, new),
                (level.is_backward(), Direction::Backward, new, old),
            ];
            for (_, direction, reader, writer) in directions.into_iter().filter(|(is, ..)| *is) {
                let differences = reader
                    .reads(writer, config.policy(), limits)
                    .map_err(|invalid| Refusal::new(42201, invalid.what))?;
                let comparison = Comparison {
                    version: version.version,
                    direction,
                    differences,
                };
                broken.extend(shown(&comparison, candidate.content.schema_type, limits));
                comparisons.push(comparison);
            }
            if !broken.is_empty() {
                messages.extend(broken);
                messages.push(format!("{{oldSchemaVersion: {}}}", version.version));
                messages.push(shown_text(&version.content.schema));
                break;
            }
        }
        Ok(comparisons)
    }

    /// A registered version, understood. What cannot be is refused with 42201: it came from another
    /// registry, or what it refers to is gone.
    pub(super) fn understood(
        &self,
        version: &Registered,
    ) -> Result<std::sync::Arc<Understood>, Refusal> {
        let content = &version.content;
        let source = Source {
            subject: &Subject::parse(&version.subject),
            kind: content.schema_type,
            text: &content.schema,
            references: &content.references,
            is_new: false,
        };
        understand(&self.state, &self.settings, &self.cache, &source)
    }
}

/// What is wrong with reserved fields: one that the version before had is not reserved any more, or
/// the schema has a field of such a name.
fn reserved_fields(candidate: &Candidate<'_>, latest: Option<&Content>) -> Vec<String> {
    let names = |content: &Content| -> std::collections::BTreeSet<String> {
        let list = content.property(Metadata::RESERVED).unwrap_or_default();
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let reserved = names(candidate.content);
    let before = latest.map(names).unwrap_or_default();
    let removed = before.difference(&reserved).map(|name| {
        format!(
            "The new schema has reserved field {name} removed from its metadata which is present in \
             the old schema's metadata."
        )
    });
    let fields = top_level_fields(candidate);
    let used = reserved
        .iter()
        .filter(|name| fields.contains(*name))
        .map(|name| {
            format!("The new schema has field that conflicts with the reserved field {name}.")
        });
    removed.chain(used).collect()
}

/// The names of the fields of a schema's outermost type.
fn top_level_fields(candidate: &Candidate<'_>) -> Vec<String> {
    let text = &candidate.content.schema;
    let json: serde_json::Value = match candidate.content.schema_type {
        SchemaType::Protobuf => return super::tags::message_fields(text),
        SchemaType::Avro | SchemaType::Json => serde_json::from_str(text).unwrap_or_default(),
    };
    if let Some(fields) = json.get("fields").and_then(|fields| fields.as_array()) {
        let names = fields
            .iter()
            .filter_map(|field| field.get("name")?.as_str());
        return names.map(str::to_owned).collect();
    }
    let properties = json
        .get("properties")
        .and_then(|properties| properties.as_object());
    properties
        .into_iter()
        .flat_map(|fields| fields.keys().cloned())
        .collect()
}

/// The messages of a pair, in the form of its kind.
fn shown<'a>(
    comparison: &'a Comparison,
    kind: SchemaType,
    limits: &Limits,
) -> impl Iterator<Item = String> + use<'a> {
    let direction = comparison.direction;
    let show = move |difference: &Difference| {
        let (name, sentence) = (difference.kind, difference.sentence(direction));
        if kind == SchemaType::Avro {
            let additional = &difference.additional;
            format!(
                "{{errorType:'{name}', description:'{sentence}', additionalInfo:'{additional}'}}"
            )
        } else {
            format!("{{errorType:\"{name}\", description:\"{sentence}\"}}")
        }
    };
    comparison
        .incompatibilities()
        .take(limits.incompatibilities_max)
        .map(show)
}

fn shown_text(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return format!("{{oldSchema: '{text}'}}");
    }
    let ends = (0..=SHOWN_BYTES_MAX).rev();
    let end = ends
        .into_iter()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{{oldSchema: <truncated> '{}...'}}", &text[..end])
}
