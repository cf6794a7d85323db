//! New versions of which only tags, metadata or rules differ from an old one.

use serde::{Deserialize, Serialize};
use wharf_message::Timestamp;

use super::register::{Draft, Options, Wanted};
use super::subject::Subject;
use super::types::{Decision, Refusal, Registered, SchemaTags, VersionSpec, null_is_default};
use super::{Registry, tags};
use crate::model::{Metadata, RuleSet};

/// A change of the tags of a version, as `POST …/versions/{v}/tags` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TagRequest {
    /// The number that the new version must get.
    pub new_version: Option<i32>,
    /// Tags to write into the text.
    #[serde(deserialize_with = "null_is_default")]
    pub tags_to_add: Vec<SchemaTags>,
    /// Tags to take out of it.
    #[serde(deserialize_with = "null_is_default")]
    pub tags_to_remove: Vec<SchemaTags>,
    /// Its metadata; without it, that of the version.
    pub metadata: Option<Metadata>,
    /// Its rules, unless some are merged or removed.
    pub rule_set: Option<RuleSet>,
    /// Rules to put into those of the version before.
    pub rules_to_merge: Option<RuleSet>,
    /// The names of rules to take out of them.
    pub rules_to_remove: Option<Vec<String>>,
}

impl Registry {
    /// Changes the tags, metadata or rules of a version: the answer is the new version.
    pub fn modify_tags(
        &self,
        subject: &Subject,
        version: VersionSpec,
        request: &TagRequest,
        now: Timestamp,
    ) -> Result<Decision<Registered>, Refusal> {
        let old = self.version(subject, version, false)?;
        let config = self.config_in_scope(subject);
        let new_version = request.new_version.unwrap_or(0);
        let text = tags::change(
            old.content.schema_type,
            &old.content.schema,
            &request.tags_to_add,
            &request.tags_to_remove,
        )
        .map_err(|reason| Refusal::new(42201, reason))?;
        let metadata = request
            .metadata
            .clone()
            .or_else(|| old.content.metadata.clone());
        let metadata = metadata.unwrap_or_default();
        let rule_set = self.tagged_rules(subject, request);
        if let Some(rules) = &rule_set {
            rules
                .check()
                .map_err(|reason| Refusal::new(42210, reason))?;
        }
        let draft = Draft {
            kind: old.content.schema_type,
            text,
            references: old.content.references.clone(),
            metadata: Some(metadata.with_property(Metadata::VERSION, new_version.to_string())),
            rule_set,
        };
        let wanted = Wanted {
            id: None,
            version: new_version,
        };
        self.decide(subject, draft, wanted, &config, Options::default(), now)
    }

    fn tagged_rules(&self, subject: &Subject, request: &TagRequest) -> Option<RuleSet> {
        if request.rules_to_merge.is_none() && request.rules_to_remove.is_none() {
            return request.rule_set.clone().map(RuleSet::with_defaults);
        }
        let before = match request.new_version {
            Some(new) => VersionSpec::Number(new.saturating_sub(1)),
            None => VersionSpec::Latest,
        };
        let old = self.version(subject, before, false).ok();
        let old = old.and_then(|old| old.content.rule_set.clone());
        let merge = request.rules_to_merge.clone().map(RuleSet::with_defaults);
        let merged = [old, merge]
            .into_iter()
            .flatten()
            .reduce(|old, new| old.merged(&new));
        let names = request.rules_to_remove.as_deref().unwrap_or_default();
        merged.map(|rules| rules.without(names))
    }

    pub(super) fn propagate_tags(
        &self,
        subject: &Subject,
        draft: &mut Draft,
    ) -> Result<(), Refusal> {
        let Ok(latest) = self.version(subject, VersionSpec::Latest, false) else {
            return Ok(());
        };
        let found = tags::find(latest.content.schema_type, &latest.content.schema);
        if !found.is_empty() && !draft.is_empty() {
            draft.text = tags::change(draft.kind, &draft.text, &found, &[])
                .map_err(|reason| Refusal::new(42201, reason))?;
        }
        Ok(())
    }
}
