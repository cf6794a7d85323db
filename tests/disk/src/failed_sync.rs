//! A sync fails: from then on nothing is acknowledged, reads go on, and when the process is stopped it
//! ends with the code of a failure; started again, it has everything that was acknowledged.
//!
//! `strace` lets the system call fail, so the binary under test is the real one on a real disk.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rdkafka::error::RDKafkaErrorCode;

use crate::client::{self, Sender};
use crate::{Options, Score};

/// The first sync of a thread that fails; earlier ones make topics and the first messages durable.
const FAILS_AT: u32 = 40;
/// How many messages are sent at most until that one.
const MESSAGES_MAX: u32 = 500;
/// The longest until the process has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// The log stopped acknowledging, as docs/operating/run-a-node.md says.
const EXIT_CODE: i32 = 3;

pub(crate) fn run(options: &Options, score: &mut Score) -> Result<()> {
    let mut launch = options.launch("sync")?;
    if launch.data.exists() {
        std::fs::remove_dir_all(&launch.data)?;
    }
    let mut wrapper = vec![options.strace.display().to_string()];
    let fault = format!("inject=fdatasync,fsync:error=EIO:when={FAILS_AT}+");
    let trace = options.scratch.join("strace.log").display().to_string();
    for argument in [
        "-f",
        "-o",
        &trace,
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        &fault,
    ] {
        wrapper.push(argument.to_owned());
    }
    launch.wrapper = wrapper;
    let node = launch.start()?;
    client::make(&node.kafka, &["kept"])?;
    let mut sender = Sender::new(&node.kafka, "kept")?;
    let refused = (0..MESSAGES_MAX).find_map(|_| match sender.send(1) {
        Ok(refused) => refused.first().copied().map(Ok),
        Err(error) => Some(Err(error)),
    });
    let Some(refused) = refused.transpose()? else {
        bail!("no sync failed");
    };
    ensure!(
        refused == RDKafkaErrorCode::KafkaStorageError,
        "refused with {refused:?}"
    );
    let again = sender.send(1)?;
    ensure!(
        again == [RDKafkaErrorCode::KafkaStorageError],
        "then answered with {again:?}"
    );
    score.passed("after a failed sync nothing is acknowledged");
    let acknowledged = sender.acknowledged();
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged before");
    client::compare(&node.kafka, &acknowledged)?;
    let answer = client::readiness(&node.http)?;
    ensure!(
        answer.contains(" 503 ") && answer.contains("WHARF-2003"),
        "{answer}"
    );
    score.passed("reads go on, and the node says why it takes no writes");
    node.ask_to_stop()?;
    let status = node.wait(ENDS_WITHIN)?;
    ensure!(status.code() == Some(EXIT_CODE), "it ended with {status}");
    score.passed("it ends with the code of a failure");
    launch.wrapper.clear();
    let node = launch.start()?;
    client::compare(&node.kafka, &acknowledged)?;
    let mut sender = Sender::new(&node.kafka, "kept")?;
    ensure!(
        sender.send(1)?.is_empty(),
        "it takes no writes after the restart"
    );
    score.passed("nothing acknowledged is lost by a failed sync");
    node.stop()
}
