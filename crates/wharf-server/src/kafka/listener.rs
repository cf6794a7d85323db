//! Accepting connections, up to the limit, and letting them finish when the node stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use wharf_broker::Context;
use wharf_message::Principal;

use super::connection::{self, Ended, Handler, Limits, Shared};
use crate::commits::Commits;
use crate::flag::raised;
use crate::metrics::KafkaMetrics;

/// After a failed accept (no file descriptors left) the next one waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refused connections are told of this often at most.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a listener needs.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) handler: Box<dyn Handler>,
    /// What commits in the place of the committer's thread, if anything.
    pub(crate) commits: Option<Arc<Commits>>,
    pub(crate) limits: Limits,
    /// How many bytes of requests all connections together may hold, and again as many of what
    /// they are decoded into.
    pub(crate) budget_bytes: usize,
    pub(crate) connections_max: usize,
    /// How long connections may take to finish what they are doing when the node stops.
    pub(crate) drain: Duration,
    pub(crate) metrics: KafkaMetrics,
}

/// Serves until `stop` becomes true, then until every connection has finished its requests or the
/// time for it is over.
pub(crate) async fn serve(listener: Listener, stop: watch::Receiver<bool>) {
    let Listener {
        socket,
        handler,
        commits,
        limits,
        budget_bytes,
        connections_max,
        drain,
        metrics,
    } = listener;
    let budget_bytes = budget_bytes.min(Semaphore::MAX_PERMITS);
    let shared = Arc::new(Shared {
        handler,
        commits,
        limits,
        budget: Arc::new(Semaphore::new(budget_bytes)),
        decoded: Arc::new(Semaphore::new(budget_bytes)),
        decoded_bytes: budget_bytes,
        metrics,
    });
    let mut connections = JoinSet::new();
    let mut refusals = Refusals::default();
    let mut number = 0;
    let mut stopping = stop.clone();
    loop {
        shared.handler.connections(connections.len());
        tokio::select! {
            biased;
            () = raised(&mut stopping) => break,
            Some(ended) = connections.join_next() => note_end(&shared, ended),
            (stream, peer) = accept(&socket) => {
                if connections.len() >= connections_max {
                    shared.metrics.refused();
                    refusals.add(connections_max);
                    continue;
                }
                number += 1;
                let served = one(Arc::clone(&shared), stream, peer, number, stop.clone());
                connections.spawn(served);
            }
        }
    }
    drop(socket);
    let drained = timeout(drain, async {
        while let Some(ended) = connections.join_next().await {
            note_end(&shared, ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections did not finish in time"
        );
        connections.shutdown().await;
    }
}

/// Tells of refused connections, but not of each: they come in crowds.
#[derive(Debug, Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    fn add(&mut self, connections_max: usize) {
        self.untold += 1;
        if self
            .told
            .is_none_or(|told| told.elapsed() >= REFUSALS_TOLD_EVERY)
        {
            tracing::warn!(
                connections_max,
                refused = self.untold,
                "connections were refused: as many as may be are open (`kafka.connections-max`)"
            );
            *self = Self {
                untold: 0,
                told: Some(Instant::now()),
            };
        }
    }
}

async fn one(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    connection: u64,
    stop: watch::Receiver<bool>,
) {
    let open = shared.metrics.opened();
    let mut stop = stop;
    let wait = shared.handler.turned_away(peer.ip());
    if !wait.is_zero() {
        // Closed only after the wait: whoever is turned away at once would be back at once.
        shared.metrics.turned_away();
        tracing::debug!(%peer, connection, ?wait, "too many new connections from its address");
        tokio::select! {
            () = raised(&mut stop) => {}
            () = sleep(wait) => {}
        }
        return;
    }
    let context = Context {
        principal: Principal::anonymous(),
        client_id: "".into(),
        client_host: format!("/{}", peer.ip().to_canonical()).into(),
        connection,
    };
    match connection::run(&shared, stream, context, stop).await {
        Ok(()) => tracing::debug!(%peer, connection, "connection ended"),
        Err(Ended::Read(reason)) => tracing::info!(%peer, connection, %reason, "connection closed"),
        Err(reason) => tracing::warn!(%peer, connection, %reason, "connection closed"),
    }
    drop(open);
}

/// A panic was one connection's; the others go on.
fn note_end(shared: &Shared, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        shared.metrics.panicked();
        tracing::error!("a request made its handler panic; its connection was closed");
    }
}

/// The next connection. A failure (too many open files, say) is no reason to stop: it is told, and
/// after a pause there is another try.
pub(crate) async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
