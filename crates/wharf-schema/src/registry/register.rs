//! Registering and looking up: what makes two schemas one, and which id and version a new one gets.
//!
//! One content has one id in a context. A version's number is one more than the highest of its
//! subject, soft-deleted ones included, and an id one more than the highest ever given.

use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::Registry;
use super::compatibility::Candidate;
use super::config::Config;
use super::parse::{Source, Understood, understand};
use super::record::{self, Key};
use super::settings::{not_permitted, usual};
use super::subject::Subject;
use super::tags;
use super::types::{
    Content, Decision, Mode, Refusal, RegisterOptions, Registered, Registration, VersionSpec,
};
use crate::model::{Metadata, Reference, RuleSet, SchemaType};

/// A schema on its way to become a version.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) kind: SchemaType,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
    pub(super) metadata: Option<Metadata>,
    pub(super) rule_set: Option<RuleSet>,
}

impl Draft {
    pub(super) fn new(subject: &Subject, request: &Registration) -> Result<Self, Refusal> {
        let rule_set = request.rule_set.clone().map(RuleSet::with_defaults);
        if let Some(rules) = &rule_set {
            rules
                .check()
                .map_err(|reason| Refusal::new(42210, reason))?;
        }
        for reference in &request.references {
            let target = Subject::parse(&reference.subject).within(subject.context());
            target.check()?;
        }
        Ok(Self {
            kind: request.kind()?,
            text: request.schema.clone(),
            references: request.references.clone(),
            metadata: request.metadata.clone(),
            rule_set,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Takes over from the version before and from the configuration what the request does not say.
    /// `is_versioned`: the version was asked for, so the schema says which it is.
    pub(super) fn populate(
        &mut self,
        config: &Config,
        previous: Option<&Content>,
        new_version: Option<i32>,
        is_versioned: bool,
    ) {
        let own = self.metadata.take().or_else(|| previous?.metadata.clone());
        let layers = [
            config.default_metadata.clone(),
            own,
            config.override_metadata.clone(),
        ];
        self.metadata = layers
            .into_iter()
            .flatten()
            .reduce(|old, new| old.merged(&new));
        let own = self.rule_set.take().or_else(|| previous?.rule_set.clone());
        let layers = [
            config.default_rule_set.clone(),
            own,
            config.override_rule_set.clone(),
        ];
        let merged = layers
            .into_iter()
            .flatten()
            .reduce(|old, new| old.merged(&new));
        self.rule_set = merged.map(RuleSet::with_defaults);
        let properties = self.metadata.as_ref().and_then(|it| it.properties.as_ref());
        let says_version = properties.is_some_and(|all| all.contains_key(Metadata::VERSION));
        if let Some(version) = new_version.filter(|_| is_versioned || says_version) {
            let metadata = self.metadata.take().unwrap_or_default();
            self.metadata = Some(metadata.with_property(Metadata::VERSION, version.to_string()));
        }
    }
}

impl Registry {
    /// Registers a schema. What is there already is answered with its id and version, and changes
    /// nothing.
    ///
    /// Refused with 42201 for what is no schema or refers to what there is not, 42205 where the mode
    /// does not allow it, 42208 for a subject of a wrong name, 42209 for too long a text, 42210 for
    /// wrong rules, and 40901 for what the level forbids.
    pub fn register(
        &self,
        subject: &Subject,
        request: &Registration,
        options: RegisterOptions,
        now: Timestamp,
    ) -> Result<Decision<Registered>, Refusal> {
        subject.check()?;
        self.check_size(request)?;
        let config = self.config_in_scope(subject);
        let normalize = options.normalize || config.normalize.unwrap_or(false);
        let mut draft = Draft::new(subject, request)?;
        let mut wanted = Wanted {
            id: request.id.filter(|id| *id >= 0),
            version: request.version.unwrap_or(0),
        };
        if request.schema_tags_to_add.is_some() || request.schema_tags_to_remove.is_some() {
            let add = request.schema_tags_to_add.as_deref().unwrap_or_default();
            let remove = request.schema_tags_to_remove.as_deref().unwrap_or_default();
            draft.text = tags::change(draft.kind, &draft.text, add, remove)
                .map_err(|reason| Refusal::new(42201, reason))?;
            wanted.version = request.version.unwrap_or(-1);
        } else if wanted.version == 0 && !config.has_defaults() && !draft.is_empty() {
            let found = self.find(subject, &draft, normalize, false)?;
            let fits = |found: &Registered| wanted.id.is_none_or(|id| id == found.id);
            if let Some(found) = found.filter(fits) {
                return Ok(unchanged(found));
            }
        }
        if request.propagate_schema_tags == Some(true) {
            self.propagate_tags(subject, &mut draft)?;
        }
        self.decide(
            subject,
            draft,
            wanted,
            &config,
            Options {
                normalize,
                ..options.into()
            },
            now,
        )
    }

    pub(super) fn decide(
        &self,
        subject: &Subject,
        mut draft: Draft,
        wanted: Wanted,
        config: &Config,
        options: Options,
        now: Timestamp,
    ) -> Result<Decision<Registered>, Refusal> {
        let mode = self.mode_in_scope(subject);
        check_mode(subject, mode, wanted.id)?;
        let all = || self.state.versions(subject.as_str()).into_iter().flatten();
        let live: Vec<&Registered> = all().filter(|version| !version.deleted).collect();
        let highest = all().next_back().map_or(0, |last| last.version);
        let next = highest.checked_add(1).ok_or_else(|| {
            Refusal::new(
                42205,
                format!("Subject {subject} has no version numbers left"),
            )
        })?;
        let previous = live.last().map(|latest| &*latest.content);
        if !mode.takes_ids() {
            if draft.is_empty()
                && let Some(previous) = previous
            {
                draft.kind = previous.schema_type;
                draft.text = previous.schema.to_string();
                draft.references.clone_from(&previous.references);
            }
            draft.populate(config, previous, Some(next), wanted.version != 0);
        }
        let is_strict = wanted.id.is_none() && is_new(config);
        let (content, understood) = self.settle(subject, &draft, options.normalize, is_strict)?;
        let mut id = wanted.id;
        if let Some(same) = self.same_id(subject, &content, wanted.id) {
            let mut uses = self.state.by_id(subject.context(), same);
            let is_here =
                |version: &&Registered| !version.deleted && *version.subject == *subject.as_str();
            if wanted.version == 0
                && let Some(found) = uses.find(is_here)
            {
                return Ok(unchanged(found.clone()));
            }
            id = Some(same);
        }
        if wanted.version == 0 {
            let candidates = live
                .iter()
                .rev()
                .filter(|version| id.is_none_or(|id| id == version.id));
            if let Some(found) = self.equal_to(&content, &understood, candidates.copied()) {
                return Ok(unchanged(found.clone()));
            }
        }
        if !mode.takes_ids() && !options.force {
            let candidate = Candidate {
                content: &content,
                understood: &understood,
            };
            let verdict = self.compare(config, &candidate, &live)?;
            if !verdict.is_compatible {
                return Err(incompatible(subject, &verdict.messages));
            }
        }
        let version = match wanted.version {
            ..=0 => next,
            asked if asked == next || mode == Mode::Import => asked,
            _ => {
                return Err(Refusal::new(
                    42201,
                    "Version is not one more than previous version",
                ));
            }
        };
        let id = self.give_id(subject, version, id, &content)?;
        let registered = Registered {
            subject: subject.shared(),
            version,
            id,
            ts: now,
            deleted: false,
            content: Arc::new(content),
        };
        Ok(Decision {
            records: self.records_of(subject, &registered),
            answer: registered,
        })
    }

    /// The context's record where it is new, tombstones for soft-deleted versions of the same id that
    /// this one stands for, and the version itself.
    fn records_of(&self, subject: &Subject, new: &Registered) -> Vec<(Bytes, Option<Bytes>)> {
        let mut records = Vec::new();
        let context = self.state.contexts.get(subject.context());
        if subject.is_qualified() && !context.is_some_and(|context| context.is_declared) {
            let key = Key::Context(subject.context().into());
            records.push((usual(&key), Some(record::encode_context(subject.context()))));
        }
        let older = self.state.versions(subject.as_str()).into_iter().flatten();
        for old in older {
            if old.deleted && old.id == new.id && old.version < new.version {
                records.extend(self.tombstones(&Key::Schema(subject.shared(), old.version)));
            }
        }
        let key = usual(&Key::Schema(subject.shared(), new.version));
        let value =
            record::encode_schema(subject.as_str(), new.version, new.id, &new.content, false);
        records.push((key, Some(value)));
        records
    }

    /// The id that the content has in the context already, if it may be used.
    fn same_id(&self, subject: &Subject, content: &Content, asked: Option<i32>) -> Option<i32> {
        let mut ids = self
            .state
            .by_content(subject.context(), content)
            .map(|version| version.id);
        ids.find(|id| asked.is_none_or(|asked| asked == *id))
    }

    fn give_id(
        &self,
        subject: &Subject,
        version: i32,
        id: Option<i32>,
        content: &Content,
    ) -> Result<i32, Refusal> {
        let context = subject.context();
        let overwrite = |id: i32| {
            let context = subject.context_prefix();
            let text =
                format!("Overwrite new schema with id {id} in context {context} is not permitted.");
            Refusal::new(42205, text)
        };
        let Some(id) = id else {
            let highest = self
                .state
                .contexts
                .get(context)
                .map_or(0, |it| it.highest_id);
            return highest
                .checked_add(1)
                .ok_or_else(|| Refusal::new(42205, format!("Context {context} has no ids left")));
        };
        if self
            .state
            .holder(context, id)
            .is_some_and(|holder| *holder.content != *content)
        {
            return Err(overwrite(id));
        }
        let there = self.state.version(subject.as_str(), version);
        if there.is_some_and(|there| there.id != id || *there.content != *content) {
            return Err(overwrite(id));
        }
        Ok(id)
    }

    /// Understands a draft and gives it the text under which it is kept. `is_new`: it is held to what
    /// schemas that are there already need not keep.
    pub(super) fn settle(
        &self,
        subject: &Subject,
        draft: &Draft,
        normalize: bool,
        is_new: bool,
    ) -> Result<(Content, Arc<Understood>), Refusal> {
        if draft.is_empty() {
            return Err(Refusal::new(42201, "Empty schema"));
        }
        let mut references = draft.references.clone();
        for reference in references
            .iter_mut()
            .filter(|reference| reference.version == -1)
        {
            let target = Subject::parse(&reference.subject).within(subject.context());
            if let Ok(latest) = self.version(&target, VersionSpec::Latest, false) {
                reference.version = latest.version;
            }
        }
        let understand = |text: &str| {
            let source = Source {
                subject,
                kind: draft.kind,
                text,
                references: &references,
                is_new,
            };
            understand(&self.state, &self.settings, &self.cache, &source)
        };
        let mut understood = understand(&draft.text)?;
        let mut text = understood.canonical();
        if normalize {
            text = understood.normalized();
            understood = understand(&text)?;
        }
        let content = Content::new(
            draft.kind,
            text,
            references,
            draft.metadata.clone(),
            draft.rule_set.clone(),
        );
        Ok((content, understood))
    }

    pub(super) fn check_size(&self, request: &Registration) -> Result<(), Refusal> {
        let bytes_max = self.settings.text_bytes_max;
        if request.schema.len() > bytes_max {
            let text = format!(
                "Write failed because schema is too large: it has {} bytes, at most {bytes_max} are \
                 allowed",
                request.schema.len()
            );
            return Err(Refusal::new(42209, text));
        }
        let references_max = self.settings.references_max;
        if request.references.len() > references_max {
            let text = format!(
                "Invalid schema: it has {} references, at most {references_max} are allowed",
                request.references.len()
            );
            return Err(Refusal::new(42201, text));
        }
        Ok(())
    }
}

/// The id and version that a request asks for; 0 for any version, -1 for the next one, said in the
/// metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) id: Option<i32>,
    pub(super) version: i32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    normalize: bool,
    force: bool,
}

impl From<RegisterOptions> for Options {
    fn from(options: RegisterOptions) -> Self {
        Self {
            normalize: options.normalize,
            force: options.force,
        }
    }
}

/// Whether schemas are held to what those that are there already need not keep.
pub(super) fn is_new(config: &Config) -> bool {
    config.validate_new_schemas.unwrap_or(true)
}

fn unchanged(found: Registered) -> Decision<Registered> {
    Decision {
        records: Vec::new(),
        answer: found,
    }
}

fn check_mode(subject: &Subject, mode: Mode, id: Option<i32>) -> Result<(), Refusal> {
    if mode.is_read_only() {
        return Err(not_permitted(subject, "is in read-only mode"));
    }
    if id.is_some() && !mode.takes_ids() {
        return Err(not_permitted(subject, "is not in import mode"));
    }
    if id.is_none() && mode != Mode::ReadWrite {
        return Err(not_permitted(subject, "is not in read-write mode"));
    }
    Ok(())
}

fn incompatible(subject: &Subject, messages: &[String]) -> Refusal {
    Refusal::new(
        40901,
        format!(
            "Schema being registered is incompatible with an earlier schema for subject \
             \"{subject}\", details: [{}]",
            messages.join(", ")
        ),
    )
}
