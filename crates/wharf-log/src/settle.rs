//! Settling: the live batches of the oldest journal files move to their partitions' segments.
//!
//! Several files at once, because every partition that has batches in them costs a sync.
//!
//! Invariants: partitions learn of the new segment bytes only after those are synced, and the
//! journal file goes only after a snapshot that knows them is durable; so a crash at any point
//! leaves either the journal file in charge (what was written beyond the segments' valid lengths is
//! cut and written again) or the segments. Damaged batches are left out, their file is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use wharf_message::Timestamp;

use crate::disk::{DiskFile, Open};
use crate::journal::{self, JournalFile};
use crate::partition::{BatchRef, Partition, Segment};
use crate::reader::intact;
use crate::segment::{self, Indexer};
use crate::shared::{Shared, count};
use crate::sync::{lock, read, write};
use crate::writer::{COPY_BYTES, Writer};
use crate::{DamagedRange, PartitionId, Policy};

/// The directory of journal files that hold damage and are kept.
pub(crate) const DAMAGED: &str = "damaged";
/// Where segments are rolled when nothing is known of the partition's settings.
const SEGMENT_BYTES: u64 = 1 << 30;

/// Where a journal file that holds damage is kept.
pub(crate) fn damaged_path(number: u64) -> String {
    format!("{DAMAGED}/{number:016x}.wal")
}

/// Why maintenance stopped.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing is broken; the next call may succeed.
    Later(io::Error),
    /// A write or sync failed: what the disk holds is unknown.
    Broken(io::Error),
}

impl Trouble {
    /// A failed write or sync; a full disk breaks nothing.
    pub(crate) fn write(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Later(error),
            _ => Self::Broken(error),
        }
    }
}

/// What becomes of one partition.
struct Settled {
    partition: Arc<Partition>,
    /// The changed or new segments.
    segments: Vec<Segment>,
    damaged: Vec<DamagedRange>,
    /// Its last batch that was handled.
    through: Option<i64>,
}

/// Settles what one partition has in the journal now, in whatever file; the files stay. Returns whether
/// there was anything.
pub(crate) fn settle_partition(
    shared: &Shared,
    policy: &dyn Policy,
    partition: &Arc<Partition>,
    now: Timestamp,
) -> Result<bool, Trouble> {
    let numbers = shared.journal.numbers();
    let Some(mut work) = Work::new(shared, policy, &numbers, now) else {
        return Ok(false);
    };
    let settled = match work.partition(partition) {
        Ok(settled) => settled,
        Err(trouble) => {
            work.give_back();
            return Err(trouble);
        }
    };
    work.sync_names()?;
    let any = settled.through.is_some();
    take_over(shared, settled);
    Ok(any)
}

/// Settles these journal files: the oldest ones, all sealed, in order.
pub(crate) fn settle(
    shared: &Shared,
    policy: &dyn Policy,
    numbers: &[u64],
    now: Timestamp,
) -> Result<(), Trouble> {
    let Some(mut work) = Work::new(shared, policy, numbers, now) else {
        return Ok(());
    };
    let touched: BTreeSet<PartitionId> = numbers
        .iter()
        .flat_map(|number| shared.journal.touched(*number))
        .collect();
    let mut settled = Vec::new();
    for id in touched {
        let Some(partition) = shared.table.get(id) else {
            continue;
        };
        match work.partition(&partition) {
            Ok(one) => settled.push(one),
            Err(trouble) => {
                work.give_back();
                return Err(trouble);
            }
        }
    }
    work.sync_names()?;
    for one in settled {
        take_over(shared, one);
    }
    for number in numbers {
        rename_damage(shared, *number);
        shared.journal.retire(*number);
    }
    Ok(())
}

/// Lets a partition's new segments count instead of its journal entries.
fn take_over(shared: &Shared, settled: Settled) {
    let Settled {
        partition,
        segments,
        damaged,
        through,
    } = settled;
    let Some(through) = through else { return };
    for segment in &segments {
        shared.segments.forget(partition.id, segment);
    }
    let mut data = write(&partition.data);
    for segment in segments {
        match data.segments.last_mut() {
            Some(last) if last.base_offset == segment.base_offset => *last = segment,
            _ => data.segments.push(segment),
        }
    }
    for range in damaged {
        data.note_damage(range);
    }
    shared.index_shrank(data.drop_index_front(|batch| batch.last_offset() <= through));
    if data
        .segments
        .first()
        .is_some_and(|segment| segment.last_offset < data.start)
    {
        lock(&shared.chores).advanced.insert(partition.id);
    }
}

/// Damage in a settled journal file is found where the file will be kept.
fn rename_damage(shared: &Shared, number: u64) {
    let (old, new) = (journal::path(number), damaged_path(number));
    let rename = |ranges: &mut Vec<DamagedRange>| {
        for range in ranges.iter_mut().filter(|range| range.path == old) {
            range.path.clone_from(&new);
        }
    };
    rename(&mut write(&shared.lost));
    for partition in shared.table.all() {
        if !read(&partition.data).damaged.is_empty() {
            rename(&mut write(&partition.data).damaged);
        }
    }
}

struct Work<'a> {
    shared: &'a Shared,
    policy: &'a dyn Policy,
    files: BTreeMap<u64, Arc<JournalFile>>,
    /// The last of them.
    newest: u64,
    now: Timestamp,
    /// Directories in which names were created.
    new_names: BTreeSet<String>,
    /// Files written, with the length they had (`None`: they did not exist).
    undo: Vec<(String, Option<u64>)>,
}

impl<'a> Work<'a> {
    fn new(
        shared: &'a Shared,
        policy: &'a dyn Policy,
        numbers: &[u64],
        now: Timestamp,
    ) -> Option<Self> {
        let file = |number: &u64| shared.journal.file(*number).map(|file| (*number, file));
        Some(Self {
            shared,
            policy,
            files: numbers.iter().filter_map(file).collect(),
            newest: *numbers.last()?,
            now,
            new_names: BTreeSet::new(),
            undo: Vec::new(),
        })
    }

    fn partition(&mut self, partition: &Arc<Partition>) -> Result<Settled, Trouble> {
        let (last, batches) = {
            let data = read(&partition.data);
            let newest = self.newest;
            let mine = data.index.iter().take_while(|batch| batch.file <= newest);
            let last = data.segments.last().copied();
            (
                last.filter(|last| data.closed != Some(last.base_offset)),
                mine.copied().collect::<Vec<BatchRef>>(),
            )
        };
        let mut settled = Settled {
            partition: Arc::clone(partition),
            segments: Vec::new(),
            damaged: Vec::new(),
            through: batches.last().map(BatchRef::last_offset),
        };
        let Some(first) = batches.first() else {
            return Ok(settled);
        };
        let retention = self.policy.retention(partition.id);
        let roll = Roll {
            bytes: retention
                .as_ref()
                .map_or(SEGMENT_BYTES, |retention| retention.segment_bytes),
            age: retention.map_or(u64::MAX, |retention| {
                u64::try_from(retention.segment_age.as_millis()).unwrap_or(u64::MAX)
            }),
        };
        let mut writer = match last.filter(|last| !roll.due(last, first, self.now)) {
            Some(segment) => self.resume(partition.id, segment)?,
            None => self.create(partition.id, first)?,
        };
        for run in runs(&batches) {
            let bytes = run.iter().map(|batch| batch.bytes as usize).sum();
            let position = u64::from(run[0].position);
            let file = self
                .files
                .get(&run[0].file)
                .ok_or_else(|| gone(run[0].file))?;
            // Fewer when the file was cut short: what is missing is damaged.
            let mut rest = file.read_up_to(position, bytes).map_err(Trouble::Later)?;
            for batch in run {
                let content = rest.split_to(rest.len().min(batch.bytes as usize));
                let whole = content.len() == batch.bytes as usize;
                if !whole || !intact(&content, batch.base_offset) {
                    settled.damaged.push(damage(partition.id, batch));
                    continue;
                }
                if roll.due(&writer.segment, batch, self.now) && writer.segment.bytes > 0 {
                    settled.segments.push(writer.finish()?);
                    writer = self.create(partition.id, batch)?;
                }
                let offsets = batch.base_offset..=batch.last_offset();
                writer.add(offsets, batch.max_timestamp, &content)?;
            }
        }
        settled.segments.push(writer.finish()?);
        // A segment in which nothing could be written does not exist.
        settled.segments.retain(|segment| segment.bytes > 0);
        let bytes = batches.iter().map(|batch| u64::from(batch.bytes)).sum();
        count(&self.shared.counters.settled_bytes, bytes);
        Ok(settled)
    }

    /// Goes on with a segment at its valid length.
    fn resume(&mut self, partition: PartitionId, segment: Segment) -> Result<Writer, Trouble> {
        let open = self
            .shared
            .segments
            .open(partition, &segment)
            .map_err(Trouble::Later)?;
        let path = segment::log_path(partition, &segment);
        let file = self
            .shared
            .disk
            .open(&path, Open::Existing)
            .map_err(Trouble::Later)?;
        let index = self.open_index(partition, &segment)?;
        let index_bytes = (open.loaded * segment::ENTRY_BYTES) as u64;
        for (file, bytes) in [(&file, segment.bytes), (&index, index_bytes)] {
            if file.len().map_err(Trouble::Later)? > bytes {
                file.truncate(bytes).map_err(Trouble::write)?;
            }
        }
        self.undo.push((path, Some(segment.bytes)));
        let indexer = Indexer::resume(open.index.last(), segment.max_timestamp);
        let mut writer = Writer::new(segment, indexer, file, index);
        writer.resume_index(&open);
        Ok(writer)
    }

    fn open_index(
        &mut self,
        partition: PartitionId,
        segment: &Segment,
    ) -> Result<Arc<dyn DiskFile>, Trouble> {
        let path = segment::index_path(partition, segment);
        match self.shared.disk.open(&path, Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.new_names.insert(segment::directory(partition));
                self.shared
                    .disk
                    .open(&path, Open::New)
                    .map_err(Trouble::write)
            }
            other => other.map_err(Trouble::Later),
        }
    }

    /// Begins a segment with `first`. What an interrupted settling left under its name goes.
    fn create(&mut self, partition: PartitionId, first: &BatchRef) -> Result<Writer, Trouble> {
        let disk = &self.shared.disk;
        let directory = segment::directory(partition);
        disk.create_dir(&directory).map_err(Trouble::write)?;
        self.new_names.insert(segment::DIRECTORY.to_owned());
        self.new_names.insert(directory);
        let open = |path: &str| {
            disk.remove(path)
                .and_then(|()| disk.open(path, Open::New))
                .map_err(Trouble::write)
        };
        let segment = Segment {
            base_offset: first.base_offset,
            last_offset: first.base_offset - 1,
            bytes: 0,
            first_timestamp: first.max_timestamp,
            max_timestamp: i64::MIN,
            generation: 0,
        };
        let (log, index) = (
            segment::log_path(partition, &segment),
            segment::index_path(partition, &segment),
        );
        let (file, index_file) = (open(&log)?, open(&index)?);
        self.undo.extend([(log, None), (index, None)]);
        Ok(Writer::new(segment, Indexer::new(), file, index_file))
    }

    /// Makes the names of new files and directories durable.
    fn sync_names(&self) -> Result<(), Trouble> {
        let sync = |directory: &String| self.shared.disk.sync_dir(directory);
        self.new_names
            .iter()
            .try_for_each(sync)
            .map_err(Trouble::write)
    }

    /// After a failure: what was written is of no use and may fill the disk. Best effort: what stays
    /// lies beyond the valid lengths and is cut by the next attempt.
    fn give_back(&self) {
        for (path, bytes) in &self.undo {
            let _already_failing = match bytes {
                None => self.shared.disk.remove(path),
                Some(bytes) => self
                    .shared
                    .disk
                    .open(path, Open::Existing)
                    .and_then(|file| file.truncate(*bytes)),
            };
        }
    }
}

fn damage(partition: PartitionId, batch: &BatchRef) -> DamagedRange {
    DamagedRange {
        partition: Some(partition),
        first: batch.base_offset,
        last: batch.last_offset(),
        path: journal::path(batch.file),
        position: u64::from(batch.position),
    }
}

fn gone(file: u64) -> Trouble {
    Trouble::Later(io::Error::new(io::ErrorKind::NotFound, journal::path(file)))
}

/// When a new segment begins.
struct Roll {
    bytes: u64,
    /// Milliseconds.
    age: u64,
}

impl Roll {
    /// Whether `batch` goes into a segment after `segment`.
    fn due(&self, segment: &Segment, batch: &BatchRef, now: Timestamp) -> bool {
        // By the records' own time; by the clock for records that come without one.
        let time = if batch.max_timestamp < 0 {
            now.as_millis()
        } else {
            batch.max_timestamp
        };
        let age = u64::try_from(time.saturating_sub(segment.first_timestamp)).unwrap_or(0);
        let aged = segment.first_timestamp >= 0 && age > self.age;
        segment.bytes > 0 && (segment.bytes + u64::from(batch.bytes) > self.bytes || aged)
    }
}

/// Splits batches into runs that adjoin in the journal and are read at once.
fn runs(batches: &[BatchRef]) -> Vec<&[BatchRef]> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for at in 0..batches.len() {
        bytes += batches[at].bytes as usize;
        let ends = batches.get(at + 1).is_none_or(|next| {
            !batches[at].adjoins(next) || bytes + next.bytes as usize > COPY_BYTES
        });
        if ends {
            runs.push(&batches[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    runs
}
