//! The Step Functions API over the orchestrator: `POST /` with `X-Amz-Target`, AWS JSON 1.0.
//!
//! So that Amazon's clients, command line and activity workers work with sagas as they are. Nothing
//! is decided here: a machine is a definition, an execution is a saga whose idempotency key is its
//! name, a task token is the saga's own. What only Amazon has, roles, published versions, aliases,
//! tags and activities, is in `_wharf.step-functions`.
//!
//! A stranger may send anything: bodies are bounded in size and together, waiting workers in number,
//! and a request in what it may say (`wire`). A request without the content type of Amazon's clients
//! is refused, so that no page in a browser can send one.
//!
//! - `operations`: every operation there is, and its page of the documentation.
//! - `machines`, `versions`, `aliases`, `tags`, `executions`, `activities`, `validate`, `test_state`:
//!   what each does. `history`: facts in Amazon's words.
//! - `wire`, `arn`, `fault`: what requests and answers say. `signature`: who sent them.
//! - `catalogue`: what is kept.

mod activities;
mod aliases;
mod arn;
mod catalogue;
mod executions;
mod fault;
mod history;
mod machines;
mod operations;
mod signature;
mod tags;
mod test_state;
mod validate;
mod versions;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use wharf_message::ledger::Ledger;

use super::engine::Engine;
use crate::clock;
use catalogue::Catalogue;
use fault::Fault;
pub use operations::reference;
use operations::{Answer, Call, Status};
use signature::Users;
use wire::Fields;

/// The largest request: a definition of the largest size, written as a JSON string.
const BODY_BYTES_MAX: usize = 2 * wire::DEFINITION_BYTES_MAX;
/// What all bodies take together, in units of this.
const PERMIT_BYTES: usize = 1 << 10;
const BODIES_PERMITS: usize = (64 << 20) / PERMIT_BYTES;
/// How long a body may take to arrive, and to be let in.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many workers may wait for a task at once; the listener has more seats than that.
const POLLERS_MAX: usize = 192;
/// What operations begin with.
const TARGET: &str = "AWSStepFunctions.";
/// Who acts where nobody signs.
const NOBODY: &str = "step-functions-api";

/// What the operations need.
struct Api {
    engine: Engine,
    catalogue: Catalogue,
    users: Users,
    bodies: Semaphore,
    pollers: Semaphore,
    /// True once the node is stopping: nobody waits any longer.
    stop: watch::Receiver<bool>,
}

impl Api {
    /// How large an input or an output may be: what Amazon allows, or what goes into the node's store.
    fn data_bytes_max(&self) -> usize {
        self.engine.payload_limit().0.max(wire::DATA_BYTES_MAX)
    }

    /// How large a request may be; JSON within JSON has many escapes.
    fn body_bytes_max(&self) -> usize {
        BODY_BYTES_MAX.max(2 * self.data_bytes_max())
    }
}

/// The routes. `users` are access keys and their secrets; without any, nobody has to sign.
pub(super) fn routes(
    engine: Engine,
    ledger: Arc<dyn Ledger>,
    users: Vec<(String, String)>,
    stop: watch::Receiver<bool>,
) -> Router {
    let api = Api {
        engine,
        catalogue: Catalogue::new(ledger),
        users: Users::new(users),
        bodies: Semaphore::new(BODIES_PERMITS),
        pollers: Semaphore::new(POLLERS_MAX),
        stop,
    };
    Router::new()
        .route("/", post(answer))
        .with_state(Arc::new(api))
}

async fn answer(State(api): State<Arc<Api>>, request: axum::http::Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    match answered(api, &head, body).await {
        Ok(value) => (wire::head(), value.to_string()).into_response(),
        Err(fault) => fault.response(),
    }
}

async fn answered(api: Arc<Api>, head: &Parts, body: Body) -> Answer {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !kind.starts_with("application/x-amz-json-1.") {
        let why = format!("the content type is not {}", wire::CONTENT_TYPE);
        return Err(Fault::new("UnknownOperationException", why));
    }
    let length = text(header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
    let most = api.body_bytes_max();
    let length: usize = length.unwrap_or(most);
    let too_large = || {
        let why = format!("the request has more than the {most} bytes that are allowed");
        Fault::server("RequestEntityTooLarge", StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if length > most {
        return Err(too_large());
    }
    let permits = u32::try_from(length.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
    let holder = Arc::clone(&api);
    let reading = async {
        let room = holder.bodies.acquire_many(permits).await;
        (to_bytes(body, most).await, room)
    };
    let (body, _room) = match timeout(BODY_TIMEOUT, reading).await {
        Ok((Ok(body), room)) => (body, room),
        Ok((Err(_beyond), _)) => return Err(too_large()),
        Err(_late) => {
            let why = "the request took too long to arrive";
            return Err(Fault::server(
                "RequestTimeout",
                StatusCode::REQUEST_TIMEOUT,
                why,
            ));
        }
    };
    let by = api.users.sender(head, &body, clock::now())?;
    let name = text("x-amz-target").and_then(|target| target.strip_prefix(TARGET));
    let unknown = |why: String| Fault::new("UnknownOperationException", why);
    let name =
        name.ok_or_else(|| unknown(format!("'X-Amz-Target' does not begin with {TARGET}")))?;
    let operation = operations::find(name);
    let operation =
        operation.ok_or_else(|| unknown(format!("there is no operation {name:.80}")))?;
    match operation.status {
        Status::Done(does) => {
            let is_read = api.engine.check_begun();
            is_read.map_err(|refused| Fault::of(&refused))?;
            let fields = Fields::read(&body)?;
            drop(body);
            let by = by.unwrap_or_else(|| NOBODY.to_owned());
            does(api, Call { fields, by }).await
        }
        Status::Absent(why) => {
            let name = operation.name;
            Err(unknown(format!("{name} is not there: {why}")))
        }
    }
}

/// The ARN of a machine.
pub(super) fn machine_arn(name: &str) -> String {
    arn::Arn::Machine(name.to_owned()).to_string()
}

/// The ARN of an execution.
pub(super) fn execution_arn(machine: &str, name: &str) -> String {
    arn::Arn::Execution(machine.to_owned(), name.to_owned()).to_string()
}
