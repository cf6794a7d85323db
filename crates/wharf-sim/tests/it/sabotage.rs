//! Disks that lie: the checkers notice each kind of lie, so their silence elsewhere means something.

use std::collections::BTreeSet;

use wharf_sim::plan::Fault;
use wharf_sim::sabotage::Sabotage;
use wharf_sim::{Plan, Violation, run};

const ANSWERS: &str = "units are answered by the rules";
const TRANSACTIONS: &str = "a transaction ends in all its partitions or in none";
const COMPACTION: &str = "compaction keeps the newest value of every key";
const LOST: &str = "no acknowledged record is lost";
const OPENS: &str = "a log opens after any crash";
const READS: &str = "a read returns what was asked for";
const READS_BACK: &str = "what is readable reads back whole";

/// What some of these seeds find broken on a disk that lies.
fn violations(sabotage: Sabotage) -> Vec<Violation> {
    let broken = (1..=60).filter_map(|seed| run(seed, &plan(sabotage)).err());
    broken.map(|violation| *violation).collect()
}

fn plan(sabotage: Sabotage) -> Plan {
    Plan {
        faults: [Fault::PowerLoss, Fault::Kill].into(),
        sabotage: Some(sabotage),
        ..Plan::default()
    }
}

#[track_caller]
fn finds(violations: &[Violation], promises: &[&str]) {
    let broken: BTreeSet<&str> = violations.iter().map(|one| one.promise).collect();
    for promise in promises {
        assert!(broken.contains(promise), "{broken:?}");
    }
}

#[test]
fn a_disk_that_ignores_syncs_is_found_to_lose_acknowledged_units() {
    finds(&violations(Sabotage::IgnoredSyncs), &[LOST, OPENS]);
}

#[test]
fn a_disk_that_ignores_directory_syncs_is_found_to_lose_acknowledged_units() {
    finds(&violations(Sabotage::IgnoredDirectorySyncs), &[LOST]);
}

#[test]
fn a_disk_that_loses_writes_is_found() {
    finds(&violations(Sabotage::LostWrites), &[LOST, READS]);
}

#[test]
fn a_disk_that_misdirects_writes_is_found() {
    finds(&violations(Sabotage::MisdirectedWrites), &[LOST, READS]);
}

#[test]
fn a_disk_that_flips_bits_is_found_and_none_of_them_is_served() {
    let violations = violations(Sabotage::FlippedReads);
    finds(&violations, &[READS, READS_BACK]);
    // A search by time reads headers without their records and may be led astray; what it leads to is
    // checked when it is read.
    for violation in violations {
        assert!(!violation.detail.contains("a read found"), "{violation}");
        assert!(!violation.detail.contains("bad batch"), "{violation}");
    }
}

#[test]
fn a_log_that_ends_transactions_in_some_of_their_partitions_is_found() {
    let violations = violations(Sabotage::HalfEndedTransactions);
    // Where the answer was lost with the machine, what is on the disk tells it.
    finds(&violations, &[ANSWERS, TRANSACTIONS]);
}

#[test]
fn a_log_that_takes_a_frame_of_before_for_the_next_is_found() {
    finds(&violations(Sabotage::StaleFrames), &[READS_BACK]);
}

#[test]
fn a_log_whose_snapshots_count_too_early_is_found() {
    finds(&violations(Sabotage::EarlySnapshots), &[OPENS]);
}

#[test]
fn a_log_that_appends_a_repeated_batch_again_is_found() {
    finds(&violations(Sabotage::AcceptedDuplicates), &[ANSWERS]);
}

#[test]
fn a_compaction_that_drops_the_newest_record_of_a_key_is_found() {
    let violations = violations(Sabotage::MixedKeys);
    finds(&violations, &[COMPACTION]);
    let told = violations
        .iter()
        .filter(|one| one.detail.contains("is the newest of its key"));
    assert!(told.count() > 0, "{violations:?}");
}

#[test]
fn a_compaction_that_removes_segments_before_the_new_one_counts_is_found() {
    finds(&violations(Sabotage::EarlyRemovals), &[READS_BACK]);
}

#[test]
fn old_frames_in_a_new_file_change_nothing() {
    assert_eq!(violations(Sabotage::OldContent), []);
}
