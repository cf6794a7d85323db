//! Bodies that may hold a large payload.
//!
//! Small ones are read as everywhere. Of large ones only so many bytes are in memory at once, of all
//! senders together, and each must arrive in time: nobody makes the node hold more than that.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use axum::response::Response;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use wharf_message::Code;

use std::time::Duration;

use super::BODY_BYTES_MAX;
use crate::saga::engine::Engine;
use crate::saga::refusal::Refused;

/// One permit for so many bytes.
const PERMIT_BYTES: usize = 1 << 10;
/// How many permits there are: 64 MiB.
pub(in crate::saga) const PERMITS: usize = (64 << 20) / PERMIT_BYTES;
/// How long a body may take to be let in and to arrive.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A body.
pub(super) struct Large(pub(super) Bytes);

impl FromRequest<Engine> for Large {
    type Rejection = Response;

    async fn from_request(request: Request, engine: &Engine) -> Result<Self, Response> {
        let read = read(request, engine).await;
        read.map(Self).map_err(|refused| super::refusal(&refused))
    }
}

async fn read(request: Request, engine: &Engine) -> Result<Bytes, Refused> {
    let (payload_max, setting) = engine.payload_limit();
    // White space and the envelope are no payload.
    let most = BODY_BYTES_MAX.max(2 * payload_max);
    let too_large = || {
        let message = format!(
            "the request has more than the {most} bytes that are allowed, of which a payload may be \
             {payload_max} by {setting}"
        );
        Refused::new(Code::SAGA_PAYLOAD_TOO_LARGE, message)
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let length = match length {
        Some(length) if length > most => return Err(too_large()),
        Some(length) => length,
        None => most,
    };
    let reading = async {
        let room = room(engine, length).await;
        (to_bytes(request.into_body(), length).await, room)
    };
    match timeout(TIMEOUT, reading).await {
        Ok((Ok(body), _room)) => Ok(body),
        Ok((Err(_beyond), _)) => Err(too_large()),
        Err(_late) => {
            let message = "the request took too long to arrive; send it again";
            Err(Refused::new(Code::SAGA_BUSY, message))
        }
    }
}

/// Room for a body that is larger than any other may be.
async fn room(engine: &Engine, length: usize) -> Option<SemaphorePermit<'_>> {
    if length <= BODY_BYTES_MAX {
        return None;
    }
    let permits = u32::try_from(length.div_ceil(PERMIT_BYTES).min(PERMITS)).unwrap_or(u32::MAX);
    engine.shared().bodies.acquire_many(permits).await.ok()
}
