//! The role that watches choreographies: the lens over traffic, and contracts with their verdicts.
//!
//! What a saga is, what follows what and what a verdict is, is `wharf-saga`'s; here topics are read,
//! groups are asked how far they are, and what comes of it is kept, counted and told. Everything is a
//! view of the topics and is read again at every start.
//!
//! It reads in the background and never more at once than a little; nobody waits for it. It writes
//! only when a contract is deployed or a verdict changes.
//!
//! - `read`: a little of a partition. `follow`: reading topics, and knowing when everything before a moment was read.
//! - `watch`: the one task: reads, judges, takes contracts in.
//! - `contracts`, `verdicts`: their topics.
//! - `shared`: what the task and the API share. `api`: what people ask. `metrics`: what is counted.

mod api;
mod contracts;
mod follow;
mod metrics;
mod read;
mod shared;
mod verdicts;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry as Metrics;
use tokio::sync::{mpsc, watch as flag};
use tokio::task::JoinHandle;
use wharf_broker::Broker;

use crate::config::Choreography;
use crate::ending::end;
use crate::problem::Problem;
use crate::webhook::Webhook;
use shared::Shared;
use watch::Watch;

/// How long what was begun may take to end when the node stops.
const STOP: Duration = Duration::from_secs(5);
/// How many changes of contracts may wait.
const COMMANDS_MAX: usize = 64;

/// The role at work.
#[derive(Debug)]
pub(crate) struct Running {
    stop: flag::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts the role; its routes are returned.
pub(crate) fn start(
    config: &Choreography,
    broker: &Broker,
    metrics: &mut Metrics,
) -> Result<(Running, axum::Router), Problem> {
    let (stop, stopped) = flag::channel(false);
    let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
    let shared = Arc::new(Shared::new(config, commands));
    let mut tasks = Vec::new();
    let webhook = match &config.webhook {
        None => None,
        Some(url) => {
            let hooks = Arc::clone(&shared);
            let told = move |fate| hooks.hooks.count(&fate);
            let started = Webhook::start(url, told, stopped.clone());
            let (webhook, task) = started.map_err(unusable)?;
            tasks.push(task);
            Some(webhook)
        }
    };
    metrics.register_collector(Box::new(metrics::Counts(Arc::clone(&shared))));
    let watch = Watch::new(config, broker, Arc::clone(&shared), waiting, webhook);
    tasks.push(tokio::spawn(watch.run(stopped)));
    tracing::info!("choreographies are watched");
    let routes = api::routes(shared, broker.clone());
    Ok((Running { stop, tasks }, routes))
}

fn unusable(why: String) -> Problem {
    Problem::new(
        wharf_message::Code::INVALID_CONFIGURATION,
        "`choreography.webhook` cannot be used",
        why,
        "write an address that begins with http:// or https://",
    )
}

impl Running {
    /// Ends it; what was not read yet is read at the next start.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            end("watching choreographies", task, STOP).await;
        }
    }
}
