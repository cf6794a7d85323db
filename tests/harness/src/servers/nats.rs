//! NATS with JetStream, streams in files.

use std::fs;

use anyhow::Result;

use super::{Plan, Site};

/// `sync_interval` is left at its default of two minutes unless given.
pub fn plan(site: &Site<'_>, sync_interval: Option<&str>) -> Result<Plan> {
    let sync =
        sync_interval.map_or_else(String::new, |value| format!("  sync_interval: {value}\n"));
    let text = format!(
        "listen: \"127.0.0.1:{}\"\njetstream {{\n  store_dir: \"{}\"\n  max_file_store: 40GB\n{sync}}}\n",
        site.port,
        site.path("data"),
    );
    let file = site.path("nats.conf");
    fs::write(&file, text)?;
    Ok(site.command(&["--config", &file]).into())
}
