//! `wharf choreography`: sagas that nobody orchestrates, as a node sees them, and their contracts.
//!
//! A contract is checked here, with nothing but its file; everything else is asked of a node.

mod check;
mod show;

use clap::Subcommand;

use crate::cli::Outcome;

/// Watch sagas that nobody orchestrates, check and deploy their contracts.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf choreography list
  wharf choreography check choreography.yaml
  wharf choreography deploy choreography.yaml
  wharf choreography instances shop --verdict stuck
  wharf choreography graph --format mermaid")]
pub(crate) enum Command {
    /// List the contracts and what the lens sees
    List(show::List),
    /// Show a contract, or one instance with its events
    Show(show::Show),
    /// Draw what follows what: as mined from traffic, or as a contract says
    Graph(show::Graph),
    /// Check contracts, without a node
    Check(check::Check),
    /// Check a contract and have the node watch it
    Deploy(check::Deploy),
    /// Have the node forget a contract
    Remove(check::Remove),
    /// List instances by their verdict
    Instances(show::Instances),
}

/// Runs `wharf choreography …`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Show(show) => show.run(),
        Command::Graph(graph) => graph.run(),
        Command::Check(check) => check.run(),
        Command::Deploy(deploy) => deploy.run(),
        Command::Remove(remove) => remove.run(),
        Command::Instances(instances) => instances.run(),
    }
}

/// What to do when the node says no.
const FIX: &str =
    "`wharf choreography list` shows what is watched; `choreography.enabled` switches it on";

fn path(tail: &str) -> String {
    format!("/api/v1/choreographies{tail}")
}
