//! From a request of HTTP to its route and back, within the listener's limits.
//!
//! A stranger may send anything: a body is bounded in size and in time, what waits is bounded in
//! number, and what takes long is worked on beside the tasks that serve, a few at once. A handler that
//! panics ends its own request with 500.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use wharf_schema::registry::{Refusal, Registry};

use super::answer::{Answer, PREFERRED, accepted, http, response, taken};
use super::published::Published;
use super::request::{Asked, Request};
use super::routes::{self, Found, Handler, Noted, Route, Status};
use super::store::{Change, Waiting};
use super::usage::{Client, Usage};
use crate::clock;
use crate::http::Peer;
use crate::metrics::RegistryMetrics;

/// How long a body may take to arrive, and to be let in.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a change may take to be stored.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The unit in which memory for bodies is given out.
const PERMIT_BYTES: usize = 1 << 10;
/// A body up to this size is understood on the spot.
const SMALL_BODY_BYTES: usize = 16 << 10;

/// What the routes need.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) published: Arc<Published>,
    pub(super) changes: mpsc::Sender<Waiting>,
    pub(super) usage: Usage,
    pub(super) metrics: RegistryMetrics,
    pub(super) body_bytes_max: usize,
    /// Memory for bodies, in permits.
    pub(super) bodies: Arc<Semaphore>,
    /// Turns of what takes long.
    pub(super) turns: Arc<Semaphore>,
    /// The cluster's id, for `/v1/metadata/id`.
    pub(super) cluster: String,
}

/// The one entry; the routes are a table of ours, because they share their answers to what is unknown.
pub(super) fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(answer).with_state(service)
}

/// Permits for a memory of `bytes`.
pub(super) fn permits(bytes: usize) -> usize {
    bytes.div_ceil(PERMIT_BYTES).min(Semaphore::MAX_PERMITS)
}

async fn answer(
    State(service): State<Arc<Service>>,
    request: axum::http::Request<Body>,
) -> Response {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let (route, mut response) = match accepted(&head.headers) {
        None => {
            let refused = Err(http(StatusCode::NOT_ACCEPTABLE));
            (None, response(refused, PREFERRED))
        }
        Some(kind) => {
            let (route, outcome, allowed) = service.answered(&head, body).await;
            let mut response = response(outcome, kind);
            if let Some(allowed) = allowed.and_then(|names| HeaderValue::from_str(&names).ok()) {
                response.headers_mut().insert(header::ALLOW, allowed);
            }
            (route, response)
        }
    };
    if head.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    let route = route.map_or("none", |route| route.path);
    let status = response.status().as_u16();
    service.metrics.answered(route, status, began.elapsed());
    response
}

type Outcome = (
    Option<&'static Route>,
    Result<Answer, Refusal>,
    Option<String>,
);

impl Service {
    /// The route, the answer, and the methods that there are where the request's is not one of them.
    async fn answered(&self, head: &Parts, body: Body) -> Outcome {
        let mut asked = match Asked::read(head) {
            Ok(asked) => asked,
            Err(refusal) => return (None, Err(refusal), None),
        };
        if asked.method == Method::HEAD {
            asked.method = Method::GET;
        }
        let registry = self.published.registry();
        asked.resolve(|subject| registry.resolve_alias(subject));
        let (route, parameters) = match routes::find(&asked.method, &asked.segments) {
            Found::Route(route, parameters) => (route, parameters),
            Found::OtherMethods(methods) => {
                let refused = http(StatusCode::METHOD_NOT_ALLOWED);
                return (None, Err(refused), Some(methods));
            }
            Found::Nothing => return (None, Err(http(StatusCode::NOT_FOUND)), None),
        };
        let Status::Done(handler) = route.status else {
            return (Some(route), Err(http(StatusCode::NOT_FOUND)), None);
        };
        let (body, room) = match self.body(&asked.method, head, body).await {
            Ok(body) => body,
            Err(refusal) => return (Some(route), Err(refusal), None),
        };
        let request = Request {
            asked,
            parameters,
            body,
            takes_new_fields: head
                .headers
                .get("confluent-accept-unknown-properties")
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true")),
        };
        let client = || {
            let peer = head.extensions.get::<Peer>()?;
            Some(Client::of(peer.0.ip(), &head.headers))
        };
        let outcome = self.handled(handler, registry, request, client).await;
        drop(room);
        (Some(route), outcome, None)
    }

    /// The body, whole, with the memory it takes; nothing for methods that have none.
    async fn body(
        &self,
        method: &Method,
        head: &Parts,
        body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
        if !matches!(*method, Method::POST | Method::PUT) {
            return Ok((Bytes::new(), None));
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length == Some(0) {
            return Ok((Bytes::new(), None));
        }
        if !taken(&head.headers) {
            return Err(http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let max = self.body_bytes_max;
        let too_large = || {
            let message = format!("The request has more than the {max} bytes that are allowed");
            Refusal::new(413, message)
        };
        let length = length.unwrap_or(max);
        if length > max {
            return Err(too_large());
        }
        let wanted = u32::try_from(permits(length)).unwrap_or(u32::MAX);
        let reading = async {
            let room = Arc::clone(&self.bodies).acquire_many_owned(wanted).await;
            (to_bytes(body, max).await, room.ok())
        };
        match timeout(BODY_TIMEOUT, reading).await {
            Ok((Ok(bytes), room)) => Ok((bytes, room)),
            // The length was told or is beyond the limit; else the connection is gone.
            Ok((Err(_beyond), _)) => Err(too_large()),
            Err(_late) => Err(http(StatusCode::REQUEST_TIMEOUT)),
        }
    }

    async fn handled(
        &self,
        handler: Handler,
        registry: Arc<Registry>,
        request: Request,
        client: impl Fn() -> Option<Client>,
    ) -> Result<Answer, Refusal> {
        let unread = || {
            let reason = self.published.trouble();
            let reason = reason.unwrap_or_else(|| "its topic is being read".to_owned());
            Refusal::new(50001, reason)
        };
        if !self.published.is_read() && !matches!(handler, Handler::Plain(_)) {
            return Err(unread());
        }
        match handler {
            Handler::Plain(answer) => answer(self, &request),
            Handler::Query(query) => caught(|| query(&registry, &request)),
            Handler::Fetch(fetch) => {
                let Noted {
                    answer,
                    context,
                    id,
                } = caught(|| fetch(&registry, &request))?;
                if let Some(client) = client() {
                    self.usage.note(&context, id, client, clock::now());
                }
                Ok(answer)
            }
            Handler::Parse(query) if request.body.len() <= SMALL_BODY_BYTES => {
                caught(|| query(&registry, &request))
            }
            Handler::Parse(query) | Handler::Heavy(query) => {
                self.beside(move || query(&registry, &request)).await
            }
            Handler::Change(change) => self.changed(change(&request)?).await,
            Handler::Register(known, change) => {
                // What is registered already needs no writer.
                if request.body.len() <= SMALL_BODY_BYTES
                    && let Some(answer) = caught(|| known(&registry, &request))?
                {
                    return Ok(answer);
                }
                self.changed(change(&request)?).await
            }
        }
    }

    /// Runs what may take long, a few at once.
    async fn beside(
        &self,
        work: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
    ) -> Result<Answer, Refusal> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let answer = spawn_blocking(move || {
            let answer = caught(work);
            drop(turn);
            answer
        });
        answer
            .await
            .unwrap_or_else(|_stopping| Err(Refusal::new(50001, "The node is stopping")))
    }

    /// Hands a change to the writer and waits for its answer.
    pub(super) async fn changed(&self, change: Change) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Refusal::new(50001, "The node is stopping");
        let done = async {
            let waiting = Waiting { change, answer };
            let sent = self.changes.send(waiting).await;
            sent.map_err(|_closed| stopping())?;
            answered.await.map_err(|_closed| stopping())?
        };
        timeout(CHANGE_TIMEOUT, done).await.unwrap_or_else(|_late| {
            let message = "The change took too long; whether it is stored is not known";
            Err(Refusal::new(50002, message))
        })
    }
}

/// The answer, also of work that panics.
fn caught<T>(work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
        let message = "The request cannot be answered; the node's log says why";
        Err(Refusal::new(500, message))
    })
}
