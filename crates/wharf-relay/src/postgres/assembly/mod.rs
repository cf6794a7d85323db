//! From the messages of the log to batches of rows: pure, so that every order of messages can be tried.
//!
//! Invariants: a row's position is that of its transaction's commit, then its number in the
//! transaction, never where the row itself is in the log; what a checkpoint says is delivered is never
//! handed out again, and everything else is, once; what the slot may be told never reaches into a
//! transaction that is not over.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::emitted::{self, PREFIX};
use super::pgoutput::{Begin, Commit, Emitted, Insert, Message, Relation, Value};
use super::progress::{Partial, Progress, Snapshot};
use super::value::{self, XID8, convert, kind_of, timestamp};
use crate::{Batch, Column, Columns, Kind, Place, Row};

/// What is asked of the log.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The schema of the table.
    pub(crate) namespace: String,
    /// The table.
    pub(crate) table: String,
    /// Whether messages without a table count as rows.
    pub(crate) messages: bool,
    /// What columns hold whose types are not built in, by their names.
    pub(crate) kinds: HashMap<String, Kind>,
}

/// How rows of the table are read.
#[derive(Debug)]
struct Shape {
    columns: Columns,
    types: Vec<u32>,
    /// The column that says which transaction a row was inserted by.
    transaction: Option<usize>,
}

/// A transaction that is being read.
#[derive(Debug)]
struct Open {
    commit: u64,
    committed_at: Timestamp,
    /// Its whole id.
    xid: u64,
    /// How many rows of it have come.
    rows: u64,
    /// How many of those, from the first on, were delivered before.
    skip: u64,
    /// How many of those that are to be delivered are in the table.
    in_table: u64,
}

/// What was seen that is not right, for a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Odd {
    /// A row of the outbox was changed or deleted.
    Changed,
    /// A message without a table cannot be read.
    Message,
    /// A message without a table is outside of a transaction.
    Loose,
}

/// Makes batches of what the log says.
#[derive(Debug)]
pub(crate) struct Assembly {
    wanted: Wanted,
    progress: Progress,
    relations: HashMap<u32, Option<Shape>>,
    open: Option<Open>,
    /// A whole transaction id that is not far from those in the log.
    near: u64,
    /// Every commit before this has come.
    heard: u64,
    rows: Vec<Row>,
    bytes: usize,
    /// The transactions that were completed since the last checkpoint.
    completed: Vec<u64>,
    /// A snapshot, and the position in the log that it is older than.
    anchor: Option<(Snapshot, u64)>,
    /// Whether the next checkpoint is to be whole.
    whole: bool,
    odd: Vec<Odd>,
}

impl Assembly {
    /// Goes on from `progress`; `near` is any transaction id of this time.
    pub(crate) fn new(wanted: Wanted, progress: Progress, near: u64) -> Self {
        Self {
            wanted,
            progress,
            relations: HashMap::new(),
            open: None,
            near,
            heard: 0,
            rows: Vec::new(),
            bytes: 0,
            completed: Vec::new(),
            anchor: None,
            whole: true,
            odd: Vec::new(),
        }
    }

    /// How many bytes wait for a batch.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows wait for a batch.
    pub(crate) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether rows wait, or more of a transaction is to come.
    pub(crate) fn is_busy(&self) -> bool {
        self.has_rows() || self.open.is_some()
    }

    /// Every commit before this has come.
    pub(crate) fn heard_of(&self) -> u64 {
        self.heard
    }

    /// Whether a whole checkpoint is due, even without rows.
    pub(crate) fn is_anchored(&self) -> bool {
        self.whole
    }

    /// What was odd since this was asked.
    pub(crate) fn odd(&mut self) -> Vec<Odd> {
        std::mem::take(&mut self.odd)
    }

    /// A snapshot that was taken before the log was at `position`: once everything before that has
    /// come, all transactions that the snapshot sees are delivered.
    pub(crate) fn anchor(&mut self, snapshot: Snapshot, position: u64) {
        self.near = snapshot.xmax;
        self.anchor = Some((snapshot, position));
        self.settle();
    }

    /// Whether an anchor still waits for the log.
    pub(crate) fn awaits(&self) -> bool {
        self.anchor.is_some()
    }

    /// Every commit before this has come.
    pub(crate) fn heard(&mut self, position: u64) {
        if self.open.is_none() {
            self.heard = self.heard.max(position);
            self.progress.confirm = self.progress.confirm.max(position);
        }
        self.settle();
    }

    /// Takes the anchor in, if the log is there.
    fn settle(&mut self) {
        if let Some((_, position)) = &self.anchor
            && self.heard >= *position
            && let Some((snapshot, _)) = self.anchor.take()
        {
            self.progress.take(snapshot);
            self.whole = true;
        }
    }

    /// Takes the next message.
    pub(crate) fn take(&mut self, message: Message) {
        match message {
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit),
            Message::Relation(relation) => self.relation(relation),
            Message::Insert(insert) => self.insert(insert),
            Message::Update(relation) | Message::Delete(relation) => {
                if matches!(self.relations.get(&relation), Some(Some(_))) {
                    self.odd.push(Odd::Changed);
                }
            }
            Message::Emitted(message) => self.emitted(&message),
            Message::Type(_) | Message::Truncate | Message::Origin => {}
        }
    }

    fn begin(&mut self, begin: Begin) {
        self.open = None;
        // All commits before this one have come.
        self.heard = self.heard.max(begin.final_lsn);
        self.settle();
        let distance = begin.xid.wrapping_sub(self.near as u32) as i32;
        let xid = self.near.saturating_add_signed(distance.into());
        let done = &self.progress;
        let skip = match begin.final_lsn.cmp(&done.commit) {
            std::cmp::Ordering::Less => u64::MAX,
            // Also of one whose first rows came from the log, and the rest from the table.
            _ if done.has(xid) => u64::MAX,
            std::cmp::Ordering::Equal => done.ordinal,
            std::cmp::Ordering::Greater => 0,
        };
        let partial = done.partial.filter(|partial| partial.xid == xid);
        self.open = Some(Open {
            commit: begin.final_lsn,
            committed_at: timestamp(begin.committed_micros),
            xid,
            rows: 0,
            skip,
            in_table: match skip {
                0 => 0,
                _ => partial.map_or(0, |partial| partial.rows),
            },
        });
    }

    fn commit(&mut self, commit: Commit) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open.rows > 0 && open.skip < u64::MAX {
            self.progress.commit = open.commit;
            self.progress.ordinal = open.rows;
            self.progress.partial = None;
            self.progress.newest = self.progress.newest.max(open.xid);
            if !self.progress.has(open.xid) {
                self.progress.delivered.insert(open.xid);
                self.completed.push(open.xid);
            }
        }
        self.heard(commit.end_lsn);
    }

    fn relation(&mut self, relation: Relation) {
        let wanted = &self.wanted;
        let ours = relation.namespace == wanted.namespace && relation.name == wanted.table;
        let shape = ours.then(|| {
            let kind = |name: &str, type_id: u32| {
                let described = wanted.kinds.get(name).cloned();
                match kind_of(type_id) {
                    Some(local @ Kind::LocalTime { .. }) => described.unwrap_or(local),
                    Some(known) => known,
                    None => described.unwrap_or_else(|| Kind::Other(format!("type {type_id}"))),
                }
            };
            let is_transaction = |name: &str, type_id| name == "transaction_id" && type_id == XID8;
            let mut columns = relation.columns.iter();
            let transaction = columns.position(|it| is_transaction(&it.name, it.type_id));
            let types: Vec<_> = relation.columns.iter().map(|it| it.type_id).collect();
            let columns = relation.columns.into_iter().map(|it| Column {
                kind: kind(&it.name, it.type_id),
                name: it.name,
            });
            Shape {
                columns: columns.collect(),
                types,
                transaction,
            }
        });
        self.relations.insert(relation.id, shape);
    }

    fn insert(&mut self, insert: Insert) {
        let (Some(open), Some(Some(shape))) =
            (&mut self.open, self.relations.get(&insert.relation))
        else {
            return;
        };
        // A row that another transaction inserted was moved, from one partition to another.
        let by = shape.transaction.and_then(|at| insert.values.get(at));
        let moved = by
            .and_then(low_half)
            .is_some_and(|by| by != open.xid as u32);
        if moved {
            return;
        }
        let ordinal = open.rows;
        open.rows += 1;
        if ordinal < open.skip {
            return;
        }
        open.in_table += 1;
        let kinds = shape.columns.iter().zip(&shape.types);
        let values = insert.values.into_iter().zip(kinds);
        let values = values.map(|(value, (column, &of))| convert(value, &column.kind, of));
        let values = values.collect();
        let columns = Arc::clone(&shape.columns);
        self.push(ordinal, columns, values);
    }

    fn emitted(&mut self, message: &Emitted) {
        if message.prefix != PREFIX {
            return;
        }
        if !message.transactional {
            self.odd.push(Odd::Loose);
            return;
        }
        let Some(open) = &mut self.open else { return };
        // It counts whether or not it is wanted, so that numbers never depend on settings.
        let ordinal = open.rows;
        open.rows += 1;
        if ordinal < open.skip || !self.wanted.messages {
            return;
        }
        match emitted::row(&message.content) {
            Some((columns, values)) => self.push(ordinal, columns, values),
            None => {
                self.odd.push(Odd::Message);
                let (columns, values) = emitted::unreadable(&message.content);
                self.push(ordinal, columns, values);
            }
        }
    }

    fn push(&mut self, ordinal: u64, columns: Columns, values: Vec<Option<Bytes>>) {
        let Some(open) = &self.open else { return };
        let row = Row {
            place: Place {
                commit: open.commit,
                ordinal,
            },
            committed_at: Some(open.committed_at),
            columns,
            values,
        };
        self.bytes += row.size();
        self.rows.push(row);
        self.progress.commit = open.commit;
        self.progress.ordinal = ordinal + 1;
        self.progress.partial = Some(Partial {
            xid: open.xid,
            rows: open.in_table,
        });
    }

    /// What waits, with a checkpoint behind it; and what the slot may be told once it is durable.
    pub(crate) fn batch(&mut self) -> (Batch, u64) {
        self.completed.sort_unstable();
        let checkpoint = match self.whole {
            true => self.progress.whole(),
            false => self.progress.log_delta(&self.completed),
        };
        self.whole = false;
        self.completed.clear();
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        (Batch { rows, checkpoint }, self.progress.confirm)
    }
}

/// The lower half of a whole transaction id.
fn low_half(value: &Value) -> Option<u32> {
    match value {
        Value::Text(text) => str::from_utf8(text)
            .ok()?
            .parse::<u64>()
            .ok()
            .map(|it| it as u32),
        Value::Binary(bytes) => value::low_half(bytes),
        Value::Null | Value::Unchanged => None,
    }
}

#[cfg(test)]
mod tests;
