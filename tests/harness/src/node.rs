//! The real `wharf serve`, on free ports, until it is dropped.
//!
//! A node is handed out only once it said that it is ready, with the addresses it chose itself, so
//! no test guesses a port or waits for a fixed time.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::Group;

/// The longest a node may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The longest a node may take to drain when asked to stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `wharf` binary.
    pub binary: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Where what it says on stderr is appended.
    pub log: PathBuf,
    /// The Kafka listener; port 0 lets it choose.
    pub kafka_listen: String,
    /// The HTTP listener; port 0 lets it choose.
    pub http_listen: String,
    /// The schema registry's listener; port 0 lets it choose.
    pub registry_listen: String,
    /// More arguments for the command line.
    pub arguments: Vec<String>,
    /// A program with its arguments that starts the node as its child; none when empty.
    pub wrapper: Vec<String>,
}

impl Launch {
    /// A node of `binary` over `data` on ports of its own choice.
    pub fn new(binary: &Path, data: &Path, log: &Path) -> Self {
        Self {
            binary: binary.to_owned(),
            data: data.to_owned(),
            log: log.to_owned(),
            kafka_listen: "127.0.0.1:0".to_owned(),
            http_listen: "127.0.0.1:0".to_owned(),
            registry_listen: "127.0.0.1:0".to_owned(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    fn spawn(&self) -> Result<Group> {
        if let Some(folder) = self.log.parent() {
            fs::create_dir_all(folder)?;
        }
        let errors = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        Group::spawn(
            command
                .arg("serve")
                .arg("--data")
                .arg(&self.data)
                .args(["--kafka-listen", &self.kafka_listen])
                .args(["--http-listen", &self.http_listen])
                .args(["--registry-listen", &self.registry_listen, "--ready-json"])
                .args(&self.arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(errors),
        )
    }

    /// Starts the node and kills it (SIGKILL) after `life`, ready or not.
    pub fn start_and_kill(&self, life: Duration) -> Result<()> {
        let mut group = self.spawn()?;
        let line = lines(&mut group)?;
        // A ready line does not end the wait, and neither does the end of the output.
        let deadline = Instant::now() + life;
        while line
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        group.kill()?;
        Ok(())
    }

    /// Starts the node and waits until it is ready.
    pub fn start(&self) -> Result<Node> {
        let began = Instant::now();
        let mut group = self.spawn()?;
        let line = first_line(&mut group)
            .with_context(|| format!("the node did not start; see {}", self.log.display()))?;
        let ready: serde_json::Value = serde_json::from_str(&line)
            .with_context(|| format!("the ready line is not JSON: {line}"))?;
        let address = |key: &str| match ready.get(key).and_then(serde_json::Value::as_str) {
            Some(address) => Ok(address.to_owned()),
            None => bail!("the ready line has no \"{key}\": {line}"),
        };
        let process = ready.get("pid").and_then(serde_json::Value::as_i64);
        let process = process.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(Node {
            process: process.with_context(|| format!("the ready line has no \"pid\": {line}"))?,
            kafka: address("kafka")?,
            http: address("http")?,
            registry: address("registry")?,
            started_in: began.elapsed(),
            group,
            log: self.log.clone(),
        })
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    group: Group,
    /// The node's own process, which is a wrapper's child.
    process: Pid,
    /// The Kafka listener, `host:port`.
    pub kafka: String,
    /// The HTTP listener, `host:port`.
    pub http: String,
    /// The schema registry, `host:port`.
    pub registry: String,
    /// How long it took from starting the process to its ready line.
    pub started_in: Duration,
    log: PathBuf,
}

impl Node {
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

    /// Lets the node do nothing (SIGSTOP) until [`Self::thaw`].
    pub fn freeze(&self) {
        self.group.freeze();
    }

    /// Lets the node go on (SIGCONT).
    pub fn thaw(&self) {
        self.group.thaw();
    }

    /// Asks the node's own process to stop (SIGTERM), and waits for nothing. The process cannot have
    /// been reaped yet: its end ends the group's child, and only [`Self::wait`] and its like reap that.
    pub fn ask_to_stop(&self) -> Result<()> {
        Ok(kill_process(self.process, Signal::TERM)?)
    }

    /// Waits until the node has ended by itself; an error when it has not within `patience`.
    pub fn wait(mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.group.ended()? {
                return Ok(status);
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        bail!("the node had not ended within {patience:?}")
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
}

/// The lines of the child's stdout. What nobody takes is dropped, so that the child never blocks on
/// a full pipe.
fn lines(group: &mut Group) -> Result<mpsc::Receiver<String>> {
    let stdout = group.child().stdout.take();
    let stdout = stdout.context("the child's stdout is not piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            sender.send(line).ok();
        }
    });
    Ok(receiver)
}

fn first_line(group: &mut Group) -> Result<String> {
    match lines(group)?.recv_timeout(READY_WITHIN) {
        Ok(line) => Ok(line),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("no ready line within {READY_WITHIN:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => bail!("it ended before: {}", group.wait()?),
    }
}
