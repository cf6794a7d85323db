//! Journal files: names, provision, reading frames back.
//!
//! Invariants: file numbers only grow, and a recycled file gets a new one, so a frame of its former
//! life never matches; a file is offered for writing only after its name and its zeros are durable;
//! a file that a reader holds is never recycled. The committer alone writes frames.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::PartitionId;
use crate::disk::{Disk, DiskFile, Open};
use crate::frame::{self, ALIGNMENT, Entry, Header, Parsed};
use crate::settle::{DAMAGED, damaged_path};
use crate::sync::lock;
use crate::walk::read_up_to;

/// The directory of journal files.
pub(crate) const DIRECTORY: &str = "journal";
/// How many files are kept prepared ahead of the committer: one is in use soon, one more covers a
/// settling that takes longer than filling a file.
pub(crate) const READY_FILES: usize = 2;
/// How much is read at once when looking for frames.
const SCAN_BYTES: usize = 1 << 20;

/// The path of the journal file with this number.
pub(crate) fn path(number: u64) -> String {
    format!("{DIRECTORY}/{number:016x}.wal")
}

/// The number in a journal file's name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name
        .strip_suffix(".wal")
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// An open journal file.
pub(crate) struct JournalFile {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl fmt::Debug for JournalFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JournalFile")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl JournalFile {
    /// The bytes at `position`, at most `bytes`: fewer when the file was cut short.
    pub(crate) fn read_up_to(&self, position: u64, bytes: usize) -> io::Result<Bytes> {
        read_up_to(&*self.file, position, bytes)
    }

    /// Reads exactly `bytes` at `position`; fewer is an error.
    pub(crate) fn read(&self, position: u64, bytes: usize) -> io::Result<Bytes> {
        let read = self.read_up_to(position, bytes)?;
        if read.len() < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

/// A frame read back.
#[derive(Debug)]
pub(crate) struct ReadFrame {
    pub(crate) header: Header,
    pub(crate) entries: Vec<Entry>,
    /// Header, meta and payload.
    pub(crate) frame: Bytes,
    /// Whether the payload's checksum is right.
    pub(crate) payload_intact: bool,
}

/// What is at a position of a journal file.
#[derive(Debug)]
pub(crate) enum Found {
    /// No frame of this life of the file, or one whose header or meta is broken.
    Nothing,
    /// A frame of a format version this code does not know.
    OtherVersion(u16),
    Frame(Box<ReadFrame>),
}

/// Reads the frame at `position`, which carries this secret (or any, as long as none is known).
pub(crate) fn read_frame(
    file: &JournalFile,
    position: u64,
    secret: Option<u64>,
) -> io::Result<Found> {
    if position + ALIGNMENT as u64 > file.bytes {
        return Ok(Found::Nothing);
    }
    let first = file.read(position, ALIGNMENT)?;
    let header = match Header::parse(&first) {
        Parsed::Nothing => return Ok(Found::Nothing),
        Parsed::OtherVersion(version) => return Ok(Found::OtherVersion(version)),
        Parsed::Header(header) => header,
    };
    // The sizes are not trusted yet: only what can be in the file is read.
    let strange = header.file != file.number || secret.is_some_and(|known| header.secret != known);
    if strange || position + header.padded_bytes() > file.bytes {
        return Ok(Found::Nothing);
    }
    let bytes = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
    let frame = if bytes <= first.len() {
        first.slice(..bytes)
    } else {
        file.read(position, bytes)?
    };
    if !frame::meta_holds(&frame, &header) {
        return Ok(Found::Nothing);
    }
    let payload_at = usize::try_from(header.payload_at()).unwrap_or(usize::MAX);
    let meta = frame.slice(frame::HEADER_BYTES..payload_at);
    let Some(entries) = frame::decode_meta(&meta, header.payload_bytes) else {
        return Ok(Found::Nothing);
    };
    let payload_intact = crc32c::crc32c(&frame[payload_at..]) == header.payload_crc;
    Ok(Found::Frame(Box::new(ReadFrame {
        header,
        entries,
        frame,
        payload_intact,
    })))
}

/// The first position at or after `from` with a frame of this life of the file whose header and
/// meta are right.
pub(crate) fn find_frame(
    file: &JournalFile,
    from: u64,
    secret: Option<u64>,
) -> io::Result<Option<(u64, Header)>> {
    let mut chunk_at = from;
    while chunk_at + ALIGNMENT as u64 <= file.bytes {
        let bytes = usize::try_from(file.bytes - chunk_at)
            .unwrap_or(usize::MAX)
            .min(SCAN_BYTES);
        let chunk = file.read(chunk_at, bytes)?;
        for at in (0..chunk.len()).step_by(ALIGNMENT) {
            let Parsed::Header(header) = Header::parse(&chunk[at..]) else {
                continue;
            };
            let position = chunk_at + at as u64;
            if header.file == file.number
                && matches!(read_frame(file, position, secret)?, Found::Frame(_))
            {
                return Ok(Some((position, header)));
            }
        }
        chunk_at += SCAN_BYTES as u64;
    }
    Ok(None)
}

#[derive(Debug, Default)]
struct Content {
    /// Files with frames in them, the active one included.
    files: BTreeMap<u64, Arc<JournalFile>>,
    /// Empty files, already named with the next numbers.
    ready: VecDeque<Arc<JournalFile>>,
    next_number: u64,
    /// The number of a half made file that could not be removed; 0 when there is none.
    left: u64,
    /// Which partitions have batches in a file.
    touched: BTreeMap<u64, BTreeSet<PartitionId>>,
    /// Files taken out of use, to be recycled after the next snapshot.
    retired: Vec<Arc<JournalFile>>,
}

/// The journal's files.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    /// How many files there are when nothing lags behind; recycled files beyond it are removed.
    files_max: usize,
    content: Mutex<Content>,
    /// Told when a file was taken out of use, or when waiting for that has no sense any more.
    retired: Condvar,
    /// Held while a file is made, so that only one is at a time.
    provision: Mutex<()>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Journal")
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl Journal {
    pub(crate) fn new(disk: Arc<dyn Disk>, file_bytes: u64, sealed_max: usize) -> Self {
        let content = Mutex::new(Content {
            next_number: 1,
            ..Content::default()
        });
        Self {
            disk,
            file_bytes,
            files_max: sealed_max + 1 + READY_FILES,
            content,
            retired: Condvar::new(),
            provision: Mutex::new(()),
        }
    }

    /// Start-up: a file that holds frames.
    pub(crate) fn adopt(&self, file: Arc<JournalFile>) {
        let mut content = lock(&self.content);
        content.next_number = content.next_number.max(file.number + 1);
        content.files.insert(file.number, file);
    }

    /// Start-up: a file that nothing refers to any more.
    pub(crate) fn adopt_retired(&self, file: Arc<JournalFile>) {
        lock(&self.content).retired.push(file);
    }

    /// Start-up: a file that holds none and comes after all that do.
    pub(crate) fn adopt_ready(&self, file: Arc<JournalFile>) {
        let mut content = lock(&self.content);
        content.next_number = content.next_number.max(file.number + 1);
        content.ready.push_back(file);
    }

    /// Start-up: numbers up to this one were used.
    pub(crate) fn used_up_to(&self, number: u64) {
        let mut content = lock(&self.content);
        content.next_number = content.next_number.max(number + 1);
    }

    pub(crate) fn file(&self, number: u64) -> Option<Arc<JournalFile>> {
        lock(&self.content).files.get(&number).cloned()
    }

    /// The numbers of the files with frames, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        lock(&self.content).files.keys().copied().collect()
    }

    pub(crate) fn file_count(&self) -> u64 {
        let content = lock(&self.content);
        (content.files.len() + content.ready.len() + content.retired.len()) as u64
    }

    pub(crate) fn ready_count(&self) -> usize {
        lock(&self.content).ready.len()
    }

    /// Notes that a partition has batches in a file.
    pub(crate) fn touch(&self, number: u64, partitions: impl IntoIterator<Item = PartitionId>) {
        let mut content = lock(&self.content);
        content
            .touched
            .entry(number)
            .or_default()
            .extend(partitions);
    }

    /// The partitions that have batches in a file.
    pub(crate) fn touched(&self, number: u64) -> Vec<PartitionId> {
        let content = lock(&self.content);
        content
            .touched
            .get(&number)
            .map(|set| set.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The next file to write into; makes one when none is prepared.
    pub(crate) fn take_ready(&self) -> io::Result<Arc<JournalFile>> {
        let _one_at_a_time = lock(&self.provision);
        if lock(&self.content).ready.is_empty() {
            self.make()?;
        }
        let mut content = lock(&self.content);
        let file = content.ready.pop_front().ok_or(io::ErrorKind::NotFound)?;
        content.files.insert(file.number, Arc::clone(&file));
        Ok(file)
    }

    /// Prepares a file ahead of need.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let _one_at_a_time = lock(&self.provision);
        if lock(&self.content).ready.len() < READY_FILES {
            self.make()
        } else {
            Ok(())
        }
    }

    fn make(&self) -> io::Result<()> {
        let (number, is_left) = {
            let content = lock(&self.content);
            (content.next_number, content.left == content.next_number)
        };
        let path = path(number);
        if is_left {
            self.disk.remove(&path)?;
            lock(&self.content).left = 0;
        }
        let made = self.disk.open(&path, Open::New).and_then(|file| {
            file.preallocate(self.file_bytes)?;
            file.sync()?;
            self.disk.sync_dir(DIRECTORY)?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.add_ready(JournalFile {
                    number,
                    bytes: self.file_bytes,
                    file,
                });
                Ok(())
            }
            Err(error) => {
                // Start-up takes only the last file for half made, so no other may follow it.
                if self.disk.remove(&path).is_err() {
                    lock(&self.content).left = number;
                }
                Err(error)
            }
        }
    }

    fn add_ready(&self, file: JournalFile) {
        let mut content = lock(&self.content);
        content.next_number = file.number + 1;
        content.ready.push_back(Arc::new(file));
    }

    /// Takes a file out of use: nothing in memory refers to it any more. It is recycled by
    /// [`Self::recycle`] once the durable snapshot does not refer to it either.
    pub(crate) fn retire(&self, number: u64) {
        let mut content = lock(&self.content);
        content.touched.remove(&number);
        if let Some(file) = content.files.remove(&number) {
            content.retired.push(file);
        }
        drop(content);
        self.retired.notify_all();
    }

    /// Whether at most `files_max` files hold frames.
    pub(crate) fn has_room(&self, files_max: usize) -> bool {
        lock(&self.content).files.len() <= files_max
    }

    /// Waits until at most `files_max` files hold frames, for `limit` at most, and only as long as
    /// `helps` says that it may come to that.
    pub(crate) fn wait_for_room(
        &self,
        files_max: usize,
        limit: Duration,
        helps: impl Fn() -> bool,
    ) {
        let content = lock(&self.content);
        let waiting = |content: &mut Content| content.files.len() > files_max && helps();
        let waited = self.retired.wait_timeout_while(content, limit, waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets who waits look again whether that helps.
    pub(crate) fn look_again(&self) {
        // With the lock, so that nobody is between looking and waiting.
        drop(lock(&self.content));
        self.retired.notify_all();
    }

    /// Gives retired files that no reader holds a new number, or removes them when there are enough;
    /// those in `damaged` are set aside. Call only after a snapshot that was cut after they were
    /// retired is durable.
    pub(crate) fn recycle(&self, damaged: &BTreeSet<u64>) -> io::Result<()> {
        let retired = std::mem::take(&mut lock(&self.content).retired);
        let mut result = Ok(());
        for file in retired {
            if result.is_ok() && damaged.contains(&file.number) {
                result = self.set_aside(file.number);
            } else if result.is_ok() && Arc::strong_count(&file) == 1 {
                result = self.recycle_one(&file);
            } else {
                lock(&self.content).retired.push(file);
                continue;
            }
            if result.is_err() {
                lock(&self.content).retired.push(file);
            }
        }
        result
    }

    /// Keeps a file that holds damage where nothing touches it any more.
    fn set_aside(&self, number: u64) -> io::Result<()> {
        self.disk.create_dir(DAMAGED)?;
        self.disk.sync_dir("")?;
        self.disk.rename(&path(number), &damaged_path(number))?;
        self.disk.sync_dir(DAMAGED)?;
        self.disk.sync_dir(DIRECTORY)
    }

    fn recycle_one(&self, file: &JournalFile) -> io::Result<()> {
        let _one_at_a_time = lock(&self.provision);
        let old = path(file.number);
        let (files, number) = {
            let content = lock(&self.content);
            (
                content.files.len() + content.ready.len(),
                content.next_number,
            )
        };
        if files >= self.files_max || file.bytes != self.file_bytes {
            self.disk.remove(&old)?;
            return self.disk.sync_dir(DIRECTORY);
        }
        self.disk.rename(&old, &path(number))?;
        self.disk.sync_dir(DIRECTORY)?;
        self.add_ready(JournalFile {
            number,
            bytes: file.bytes,
            file: Arc::clone(&file.file),
        });
        Ok(())
    }

    pub(crate) fn has_retired(&self) -> bool {
        !lock(&self.content).retired.is_empty()
    }

    pub(crate) fn retired_numbers(&self) -> Vec<u64> {
        lock(&self.content)
            .retired
            .iter()
            .map(|file| file.number)
            .collect()
    }
}
