//! Segments: settled batches of one partition, byte for byte, with a sparse index beside them.
//!
//! `segments/<partition, 16 hex digits>/<base offset, 20 digits>.log` holds Kafka record batches and
//! nothing else; the `.idx` beside it holds one entry per [`INDEX_INTERVAL`] bytes and can be rebuilt
//! from it. Compaction writes a segment anew under a name with its generation in it. Invariants: only the valid length known to the partition counts, whatever the file holds
//! beyond; batches are checked before they are returned; the base offset, which a batch's checksum
//! leaves out, counts only where the place of the batch confirms it; a bounded number of segments
//! stays open.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::PartitionId;
use crate::Want;
use crate::batch::{self, HEADER_BYTES, Header};
use crate::disk::{Disk, DiskFile, Open};
use crate::partition::Segment;
use crate::reader::intact;
use crate::sync::lock;
use crate::walk::{Gaps, Step, Walk, read_up_to};

/// The directory of segments.
pub(crate) const DIRECTORY: &str = "segments";
/// How far apart index entries are, at least.
pub(crate) const INDEX_INTERVAL: u64 = 64 << 10;
/// The size of an index entry on disk.
pub(crate) const ENTRY_BYTES: usize = 32;
/// How many index entries of all open segments are kept in memory at most (24 bytes each).
const INDEX_ENTRIES_MAX: usize = 4 << 20;

/// The directory of a partition's segments.
pub(crate) fn directory(partition: PartitionId) -> String {
    format!("{DIRECTORY}/{:016x}", partition.0)
}

/// The path of a segment's batches.
pub(crate) fn log_path(partition: PartitionId, segment: &Segment) -> String {
    path(partition, segment, "log")
}

/// The path of a segment's index.
pub(crate) fn index_path(partition: PartitionId, segment: &Segment) -> String {
    path(partition, segment, "idx")
}

/// Whether a path is one of a segment.
pub(crate) fn is_path(path: &str) -> bool {
    path.strip_prefix(DIRECTORY)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn path(partition: PartitionId, segment: &Segment, kind: &str) -> String {
    let (directory, base) = (directory(partition), segment.base_offset);
    match segment.generation {
        0 => format!("{directory}/{base:020}.{kind}"),
        generation => format!("{directory}/{base:020}-{generation:08x}.{kind}"),
    }
}

/// One entry of the sparse index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The base offset of the batch at `position`.
    pub(crate) offset: i64,
    pub(crate) position: u64,
    /// The newest time of all batches before `position` in the segment.
    pub(crate) max_before: i64,
}

impl IndexEntry {
    pub(crate) fn encode(&self, output: &mut BytesMut) {
        let start = output.len();
        output.put_i64_le(self.offset);
        output.put_u64_le(self.position);
        output.put_i64_le(self.max_before);
        let crc = crc32c::crc32c(&output[start..]);
        output.put_u32_le(crc);
        output.put_u32_le(0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = bytes.get(..ENTRY_BYTES)?;
        let crc = crc32c::crc32c(&input[..24]);
        let entry = Self {
            offset: input.get_i64_le(),
            position: input.get_u64_le(),
            max_before: input.get_i64_le(),
        };
        (input.get_u32_le() == crc).then_some(entry)
    }
}

/// Decides which batches get an index entry, in the order in which they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexer {
    last_position: Option<u64>,
    max_timestamp: i64,
}

impl Indexer {
    pub(crate) const fn new() -> Self {
        Self {
            last_position: None,
            max_timestamp: i64::MIN,
        }
    }

    /// Goes on after `last`, of a segment whose newest time is `max_timestamp`.
    pub(crate) fn resume(last: Option<&IndexEntry>, max_timestamp: i64) -> Self {
        Self {
            last_position: last.map(|entry| entry.position),
            max_timestamp,
        }
    }

    /// Takes note of the next batch.
    pub(crate) fn next(&mut self, offset: i64, position: u64, time: i64) -> Option<IndexEntry> {
        let due = self
            .last_position
            .is_none_or(|last| position - last >= INDEX_INTERVAL);
        let max_before = self.max_timestamp;
        self.max_timestamp = self.max_timestamp.max(time);
        if !due {
            return None;
        }
        self.last_position = Some(position);
        Some(IndexEntry {
            offset,
            position,
            max_before,
        })
    }
}

/// An open segment.
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) index: Vec<IndexEntry>,
    /// How many of the entries are right on the disk; the others were made from the batches.
    pub(crate) loaded: usize,
    /// The segment's valid length when it was opened.
    covered: u64,
}

impl fmt::Debug for OpenSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OpenSegment")
            .field("entries", &self.index.len())
            .finish()
    }
}

impl OpenSegment {
    /// Where to start looking for the batch that holds `offset`; `None`: at the beginning.
    fn seek_offset(&self, offset: i64) -> Option<&IndexEntry> {
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map(|at| &self.index[at])
    }

    /// Where to start looking for the first batch at or after `time`; `None`: at the beginning.
    fn seek_time(&self, time: i64) -> Option<&IndexEntry> {
        let after = self.index.partition_point(|entry| entry.max_before < time);
        after.checked_sub(1).map(|at| &self.index[at])
    }

    /// The offset of the first index entry after `position`.
    fn entry_after(&self, position: u64) -> Option<&IndexEntry> {
        self.index.get(
            self.index
                .partition_point(|entry| entry.position <= position),
        )
    }
}

/// What to read from a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    /// The offset that the first batch contains.
    pub(crate) from: i64,
    /// Where offsets may be missing before it.
    pub(crate) gaps: Gaps<'a>,
    /// Batches from this offset on are left out.
    pub(crate) stop_at: i64,
    pub(crate) bytes_max: usize,
    /// The first batch is read even if it is larger than that.
    pub(crate) at_least_one: bool,
}

/// Offsets that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) position: u64,
}

/// Whole batches between two places that the index knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aligned {
    /// One past the last offset.
    pub(crate) end: i64,
    pub(crate) bytes: usize,
}

/// What was read from a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Whole batches, joined.
    pub(crate) batches: Bytes,
    /// What stopped the read.
    pub(crate) broken: Option<Broken>,
}

#[derive(Debug, Default)]
struct Cache {
    open: BTreeMap<(PartitionId, i64, u32), (Arc<OpenSegment>, u64)>,
    entries: usize,
    tick: u64,
}

/// The open segments.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    open_max: usize,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Segments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Segments").finish_non_exhaustive()
    }
}

impl Segments {
    pub(crate) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self {
            disk,
            open_max: open_max.max(1),
            cache: Mutex::default(),
        }
    }

    /// The segment, opened or from the cache.
    pub(crate) fn open(
        &self,
        partition: PartitionId,
        segment: &Segment,
    ) -> io::Result<Arc<OpenSegment>> {
        let key = (partition, segment.base_offset, segment.generation);
        if let Some(open) = self.opened(partition, segment) {
            return Ok(open);
        }
        let opened = Arc::new(self.load(partition, segment)?);
        let mut cache = lock(&self.cache);
        let tick = cache.tick;
        cache.entries += opened.index.len();
        if let Some((raced, _)) = cache.open.insert(key, (Arc::clone(&opened), tick)) {
            cache.entries -= raced.index.len();
        }
        self.evict(&mut cache);
        Ok(opened)
    }

    /// The segment, if it is open.
    fn opened(&self, partition: PartitionId, segment: &Segment) -> Option<Arc<OpenSegment>> {
        let mut cache = lock(&self.cache);
        cache.tick += 1;
        let tick = cache.tick;
        let key = (partition, segment.base_offset, segment.generation);
        let (open, used) = cache.open.get_mut(&key)?;
        if open.covered < segment.bytes {
            return None;
        }
        *used = tick;
        Some(Arc::clone(open))
    }

    fn evict(&self, cache: &mut Cache) {
        while cache.open.len() > self.open_max
            || (cache.entries > INDEX_ENTRIES_MAX && cache.open.len() > 1)
        {
            let oldest = cache.open.iter().min_by_key(|(_, (_, used))| *used);
            let Some((&key, _)) = oldest else { return };
            if let Some((gone, _)) = cache.open.remove(&key) {
                cache.entries -= gone.index.len();
            }
        }
    }

    /// Forgets an open segment: it grew or goes.
    pub(crate) fn forget(&self, partition: PartitionId, segment: &Segment) {
        let key = (partition, segment.base_offset, segment.generation);
        let mut cache = lock(&self.cache);
        if let Some((gone, _)) = cache.open.remove(&key) {
            cache.entries -= gone.index.len();
        }
    }

    fn load(&self, partition: PartitionId, segment: &Segment) -> io::Result<OpenSegment> {
        let file = self
            .disk
            .open(&log_path(partition, segment), Open::Existing)?;
        let mut index = match self
            .disk
            .open(&index_path(partition, segment), Open::Existing)
        {
            Ok(file) => load_index(&*file, segment)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let loaded = index.len();
        complete_index(&*file, segment, &mut index)?;
        Ok(OpenSegment {
            file,
            index,
            loaded,
            covered: segment.bytes,
        })
    }

    /// Reads whole batches: at least one, unless the first is broken or too large, or there is none.
    pub(crate) fn read(
        &self,
        partition: PartitionId,
        segment: &Segment,
        range: Range<'_>,
    ) -> io::Result<Part> {
        let open = self.open(partition, segment)?;
        let from = open.seek_offset(range.from);
        let mut walk = Walk::new(&*open.file, segment, from, range.gaps);
        // What the walk met last: where the batch should be if the walk does not find it.
        let mut met = walk.position;
        let missing = |met, next: Option<Header>| {
            let mut broken = broken(&open, segment, range.from, met);
            if let Some(next) = next {
                broken.last = broken.last.min(next.base_offset - 1);
            }
            Part {
                batches: Bytes::new(),
                broken: Some(broken),
            }
        };
        loop {
            match walk.next()? {
                // The segment has the offset, so a batch that was met is not what it says.
                Step::End => return Ok(missing(met, None)),
                Step::Broken(position) => met = position,
                Step::Batch(position, header) if header.last_offset() < range.from => {
                    met = position;
                }
                Step::Batch(_, header) if header.base_offset > range.from => {
                    return Ok(missing(met, Some(header)));
                }
                Step::Batch(_, header)
                    if !range.at_least_one && header.batch_bytes() > range.bytes_max =>
                {
                    return Ok(Part::default());
                }
                Step::Batch(position, header) => {
                    let bytes = range.bytes_max.max(header.batch_bytes()) as u64;
                    let bytes = usize::try_from(bytes.min(segment.bytes - position)).unwrap_or(0);
                    let bytes = read_up_to(&*open.file, position, bytes)?;
                    return Ok(check(&open, segment, range, position, &bytes));
                }
            }
        }
    }

    /// Where the batches begin and end that a read from `offset` to below `until` would return, as far
    /// as the index tells; `None` when it does not. [`io::ErrorKind::WouldBlock`] when the disk is
    /// needed and may not be read.
    pub(crate) fn align(
        &self,
        partition: PartitionId,
        segment: &Segment,
        offset: i64,
        until: i64,
        want: Want,
    ) -> io::Result<Option<Aligned>> {
        let open = match self.opened(partition, segment) {
            Some(open) => open,
            None if want.may_block => self.open(partition, segment)?,
            None => return Err(io::ErrorKind::WouldBlock.into()),
        };
        let Some(from) = open.seek_offset(offset) else {
            return Ok(None);
        };
        let position = if from.offset == offset {
            from.position
        } else if !want.may_block {
            return Err(io::ErrorKind::WouldBlock.into());
        } else {
            let mut walk = Walk::new(&*open.file, segment, Some(from), Gaps::Nowhere);
            loop {
                match walk.next()? {
                    Step::Batch(_, header) if header.last_offset() < offset => {}
                    Step::Batch(position, header) if header.base_offset <= offset => {
                        break position;
                    }
                    // A read tells what that is.
                    _ => return Ok(None),
                }
            }
        };
        let limit = position.saturating_add(want.bytes_max as u64);
        let (end, bytes) = if segment.bytes <= limit && segment.last_offset < until {
            (segment.last_offset + 1, segment.bytes - position)
        } else {
            let fits = |entry: &IndexEntry| entry.position <= limit && entry.offset <= until;
            let after = open.index.partition_point(fits);
            let last = after.checked_sub(1).map(|at| &open.index[at]);
            let Some(last) = last.filter(|last| last.position > position) else {
                return Ok(None);
            };
            (last.offset, last.position - position)
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Some(Aligned { end, bytes }))
    }

    /// The header of the first batch at or after `time` that ends at or after offset `from`.
    pub(crate) fn first_at(
        &self,
        partition: PartitionId,
        segment: &Segment,
        time: i64,
        from: i64,
    ) -> io::Result<Option<Header>> {
        let open = self.open(partition, segment)?;
        let (by_time, by_offset) = (open.seek_time(time), open.seek_offset(from));
        let entry = by_time.into_iter().chain(by_offset);
        let entry = entry.max_by_key(|entry| entry.position);
        let mut walk = Walk::new(&*open.file, segment, entry, Gaps::Anywhere);
        while let Some((position, header)) = walk.next_batch()? {
            if header.max_timestamp < time || header.last_offset() < from {
                continue;
            }
            // A flipped time must not pass for a find: a broken batch is passed over.
            let batch = read_up_to(&*open.file, position, header.batch_bytes())?;
            if intact(&batch, header.base_offset) {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// The newest time of the batches that end at or after offset `from`.
    pub(crate) fn max_time_from(
        &self,
        partition: PartitionId,
        segment: &Segment,
        from: i64,
    ) -> io::Result<Option<i64>> {
        let open = self.open(partition, segment)?;
        let mut walk = Walk::new(&*open.file, segment, open.seek_offset(from), Gaps::Anywhere);
        let mut newest = None;
        while let Some((_, header)) = walk.next_batch()? {
            if header.last_offset() >= from {
                newest = newest.max(Some(header.max_timestamp));
            }
        }
        Ok(newest)
    }
}

/// The offsets that cannot be read because of what is at `position`.
fn broken(open: &OpenSegment, segment: &Segment, first: i64, position: u64) -> Broken {
    let next = open.entry_after(position).map(|entry| entry.offset);
    let last = next.map_or(segment.last_offset, |next| next - 1);
    Broken {
        first,
        last: last.max(first),
        position,
    }
}

/// The intact whole batches at the start of `bytes`, and what stopped the check, if anything did.
fn check(
    open: &OpenSegment,
    segment: &Segment,
    range: Range<'_>,
    position: u64,
    bytes: &Bytes,
) -> Part {
    let mut at = 0;
    let mut next = range.from;
    let mut found = None;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let here = position + at as u64;
        if rest.len() < HEADER_BYTES && at > 0 {
            break;
        }
        let header = batch::header(rest).ok();
        if at > 0 && header.is_some_and(|header| header.base_offset >= range.stop_at) {
            break;
        }
        // A batch's checksum leaves out its base offset, so its place must confirm it.
        let in_place = |header: &Header| {
            let follows = if at == 0 {
                header.base_offset <= next
            } else {
                header.base_offset == next
            };
            follows && (next..=segment.last_offset).contains(&header.last_offset())
        };
        let Some(header) = header.filter(in_place) else {
            // Behind other batches it is left to a read of its own, whose walk tells how far it goes.
            found = (at == 0).then(|| broken(open, segment, next, here));
            break;
        };
        let size = header.batch_bytes();
        let ends = at + size > bytes.len() || at + size > range.bytes_max;
        if at > 0 && ends {
            break;
        }
        if at + size > bytes.len() || !intact(&rest[..size], header.base_offset) {
            let (first, last) = (header.base_offset, header.last_offset());
            found = Some(Broken {
                first: first.min(next),
                last,
                position: here,
            });
            break;
        }
        next = header.last_offset() + 1;
        at += size;
    }
    Part {
        batches: bytes.slice(..at),
        broken: found,
    }
}

/// The index entries that are right and lie within the segment.
fn load_index(file: &dyn DiskFile, segment: &Segment) -> io::Result<Vec<IndexEntry>> {
    let bytes = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let most = usize::try_from(segment.bytes / INDEX_INTERVAL + 1).unwrap_or(usize::MAX);
    let bytes = read_up_to(file, 0, bytes.min(most.saturating_mul(ENTRY_BYTES)))?;
    let mut index: Vec<IndexEntry> = Vec::new();
    for entry in bytes
        .chunks_exact(ENTRY_BYTES)
        .map_while(IndexEntry::decode)
    {
        let follows = index.last().map_or(entry.position == 0, |last| {
            entry.offset > last.offset && entry.position >= last.position + INDEX_INTERVAL
        });
        if !follows || entry.position >= segment.bytes {
            break;
        }
        index.push(entry);
    }
    Ok(index)
}

/// Adds the entries that are missing, from the batches themselves.
fn complete_index(
    file: &dyn DiskFile,
    segment: &Segment,
    index: &mut Vec<IndexEntry>,
) -> io::Result<()> {
    let last = index.last().copied();
    let mut indexer = match &last {
        Some(entry) => Indexer::resume(Some(entry), entry.max_before),
        None => Indexer::new(),
    };
    // An entry is believed, so none is made of a batch after a gap, which nothing confirms.
    let mut walk = Walk::new(file, segment, last.as_ref(), Gaps::Nowhere);
    while let Some((position, header)) = walk.next_batch()? {
        index.extend(indexer.next(header.base_offset, position, header.max_timestamp));
    }
    Ok(())
}
