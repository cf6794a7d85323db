//! The view itself: what the records of the topic come to, in their order.
//!
//! Replaying the same records gives the same view, whatever is compacted away between them, and a
//! clone costs nothing until one of the two changes. No text is understood here: that would make
//! start-up as slow as all schemas together.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;
use wharf_message::Timestamp;

use super::config::Config;
use super::places::{Place, Places, Versions};
use super::record::{self, Key, Marks, SchemaValue};
use super::shards::Shards;
use super::subject::{DEFAULT_CONTEXT, GLOBAL_CONTEXT, Subject};
use super::types::{Applied, Content, Mode, Registered};

/// What is known of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    /// The highest id ever given in it.
    pub(super) highest_id: i32,
    /// Whether that id may be in no record any more.
    pub(super) is_marked: bool,
    /// Whether it has a record of its own.
    pub(super) is_declared: bool,
}

/// Everything that the topic says.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) subjects: Shards<Arc<str>, Arc<Versions>>,
    pub(super) configs: Shards<Arc<str>, Arc<Config>>,
    pub(super) modes: Shards<Arc<str>, Mode>,
    pub(super) contexts: Arc<BTreeMap<Arc<str>, Context>>,
    /// By context and id, the versions that have it.
    ids: Shards<Place, Places>,
    /// By GUID, the contexts and ids.
    guids: Shards<Uuid, Places>,
    /// By version, the versions that refer to it.
    referrers: Shards<Place, Places>,
    /// The byte forms of a key whose last record has a value; of keys that ever had another form
    /// than the one written now.
    forms: Shards<Key, Arc<Vec<Bytes>>>,
    /// Subjects with a DELETE_SUBJECT record.
    pub(super) delete_markers: Shards<Arc<str>, ()>,
    pub(super) next_offset: i64,
}

impl State {
    pub(super) fn new() -> Self {
        let contexts = BTreeMap::from([(DEFAULT_CONTEXT.into(), Context::default())]);
        Self {
            subjects: Shards::new(),
            configs: Shards::new(),
            modes: Shards::new(),
            contexts: Arc::new(contexts),
            ids: Shards::new(),
            guids: Shards::new(),
            referrers: Shards::new(),
            forms: Shards::new(),
            delete_markers: Shards::new(),
            next_offset: 0,
        }
    }

    pub(super) fn apply(
        &mut self,
        offset: i64,
        at: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Applied {
        self.next_offset = self.next_offset.max(offset.saturating_add(1));
        let Some(bytes) = key else {
            return Applied::Ignored("a record without a key".to_owned());
        };
        let key = match Key::decode(bytes) {
            Ok(key) => key,
            Err(reason) => return Applied::Ignored(reason),
        };
        self.note_form(&key, bytes, value.is_some());
        match self.change(key, value, at) {
            Ok(true) => Applied::Changed,
            Ok(false) => Applied::Nothing,
            Err(reason) => Applied::Ignored(reason),
        }
    }

    fn change(&mut self, key: Key, value: Option<&[u8]>, at: Timestamp) -> Result<bool, String> {
        match (key, value) {
            (Key::Schema(subject, version), Some(value)) => {
                self.put_schema(subject, version, record::decode_schema(value)?, at)
            }
            (Key::Schema(subject, version), None) => Ok(self.remove_schema(&subject, version)),
            (Key::Config(subject), Some(value)) => {
                let config = record::decode_config(value)?;
                self.configs.insert(subject, Arc::new(config));
                Ok(true)
            }
            (Key::Config(subject), None) => Ok(self.configs.remove(&subject).is_some()),
            (Key::Mode(subject), Some(value)) => {
                let mode = record::decode_mode(value)?;
                self.modes.insert(subject, mode);
                Ok(true)
            }
            (Key::Mode(subject), None) => Ok(self.modes.remove(&subject).is_some()),
            (Key::DeleteSubject(subject), Some(value)) => {
                let last = record::decode_delete_subject(value)?;
                self.delete_subject(&subject, last);
                self.delete_markers.insert(subject, ());
                Ok(true)
            }
            (Key::DeleteSubject(subject), None) => {
                Ok(self.delete_markers.remove(&subject).is_some())
            }
            (Key::ClearSubject(subject), Some(_)) => Ok(self.clear(&Subject::parse(&subject))),
            (Key::Context(context), value) => {
                self.context_mut(&context).is_declared = value.is_some();
                Ok(true)
            }
            (Key::Noop, Some(value)) => {
                let marks = record::decode_marks(value)?;
                for (context, highest) in &marks.highest_ids {
                    let context = self.context_mut(context);
                    context.highest_id = context.highest_id.max(*highest);
                    context.is_marked = true;
                }
                Ok(!marks.highest_ids.is_empty())
            }
            (Key::ClearSubject(_) | Key::Noop, None) | (Key::Other(_), _) => Ok(false),
        }
    }

    /// Remembers in which forms a key stands in the log.
    fn note_form(&mut self, key: &Key, bytes: &[u8], has_value: bool) {
        let written_now = key.encode();
        let is_usual = written_now.as_deref() == Some(bytes);
        if written_now.is_none() || (is_usual && self.forms.get(key).is_none()) {
            return;
        }
        let usual = match key {
            Key::Schema(subject, version) => self.version(subject, *version).is_some(),
            Key::Config(subject) => self.configs.get(subject).is_some(),
            Key::Mode(subject) => self.modes.get(subject).is_some(),
            Key::DeleteSubject(subject) => self.delete_markers.get(subject).is_some(),
            Key::ClearSubject(_) | Key::Context(_) | Key::Noop | Key::Other(_) => false,
        };
        let make = || Arc::new(written_now.filter(|_| usual).into_iter().collect());
        let forms = Arc::make_mut(self.forms.entry(key.clone(), make));
        forms.retain(|form| form != bytes);
        if has_value {
            forms.push(Bytes::copy_from_slice(bytes));
        }
        if forms.is_empty() {
            self.forms.remove(key);
        }
    }

    /// Every form that a tombstone is needed for, the usual one first.
    pub(super) fn forms_of(&self, key: &Key) -> Vec<Bytes> {
        let mut forms: Vec<Bytes> = key.encode().into_iter().collect();
        let others = self
            .forms
            .get(key)
            .into_iter()
            .flat_map(|forms| forms.iter());
        forms.extend(
            others
                .filter(|form| Some(*form) != forms.first())
                .cloned()
                .collect::<Vec<_>>(),
        );
        forms
    }

    /// Forms that stand in the log with a value though their key is deleted.
    pub(super) fn leftovers(&self) -> Vec<Bytes> {
        let is_gone = |key: &Key| match key {
            Key::Schema(subject, version) => self.version(subject, *version).is_none(),
            Key::Config(subject) => self.configs.get(subject).is_none(),
            Key::Mode(subject) => self.modes.get(subject).is_none(),
            Key::DeleteSubject(subject) => self.delete_markers.get(subject).is_none(),
            Key::ClearSubject(_) | Key::Context(_) | Key::Noop | Key::Other(_) => false,
        };
        let gone = self.forms.iter().filter(|(key, _)| is_gone(key));
        let mut forms: Vec<_> = gone.flat_map(|(_, forms)| forms.iter().cloned()).collect();
        forms.sort();
        forms
    }

    fn put_schema(
        &mut self,
        subject: Arc<str>,
        version: i32,
        value: SchemaValue,
        at: Timestamp,
    ) -> Result<bool, String> {
        let name = Subject::parse(&subject);
        let context = self.context_name(name.context());
        let taken = self.by_id(&context, value.id).find(|holder| {
            holder.content.schema != value.content.schema
                || holder.content.schema_type != value.content.schema_type
        });
        if let Some(holder) = taken {
            return Err(format!(
                "the id {} belongs to another schema already, version {} of {}",
                value.id, holder.version, holder.subject
            ));
        }
        let content = self
            .same_content(&value.content)
            .unwrap_or_else(|| Arc::new(value.content));
        let highest = &mut self.context_mut(&context).highest_id;
        *highest = (*highest).max(value.id);
        self.unlink(&subject, version);
        let registered = Registered {
            subject,
            version,
            id: value.id,
            ts: at,
            deleted: value.deleted,
            content,
        };
        self.link(registered, &context, &name);
        Ok(true)
    }

    /// The same content, if some version has it already.
    fn same_content(&self, content: &Content) -> Option<Arc<Content>> {
        self.guids
            .get(&content.guid)?
            .iter()
            .find_map(|(context, id)| {
                let holder = self.holder(context, *id)?;
                (*holder.content == *content).then(|| Arc::clone(&holder.content))
            })
    }

    fn link(&mut self, registered: Registered, context: &Arc<str>, name: &Subject) {
        let place: Place = (Arc::clone(&registered.subject), registered.version);
        let id: Place = (Arc::clone(context), registered.id);
        let guid = registered.content.guid;
        insert_into(&mut self.ids, id.clone(), place.clone());
        insert_into(&mut self.guids, guid, id);
        for target in targets(&registered.content, name) {
            insert_into(&mut self.referrers, target, place.clone());
        }
        let versions = self.subjects.entry(place.0, Arc::default);
        Arc::make_mut(versions).put(registered);
    }

    fn unlink(&mut self, subject: &Arc<str>, version: i32) -> Option<Registered> {
        let versions = self.subjects.get(subject)?;
        versions.get(version)?;
        let versions = Arc::make_mut(self.subjects.entry(Arc::clone(subject), Arc::default));
        let old = versions.remove(version)?;
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let name = Subject::parse(subject);
        let place: Place = (Arc::clone(subject), version);
        for target in targets(&old.content, &name) {
            drop_from(&mut self.referrers, &target, &place);
        }
        let id: Place = (self.context_name(name.context()), old.id);
        drop_from(&mut self.ids, &id, &place);
        let guid = old.content.guid;
        if self.id_places(&id).all(|other| other.content.guid != guid) {
            drop_from(&mut self.guids, &guid, &id);
        }
        Some(old)
    }

    fn remove_schema(&mut self, subject: &Arc<str>, version: i32) -> bool {
        self.unlink(subject, version).is_some()
    }

    fn delete_subject(&mut self, subject: &Arc<str>, last: i32) {
        if let Some(versions) = self.subjects.get(subject)
            && versions
                .iter()
                .any(|version| version.version <= last && !version.deleted)
        {
            let versions = Arc::make_mut(self.subjects.entry(Arc::clone(subject), Arc::default));
            let gone = versions
                .iter_mut()
                .filter(|version| version.version <= last);
            gone.for_each(|version| version.deleted = true);
        }
    }

    /// Forgets the soft-deleted versions in a scope.
    fn clear(&mut self, scope: &Subject) -> bool {
        let gone: Vec<Place> = self
            .in_scope(scope)
            .flat_map(|versions| versions.iter())
            .filter(|version| version.deleted)
            .map(|version| (Arc::clone(&version.subject), version.version))
            .collect();
        for (subject, version) in &gone {
            self.unlink(subject, *version);
        }
        !gone.is_empty()
    }

    /// The subjects that a scope covers: one, those of a context, or all.
    pub(super) fn in_scope(&self, scope: &Subject) -> impl Iterator<Item = &Arc<Versions>> {
        let one = (!scope.is_context()).then(|| self.subjects.get(scope.as_str()));
        let many = scope.is_context().then(|| {
            self.subjects.iter().filter_map(|(name, versions)| {
                let is_in = scope.context() == GLOBAL_CONTEXT
                    || Subject::parse(name).context() == scope.context();
                is_in.then_some(versions)
            })
        });
        one.flatten().into_iter().chain(many.into_iter().flatten())
    }

    fn context_name(&self, context: &str) -> Arc<str> {
        match self.contexts.get_key_value(context) {
            Some((name, _)) => Arc::clone(name),
            None => context.into(),
        }
    }

    fn context_mut(&mut self, context: &str) -> &mut Context {
        let name = self.context_name(context);
        Arc::make_mut(&mut self.contexts).entry(name).or_default()
    }

    /// The highest ids that the log may not show any more, once this version is gone as well.
    pub(super) fn marks_without(&self, gone: &[&Registered]) -> Marks {
        let mut marks = Marks::default();
        for (name, context) in self.contexts.iter() {
            let loses = gone.iter().any(|version| {
                version.id == context.highest_id
                    && Subject::parse(&version.subject).context() == &**name
            });
            if context.is_marked || loses {
                marks
                    .highest_ids
                    .insert(name.to_string(), context.highest_id);
            }
        }
        marks
    }

    pub(super) fn versions(&self, subject: &str) -> Option<&Versions> {
        self.subjects.get(subject).map(|versions| &**versions)
    }

    pub(super) fn version(&self, subject: &str, version: i32) -> Option<&Registered> {
        self.versions(subject)?.get(version)
    }

    fn id_places<'a>(&'a self, id: &Place) -> impl Iterator<Item = &'a Registered> + use<'a> {
        let places = self.ids.get(id).into_iter().flat_map(Places::iter);
        places.filter_map(|(subject, version)| self.version(subject, *version))
    }

    /// The versions that have an id, ordered by subject and number.
    pub(super) fn by_id(&self, context: &str, id: i32) -> impl Iterator<Item = &Registered> {
        self.id_places(&(self.context_name(context), id))
    }

    /// Some version that has an id.
    pub(super) fn holder(&self, context: &str, id: i32) -> Option<&Registered> {
        self.by_id(context, id).next()
    }

    /// The contexts and ids of a GUID, the default context first.
    pub(super) fn by_guid(&self, guid: Uuid) -> impl Iterator<Item = (&str, i32)> {
        let ids = self.guids.get(&guid).into_iter().flat_map(Places::iter);
        ids.map(|(context, id)| (&**context, *id))
    }

    /// The versions in a context that say exactly this.
    pub(super) fn by_content<'a>(
        &'a self,
        context: &'a str,
        content: &'a Content,
    ) -> impl Iterator<Item = &'a Registered> {
        let ids = self
            .by_guid(content.guid)
            .filter(move |(of, _)| *of == context);
        ids.flat_map(|(context, id)| self.by_id(context, id))
            .filter(move |version| *version.content == *content)
    }

    /// The versions that refer to one.
    pub(super) fn referrers(
        &self,
        subject: &str,
        version: i32,
    ) -> impl Iterator<Item = &Registered> {
        let place: Place = (subject.into(), version);
        let places = self
            .referrers
            .get(&place)
            .into_iter()
            .flat_map(Places::iter);
        places.filter_map(|(subject, version)| self.version(subject, *version))
    }

    pub(super) fn ids_count(&self) -> usize {
        self.ids.len()
    }
}

/// The versions that a content refers to.
fn targets(content: &Content, subject: &Subject) -> Vec<Place> {
    let target = |reference: &crate::model::Reference| {
        let target = Subject::parse(&reference.subject).within(subject.context());
        (target.shared(), reference.version)
    };
    content.references.iter().map(target).collect()
}

fn insert_into<K: Hash + Eq + Clone>(map: &mut Shards<K, Places>, key: K, place: Place) {
    if let Some(places) = map.get_mut(&key) {
        places.insert(place);
    } else {
        map.insert(key, Places::One(place));
    }
}

fn drop_from<K: Hash + Eq + Clone>(map: &mut Shards<K, Places>, key: &K, place: &Place) {
    if map.get_mut(key).is_some_and(|places| places.remove(place)) {
        map.remove(key);
    }
}
