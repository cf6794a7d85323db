//! The broker over a real log on a simulated disk, in virtual time.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "test binary")]

mod atomic;
mod compaction;
mod compression;
mod consumer_groups;
mod fetch_threads;
mod fetching;
mod group_faults;
mod group_migration;
mod group_offsets;
mod group_threads;
mod groups;
mod ledger;
mod listing;
mod model;
mod producing;
mod quotas;
mod retention;
mod schemas;
mod sessions;
mod settings;
mod support;
mod topics;
mod transactions;
mod traps;
