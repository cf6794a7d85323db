//! Other people's clients, each against a node of its own and against one Apache Kafka.

use std::cell::RefCell;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use harness::Launch;

use super::clients::{CLIENTS, Found};
use super::compare::{Cases, Server, differences, judge};
use super::{Context, Outcome};
use crate::services::{Service, kafka_classes};
use crate::setup;
use crate::shell::{self, say};

/// What a name of a part begins with when it belongs here.
pub(super) const PREFIX: &str = "compat/";

/// The Kafka that all clients of a run share: started when first needed. When it cannot be, the
/// reason is kept.
#[derive(Debug, Default)]
pub(super) struct Peer(RefCell<Option<Result<Service, String>>>);

impl Peer {
    fn address(&self, cx: &Context<'_>) -> Result<String, String> {
        let mut peer = self.0.borrow_mut();
        let started = peer.get_or_insert_with(|| {
            say("    starting Apache Kafka");
            Service::kafka(cx.workspace, &cx.scratch.join("apache-kafka"))
                .map_err(|error| format!("{error:#}"))
        });
        match started {
            Ok(service) => Ok(service.address.clone()),
            Err(why) => Err(format!("Apache Kafka does not run: {why}")),
        }
    }

    /// Stops it, if it runs.
    pub(super) fn stop(&self) {
        if let Some(Ok(service)) = self.0.borrow_mut().take() {
            service
                .stop()
                .unwrap_or_else(|error| say(format!("    {error:#}")));
        }
    }
}

/// Runs one of [`CLIENTS`].
pub(super) fn client(cx: &Context<'_>, name: &str) -> Result<Outcome> {
    let client = CLIENTS.iter().find(|client| client.name == name);
    let client = client.with_context(|| format!("{name} is not in the list of clients"))?;
    match (client.find)(cx, name)? {
        Found::Command(command) => against_both(cx, &format!("{PREFIX}{name}"), &command),
        Found::Missing(why) => Ok(Outcome::skipped(why)),
    }
}

/// Programs of Apache Kafka itself.
pub(super) fn java(cx: &Context<'_>, client: &str) -> Result<Outcome> {
    match java_command(cx, client) {
        Ok(command) => against_both(cx, &format!("compat/{client}"), &command),
        Err(error) => Ok(Outcome::skipped(format!("{error:#}"))),
    }
}

/// MirrorMaker between the broker in question and an Apache Kafka of its own.
pub(super) fn mirror_maker(cx: &Context<'_>) -> Result<Outcome> {
    let mut command = match java_command(cx, "mirror-maker") {
        Ok(command) => command,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let other = Service::kafka(cx.workspace, &cx.scratch.join("another-kafka"))?;
    command.env("KAFKA_PEER", &other.address);
    let outcome = against_both(cx, "compat/mirror-maker", &command)?;
    other.stop()?;
    Ok(outcome)
}

/// A script that needs Kafka's classes, and a compiler for our few lines of Java.
fn java_command(cx: &Context<'_>, client: &str) -> Result<Command> {
    setup::debian(cx.workspace, "javac", "default-jdk-headless")?;
    setup::debian(cx.workspace, "python3", "python3")?;
    let script = format!("compat/{client}/run.py");
    let mut command = cx.workspace.command("python3", &[&script]);
    command.env("KAFKA_CLASSES", kafka_classes(cx.workspace)?);
    Ok(command)
}

/// Runs a client's cases, given the server's address as the last argument, against a fresh node
/// and against Kafka, and compares. Whether the node stopped cleanly is one more case.
pub(super) fn against_both(cx: &Context<'_>, name: &str, command: &Command) -> Result<Outcome> {
    let client = name.trim_start_matches(PREFIX);
    let file = cx.workspace.root.join("compat/differences.toml");
    let listed = differences(&fs::read_to_string(&file).context("compat/differences.toml")?)?;
    let mut skipped = Vec::new();

    let (wharf, stopped, server_log) = on_a_node(cx, name, command)?;
    let kafka = match cx.peer.address(cx) {
        Ok(address) => Some(run(cx, name, Server::Kafka, command, &address)?),
        Err(why) => {
            skipped.push(why);
            None
        }
    };
    let mut verdict = judge(client, &wharf, kafka.as_ref(), &listed);
    match stopped {
        Ok(()) => verdict.wharf.0 += 1,
        Err(error) => {
            verdict.wharf.1 += 1;
            verdict.failures.push(format!("{error:#}"));
        }
    }
    if verdict.wharf.1 > 0 {
        shell::show_tail(&server_log);
        shell::show_tail(&log(cx, name, Server::Wharf));
    }
    if verdict.kafka.1 > 0 {
        shell::show_tail(&log(cx, name, Server::Kafka));
    }
    for line in verdict.differences.iter().chain(&verdict.failures) {
        say(format!("    {line}"));
    }
    let mut servers = vec![("on wharf", verdict.wharf)];
    if kafka.is_some() {
        servers.push(("on kafka", verdict.kafka));
    }
    Ok(Outcome {
        passed: servers.iter().map(|(_, counts)| counts.0).sum(),
        failed: servers.iter().map(|(_, counts)| counts.1).sum(),
        skipped,
        servers,
    })
}

fn log(cx: &Context<'_>, name: &str, server: Server) -> std::path::PathBuf {
    cx.workspace.log(&format!("{name}-{server}"))
}

/// The cases against a fresh node, whether it stopped cleanly, and its own log.
fn on_a_node(
    cx: &Context<'_>,
    name: &str,
    command: &Command,
) -> Result<(Cases, Result<()>, std::path::PathBuf)> {
    let data = cx.scratch.join(name.replace('/', "-"));
    let server_log = data.with_extension("server.log");
    let mut launch = Launch::new(cx.wharf()?, &data, &server_log);
    let config = cx.workspace.root.join("compat/wharf.toml");
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let node = launch.start()?;
    let cases = run(cx, name, Server::Wharf, command, &node.kafka)?;
    Ok((cases, node.stop(), server_log))
}

fn run(
    cx: &Context<'_>,
    name: &str,
    server: Server,
    command: &Command,
    address: &str,
) -> Result<Cases> {
    let mut cases = Cases::default();
    let mut command = again(command);
    // What a client leaves behind goes with the run's data.
    command.env("TMPDIR", &cx.scratch).arg(address);
    let began = std::time::Instant::now();
    shell::logged(&mut command, &log(cx, name, server), |line| {
        cases.line(line);
    })?;
    if !cases.closed {
        // A client that ended in the middle; the cases it did not come to are missing as well.
        cases.line("FAIL all cases are run: the client ended early");
    }
    let took = began.elapsed().as_secs_f64();
    say(format!("    on {server}: {took:.0} s"));
    Ok(cases)
}

/// The same command, to run once more.
fn again(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        copy.current_dir(folder);
    }
    copy
}
