//! `wharf serve`: runs a node until it is told to stop.
//!
//! The first SIGINT or SIGTERM stops gracefully, a second one at once. With `--ready-json` stdout
//! carries exactly one line, when the node takes connections.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wharf_server::config::{Override, Sources};
use wharf_server::{Config, Node};

use crate::cli::{Globals, Outcome};
use crate::{logging, output};

/// The most threads that may block on the disk at once for reads.
const BLOCKING_THREADS_MAX: usize = 32;
/// Threads that did not block on anything for this long end.
const BLOCKING_THREAD_KEPT: Duration = Duration::from_secs(5);

/// Run a node on this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf serve                                     data in ./wharf-data, on 127.0.0.1:9092
  wharf serve --data /var/lib/wharf --config /etc/wharf/wharf.toml
  wharf serve --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --registry-listen 127.0.0.1:0 --ready-json

SIGINT or SIGTERM stops the node after it has finished what was begun; a second one stops it at once.")]
pub(crate) struct Arguments {
    /// The configuration file [default: wharf.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory; created when missing
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where to listen for Kafka clients; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    kafka_listen: Option<String>,
    /// Where to listen for HTTP; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    http_listen: Option<String>,
    /// Where to listen for clients of the schema registry; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    registry_listen: Option<String>,
    /// Print one JSON line with the addresses once the node is ready
    #[arg(long)]
    ready_json: bool,
}

/// The line that `--ready-json` prints.
#[derive(serde::Serialize)]
struct Ready {
    kafka: String,
    http: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<String>,
    data: String,
    pid: u32,
}

/// Runs a node until a signal.
pub(crate) fn run(arguments: Arguments, globals: &Globals) -> anyhow::Result<Outcome> {
    logging::start(globals)?;
    let flags = [
        ("node.data", arguments.data, "--data"),
        ("kafka.listen", arguments.kafka_listen, "--kafka-listen"),
        ("http.listen", arguments.http_listen, "--http-listen"),
        (
            "registry.listen",
            arguments.registry_listen,
            "--registry-listen",
        ),
    ];
    let flags = flags.into_iter().filter_map(|(key, value, flag)| {
        let value = value?;
        Some(Override { key, value, flag })
    });
    let config = Sources::from_process(arguments.config, flags.collect())
        .load()?
        .config;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_KEPT)
        .build()?;
    let outcome = runtime.block_on(serve(config, arguments.ready_json));
    // After a second signal there may be threads that wait for the disk: they are not waited for.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, ready_json: bool) -> anyhow::Result<Outcome> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let node = tokio::select! {
        node = Node::start(config) => node?,
        () = either(&mut interrupt, &mut terminate) => return Ok(Outcome::Done),
    };
    if ready_json {
        let ready = Ready {
            kafka: node.kafka_address().to_string(),
            http: node.http_address().to_string(),
            registry: node.registry_address().map(|address| address.to_string()),
            data: node.data().to_string_lossy().into_owned(),
            pid: std::process::id(),
        };
        output::text(&(serde_json::to_string(&ready)? + "\n"))?;
    }
    let failed = tokio::select! {
        () = either(&mut interrupt, &mut terminate) => false,
        () = node.failed() => true,
    };
    tokio::select! {
        stopped = node.shutdown() => stopped?,
        () = either(&mut interrupt, &mut terminate) => {
            anyhow::bail!("stopped at once by a second signal; the next start reads the journal");
        }
    }
    anyhow::ensure!(
        !failed,
        "the node failed and was stopped; the log above says why"
    );
    Ok(Outcome::Done)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
