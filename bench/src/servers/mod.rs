//! The servers that are measured, one file each: how it is started and what its acknowledgement
//! means.
//!
//! Invariants: a server lives in a folder and on ports of its own and ends with its owner; it counts
//! as started only once it has answered in its own protocol.

mod kafka;
mod nats;
mod process;
mod rabbitmq;
mod redis;
mod tools;
mod wharf;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::{Group, free_port};

pub(crate) use process::{Usage, own_cpu};
pub(crate) use tools::{Tool, Tools};

/// The longest a server may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The longest it may take to end when asked to.
const DOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may take to say something while the server starts.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// What a server speaks, and so which client drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Kafka,
    Nats,
    Redis,
    Amqp,
}

impl Protocol {
    /// What is sent to a fresh connection to make the server answer. NATS speaks first.
    fn greeting(self) -> &'static [u8] {
        match self {
            // ApiVersions version 0, correlation 1, no client id.
            Self::Kafka => &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
            Self::Nats => &[],
            Self::Redis => b"PING\r\n",
            Self::Amqp => b"AMQP\0\0\x09\x01",
        }
    }

    /// Whether this is the answer of a server that is ready, not of one that still loads its data.
    fn is_ready(self, answer: &[u8]) -> bool {
        self != Self::Redis || answer.starts_with(b"+PONG")
    }
}

/// One kind of server.
pub(crate) struct Server {
    /// The name in options and files.
    pub(crate) key: &'static str,
    /// The name for people.
    pub(crate) name: &'static str,
    /// What has happened to a message when it is acknowledged.
    pub(crate) acknowledged: &'static str,
    pub(crate) protocol: Protocol,
    /// What must be installed.
    pub(crate) tool: &'static str,
    plan: fn(&Site<'_>) -> Result<Plan>,
}

/// All servers, Wharf first.
pub(crate) const SERVERS: &[Server] = &[
    Server {
        key: "wharf",
        name: "Wharf",
        acknowledged: "synced to the disk",
        protocol: Protocol::Kafka,
        tool: "wharf",
        plan: wharf::plan,
    },
    Server {
        key: "kafka",
        name: "Apache Kafka",
        acknowledged: "in the page cache",
        protocol: Protocol::Kafka,
        tool: "kafka",
        plan: |site| kafka::plan(site, ""),
    },
    Server {
        key: "kafka-flush",
        name: "Apache Kafka, flush.messages=1",
        acknowledged: "synced to the disk",
        protocol: Protocol::Kafka,
        tool: "kafka",
        plan: |site| kafka::plan(site, "log.flush.interval.messages=1\n"),
    },
    Server {
        key: "nats",
        name: "NATS JetStream",
        acknowledged: "in the page cache",
        protocol: Protocol::Nats,
        tool: "nats",
        plan: |site| nats::plan(site, None),
    },
    Server {
        key: "nats-sync",
        name: "NATS JetStream, sync_interval: always",
        acknowledged: "synced to the disk",
        protocol: Protocol::Nats,
        tool: "nats",
        plan: |site| nats::plan(site, Some("always")),
    },
    Server {
        key: "redis",
        name: "Redis streams, appendfsync always",
        acknowledged: "synced to the disk",
        protocol: Protocol::Redis,
        tool: "redis",
        plan: redis::plan,
    },
    Server {
        key: "rabbitmq",
        name: "RabbitMQ quorum queues",
        acknowledged: "synced to the disk",
        protocol: Protocol::Amqp,
        tool: "rabbitmq",
        plan: rabbitmq::plan,
    },
    Server {
        key: "tansu",
        name: "Tansu, in memory",
        acknowledged: "in memory only",
        protocol: Protocol::Kafka,
        tool: "tansu",
        plan: tools::tansu,
    },
    Server {
        key: "klite",
        name: "klite",
        acknowledged: "synced to the disk, every 2 ms",
        protocol: Protocol::Kafka,
        tool: "klite",
        plan: tools::klite,
    },
];

/// Where a server is put.
struct Site<'a> {
    tool: &'a Tool,
    /// A folder of its own; kept across restarts.
    folder: &'a Path,
    port: u16,
}

impl Site<'_> {
    /// A path below the folder, as text.
    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A command that runs the installed program.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tool.path);
        command.args(arguments);
        command
    }
}

/// How a server is started.
struct Plan {
    /// What must have run to its end before, once for a folder.
    prepare: Option<Command>,
    /// What must run beside it.
    beside: Option<Command>,
    command: Command,
}

impl From<Command> for Plan {
    fn from(command: Command) -> Self {
        Self {
            prepare: None,
            beside: None,
            command,
        }
    }
}

/// A server's place on this machine, whether it runs or not.
pub(crate) struct Place<'a> {
    server: &'a Server,
    tool: &'a Tool,
    folder: PathBuf,
    port: u16,
    is_prepared: bool,
}

impl<'a> Place<'a> {
    /// A fresh place below `scratch`.
    pub(crate) fn new(server: &'a Server, tool: &'a Tool, scratch: &Path) -> Result<Self> {
        let folder = scratch.join(server.key);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self {
            server,
            tool,
            folder,
            port: free_port()?,
            is_prepared: false,
        })
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<Running> {
        let site = Site {
            tool: self.tool,
            folder: &self.folder,
            port: self.port,
        };
        let plan = (self.server.plan)(&site)?;
        let log = self.folder.join("server.log");
        if let Some(mut prepare) = plan.prepare.filter(|_| !self.is_prepared) {
            let status = group(&mut prepare, &log)?.wait()?;
            if !status.success() {
                bail!("preparing it ended with {status}: {}", last_line(&log));
            }
        }
        self.is_prepared = true;
        let beside = match plan.beside {
            Some(mut command) => Some(group(&mut command, &log)?),
            None => None,
        };
        let mut command = plan.command;
        let began = Instant::now();
        let mut group = group(&mut command, &log)?;
        wait_until_up(self.server.protocol, self.port, &mut group, &log)?;
        Ok(Running {
            address: format!("127.0.0.1:{}", self.port),
            started_in: began.elapsed(),
            group,
            _beside: beside,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // What cannot be removed is in the scratch directory, which goes as a whole at the end.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A running server.
pub(crate) struct Running {
    pub(crate) address: String,
    /// From starting the process to its first answer.
    pub(crate) started_in: Duration,
    group: Group,
    _beside: Option<Group>,
}

impl Running {
    /// What it uses now.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        Usage::of_group(self.group.child().id())
    }

    /// Kills it as a power cut would end the process.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.group.kill()?;
        Ok(())
    }

    /// Asks it to end.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(status) = self.group.ended()? {
            bail!("it had ended by itself: {status}");
        }
        if self.group.terminate(DOWN_WITHIN)?.is_none() {
            bail!("it did not stop within {DOWN_WITHIN:?}");
        }
        Ok(())
    }
}

fn group(command: &mut Command, log: &Path) -> Result<Group> {
    let output = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    Group::spawn(command)
}

fn wait_until_up(protocol: Protocol, port: u16, group: &mut Group, log: &Path) -> Result<()> {
    let deadline = Instant::now() + UP_WITHIN;
    while !answers(protocol, port) {
        if let Some(status) = group.ended().context("the server is gone")? {
            bail!("it ended at once ({status}): {}", last_line(log));
        }
        if Instant::now() > deadline {
            bail!(
                "it does not answer within {UP_WITHIN:?}: {}",
                last_line(log)
            );
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether the server answers a greeting in its own protocol.
fn answers(protocol: Protocol, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = [0; 64];
    stream.set_read_timeout(Some(ANSWER_WITHIN)).is_ok()
        && stream.write_all(protocol.greeting()).is_ok()
        && stream
            .read(&mut answer)
            .is_ok_and(|bytes| bytes > 0 && protocol.is_ready(&answer[..bytes]))
}

/// The last thing a server said, without the place where it was put.
fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let folder = log.parent().unwrap_or(log).display().to_string();
    line.unwrap_or("it said nothing")
        .trim()
        .replace(&folder, "…")
        .chars()
        .take(200)
        .collect()
}
