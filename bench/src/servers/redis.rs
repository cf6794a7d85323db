//! Redis with an append-only file that is synced before every answer.

use std::fs;

use anyhow::Result;
use harness::servers::{Plan, Site};

pub(super) fn plan(site: &Site<'_>) -> Result<Plan> {
    let data = site.path("data");
    fs::create_dir_all(&data)?;
    let port = site.port.to_string();
    Ok(site
        .command(&[
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            &data,
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
        ])
        .into())
}
