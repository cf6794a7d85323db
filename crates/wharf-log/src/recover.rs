//! Start-up: the last snapshot, then every frame after it, up to the torn tail.
//!
//! Invariants: what was acknowledged is never cut. A frame that cannot be read is a torn tail only
//! if no later frame says that it had been durable; else it is damage: its range is refused, the
//! frames after it count. What is cut is wiped before anything is written, so that it can never be
//! taken for a frame again. Nothing is deleted here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::committer::End;
use crate::disk::{Disk, Open};
use crate::frame::{ALIGNMENT, AppendEntry, Entry, Header};
use crate::journal::{self, Found, JournalFile, ReadFrame, find_frame, read_frame};
use crate::reader::intact;
use crate::shared::{Cut, Effect, Lost, Shared};
use crate::snapshot::{self, Snapshot};
use crate::sync::{lock, read, write};
use crate::{DamagedRange, OpenError, Reader, Recovery, segment};

/// The file that a graceful stop leaves and the next start takes away.
const STOP_MARK: &str = "stopped";

/// What start-up found.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Where the committer goes on.
    pub(crate) end: End,
    pub(crate) recovery: Recovery,
    /// The cut of the snapshot.
    pub(crate) snapshot: Cut,
}

/// Opens, replays, cuts.
pub(crate) fn recover(shared: &Arc<Shared>) -> Result<Recovered, OpenError> {
    let disk = &shared.disk;
    for directory in [journal::DIRECTORY, segment::DIRECTORY, snapshot::DIRECTORY] {
        disk.create_dir(directory)
            .map_err(|source| failed(directory, source))?;
    }
    // Names that a killed process made or changed may not be durable yet; what follows relies on them.
    for directory in ["", journal::DIRECTORY, snapshot::DIRECTORY] {
        disk.sync_dir(directory)
            .map_err(|source| failed(directory, source))?;
    }
    let files = open_files(shared)?;
    let snapshot = snapshot::load(&**disk, |snapshot| covered(snapshot, &files))?;
    let from = match snapshot {
        Some(snapshot) => {
            let cut = snapshot.cut;
            snapshot::install(shared, snapshot);
            cut
        }
        None => {
            check_beginning(shared, &files)?;
            Cut::default()
        }
    };
    let needed = needed(shared);
    let mut replay = Replay::new(shared, &files, from);
    if take_stop_mark(&**disk)? == Some(from.sequence) {
        replay.nothing_follows = true;
    } else {
        replay.run()?;
    }
    let end = replay.finish(|number| number < from.file && !needed.contains(&number))?;
    let mut recovery = replay.recovery;
    recovery.damaged = Reader::new(Arc::clone(shared)).damaged();
    Ok(Recovered {
        end,
        recovery,
        snapshot: from,
    })
}

/// Takes away the mark of a graceful stop and returns the sequence of the last frame, if the mark can
/// be read. It is gone for good before anything is written.
fn take_stop_mark(disk: &dyn Disk) -> Result<Option<u64>, OpenError> {
    let failed = |source| failed(STOP_MARK, source);
    let file = match disk.open(STOP_MARK, Open::Existing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut text = [0; 16];
    let count = file.read_at(&mut text, 0).map_err(failed)?;
    disk.remove(STOP_MARK).map_err(failed)?;
    disk.sync_dir("").map_err(failed)?;
    let text = std::str::from_utf8(&text[..count])
        .ok()
        .filter(|text| text.len() == 16);
    Ok(text.and_then(|text| u64::from_str_radix(text, 16).ok()))
}

/// After the final snapshot: says that nothing follows the frame with this sequence, so that the next
/// start has nothing to look for.
pub(crate) fn leave_stop_mark(disk: &dyn Disk, sequence: u64) -> io::Result<()> {
    disk.remove(STOP_MARK)?;
    let file = disk.open(STOP_MARK, Open::New)?;
    file.write_at(format!("{sequence:016x}").as_bytes(), 0)?;
    file.sync()?;
    disk.sync_dir("")
}

/// Whether the journal still has the batches that a snapshot refers to, and what followed it.
fn covered(snapshot: &Snapshot, files: &Files) -> Result<(), String> {
    let missing = |number| format!("it needs {}, which is missing", journal::path(number));
    for (_, data) in &snapshot.partitions {
        for batch in &data.index {
            if !files.contains_key(&batch.file) {
                return Err(missing(batch.file));
            }
        }
    }
    let cut = snapshot.cut;
    if cut.sequence == 0 || files.contains_key(&cut.file) {
        return Ok(());
    }
    // The file of the cut may be recycled once it is sealed; then the next one goes on from it.
    match files
        .range(cut.file..)
        .next()
        .map(|(_, file)| read_frame(file, 0, None))
    {
        Some(Ok(Found::Frame(frame))) if frame.header.sequence > cut.sequence + 1 => {
            Err(missing(cut.file))
        }
        _ => Ok(()),
    }
}

/// A log without a snapshot is new: its journal begins with the first frame or is empty.
fn check_beginning(shared: &Shared, files: &Files) -> Result<(), OpenError> {
    let reason = |reason: &str| {
        Err(OpenError::Snapshot {
            path: snapshot::DIRECTORY.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let segments = shared
        .disk
        .list(segment::DIRECTORY)
        .map_err(|source| failed(segment::DIRECTORY, source))?;
    let first = files.values().next().map(|file| read_frame(file, 0, None));
    match first {
        // Segments may be there: the first settling was interrupted before its snapshot.
        Some(Ok(Found::Frame(frame))) if frame.header.sequence == 1 => Ok(()),
        Some(Ok(Found::Frame(_))) => {
            reason("there is none, but the journal does not begin with the first frame")
        }
        _ if segments.is_empty() => Ok(()),
        _ => reason("there is none, but there are segments"),
    }
}

/// The journal files that the log's memory refers to.
fn needed(shared: &Shared) -> BTreeSet<u64> {
    let mut needed = BTreeSet::new();
    for partition in shared.table.all() {
        let data = read(&partition.data);
        needed.extend(data.index.iter().map(|batch| batch.file));
        needed.extend(
            data.damaged
                .iter()
                .filter_map(|range| journal_number(&range.path)),
        );
    }
    needed.extend(
        read(&shared.lost)
            .iter()
            .filter_map(|range| journal_number(&range.path)),
    );
    needed
}

fn journal_number(path: &str) -> Option<u64> {
    journal::number(path.strip_prefix(journal::DIRECTORY)?.strip_prefix('/')?)
}

fn failed(path: &str, source: io::Error) -> OpenError {
    OpenError::Disk {
        path: path.to_owned(),
        source,
    }
}

type Files = BTreeMap<u64, Arc<JournalFile>>;

fn open_files(shared: &Shared) -> Result<Files, OpenError> {
    let entries = shared
        .disk
        .list(journal::DIRECTORY)
        .map_err(|source| failed(journal::DIRECTORY, source))?;
    let mut files = Files::new();
    for entry in entries {
        let Some(number) = journal::number(&entry.name) else {
            continue;
        };
        let path = journal::path(number);
        let file = shared
            .disk
            .open(&path, Open::Existing)
            .map_err(|source| failed(&path, source))?;
        files.insert(
            number,
            Arc::new(JournalFile {
                number,
                bytes: entry.bytes,
                file,
            }),
        );
    }
    Ok(files)
}

/// Walks the frames from a cut on.
struct Replay<'a> {
    shared: &'a Shared,
    files: &'a Files,
    /// The last frame that took effect.
    cut: Cut,
    /// Set once a frame could not be read: later frames fill the gaps it left.
    lost: Option<Lost>,
    /// What the frames carry, once one is known.
    secret: Option<u64>,
    /// Set when there is no frame at all after the cut.
    nothing_follows: bool,
    /// The last frames, as long as no later one says that they are durable.
    unproven: VecDeque<Unproven>,
    recovery: Recovery,
}

/// A frame that was read back but may be in the operating system's cache only: its process was
/// killed before a sync, or the sync failed.
struct Unproven {
    sequence: u64,
    file: Arc<JournalFile>,
    position: u64,
    frame: Bytes,
}

/// What follows the last frame.
enum Next {
    Frame {
        position: u64,
        file: Arc<JournalFile>,
        frame: Box<ReadFrame>,
    },
    /// Nothing readable with the next sequence.
    Unreadable,
}

/// What the frames after an unreadable one say.
struct Later {
    /// The first of them.
    position: u64,
    file: Arc<JournalFile>,
    sequence: u64,
    /// Whether one of them says that the unreadable one had been durable.
    acknowledged: bool,
}

impl<'a> Replay<'a> {
    fn new(shared: &'a Shared, files: &'a Files, cut: Cut) -> Self {
        Self {
            shared,
            files,
            cut,
            lost: None,
            secret: (cut.sequence > 0).then(|| shared.secret.load(Ordering::Relaxed)),
            nothing_follows: false,
            unproven: VecDeque::new(),
            recovery: Recovery::default(),
        }
    }

    fn run(&mut self) -> Result<(), OpenError> {
        loop {
            match self.next()? {
                Next::Frame {
                    position,
                    file,
                    frame,
                } => {
                    if !frame.payload_intact {
                        let from = position + frame.header.padded_bytes();
                        let later = self.later(&file, from, frame.header.sequence)?;
                        if !later.is_some_and(|later| later.acknowledged) {
                            return Ok(());
                        }
                    }
                    self.apply(&file, position, &frame);
                }
                Next::Unreadable => {
                    let (file, from) = self.after_cut();
                    let Some(file) = file else { return Ok(()) };
                    let later = self.later(&file, from, self.cut.sequence + 1)?;
                    let Some(later) = later.filter(|later| later.acknowledged) else {
                        return Ok(());
                    };
                    self.skip_to(&file, from, &later);
                }
            }
        }
    }

    /// The file and position after the last frame.
    fn after_cut(&self) -> (Option<Arc<JournalFile>>, u64) {
        match self.files.get(&self.cut.file) {
            Some(file) => (Some(Arc::clone(file)), self.cut.position),
            None => (self.file_after(self.cut.file), 0),
        }
    }

    fn file_after(&self, number: u64) -> Option<Arc<JournalFile>> {
        self.files
            .range(number + 1..)
            .next()
            .map(|(_, file)| Arc::clone(file))
    }

    fn read(&self, file: &JournalFile, position: u64) -> Result<Option<Box<ReadFrame>>, OpenError> {
        let path = journal::path(file.number);
        match read_frame(file, position, self.secret).map_err(|source| failed(&path, source))? {
            Found::Nothing => Ok(None),
            Found::Frame(frame) => Ok(Some(frame)),
            Found::OtherVersion(version) => Err(OpenError::Format {
                path,
                found: u32::from(version),
                supported: u32::from(crate::frame::VERSION),
            }),
        }
    }

    fn next(&self) -> Result<Next, OpenError> {
        let wanted = self.cut.sequence + 1;
        let (file, position) = self.after_cut();
        let Some(file) = file else {
            return Ok(Next::Unreadable);
        };
        let rotated = self.file_after(file.number).map(|next| (next, 0));
        for (file, position) in [Some((file, position)), rotated].into_iter().flatten() {
            if let Some(frame) = self.read(&file, position)?
                && frame.header.sequence == wanted
            {
                return Ok(Next::Frame {
                    position,
                    file,
                    frame,
                });
            }
        }
        Ok(Next::Unreadable)
    }

    /// Looks for frames after the unreadable one with this sequence.
    fn later(
        &mut self,
        file: &Arc<JournalFile>,
        from: u64,
        unreadable: u64,
    ) -> Result<Option<Later>, OpenError> {
        let mut first: Option<Later> = None;
        self.nothing_follows = true;
        for frame in Frames::new(self.files, file, from, self.secret) {
            let (file, position, header) = frame?;
            self.nothing_follows = false;
            if header.sequence <= unreadable {
                continue;
            }
            let sequence = header.sequence;
            let later = first.get_or_insert(Later {
                position,
                file,
                sequence,
                acknowledged: false,
            });
            if header.synced >= unreadable {
                later.acknowledged = true;
                break;
            }
        }
        Ok(first)
    }

    /// Goes on at a later frame, remembering what was skipped.
    fn skip_to(&mut self, file: &JournalFile, position: u64, later: &Later) {
        let path = journal::path(file.number);
        self.lost = Some(Lost {
            path: path.clone(),
            position,
        });
        let range = DamagedRange {
            partition: None,
            first: 0,
            last: -1,
            path,
            position,
        };
        write(&self.shared.lost).push(range);
        self.cut = Cut {
            sequence: later.sequence - 1,
            file: later.file.number,
            position: later.position,
        };
    }

    fn apply(&mut self, file: &Arc<JournalFile>, position: u64, frame: &ReadFrame) {
        let header = &frame.header;
        self.secret = Some(header.secret);
        self.shared.secret.store(header.secret, Ordering::Relaxed);
        let end = position + header.padded_bytes();
        let cut = Cut {
            sequence: header.sequence,
            file: file.number,
            position: end,
        };
        let effect = Effect {
            cut,
            payload_at: position + header.payload_at(),
            time: Timestamp::from_millis(header.time),
            entries: &frame.entries,
        };
        self.shared.apply(effect, self.lost.as_ref());
        if frame.payload_intact {
            write(&self.shared.tail).push(
                file.number,
                position,
                frame.frame.clone(),
                self.shared.options.tail_bytes_max,
            );
        } else {
            for entry in &frame.entries {
                if let Entry::Append(append) = entry {
                    self.refuse_if_broken(file, position, frame, append);
                }
            }
        }
        while self
            .unproven
            .front()
            .is_some_and(|one| one.sequence <= header.synced)
        {
            self.unproven.pop_front();
        }
        if frame.payload_intact {
            self.unproven.push_back(Unproven {
                sequence: header.sequence,
                file: Arc::clone(file),
                position,
                frame: frame.frame.clone(),
            });
        }
        self.cut = cut;
        self.recovery.frames_replayed += 1;
    }

    /// Makes the last frames durable before anybody sees them. They are written again, because after
    /// a failed sync the operating system takes pages for clean that never reached the disk.
    fn prove(&mut self) -> Result<(), OpenError> {
        let mut written: BTreeMap<u64, Arc<JournalFile>> = BTreeMap::new();
        for unproven in self.unproven.drain(..) {
            let Unproven {
                file,
                position,
                frame,
                ..
            } = unproven;
            file.file
                .write_at(&frame, position)
                .map_err(|source| failed(&journal::path(file.number), source))?;
            written.insert(file.number, file);
        }
        sync_all(written)
    }

    /// A batch of a frame whose payload is damaged.
    fn refuse_if_broken(
        &self,
        file: &JournalFile,
        position: u64,
        frame: &ReadFrame,
        append: &AppendEntry,
    ) {
        let payload_at = usize::try_from(frame.header.payload_at()).unwrap_or(usize::MAX);
        let start = payload_at.saturating_add(append.position as usize);
        let bytes = frame
            .frame
            .get(start..start.saturating_add(append.bytes as usize));
        if bytes.is_some_and(|bytes| intact(bytes, append.base_offset)) {
            return;
        }
        let Some(partition) = self.shared.table.get(append.partition) else {
            return;
        };
        let mut data = write(&partition.data);
        if data.refuse(append.base_offset) {
            self.shared.index_shrank(1);
        }
        data.note_damage(DamagedRange {
            partition: Some(append.partition),
            first: append.base_offset,
            last: append.last_offset(),
            path: journal::path(file.number),
            position: position + frame.header.payload_at() + u64::from(append.position),
        });
    }

    /// Wipes what follows the last frame and hands the files over.
    fn finish(&mut self, retired: impl Fn(u64) -> bool) -> Result<End, OpenError> {
        self.prove()?;
        let (file, from) = self.after_cut();
        if let Some(file) = file {
            self.wipe(&file, from)?;
        }
        let mut active = None;
        for (number, file) in self.files {
            self.shared.journal.used_up_to(*number);
            if retired(*number) {
                self.shared.journal.adopt_retired(Arc::clone(file));
            } else if *number <= self.cut.file {
                self.shared.journal.adopt(Arc::clone(file));
                active = Some(Arc::clone(file)).filter(|_| *number == self.cut.file);
            } else if file.bytes == self.shared.options.journal_file_bytes {
                self.shared.journal.adopt_ready(Arc::clone(file));
            } else {
                // Half made, or made with another size: never used.
                let path = journal::path(*number);
                self.shared
                    .disk
                    .remove(&path)
                    .map_err(|source| failed(&path, source))?;
            }
        }
        *lock(&self.shared.cut) = self.cut;
        Ok(End {
            active,
            position: self.cut.position,
            sequence: self.cut.sequence,
        })
    }

    /// Zeroes the header of every frame from `from` on: none of them was acknowledged.
    fn wipe(&mut self, file: &Arc<JournalFile>, from: u64) -> Result<(), OpenError> {
        let mut wiped: BTreeMap<u64, Arc<JournalFile>> = BTreeMap::new();
        let mut cut = Vec::new();
        let frames = Frames::new(self.files, file, from, self.secret);
        for frame in frames.take(if self.nothing_follows { 0 } else { usize::MAX }) {
            let (file, position, header) = frame?;
            cut.push((file, position, header.padded_bytes()));
        }
        let known = cut
            .first()
            .is_some_and(|first| first.0.number == file.number && first.1 == from);
        if let Some(bytes) = torn_bytes(file, from)?
            && !known
        {
            cut.insert(0, (Arc::clone(file), from, bytes));
        }
        for (file, position, bytes) in cut {
            self.recovery.torn_tail_bytes += bytes;
            file.file
                .write_at(&[0; ALIGNMENT], position)
                .map_err(|source| failed(&journal::path(file.number), source))?;
            wiped.insert(file.number, file);
        }
        sync_all(wiped)
    }
}

fn sync_all(files: BTreeMap<u64, Arc<JournalFile>>) -> Result<(), OpenError> {
    files.into_iter().try_for_each(|(number, file)| {
        let synced = file.file.sync();
        synced.map_err(|source| failed(&journal::path(number), source))
    })
}

/// The claimed size of a torn frame whose first sector arrived.
fn torn_bytes(file: &JournalFile, position: u64) -> Result<Option<u64>, OpenError> {
    if position + ALIGNMENT as u64 > file.bytes {
        return Ok(None);
    }
    let first = file
        .read(position, ALIGNMENT)
        .map_err(|source| failed(&journal::path(file.number), source))?;
    Ok(match Header::parse(&first) {
        crate::frame::Parsed::Header(header) if header.file == file.number => {
            Some(header.padded_bytes().min(file.bytes - position))
        }
        _ => None,
    })
}

/// All frames with a right header and meta from a position on, through all later files.
struct Frames<'a> {
    files: &'a Files,
    file: Option<Arc<JournalFile>>,
    position: u64,
    secret: Option<u64>,
}

impl<'a> Frames<'a> {
    fn new(files: &'a Files, file: &Arc<JournalFile>, position: u64, secret: Option<u64>) -> Self {
        Self {
            files,
            file: Some(Arc::clone(file)),
            position,
            secret,
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<(Arc<JournalFile>, u64, Header), OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let file = self.file.clone()?;
            match find_frame(&file, self.position, self.secret) {
                Err(source) => {
                    self.file = None;
                    return Some(Err(failed(&journal::path(file.number), source)));
                }
                Ok(Some((position, header))) => {
                    self.position = position + header.padded_bytes();
                    return Some(Ok((file, position, header)));
                }
                Ok(None) => {
                    let next = self.files.range(file.number + 1..).next();
                    self.file = next.map(|(_, file)| Arc::clone(file));
                    self.position = 0;
                }
            }
        }
    }
}
