//! A medium that flips bits anywhere: what is read is right or refused, never wrong; nothing panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use wharf_log::disk::simulated::SimulatedDisk;
use wharf_log::{PartitionId, ReadError};

use crate::harness::{Node, append, create, keep_all, shared, small, split};

const PARTITIONS: u64 = 3;

/// A log with some of its batches in segments and some in the journal; the last frame of the journal
/// belongs to a partition of its own.
fn fill(seed: u64, rounds: u32, stop: bool) -> (SimulatedDisk, Vec<Vec<Bytes>>) {
    let (disk, mut node) = Node::simulated(seed, small());
    node.commit_all((0..=PARTITIONS).map(create).collect());
    let mut expected = vec![Vec::new(); PARTITIONS as usize];
    for round in 0..rounds {
        let partition = u64::from(round * 7 + round / 5) % PARTITIONS;
        let value = format!("{round}:{}", "c".repeat((round as usize * 131) % 3_000));
        node.commit(append(partition, &[&value, "next"])).unwrap();
        expected[partition as usize].extend([Bytes::from(value), Bytes::from("next")]);
        if round % 40 == 39 {
            node.maintain(&keep_all());
        }
    }
    node.commit(append(PARTITIONS, &["last"])).unwrap();
    if stop {
        node.stop();
    }
    (disk, expected)
}

/// Reads every offset by itself; returns how many were refused.
fn check(node: &Node, expected: &[Vec<Bytes>]) -> usize {
    let mut refused = 0;
    for (partition, values) in (0..).zip(expected) {
        let Some(bounds) = node.log.reader.bounds(PartitionId(partition)) else {
            refused += values.len();
            continue;
        };
        for (offset, value) in (0_i64..).zip(values) {
            if offset >= bounds.end {
                refused += 1;
                continue;
            }
            match node
                .log
                .reader
                .read(PartitionId(partition), offset, 1, true)
            {
                Ok(slice) => {
                    let batch = split(&slice.batches).swap_remove(0);
                    let header = wharf_log::batch::verify(&batch).unwrap();
                    let body = batch.slice(wharf_log::batch::HEADER_BYTES..);
                    let records = wharf_log::batch::records(&header, &body).unwrap();
                    let record = records.iter().find(|record| record.offset == offset);
                    assert_eq!(record.unwrap().value.as_ref(), Some(value));
                }
                Err(ReadError::Damaged(_)) => refused += 1,
                Err(other) => panic!("{partition}/{offset}: {other}"),
            }
        }
    }
    refused
}

/// The places of a file that the test may hit: not the last two frames of the journal, because
/// damage there cannot be told from a torn tail.
fn hit(disk: &SimulatedDisk, kind: &str, file: usize, position: u64) -> Option<String> {
    let mut paths = disk.paths();
    paths.retain(|path| path.starts_with(kind));
    if kind == "journal/" {
        // The last three are the active one and two prepared ones.
        paths.truncate(paths.len().saturating_sub(3));
    }
    let path = paths.get(file.checked_rem(paths.len())?)?.clone();
    disk.corrupt(&path, position).ok().map(|()| path)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_are_never_served(
        seed: u64,
        rounds in 20..160_u32,
        stop: bool,
        hits in vec((any::<bool>(), 0..20_usize, 0..100_000_u64), 1..6),
    ) {
        let (disk, expected) = fill(seed, rounds, stop);
        let mut hit_any = false;
        for (journal, file, position) in hits {
            let kind = if journal { "journal/" } else { "segments/" };
            hit_any |= hit(&disk, kind, file, position).is_some();
        }
        let node = Node::open(&shared(&disk), small());
        let refused = check(&node, &expected);
        prop_assert!(hit_any || refused == 0);
    }

    #[test]
    fn one_hit_in_the_journal_costs_little_and_no_offset_is_given_twice(
        seed: u64,
        rounds in 60..160_u32,
        file in 0..20_usize,
        position in 0..100_000_u64,
    ) {
        let (disk, expected) = fill(seed, rounds, false);
        hit(&disk, "journal/", file, position);
        let mut node = Node::open(&shared(&disk), small());
        prop_assert!(check(&node, &expected) <= 2);
        for (partition, values) in (0..).zip(&expected) {
            let appended = node.commit(append(partition, &["new"])).unwrap().appends[0];
            prop_assert_eq!(appended.base_offset, i64::try_from(values.len()).unwrap());
        }
    }
}
