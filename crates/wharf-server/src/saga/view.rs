//! What is known of every saga at a glance: the rows that are listed, searched and counted.
//!
//! A row is published after the commit that it tells of, never before. There is one for each saga,
//! so rows share what many have in common, and what few have is apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use serde_json::Value;
use wharf_message::Timestamp;
use wharf_saga::definition::Hash;
use wharf_saga::machine::{Saga, SagaId, Status};

/// A saga at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its id.
    #[serde(serialize_with = "text")]
    pub id: SagaId,
    /// Its type: the name of its definition.
    #[serde(rename = "type", serialize_with = "text")]
    pub saga_type: Arc<str>,
    /// The hash of the definition to which it is pinned.
    pub definition: Hash,
    /// Its idempotency key.
    pub key: Box<str>,
    /// Where it stands.
    pub status: Status,
    /// Whether an operator paused it.
    pub paused: bool,
    /// The states it is in.
    #[serde(serialize_with = "texts")]
    pub steps: Box<[Arc<str>]>,
    /// What most sagas have nothing of.
    #[serde(flatten)]
    more: Option<Box<More>>,
    /// When it began.
    #[serde(serialize_with = "time")]
    pub started: Timestamp,
    /// When something last happened to it.
    #[serde(serialize_with = "time")]
    pub updated: Timestamp,
    /// When it ended.
    #[serde(
        serialize_with = "optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub ended: Option<Timestamp>,
}

/// What is known of a saga besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct More {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parked: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Box<str>>,
    #[serde(
        serialize_with = "pairs",
        skip_serializing_if = "<[(Arc<str>, Box<str>)]>::is_empty"
    )]
    attributes: Box<[(Arc<str>, Box<str>)]>,
    #[serde(
        serialize_with = "optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    parent: Option<SagaId>,
    #[serde(skip_serializing_if = "is_zero")]
    redrives: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn optional_text<S: serde::Serializer>(value: &Option<SagaId>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.serialize_some(&value.to_string()),
        None => to.serialize_none(),
    }
}

fn texts<S: serde::Serializer>(all: &[Arc<str>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(all.iter().map(AsRef::as_ref))
}

fn pairs<S: serde::Serializer>(all: &[(Arc<str>, Box<str>)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(
        all.iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref())),
    )
}

fn text<S: serde::Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(super) fn time<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339())
}

pub(super) fn optional_time<S: serde::Serializer>(
    time: &Option<Timestamp>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => to.serialize_str(&time.to_rfc3339()),
        None => to.serialize_none(),
    }
}

impl Row {
    fn parent_id(&self) -> Option<SagaId> {
        self.more.as_ref()?.parent
    }

    /// The row of a saga that began.
    pub(super) fn of(saga: &Saga, names: &mut Names) -> Option<Self> {
        let start = saga.start()?;
        let mut steps: Vec<_> = saga.current().into_iter().map(|step| step.name).collect();
        steps.dedup();
        let parked = saga.parked().into_iter();
        let mut parked: Vec<_> = parked
            .map(|step| format!("{}: {}", step.reason, step.error))
            .collect();
        if saga.is_overdue() {
            parked.push("deadline".to_owned());
        }
        let attributes = start.attributes.iter();
        let more = More {
            parked,
            error: saga.error().map(|(error, _)| error.into()),
            correlation_id: start.correlation.as_deref().map(Box::from),
            attributes: attributes
                .map(|(name, value)| (names.one(name), value.as_str().into()))
                .collect(),
            parent: start.parent.as_ref().map(|parent| parent.saga),
            redrives: saga.redrives(),
        };
        Some(Self {
            id: start.id,
            saga_type: names.one(&start.saga_type),
            definition: start.definition,
            key: start.key.as_str().into(),
            status: saga.status(),
            paused: saga.is_paused(),
            steps: steps.iter().map(|step| names.one(step)).collect(),
            more: (more != More::default()).then(|| Box::new(more)),
            started: saga.started(),
            updated: saga.updated(),
            ended: saga.ended(),
        })
    }

    /// Why it is parked.
    pub fn parked(&self) -> &[String] {
        self.more.as_ref().map_or(&[], |more| &more.parked)
    }

    /// The error it ended with, or is undone for.
    pub fn error(&self) -> Option<&str> {
        self.more.as_ref()?.error.as_deref()
    }

    /// How often it was redriven.
    pub fn redrives(&self) -> u32 {
        self.more.as_ref().map_or(0, |more| more.redrives)
    }

    /// The business case.
    pub fn correlation_id(&self) -> Option<&str> {
        self.more.as_ref()?.correlation_id.as_deref()
    }

    /// What people search by, of this name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut all = self.more.as_ref()?.attributes.iter();
        let found = all.find(|(known, _)| **known == *name);
        found.map(|(_, value)| &**value)
    }
}

/// Names that many sagas have in common: of types, states, attributes. Each is kept once.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Arc<str>>);

/// How many names are known at most; beyond that they are learned anew.
const NAMES_MAX: usize = 4_096;

impl Names {
    fn one(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// Which sagas are meant; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this type.
    pub saga_type: Option<String>,
    /// Standing so.
    pub status: Option<Status>,
    /// Paused, or not.
    pub paused: Option<bool>,
    /// In this state.
    pub step: Option<String>,
    /// Of this definition.
    pub definition: Option<Hash>,
    /// Of this business case.
    pub correlation_id: Option<String>,
    /// With these attributes, all of them.
    pub attributes: BTreeMap<String, String>,
    /// Begun before this moment.
    pub started_before: Option<Timestamp>,
    /// Begun at this moment or later.
    pub started_after: Option<Timestamp>,
    /// Nothing happened to it since this moment.
    pub updated_before: Option<Timestamp>,
}

impl Filter {
    /// Whether a saga is meant.
    pub fn fits(&self, row: &Row) -> bool {
        fn is<T: PartialEq<U>, U>(wanted: Option<&T>, value: &U) -> bool {
            wanted.is_none_or(|wanted| wanted == value)
        }
        let mut attributes = self.attributes.iter();
        let is_in = |step: &String| row.steps.iter().any(|known| **known == **step);
        let correlation_id = self.correlation_id.as_deref();
        self.saga_type
            .as_ref()
            .is_none_or(|wanted| *wanted == *row.saga_type)
            && is(self.status.as_ref(), &row.status)
            && is(self.paused.as_ref(), &row.paused)
            && is(self.definition.as_ref(), &row.definition)
            && self.step.as_ref().is_none_or(is_in)
            && (correlation_id.is_none() || correlation_id == row.correlation_id())
            && attributes.all(|(name, value)| row.attribute(name) == Some(value))
            && self.started_before.is_none_or(|time| row.started < time)
            && self.started_after.is_none_or(|time| row.started >= time)
            && self.updated_before.is_none_or(|time| row.updated < time)
    }
}

/// A place in the list, newest first: where the next page begins.
type Key = (std::cmp::Reverse<i64>, SagaId);

/// Every saga's row.
#[derive(Debug, Default)]
pub(super) struct Index {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_time: BTreeMap<Key, Arc<Row>>,
    /// The sub-sagas that have not ended, of each saga that has some.
    sub_sagas: BTreeMap<SagaId, BTreeSet<SagaId>>,
    /// When they began, which is their place above.
    started: HashMap<SagaId, i64>,
    counts: BTreeMap<(Arc<str>, &'static str), usize>,
}

impl Rows {
    fn get(&self, id: SagaId) -> Option<&Arc<Row>> {
        let started = self.started.get(&id)?;
        self.by_time.get(&(std::cmp::Reverse(*started), id))
    }

    fn insert(&mut self, row: Row) {
        let (id, started) = (row.id, row.started.as_millis());
        let known = self.started.get(&id);
        if known.is_some_and(|known| *known != started) {
            self.remove(id);
        }
        let counted = (Arc::clone(&row.saga_type), row.status.as_str());
        *self.counts.entry(counted).or_default() += 1;
        let parent = row.parent_id().filter(|_| row.ended.is_none());
        let key = (std::cmp::Reverse(started), id);
        match self.by_time.insert(key, Arc::new(row)) {
            Some(before) => self.uncount(&before),
            None => _ = self.started.insert(id, started),
        }
        if let Some(parent) = parent {
            self.sub_sagas.entry(parent).or_default().insert(id);
        }
    }

    fn remove(&mut self, id: SagaId) {
        let Some(started) = self.started.remove(&id) else {
            return;
        };
        if let Some(row) = self.by_time.remove(&(std::cmp::Reverse(started), id)) {
            self.uncount(&row);
        }
    }

    fn uncount(&mut self, row: &Row) {
        let counted = (Arc::clone(&row.saga_type), row.status.as_str());
        if let Some(count) = self.counts.get_mut(&counted) {
            *count -= 1;
        }
        let parent = row.parent_id();
        if let Some(parent) = parent
            && let Some(all) = self.sub_sagas.get_mut(&parent)
        {
            all.remove(&row.id);
            if all.is_empty() {
                self.sub_sagas.remove(&parent);
            }
        }
    }
}

impl Index {
    /// Publishes rows, in place of those of the same sagas.
    pub(super) fn publish(&self, rows: Vec<Row>) {
        let mut all = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            all.insert(row);
        }
    }

    /// Forgets sagas.
    pub(super) fn forget(&self, ids: &[SagaId]) {
        let mut all = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            all.remove(*id);
        }
    }

    pub(super) fn get(&self, id: SagaId) -> Option<Arc<Row>> {
        let all = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        all.get(id).cloned()
    }

    /// The sub-sagas of a saga that have not ended, those that wait for a person first, so many of
    /// them; and how many there are in all.
    pub(super) fn sub_sagas(&self, of: SagaId, limit: usize) -> (Vec<Arc<Row>>, usize) {
        let all = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let Some(ids) = all.sub_sagas.get(&of) else {
            return (Vec::new(), 0);
        };
        let rows = ids.iter().filter_map(|id| all.get(*id));
        let (mut parked, others): (Vec<_>, Vec<_>) =
            rows.partition(|row| row.status == Status::Parked);
        parked.extend(others);
        let rows = parked.into_iter().take(limit).cloned().collect();
        (rows, ids.len())
    }

    /// How many there are of each type and status.
    pub(super) fn counts(&self) -> Vec<(String, &'static str, usize)> {
        let all = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let counts = all.counts.iter();
        counts
            .map(|((saga_type, status), count)| (saga_type.to_string(), *status, *count))
            .collect()
    }

    /// The sagas that are meant, newest first, behind the cursor; and the next cursor, if there are
    /// more.
    pub(super) fn page(
        &self,
        wanted: &dyn Fn(&Row) -> bool,
        after: Option<Cursor>,
        limit: usize,
    ) -> (Vec<Arc<Row>>, Option<Cursor>) {
        let all = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(std::ops::Bound::Unbounded, |Cursor(key)| {
            std::ops::Bound::Excluded(key)
        });
        let rows = all.by_time.range((from, std::ops::Bound::Unbounded));
        let mut rows = rows.filter(|(_, row)| wanted(row));
        let (mut page, mut last) = (Vec::new(), None);
        for (key, row) in rows.by_ref().take(limit) {
            page.push(Arc::clone(row));
            last = Some(Cursor(*key));
        }
        let more = rows.next().is_some();
        (page, last.filter(|_| more))
    }
}

/// Where a page of the list ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(Key);

impl Cursor {
    /// Reads the text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_once('.')?;
        let time = std::cmp::Reverse(time.parse().ok()?);
        Some(Self((time, SagaId::parse(id)?)))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self((time, id)) = self;
        write!(formatter, "{}.{id}", time.0)
    }
}

/// A status by its name, in any case.
pub(super) fn status(text: &str) -> Option<Status> {
    serde_json::from_value(Value::from(text.to_ascii_uppercase())).ok()
}
