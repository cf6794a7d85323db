//! The sweep: every kind of file of a small data directory, with bytes flipped and ends cut off.
//!
//! At every byte of headers, marks, indexes and snapshots and at samples of payloads, what follows
//! must be one of two things. Either the log opens: then every record is served as it was written or
//! refused as damaged, only what shares the damaged unit is refused, no end goes back, and nothing
//! changes by going on and starting again. Or it does not open: then the error names the damaged
//! file, and no file was changed.

mod data;
mod places;

use std::collections::BTreeSet;

use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::{OpenError, PartitionId, ReadError};

use crate::harness::{Node, append, keep_all, shared, split};
use data::{Data, Files, LAST, disk_of, files_of, options};
use places::{Kind, cuts, flips};

/// What one case came to.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    recovered: usize,
    told: usize,
    not_opened: usize,
}

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip { position: usize, pattern: u8 },
    Cut { bytes: usize },
}

/// One file with one harm done to it.
struct Case<'a> {
    data: &'a Data,
    path: &'a str,
    harm: Harm,
}

impl Case<'_> {
    fn harmed(&self) -> Files {
        let mut files = self.data.files.clone();
        let content = files.get_mut(self.path).expect("the path is one of them");
        match self.harm {
            Harm::Flip { position, pattern } => content[position] ^= pattern,
            Harm::Cut { bytes } => content.truncate(bytes),
        }
        files
    }

    fn name(&self) -> String {
        format!("{} {:?}", self.path, self.harm)
    }

    fn run(&self, thorough: bool, tally: &mut Tally) {
        let files = self.harmed();
        let disk = disk_of(&files);
        tally.cases += 1;
        let mut node = match Node::try_open(&shared(&disk), options()) {
            Ok(node) => node,
            Err(error) => {
                self.refused_to_open(&error);
                assert_eq!(
                    files_of(&disk),
                    files,
                    "{}: a file was changed",
                    self.name()
                );
                tally.not_opened += 1;
                return;
            }
        };
        let refused = self.check(&node);
        if refused.is_empty() && node.log.reader.damaged().is_empty() {
            tally.recovered += 1;
        } else {
            tally.told += 1;
        }
        if thorough {
            self.go_on(&mut node);
            self.start_again(node, &disk, &refused);
        }
    }

    /// The error says which file it is.
    fn refused_to_open(&self, error: &OpenError) {
        let said = error.to_string();
        let folder = self.path.split('/').next().unwrap_or(self.path);
        assert!(
            said.contains(self.path) || said.contains(folder),
            "{}: {said}",
            self.name()
        );
    }

    /// Every record is right, or refused; what is refused lies in one partition, in one batch when
    /// only bytes were flipped. Returns the refused offsets.
    fn check(&self, node: &Node) -> BTreeSet<(u64, i64)> {
        let name = self.name();
        let mut refused = BTreeSet::new();
        for (partition, values) in &self.data.expected {
            let bounds = node.log.reader.bounds(PartitionId(*partition));
            let Some(bounds) = bounds else {
                panic!("{name}: partition {partition} is gone");
            };
            let end = i64::try_from(values.len()).unwrap();
            if self.may_be_torn(*partition) && bounds.end < end {
                continue;
            }
            assert_eq!((bounds.start, bounds.end), (0, end), "{name}: {partition}");
            for (offset, value) in (0..).zip(values) {
                match node
                    .log
                    .reader
                    .read(PartitionId(*partition), offset, 1, true)
                {
                    Ok(slice) => {
                        let served = data::value_at(&split(&slice.batches), offset);
                        assert_eq!(served.as_ref(), Some(value), "{name}: {partition}/{offset}");
                    }
                    Err(ReadError::Damaged(range)) => {
                        assert!(!range.path.is_empty() && range.first <= offset, "{name}");
                        refused.insert((*partition, offset));
                    }
                    Err(other) => panic!("{name}: {partition}/{offset}: {other}"),
                }
            }
        }
        let partitions: BTreeSet<u64> = refused.iter().map(|at| at.0).collect();
        if matches!(self.harm, Harm::Flip { .. }) {
            assert!(partitions.len() <= 1, "{name}: {partitions:?} are refused");
            let most = Kind::of(self.path).refused_max(self.data);
            assert!(refused.len() <= most, "{name}: {refused:?}");
        }
        // State that a damaged unit may have changed is told as lost; else it is right.
        let lost = node
            .log
            .reader
            .damaged()
            .iter()
            .any(|range| range.partition.is_none());
        let state = node.log.reader.state(b"");
        assert!(lost || state == self.data.state, "{name}: {state:?}");
        refused
    }

    /// The last frame is called durable by nobody: damage there is a torn tail.
    fn may_be_torn(&self, partition: u64) -> bool {
        partition == LAST && !self.data.stopped && Kind::of(self.path) == Kind::Journal
    }

    /// No offset is given again.
    fn go_on(&self, node: &mut Node) {
        for (partition, values) in &self.data.expected {
            let appended = node.commit(append(*partition, &["new"])).unwrap();
            let base = appended.appends[0].base_offset;
            let end = i64::try_from(values.len()).unwrap();
            assert!(
                base == end || self.may_be_torn(*partition),
                "{}: {base} in {partition}, which ended at {end}",
                self.name()
            );
        }
    }

    /// Settling, stopping and starting neither heal nor hide nor spread the damage.
    fn start_again(&self, mut node: Node, disk: &SimulatedDisk, refused: &BTreeSet<(u64, i64)>) {
        node.maintain(&keep_all());
        node.stop();
        let node = Node::open(&shared(disk), options());
        for (partition, values) in &self.data.expected {
            if self.may_be_torn(*partition) {
                continue;
            }
            for (offset, value) in (0..).zip(values) {
                let read = node
                    .log
                    .reader
                    .read(PartitionId(*partition), offset, 1, true);
                let at = format!("{}: {partition}/{offset} after a restart", self.name());
                match read {
                    Ok(slice) => {
                        let served = data::value_at(&split(&slice.batches), offset);
                        assert_eq!(served.as_ref(), Some(value), "{at}");
                        assert!(!refused.contains(&(*partition, offset)), "{at}: healed");
                    }
                    Err(ReadError::Damaged(_)) => {
                        assert!(refused.contains(&(*partition, offset)), "{at}: refused now");
                    }
                    Err(other) => panic!("{at}: {other}"),
                }
            }
        }
    }
}

/// Every harm of a kind of file, on a log that was killed and on one that was stopped.
fn sweep(kind: Kind, harms: fn(Kind, &[u8]) -> Vec<Harm>) -> Tally {
    let mut tally = Tally::default();
    for stopped in [false, true] {
        let data = Data::make(stopped);
        for path in data.files.keys().filter(|path| Kind::of(path) == kind) {
            for (index, harm) in harms(kind, &data.files[path]).into_iter().enumerate() {
                let data = &data;
                Case { data, path, harm }.run(index.is_multiple_of(16), &mut tally);
            }
        }
    }
    tally
}

#[test]
fn any_flipped_byte_of_the_journal_is_recovered_or_told() {
    let tally = sweep(Kind::Journal, flips);
    assert!(
        tally.cases > 1000 && tally.told > 100 && tally.recovered > 100,
        "{tally:?}"
    );
}

#[test]
fn any_flipped_byte_of_a_segment_is_told() {
    let tally = sweep(Kind::Segment, flips);
    assert!(
        tally.cases > 1000 && tally.told + 100 > tally.cases,
        "{tally:?}"
    );
    assert_eq!(tally.not_opened, 0, "{tally:?}");
}

#[test]
fn any_flipped_byte_of_an_index_is_made_good_again() {
    let tally = sweep(Kind::Index, flips);
    assert!(tally.cases > 50, "{tally:?}");
    assert_eq!(tally.recovered, tally.cases, "{tally:?}");
}

#[test]
fn any_flipped_byte_of_a_snapshot_is_recovered_or_refused() {
    let tally = sweep(Kind::Snapshot, flips);
    assert!(tally.cases > 200 && tally.told == 0, "{tally:?}");
}

#[test]
fn any_flipped_byte_of_the_mark_of_a_stop_changes_nothing() {
    let tally = sweep(Kind::Mark, flips);
    assert!(tally.cases >= 16, "{tally:?}");
    assert_eq!(tally.recovered, tally.cases, "{tally:?}");
}

#[test]
fn any_file_cut_short_is_recovered_told_or_refused() {
    for kind in [
        Kind::Journal,
        Kind::Segment,
        Kind::Index,
        Kind::Snapshot,
        Kind::Mark,
    ] {
        let tally = sweep(kind, cuts);
        assert!(tally.cases >= 16, "{kind:?}: {tally:?}");
    }
}
