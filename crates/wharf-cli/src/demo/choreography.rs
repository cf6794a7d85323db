//! The shop whose services react to each other's events. The node watches them by the shop's contract, and
//! what it says must agree with the shop's own numbers.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf_server::config::Config;

use super::monitor::Monitor;
use super::{Demo, Screen, contract, introduction, start_node, until_interrupted};
use crate::cli::Outcome;
use crate::output;

/// A service is stopped after the orders of so many checkouts, or of half of them when there are fewer.
const STOP_AFTER: u64 = 100;

/// What is asked of the choreographed shop.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Stop this service for a while: until the node says that orders are stuck without it
    #[arg(long, value_name = "SERVICE", value_parser = PossibleValuesParser::new(shop::Pause::services()))]
    stop: Option<String>,
    /// Stop it at least this long, to have time to look
    #[arg(long, value_name = "DURATION", requires = "stop", value_parser = humantime::parse_duration)]
    stop_for: Option<Duration>,
    /// How long each step of an order may take, by the shop's contract [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

impl Arguments {
    /// Whether anything of this is.
    pub(super) fn is_asked_for(&self) -> bool {
        self.stop.is_some() || self.stop_for.is_some() || self.within.is_some()
    }
}

/// Runs it until it has had its checkouts, or until somebody closes it, and adds up.
pub(super) async fn open_shop(demo: Demo) -> anyhow::Result<Outcome> {
    let temporary = tempfile::Builder::new().prefix("wharf-demo-").tempdir()?;
    let folder = demo.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder)?;
    let data = folder.join("node");
    let python = demo.python(temporary.path()).await?;
    let (database, relay) = demo.database(folder).await?;
    let mut config = Config::default();
    config.choreography.enabled = true;
    let node = start_node(config, &data, relay).await?;
    let (broker, http) = (
        node.kafka_address().to_string(),
        node.http_address().to_string(),
    );
    let registry = contract(&node).await?;
    let monitor = Monitor::deploy(http.clone(), demo.choreography.within).await?;
    let endless = demo.orders.is_none() && demo.duration.is_none();
    output::note(&introduction(&broker, &http, &registry, &data, endless))?;

    let (interrupted, stop) = until_interrupted();
    let (pause, looking) = demo.pause(&monitor);
    let options = shop::Options {
        broker,
        database: database.clone(),
        orders: demo.orders,
        duration: demo.duration,
        per_second: demo.rate,
        seed: demo.seed,
        python,
        registry: Some(registry),
        pause,
    };
    let mut screen = Screen::default();
    let judged = async {
        let mut summary = shop::run(options, stop, |snapshot| screen.show(snapshot)).await?;
        summary.checks.extend(monitor.checks(&summary).await?);
        let is_seen = match looking {
            Some(looking) => looking.await??,
            None => true,
        };
        anyhow::Ok((summary, is_seen))
    };
    let judged = judged.await;
    interrupted.abort();
    let stopped = node.shutdown().await;
    let closed = database.close(demo.keep.is_some()).await;
    let (summary, is_seen) = judged?;
    stopped?;
    closed?;
    output::text(&format!("\n{}", shop::view::summary(&summary)))?;
    if demo.keep.is_some() {
        output::note(&format!("the data is kept in {}", folder.display()))?;
    }
    Ok(if summary.adds_up() && is_seen {
        Outcome::Done
    } else {
        Outcome::Negative
    })
}

/// Says whether the node saw what it should.
type Looking = JoinHandle<anyhow::Result<bool>>;

impl Demo {
    /// The service that is to be stopped, and who looks what the node says of it.
    fn pause(&self, monitor: &Monitor) -> (Option<shop::Pause>, Option<Looking>) {
        let Some(service) = &self.choreography.stop else {
            return (None, None);
        };
        let (stopped, is_stopped) = oneshot::channel();
        let (resumes, resume) = oneshot::channel();
        let pause = shop::Pause {
            service: service.clone(),
            after: self
                .orders
                .map_or(STOP_AFTER, |orders| STOP_AFTER.min(orders / 2)),
            stopped,
            resume,
        };
        let (monitor, service) = (monitor.clone(), service.clone());
        let at_least = self.choreography.stop_for.unwrap_or_default();
        let looking = tokio::spawn(async move {
            let seen = match is_stopped.await {
                Ok(()) => monitor.looks_for_stuck(&service, at_least).await,
                // The shop closed before.
                Err(_closed) => return Ok(true),
            };
            output::note(&format!("{service} is started again"))?;
            // A shop that has failed needs no service.
            resumes.send(()).ok();
            seen
        });
        (Some(pause), Some(looking))
    }
}
