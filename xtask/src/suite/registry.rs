//! Other people's registry clients, each against the registry of a node of its own, with records through
//! the broker of the same node.
//!
//! There is no Confluent registry to compare with (its licence keeps it from the package registries), so
//! the cases themselves say what it answers.

use std::process::Command;

use anyhow::Result;
use harness::Launch;

use super::{Context, Outcome, counted};
use crate::services::registry_classes;
use crate::setup;

/// What a name of a part begins with when it belongs here.
const PREFIX: &str = "compat/registry/";

/// What runs a client's cases, by the name of the part.
fn command(cx: &Context<'_>, client: &str) -> Result<Command> {
    let workspace = cx.workspace;
    Ok(match client {
        "confluent-python" => workspace.command(
            setup::python(workspace)?,
            &["compat/registry/confluent-python/run.py"],
        ),
        "confluent-javascript" | "kafkajs" => {
            let script = match client {
                "kafkajs" => "compat/registry/javascript/kafkajs.mjs",
                _ => "compat/registry/javascript/confluent.mjs",
            };
            let mut command = workspace.command("node", &[script]);
            command.env("NODE_PATH", setup::node(workspace, "registry/javascript")?);
            command
        }
        "confluent-java" => {
            setup::debian(workspace, "javac", "default-jdk-headless")?;
            let classes = registry_classes(workspace)?;
            let mut command = workspace.command("java", &["-XX:TieredStopAtLevel=1", "-cp"]);
            command.arg(classes);
            command.arg("compat/registry/confluent-java/Cases.java");
            command
        }
        "confluent-go" => go(cx, "registry-confluent", "./confluent")?,
        "franz-go" => go(cx, "registry-franz-go", "./franz-go")?,
        "rust" => workspace.command(workspace.build_all("compat-registry-rust")?, &[]),
        other => anyhow::bail!("{other} is not in the list of registry clients"),
    })
}

/// One of the programs of `compat/registry/go`.
fn go(cx: &Context<'_>, name: &str, package: &str) -> Result<Command> {
    let program = setup::go_program(cx.workspace, "compat/registry/go", name, package)?;
    Ok(cx.workspace.command(program, &[]))
}

/// Runs the part of this name.
pub(super) fn client(cx: &Context<'_>, client: &str) -> Result<Outcome> {
    let mut command = match command(cx, client) {
        Ok(command) => command,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let name = format!("{PREFIX}{client}");
    let data = cx.scratch.join(name.replace('/', "-"));
    let mut launch = Launch::new(cx.wharf()?, &data, &data.with_extension("server.log"));
    let config = cx.workspace.root.join("compat/wharf.toml");
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let node = launch.start()?;
    command.arg(&node.registry);
    command.env("BROKER", &node.kafka);
    command.env("TMPDIR", &cx.scratch);
    let mut outcome = counted(cx.workspace, &cx.workspace.log(&name), command)?;
    // Whether the node stopped cleanly is one more case.
    node.stop()?;
    outcome.passed += 1;
    Ok(outcome)
}
