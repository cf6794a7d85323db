//! The simulator's front: builds and runs the binary of `wharf-sim`.

use anyhow::Result;
use clap::Args;
use harness::Group;

use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask sim                           a thousand seeds
  cargo xtask sim --seeds 5000 --from 1001  as many as you like
  cargo xtask sim --seeds 2000000           a night on every processor
  cargo xtask sim --seed 42                 replays one seed
  cargo xtask sim --sagas --seeds 2000000   the same of sagas
  cargo xtask sim --sagas --seed 42         replays one of them, and tells what happened
  cargo xtask sim --sagas --log             sagas on the node's own log and a disk that fails";

/// What to hand to the simulator.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Arguments for the simulator itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let binary = workspace.build_release("wharf-sim", "wharf-sim")?;
    let mut command = workspace.command(binary, &[]);
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}
