//! The disk runs full: writes are refused with an error that clients retry and a code that says why;
//! reads go on, also after a kill and a start in that state; deleting frees space, which the node notices
//! without a restart; and nothing that was acknowledged is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{Mount, Node};
use rdkafka::error::RDKafkaErrorCode;

use crate::client::{self, Sender};
use crate::{Options, Score, say};

/// The file system's size: the journal's files and some segments.
const BYTES: u64 = 112 << 20;
/// How many messages go into the topic that is deleted later: more than the journal holds.
const BALLAST: u64 = 500;
/// What is sent until the disk is full, a few at a time.
const STEP: u64 = 20;
/// The longest until space that was freed is used again.
const FREED_WITHIN: Duration = Duration::from_secs(60);

/// Mounts a small file system and fills it.
pub(crate) fn run(options: &Options, score: &mut Score) -> Result<()> {
    let mount = match Mount::of(&options.scratch.join("disk"), BYTES) {
        Ok(mount) => mount,
        Err(error) => {
            say(&format!("SKIP a file system cannot be mounted: {error:#}"));
            return Ok(());
        }
    };
    let outcome = on_full_disk(options, score);
    drop(mount);
    outcome
}

fn on_full_disk(options: &Options, score: &mut Score) -> Result<()> {
    let launch = options.launch("disk/data")?;
    let node = launch.start()?;
    client::make(&node.kafka, &["ballast", "kept"])?;
    let mut ballast = Sender::new(&node.kafka, "ballast")?;
    ensure!(ballast.send(BALLAST)?.is_empty(), "the ballast was refused");
    let mut sender = Sender::new(&node.kafka, "kept")?;
    fill(&mut sender)?;
    score.passed("a full disk refuses writes with an error that clients retry");
    full(&node)?;
    score.passed("the node says why it takes no writes");
    client::compare(&node.kafka, &sender.acknowledged())?;
    score.passed("reads go on");

    let before = sender.acknowledged();
    node.kill()?;
    let node = launch.start().context("the start on the full disk")?;
    client::compare(&node.kafka, &before)?;
    score.passed("nothing acknowledged is lost by a kill on a full disk");

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
    score.passed("deleting frees space, and the node goes on without a restart");
    ensure!(
        client::readiness(&node.http)?.contains(" 200 "),
        "the node is not ready again"
    );
    let mut all = before;
    all.extend(sender.acknowledged());
    client::compare(&node.kafka, &all)?;
    node.kill()?;
    let node = launch.start()?;
    client::compare(&node.kafka, &all)?;
    score.passed("nothing acknowledged is lost by a kill after that");
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
