//! The log from outside: commits, reads, restarts, crashes.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod compaction;
mod compaction_cases;
mod corruption;
mod crash;
mod damage;
mod disk_full;
mod harness;
mod model;
mod old_data;
mod restart;
mod retention;
mod settle;
mod simulated;
mod stretches;
mod sweep;
mod threads;
mod transaction_model;
mod transactions;
mod traps;
