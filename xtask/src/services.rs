//! Other people's servers, to compare with: the compat scripts must pass against the real thing,
//! so that a case which fails against Wharf is Wharf's fault.
//!
//! Nothing here is needed by the tests. Everything is downloaded and kept below the target
//! directory; a server's data is new at every start.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use harness::Group;

use crate::workspace::Workspace;
use crate::{setup, shell};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask services kafka                     Apache Kafka, until Ctrl-C; prints its address
  python3 compat/kcat/run.py 127.0.0.1:PORT      a client's cases against it";

/// The id that the storage is formatted with.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
/// The longest a server may take to accept connections.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server
    service: Service,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Service {
    /// Apache Kafka 4.2 from Maven Central (needs Java 17 and Maven)
    Kafka,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let Service::Kafka = options.service;
    let folder = workspace.keep("services/kafka");
    let jars = jars(workspace, &folder)?;
    let data = folder.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let port = free_port()?;
    let properties = include_str!("../services/kafka.properties")
        .replace("{port}", &port.to_string())
        .replace("{controller}", &free_port()?.to_string())
        .replace("{data}", &data.display().to_string());
    let file = folder.join("server.properties");
    fs::write(&file, properties)?;
    let java = |arguments: &[&str]| {
        let mut command = workspace.command("java", &["-cp", &jars]);
        command.args(arguments).arg(&file);
        command
    };
    let log = workspace.log("services-kafka");
    let format = [
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        CLUSTER,
        "-c",
    ];
    if !shell::logged(&mut java(&format), &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!("Kafka could not format its storage");
    }
    let output = fs::File::create(&log)?;
    let mut command = java(&["kafka.Kafka"]);
    command.stdout(output.try_clone()?).stderr(output);
    let mut server = Group::spawn(&mut command)?;
    wait_until_up(port, &mut server)?;
    shell::say(format!(
        "Apache Kafka is at 127.0.0.1:{port}; Ctrl-C stops it; its log is {}",
        log.display()
    ));
    server.wait()?;
    Ok(true)
}

/// The class path of Kafka and what it needs, downloaded once.
fn jars(workspace: &Workspace, folder: &Path) -> Result<String> {
    setup::debian(workspace, "java", "default-jre-headless")?;
    let (libraries, stamp) = (folder.join("libs"), folder.join("pom.xml"));
    let wanted = include_str!("../services/kafka.xml");
    if !fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        setup::debian(workspace, "mvn", "maven")?;
        shell::say("    downloading Apache Kafka");
        fs::create_dir_all(folder)?;
        let log = workspace.log("services-maven");
        let mut command = workspace.command("mvn", &["--quiet", "--batch-mode"]);
        command.args([
            "--file",
            "xtask/services/kafka.xml",
            "dependency:copy-dependencies",
        ]);
        command.arg(format!("-DoutputDirectory={}", libraries.display()));
        if !shell::logged(&mut command, &log, |_| {})?.success() {
            shell::show_tail(&log);
            bail!("Maven could not download Kafka");
        }
        fs::write(&stamp, wanted)?;
    }
    Ok(format!("{}/*", libraries.display()))
}

/// A port that was free a moment ago; servers that cannot choose one themselves need it.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn wait_until_up(port: u16, server: &mut Group) -> Result<()> {
    let deadline = Instant::now() + UP_WITHIN;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Some(status) = server.ended().context("the server is gone")? {
            bail!("the server ended at once: {status}");
        }
        if Instant::now() > deadline {
            bail!("the server accepts no connection within {UP_WITHIN:?}");
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    Ok(())
}
