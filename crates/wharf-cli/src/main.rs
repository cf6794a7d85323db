//! Deliverable: the binary `wharf`.
//!
//! One file per noun of the command line. Data goes to stdout, everything else to stderr; a command
//! never ends the process itself but returns an [`cli::Outcome`], which becomes the exit code here:
//! 0 done, 1 a negative answer, 2 wrong usage, 3 could not run.

mod assignment;
mod choreography;
mod cli;
mod client;
mod cluster;
mod config;
mod confirm;
mod consume;
mod consumer_group;
mod deliver;
mod demo;
mod explain;
mod files;
mod group;
mod ingest;
mod logging;
mod node_api;
mod outbox;
mod output;
mod pace;
mod place;
mod produce;
mod quota;
mod record;
mod saga;
mod schema;
mod serve;
mod test_duplicates;
mod topic;
mod transaction;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// Batches of about a megabyte are allocated in one thread and freed in another, all the time; the
/// system's allocator gives such memory back and takes it again, a page fault for each page.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // Nobody is left to tell when even this cannot be printed.
            let printed = error.print().is_ok();
            return ExitCode::from(if failed || !printed {
                cli::USAGE
            } else {
                cli::DONE
            });
        }
    };
    cli.globals.color.write_global();
    match cli::run(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) => output::fail(&error),
    }
}
