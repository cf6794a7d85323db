//! The HTTP listener: metrics, health, and the pages of error codes.
//!
//! `/healthz` says that the process answers, `/readyz` that it takes writes. Problems are RFC 9457
//! documents that carry the code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use wharf_log::{Health, Reader};
use wharf_message::Code;

use crate::flag::raised;
use crate::kafka::accept;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const INDEX: &str = "\
Wharf, a durable message broker.

/metrics         what Prometheus scrapes
/healthz         200 while the process answers
/readyz          200 while the node takes writes, else 503 and why
/errors/<code>   what an error code means and what to do
/api/v1/relays   how the relays of this node stand
/api/v1/choreographies   sagas that nobody orchestrates, where they are watched
/api/v1/schemas/impact   POST: who is affected by a change of a schema
/api/v1/sagas            sagas: where each stands, and what people do about it
POST / with X-Amz-Target the Step Functions API
";

/// What the routes need.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Registry,
    pub(crate) reader: Reader,
    /// True once the node is stopping.
    pub(crate) stop: watch::Receiver<bool>,
    /// The routes of the node's roles.
    pub(crate) roles: Router,
}

/// Connections served at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send the head of its request, the first and every later one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a listener bears.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections served at once; further ones wait to be accepted.
    pub(crate) connections_max: usize,
    /// How long a connection may take to send the head of its request, the first and every later
    /// one.
    pub(crate) head_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            head_timeout: HEAD_TIMEOUT,
        }
    }
}

/// Who sent a request: an extension of every one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(
    #[cfg_attr(
        not(feature = "registry"),
        expect(dead_code, reason = "the registry asks")
    )]
    pub(crate) SocketAddr,
);

/// Serves until `stopped` becomes true, then until what was begun is answered.
pub(crate) async fn serve(socket: TcpListener, mut shared: Shared, stopped: watch::Receiver<bool>) {
    let roles = std::mem::take(&mut shared.roles);
    let router = Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/errors/{code}", get(error_page))
        .with_state(Arc::new(shared))
        .merge(roles);
    serve_within(Limits::default(), socket, router, stopped).await;
}

/// Serves the routes until `stopped` becomes true, then until what was begun is answered.
pub(crate) async fn serve_within(
    limits: Limits,
    socket: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let seats = Arc::new(Semaphore::new(limits.connections_max));
    let open = GracefulShutdown::new();
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout);
    loop {
        let accepted = async {
            let seat = Arc::clone(&seats).acquire_owned().await;
            let (stream, peer) = accept(&socket).await;
            (stream, Peer(peer), seat)
        };
        let (stream, peer, seat) = tokio::select! {
            biased;
            () = raised(&mut stopped) => break,
            accepted = accepted => accepted,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "an HTTP connection answers with delays");
        }
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let connection = open.watch(protocol.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(reason) = connection.await {
                tracing::debug!(%reason, "an HTTP connection was closed");
            }
            drop(seat);
        });
    }
    open.shutdown().await;
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    // Lags and sizes are looked up for every group: not work for the threads that serve sockets.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        encode(&mut text, &shared.registry).map(|()| text)
    });
    match text.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(Err(_)) | Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            None,
            "the metrics could not be collected",
            "a part of the node failed while it was asked",
        ),
    }
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let unavailable = |code, detail: &str| {
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            Some(code),
            code.title(),
            detail,
        )
    };
    if *shared.stop.borrow() {
        let detail = "it finishes what was begun and takes no new connections";
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            None,
            "the node is stopping",
            detail,
        );
    }
    match shared.reader.health() {
        Health::Writable => "ready\n".into_response(),
        Health::DiskFull => unavailable(Code::DISK_FULL, "free space on the data directory's disk"),
        Health::Poisoned { reason } => unavailable(Code::LOG_POISONED, &reason),
    }
}

async fn error_page(Path(code): Path<String>) -> Response {
    match Code::parse(&code).and_then(crate::page) {
        Some(page) => (
            [(header::CONTENT_TYPE, "text/markdown; charset=utf-8")],
            page,
        )
            .into_response(),
        None => problem(
            StatusCode::NOT_FOUND,
            None,
            "there is no such error code",
            "`wharf explain` lists every code",
        ),
    }
}

/// An answer in JSON.
#[cfg(any(feature = "choreography", feature = "registry", feature = "relay"))]
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (status, kind, text).into_response()
        }
        Err(error) => {
            let title = "the answer could not be written";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            problem(status, None, title, &error.to_string())
        }
    }
}

/// A problem document (RFC 9457).
pub(crate) fn problem(
    status: StatusCode,
    code: Option<Code>,
    title: &str,
    detail: &str,
) -> Response {
    let kind = code.map_or("about:blank".to_owned(), |code| format!("/errors/{code}"));
    let mut document = serde_json::json!({
        "type": kind,
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some((code, document)) = code.zip(document.as_object_mut()) {
        document.insert("code".to_owned(), code.to_string().into());
    }
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, document.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_asks_nothing_gives_up_its_seat() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve_within(
            Limits {
                head_timeout: Duration::from_millis(50),
                ..Limits::default()
            },
            socket,
            Router::new().route("/", get(async || INDEX)),
            stopped,
        ));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            silent.push(stream);
        }
        // Every seat is taken: this one waits until the others are put out.
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        stop.send_replace(true);
        server.await.unwrap();
    }
}
