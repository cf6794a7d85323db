//! Snapshots: the log's memory at one cut between two frames, so that start-up scans only what
//! followed. docs/specs/disk-format.md.
//!
//! Invariants: a snapshot never outruns the durable journal; it is written beside the old one,
//! synced, renamed, and its directory synced before anything it replaces may go; what is read back is
//! checked whole before any of it is used. Decoding never panics or allocates beyond its input.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use wharf_message::Timestamp;

use crate::disk::{Disk, Open};
use crate::partition::{BatchRef, Data, Partition, Segment};
use crate::producers::{Producer, Producers, Remembered};
use crate::shared::{Cut, Shared, State};
use crate::snapshot_check::contradiction;
use crate::sync::{lock, read, write};
use crate::transactions::{AbortedEntry, AbortedIndex};
use crate::{Aborted, DamagedRange, OpenError, PartitionId};

/// The directory of snapshots.
pub(crate) const DIRECTORY: &str = "snapshot";
const MAGIC: [u8; 8] = *b"WHARFSNP";
/// The format version written. Version 1, which had no transactions, is read as well.
const VERSION: u32 = 2;
/// The oldest format version read.
const VERSION_MIN: u32 = 1;
/// Magic, version, a reserved word, the length of the body.
const HEADER_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
/// Stands for an offset or a time that there is not.
const NO_OFFSET: i64 = -1;
/// How much is written at once.
const WRITE_BYTES: usize = 1 << 20;
/// How many snapshots are kept: the newest, and the one before in case it cannot be read.
const KEPT: usize = 2;

fn path(sequence: u64) -> String {
    format!("{DIRECTORY}/{sequence:016x}.snap")
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name
        .strip_suffix(".snap")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// What a snapshot says.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) cut: Cut,
    pub(crate) secret: u64,
    pub(crate) state: State,
    pub(crate) partitions: Vec<(PartitionId, Data)>,
    pub(crate) lost: Vec<DamagedRange>,
}

/// Copies the log's memory as it is between two frames.
pub(crate) fn encode(shared: &Shared) -> (Cut, Bytes) {
    let cut = lock(&shared.cut);
    let mut output = BytesMut::with_capacity(4096);
    output.put_slice(&MAGIC);
    output.put_u32_le(VERSION);
    output.put_u32_le(0);
    output.put_u64_le(0);
    output.put_u64_le(cut.sequence);
    output.put_u64_le(cut.file);
    output.put_u64_le(cut.position);
    output.put_u64_le(shared.secret.load(Ordering::Relaxed));
    let state = read(&shared.state);
    output.put_u64_le(state.len() as u64);
    for (key, value) in state.iter() {
        put_bytes(&mut output, key);
        put_bytes(&mut output, value);
    }
    drop(state);
    let partitions = shared.table.all();
    output.put_u64_le(partitions.len() as u64);
    for partition in partitions {
        output.put_u64_le(partition.id.0);
        put_partition(&mut output, &read(&partition.data));
    }
    put_damage(&mut output, &read(&shared.lost));
    let cut = *cut;
    let body = (output.len() - HEADER_BYTES) as u64;
    output[16..HEADER_BYTES].copy_from_slice(&body.to_le_bytes());
    let crc = crc32c::crc32c(&output);
    output.put_u32_le(crc);
    (cut, output.freeze())
}

fn put_count(output: &mut BytesMut, count: usize) {
    output.put_u32_le(u32::try_from(count).expect("lists in memory are shorter than 2^32"));
}

fn put_bytes(output: &mut BytesMut, bytes: &[u8]) {
    put_count(output, bytes.len());
    output.put_slice(bytes);
}

fn put_partition(output: &mut BytesMut, data: &Data) {
    output.put_i64_le(data.start);
    output.put_i64_le(data.end);
    put_count(output, data.segments.len());
    for segment in &data.segments {
        output.put_i64_le(segment.base_offset);
        output.put_i64_le(segment.last_offset);
        output.put_u64_le(segment.bytes);
        output.put_i64_le(segment.first_timestamp);
        output.put_i64_le(segment.max_timestamp);
        output.put_u32_le(segment.generation);
    }
    put_count(output, data.index.len());
    for batch in &data.index {
        output.put_i64_le(batch.base_offset);
        output.put_i64_le(batch.max_timestamp);
        output.put_u64_le(batch.file);
        output.put_u32_le(batch.position);
        output.put_u32_le(batch.bytes);
        output.put_u32_le(batch.last_delta);
    }
    let none = Producers::default();
    let producers = data.producers.as_deref().unwrap_or(&none);
    put_count(output, producers.iter().len());
    for (id, producer) in producers.iter() {
        output.put_i64_le(id);
        output.put_i16_le(producer.epoch);
        output.put_i64_le(producer.time.as_millis());
        output.put_i64_le(producer.transaction_start.unwrap_or(NO_OFFSET));
        output.put_i32_le(producer.coordinator_epoch);
        put_count(output, producer.batches().len());
        for batch in producer.batches() {
            output.put_i32_le(batch.first_sequence);
            output.put_i64_le(batch.base_offset);
            output.put_u32_le(batch.last_delta);
            output.put_i64_le(batch.max_timestamp);
        }
    }
    put_damage(output, &data.damaged);
    put_count(output, data.aborted.iter().len());
    for entry in data.aborted.iter() {
        output.put_i64_le(entry.transaction.producer_id);
        output.put_i64_le(entry.transaction.first_offset);
        output.put_i64_le(entry.transaction.last_offset);
        output.put_i64_le(entry.stable_after);
    }
    output.put_i64_le(data.compacted.end);
    output.put_i64_le(data.compacted.horizon.unwrap_or(NO_OFFSET));
}

fn put_damage(output: &mut BytesMut, damaged: &[DamagedRange]) {
    put_count(output, damaged.len());
    for range in damaged {
        output.put_i64_le(range.first);
        output.put_i64_le(range.last);
        output.put_u64_le(range.position);
        put_bytes(output, range.path.as_bytes());
    }
}

/// Why bytes are no snapshot.
#[derive(Debug)]
enum Unreadable {
    Version(u32),
    Because(&'static str),
}

fn decode(bytes: &Bytes) -> Result<Snapshot, Unreadable> {
    let because = Unreadable::Because;
    if bytes.len() < HEADER_BYTES + CRC_BYTES {
        return Err(because("it is shorter than a header"));
    }
    if bytes[..8] != MAGIC {
        return Err(because("it does not start with the mark of a snapshot"));
    }
    let end = bytes.len() - CRC_BYTES;
    if (&bytes[end..]).get_u32_le() != crc32c::crc32c(&bytes[..end]) {
        return Err(because("its checksum is wrong"));
    }
    let mut input = bytes.slice(8..end);
    let version = input.get_u32_le();
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(Unreadable::Version(version));
    }
    input.advance(4);
    if input.get_u64_le() != input.len() as u64 {
        return Err(because("its length is wrong"));
    }
    let snapshot = decode_body(&mut input, version).ok_or(because("its content ends early"))?;
    if let Some(contradiction) = contradiction(&snapshot) {
        return Err(because(contradiction));
    }
    if input.has_remaining() {
        Err(because("bytes follow its content"))
    } else {
        Ok(snapshot)
    }
}

fn decode_body(input: &mut Bytes, version: u32) -> Option<Snapshot> {
    let cut = Cut {
        sequence: input.try_get_u64_le().ok()?,
        file: input.try_get_u64_le().ok()?,
        position: input.try_get_u64_le().ok()?,
    };
    let secret = input.try_get_u64_le().ok()?;
    let mut snapshot = Snapshot {
        cut,
        secret,
        ..Snapshot::default()
    };
    for _ in 0..input.try_get_u64_le().ok()? {
        let key = get_bytes(input)?;
        snapshot.state.insert(key, get_bytes(input)?);
    }
    for _ in 0..input.try_get_u64_le().ok()? {
        let id = PartitionId(input.try_get_u64_le().ok()?);
        snapshot
            .partitions
            .push((id, get_partition(input, id, version)?));
    }
    snapshot.lost = get_damage(input, None)?;
    Some(snapshot)
}

fn get_bytes(input: &mut Bytes) -> Option<Bytes> {
    let count = usize::try_from(input.try_get_u32_le().ok()?).ok()?;
    // A copy: the state must not keep the whole snapshot in memory.
    (count <= input.len()).then(|| Bytes::copy_from_slice(&input.split_to(count)))
}

fn get_partition(input: &mut Bytes, id: PartitionId, version: u32) -> Option<Data> {
    let mut data = Data {
        start: input.try_get_i64_le().ok()?,
        end: input.try_get_i64_le().ok()?,
        ..Data::default()
    };
    for _ in 0..input.try_get_u32_le().ok()? {
        data.segments.push(Segment {
            base_offset: input.try_get_i64_le().ok()?,
            last_offset: input.try_get_i64_le().ok()?,
            bytes: input.try_get_u64_le().ok()?,
            first_timestamp: input.try_get_i64_le().ok()?,
            max_timestamp: input.try_get_i64_le().ok()?,
            generation: if version >= 2 {
                input.try_get_u32_le().ok()?
            } else {
                0
            },
        });
    }
    for _ in 0..input.try_get_u32_le().ok()? {
        let batch = BatchRef {
            base_offset: input.try_get_i64_le().ok()?,
            max_timestamp: input.try_get_i64_le().ok()?,
            file: input.try_get_u64_le().ok()?,
            position: input.try_get_u32_le().ok()?,
            bytes: input.try_get_u32_le().ok()?,
            last_delta: input.try_get_u32_le().ok()?,
        };
        data.index_bytes += u64::from(batch.bytes);
        data.index.push_back(batch);
    }
    let producers = get_producers(input, version)?;
    data.producers = (!producers.is_empty()).then(|| Box::new(producers));
    data.damaged = get_damage(input, Some(id))?;
    if version >= 2 {
        data.aborted = get_aborted(input)?;
        data.compacted.end = input.try_get_i64_le().ok()?;
        let horizon = input.try_get_i64_le().ok()?;
        data.compacted.horizon = (horizon != NO_OFFSET).then_some(horizon);
    }
    Some(data)
}

fn get_producers(input: &mut Bytes, version: u32) -> Option<Producers> {
    let mut producers = Producers::default();
    for _ in 0..input.try_get_u32_le().ok()? {
        let id = input.try_get_i64_le().ok()?;
        let epoch = input.try_get_i16_le().ok()?;
        let time = Timestamp::from_millis(input.try_get_i64_le().ok()?);
        let mut producer = Producer::new(epoch, time);
        if version >= 2 {
            let start = input.try_get_i64_le().ok()?;
            producer.transaction_start = (start != NO_OFFSET).then_some(start);
            producer.coordinator_epoch = input.try_get_i32_le().ok()?;
        }
        for _ in 0..input.try_get_u32_le().ok()? {
            producer.remember(Remembered {
                first_sequence: input.try_get_i32_le().ok()?,
                base_offset: input.try_get_i64_le().ok()?,
                last_delta: input.try_get_u32_le().ok()?,
                max_timestamp: input.try_get_i64_le().ok()?,
            });
        }
        producers.insert(id, producer);
    }
    Some(producers)
}

fn get_aborted(input: &mut Bytes) -> Option<AbortedIndex> {
    let mut aborted = AbortedIndex::default();
    for _ in 0..input.try_get_u32_le().ok()? {
        let transaction = Aborted {
            producer_id: input.try_get_i64_le().ok()?,
            first_offset: input.try_get_i64_le().ok()?,
            last_offset: input.try_get_i64_le().ok()?,
        };
        aborted.push(AbortedEntry {
            transaction,
            stable_after: input.try_get_i64_le().ok()?,
        });
    }
    Some(aborted)
}

fn get_damage(input: &mut Bytes, partition: Option<PartitionId>) -> Option<Vec<DamagedRange>> {
    let mut damaged = Vec::new();
    for _ in 0..input.try_get_u32_le().ok()? {
        damaged.push(DamagedRange {
            partition,
            first: input.try_get_i64_le().ok()?,
            last: input.try_get_i64_le().ok()?,
            position: input.try_get_u64_le().ok()?,
            path: String::from_utf8(get_bytes(input)?.to_vec()).ok()?,
        });
    }
    Some(damaged)
}

/// Takes a snapshot and makes it durable; older ones than the one before go.
pub(crate) fn take(shared: &Shared) -> io::Result<Cut> {
    let (cut, bytes) = encode(shared);
    // Frames that were only buffered must not be missing when the snapshot says they were there.
    shared.sync_journal()?;
    let disk = &*shared.disk;
    match store(disk, cut.sequence, &bytes) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            // The new snapshot may be what frees space: the one before the newest makes room.
            remove_all_but(disk, 1)?;
            store(disk, cut.sequence, &bytes)?;
        }
        other => other?,
    }
    remove_all_but(disk, KEPT)?;
    Ok(cut)
}

fn store(disk: &dyn Disk, sequence: u64, bytes: &Bytes) -> io::Result<()> {
    let target = path(sequence);
    let temporary = format!("{target}.tmp");
    disk.remove(&temporary)?;
    let file = disk.open(&temporary, Open::New)?;
    let written = bytes
        .chunks(WRITE_BYTES)
        .enumerate()
        .try_for_each(|(index, chunk)| file.write_at(chunk, (index * WRITE_BYTES) as u64));
    if let Err(error) = written {
        // Give the space back; what cannot be removed is overwritten next time.
        let _the_write_failed = disk.remove(&temporary);
        return Err(error);
    }
    file.sync()?;
    disk.rename(&temporary, &target)?;
    disk.sync_dir(DIRECTORY)
}

/// Removes the snapshots before the newest: they name files that are about to go.
pub(crate) fn keep_newest(disk: &dyn Disk) -> io::Result<()> {
    remove_all_but(disk, 1)?;
    disk.sync_dir(DIRECTORY)
}

/// Removes the oldest snapshots.
fn remove_all_but(disk: &dyn Disk, kept: usize) -> io::Result<()> {
    let (_, sequences) = list(disk)?;
    let gone = sequences.len().saturating_sub(kept);
    sequences
        .iter()
        .take(gone)
        .try_for_each(|sequence| disk.remove(&path(*sequence)))
}

/// Half-written files and the sequences of the snapshots, oldest first.
fn list(disk: &dyn Disk) -> io::Result<(Vec<String>, Vec<u64>)> {
    let mut half_written = Vec::new();
    let mut sequences = Vec::new();
    for entry in disk.list(DIRECTORY)? {
        match sequence_of(&entry.name) {
            Some(sequence) => sequences.push(sequence),
            None if entry.name.ends_with(".tmp") => half_written.push(entry.name),
            None => {}
        }
    }
    Ok((half_written, sequences))
}

/// Loads the newest snapshot that can be read and that `usable` accepts; `None` if there never was
/// one.
pub(crate) fn load(
    disk: &dyn Disk,
    usable: impl Fn(&Snapshot) -> Result<(), String>,
) -> Result<Option<Snapshot>, OpenError> {
    let failed = |path: &str, source| OpenError::Disk {
        path: path.to_owned(),
        source,
    };
    let (half_written, sequences) = list(disk).map_err(|source| failed(DIRECTORY, source))?;
    for name in half_written {
        let path = format!("{DIRECTORY}/{name}");
        disk.remove(&path).map_err(|source| failed(&path, source))?;
    }
    let mut newest_error = None;
    for sequence in sequences.into_iter().rev() {
        let path = path(sequence);
        let bytes = read_whole(disk, &path).map_err(|source| failed(&path, source))?;
        let reason = match decode(&bytes) {
            Err(Unreadable::Version(found)) => {
                return Err(OpenError::Format {
                    path,
                    found,
                    supported: VERSION,
                });
            }
            Err(Unreadable::Because(reason)) => reason.to_owned(),
            Ok(snapshot) => match usable(&snapshot) {
                Ok(()) => return Ok(Some(snapshot)),
                Err(reason) => reason,
            },
        };
        newest_error.get_or_insert(OpenError::Snapshot { path, reason });
    }
    newest_error.map_or(Ok(None), Err)
}

fn read_whole(disk: &dyn Disk, path: &str) -> io::Result<Bytes> {
    let file = disk.open(path, Open::Existing)?;
    let mut buffer = BytesMut::zeroed(usize::try_from(file.len()?).unwrap_or(usize::MAX));
    let count = file.read_at(&mut buffer, 0)?;
    buffer.truncate(count);
    Ok(buffer.freeze())
}

/// Puts a snapshot's content into an empty log.
pub(crate) fn install(shared: &Shared, snapshot: Snapshot) {
    *write(&shared.state) = snapshot.state;
    *write(&shared.lost) = snapshot.lost;
    for (id, data) in snapshot.partitions {
        shared
            .index_batches
            .fetch_add(data.index.len(), Ordering::Relaxed);
        for batch in &data.index {
            shared.journal.touch(batch.file, [id]);
        }
        for producer in data.producers.iter().flat_map(|known| known.open()) {
            shared.transactions.begin(producer, id);
        }
        let partition: Arc<Partition> = Partition::new(id, data);
        shared.table.insert(partition);
    }
    shared.secret.store(snapshot.secret, Ordering::Relaxed);
    *lock(&shared.cut) = snapshot.cut;
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
