//! The one front door for development: everything a person or CI runs, and all of its set-up.
//!
//! Invariants: what a command starts it also stops, on success, failure and interrupt; nothing is
//! written outside the target directory (Debian packages that are missing excepted); a command
//! that found a problem ends with a non-zero exit code.

mod bench;
mod check;
mod fuzz;
mod kill;
mod services;
mod setup;
mod shell;
mod sim;
mod suite;
mod tidy;
mod transports;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::workspace::Workspace;

/// Develop Wharf: test, check, measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    /// Runs every test, with all of the set-up they need
    #[command(after_help = suite::EXAMPLES)]
    Test(suite::Options),
    /// Runs what takes no server: formatting, lints, tidy, cargo-deny
    #[command(after_help = check::EXAMPLES)]
    Check(check::Options),
    /// Checks the project's own rules: sizes, headings, error pages, crate table
    #[command(after_help = tidy::EXAMPLES)]
    Tidy,
    /// Measures a release build beside the disk's own limits
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Options),
    /// Starts another server to compare with, until Ctrl-C
    #[command(after_help = services::EXAMPLES)]
    Services(services::Options),
    /// Runs the simulator; arguments after -- go to it
    #[command(after_help = sim::EXAMPLES)]
    Sim(sim::Options),
    /// Searches for inputs that break a decoder, with libFuzzer
    #[command(after_help = fuzz::EXAMPLES)]
    Fuzz(fuzz::Options),
    /// Writes docs/transports.md from what the conformance suite found
    #[command(after_help = transports::EXAMPLES)]
    Transports(transports::Options),
    /// Kills the real binary under load and checks what it promised
    #[command(after_help = kill::EXAMPLES)]
    Kill(kill::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        _ if harness::interrupted() => ExitCode::from(130),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            shell::say(format!("error: {error:#}"));
            ExitCode::from(3)
        }
    }
}

/// Answers whether all is well.
fn run(cli: Cli) -> anyhow::Result<bool> {
    harness::kill_groups_on_interrupt()?;
    let workspace = Workspace::find()?;
    match cli {
        Cli::Test(options) => suite::run(&workspace, &options),
        Cli::Check(options) => check::run(&workspace, &options),
        Cli::Tidy => tidy::run(&workspace),
        Cli::Bench(options) => bench::run(&workspace, &options),
        Cli::Services(options) => services::run(&workspace, &options),
        Cli::Sim(options) => sim::run(&workspace, &options),
        Cli::Fuzz(options) => fuzz::run(&workspace, &options),
        Cli::Transports(options) => transports::run(&workspace, &options),
        Cli::Kill(options) => kill::run(&workspace, &options),
    }
}
