//! Start-up: the last snapshot, then every frame after it, up to the torn tail.
//!
//! Invariants: what was acknowledged is never cut; nothing is deleted; a log whose parts do not
//! belong together is not opened, and stays as it is.

mod cut_short;
mod replay;
mod stop_mark;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::committer::End;
use crate::disk::Open;
use crate::journal::{self, Found, JournalFile, read_frame};
use crate::shared::{Cut, Shared};
use crate::snapshot::{self, Snapshot};
use crate::sync::read;
use crate::{OpenError, Reader, Recovery, segment};
use replay::Replay;
pub(crate) use stop_mark::leave_stop_mark;

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
    if stop_mark::take_stop_mark(&**disk)? == Some(from.sequence) {
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
