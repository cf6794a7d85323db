//! Test-only: the real binary on a file system that runs full.
//!
//! Writes are refused with an error that clients retry and a code that says why; reads go on, also after
//! a kill and a start in that state; deleting frees space, which the node notices without a restart; and
//! nothing that was acknowledged is lost. Needs the right to mount; ends with `SKIP reason` without it.

mod client;
mod mount;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use harness::{Launch, Node};
use rdkafka::error::RDKafkaErrorCode;

use crate::client::Sender;
use crate::mount::Mount;

const CONFIG: &str = "\
[log]
journal-file-size = \"8MiB\"
journal-files-max = 2
";
/// The file system's size: the journal's files and some segments.
const BYTES: u64 = 112 << 20;
/// How many messages go into the topic that is deleted later: more than the journal holds.
const BALLAST: u64 = 500;
/// What is sent until the disk is full, a few at a time.
const STEP: u64 = 20;
/// The longest until space that was freed is used again.
const FREED_WITHIN: Duration = Duration::from_secs(60);

/// Runs `wharf serve` on a file system that is too small.
#[derive(Debug, Parser)]
struct Options {
    /// The binary under test
    #[arg(long)]
    wharf: PathBuf,
    /// A directory of its own; a file system is mounted in it
    #[arg(long)]
    scratch: PathBuf,
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mount = match Mount::of(&options.scratch.join("disk"), BYTES) {
        Ok(mount) => mount,
        Err(error) => {
            say(&format!("SKIP a file system cannot be mounted: {error:#}"));
            return ExitCode::SUCCESS;
        }
    };
    let mut passed = 0;
    let ended = harness::kill_groups_on_interrupt().and_then(|()| run(&options, &mut passed));
    drop(mount);
    if let Err(error) = &ended {
        say(&format!("FAIL {error:#}"));
    }
    say(&format!(
        "{passed} passed, {} failed",
        usize::from(ended.is_err())
    ));
    if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(options: &Options, passed: &mut usize) -> Result<()> {
    let data = options.scratch.join("disk/data");
    let mut launch = Launch::new(&options.wharf, &data, &options.scratch.join("server.log"));
    let config = options.scratch.join("wharf.toml");
    std::fs::write(&config, CONFIG)?;
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let mut done = |what: &str| {
        *passed += 1;
        say(&format!("ok {what}"));
    };
    let node = launch.start()?;
    client::make(&node.kafka, &["ballast", "kept"])?;
    let mut ballast = Sender::new(&node.kafka, "ballast")?;
    ensure!(ballast.send(BALLAST)?.is_empty(), "the ballast was refused");
    let mut sender = Sender::new(&node.kafka, "kept")?;
    fill(&mut sender)?;
    done("a full disk refuses writes with an error that clients retry");
    full(&node)?;
    done("the node says why it takes no writes");
    compare(&node, &sender.acknowledged())?;
    done("reads go on");

    let before = sender.acknowledged();
    node.kill()?;
    let node = launch.start().context("the start on the full disk")?;
    compare(&node, &before)?;
    done("nothing acknowledged is lost by a kill on a full disk");

    let mut sender = Sender::new(&node.kafka, "kept")?;
    fill(&mut sender)?;
    client::delete(&node.kafka, "ballast").context("deleting on the full disk")?;
    let deadline = Instant::now() + FREED_WITHIN;
    while !sender.send(1)?.is_empty() {
        ensure!(
            Instant::now() < deadline,
            "freed space is not used within {FREED_WITHIN:?}"
        );
    }
    done("deleting frees space, and the node goes on without a restart");
    ensure!(
        client::readiness(&node.http)?.contains(" 200 "),
        "the node is not ready again"
    );
    let mut all = before;
    all.extend(sender.acknowledged());
    compare(&node, &all)?;
    node.kill()?;
    let node = launch.start()?;
    compare(&node, &all)?;
    done("nothing acknowledged is lost by a kill after that");
    node.stop()
}

/// Sends until the disk is full; every refusal must be one that clients retry.
fn fill(sender: &mut Sender) -> Result<()> {
    let most = BYTES / 10_000;
    for _ in 0..most {
        let refused = sender.send(STEP)?;
        let storage = |code: &RDKafkaErrorCode| *code == RDKafkaErrorCode::KafkaStorageError;
        if let Some(other) = refused.iter().find(|code| !storage(code)) {
            bail!("refused with {other:?}");
        }
        if !refused.is_empty() {
            return Ok(());
        }
    }
    bail!("the disk never was full")
}

fn full(node: &Node) -> Result<()> {
    let answer = client::readiness(&node.http)?;
    ensure!(
        answer.contains(" 503 ") && answer.contains("WHARF-2001"),
        "{answer}"
    );
    Ok(())
}

/// Everything acknowledged is there; whatever else is there was sent.
fn compare(node: &Node, acknowledged: &BTreeMap<i64, u64>) -> Result<()> {
    let found = client::read(&node.kafka, "kept")?;
    for (offset, number) in acknowledged {
        let there = found.get(offset);
        ensure!(
            there == Some(&Some(*number)),
            "offset {offset}: {there:?} instead of {number}"
        );
    }
    let stranger = found.iter().find(|(_, number)| number.is_none());
    ensure!(stranger.is_none(), "{stranger:?} was never sent");
    Ok(())
}
