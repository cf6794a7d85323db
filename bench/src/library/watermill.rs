//! Watermill, Go's library of the same kind, with its Kafka pub/sub: `bench/peers/watermill`, with as
//! many messages under way and the same amounts.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::kafka::{Amount, PAYLOAD_BYTES, UNDER_WAY};

#[derive(Deserialize)]
struct Measured {
    messages: f64,
    seconds: f64,
}

/// Messages per second of one run of the program; `mode` is `publish` or `handle`.
pub(super) fn run(
    program: &Path,
    mode: &str,
    address: &str,
    topic: &str,
    amount: Amount,
) -> Result<f64> {
    let output = Command::new(program)
        .args(["-mode", mode, "-address", address, "-topic", topic])
        .args(["-messages", &amount.messages.to_string()])
        .args(["-warm", &amount.warm.to_string()])
        .args(["-bytes", &PAYLOAD_BYTES.to_string()])
        .args(["-publishers", &UNDER_WAY.to_string()])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().last().unwrap_or("it said nothing"));
    }
    let measured: Measured =
        serde_json::from_slice(&output.stdout).context("its answer is no JSON")?;
    Ok(measured.messages / measured.seconds)
}
