//! Other people's servers as processes: started, watched until they answer in their own protocol,
//! killed or stopped, started again on the same data. One file for each server that several users of
//! this crate start.
//!
//! Invariants: a server lives in a folder and on a port of its own and ends with its owner; it counts
//! as started only once it has answered in its own protocol.

pub mod kafka;
pub mod nats;
pub mod rabbitmq;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Group, Port};

/// The longest a server may take to answer: one that was killed may have thousands of files to read.
const UP_WITHIN: Duration = Duration::from_secs(180);
/// The longest it may take to end when asked to.
const DOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may take to say something while the server starts.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Apache Kafka's.
    Kafka,
    /// NATS.
    Nats,
    /// RESP.
    Redis,
    /// AMQP 0-9-1.
    Amqp,
    /// HTTP/1.1.
    Http,
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
            Self::Http => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        }
    }

    /// Whether this is the answer of a server that is ready, not of one that still loads its data.
    fn is_ready(self, answer: &[u8]) -> bool {
        self != Self::Redis || answer.starts_with(b"+PONG")
    }
}

/// Where a server is put.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The installed program (of Apache Kafka, the class path).
    pub program: &'a str,
    /// A folder of its own; kept across restarts.
    pub folder: &'a Path,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    /// Two more ports of its own, for what else it listens on.
    pub more_ports: [u16; 2],
    /// Where clients connect: itself, or a proxy before it.
    pub address: &'a str,
}

impl Site<'_> {
    /// A path below the folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A command that runs the installed program.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(arguments);
        command
    }
}

/// How a server is started.
#[derive(Debug)]
pub struct Plan {
    /// What must have run to its end before, once for a folder.
    pub prepare: Option<Command>,
    /// What must run beside it.
    pub beside: Option<Command>,
    /// The server.
    pub command: Command,
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

/// A server's place on this machine, whether it runs or not; removed with its owner.
#[derive(Debug)]
pub struct Place {
    protocol: Protocol,
    folder: PathBuf,
    port: Port,
    more_ports: [Port; 2],
    address: String,
    is_prepared: bool,
}

impl Place {
    /// A fresh place: `folder` is emptied if there is one.
    pub fn new(protocol: Protocol, folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let port = Port::reserve()?;
        Ok(Self {
            protocol,
            folder,
            address: format!("127.0.0.1:{}", port.number()),
            port,
            more_ports: [Port::reserve()?, Port::reserve()?],
            is_prepared: false,
        })
    }

    /// Where the server will listen: `host:port`.
    pub fn upstream(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Clients connect to `address`, which leads here: servers that tell clients where they are
    /// tell them this.
    pub fn behind(&mut self, address: String) {
        self.address = address;
    }

    /// Starts the server as `plan` says, on the data that an earlier run left here, and waits until
    /// it answers.
    pub fn start(
        &mut self,
        program: &str,
        plan: impl FnOnce(&Site<'_>) -> Result<Plan>,
    ) -> Result<Running> {
        let plan = plan(&Site {
            program,
            folder: &self.folder,
            port: self.port.number(),
            more_ports: self.more_ports.each_ref().map(Port::number),
            address: &self.address,
        })?;
        let log = self.folder.join("server.log");
        if let Some(mut prepare) = plan.prepare.filter(|_| !self.is_prepared) {
            let status = group(&mut prepare, &log)?.wait()?;
            if !status.success() {
                bail!("preparing it ended with {status}: {}", complaint(&log));
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
        wait_until_up(self.protocol, self.port.number(), &mut group, &log)?;
        Ok(Running {
            address: self.upstream(),
            started_in: began.elapsed(),
            group,
            _beside: beside,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is in the scratch directory, which goes as a whole at the end.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect: `host:port`.
    pub address: String,
    /// From starting the process to its first answer.
    pub started_in: Duration,
    group: Group,
    _beside: Option<Group>,
}

impl Running {
    /// The id of its process group.
    pub fn id(&mut self) -> u32 {
        self.group.child().id()
    }

    /// Kills it as a power cut would end the process.
    pub fn kill(mut self) -> Result<()> {
        self.group.kill()?;
        Ok(())
    }

    /// Asks it to end.
    pub fn stop(mut self) -> Result<()> {
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
            bail!("it ended at once ({status}): {}", complaint(log));
        }
        if Instant::now() > deadline {
            bail!(
                "it does not answer within {UP_WITHIN:?}: {}",
                complaint(log)
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

/// The last error that a server spoke of, or else the last thing it said, without the place where it
/// was put.
fn complaint(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let is_error = |line: &&str| {
        ["Caused by:", "ERROR", "[error]"]
            .iter()
            .any(|word| line.contains(word))
    };
    let line = text.lines().rev().find(is_error);
    let line = line.or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()));
    let folder = log.parent().unwrap_or(log).display().to_string();
    line.unwrap_or("it said nothing")
        .trim()
        .replace(&folder, "…")
        .chars()
        .take(200)
        .collect()
}
