//! Compacting one partition: first the newest offset of each key, then segment by segment anew.
//!
//! Invariants: every step reads a bounded number of bytes; segments are exchanged only when the
//! partition still has exactly those that were read; what is given up leaves no file behind.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::choose::Due;
use super::keys::Keys;
use super::rewrite::{Fate, Horizon, body, rewrite};
use super::scan::{Flaw, Scan};
use crate::batch::{self, Header, RawRecords};
use crate::disk::Open;
use crate::partition::{Partition, Segment};
use crate::segment::{self, Indexer};
use crate::settle::Trouble;
use crate::shared::{Shared, count};
use crate::sync::{lock, read, write};
use crate::writer::Writer;
use crate::{Codec, Compaction, DamagedRange};

/// How many bytes of batches one step reads, roughly.
const STEP_BYTES: usize = 8 << 20;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    More,
    /// Segments were exchanged.
    Exchanged,
    Done,
    /// The partition changed meanwhile.
    Overtaken,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Job {
    partition: Arc<Partition>,
    settings: Compaction,
    segment_bytes: u64,
    segments: Vec<Segment>,
    start: i64,
    /// The aborted transactions by producer: first and last offset.
    aborted: BTreeMap<i64, Vec<(i64, i64)>>,
    keys: Keys,
    /// Keys are known up to this offset.
    end: i64,
    /// The segment that is read now.
    at: usize,
    scan: Option<Scan>,
    /// Set once all keys are known.
    writing: bool,
    output: Option<Output>,
    /// When the first of the tombstones that were kept may go.
    horizon: Option<i64>,
}

/// A segment being written anew.
struct Output {
    writer: Writer,
    segment: Segment,
    /// The segments it replaces: how many from the job's `from` on.
    from: usize,
    until: usize,
    /// Offsets that are gone and that nothing stands for yet.
    gone: Option<(i64, i64)>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Output")
            .field("segment", &self.segment)
            .finish_non_exhaustive()
    }
}

impl Job {
    pub(super) fn new(shared: &Shared, due: Due) -> Self {
        let Due {
            partition,
            settings,
            segment_bytes,
            segments,
        } = due;
        let mut data = write(&partition.data);
        let start = data.start;
        let until = segments.last().map_or(start, |last| last.last_offset + 1);
        let mut aborted: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        for one in data.aborted.overlapping(start, until) {
            let of_producer = aborted.entry(one.producer_id).or_default();
            of_producer.push((one.first_offset, one.last_offset));
        }
        // Settling writes on in another segment.
        data.closed = data.segments.last().map(|last| last.base_offset);
        let end = data.compacted.end.max(start);
        drop(data);
        Self {
            partition,
            settings,
            segment_bytes,
            segments,
            start,
            aborted,
            keys: Keys::new(shared.secret.load(Ordering::Relaxed)),
            end,
            at: 0,
            scan: None,
            writing: false,
            output: None,
            horizon: None,
        }
    }

    /// Goes on for a while.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        codec: &dyn Codec,
        now: Timestamp,
    ) -> io::Result<Outcome> {
        match self.try_step(shared, codec, now) {
            Ok(outcome) => Ok(outcome),
            Err(Flaw::Disk(error)) => Err(error),
            Err(Flaw::Damaged { offset, position }) => {
                let id = self.partition.id;
                let segment = self.segments.get(self.at);
                let path = segment.map(|segment| segment::log_path(id, segment));
                // From now on the partition is left alone; a read of the range tells its extent.
                write(&self.partition.data).note_damage(DamagedRange {
                    partition: Some(id),
                    first: offset,
                    last: offset,
                    path: path.unwrap_or_default(),
                    position,
                });
                Ok(Outcome::Overtaken)
            }
        }
    }

    fn try_step(
        &mut self,
        shared: &Shared,
        codec: &dyn Codec,
        now: Timestamp,
    ) -> Result<Outcome, Flaw> {
        if !self.is_current(shared) {
            return Ok(Outcome::Overtaken);
        }
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            if !self.writing {
                match self.next(shared)? {
                    Some((header, batch)) => {
                        bytes += batch.len();
                        self.note(&header, &batch, codec);
                    }
                    None => self.write(),
                }
                if self.keys.len() >= shared.options.compaction_keys_max {
                    self.write();
                }
                continue;
            }
            if self.at == self.segments.len() {
                self.finish();
                return Ok(Outcome::Done);
            }
            self.prepare_output(shared)?;
            match self.next_of(self.output_end(), shared)? {
                Some((header, batch)) => {
                    bytes += batch.len();
                    self.rewrite(&header, &batch, codec, now)?;
                }
                None if self.exchange(shared)? => return Ok(Outcome::Exchanged),
                None => return Ok(Outcome::Overtaken),
            }
        }
        Ok(Outcome::More)
    }

    /// Whether the partition still has the segments that are not exchanged yet.
    fn is_current(&self, shared: &Shared) -> bool {
        let from = self.output.as_ref().map_or(self.at, |output| output.from);
        let left = if self.writing {
            &self.segments[from..]
        } else {
            &self.segments[..]
        };
        let there = shared.table.get(self.partition.id);
        there.is_some_and(|there| Arc::ptr_eq(&there, &self.partition))
            && holds(&read(&self.partition.data).segments, left).is_some()
    }

    /// The next batch of all segments.
    fn next(&mut self, shared: &Shared) -> Result<Option<(Header, Bytes)>, Flaw> {
        self.next_of(self.segments.len(), shared)
    }

    /// The next batch of the segments before this one.
    fn next_of(&mut self, until: usize, shared: &Shared) -> Result<Option<(Header, Bytes)>, Flaw> {
        while self.at < until {
            let segment = self.segments[self.at];
            if !self.writing && segment.last_offset < self.end {
                // Read, or compacted before: none of its records supersedes another.
                self.scan = None;
                self.at += 1;
                continue;
            }
            let scan = match &mut self.scan {
                Some(scan) => scan,
                none => {
                    let open = shared.segments.open(self.partition.id, &segment)?;
                    none.insert(Scan::new(open, segment, self.start))
                }
            };
            if let Some(found) = scan.next()? {
                return Ok(Some(found));
            }
            self.scan = None;
            self.at += 1;
        }
        Ok(None)
    }

    /// Whether a batch belongs to an aborted transaction.
    fn is_aborted(&self, header: &Header) -> bool {
        let aborted = self.aborted.get(&header.producer_id);
        header.is_transactional()
            && !header.is_control()
            && aborted.is_some_and(|aborted| {
                let inside =
                    |(first, last): &(i64, i64)| (first..last).contains(&&header.base_offset);
                aborted.iter().any(inside)
            })
    }

    /// Notes the keys of a batch.
    fn note(&mut self, header: &Header, batch: &Bytes, codec: &dyn Codec) {
        if header.last_offset() < self.end {
            return;
        }
        self.end = header.last_offset() + 1;
        if header.is_control() || self.is_aborted(header) {
            return;
        }
        // A batch that cannot be decoded stays, and supersedes nothing.
        let Ok(body) = body(header, batch, codec) else {
            return;
        };
        let whole = || RawRecords::new(header, &body);
        if whole().any(|record| record.is_err()) {
            return;
        }
        for record in whole().flatten() {
            if let Some(key) = &record.key {
                self.keys.note(key, record.offset);
            }
        }
    }

    /// Begins to write: the segments with keys that are known, from the first one on.
    fn write(&mut self) {
        let end = self.end;
        self.segments.retain(|segment| segment.base_offset < end);
        (self.at, self.scan, self.writing) = (0, None, true);
    }

    fn output_end(&self) -> usize {
        self.output.as_ref().map_or(self.at, |output| output.until)
    }

    /// Begins to write the next segment: of several small ones that fit together.
    fn prepare_output(&mut self, shared: &Shared) -> io::Result<()> {
        if self.output.is_some() {
            return Ok(());
        }
        let (from, id) = (self.at, self.partition.id);
        let first = self.segments[from];
        let mut bytes = first.bytes;
        let mut until = from + 1;
        while let Some(next) = self.segments.get(until) {
            bytes += next.bytes;
            if bytes > self.segment_bytes {
                break;
            }
            until += 1;
        }
        let segment = Segment {
            last_offset: first.base_offset - 1,
            bytes: 0,
            max_timestamp: i64::MIN,
            generation: first.generation.wrapping_add(1),
            ..first
        };
        let open = |path: &str| {
            shared.disk.remove(path)?;
            shared.disk.open(path, Open::New)
        };
        let file = open(&segment::log_path(id, &segment))?;
        let index = open(&segment::index_path(id, &segment))?;
        self.output = Some(Output {
            writer: Writer::new(segment, Indexer::new(), file, index),
            segment,
            from,
            until,
            gone: None,
        });
        Ok(())
    }

    /// Writes what is left of a batch.
    fn rewrite(
        &mut self,
        header: &Header,
        batch: &Bytes,
        codec: &dyn Codec,
        now: Timestamp,
    ) -> io::Result<()> {
        let fate = if header.record_count == 0
            || header.last_offset() < self.start
            || self.is_aborted(header)
        {
            Fate::Goes
        } else if header.base_offset >= self.end && !header.is_control() {
            Fate::Stays
        } else {
            let retention = self.settings.delete_retention.as_millis();
            let horizon = Horizon {
                now: now.as_millis(),
                retention: i64::try_from(retention).unwrap_or(i64::MAX),
            };
            let keys = &self.keys;
            let (fate, due) = rewrite(header, batch, codec, horizon, |record| match &record.key {
                _ if header.is_control() => true,
                Some(key) => keys.is_newest(key, record.offset),
                // Nothing can supersede it; Kafka drops it as well.
                None => false,
            });
            self.horizon = self.horizon.into_iter().chain(due).min();
            fate
        };
        let output = self.output.as_mut().ok_or(io::ErrorKind::NotFound)?;
        output.add(header, batch, &fate)
    }

    /// Lets the new segment count in place of the old ones. Returns false when they changed meanwhile.
    fn exchange(&mut self, shared: &Shared) -> io::Result<bool> {
        let Some(mut output) = self.output.take() else {
            return Ok(false);
        };
        let old = &self.segments[output.from..output.until];
        let last_offset = old.last().map_or(-1, |last| last.last_offset);
        let id = self.partition.id;
        let (paths, directory) = (paths(id, &output.segment), segment::directory(id));
        let written = output.fill().and_then(|()| {
            let new = output.writer.finish().map_err(into_io)?;
            shared.disk.sync_dir(&directory)?;
            Ok(new)
        });
        let new = match written {
            Ok(new) => new,
            Err(error) => {
                remove(shared, &paths);
                return Err(error);
            }
        };
        let mut data = write(&self.partition.data);
        let Some(at) = holds(&data.segments, old) else {
            drop(data);
            remove(shared, &paths);
            return Ok(false);
        };
        let replaced: Vec<Segment> = data.segments.splice(at..at + old.len(), [new]).collect();
        data.compacted.exchanges += 1;
        // Their records are gone, in this segment and in those before it.
        data.aborted.forget_up_to(last_offset);
        drop(data);
        let replaced = replaced.into_iter().map(|segment| (id, segment));
        let mut chores = lock(&shared.chores);
        for one in replaced {
            shared.segments.forget(id, &one.1);
            count(&shared.counters.compacted_bytes, one.1.bytes);
            chores.replaced.push(one);
        }
        Ok(true)
    }

    /// Everything was written anew.
    fn finish(&self) {
        let mut data = write(&self.partition.data);
        data.compacted.end = data.compacted.end.max(self.end);
        data.compacted.horizon = self.horizon;
    }

    /// Removes what was not finished, and lets settling go on with the last segment.
    pub(super) fn give_up(&mut self, shared: &Shared) {
        if let Some(output) = self.output.take() {
            remove(shared, &paths(self.partition.id, &output.segment));
        }
        write(&self.partition.data).closed = None;
    }
}

impl Output {
    fn add(&mut self, header: &Header, batch: &Bytes, fate: &Fate) -> io::Result<()> {
        let (first, last) = (header.base_offset, header.last_offset());
        let (bytes, time) = match fate {
            Fate::Goes => {
                let from = self.gone.map_or(self.next(), |(from, _)| from);
                self.gone = Some((from, last));
                return Ok(());
            }
            Fate::Stays => (batch, header.max_timestamp),
            Fate::Becomes(bytes) => {
                let header = batch::header(bytes).map_err(io::Error::other)?;
                (bytes, header.max_timestamp)
            }
        };
        if self.next() < first {
            // Deleted before it was settled, or gone with the batches before.
            self.gone = Some((self.next(), first - 1));
        }
        self.fill()?;
        self.writer.add(first..=last, time, bytes).map_err(into_io)
    }

    /// The offset after what was written.
    fn next(&self) -> i64 {
        self.writer.segment.last_offset + 1
    }

    /// Writes what stands for the offsets that are gone.
    fn fill(&mut self) -> io::Result<()> {
        let Some((mut first, last)) = self.gone.take() else {
            return Ok(());
        };
        while first <= last {
            let until = last.min(first + i64::from(i32::MAX));
            let filler = batch::filler(first, until);
            let added = self.writer.add(first..=until, -1, &filler);
            added.map_err(into_io)?;
            first = until + 1;
        }
        Ok(())
    }
}

/// Where these segments are among all, if all of them are, next to each other.
fn holds(all: &[Segment], some: &[Segment]) -> Option<usize> {
    let first = some.first().map_or(i64::MIN, |first| first.base_offset);
    let at = all.partition_point(|segment| segment.base_offset < first);
    let there = all.get(at..at + some.len())?;
    let same = there.iter().zip(some).all(|(left, right)| left.is(right));
    same.then_some(at)
}

fn paths(id: crate::PartitionId, segment: &Segment) -> [String; 2] {
    [
        segment::log_path(id, segment),
        segment::index_path(id, segment),
    ]
}

/// Best effort: what stays is removed before the name is used again, or by the sweep of the next start.
fn remove(shared: &Shared, paths: &[String]) {
    for path in paths {
        let _stays = shared.disk.remove(path).is_err();
    }
}

/// The file is new and nobody relies on it: trouble with it is no reason to stop the log.
fn into_io(trouble: Trouble) -> io::Error {
    match trouble {
        Trouble::Later(error) | Trouble::Broken(error) => error,
    }
}
