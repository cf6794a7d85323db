//! `wharf outbox`: the tables in a service's own database, and the relays that read them.

mod init;
mod relays;

use clap::Subcommand;

use crate::cli::Outcome;

/// The verbs of `wharf outbox`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf outbox init --dialect postgres --print
  wharf outbox init --url postgres://shop@localhost/shop
  wharf outbox status
  wharf outbox drain orders")]
pub(crate) enum Command {
    /// Create the outbox table in a database, or show the statements that do
    Init(init::Init),
    /// Show how the relays of a node stand: lag, slot, the last trouble
    Status(relays::Status),
    /// Wait until a relay has nothing left to do
    Drain(relays::Drain),
}

/// Runs a verb of `wharf outbox`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Init(init) => init.run(),
        Command::Status(status) => status.run(),
        Command::Drain(drain) => drain.run(),
    }
}
