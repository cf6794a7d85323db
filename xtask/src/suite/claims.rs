//! The library's claim checks in object storage, against moto's server from PyPI, which speaks S3.

use anyhow::Result;

use super::{Context, Outcome, counted};
use crate::setup;

/// Runs them with the server of the tests' own Python environment.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let interpreter = match setup::python(cx.workspace) {
        Ok(interpreter) => interpreter,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let mut command = cx.workspace.integration_tests("wharf")?;
    command.arg("real_servers::claims_s3::");
    command.env(
        "WHARF_MOTO_SERVER",
        interpreter.with_file_name("moto_server"),
    );
    counted(cx.workspace, &cx.workspace.log("claim-check"), command)
}
