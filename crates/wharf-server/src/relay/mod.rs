//! The role that moves rows of outbox tables to topics: one relay per table `[relay.<name>]`.
//!
//! It starts with the node, after the broker, and ends before it. Trouble with a database or a target
//! never keeps the node from serving; it is told in the log, in the status and in the metrics.
//!
//! Invariants: no address is logged or shown with its password; what cannot be started is refused when
//! the configuration is read, not when rows come.

pub(crate) mod api;
mod settings;
mod source;
mod target;
mod topics;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use wharf_broker::Broker;
use wharf_relay::{Relay, Settings, Status};
use wharf_transport::embedded::EmbeddedTransport;

use crate::clock;
use crate::config::{Config, Mode, Relay as Configured};
use crate::ending::end;
use crate::problem::Problem;

pub(crate) use settings::check;
pub(crate) use view::RelayView;

/// How long the relays may take to end.
const STOP: Duration = Duration::from_secs(5);

/// The relays of a node.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    relays: BTreeMap<String, Running>,
}

/// A relay at work, and what people are told of it.
#[derive(Debug)]
pub(crate) struct Running {
    /// What it reads, for people.
    source: String,
    configured: Configured,
    mode: Mode,
    status: Arc<Status>,
}

/// What is needed to end them.
#[derive(Debug)]
pub(crate) struct RelayTasks {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// Sends the scheduled messages of what the relays write to.
    transport: Option<EmbeddedTransport>,
}

impl Relays {
    /// Starts every relay that is configured.
    pub(crate) fn start(config: &Config, broker: &Broker) -> Result<(Self, RelayTasks), Problem> {
        let (stop, stopped) = watch::channel(false);
        let mut relays = BTreeMap::new();
        let mut tasks = RelayTasks {
            stop,
            tasks: Vec::new(),
            transport: None,
        };
        for (name, configured) in &config.relay {
            let transport = tasks
                .transport
                .get_or_insert_with(|| EmbeddedTransport::on(broker.clone(), "wharf.relay"));
            let problem = |(key, reason): (&str, String)| settings::problem(name, key, &reason);
            let router = settings::router(name, configured).map_err(problem)?;
            let source = source::source(name, configured, &router).map_err(problem)?;
            let target = target::target(configured, config, broker, transport);
            let described = source.describe();
            let relay = Relay::new(name.clone(), source, Arc::new(router), target, clock::now);
            let relay = relay.with_settings(Settings {
                bytes_max: u32::try_from(configured.in_flight_size_max.0).unwrap_or(u32::MAX),
                ..Settings::default()
            });
            let running = Running {
                source: described,
                configured: configured.clone(),
                mode: settings::mode(configured),
                status: relay.status(),
            };
            tracing::info!(relay = name, reads = running.source, writes = %configured.target, "a relay starts");
            relays.insert(name.clone(), running);
            tasks.tasks.push(tokio::spawn(relay.run(stopped.clone())));
        }
        Ok((Self { relays }, tasks))
    }

    /// How each stands, by name.
    pub(crate) fn views(&self) -> Vec<RelayView> {
        let now = clock::now();
        let relays = self.relays.iter();
        relays
            .map(|(name, running)| RelayView::of(name, running, now))
            .collect()
    }

    /// How one stands.
    pub(crate) fn view(&self, name: &str) -> Option<RelayView> {
        let running = self.relays.get(name)?;
        Some(RelayView::of(name, running, clock::now()))
    }

    /// The status of one.
    pub(crate) fn status(&self, name: &str) -> Option<&Arc<Status>> {
        self.relays.get(name).map(|running| &running.status)
    }
}

impl RelayTasks {
    /// Ends them. What was under way and is not durable comes again at the next start.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            end("a relay", task, STOP).await;
        }
        if let Some(transport) = self.transport
            && let Err(error) = wharf_message::transport::Transport::shutdown(&transport).await
        {
            tracing::warn!(%error, "the scheduled messages did not come to rest");
        }
    }
}
