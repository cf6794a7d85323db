//! Amazon's own clients, boto3 and the AWS command line, against the Step Functions API of a node.
//!
//! They run against no other server: Amazon's cannot be had here, so each case itself says what it
//! answers.

use anyhow::Result;
use harness::Launch;

use super::{Context, Outcome, counted};
use crate::setup;

/// Runs every case.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let interpreter = match setup::python(cx.workspace) {
        Ok(interpreter) => interpreter,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let data = cx.scratch.join("compat-boto3");
    let mut launch = Launch::new(cx.wharf()?, &data, &data.with_extension("server.log"));
    let config = cx.workspace.root.join("compat/boto3/wharf.toml");
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let node = launch.start()?;
    let script = ["compat/boto3/run.py", &node.http];
    let mut command = cx.workspace.command(interpreter, &script);
    command.env("TMPDIR", &cx.scratch);
    let mut outcome = counted(cx.workspace, &cx.workspace.log("compat/boto3"), command)?;
    // Whether the node stopped cleanly is one more case.
    node.stop()?;
    outcome.passed += 1;
    Ok(outcome)
}
