//! `wharf schema`: a registry's subjects, and what a change of a schema breaks, with a registry or
//! with nothing but files and git.
//!
//! Verdicts are always computed here, by the same engines the registry has, so that each comes with
//! its witness, whichever registry the versions come from.

mod check;
mod diff;
mod files;
mod format;
mod git;
mod impact;
mod lint;
mod registry;
mod subjects;

use clap::Subcommand;

use crate::cli::Outcome;

pub(crate) use registry::{Registry, encoded};

/// List, register, check, compare and lint schemas.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf schema list
  wharf schema check schemas/ --against origin/main
  wharf schema diff old.avsc new.avsc
  wharf schema impact order.avsc --subject orders-value
  wharf schema lint schemas/")]
pub(crate) enum Command {
    /// List the subjects of a registry
    List(subjects::List),
    /// Print a schema of a registry
    Get(subjects::Get),
    /// Register a schema
    Register(subjects::Register),
    /// Check whether schemas may be changed as files have it
    Check(check::Check),
    /// Show every difference between two schemas, with records that show it
    Diff(diff::Diff),
    /// Show who is affected by a change of a schema
    Impact(impact::Impact),
    /// Look for what is legal today and hurts later
    Lint(lint::Lint),
}

/// Runs `wharf schema …`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Get(get) => get.run(),
        Command::Register(register) => register.run(),
        Command::Check(check) => check.run(),
        Command::Diff(diff) => diff.run(),
        Command::Impact(impact) => impact.run(),
        Command::Lint(lint) => lint.run(),
    }
}
