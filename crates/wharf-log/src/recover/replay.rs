//! Replaying frames: from the snapshot's cut to the end, telling damage from a torn tail.
//!
//! Invariants: a frame that cannot be read is a torn tail only if no later frame says that it had
//! been durable; else it is damage: its range is refused, the frames after it count. What is cut is
//! wiped before anything is written, so that it can never be taken for a frame again. What nobody
//! calls durable is made so before anybody sees it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::{Files, cut_short, failed};
use crate::committer::{End, ends};
use crate::frame::{ALIGNMENT, AppendEntry, Entry, Header};
use crate::journal::{self, Found, JournalFile, ReadFrame, find_frame, read_frame};
use crate::reader::intact;
use crate::shared::{Cut, Effect, Lost, Shared};
use crate::sync::{lock, write};
use crate::{DamagedRange, OpenError, PartitionId, Recovery};

/// Walks the frames from a cut on.
pub(super) struct Replay<'a> {
    shared: &'a Shared,
    files: &'a Files,
    /// The last frame that took effect.
    cut: Cut,
    /// Set once a frame could not be read: later frames fill the gaps it left.
    lost: Option<Lost>,
    /// What the frames carry, once one is known.
    secret: Option<u64>,
    /// Set when there is no frame at all after the cut.
    pub(super) nothing_follows: bool,
    /// The last frames, as long as no later one says that they are durable.
    unproven: VecDeque<Unproven>,
    /// The ends that the last frame gave: the next one repeats them.
    ended: BTreeMap<PartitionId, i64>,
    pub(super) recovery: Recovery,
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
    pub(super) fn new(shared: &'a Shared, files: &'a Files, cut: Cut) -> Self {
        Self {
            shared,
            files,
            cut,
            lost: None,
            secret: (cut.sequence > 0).then(|| shared.secret.load(Ordering::Relaxed)),
            nothing_follows: false,
            unproven: VecDeque::new(),
            ended: BTreeMap::new(),
            recovery: Recovery::default(),
        }
    }

    pub(super) fn run(&mut self) -> Result<(), OpenError> {
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
                            return self.end();
                        }
                    }
                    self.apply(&file, position, &frame);
                }
                Next::Unreadable => {
                    let (file, from) = self.after_cut();
                    let Some(file) = file else { return self.end() };
                    let later = self.later(&file, from, self.cut.sequence + 1)?;
                    let Some(later) = later.filter(|later| later.acknowledged) else {
                        return self.end();
                    };
                    self.skip_to(&file, from, &later);
                }
            }
        }
    }

    /// The log ends here, unless a file that should go on was cut short.
    fn end(&self) -> Result<(), OpenError> {
        cut_short::check(self.files, self.cut, self.secret)
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
            let gone = write(&self.shared.tail).push(
                file.number,
                position,
                frame.frame.clone(),
                self.shared.options.tail_bytes_max,
            );
            drop(gone);
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
        self.ended = ends(&frame.entries);
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
    pub(super) fn finish(&mut self, retired: impl Fn(u64) -> bool) -> Result<End, OpenError> {
        self.prove()?;
        let (file, from) = self.after_cut();
        if let Some(file) = file {
            self.wipe(&file, from)?;
        }
        let mut active = None;
        let mut removed = false;
        for (number, file) in self.files {
            self.shared.journal.used_up_to(*number);
            if retired(*number) {
                self.shared.journal.adopt_retired(Arc::clone(file));
            } else if *number <= self.cut.file {
                self.shared.journal.adopt(Arc::clone(file));
                active = Some(Arc::clone(file)).filter(|_| *number == self.cut.file);
            } else if file.bytes == self.shared.options.journal_file_bytes {
                // A process that was killed while it made the file may not have come to that.
                let synced = file.file.sync();
                synced.map_err(|source| failed(&journal::path(*number), source))?;
                self.shared.journal.adopt_ready(Arc::clone(file));
            } else {
                // Half made, or made with another size: never used.
                let path = journal::path(*number);
                self.shared
                    .disk
                    .remove(&path)
                    .map_err(|source| failed(&path, source))?;
                removed = true;
            }
        }
        if removed {
            // Were it to come back after a power loss, it would lie before files made since.
            let synced = self.shared.disk.sync_dir(journal::DIRECTORY);
            synced.map_err(|source| failed(journal::DIRECTORY, source))?;
        }
        *lock(&self.shared.cut) = self.cut;
        Ok(End {
            active,
            position: self.cut.position,
            sequence: self.cut.sequence,
            ended: std::mem::take(&mut self.ended),
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
///
/// The committer syncs a file before it writes into the next one. So once a whole later file shows no
/// frame, the files after it were never written to, and only their beginnings are looked at: a start
/// reads a bounded part of the files that are prepared ahead.
struct Frames<'a> {
    files: &'a Files,
    file: Option<Arc<JournalFile>>,
    position: u64,
    secret: Option<u64>,
    /// Whether `file` comes after the one in which the search began.
    later: bool,
    /// Whether `file` showed a frame.
    found: bool,
    /// Whether a whole later file showed none.
    barren: bool,
}

impl<'a> Frames<'a> {
    fn new(files: &'a Files, file: &Arc<JournalFile>, position: u64, secret: Option<u64>) -> Self {
        Self {
            files,
            file: Some(Arc::clone(file)),
            position,
            secret,
            later: false,
            found: false,
            barren: false,
        }
    }

    /// Goes on to the next file worth searching.
    fn advance(&mut self, searched: u64) -> io::Result<()> {
        self.barren |= self.later && !self.found;
        (self.later, self.found, self.position) = (true, false, 0);
        self.file = None;
        for (_, file) in self.files.range(searched + 1..) {
            let begins = || read_frame(file, 0, self.secret);
            if !self.barren || matches!(begins()?, Found::Frame(_)) {
                self.file = Some(Arc::clone(file));
                break;
            }
        }
        Ok(())
    }

    fn search(&mut self) -> io::Result<Option<(Arc<JournalFile>, u64, Header)>> {
        while let Some(file) = self.file.clone() {
            if let Some((position, header)) = find_frame(&file, self.position, self.secret)? {
                self.found = true;
                self.position = position + header.padded_bytes();
                return Ok(Some((file, position, header)));
            }
            self.advance(file.number)?;
        }
        Ok(None)
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<(Arc<JournalFile>, u64, Header), OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.file.as_ref()?.number;
        let found = self.search();
        if found.is_err() {
            self.file = None;
        }
        found
            .map_err(|source| failed(&journal::path(number), source))
            .transpose()
    }
}
