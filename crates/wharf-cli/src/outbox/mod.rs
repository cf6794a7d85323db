//! `wharf outbox`: the tables in a service's own database.

mod init;

use clap::Subcommand;

use crate::cli::Outcome;

/// The verbs of `wharf outbox`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf outbox init --dialect postgres --print
  wharf outbox init --url postgres://shop@localhost/shop")]
pub(crate) enum Command {
    /// Create the outbox table in a database, or show the statements that do
    Init(init::Init),
}

/// Runs a verb of `wharf outbox`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Init(init) => init.run(),
    }
}
