//! Wharf itself, with its defaults.

use anyhow::Result;
use harness::servers::{Plan, Site};

pub(super) fn plan(site: &Site<'_>) -> Result<Plan> {
    let mut command = site.command(&["serve", "--http-listen", "127.0.0.1:0"]);
    command.args(["--kafka-listen", &format!("127.0.0.1:{}", site.port)]);
    command.args(["--registry-listen", "127.0.0.1:0"]);
    command.args(["--data", &site.path("data")]);
    Ok(command.into())
}
