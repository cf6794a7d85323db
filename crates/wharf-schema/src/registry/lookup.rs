//! Looking up: which version of a subject says what a schema says.
//!
//! The same content is found by its hash. Beyond that, a schema is the same as a version that differs
//! only in what the sender left out: references written out, or a version that is not said.

use super::Registry;
use super::parse::Understood;
use super::register::Draft;
use super::settings::subject_not_found;
use super::subject::Subject;
use super::types::{Content, LookupOptions, Refusal, Registered, Registration, VersionSpec};
use crate::model::Metadata;

impl Registry {
    /// Finds a schema under a subject: 40401 where there is no such subject, 40403 where it is not
    /// under it, 42201 for what is no schema.
    pub fn lookup(
        &self,
        subject: &Subject,
        request: &Registration,
        options: LookupOptions,
    ) -> Result<Registered, Refusal> {
        self.check_size(request)?;
        let mut found = self.lookup_in(subject, request, options);
        if !subject.is_qualified() && matches!(found, Ok(None)) {
            for context in self.other_contexts() {
                let other = Subject::new(context, subject.name());
                if let Ok(Some(version)) = self.lookup_in(&other, request, options) {
                    found = Ok(Some(version));
                    break;
                }
            }
        }
        let deleted = options.deleted;
        found?.ok_or_else(|| match self.has_versions(subject, deleted) {
            true => Refusal::new(40403, "Schema not found"),
            false => subject_not_found(subject),
        })
    }

    fn lookup_in(
        &self,
        subject: &Subject,
        request: &Registration,
        options: LookupOptions,
    ) -> Result<Option<Registered>, Refusal> {
        let config = self.config_in_scope(subject);
        let normalize = options.normalize || config.normalize.unwrap_or(false);
        let draft = Draft::new(subject, request)?;
        if !self.has_versions(subject, options.deleted) || draft.is_empty() {
            return Ok(None);
        }
        if let Some(found) = self.find(subject, &draft, normalize, options.deleted)? {
            return Ok(Some(found));
        }
        let Ok(latest) = self.version(subject, VersionSpec::Latest, false) else {
            return Ok(None);
        };
        let mut populated = draft.clone();
        populated.populate(&config, Some(&latest.content), None, false);
        if (&populated.metadata, &populated.rule_set) == (&draft.metadata, &draft.rule_set) {
            return Ok(None);
        }
        self.find(subject, &populated, normalize, options.deleted)
    }

    /// The version of a subject that says what a draft says.
    pub(super) fn find(
        &self,
        subject: &Subject,
        draft: &Draft,
        normalize: bool,
        deleted: bool,
    ) -> Result<Option<Registered>, Refusal> {
        let (content, understood) = self.settle(subject, draft, normalize, false)?;
        let is_here = |version: &&Registered| {
            *version.subject == *subject.as_str() && (deleted || !version.deleted)
        };
        let same = self
            .state
            .by_content(subject.context(), &content)
            .filter(is_here);
        if let Some(found) = same.last() {
            return Ok(Some(found.clone()));
        }
        let all = self.state.versions(subject.as_str()).into_iter().flatten();
        let candidates = all.rev();
        let candidates = candidates.filter(|version| deleted || !version.deleted);
        Ok(self.equal_to(&content, &understood, candidates).cloned())
    }

    /// The first version that is the same though its content is not: it has references where the
    /// schema has everything written out, or says its version where the schema does not.
    pub(super) fn equal_to<'a>(
        &self,
        content: &Content,
        understood: &Understood,
        candidates: impl Iterator<Item = &'a Registered>,
    ) -> Option<&'a Registered> {
        for candidate in candidates {
            let other = &candidate.content;
            if other.schema_type != content.schema_type
                || other.rule_set != content.rule_set
                || !same_metadata(content, other)
            {
                continue;
            }
            let is_same = other.schema == content.schema && other.references == content.references;
            let is_inlined = content.references.is_empty() && !other.references.is_empty();
            let is_resolved = || {
                let resolved = self.understood(candidate).ok()?.resolved()?;
                let own = understood
                    .resolved()
                    .unwrap_or_else(|| understood.canonical());
                (resolved == own).then_some(())
            };
            if is_same || (is_inlined && is_resolved().is_some()) {
                return Some(candidate);
            }
        }
        None
    }
}

/// Whether two say the same beside their texts; `confluent:version` counts only where both say it.
fn same_metadata(new: &Content, old: &Content) -> bool {
    let says = |content: &Content| content.property(Metadata::VERSION).is_some();
    if says(new) == says(old) {
        return new.metadata == old.metadata;
    }
    let without = |metadata: &Option<Metadata>| {
        metadata
            .clone()
            .and_then(|metadata| metadata.without_property(Metadata::VERSION))
    };
    without(&new.metadata) == without(&old.metadata)
}
