//! What a registry can be asked: by id, GUID, subject and version, and in lists.
//!
//! Lists are ordered by name and number, whatever order the view keeps them in.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::Registry;
use super::settings::subject_not_found;
use super::subject::{DEFAULT_CONTEXT, Subject};
use super::types::{Filter, Page, Refusal, Registered, SchemaTags, VersionSpec};
use super::{parse::Understood, tags};
use crate::Parsed;

/// Which schemas a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemasQuery {
    /// What their subjects begin with; `:*:` for every context.
    pub subject_prefix: String,
    /// Which versions.
    pub filter: Filter,
    /// Only the newest of each subject.
    pub latest_only: bool,
    /// Only those that have a rule of this executor.
    pub rule_type: Option<String>,
    /// Which part of the list.
    pub page: Page,
}

impl Registry {
    /// A version of a subject. For a subject without a context, other contexts are looked through as
    /// well. 40401 where there is no such subject, 40402 where it has no such version; soft-deleted
    /// ones are found with `deleted`, never as the latest.
    pub fn version(
        &self,
        subject: &Subject,
        version: VersionSpec,
        deleted: bool,
    ) -> Result<Registered, Refusal> {
        if let Some(found) = self.version_in(subject, version, deleted) {
            return Ok(found.clone());
        }
        if self.has_versions(subject, deleted) {
            return Err(Refusal::new(40402, format!("Version {version} not found.")));
        }
        Err(subject_not_found(subject))
    }

    /// As [`Self::version`], and where an unqualified subject has none, in the other contexts too:
    /// what a read by clients that know no contexts finds.
    pub fn version_in_any_context(
        &self,
        subject: &Subject,
        version: VersionSpec,
        deleted: bool,
    ) -> Result<Registered, Refusal> {
        let found = self.version(subject, version, deleted);
        if found.is_ok() || subject.is_qualified() {
            return found;
        }
        let contexts = self.other_contexts();
        let mut others = contexts.map(|context| Subject::new(context, subject.name()));
        others
            .find_map(|other| self.version_in(&other, version, deleted).cloned())
            .map_or(found, Ok)
    }

    fn version_in(
        &self,
        subject: &Subject,
        version: VersionSpec,
        deleted: bool,
    ) -> Option<&Registered> {
        match version {
            VersionSpec::Number(number) => self
                .state
                .version(subject.as_str(), number)
                .filter(|version| deleted || !version.deleted),
            VersionSpec::Latest => {
                let versions = self.state.versions(subject.as_str())?;
                versions.iter().rev().find(|version| !version.deleted)
            }
        }
    }

    /// Whether a subject has versions that a filter lets through.
    pub(super) fn has_versions(&self, subject: &Subject, deleted: bool) -> bool {
        let mut versions = self.state.versions(subject.as_str()).into_iter().flatten();
        versions.any(|version| deleted || !version.deleted)
    }

    /// The newest version whose metadata has all of these properties; 40401 or 40403.
    pub fn latest_with_metadata(
        &self,
        subject: &Subject,
        properties: &BTreeMap<String, String>,
        deleted: bool,
    ) -> Result<Registered, Refusal> {
        let versions = self.state.versions(subject.as_str()).into_iter().flatten();
        let mut versions = versions.rev();
        let has = |version: &&Registered| {
            let mut all = properties.iter();
            (deleted || !version.deleted)
                && version.content.metadata.is_some()
                && all.all(|(name, value)| version.content.property(name) == Some(value))
        };
        match versions.find(has) {
            Some(version) => Ok(version.clone()),
            None if self.has_versions(subject, deleted) => {
                Err(Refusal::new(40403, "Schema not found"))
            }
            None => Err(subject_not_found(subject)),
        }
    }

    /// The numbers of a subject's versions in order; 40401 where there are none that the filter lets
    /// through.
    pub fn versions(
        &self,
        subject: &Subject,
        filter: Filter,
        page: Page,
    ) -> Result<Vec<i32>, Refusal> {
        let versions = self.state.versions(subject.as_str()).into_iter().flatten();
        let mut numbers = versions
            .filter(|version| filter.includes(version.deleted))
            .peekable();
        if numbers.peek().is_none() {
            return Err(subject_not_found(subject));
        }
        Ok(page.of(numbers.map(|version| match filter {
            Filter::DeletedAsNegative if version.deleted => -version.version,
            _ => version.version,
        })))
    }

    /// The versions of a subject in order, soft-deleted ones included.
    pub fn history(&self, subject: &Subject) -> Vec<Registered> {
        let versions = self.state.versions(subject.as_str()).into_iter().flatten();
        versions.cloned().collect()
    }

    /// The version under which an id is shown. With a subject, the context is that subject's, and
    /// the id must be used under it; an unqualified one is looked for in other contexts too, and an
    /// id that is used by other subjects of the default context only is found as well. 40403.
    pub fn by_id(&self, id: i32, subject: Option<&Subject>) -> Result<Registered, Refusal> {
        let found = match subject {
            None => self.state.holder(DEFAULT_CONTEXT, id),
            Some(subject) if subject.is_context() => self.state.holder(subject.context(), id),
            Some(subject) if subject.is_qualified() => self.used_under(id, subject),
            Some(subject) => self.used_under(id, subject).or_else(|| {
                let others = self.other_contexts();
                let mut others = others.map(|context| Subject::new(context, subject.name()));
                others
                    .find_map(|other| self.used_under(id, &other))
                    .or_else(|| self.state.holder(DEFAULT_CONTEXT, id))
            }),
        };
        found
            .cloned()
            .ok_or_else(|| Refusal::new(40403, format!("Schema {id} not found")))
    }

    fn used_under(&self, id: i32, subject: &Subject) -> Option<&Registered> {
        let mut uses = self.state.by_id(subject.context(), id);
        uses.find(|version| *version.subject == *subject.as_str())
    }

    /// The version under which a GUID is shown; 40403.
    pub fn by_guid(&self, guid: Uuid) -> Result<Registered, Refusal> {
        let mut ids = self.state.by_guid(guid);
        let found = ids.find_map(|(context, id)| {
            let mut versions = self.state.by_id(context, id);
            versions.find(|version| version.content.guid == guid)
        });
        found
            .cloned()
            .ok_or_else(|| Refusal::new(40403, format!("Schema {guid} not found")))
    }

    /// The contexts and ids of a GUID.
    pub fn ids_of_guid(&self, guid: Uuid) -> Vec<(String, i32)> {
        let ids = self.state.by_guid(guid);
        ids.map(|(context, id)| (context.to_owned(), id)).collect()
    }

    /// The versions that have an id, by subject and number; 40403 where there is none. With a
    /// subject, as in [`Self::by_id`], the context is that subject's.
    pub fn versions_of_id(
        &self,
        id: i32,
        subject: Option<&Subject>,
        deleted: bool,
    ) -> Result<Vec<Registered>, Refusal> {
        let shown = self.by_id(id, subject)?;
        let context = Subject::parse(&shown.subject);
        let all = self.state.by_id(context.context(), id);
        Ok(all
            .filter(|version| deleted || !version.deleted)
            .cloned()
            .collect())
    }

    /// The highest id given in a context.
    pub fn highest_id(&self, context: &str) -> i32 {
        let context = super::normalize_context(context);
        self.state
            .contexts
            .get(&*context)
            .map_or(0, |context| context.highest_id)
    }

    /// The subjects whose qualified names begin so; `:*:` for every context. One is deleted if all its
    /// versions are.
    pub fn subjects(&self, prefix: &str, filter: Filter, page: Page) -> Vec<String> {
        page.of(self
            .matching(prefix)
            .into_iter()
            .filter_map(|(name, versions)| {
                let deleted = versions.iter().all(|version| version.deleted);
                filter.includes(deleted).then(|| name.to_string())
            }))
    }

    fn matching(&self, prefix: &str) -> BTreeMap<&Arc<str>, &Arc<super::places::Versions>> {
        let wanted = Subject::parse(prefix);
        let begins = |name: &&Arc<str>| {
            let subject = Subject::parse(name);
            (wanted.context() == "*" || wanted.context() == subject.context())
                && subject.name().starts_with(wanted.name())
        };
        self.state
            .subjects
            .iter()
            .filter(|(name, _)| begins(name))
            .collect()
    }

    /// How many subjects there are, soft-deleted ones included.
    pub fn subjects_len(&self) -> usize {
        self.state.subjects.len()
    }

    /// How many ids there are in all contexts.
    pub fn ids_len(&self) -> usize {
        self.state.ids_count()
    }

    /// Schemas by subject and version.
    pub fn schemas(&self, query: &SchemasQuery) -> Vec<Registered> {
        let limit = query.page.limit.unwrap_or(self.settings.page_default);
        let page = Page {
            limit: Some(limit.min(self.settings.page_max)),
            ..query.page
        };
        let subjects = self.matching(&query.subject_prefix).into_values();
        page.of(subjects.flat_map(|versions| {
            let chosen = versions
                .iter()
                .filter(|version| query.filter.includes(version.deleted));
            let skip = match query.latest_only {
                true => chosen.clone().count().saturating_sub(1),
                false => 0,
            };
            let has_rule = |version: &&Registered| {
                let wanted = query.rule_type.as_deref();
                wanted.is_none_or(|wanted| {
                    let rules = version.content.rule_set.as_ref();
                    rules.is_some_and(|rules| {
                        rules
                            .rules()
                            .any(|rule| rule.executor.as_deref() == Some(wanted))
                    })
                })
            };
            chosen.skip(skip).filter(has_rule).cloned()
        }))
    }

    /// The subjects whose alias is this one.
    pub fn aliases_of(&self, subject: &Subject) -> Vec<String> {
        let names = self
            .state
            .configs
            .iter()
            .map(|(name, _)| Subject::parse(name));
        let is_alias = |name: &Subject| *name != *subject && self.resolve_alias(name) == *subject;
        let mut aliases: Vec<_> = names
            .filter(is_alias)
            .map(|name| name.as_str().to_owned())
            .collect();
        aliases.sort();
        aliases
    }

    /// The ids of the schemas that refer to a version, in order; with `deleted`, those of soft-deleted
    /// versions too. 40401 and 40402.
    pub fn referenced_by(
        &self,
        subject: &Subject,
        version: VersionSpec,
        deleted: bool,
    ) -> Result<Vec<i32>, Refusal> {
        let referrers = self.referrers(subject, version, deleted)?;
        let mut ids: Vec<_> = referrers.iter().map(|version| version.id).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The versions that refer to a version. 40401 and 40402.
    pub fn referrers(
        &self,
        subject: &Subject,
        version: VersionSpec,
        deleted: bool,
    ) -> Result<Vec<Registered>, Refusal> {
        let found = self.version(subject, version, true)?;
        let all = self.state.referrers(&found.subject, found.version);
        Ok(all
            .filter(|version| deleted || !version.deleted)
            .cloned()
            .collect())
    }

    /// The version that a reference of another one means.
    pub fn reference_target(
        &self,
        of: &Registered,
        reference: &crate::model::Reference,
    ) -> Option<Registered> {
        let context = Subject::parse(&of.subject);
        let target = Subject::parse(&reference.subject).within(context.context());
        self.state
            .version(target.as_str(), reference.version)
            .cloned()
    }

    /// A version, understood, with everything it refers to. 42201 for what cannot be: it came from
    /// another registry, or what it refers to is gone.
    pub fn parsed(&self, version: &Registered) -> Result<Arc<Parsed>, Refusal> {
        self.understood(version)
            .map(|understood| Arc::clone(&understood.parsed))
    }

    /// As [`Self::parsed`], by context and id; 40403.
    pub fn parsed_by_id(&self, context: &str, id: i32) -> Result<Arc<Parsed>, Refusal> {
        let found = self.by_id(id, Some(&Subject::context_only(context)))?;
        self.parsed(&found)
    }

    /// As [`Self::parsed`], by GUID; 40403.
    pub fn parsed_by_guid(&self, guid: Uuid) -> Result<Arc<Parsed>, Refusal> {
        self.parsed(&self.by_guid(guid)?)
    }

    /// The text of a version in a format of its kind (`format=`), or as it is kept where the kind
    /// lacks that format or none is asked for.
    pub fn formatted(&self, version: &Registered, format: &str) -> Result<Arc<str>, Refusal> {
        let kept = || Arc::clone(&version.content.schema);
        if format.is_empty() || format == "default" {
            return Ok(kept());
        }
        let understood: Arc<Understood> = self.understood(version)?;
        Ok(understood
            .parsed
            .formatted(format)
            .map_or_else(kept, Arc::from))
    }

    /// The tags that stand in a version's text.
    pub fn tags_of(&self, version: &Registered) -> Vec<SchemaTags> {
        tags::find(version.content.schema_type, &version.content.schema)
    }
}
