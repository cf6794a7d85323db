//! The node: everything started in the right order, and stopped in the opposite one.
//!
//! Start: bind the sockets, lock the directory, recover the log, open the broker, serve. Stop: no
//! new connections, finish what was begun, close the log, final snapshot, release the lock. What
//! was acknowledged is safe without any of the latter; it only makes the next start quicker. A node
//! inside another program ([`EmbeddedNode`]) is the same, with the sockets it is asked for.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use wharf_broker::{Broker, Wakeups};
use wharf_kafka::{Endpoint, Service};
use wharf_log::disk::Disk;
use wharf_log::disk::real::RealDisk;
use wharf_log::{Health, Log, OpenError};
use wharf_message::Code;

use crate::commits::Commits;
use crate::config::{Address, Config, beyond_loopback};
use crate::data::DataDirectory;
use crate::metrics::{DiskMetrics, KafkaMetrics, MeasuredDisk, NodeCollector};
use crate::problem::{Problem, chain};
use crate::roles::{RoleSockets, Roles};
use crate::runtime::{TokioRuntime, random};
use crate::threads::LogThreads;
use crate::{clock, http, kafka, open_files};

/// How long scrapes and health checks may take to finish when the node stops.
const HTTP_DRAIN: Duration = Duration::from_secs(1);

/// A running node. Dropped, it stops in the background without waiting for anybody.
#[derive(Debug)]
pub struct Node {
    kafka: SocketAddr,
    http: SocketAddr,
    running: EmbeddedNode,
}

/// A node inside another program: the same data directory, log and broker, and only the listeners
/// it is asked for. Dropped, it stops in the background without waiting for anybody.
#[derive(Debug)]
pub struct EmbeddedNode {
    kafka: Option<Listening>,
    http: Option<Listening>,
    broker: Broker,
    data: PathBuf,
    threads: LogThreads,
    roles: Roles,
    failed: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

/// Which of its configured listeners an [`EmbeddedNode`] opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// `kafka.listen`: other processes take part.
    pub kafka: bool,
    /// `http.listen`: metrics and health.
    pub http: bool,
    /// `registry.listen`: the schema registry, which runs only with its listener.
    pub registry: bool,
}

/// A listener at work.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// The sockets, bound before anything else.
struct Sockets {
    kafka: Option<TcpListener>,
    http: Option<TcpListener>,
    registry: Option<TcpListener>,
}

/// What blocks while starting, and so happens away from the tasks.
struct Opened {
    data: DataDirectory,
    log: Log,
    wakeups: Wakeups,
}

/// What a node that has its log serves with.
struct Opening<'a> {
    config: &'a Config,
    cluster: &'a str,
    sockets: Sockets,
    commits: Arc<Commits>,
    registry: Registry,
    stopping: watch::Receiver<bool>,
    http_stop: watch::Receiver<bool>,
}

impl Node {
    /// Starts a node; when this returns it takes connections. Needs a tokio runtime.
    pub async fn start(config: Config) -> Result<Self, Problem> {
        Self::start_on(config, real_disk).await
    }

    /// Starts a node whose log is on another disk than the real one: for tests and simulations.
    /// The data directory is locked and marked all the same.
    pub async fn start_on(
        config: Config,
        disk: impl FnOnce(&Path) -> io::Result<Arc<dyn Disk>> + Send + 'static,
    ) -> Result<Self, Problem> {
        let all = Listeners {
            kafka: true,
            http: true,
            registry: config.registry.enabled && cfg!(feature = "registry"),
        };
        let running = EmbeddedNode::start_on(config, all, disk).await?;
        let address = |listening: &Option<Listening>| {
            let listening = listening.as_ref();
            listening.map(|listening| listening.address)
        };
        match (address(&running.kafka), address(&running.http)) {
            (Some(kafka), Some(http)) => Ok(Self {
                kafka,
                http,
                running,
            }),
            _ => unreachable!("both listeners were asked for"),
        }
    }

    /// Where the Kafka listener really listens.
    pub fn kafka_address(&self) -> SocketAddr {
        self.kafka
    }

    /// Where the HTTP listener really listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where the schema registry really listens; `None` when it is switched off, or the program
    /// was built without it.
    pub fn registry_address(&self) -> Option<SocketAddr> {
        self.running.registry_address()
    }

    /// The schema registry, for roles in the same process.
    #[cfg(feature = "registry")]
    pub fn registry(&self) -> Option<&crate::registry::Schemas> {
        self.running.registry()
    }

    /// The orchestrator of sagas, for roles and programs in the same process; `None` when it is
    /// switched off.
    #[cfg(feature = "saga")]
    pub fn sagas(&self) -> Option<&crate::saga::Engine> {
        self.running.sagas()
    }

    /// The data directory, absolute.
    pub fn data(&self) -> &Path {
        self.running.data()
    }

    /// The broker, for roles in the same process.
    pub fn broker(&self) -> &Broker {
        self.running.broker()
    }

    /// Completes when the node cannot go on and has to be shut down; never otherwise.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        self.running.failed()
    }

    /// Stops the node: finishes what was begun, closes the log, writes the final snapshot.
    pub async fn shutdown(self) -> Result<(), Problem> {
        self.running.shutdown().await
    }
}

impl EmbeddedNode {
    /// Starts a node that opens the listeners asked for, and no other socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// As for a node of its own: the directory is in use or somebody else's, the log cannot be
    /// opened, the address is taken. What was started by then is stopped before it returns.
    pub async fn start(config: Config, listeners: Listeners) -> Result<Self, Problem> {
        Self::start_on(config, listeners, real_disk).await
    }

    /// The same with the log on another disk than the real one: for tests and simulations. The data
    /// directory is locked and marked all the same.
    pub async fn start_on(
        mut config: Config,
        listeners: Listeners,
        disk: impl FnOnce(&Path) -> io::Result<Arc<dyn Disk>> + Send + 'static,
    ) -> Result<Self, Problem> {
        config.check()?;
        open_files::fit(&mut config);
        let sockets = Sockets::bind(&config, listeners).await?;
        let mut registry = Registry::with_prefix("wharf");
        let disk_metrics = DiskMetrics::register(&mut registry);
        let opening = config.clone();
        let opening = move || open(&opening, disk, disk_metrics);
        let Opened { data, log, wakeups } = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|panic| internal("opening the log", &panic))??;
        report(&log);

        let runtime = Arc::new(TokioRuntime::new(Handle::current()));
        let options =
            config.broker_options(data.cluster_id.clone(), data.path.display().to_string());
        let (appender, reader) = (log.appender.clone(), log.reader.clone());
        let broker =
            Broker::open(options, appender, reader, &wakeups, runtime).map_err(|error| {
                Problem::plain("the broker's state cannot be read", error.message, RESTORE)
            })?;
        let (failed_tx, failed) = watch::channel(false);
        let threads = LogThreads::start(log, broker.clone(), &failed_tx, data.lock);
        let (threads, commits) = threads.map_err(|error| {
            let fix = "check the limits of the process";
            Problem::plain("a thread could not be started", error.to_string(), fix)
        })?;
        let (stop, stopping) = watch::channel(false);
        let (stopped, http_stop) = watch::channel(false);
        let mut node = Self {
            kafka: None,
            http: None,
            broker,
            data: data.path,
            threads,
            roles: Roles::default(),
            failed,
            stop,
            stopped,
        };
        let opening = Opening {
            config: &config,
            cluster: &data.cluster_id,
            sockets,
            commits,
            registry,
            stopping,
            http_stop,
        };
        if let Err(problem) = node.serve(opening).await {
            // Nothing of it is left at work, and the directory is free, when it is told.
            if let Err(other) = node.shutdown().await {
                tracing::warn!(%other, "a node that could not be started did not stop as it should");
            }
            return Err(problem);
        }
        let (kafka, http) = (node.kafka_address(), node.http_address());
        let (kafka, http) = (kafka.map(display), http.map(display));
        let schemas = node.registry_address().map(display);
        tracing::info!(kafka, http, registry = schemas, data = %node.data.display(), cluster = data.cluster_id, "ready");
        Ok(node)
    }

    /// Starts the roles and serves the sockets.
    async fn serve(&mut self, opening: Opening<'_>) -> Result<(), Problem> {
        let Opening {
            config,
            cluster,
            sockets,
            commits,
            mut registry,
            stopping,
            http_stop,
        } = opening;
        let broker = self.broker.clone();
        // Clients come after: what they write may have to be checked by a role.
        let role_sockets = RoleSockets {
            registry: sockets.registry,
            http: sockets.http.as_ref().map(local).transpose()?,
        };
        let started = Roles::start(config, cluster, &broker, role_sockets, &mut registry).await;
        let (roles, routes) = started?;
        self.roles = roles;
        if let Some(socket) = sockets.kafka {
            let metrics = KafkaMetrics::register(&mut registry);
            let stop = stopping.clone();
            let serving = serve_kafka(config, socket, &broker, commits, metrics, stop)?;
            self.kafka = Some(serving);
        }
        registry.register_collector(Box::new(NodeCollector {
            broker: broker.clone(),
            node: config.node.name.clone(),
            cluster_id: cluster.to_owned(),
        }));
        if let Some(socket) = sockets.http {
            let shared = http::Shared {
                registry,
                reader: broker.reader().clone(),
                stop: stopping,
                roles: routes,
            };
            let address = local(&socket)?;
            let task = tokio::spawn(http::serve(socket, shared, http_stop));
            self.http = Some(Listening { address, task });
        }
        Ok(())
    }

    /// Where the Kafka listener really listens, if there is one.
    pub fn kafka_address(&self) -> Option<SocketAddr> {
        self.kafka.as_ref().map(|listening| listening.address)
    }

    /// Where the HTTP listener really listens, if there is one.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|listening| listening.address)
    }

    /// Where the schema registry really listens, if there is one.
    pub fn registry_address(&self) -> Option<SocketAddr> {
        self.roles.registry_address()
    }

    /// The schema registry, if there is one.
    #[cfg(feature = "registry")]
    pub fn registry(&self) -> Option<&crate::registry::Schemas> {
        self.roles.registry()
    }

    /// The orchestrator of sagas; `None` when it is switched off.
    #[cfg(feature = "saga")]
    pub fn sagas(&self) -> Option<&crate::saga::Engine> {
        self.roles.sagas()
    }

    /// The data directory, absolute.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Completes when the node cannot go on and has to be shut down; never otherwise.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut failed = self.failed.clone();
        async move {
            if failed.wait_for(|failed| *failed).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops the node: finishes what was begun, closes the log, writes the final snapshot.
    pub async fn shutdown(self) -> Result<(), Problem> {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.roles.stop().await;
        let drained = match self.kafka {
            Some(listening) => listening
                .task
                .await
                .map_err(|panic| internal("stopping the listener", &panic)),
            None => Ok(()),
        };
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || threads.join()).await;
        self.stopped.send_replace(true);
        if let Some(Listening { task, .. }) = self.http {
            let abort = task.abort_handle();
            match timeout(HTTP_DRAIN, task).await {
                Ok(Ok(())) => {}
                Ok(failed) => {
                    tracing::warn!(?failed, "the HTTP listener did not end as it should");
                }
                Err(_) => abort.abort(),
            }
        }
        if let Health::Poisoned { reason } = self.broker.reader().health() {
            return Err(Problem::new(
                Code::LOG_POISONED,
                "the node had stopped acknowledging",
                reason,
                "check the disk, then start the node again; it keeps everything acknowledged",
            ));
        }
        drained?;
        joined
            .map_err(|panic| internal("closing the log", &panic))?
            .map_err(|error| {
                Problem::plain(
                    "the final snapshot could not be written",
                    error.to_string(),
                    "check the disk; the next start reads the journal instead, nothing is lost",
                )
            })?;
        tracing::info!("stopped");
        Ok(())
    }
}

impl Sockets {
    async fn bind(config: &Config, listeners: Listeners) -> Result<Self, Problem> {
        let Config {
            kafka,
            http,
            registry,
            ..
        } = config;
        let mut sockets = Self {
            kafka: None,
            http: None,
            registry: None,
        };
        if listeners.kafka {
            let allowed = kafka.allow_unauthenticated_beyond_loopback;
            sockets.kafka = Some(bind(&kafka.listen, "kafka", allowed).await?);
        }
        if listeners.http {
            let allowed = http.allow_unauthenticated_beyond_loopback;
            sockets.http = Some(bind(&http.listen, "http", allowed).await?);
        }
        if listeners.registry {
            if !cfg!(feature = "registry") {
                return Err(Problem::plain(
                    "the schema registry cannot be started",
                    "this program was built without it",
                    "build it with the feature `registry`, or run the registry in `wharf serve`",
                ));
            }
            let allowed = registry.allow_unauthenticated_beyond_loopback;
            sockets.registry = Some(bind(&registry.listen, "registry", allowed).await?);
        }
        Ok(sockets)
    }
}

fn real_disk(root: &Path) -> io::Result<Arc<dyn Disk>> {
    Ok(Arc::new(RealDisk::open(root)?))
}

fn display(address: SocketAddr) -> tracing::field::DisplayValue<SocketAddr> {
    tracing::field::display(address)
}

fn serve_kafka(
    config: &Config,
    socket: TcpListener,
    broker: &Broker,
    commits: Arc<Commits>,
    metrics: KafkaMetrics,
    stopping: watch::Receiver<bool>,
) -> Result<Listening, Problem> {
    let address = local(&socket)?;
    let listener = kafka::Listener {
        handler: Box::new(Service::new(broker.clone(), endpoint(config, address))),
        commits: Some(commits),
        socket,
        limits: config.connection_limits(),
        budget_bytes: config.kafka.in_flight_size_max.as_usize(),
        connections_max: config.kafka.connections_max,
        drain: config.node.drain_timeout.0,
        metrics,
    };
    let task = tokio::spawn(kafka::serve(listener, stopping));
    Ok(Listening { address, task })
}

const RESTORE: &str = "check the disk, and restore the data directory from a backup";

fn open(
    config: &Config,
    disk: impl FnOnce(&Path) -> io::Result<Arc<dyn Disk>>,
    metrics: DiskMetrics,
) -> Result<Opened, Problem> {
    let new_cluster_id = uuid::Uuid::new_v4().to_string();
    let data = DataDirectory::open(&config.node.data, &new_cluster_id)?;
    let disk = disk(&data.path).map_err(|error| {
        Problem::plain(
            "the data directory cannot be opened",
            error.to_string(),
            RESTORE,
        )
    })?;
    let disk = Arc::new(MeasuredDisk::new(disk, metrics));
    let (secret, _) = uuid::Uuid::from_bytes(random()).as_u64_pair();
    let wakeups = Wakeups::default();
    let observer = Arc::new(wakeups.clone());
    let log = Log::open(disk, config.log_options(secret), observer, clock::now())
        .map_err(|error| cannot_open(&error, &data.path))?;
    Ok(Opened { data, log, wakeups })
}

fn cannot_open(error: &OpenError, path: &Path) -> Problem {
    let what = format!("the log in {} cannot be opened", path.display());
    match error {
        OpenError::Format { .. } => Problem::new(
            Code::DISK_FORMAT_UNSUPPORTED,
            what,
            chain(error),
            "run the version of Wharf that wrote it, or a later one",
        ),
        OpenError::Snapshot { .. } => {
            Problem::new(Code::SNAPSHOT_UNREADABLE, what, chain(error), RESTORE)
        }
        OpenError::CutShort { .. } => {
            Problem::new(Code::JOURNAL_CUT_SHORT, what, chain(error), RESTORE)
        }
        OpenError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            Problem::new(
                Code::DISK_FULL,
                what,
                chain(error),
                "free space on that disk",
            )
        }
        _ => Problem::plain(what, chain(error), RESTORE),
    }
}

/// Says what recovery had to do, if it was more than nothing.
fn report(log: &Log) {
    let recovery = &log.recovery;
    if recovery.frames_replayed > 0 || recovery.torn_tail_bytes > 0 {
        tracing::info!(
            frames_replayed = recovery.frames_replayed,
            torn_tail_bytes = recovery.torn_tail_bytes,
            "the log was recovered from its journal"
        );
    }
}

/// Listens on `address`. What it resolved to decides whether that is beyond loopback.
async fn bind(address: &Address, section: &str, allowed: bool) -> Result<TcpListener, Problem> {
    let bound = TcpListener::bind((address.host.as_str(), address.port)).await;
    let socket = bound.map_err(|error| {
        let what = format!("cannot listen on {address} (`{section}.listen`)");
        let fix = format!(
            "stop whatever listens there, or set another `{section}.listen`; port 0 picks a free one"
        );
        Problem::new(Code::PORT_IN_USE, what, error.to_string(), fix)
    })?;
    let ip = local(&socket)?.ip().to_canonical();
    if !ip.is_loopback() && !allowed {
        return Err(beyond_loopback(
            section,
            address,
            &format!("it resolves to {ip}"),
        ));
    }
    Ok(socket)
}

pub(crate) fn local(socket: &TcpListener) -> Result<SocketAddr, Problem> {
    socket.local_addr().map_err(|error| {
        Problem::plain(
            "a socket has no address",
            error.to_string(),
            "start the node again",
        )
    })
}

/// What clients are told: the advertised address, or the one that is listened on. A name of this
/// machine is told as the address it stood for: clients try the other one first, or alone.
fn endpoint(config: &Config, bound: SocketAddr) -> Endpoint {
    let Some(address) = &config.kafka.advertised else {
        let host = if bound.ip().is_loopback() {
            bound.ip().to_string()
        } else {
            config.kafka.listen.host.clone()
        };
        return Endpoint {
            host,
            port: bound.port(),
        };
    };
    let port = if address.port == 0 {
        bound.port()
    } else {
        address.port
    };
    Endpoint {
        host: address.host.clone(),
        port,
    }
}

fn internal(what: &str, panic: &JoinError) -> Problem {
    Problem::plain(
        format!("{what} failed"),
        format!("a part of the node panicked ({panic}); the log above says where"),
        "this is a bug: report it with the log, and start the node again",
    )
}
