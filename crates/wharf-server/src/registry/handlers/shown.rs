//! A schema as the API shows it: which fields, in which format, with which extras.

use std::sync::Arc;

use serde::Serialize;
use wharf_schema::model::{Metadata, Reference, RuleSet, SchemaType};
use wharf_schema::registry::{Refusal, Registered, Registry, SchemaTags, Subject};

use crate::registry::request::Request;

/// Which fields an answer has beside the schema itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    /// `subject`.
    pub(super) subject: bool,
    /// `id`.
    pub(super) id: bool,
    /// `ts` and `deleted`, which clients before version 8 may choke on. `guid` is always there: clients for
    /// Go and Rust that put it into a header read it from what registering answers, and ask for nothing.
    pub(super) new: bool,
}

impl Fields {
    /// All of them.
    pub(super) const ALL: Self = Self {
        subject: true,
        id: true,
        new: true,
    };
}

/// A version as it is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i32>,
    guid: String,
    schema_type: SchemaType,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    references: Vec<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_set: Option<&'a RuleSet>,
    schema: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_tags: Option<Vec<SchemaTags>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aliases: Option<Vec<String>>,
}

impl<'a> Shown<'a> {
    /// A version with these fields.
    pub(super) fn of(version: &'a Registered, fields: Fields) -> Self {
        let content = &version.content;
        Self {
            subject: fields.subject.then_some(&*version.subject),
            version: version.version,
            id: fields.id.then_some(version.id),
            guid: content.guid.to_string(),
            schema_type: content.schema_type,
            references: content.references.clone(),
            metadata: content.metadata.as_ref(),
            rule_set: content.rule_set.as_ref(),
            schema: Arc::clone(&content.schema),
            schema_tags: None,
            max_id: None,
            ts: fields.new.then(|| version.ts.as_millis()),
            deleted: fields.new.then_some(version.deleted),
            aliases: None,
        }
    }

    /// The same as the parameters `format`, `referenceFormat`, `findTags` and `fetchMaxId` want it.
    pub(super) fn asked(
        version: &'a Registered,
        fields: Fields,
        registry: &Registry,
        request: &Request,
    ) -> Result<Self, Refusal> {
        let mut shown = Self::of(version, fields);
        if let Some(format) = request.text("format") {
            shown.schema = registry.formatted(version, format)?;
        }
        let formats = ["referenceFormat", "reference_format"];
        let format = formats.iter().find_map(|name| request.text(name));
        let subject = || Subject::parse(&version.subject);
        if format.is_some_and(|format| format.eq_ignore_ascii_case("qualified")) {
            for reference in &mut shown.references {
                let target = Subject::parse(&reference.subject).within(subject().context());
                target.as_str().clone_into(&mut reference.subject);
            }
        }
        let wanted: Vec<_> = request
            .all("findTags")
            .filter(|tag| !tag.is_empty())
            .collect();
        if !wanted.is_empty() {
            let mut tags = registry.tags_of(version);
            if !wanted.contains(&"*") {
                for place in &mut tags {
                    place.tags.retain(|tag| wanted.contains(&tag.as_str()));
                }
                tags.retain(|place| !place.tags.is_empty());
            }
            shown.schema_tags = Some(tags);
        }
        if request.is("fetchMaxId") {
            shown.max_id = Some(registry.highest_id(subject().context()));
        }
        Ok(shown)
    }
}
