//! The role that is a schema registry: Confluent's REST API over the topic `_schemas`.
//!
//! What a schema, a subject or a level is, and what may be registered, is `wharf-schema`'s; here are
//! the listener, the routes, the one writer and what is published to readers. The topic is the truth:
//! everything else is in memory and is read again at every start. It is in Confluent's own format, so
//! an existing one is adopted as it is and ours is read by others.
//!
//! The topic is created by the first change; a registry that nobody uses leaves no trace.
//!
//! - `serve`: a request and its limits. `request`, `answer`: what it says, and what is said.
//! - `routes`: every route there is, and its page of the documentation. `handlers`: what each does.
//! - `impact`: who is affected by a change, on the node's own HTTP listener.
//! - `store`: the writer. `published`: what readers see. `usage`: who asks for what.
//! - `validate`: what the broker asks about the records of topics with a contract.

mod answer;
mod handlers;
pub(crate) mod impact;
mod published;
mod request;
mod routes;
mod serve;
mod store;
mod usage;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry as Metrics;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use wharf_broker::Broker;
use wharf_message::ledger::Ledger;
use wharf_schema::registry::{Registry, Settings};

use crate::config::SchemaRegistry;
use crate::ending::end;
use crate::http::Limits;
use crate::metrics::RegistryMetrics;
use crate::node::local;
use crate::problem::Problem;
use published::Published;
pub use routes::reference;
use serve::Service;
use store::Store;
pub use usage::{Client, Use};
use validate::Validation;

/// How many changes may wait to be handed to the writer; further ones wait in their requests.
const WAITING_MAX: usize = 4_096;
/// How long requests that were begun may take to be answered when the node stops.
const DRAIN: Duration = Duration::from_secs(5);

/// The schema registry of a node, for its other roles. Cheap to clone.
#[derive(Clone)]
pub struct Schemas {
    published: Arc<Published>,
    service: Arc<Service>,
}

impl Schemas {
    /// Everything registered, as of the last commit. What is held does not change.
    pub fn registry(&self) -> Arc<Registry> {
        self.published.registry()
    }

    /// Who asked for which schema since the node was started, as far as it is remembered.
    pub fn uses(&self) -> Vec<Use> {
        self.service.usage.all()
    }

    /// Whether its topic was read; before that it answers nobody.
    pub fn is_read(&self) -> bool {
        self.published.is_read()
    }

    /// Why the registry cannot use its topic, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        self.published.trouble()
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Schemas").finish_non_exhaustive()
    }
}

/// The registry at work.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    schemas: Schemas,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
    /// Ends the writer, which ends after the listener.
    stop_writer: watch::Sender<bool>,
    writer: JoinHandle<()>,
}

/// Starts the registry on a socket; when this returns, the topic was read.
pub(crate) async fn start(
    config: &SchemaRegistry,
    cluster: &str,
    ledger: Arc<dyn Ledger>,
    socket: TcpListener,
    metrics: &mut Metrics,
) -> Result<Running, Problem> {
    let address = local(&socket)?;
    let published = Arc::new(Published::new(Settings::default()));
    let metrics = metrics.sub_registry_with_prefix("registry");
    metrics.register(
        "ignored_records",
        "Records of the topic that replay ignored",
        published.ignored.clone(),
    );
    let (changes, waiting) = mpsc::channel(WAITING_MAX);
    let service = Arc::new(Service {
        published: Arc::clone(&published),
        changes,
        usage: usage::Usage::default(),
        metrics: RegistryMetrics::register(metrics),
        body_bytes_max: config.request_size_max.as_usize(),
        bodies: Arc::new(Semaphore::new(serve::permits(
            config.in_flight_size_max.as_usize(),
        ))),
        turns: Arc::new(Semaphore::new(
            available_parallelism().map_or(1, usize::from),
        )),
        cluster: cluster.to_owned(),
    });
    metrics.register_collector(Box::new(Counts(Arc::clone(&published))));
    let (stop_writer, writer_stopped) = watch::channel(false);
    let (read, ready) = oneshot::channel();
    let store = Store::new(ledger, Arc::clone(&published), waiting);
    let writer = tokio::spawn(store.run(read, writer_stopped));
    // Not read is told by every answer; the node serves all the same.
    drop(ready.await);
    let (stop, stopped) = watch::channel(false);
    let limits = Limits {
        connections_max: config.connections_max,
        ..Limits::default()
    };
    let router = serve::router(Arc::clone(&service));
    let listener = crate::http::serve_within(limits, socket, router, stopped);
    Ok(Running {
        address,
        schemas: Schemas { published, service },
        stop,
        listener: tokio::spawn(listener),
        stop_writer,
        writer,
    })
}

impl Running {
    /// From now on the broker asks this registry about the records of topics with a contract.
    pub(crate) fn check_records_of(&self, broker: &Broker, metrics: &mut Metrics) {
        let metrics = metrics.sub_registry_with_prefix("schema");
        let validation = Validation::new(self.schemas.clone(), metrics);
        if !broker.check_schemas_with(Arc::new(validation)) {
            tracing::error!("another registry checks the records of this node already");
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// Ends it: no new connections, then what was begun, then the writer.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        end("the listener of the schema registry", self.listener, DRAIN).await;
        self.stop_writer.send_replace(true);
        end("the writer of the schema registry", self.writer, DRAIN).await;
    }
}

/// What there is, asked at each scrape.
#[derive(Debug)]
struct Counts(Arc<Published>);

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let registry = self.0.registry();
        let counts = [
            ("schemas", "Schemas with an id", registry.ids_len()),
            (
                "subjects",
                "Subjects, soft-deleted ones too",
                registry.subjects_len(),
            ),
            (
                "unavailable",
                "1 while the registry cannot use its topic",
                usize::from(self.0.trouble().is_some()),
            ),
        ];
        for (name, help, count) in counts {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)?;
        }
        Ok(())
    }
}
