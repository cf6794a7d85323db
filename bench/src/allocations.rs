//! What the library allocates in the process: the measurement of `library/in_process.rs`, under an
//! allocator that counts. A process of its own, because counting costs time: of what is printed, only
//! the allocations are used. One line of JSON on stdout; the argument is the number of messages.

mod library {
    pub(crate) mod in_process;
}

use std::alloc::System;
use std::io::Write as _;

use anyhow::{Context, Result};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Growing in place counts as well: it may move.
fn allocations() -> usize {
    let stats = COUNTING.stats();
    stats.allocations + stats.reallocations
}

fn main() -> Result<()> {
    let messages = std::env::args().nth(1).context("how many messages?")?;
    let figures = library::in_process::measure(messages.parse()?, 1, allocations)?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &figures)?;
    writeln!(out)?;
    Ok(())
}
