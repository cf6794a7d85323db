//! The simulator's front: builds and runs the binary of `wharf-sim`.

use anyhow::Result;
use clap::Args;
use harness::Group;

use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask sim                   the simulator's own defaults
  cargo xtask sim -- --help         what it can do
  cargo xtask sim -- --seed 42      replays one seed";

/// What to hand to the simulator.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the simulator itself
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let binary = workspace.build("wharf-sim", "wharf-sim", true)?;
    let mut command = workspace.command(binary, &[]);
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}
