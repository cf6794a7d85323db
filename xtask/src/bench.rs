//! Measurements: builds what is measured and what measures as releases, and runs them.

use anyhow::Result;
use clap::{Args, ValueEnum};
use harness::Group;

use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask bench broker                        the whole run; results also as JSON
  cargo xtask bench broker -- --rounds 5          the median of five rounds
  cargo xtask bench broker -- --seconds 1         a quick look

Keep the machine otherwise idle. The results are also written to target/bench/broker.json.";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The suite
    suite: Suite,
    /// Arguments for the suite itself
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Suite {
    /// Throughput, latency, start-up and memory of the broker
    Broker,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let Suite::Broker = options.suite;
    let wharf = workspace.build_release("wharf-cli", "wharf")?;
    let bench = workspace.build_release("wharf-bench", "wharf-bench")?;
    let folder = workspace.target.join("bench");
    let mut command = workspace.command(bench, &["broker"]);
    command.arg("--wharf").arg(wharf);
    command.arg("--scratch").arg(folder.join("scratch"));
    command.arg("--json").arg(folder.join("broker.json"));
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}
