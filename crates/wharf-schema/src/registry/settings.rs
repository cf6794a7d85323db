//! Configurations and modes: for a subject, a context, or everything.
//!
//! A subject's own counts, then its context's, then that of `:.__GLOBAL:`, then the settings. A
//! subject without any must be told from one that has the default.

use std::sync::Arc;

use super::config::{Config, ConfigUpdate};
use super::record::{self, Key};
use super::subject::{GLOBAL_CONTEXT, Subject};
use super::types::{Decision, Mode, Refusal};
use super::{Registry, places::Place};

impl Registry {
    /// What a scope inherits from, itself first.
    fn chain(scope: &Subject) -> Vec<Arc<str>> {
        let context = Subject::context_only(scope.context());
        let mut chain = vec![scope.shared(), context.shared(), Subject::global().shared()];
        chain.dedup();
        chain
    }

    /// The configuration that counts for a subject or a context. Its level is always there.
    pub fn config_in_scope(&self, scope: &Subject) -> Config {
        let chain = Self::chain(scope);
        let mut configs = chain.iter().filter_map(|name| self.state.configs.get(name));
        let mut config = configs
            .next()
            .map(|config| (**config).clone())
            .unwrap_or_default();
        let inherited = || configs.find_map(|config| config.compatibility_level);
        config.compatibility_level = config
            .compatibility_level
            .or_else(inherited)
            .or(Some(self.settings.level));
        config
    }

    /// The configuration of exactly this scope. Without one: refused with 40408, unless what is
    /// inherited is asked for as well, or the scope is the default context, which always has one.
    pub fn config(&self, scope: &Subject, default_to_global: bool) -> Result<Config, Refusal> {
        scope.check_scope()?;
        if scope.as_str().is_empty() || default_to_global {
            return Ok(self.config_in_scope(scope));
        }
        match self.state.configs.get(scope.as_str()) {
            Some(config) => Ok((**config).clone()),
            None => Err(Refusal::new(
                40408,
                format!("Subject '{scope}' does not have subject-level compatibility configured"),
            )),
        }
    }

    /// Changes a configuration; the answer is the whole of it.
    pub fn put_config(
        &self,
        scope: &Subject,
        update: &ConfigUpdate,
    ) -> Result<Decision<Config>, Refusal> {
        scope.check_scope()?;
        self.check_writable(scope)?;
        let old = self.state.configs.get(scope.as_str());
        let config = update.onto(old.map(|config| (**config).clone()).unwrap_or_default())?;
        for rules in [&config.default_rule_set, &config.override_rule_set]
            .into_iter()
            .flatten()
        {
            let rules = rules.clone().with_defaults();
            rules
                .check()
                .map_err(|reason| Refusal::new(42210, reason))?;
        }
        let key = usual(&Key::Config(scope.shared()));
        let value = record::encode_config(scope.as_str(), &config);
        Ok(Decision {
            records: vec![(key, Some(value))],
            answer: config,
        })
    }

    /// Deletes a configuration; the answer is what it was.
    pub fn delete_config(&self, scope: &Subject) -> Result<Decision<Config>, Refusal> {
        scope.check_scope()?;
        self.check_writable(scope)?;
        let answer = match self.state.configs.get(scope.as_str()) {
            Some(config) => (**config).clone(),
            None if scope.as_str().is_empty() => self.config_in_scope(scope),
            None => return Err(subject_not_found(scope)),
        };
        Ok(Decision {
            records: self.tombstones(&Key::Config(scope.shared())),
            answer,
        })
    }

    /// The mode that counts for a subject or a context.
    pub fn mode_in_scope(&self, scope: &Subject) -> Mode {
        let mode = |name: &str| self.state.modes.get(name).copied();
        let above = [mode(Subject::global().as_str()), mode("")];
        if above.contains(&Some(Mode::ReadOnlyOverride)) {
            return Mode::ReadOnlyOverride;
        }
        let chain = Self::chain(scope);
        chain.iter().find_map(|name| mode(name)).unwrap_or_default()
    }

    /// The mode of exactly this scope. Without one: refused with 40409, unless what is inherited is
    /// asked for as well, or the scope is the default context, which always has one.
    pub fn mode(&self, scope: &Subject, default_to_global: bool) -> Result<Mode, Refusal> {
        scope.check_scope()?;
        if scope.as_str().is_empty() || default_to_global {
            return Ok(self.mode_in_scope(scope));
        }
        self.state
            .modes
            .get(scope.as_str())
            .copied()
            .ok_or_else(|| {
                Refusal::new(
                    40409,
                    format!("Subject '{scope}' does not have subject-level mode configured"),
                )
            })
    }

    /// Changes a mode. IMPORT needs a scope without live versions (42205) unless it is forced, and
    /// deletes the soft-deleted ones for good.
    pub fn put_mode(
        &self,
        scope: &Subject,
        mode: Mode,
        force: bool,
    ) -> Result<Decision<Mode>, Refusal> {
        scope.check_scope()?;
        self.check_mode_mutable()?;
        let is_global = scope.as_str().is_empty() || scope.context() == GLOBAL_CONTEXT;
        if mode == Mode::Forward && !is_global {
            return Err(Refusal::new(
                42205,
                "Forward mode is only supported for all subjects together",
            ));
        }
        let mut records = Vec::new();
        if mode == Mode::Import && self.mode_in_scope(scope) != Mode::Import && !force {
            let versions = || {
                self.state
                    .in_scope(scope)
                    .flat_map(|versions| versions.iter())
            };
            if versions().any(|version| !version.deleted) {
                let sentence = "Cannot import since found existing subjects";
                return Err(Refusal::new(42205, sentence));
            }
            let mut gone: Vec<_> = versions().collect();
            gone.sort_by_key(|version| (&version.subject, version.version));
            for version in &gone {
                self.check_unreferenced(&version.subject, version.version)?;
            }
            records = self.hard_delete(&gone);
            let key = usual(&Key::ClearSubject(scope.shared()));
            records.push((key, Some(record::encode_clear_subject(scope.as_str()))));
        }
        let value = record::encode_mode(scope.as_str(), mode);
        records.push((usual(&Key::Mode(scope.shared())), Some(value)));
        Ok(Decision {
            records,
            answer: mode,
        })
    }

    /// Deletes a mode, with `recursive` those of the subjects in the context as well; the answer is
    /// what it was.
    pub fn delete_mode(&self, scope: &Subject, recursive: bool) -> Result<Decision<Mode>, Refusal> {
        scope.check_scope()?;
        self.check_mode_mutable()?;
        let answer = match self.state.modes.get(scope.as_str()) {
            Some(mode) => *mode,
            None if scope.as_str().is_empty() || recursive => self.mode_in_scope(scope),
            None => return Err(subject_not_found(scope)),
        };
        let mut names = vec![scope.shared()];
        if recursive && scope.is_context() {
            let all = scope.context() == GLOBAL_CONTEXT;
            let inside = |name: &&Arc<str>| {
                ***name != *scope.as_str()
                    && (all || Subject::parse(name).context() == scope.context())
            };
            let mut below: Vec<_> = self.state.modes.iter().map(|(name, _)| name).collect();
            below.retain(inside);
            below.sort();
            names.extend(below.into_iter().cloned());
        }
        let records = names
            .into_iter()
            .flat_map(|name| self.tombstones(&Key::Mode(name)));
        Ok(Decision {
            records: records.collect(),
            answer,
        })
    }

    /// The contexts beside the default one that may have subjects: quicker than [`Self::contexts`],
    /// because no subject is looked at.
    pub(super) fn other_contexts(&self) -> impl Iterator<Item = &str> {
        let names = self.state.contexts.keys().map(|name| &**name);
        names.filter(|name| *name != super::DEFAULT_CONTEXT)
    }

    /// The contexts, the default one first.
    pub fn contexts(&self) -> Vec<String> {
        let mut named: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
        let declared = self
            .state
            .contexts
            .iter()
            .filter(|(_, context)| context.is_declared);
        named.extend(declared.map(|(name, _)| &**name));
        let subjects: Vec<_> = self
            .state
            .subjects
            .iter()
            .map(|(name, _)| Subject::parse(name))
            .collect();
        named.extend(subjects.iter().map(Subject::context));
        named.remove(super::DEFAULT_CONTEXT);
        let names = std::iter::once(super::DEFAULT_CONTEXT).chain(named);
        names.map(str::to_owned).collect()
    }

    /// Deletes a context that has no subjects (42211), with its configuration and mode.
    pub fn delete_context(&self, context: &str) -> Result<Decision<()>, Refusal> {
        let scope = Subject::context_only(context);
        scope.check_scope()?;
        self.check_writable(&scope)?;
        if self.state.in_scope(&scope).next().is_some() {
            let text = format!("The specified context '{}' is not empty.", scope.context());
            return Err(Refusal::new(42211, text));
        }
        let keys = [
            Key::Context(scope.context().into()),
            Key::Config(scope.shared()),
            Key::Mode(scope.shared()),
        ];
        Ok(Decision {
            records: keys.iter().flat_map(|key| self.tombstones(key)).collect(),
            answer: (),
        })
    }

    /// The subject that is meant when this one is named: its alias, if it has one.
    pub fn resolve_alias(&self, subject: &Subject) -> Subject {
        let config = self.state.configs.get(subject.as_str());
        match config.and_then(|config| config.alias.as_deref()) {
            Some(alias) if !alias.is_empty() => Subject::parse(alias).within(subject.context()),
            _ => subject.clone(),
        }
    }

    /// Refused with 42205 where nothing may be changed.
    pub(super) fn check_writable(&self, scope: &Subject) -> Result<(), Refusal> {
        if self.mode_in_scope(scope).is_read_only() {
            return Err(not_permitted(scope, "is in read-only mode"));
        }
        Ok(())
    }

    fn check_mode_mutable(&self) -> Result<(), Refusal> {
        if self.settings.mode_mutability {
            return Ok(());
        }
        Err(Refusal::new(42205, "Mode changes are not allowed"))
    }

    /// Tombstones for every form that a key stands in the log under.
    pub(super) fn tombstones(&self, key: &Key) -> Vec<(bytes::Bytes, Option<bytes::Bytes>)> {
        let forms = self.state.forms_of(key).into_iter();
        forms.map(|form| (form, None)).collect()
    }

    /// Refused with 42206 where a live version refers to this one.
    pub(super) fn check_unreferenced(
        &self,
        subject: &Arc<str>,
        version: i32,
    ) -> Result<(), Refusal> {
        let place: Place = (Arc::clone(subject), version);
        if self
            .state
            .referrers(&place.0, place.1)
            .all(|referrer| referrer.deleted)
        {
            return Ok(());
        }
        Err(Refusal::new(
            42206,
            format!(
                "One or more references exist to the schema \
                 {{magic=1,keytype=SCHEMA,subject={subject},version={version}}}."
            ),
        ))
    }
}

/// A key in the form written now.
pub(super) fn usual(key: &Key) -> bytes::Bytes {
    key.encode().unwrap_or_default()
}

pub(super) fn not_permitted(subject: &Subject, what: &str) -> Refusal {
    let context = subject.context_prefix();
    Refusal::new(
        42205,
        format!("Subject {subject} in context {context} {what}"),
    )
}

pub(super) fn subject_not_found(subject: &Subject) -> Refusal {
    Refusal::new(40401, format!("Subject '{subject}' not found."))
}
