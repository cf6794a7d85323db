//! The committer: takes what is queued, writes it as frames, syncs, publishes, answers.
//!
//! Invariants:
//! - nothing is visible or answered before the sync that covers it, except groups in which every
//!   unit asked for [`Durability::Buffered`];
//! - a frame with a synced unit is written only when every frame before it is durable, so an
//!   unreadable frame followed by one that says so is damage, never a torn tail;
//! - after a failed write or sync nothing is ever acknowledged again;
//! - sectors of a written frame are never written again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_message::Timestamp;

use crate::frame::{self, ENDED_MAX, Entry, Identity, Origin};
use crate::journal::JournalFile;
use crate::plan::{Plan, Planned, Room};
use crate::queue::Waiting;
use crate::shared::{Cut, Effect, Shared, count};
use crate::sync::write;
use crate::{
    Attendance, CommitError, Committed, Done, Durability, Health, Observer, Options, PartitionId,
    Unit, Waiter,
};

/// How long the committer waits before it asks a full disk again.
const DISK_FULL_RETRY: Duration = Duration::from_millis(500);
/// The most that is kept free at the end of a journal file for units that free space.
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// Writes and syncs groups. One thread owns it.
pub struct Committer {
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    /// The file being written.
    active: Option<Arc<JournalFile>>,
    position: u64,
    /// The last frame's sequence.
    sequence: u64,
    /// The last frame known to be durable.
    synced: u64,
    /// The ends of the partitions that the last frame appended to.
    ended: BTreeMap<PartitionId, i64>,
    /// When the disk was last found full.
    full_since: Option<Timestamp>,
}

impl fmt::Debug for Committer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Committer")
            .field("sequence", &self.sequence)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Where recovery found the end of the journal.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) active: Option<Arc<JournalFile>>,
    pub(crate) position: u64,
    pub(crate) sequence: u64,
    /// The ends of the partitions that the last frame appended to, as far as it was read back.
    pub(crate) ended: BTreeMap<PartitionId, i64>,
}

/// A unit with its outcome, to be told when the group is done.
struct Judged {
    unit: Unit,
    done: Done,
    outcome: Result<Committed, CommitError>,
}

/// Why a group was not written.
enum Failure {
    Full,
    Broken,
}

/// The most a unit may add to a frame.
pub(crate) fn unit_bytes_max(options: &Options) -> usize {
    usize::try_from(options.journal_file_bytes / 4).unwrap_or(usize::MAX)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, observer: Arc<dyn Observer>, end: End) -> Self {
        Self {
            shared,
            observer,
            active: end.active,
            position: end.position,
            sequence: end.sequence,
            synced: end.sequence,
            ended: end.ended,
            full_since: None,
        }
    }

    /// What the committer's thread waits on, while others may commit in its place.
    pub fn waiter(&self) -> Waiter {
        Waiter::new(Arc::clone(&self.shared))
    }

    /// Commits what is queued, in the thread that has queued it and without waking another one; the
    /// caller lets go of `attendance` by this. When settling lags behind it is left to the thread
    /// that waits. Returns the number of units answered.
    pub fn run_attended(&mut self, attendance: Attendance, now: Timestamp) -> usize {
        if !attendance.has_room() {
            return 0;
        }
        attendance.leave();
        self.run_pending(now)
    }

    /// Commits everything queued so far, as one group or several; returns the number of units
    /// answered. Never blocks for more units.
    pub fn run_pending(&mut self, now: Timestamp) -> usize {
        let mut waiting = self.shared.queue.take();
        let count = waiting.len();
        while !waiting.is_empty() {
            self.commit_group(&mut waiting, now);
        }
        count
    }

    fn commit_group(&mut self, waiting: &mut VecDeque<Waiting>, now: Timestamp) {
        if self.shared.is_poisoned() {
            for (_unit, done) in waiting.drain(..) {
                done(Err(CommitError::Poisoned));
            }
            return;
        }
        let shared = Arc::clone(&self.shared);
        let (planned, mut group) = plan_group(&shared, waiting, now);
        let mut result = self.commit(planned, &group, now, false);
        // First what frees space goes on, into the reserve; at last what needs no space at all.
        for room in [Room::Reserve, Room::None] {
            if matches!(result, Err(Failure::Full)) {
                let (planned, replanned) = plan_into(&shared, room, group, now);
                group = replanned;
                result = self.commit(planned, &group, now, true);
            }
        }
        answer(&shared, group, result.as_ref().err());
    }

    /// Writes, syncs and publishes a group.
    fn commit(
        &mut self,
        mut planned: Planned,
        group: &[Judged],
        now: Timestamp,
        use_reserve: bool,
    ) -> Result<(), Failure> {
        let sync = group
            .iter()
            .any(|judged| judged.outcome.is_ok() && judged.unit.durability == Durability::Synced);
        if sync {
            // Also covers duplicates of batches that were only buffered.
            self.sync_written()?;
        }
        if planned.entries.is_empty() {
            return Ok(());
        }
        let entries = &mut planned.entries;
        let ended = self.ended.iter().take(ENDED_MAX);
        let ended = ended.map(|(&partition, &end)| Entry::Ended { partition, end });
        entries.splice(0..0, ended);
        let meta_bytes = entries.iter().map(frame::entry_bytes).sum();
        let bytes = frame::size(meta_bytes, planned.payload_bytes);
        let file = self.place(bytes as u64, now, use_reserve)?;
        let identity = Identity {
            file: file.number,
            sequence: self.sequence + 1,
            synced: self.synced,
            time: now.as_millis(),
            secret: self.shared.secret.load(Ordering::Relaxed),
            file_bytes: file.bytes,
        };
        let encoded = frame::encode(identity, &planned.entries, planned.payload_bytes, |frame| {
            planned.fill(frame)
        });
        if let Err(error) = file.file.write_at(&encoded.frame, self.position) {
            return Err(self.break_down(&error));
        }
        self.sequence += 1;
        self.shared.unsynced.store(true, Ordering::Release);
        self.ended = ends(&planned.entries);
        count(&self.shared.counters.frames, 1);
        if sync {
            self.sync_written()?;
        }
        self.publish(&file, &planned.entries, &encoded, now);
        Ok(())
    }

    fn publish(
        &mut self,
        file: &JournalFile,
        entries: &[Entry],
        encoded: &frame::Encoded,
        now: Timestamp,
    ) {
        let position = self.position;
        self.position += encoded.frame.len() as u64;
        let shared = &self.shared;
        let gone = write(&shared.tail).push(
            file.number,
            position,
            encoded.frame.clone(),
            shared.options.tail_bytes_max,
        );
        drop(gone);
        let cut = Cut {
            sequence: self.sequence,
            file: file.number,
            position: self.position,
        };
        let payload_at = position + encoded.payload_at as u64;
        shared.apply(
            Effect {
                cut,
                payload_at,
                time: now,
                entries,
            },
            None,
        );
        let mut appended: Vec<PartitionId> = Vec::new();
        for entry in entries {
            if let Entry::Append(append) = entry {
                appended.push(append.partition);
                if matches!(append.origin, Origin::Marker(_)) {
                    continue;
                }
                count(&shared.counters.batches, 1);
                count(&shared.counters.records, u64::from(append.last_delta) + 1);
                count(&shared.counters.batch_bytes, u64::from(append.bytes));
            }
        }
        if !appended.is_empty() {
            appended.sort_unstable();
            appended.dedup();
            self.observer.appended(&appended);
        }
    }

    /// Makes every frame written so far durable.
    fn sync_written(&mut self) -> Result<(), Failure> {
        if self.synced == self.sequence {
            return Ok(());
        }
        let Some(active) = &self.active else {
            return Ok(());
        };
        if let Err(error) = active.file.sync() {
            return Err(self.break_down(&error));
        }
        count(&self.shared.counters.syncs, 1);
        self.synced = self.sequence;
        self.shared.unsynced.store(false, Ordering::Release);
        Ok(())
    }

    fn break_down(&mut self, error: &io::Error) -> Failure {
        self.shared
            .poison(format_args!("writing the journal failed: {error}"));
        Failure::Broken
    }

    /// The file into which a frame of at most `bytes` goes at `self.position`.
    fn place(
        &mut self,
        bytes: u64,
        now: Timestamp,
        use_reserve: bool,
    ) -> Result<Arc<JournalFile>, Failure> {
        if let Some(active) = &self.active {
            let reserve = if use_reserve {
                0
            } else {
                reserve_bytes(active.bytes)
            };
            let full = self.position + bytes > active.bytes - reserve;
            if !full && (use_reserve || !self.should_seal()) {
                return Ok(Arc::clone(active));
            }
        }
        self.sync_written()?;
        let next = self.next_file(now)?;
        self.active = Some(Arc::clone(&next));
        self.position = 0;
        self.shared.work.raise();
        Ok(next)
    }

    /// Whether the active file is given up early, because the index must shrink and only sealed
    /// files can be settled.
    fn should_seal(&self) -> bool {
        let batches = self.shared.index_batches.load(Ordering::Relaxed);
        batches > self.shared.options.index_batches_max
            && self.position > 0
            && self.shared.journal.numbers().len() == 1
            && self.shared.journal.ready_count() > 0
    }

    fn next_file(&mut self, now: Timestamp) -> Result<Arc<JournalFile>, Failure> {
        let shared = Arc::clone(&self.shared);
        let too_early = self
            .full_since
            .is_some_and(|since| now >= since && now.since(since) < DISK_FULL_RETRY);
        if too_early && shared.journal.ready_count() == 0 {
            return Err(Failure::Full);
        }
        match shared.journal.take_ready() {
            Ok(file) => {
                self.full_since = None;
                shared.disk_has_space();
                Ok(file)
            }
            Err(error) if is_full(&error) => {
                self.full_since = Some(now);
                shared.set_health(Health::DiskFull);
                shared.work.raise();
                Err(Failure::Full)
            }
            Err(error) => Err(self.break_down(&error)),
        }
    }
}

/// What is kept free at the end of a journal file of this size.
fn reserve_bytes(file_bytes: u64) -> u64 {
    (file_bytes / 16).min(RESERVE_BYTES_MAX)
}

/// The ends of the partitions that these entries append to.
pub(crate) fn ends(entries: &[Entry]) -> BTreeMap<PartitionId, i64> {
    let mut ends = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Append(append) => {
                ends.insert(append.partition, append.last_offset() + 1);
            }
            Entry::Remove(partition) => {
                ends.remove(partition);
            }
            _ => {}
        }
    }
    ends
}

/// Takes units from the front until the group is full.
fn plan_group(
    shared: &Shared,
    waiting: &mut VecDeque<Waiting>,
    now: Timestamp,
) -> (Planned, Vec<Judged>) {
    let unit_max = unit_bytes_max(&shared.options);
    let group_max = shared.options.group_bytes_max.min(unit_max);
    let mut plan = Plan::new(shared, now);
    let mut group = Vec::new();
    let mut total = 0;
    while let Some((unit, done)) = waiting.pop_front() {
        let bytes = plan.unit_bytes(&unit);
        if total > 0 && total + bytes > group_max {
            waiting.push_front((unit, done));
            break;
        }
        let outcome = if bytes > unit_max {
            Err(CommitError::TooLarge {
                bytes,
                bytes_max: unit_max,
            })
        } else {
            total += bytes;
            plan.admit(&unit)
        };
        group.push(Judged {
            unit,
            done,
            outcome,
        });
    }
    (plan.finish(), group)
}

/// Plans a group again for a full disk.
fn plan_into(
    shared: &Shared,
    room: Room,
    group: Vec<Judged>,
    now: Timestamp,
) -> (Planned, Vec<Judged>) {
    let mut plan = Plan::new(shared, now);
    let judge = |judged: Judged| {
        let outcome = match judged.outcome {
            Err(error @ CommitError::TooLarge { .. }) => Err(error),
            _ => plan.admit_into(room, &judged.unit),
        };
        Judged { outcome, ..judged }
    };
    let group = group.into_iter().map(judge).collect();
    (plan.finish(), group)
}

/// Tells everybody the outcome, in the order in which the units came.
fn answer(shared: &Shared, group: Vec<Judged>, failure: Option<&Failure>) {
    for judged in group {
        // Refusals, too, may have been judged on units that were not committed after all.
        let outcome = match (failure, judged.outcome) {
            (_, Err(error @ CommitError::TooLarge { .. })) => Err(error),
            (Some(Failure::Broken), _) => Err(CommitError::Poisoned),
            (Some(Failure::Full), _) => Err(CommitError::DiskFull),
            (None, outcome) => outcome,
        };
        if outcome.is_ok() {
            count(&shared.counters.units, 1);
        }
        (judged.done)(outcome);
    }
}
