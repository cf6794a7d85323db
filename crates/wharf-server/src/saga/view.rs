//! What is known of every saga at a glance: the rows that are listed, searched and counted.
//!
//! A row is published after the commit that it tells of, never before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    #[serde(rename = "type")]
    pub saga_type: String,
    /// The hash of the definition to which it is pinned.
    pub definition: Hash,
    /// Its idempotency key.
    pub key: String,
    /// Where it stands.
    pub status: Status,
    /// Whether an operator paused it.
    pub paused: bool,
    /// The states it is in.
    pub steps: Vec<String>,
    /// Why it is parked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<String>,
    /// The error it ended with, or is undone for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The business case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// What people search by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// The saga that waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
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

fn text<S: serde::Serializer>(value: &impl ToString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.to_string())
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
        SagaId::parse(self.parent.as_deref()?)
    }

    /// The row of a saga that began.
    pub(super) fn of(saga: &Saga) -> Option<Self> {
        let start = saga.start()?;
        let mut steps: Vec<_> = saga.current().into_iter().map(|step| step.name).collect();
        steps.dedup();
        // What it was collected from had more room.
        steps.shrink_to_fit();
        let parked = saga.parked().into_iter();
        let mut parked: Vec<_> = parked
            .map(|step| format!("{}: {}", step.reason, step.error))
            .collect();
        if saga.is_overdue() {
            parked.push("deadline".to_owned());
        }
        Some(Self {
            id: start.id,
            saga_type: start.saga_type.clone(),
            definition: start.definition,
            key: start.key.clone(),
            status: saga.status(),
            paused: saga.is_paused(),
            steps,
            parked,
            error: saga.error().map(|(error, _)| error.to_owned()),
            correlation_id: start.correlation.clone(),
            attributes: start.attributes.clone(),
            parent: start.parent.as_ref().map(|parent| parent.saga.to_string()),
            started: saga.started(),
            updated: saga.updated(),
            ended: saga.ended(),
        })
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
        is(self.saga_type.as_ref(), &row.saga_type)
            && is(self.status.as_ref(), &row.status)
            && is(self.paused.as_ref(), &row.paused)
            && is(self.definition.as_ref(), &row.definition)
            && self
                .step
                .as_ref()
                .is_none_or(|step| row.steps.contains(step))
            && (self.correlation_id.is_none() || self.correlation_id == row.correlation_id)
            && attributes.all(|(name, value)| row.attributes.get(name) == Some(value))
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
    at: HashMap<SagaId, Key>,
    counts: BTreeMap<(String, &'static str), usize>,
}

impl Rows {
    fn remove(&mut self, id: SagaId) {
        let Some(row) = self
            .at
            .remove(&id)
            .and_then(|key| self.by_time.remove(&key))
        else {
            return;
        };
        let counted = (row.saga_type.clone(), row.status.as_str());
        if let Some(count) = self.counts.get_mut(&counted) {
            *count -= 1;
        }
        let parent = row.parent_id();
        if let Some(parent) = parent
            && let Some(all) = self.sub_sagas.get_mut(&parent)
        {
            all.remove(&id);
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
            all.remove(row.id);
            let key = (std::cmp::Reverse(row.started.as_millis()), row.id);
            let counted = (row.saga_type.clone(), row.status.as_str());
            *all.counts.entry(counted).or_default() += 1;
            if let Some(parent) = row.parent_id().filter(|_| row.ended.is_none()) {
                all.sub_sagas.entry(parent).or_default().insert(row.id);
            }
            all.at.insert(row.id, key);
            all.by_time.insert(key, Arc::new(row));
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
        all.at
            .get(&id)
            .and_then(|key| all.by_time.get(key))
            .cloned()
    }

    /// The sub-sagas of a saga that have not ended, those that wait for a person first, so many of
    /// them; and how many there are in all.
    pub(super) fn sub_sagas(&self, of: SagaId, limit: usize) -> (Vec<Arc<Row>>, usize) {
        let all = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let Some(ids) = all.sub_sagas.get(&of) else {
            return (Vec::new(), 0);
        };
        let rows = ids.iter().filter_map(|id| all.by_time.get(all.at.get(id)?));
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
            .map(|((saga_type, status), count)| (saga_type.clone(), *status, *count))
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
