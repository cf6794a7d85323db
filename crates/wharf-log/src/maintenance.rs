//! Background work in bounded steps: preparing files, settling, snapshots, retention, compaction.
//!
//! Invariants: one thread owns it; nothing here is on the way of an acknowledgement; a step that
//! finds the disk full, or cannot read, leaves the log as it was and is tried again, a failed write
//! or sync stops the log. A journal file is recycled only after the snapshot that no longer needs it
//! is durable.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wharf_message::Timestamp;

use crate::compact::Compactor;
use crate::settle::{self, Trouble, damaged_path};
use crate::shared::{Cut, Shared, count};
use crate::sync::{lock, read};
use crate::{Health, Policy, recover, retention, segment, snapshot};

/// How often retention looks at all partitions.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);
/// How long after a full disk or a failed read the next attempt comes.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How many journal files are settled in one step at most.
const SETTLE_FILES: usize = 8;
/// How many directories are swept in one step.
const SWEEP_STEP: usize = 256;

/// Background work, in bounded steps. One thread owns it.
#[derive(Debug)]
pub struct Maintenance {
    shared: Arc<Shared>,
    /// The cut of the newest durable snapshot.
    snapshot: Cut,
    /// Whether something changed that only a snapshot remembers.
    dirty: bool,
    retention_at: Option<Timestamp>,
    /// Set after trouble: when it was.
    trouble_at: Option<Timestamp>,
    compactor: Compactor,
    /// Partition directories not yet compared with what is known; `None` before the first look.
    sweep: Option<VecDeque<String>>,
}

impl Maintenance {
    pub(crate) fn new(shared: Arc<Shared>, snapshot: Cut) -> Self {
        Self {
            shared,
            snapshot,
            dirty: false,
            retention_at: None,
            trouble_at: None,
            compactor: Compactor::default(),
            sweep: None,
        }
    }

    /// Does what is due (prepare a journal file, settle, snapshot, delete by retention, compact) and returns
    /// whether there is more to do right away. Failures are told by [`crate::Reader::health`] and
    /// [`crate::Reader::statistics`] and retried at a later call where a retry is safe.
    pub fn run(&mut self, policy: &dyn Policy, now: Timestamp) -> bool {
        if self.shared.is_poisoned() {
            return false;
        }
        let outcome = self.step(policy, now);
        match outcome {
            Ok(more) => more,
            Err(Trouble::Later(_error)) => {
                count(&self.shared.counters.maintenance_failures, 1);
                self.trouble_at = Some(now);
                false
            }
            Err(Trouble::Broken(error)) => {
                self.shared
                    .poison(format_args!("background writing failed: {error}"));
                false
            }
        }
    }

    /// Blocks until the committer signals that work is due, or `limit` has passed.
    pub fn wait(&self, limit: Duration) {
        self.shared.work.wait(limit);
    }

    /// After the committer has stopped: writes the final snapshot so that the next start scans
    /// nothing.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        if let Health::Poisoned { reason } = &*read(&self.shared.health) {
            return Err(io::Error::other(reason.clone()));
        }
        retention::expire_producers(&self.shared, now);
        retention::remove_files(&self.shared)?;
        if self.dirty || *lock(&self.shared.cut) != self.snapshot {
            self.snapshot = snapshot::take(&self.shared)?;
            self.dirty = false;
        }
        self.remove_replaced()?;
        recover::leave_stop_mark(&*self.shared.disk, self.snapshot.sequence)
    }

    fn step(&mut self, policy: &dyn Policy, now: Timestamp) -> Result<bool, Trouble> {
        // What frees space comes first, and does not wait.
        let removed = retention::remove_files(&self.shared).map_err(Trouble::write)?;
        self.check_retention(policy, now);
        let waiting = self
            .trouble_at
            .is_some_and(|at| now >= at && now.since(at) < RETRY_INTERVAL);
        if waiting && !removed {
            return Ok(false);
        }
        self.trouble_at = None;
        if self.shared.journal.ready_count() == 0 && self.due_for_settling().is_empty() {
            self.prepare()?;
        }
        let due = self.due_for_settling();
        if !due.is_empty() {
            settle::settle(&self.shared, policy, &due, now)?;
            self.dirty = true;
        }
        if self.dirty || self.rotated() {
            self.snapshot = snapshot::take(&self.shared).map_err(Trouble::write)?;
            self.dirty = false;
        }
        self.remove_replaced().map_err(Trouble::write)?;
        if self.shared.journal.has_retired() {
            self.recycle().map_err(Trouble::write)?;
        }
        self.prepare()?;
        let sweeping = self.sweep_some()?;
        let compacting = !sweeping && self.compact(policy, now)?;
        Ok(sweeping || compacting || !self.due_for_settling().is_empty())
    }

    /// One step of compaction. Not before the sweep, which would take its new files for leftovers.
    fn compact(&mut self, policy: &dyn Policy, now: Timestamp) -> Result<bool, Trouble> {
        if self.sweep.as_ref().is_none_or(|left| !left.is_empty()) {
            return Ok(false);
        }
        let progress = self.compactor.step(&self.shared, policy, now)?;
        self.dirty |= progress.changed;
        Ok(progress.changed || progress.more)
    }

    /// Removes the segments that compaction replaced, once the only snapshot names the new ones.
    fn remove_replaced(&self) -> io::Result<()> {
        if lock(&self.shared.chores).replaced.is_empty() {
            return Ok(());
        }
        snapshot::keep_newest(&*self.shared.disk)?;
        retention::remove_replaced(&self.shared)
    }

    /// Makes sure that the committer finds a file when it needs one.
    fn prepare(&self) -> Result<(), Trouble> {
        self.shared.journal.prepare().map_err(Trouble::write)?;
        self.shared.disk_has_space();
        Ok(())
    }

    /// The journal files to be settled now: once there are too many, half of them at once.
    fn due_for_settling(&self) -> Vec<u64> {
        let mut numbers = self.shared.journal.numbers();
        // The newest is being written.
        numbers.pop();
        let options = &self.shared.options;
        let batches = self.shared.index_batches.load(Ordering::Relaxed);
        if numbers.len() <= options.journal_files_max && batches <= options.index_batches_max {
            return Vec::new();
        }
        let left = numbers.len().min(options.journal_files_max) / 2;
        numbers.truncate((numbers.len() - left).min(SETTLE_FILES));
        numbers
    }

    /// Whether the committer went on to another file since the last snapshot.
    fn rotated(&self) -> bool {
        let newest = self.shared.journal.numbers().last().copied();
        newest.is_some_and(|number| number > self.snapshot.file.max(1))
    }

    fn recycle(&self) -> io::Result<()> {
        let mut damaged = BTreeSet::new();
        for number in self.shared.journal.retired_numbers() {
            let path = damaged_path(number);
            let known = |ranges: &[crate::DamagedRange]| ranges.iter().any(|r| r.path == path);
            let held = known(&read(&self.shared.lost))
                || self
                    .shared
                    .table
                    .all()
                    .iter()
                    .any(|p| known(&read(&p.data).damaged));
            if held {
                damaged.insert(number);
            }
        }
        self.shared.journal.recycle(&damaged)
    }

    fn check_retention(&mut self, policy: &dyn Policy, now: Timestamp) {
        let waiting = self
            .retention_at
            .is_some_and(|at| now >= at && now.since(at) < RETENTION_INTERVAL);
        if !waiting {
            self.retention_at = Some(now);
            retention::request(&self.shared, policy, now);
            retention::expire_producers(&self.shared, now);
        }
    }

    /// Compares some directories with what is known. Returns whether some are left.
    fn sweep_some(&mut self) -> Result<bool, Trouble> {
        // With state lost, what looks like nobody's may be somebody's.
        if !read(&self.shared.lost).is_empty() {
            return Ok(false);
        }
        let disk = &self.shared.disk;
        let list = || {
            let entries = disk.list(segment::DIRECTORY).map_err(Trouble::Later)?;
            Ok(entries
                .into_iter()
                .filter(|entry| entry.is_dir)
                .map(|entry| entry.name)
                .collect())
        };
        let mut directories = match self.sweep.take() {
            Some(directories) => directories,
            None => list()?,
        };
        for _ in 0..SWEEP_STEP {
            let Some(directory) = directories.pop_front() else {
                break;
            };
            retention::sweep(&self.shared, &directory).map_err(Trouble::write)?;
        }
        let more = !directories.is_empty();
        self.sweep = Some(directories);
        Ok(more)
    }
}
