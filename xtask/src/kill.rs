//! The kill tests' front: builds the node and the clients for speed, and kills as often as asked.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use harness::Group;

use crate::setup;
use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask kill                          a hundred kills
  cargo xtask kill --kills 1000             as many as you like
  cargo xtask kill --seed 42                the same moments and the same load again
  cargo xtask kill --relays                 relays, their broker and their databases
  cargo xtask kill --sagas                  the orchestrator of sagas and its workers";

/// How often, and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often to kill
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// Kill relays, their broker and their databases, while rows are written
    #[arg(long)]
    relays: bool,
    /// Kill the orchestrator of sagas and its workers, while money is transferred
    #[arg(long, conflicts_with = "relays")]
    sagas: bool,
    /// Chooses the moments and the load; taken from the clock when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Where data and logs go; what is there is deleted first
    #[arg(long)]
    scratch: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.relays {
        setup::databases(workspace)?;
    }
    let wharf = workspace.build_release("wharf-cli", "wharf")?;
    let binary = workspace.build_release("kill-test", "kill-test")?;
    let scratch = options.scratch.clone();
    let scratch = scratch.unwrap_or_else(|| workspace.keep("kill"));
    let mut command = workspace.command(binary, &[]);
    command.arg("--wharf").arg(wharf);
    command.arg("--scratch").arg(scratch);
    command.args(["--kills", &options.kills.to_string()]);
    if options.relays {
        command.arg("--relays");
    }
    if options.sagas {
        command.arg("--sagas");
    }
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    Ok(Group::spawn(&mut command)?.wait()?.success())
}
