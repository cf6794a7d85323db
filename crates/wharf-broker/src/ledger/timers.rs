//! The ledger's timers in memory: a view of the state, ordered by time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use bytes::Bytes;
use wharf_log::Reader;
use wharf_message::Timestamp;
use wharf_message::ledger::{Due, Partition, Timer};

use super::{keys, values};
use crate::{Error, ErrorKind, sync};

/// The timers of every owned partition. Changed in the committer's thread only, in commit order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_owned: Mutex<HashMap<Partition, Table>>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<Bytes, Timer>,
    by_due: BTreeSet<(Timestamp, Bytes)>,
}

impl Timers {
    /// Reads the timers from the log's state.
    pub(crate) fn recover(reader: &Reader) -> Result<Self, Error> {
        let timers = Self::default();
        for (key, value) in reader.state(keys::TIMERS) {
            let (owned, id) = keys::parse(&key, keys::TIMERS).ok_or_else(|| {
                Error::new(
                    ErrorKind::UnknownServerError,
                    format!("the key {key:?} of a stored timer cannot be read"),
                )
            })?;
            timers.apply(&owned, &[], vec![values::decode_timer(id, &value)?]);
        }
        Ok(timers)
    }

    /// Removes and sets timers, in this order.
    pub(super) fn apply(&self, owned: &Partition, removed: &[Bytes], set: Vec<Timer>) {
        if removed.is_empty() && set.is_empty() {
            return;
        }
        let mut tables = sync::lock(&self.by_owned);
        let table = tables.entry(owned.clone()).or_default();
        for id in removed {
            table.remove(id);
        }
        for timer in set {
            table.remove(&timer.id);
            table.by_due.insert((timer.due, timer.id.clone()));
            table.by_id.insert(timer.id.clone(), timer);
        }
        if table.by_id.is_empty() {
            tables.remove(owned);
        }
    }

    /// The first `timers_max` timers due at `now`.
    pub(super) fn due(&self, owned: &Partition, now: Timestamp, timers_max: usize) -> Due {
        let tables = sync::lock(&self.by_owned);
        let Some(table) = tables.get(owned) else {
            return Due::default();
        };
        let mut due = Due::default();
        for (time, id) in &table.by_due {
            if *time > now || due.timers.len() == timers_max {
                due.next = Some(*time);
                break;
            }
            due.timers.extend(table.by_id.get(id).cloned());
        }
        due
    }
}

impl Table {
    fn remove(&mut self, id: &Bytes) {
        if let Some(timer) = self.by_id.remove(id) {
            self.by_due.remove(&(timer.due, timer.id));
        }
    }
}
