//! The others: each started with its defaults, on this machine, with a worker that does the same.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use harness::servers::{self, Plan, Protocol, Running, Site};
use harness::{Database, DatabaseKind};
use serde_json::{Value, json};

use super::Options;
use super::load::{Engine, Load, Pace, Taken, check};
use super::program::Program;
use crate::http::{self, Call, Target};

/// How much longer than it should a load may take until its last saga has ended.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is not Postgres's default: no checkpoint falls into one measurement and not into another.
const POSTGRES: &[&str] = &["-c", "max_wal_size=16GB", "-c", "checkpoint_timeout=1h"];

/// A worker in Node.js.
pub(super) fn node_worker(
    options: &Options,
    script: &str,
    port: u16,
    log: &Path,
) -> Result<(Program, u64)> {
    let modules = options
        .node_modules
        .as_ref()
        .ok_or_else(|| anyhow!("{}", options.node_missing))?;
    let mut command = Command::new("node");
    command.arg(options.peers.join("node").join(script));
    command.arg(port.to_string()).env("NODE_PATH", modules);
    command.env("RESTATE_LOGGING", "ERROR");
    let (program, ready) = Program::start(&mut command, log)?;
    let port = ready["port"].as_u64().context("it told no port")?;
    Ok((program, port))
}

/// What a worker in Node.js gathered since it was last asked.
pub(super) fn gathered(worker: &mut Program) -> Result<Value> {
    worker.ask(&json!({}), PATIENCE)
}

/// Restate with a worker of its SDK for Node.js; sagas are started over its HTTP ingress, whose answer is
/// the end of the saga.
pub(super) struct Restate {
    target: Target,
    worker: Program,
    _running: Running,
    _place: servers::Place,
}

impl Restate {
    pub(super) fn start(options: &Options) -> Result<Self> {
        let program = options
            .restate
            .as_ref()
            .ok_or_else(|| anyhow!("{}", options.restate_missing))?
            .display()
            .to_string();
        let folder = options.scratch.join("restate");
        let mut place = servers::Place::new(Protocol::Http, folder.clone())?;
        let mut admin = 0;
        let running = place.start(&program, |site| {
            [admin, _] = site.more_ports;
            Ok(restate(site))
        })?;
        let (worker, port) = node_worker(options, "restate.mjs", 0, &folder.join("worker.log"))?;
        let target = |address| Target {
            address,
            prefix: "",
            media: "application/json",
        };
        let admin = target(format!("127.0.0.1:{admin}"));
        let body = json!({ "uri": format!("http://127.0.0.1:{port}") }).to_string();
        let register = Call::post("/deployments", body);
        http::Load::new(&admin)?.on_one(|mut one| async move { one.good(register).await })?;
        Ok(Self {
            target: target(place.upstream()),
            worker,
            _running: running,
            _place: place,
        })
    }
}

/// With its defaults, on ports of its own.
fn restate(site: &Site<'_>) -> Plan {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let [admin, node] = site.more_ports;
    let mut command = site.command(&["--node-name", "bench"]);
    command
        .args(["--base-dir", &site.path("data")])
        .env("RESTATE_INGRESS__BIND_ADDRESS", at(site.port))
        .env("RESTATE_ADMIN__BIND_ADDRESS", at(admin))
        .env("RESTATE_BIND_ADDRESS", at(node))
        .env("RESTATE_ADVERTISED_ADDRESS", format!("http://{}", at(node)))
        .env("RESTATE_LOG_FILTER", "warn")
        .env("DO_NOT_TRACK", "1")
        .env("RESTATE_DISABLE_TELEMETRY", "true")
        .current_dir(site.folder);
    command.into()
}

impl Engine for Restate {
    fn load(&mut self, load: Load) -> Result<Taken> {
        gathered(&mut self.worker)?;
        let driver = http::Load::new(&self.target)?;
        let (connections, pace) = match load.pace {
            Pace::AtOnce(count) => (count, http::Pace::For(load.length)),
            // More connections than sagas can be under way, so that none waits for another one.
            Pace::Rate(rate) => (16, http::Pace::At(rate, load.length)),
        };
        let call = |number| {
            let order = json!({ "id": number, "fails": load.fails });
            Call::post("/saga/run", order.to_string())
        };
        let speed = driver.run(connections, pace, call)?;
        let answer = gathered(&mut self.worker)?;
        let ended = (speed.rate * load.length.as_secs_f64()).floor();
        // The run took no less than its length, so it had at least so many sagas.
        check(&answer, ended, load.fails)?;
        Ok(Taken {
            rate: speed.rate,
            p50: speed.p50,
            p99: speed.p99,
            step_p50: answer["step_p50"].as_f64().unwrap_or(f64::NAN),
            step_p99: answer["step_p99"].as_f64().unwrap_or(f64::NAN),
        })
    }
}

/// A peer whose client and worker are one process in Python; see `load.py`.
pub(super) struct Python<Server> {
    program: Program,
    _server: Server,
}

impl<Server> Engine for Python<Server> {
    fn load(&mut self, load: Load) -> Result<Taken> {
        let mut line = json!({ "seconds": load.length.as_secs_f64(), "fails": load.fails });
        match load.pace {
            Pace::AtOnce(count) => line["at_once"] = json!(count),
            Pace::Rate(rate) => line["rate"] = json!(rate),
        }
        let answer = self.program.ask(&line, load.length + PATIENCE)?;
        Taken::of(&answer, load.fails)
    }
}

fn python(options: &Options, script: &str, argument: &str, log: &Path) -> Result<Program> {
    let interpreter = options
        .python
        .as_ref()
        .ok_or_else(|| anyhow!("{}", options.python_missing))?;
    let mut command = Command::new(interpreter);
    command.arg(options.peers.join("python").join(script));
    command.arg(argument).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(Program::start(&mut command, log)?.0)
}

/// Temporal's server for development with its database in a file.
pub(super) fn temporal(options: &Options) -> Result<Python<(Running, servers::Place)>> {
    let program = options
        .temporal
        .as_ref()
        .ok_or_else(|| anyhow!("{}", options.python_missing))?;
    let program = program.display().to_string();
    let folder = options.scratch.join("temporal");
    let mut place = servers::Place::new(Protocol::Http, folder.clone())?;
    let mut address = String::new();
    let running = place.start(&program, |site| {
        let [grpc, metrics] = site.more_ports.map(|port| port.to_string());
        address = format!("127.0.0.1:{grpc}");
        let http = site.port.to_string();
        let mut command = site.command(&["server", "start-dev", "--headless", "--ip", "127.0.0.1"]);
        command.args(["--port", &grpc, "--http-port", &http]);
        command.args(["--metrics-port", &metrics, "--log-level", "error"]);
        command.args(["--db-filename", &site.path("temporal.db")]);
        command.env("HOME", site.folder).current_dir(site.folder);
        Ok(command.into())
    })?;
    let log = folder.join("worker.log");
    let program = python(options, "temporal_saga.py", &address, &log)?;
    Ok(Python {
        program,
        _server: (running, place),
    })
}

/// DBOS with a Postgres of its own.
pub(super) fn dbos(options: &Options) -> Result<Python<Database>> {
    // Before a database is made that nobody would use.
    ensure!(options.python.is_some(), "{}", options.python_missing);
    let server = Database::start(DatabaseKind::Postgres, POSTGRES)?;
    let (user, folder) = (server.user(), server.folder().display());
    let url = format!("postgresql://{user}@/postgres?host={folder}");
    let log = options.scratch.join("dbos.log");
    let program = python(options, "dbos_saga.py", &url, &log)?;
    Ok(Python {
        program,
        _server: server,
    })
}
