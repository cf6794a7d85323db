//! The real `wharf serve`, on free ports, until it is dropped.
//!
//! A node is handed out only once it said that it is ready, with the addresses it chose itself, so
//! no test guesses a port or waits for a fixed time.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Group;

/// The longest a node may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The longest a node may take to drain when asked to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// A running node.
#[derive(Debug)]
pub struct Node {
    group: Group,
    /// The Kafka listener, `host:port`.
    pub kafka: String,
    /// The HTTP listener, `host:port`.
    pub http: String,
    /// How long it took from starting the process to its ready line.
    pub started_in: Duration,
    log: PathBuf,
}

impl Node {
    /// Starts `binary serve` over `data` and waits until it is ready. What it says on stderr is
    /// appended to `log`. `arguments` are added to the command line.
    pub fn start(binary: &Path, data: &Path, log: &Path, arguments: &[String]) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let errors = OpenOptions::new().create(true).append(true).open(log)?;
        let began = Instant::now();
        let mut group = Group::spawn(
            Command::new(binary)
                .arg("serve")
                .arg("--data")
                .arg(data)
                .args([
                    "--kafka-listen",
                    "127.0.0.1:0",
                    "--http-listen",
                    "127.0.0.1:0",
                ])
                .arg("--ready-json")
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors),
        )?;
        let line = first_line(&mut group)
            .with_context(|| format!("the node did not become ready; see {}", log.display()))?;
        let ready: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("the ready line is not JSON: {line}"))?;
        let address = |key: &str| match ready.get(key).and_then(serde_json::Value::as_str) {
            Some(address) => Ok(address.to_owned()),
            None => bail!("the ready line has no \"{key}\": {line}"),
        };
        Ok(Self {
            kafka: address("kafka")?,
            http: address("http")?,
            started_in: began.elapsed(),
            group,
            log: log.to_owned(),
        })
    }

    /// The node's process id.
    pub fn id(&mut self) -> u32 {
        self.group.child().id()
    }

    /// Ends the node as a power cut would end the process (SIGKILL). An error when it had ended
    /// before by itself: then it crashed.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.group.ended()? {
            bail!(
                "the node had ended by itself: {status}; see {}",
                self.log.display()
            );
        }
        self.group.kill()?;
        Ok(())
    }

    /// Asks the node to stop (SIGTERM) and waits until it has drained.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.group.ended()? {
            bail!(
                "the node had ended by itself: {status}; see {}",
                self.log.display()
            );
        }
        match self.group.terminate(STOPPED_WITHIN)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the node ended with {status}; see {}", self.log.display()),
            None => bail!("the node did not stop within {STOPPED_WITHIN:?}"),
        }
    }

    /// Whether the node has ended by itself, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.group.ended()?)
    }

    /// What the node said on stderr so far.
    pub fn log(&self) -> Result<File> {
        Ok(File::open(&self.log)?)
    }
}

/// The first line of the child's stdout. What follows is read and dropped, so that the child never
/// blocks on a full pipe.
fn first_line(group: &mut Group) -> Result<String> {
    let stdout = group
        .child()
        .stdout
        .take()
        .context("the child's stdout is not piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            // Nobody listens after the first line.
            sender.send(line).ok();
        }
    });
    match receiver.recv_timeout(READY_WITHIN) {
        Ok(line) => Ok(line),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("no ready line within {READY_WITHIN:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            bail!("it ended before: {}", group.wait()?)
        }
    }
}
