//! Disks that break the contract of the seam, and a log that breaks its own, to show that the checkers
//! notice.
//!
//! No simulation of the log itself uses them: what they do to acknowledged data is not the log's
//! fault, and a simulation that finds nothing on such a disk would prove nothing elsewhere.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use wharf_log::batch::{self, Compression};
use wharf_log::disk::simulated::Random;
use wharf_log::disk::{Disk, DiskFile, Entry, Open};
use wharf_log::{Codec, Reader, Unit};

/// What frames of the journal are multiples of.
const BLOCK: u64 = 4096;
/// How a frame begins.
const FRAME_MAGIC: &[u8] = b"WHARFJNL";

/// How a disk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Syncs of files report success and do nothing.
    IgnoredSyncs,
    /// Syncs of directories report success and do nothing.
    IgnoredDirectorySyncs,
    /// Now and then a write reports success and does not happen.
    LostWrites,
    /// Now and then a write lands one block further on.
    MisdirectedWrites,
    /// Now and then a read has a flipped bit.
    FlippedReads,
    /// A new file is not empty once it is preallocated: it holds what the file removed or renamed
    /// last did. The log must cope with this one: its recycled files look like that.
    OldContent,
    /// The log ends a transaction in all its partitions but the last. (The unit is changed before the
    /// log gets it; the checkers know the original.)
    HalfEndedTransactions,
    /// The log takes a frame of long ago, which lies behind the last one, for the next. (The disk labels
    /// it anew, because the log itself looks at numbers and sequences.)
    StaleFrames,
    /// Snapshots count before they are on the disk.
    EarlySnapshots,
    /// The log appends a repeated batch again. (It is handed over without its producer; the checkers
    /// know the original.)
    AcceptedDuplicates,
    /// Compaction takes all keys of a length for the same one, so that it drops the newest records of
    /// the others. (It is handed other keys than there are when it decodes a batch.)
    MixedKeys,
    /// The segments that compaction replaces go before the new one is known durably. (They go as soon as
    /// the new one's name is.)
    EarlyRemovals,
}

/// What compaction is handed of a batch: its records, each key made of nothing but zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixedKeys;

impl Codec for MixedKeys {
    fn decompress(&self, _compression: Compression, input: &Bytes) -> io::Result<Bytes> {
        let mut mixed = BytesMut::from(&input[..]);
        let mut at = 0;
        while at < input.len() {
            let bytes = varint(input, &mut at);
            let end = at + usize::try_from(bytes).unwrap_or(0);
            at += 1;
            let _time_and_offset = (varint(input, &mut at), varint(input, &mut at));
            let key_bytes = usize::try_from(varint(input, &mut at)).unwrap_or(0);
            let key = &mut mixed[at..at + key_bytes];
            // Not those of markers.
            if key.starts_with(b"k") {
                key.fill(0);
            }
            at = end;
        }
        Ok(mixed.freeze())
    }

    fn compress(&self, _compression: Compression, input: &Bytes) -> io::Result<Bytes> {
        Ok(input.clone())
    }
}

/// The number at `at`, which moves on.
fn varint(input: &[u8], at: &mut usize) -> i64 {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = input[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Takes the producer out of batches that were appended before. Returns whether there was one.
pub(crate) fn forget_producers(unit: &mut Unit, reader: &Reader) -> bool {
    let mut struck = false;
    for append in &mut unit.appends {
        let Ok(header) = batch::header(&append.batch) else {
            continue;
        };
        let known = reader.producers(append.partition);
        let repeated = known.iter().any(|one| {
            one.producer_id == header.producer_id
                && one.epoch == header.producer_epoch
                && one.last_sequence >= header.base_sequence
        });
        if repeated && !header.is_transactional() {
            append.batch = without_producer(&append.batch);
            struck = true;
        }
    }
    struck
}

/// The same records of nobody in particular.
fn without_producer(batch: &Bytes) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    // Producer id, epoch and first sequence: -1 each.
    batch[43..57].fill(0xff);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

/// Leaves the last partition out of every end of a transaction over several. Returns whether there was
/// one.
pub(crate) fn half_end(unit: &mut Unit, reader: &Reader) -> bool {
    let mut struck = false;
    for end in &mut unit.transactions {
        let mut open = reader.open_transactions(end.producer);
        if end.partitions.is_none() && open.len() > 1 {
            open.pop();
            end.partitions = Some(open);
            struck = true;
        }
    }
    struck
}

/// Wraps `disk` so that it lies in the given way.
pub fn sabotaged(disk: Arc<dyn Disk>, sabotage: Sabotage, random: Random) -> Arc<dyn Disk> {
    let shared = Arc::new(Shared {
        sabotage,
        random: Mutex::new(random),
        old: Mutex::default(),
    });
    Arc::new(LyingDisk { disk, shared })
}

struct Shared {
    sabotage: Sabotage,
    random: Mutex<Random>,
    /// What the last file that went held, or a frame of before.
    old: Mutex<Vec<u8>>,
}

impl Shared {
    fn strikes(&self, sabotage: Sabotage) -> bool {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        self.sabotage == sabotage && random.one_in(40)
    }
}

struct LyingDisk {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
}

impl LyingDisk {
    fn keep_old_content(&self, path: &str) -> io::Result<()> {
        if self.shared.sabotage != Sabotage::OldContent {
            return Ok(());
        }
        if let Ok(file) = self.disk.open(path, Open::Existing) {
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
            file.read_at(&mut bytes, 0)?;
            *self
                .shared
                .old
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = bytes;
        }
        Ok(())
    }
}

impl LyingDisk {
    /// Removes the segments whose next generation is there.
    fn remove_replaced(&self, directory: &str) -> io::Result<()> {
        let names = self.disk.list(directory)?.into_iter();
        let names: Vec<String> = names.map(|entry| entry.name).collect();
        for name in names.iter().filter_map(|name| name.strip_suffix(".log")) {
            let (base, generation) = name.split_once('-').unwrap_or((name, "0"));
            let next = u32::from_str_radix(generation, 16).map_or(0, |number| number + 1);
            let next = format!("{base}-{next:08x}.log");
            if names.contains(&next) {
                self.disk.remove(&format!("{directory}/{name}.log"))?;
                self.disk.sync_dir(directory)?;
            }
        }
        Ok(())
    }
}

impl Disk for LyingDisk {
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(LyingFile {
            file,
            snapshot: path.starts_with("snapshot/"),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.keep_old_content(from)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.keep_old_content(path)?;
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        if self.shared.sabotage == Sabotage::IgnoredDirectorySyncs {
            return Ok(());
        }
        self.disk.sync_dir(path)?;
        if self.shared.sabotage == Sabotage::EarlyRemovals && path.starts_with("segments/") {
            self.remove_replaced(path)?;
        }
        Ok(())
    }
}

struct LyingFile {
    file: Arc<dyn DiskFile>,
    /// Whether it is a snapshot.
    snapshot: bool,
    shared: Arc<Shared>,
}

impl LyingFile {
    /// Now and then puts a frame of before behind the one that was written at `offset`.
    fn leave_stale_frame(&self, frame: &[u8], offset: u64) -> io::Result<()> {
        let mut old = self
            .shared
            .old
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let behind = offset + frame.len() as u64;
        if !old.is_empty()
            && self.shared.strikes(Sabotage::StaleFrames)
            && behind + old.len() as u64 <= self.file.len()?
        {
            self.file.write_at(&relabelled(&old, frame), behind)?;
        }
        if old.is_empty() || self.shared.strikes(Sabotage::StaleFrames) {
            *old = frame.to_vec();
        }
        Ok(())
    }
}

/// The frame `old` as if it had been written after `last`.
fn relabelled(old: &[u8], last: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        last[at..]
            .first_chunk()
            .copied()
            .map_or(0, u64::from_le_bytes)
    };
    let mut frame = old.to_vec();
    frame[16..24].copy_from_slice(&number(16).to_le_bytes());
    frame[24..32].copy_from_slice(&(number(24) + 1).to_le_bytes());
    frame[32..40].copy_from_slice(&number(24).to_le_bytes());
    let meta = frame[56..]
        .first_chunk()
        .copied()
        .map_or(0, u32::from_le_bytes);
    let end = 72 + usize::try_from(meta).unwrap_or(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..12]), &frame[16..end]);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
    frame
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, offset)?;
        if count > 0 && self.shared.strikes(Sabotage::FlippedReads) {
            buffer[count / 2] ^= 0x10;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.shared.strikes(Sabotage::LostWrites) {
            return Ok(());
        }
        let astray = self.shared.strikes(Sabotage::MisdirectedWrites);
        let astray = if astray { BLOCK } else { 0 };
        self.file.write_at(bytes, offset + astray)?;
        if self.shared.sabotage == Sabotage::StaleFrames && bytes.starts_with(FRAME_MAGIC) {
            return self.leave_stale_frame(bytes, offset);
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let early = self.snapshot && self.shared.sabotage == Sabotage::EarlySnapshots;
        if early || self.shared.sabotage == Sabotage::IgnoredSyncs {
            return Ok(());
        }
        self.file.sync()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let before = self.file.len()?;
        self.file.preallocate(bytes)?;
        let old = self
            .shared
            .old
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let end = usize::try_from(bytes).unwrap_or(0).min(old.len());
        match old.get(usize::try_from(before).unwrap_or(0)..end) {
            Some(old) if self.shared.sabotage == Sabotage::OldContent => {
                self.file.write_at(old, before)
            }
            _ => Ok(()),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
