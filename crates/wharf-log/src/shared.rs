//! What the four handles of a log share, and how a frame takes effect on it.
//!
//! Invariants: only frames change partitions' bounds and the state, through [`Shared::apply`], in
//! sequence order, under the cut lock; so whoever holds that lock sees the log as it was between
//! two frames. No input or output happens under any lock here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use wharf_message::Timestamp;

use crate::disk::Disk;
use crate::frame::{AppendEntry, Entry, MarkerEntry, Origin, ProducerEntry};
use crate::journal::Journal;
use crate::partition::{Data, Partition, Segment, Table};
use crate::producers::{Producers, Remembered};
use crate::queue::Queue;
use crate::segment::Segments;
use crate::sync::{Signal, lock, read, write};
use crate::tail::Tail;
use crate::transactions::{AbortedEntry, OpenTransactions};
use crate::{Aborted, DamagedRange, Health, Options, PartitionId, TransactionOutcome};

/// The durable key-value state.
pub(crate) type State = BTreeMap<Bytes, Bytes>;

/// Up to where frames have taken effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The last frame's sequence.
    pub(crate) sequence: u64,
    /// The file of the last frame.
    pub(crate) file: u64,
    /// Where that frame ends (padded).
    pub(crate) position: u64,
}

/// Counters since start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) units: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) settled_bytes: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) maintenance_failures: AtomicU64,
    pub(crate) reads_from_memory: AtomicU64,
    pub(crate) reads_from_disk: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What the committer leaves for maintenance to do.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Partitions removed, whose directories go.
    pub(crate) removed: BTreeSet<PartitionId>,
    /// Partitions whose start moved, whose old segments go.
    pub(crate) advanced: BTreeSet<PartitionId>,
    /// Segments that compaction replaced, whose files go once no snapshot names them.
    pub(crate) replaced: Vec<(PartitionId, Segment)>,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) queue: Queue,
    pub(crate) table: Table,
    pub(crate) state: RwLock<State>,
    pub(crate) transactions: OpenTransactions,
    pub(crate) tail: RwLock<Tail>,
    pub(crate) journal: Journal,
    pub(crate) segments: Segments,
    pub(crate) cut: Mutex<Cut>,
    pub(crate) health: RwLock<Health>,
    /// Damage of which not even the partition is known.
    pub(crate) lost: RwLock<Vec<DamagedRange>>,
    pub(crate) counters: Counters,
    /// Batches in all partitions' journal indexes.
    pub(crate) index_batches: AtomicUsize,
    pub(crate) chores: Mutex<Chores>,
    /// What the frames of this log carry; taken from the options until there is a frame.
    pub(crate) secret: AtomicU64,
    /// Whether frames were written that are not synced (all their units asked for that).
    pub(crate) unsynced: AtomicBool,
    /// Raised when maintenance has something to do.
    pub(crate) work: Signal,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A frame about to take effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect<'a> {
    pub(crate) cut: Cut,
    /// Where the payload starts in the file.
    pub(crate) payload_at: u64,
    pub(crate) time: Timestamp,
    pub(crate) entries: &'a [Entry],
}

/// Where a frame that cannot be read was, for the gaps it leaves.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) path: String,
    pub(crate) position: u64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options) -> Self {
        let journal = Journal::new(
            Arc::clone(&disk),
            options.journal_file_bytes,
            options.journal_files_max,
        );
        let secret = AtomicU64::new(options.secret);
        let segments = Segments::new(Arc::clone(&disk), options.open_segments_max);
        Self {
            disk,
            options,
            queue: Queue::default(),
            table: Table::default(),
            state: RwLock::default(),
            transactions: OpenTransactions::default(),
            tail: RwLock::default(),
            journal,
            segments,
            cut: Mutex::default(),
            health: RwLock::new(Health::Writable),
            lost: RwLock::default(),
            counters: Counters::default(),
            index_batches: AtomicUsize::new(0),
            chores: Mutex::default(),
            secret,
            unsynced: AtomicBool::new(false),
            work: Signal::default(),
        }
    }

    /// Lets a frame take effect. `lost` names the unreadable frame before it, if there is one.
    pub(crate) fn apply(&self, effect: Effect<'_>, lost: Option<&Lost>) {
        let mut cut = lock(&self.cut);
        self.apply_state(effect.entries);
        let mut applying = Applying {
            shared: self,
            effect,
            lost,
            last: None,
        };
        for entry in effect.entries {
            applying.entry(entry);
        }
        let touched: BTreeSet<_> = effect
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Append(append) => Some(append.partition),
                _ => None,
            })
            .collect();
        self.journal.touch(effect.cut.file, touched);
        *cut = effect.cut;
    }

    fn apply_state(&self, entries: &[Entry]) {
        let is_state = |entry: &Entry| matches!(entry, Entry::Put { .. } | Entry::Delete { .. });
        if !entries.iter().any(is_state) {
            return;
        }
        let mut state = write(&self.state);
        for entry in entries {
            match entry {
                Entry::Put { key, value } => {
                    state.insert(key.clone(), value.clone());
                }
                Entry::Delete { key } => {
                    state.remove(key);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn set_health(&self, health: Health) {
        *write(&self.health) = health;
    }

    /// A journal file could be made: the disk is not full (any more).
    pub(crate) fn disk_has_space(&self) {
        if *read(&self.health) == Health::DiskFull {
            self.set_health(Health::Writable);
        }
    }

    /// Makes the frames durable that took effect without having been synced.
    pub(crate) fn sync_journal(&self) -> std::io::Result<()> {
        if !self.unsynced.load(Ordering::Acquire) {
            return Ok(());
        }
        // Frames in earlier files were synced when the committer left those.
        let number = lock(&self.cut).file;
        self.journal
            .file(number)
            .map_or(Ok(()), |file| file.file.sync())
    }

    /// Stops the log for good.
    pub(crate) fn poison(&self, reason: impl fmt::Display) {
        let mut health = write(&self.health);
        if !matches!(*health, Health::Poisoned { .. }) {
            *health = Health::Poisoned {
                reason: reason.to_string(),
            };
        }
        drop(health);
        self.journal.look_again();
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        matches!(*read(&self.health), Health::Poisoned { .. })
    }

    /// Counts index entries that went.
    pub(crate) fn index_shrank(&self, by: usize) {
        self.index_batches.fetch_sub(by, Ordering::Relaxed);
    }
}

/// One frame taking effect on the partitions.
struct Applying<'a> {
    shared: &'a Shared,
    effect: Effect<'a>,
    lost: Option<&'a Lost>,
    /// The partition used last: neighbouring entries mostly share it.
    last: Option<Arc<Partition>>,
}

impl Applying<'_> {
    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Create(id) => {
                if self.shared.table.get(*id).is_none() {
                    self.shared
                        .table
                        .insert(Partition::new(*id, Data::default()));
                }
            }
            Entry::Remove(id) => self.remove(*id),
            Entry::AdvanceStart { partition, offset } => self.advance_start(*partition, *offset),
            Entry::Append(append) => self.append(append),
            Entry::Ended { partition, end } => {
                if self.lost.is_some() {
                    self.fill_gap(*partition, *end);
                }
            }
            Entry::Put { .. } | Entry::Delete { .. } => {}
        }
    }

    fn partition(&mut self, id: PartitionId) -> Option<Arc<Partition>> {
        if self.last.as_ref().is_none_or(|last| last.id != id) {
            self.last = self.shared.table.get(id);
            if self.last.is_none() && self.lost.is_some() {
                // Its creation was lost with the unreadable frame.
                let partition = Partition::new(id, Data::default());
                self.shared.table.insert(Arc::clone(&partition));
                self.last = Some(partition);
            }
        }
        self.last.clone()
    }

    fn remove(&mut self, id: PartitionId) {
        self.last = None;
        if let Some(partition) = self.shared.table.remove(id) {
            let mut data = write(&partition.data);
            self.shared.index_shrank(data.drop_index_front(|_| true));
            for producer in data.producers.iter().flat_map(|known| known.open()) {
                self.shared.transactions.end(producer, id);
            }
            drop(data);
            lock(&self.shared.chores).removed.insert(id);
            self.shared.work.raise();
        }
    }

    fn advance_start(&mut self, id: PartitionId, offset: i64) {
        let Some(partition) = self.partition(id) else {
            return;
        };
        let mut data = write(&partition.data);
        self.shared.index_shrank(data.advance_start(offset));
        if data
            .segments
            .first()
            .is_some_and(|segment| segment.last_offset < data.start)
        {
            lock(&self.shared.chores).advanced.insert(id);
            self.shared.work.raise();
        }
    }

    fn append(&mut self, append: &AppendEntry) {
        self.fill_gap(append.partition, append.base_offset);
        let Some(partition) = self.partition(append.partition) else {
            return;
        };
        let mut data = write(&partition.data);
        if data.append(append.to_ref(self.effect.cut.file, self.effect.payload_at)) {
            self.shared.index_batches.fetch_add(1, Ordering::Relaxed);
        }
        match append.origin {
            Origin::Plain => {}
            Origin::Producer(entry) => self.produced(&partition, &mut data, append, entry),
            Origin::Marker(marker) => self.ended(&partition, &mut data, append, marker),
        }
    }

    fn produced(
        &self,
        partition: &Partition,
        data: &mut Data,
        append: &AppendEntry,
        entry: ProducerEntry,
    ) {
        let batch = Remembered {
            first_sequence: entry.first_sequence,
            base_offset: append.base_offset,
            last_delta: append.last_delta,
            max_timestamp: append.max_timestamp,
        };
        let options = &self.shared.options;
        let producers = data.producers.get_or_insert_with(Box::<Producers>::default);
        if producers.record(entry, batch, self.effect.time, options.producer_expiry) {
            self.shared.transactions.begin(entry.id, partition.id);
        }
        producers.limit(options.producers_per_partition_max);
    }

    fn ended(
        &self,
        partition: &Partition,
        data: &mut Data,
        append: &AppendEntry,
        marker: MarkerEntry,
    ) {
        let options = &self.shared.options;
        let producers = data.producers.get_or_insert_with(Box::<Producers>::default);
        let start = producers.end(marker, self.effect.time, options.producer_expiry);
        producers.limit(options.producers_per_partition_max);
        let Some(first_offset) = start else { return };
        self.shared.transactions.end(marker.producer, partition.id);
        if marker.outcome == TransactionOutcome::Abort {
            let last_offset = append.base_offset;
            let transaction = Aborted {
                producer_id: marker.producer,
                first_offset,
                last_offset,
            };
            let stable_after = data.unstable_from().unwrap_or(last_offset + 1);
            data.aborted.push(AbortedEntry {
                transaction,
                stable_after,
            });
        }
    }

    /// Offsets up to `end` were given by a frame that cannot be read.
    fn fill_gap(&mut self, id: PartitionId, end: i64) {
        let Some(lost) = self.lost else { return };
        let Some(partition) = self.partition(id) else {
            return;
        };
        let mut data = write(&partition.data);
        if end > data.end {
            let range = DamagedRange {
                partition: Some(id),
                first: data.end,
                last: end - 1,
                path: lost.path.clone(),
                position: lost.position,
            };
            data.note_damage(range);
            data.end = end;
        }
    }
}
