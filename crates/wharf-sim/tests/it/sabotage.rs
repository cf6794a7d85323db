//! Disks that lie: the checkers notice each kind of lie, so their silence elsewhere means something.

use std::collections::BTreeSet;

use wharf_sim::plan::Fault;
use wharf_sim::sabotage::Sabotage;
use wharf_sim::{Plan, run};

/// The promises that some of these seeds find broken on a disk that lies.
fn broken_on(sabotage: Sabotage) -> BTreeSet<&'static str> {
    let plan = Plan {
        faults: [Fault::PowerLoss, Fault::Kill].into(),
        sabotage: Some(sabotage),
        ..Plan::default()
    };
    (1..=30)
        .filter_map(|seed| run(seed, &plan).err())
        .map(|violation| violation.promise)
        .collect()
}

#[test]
fn a_disk_that_ignores_syncs_is_found_to_lose_acknowledged_records() {
    let broken = broken_on(Sabotage::IgnoredSyncs);
    assert!(
        broken.contains("no acknowledged record is lost"),
        "{broken:?}"
    );
}

#[test]
fn a_disk_that_ignores_directory_syncs_is_found() {
    let broken = broken_on(Sabotage::IgnoredDirectorySyncs);
    assert!(
        broken.contains("no acknowledged record is lost"),
        "{broken:?}"
    );
}

#[test]
fn a_disk_that_loses_writes_is_found() {
    assert!(!broken_on(Sabotage::LostWrites).is_empty());
}

#[test]
fn a_disk_that_misdirects_writes_is_found() {
    assert!(!broken_on(Sabotage::MisdirectedWrites).is_empty());
}

#[test]
fn a_disk_that_flips_bits_is_found() {
    assert!(!broken_on(Sabotage::FlippedReads).is_empty());
}

#[test]
fn old_frames_in_a_new_file_change_nothing() {
    let broken = broken_on(Sabotage::OldContent);
    assert!(broken.is_empty(), "{broken:?}");
}
