//! Which schema ids the retained records of a topic name. Bounded in bytes and time: what was not
//! looked at is said. What was looked at once is remembered, as long as nothing can take records out of
//! the middle.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;
use wharf_broker::records::{Batch, Content};
use wharf_broker::{Broker, Topic};
use wharf_log::batch::Record;
use wharf_schema::impact::{Partition, Run};
use wharf_schema::wire::{Framed, KEY_HEADER, SchemaId, VALUE_HEADER};

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;
/// How many runs a partition may have before those of one id are taken together.
const RUNS_MAX: usize = 512;
/// How many partitions are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// Key or value of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Key,
    Value,
}

/// How much may be read for one report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) bytes: u64,
    pub(super) until: Instant,
}

impl Budget {
    pub(super) fn new(bytes: u64, time: Duration) -> Self {
        Self {
            bytes,
            until: Instant::now() + time,
        }
    }
}

/// What was seen of a partition up to an offset.
#[derive(Clone, Debug, Default)]
struct Seen {
    upto: i64,
    runs: Vec<Run>,
}

/// What scans remember.
#[derive(Debug, Default)]
pub(super) struct Scans(Mutex<HashMap<(Uuid, i32, Part), Seen>>);

impl Scans {
    /// Looks through a topic. `id_of` gives the id of a GUID. Reads the disk, so it belongs to a
    /// blocking worker.
    pub(super) fn scan(
        &self,
        broker: &Broker,
        topic: &Topic,
        part: Part,
        budget: &mut Budget,
        id_of: &dyn Fn(Uuid) -> Option<i32>,
    ) -> Vec<Partition> {
        let mut partitions = Vec::new();
        for (index, log) in (0..).zip(&topic.partitions) {
            let Some(bounds) = broker.reader().bounds(*log) else {
                continue;
            };
            let key = (topic.id, index, part);
            let mut seen = match topic.config.compact {
                true => Seen::default(),
                false => self.remembered(&key),
            };
            seen.forget_before(bounds.start);
            while seen.upto < bounds.end && budget.bytes > 0 && Instant::now() < budget.until {
                let read = broker.reader().read(*log, seen.upto, READ_BYTES, true);
                let Ok(slice) = read else { break };
                if slice.batches.is_empty() {
                    break;
                }
                let before = seen.upto;
                for bytes in slice.batches {
                    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    budget.bytes = budget.bytes.saturating_sub(size);
                    seen.take(&bytes, part, bounds.end, id_of);
                }
                if seen.upto <= before {
                    break;
                }
            }
            partitions.push(Partition {
                partition: index,
                start: bounds.start,
                end: bounds.end,
                scanned_to: seen.upto.min(bounds.end),
                runs: seen.runs.clone(),
            });
            if !topic.config.compact {
                self.remember(key, seen);
            }
        }
        partitions
    }

    fn remembered(&self, key: &(Uuid, i32, Part)) -> Seen {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(key).cloned().unwrap_or_default()
    }

    fn remember(&self, key: (Uuid, i32, Part), now: Seen) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED_MAX && !seen.contains_key(&key) {
            seen.clear();
        }
        seen.insert(key, now);
    }
}

impl Seen {
    /// Retention has deleted what comes before `start`.
    fn forget_before(&mut self, start: i64) {
        self.upto = self.upto.max(start);
        self.runs.retain(|run| run.last >= start);
        for run in self.runs.iter_mut().filter(|run| run.first < start) {
            let left = u64::try_from(run.last - start + 1).unwrap_or_default();
            run.records = run.records.min(left);
            run.first = start;
        }
    }

    /// Takes neighbouring batches, up to `end`. A batch that cannot be opened counts as one record
    /// without a schema: it is there, and nobody can read it.
    fn take(
        &mut self,
        bytes: &bytes::Bytes,
        part: Part,
        end: i64,
        id_of: &dyn Fn(Uuid) -> Option<i32>,
    ) {
        let mut rest = bytes.clone();
        while !rest.is_empty() && self.upto < end {
            let (Ok((first, after)), Ok((batch, left))) = (Batch::span(&rest), Batch::split(&rest))
            else {
                return;
            };
            rest = left;
            let opened = Batch::open(&batch).map(|batch| batch.content);
            match opened {
                Ok(Content::Records { records, .. }) => {
                    for record in records.filter_map(Result::ok) {
                        if record.offset >= self.upto {
                            let (at, time) = (record.offset, record.timestamp.as_millis());
                            self.count(schema_of(&record, part, id_of), at, time);
                        }
                    }
                }
                Ok(Content::Marker { .. } | Content::Control) => {}
                Err(_unreadable) => self.count(None, first, 0),
            }
            self.upto = self.upto.max(after);
        }
    }

    fn count(&mut self, id: Option<i32>, offset: i64, time: i64) {
        if let Some(run) = self.runs.last_mut().filter(|run| run.id == id) {
            run.last = offset;
            run.records += 1;
            run.oldest = run.oldest.min(time);
            run.newest = run.newest.max(time);
            return;
        }
        if self.runs.len() == RUNS_MAX {
            self.together();
        }
        self.runs.push(Run {
            id,
            first: offset,
            last: offset,
            records: 1,
            oldest: time,
            newest: time,
        });
    }

    /// Takes the runs of each id together; more ids than may be are taken as records without a schema.
    fn together(&mut self) {
        let mut by_id: Vec<Run> = Vec::new();
        for run in self.runs.drain(..) {
            let is_full = by_id.len() >= RUNS_MAX / 2;
            let known = by_id.iter_mut().find(|known| known.id == run.id);
            match known {
                Some(known) => join(known, &run),
                None if is_full => match by_id.iter_mut().find(|known| known.id.is_none()) {
                    Some(unknown) => join(unknown, &run),
                    None => by_id.push(Run { id: None, ..run }),
                },
                None => by_id.push(run),
            }
        }
        self.runs = by_id;
    }
}

fn join(known: &mut Run, run: &Run) {
    known.first = known.first.min(run.first);
    known.last = known.last.max(run.last);
    known.records += run.records;
    known.oldest = known.oldest.min(run.oldest);
    known.newest = known.newest.max(run.newest);
}

/// The id that a record names, in a header or before its payload.
fn schema_of(record: &Record, part: Part, id_of: &dyn Fn(Uuid) -> Option<i32>) -> Option<i32> {
    let (name, bytes) = match part {
        Part::Key => (KEY_HEADER, record.key.as_ref()?),
        Part::Value => (VALUE_HEADER, record.value.as_ref()?),
    };
    let mut headers = record.headers.iter().rev();
    let header = headers.find(|(key, _)| key.as_ref() == name.as_bytes());
    let header = header.and_then(|(_, value)| value.as_deref());
    match Framed::read(header, bytes).ok()?.id {
        SchemaId::Id(id) => Some(id),
        SchemaId::Guid(guid) => id_of(guid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_the_offsets_and_never_grow_without_bound() {
        let mut seen = Seen::default();
        for offset in 0..10_000_i64 {
            let id = i32::try_from(offset % 2).unwrap();
            seen.count(Some(id), offset, offset);
        }
        assert!(seen.runs.len() <= RUNS_MAX);
        let records: u64 = seen.runs.iter().map(|run| run.records).sum();
        assert_eq!(records, 10_000);
        let first = seen.runs.iter().map(|run| run.first).min();
        assert_eq!(first, Some(0));
        let mut many = Seen::default();
        for offset in 0..10_000_i32 {
            many.count(Some(offset), i64::from(offset), 0);
        }
        assert!(many.runs.len() <= RUNS_MAX);
        assert_eq!(many.runs.iter().map(|run| run.records).sum::<u64>(), 10_000);
    }

    #[test]
    fn what_retention_has_deleted_is_forgotten() {
        let mut seen = Seen::default();
        for offset in 0..20 {
            seen.count(Some(i32::from(offset >= 10)), offset, 0);
        }
        seen.upto = 20;
        seen.forget_before(15);
        assert_eq!(seen.runs.len(), 1);
        assert_eq!((seen.runs[0].first, seen.runs[0].records), (15, 5));
        seen.forget_before(30);
        assert_eq!((seen.runs.len(), seen.upto), (0, 30));
    }
}
