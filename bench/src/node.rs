//! What the operating system says of the running node.

use anyhow::{Context, Result};
use harness::Node;

/// The memory that the node's process holds, in MiB.
pub(crate) fn resident_mebibytes(node: &mut Node) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line
        .and_then(|line| line.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}
