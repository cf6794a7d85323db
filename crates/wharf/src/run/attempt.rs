//! One attempt: the handler is called, and whatever it does becomes an outcome. A panic is caught, a
//! handler that does not end is dropped; neither reaches the messages beside it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::{FutureExt, future};
use tower::ServiceExt;
use wharf_message::dead_letter::Reason;

use crate::failure::Failed;
use crate::incoming::Incoming;
use crate::outcome::Outcome;
use crate::router::Handling;

/// Calls the handler.
pub(super) async fn attempt(service: &Handling, incoming: Incoming, limit: Duration) -> Outcome {
    let running = async {
        match service {
            Handling::Plain(handler) => handler.handle(incoming).await,
            Handling::Layered(layered) => match layered.clone().oneshot(incoming).await {
                Ok(outcome) => outcome,
                Err(never) => match never {},
            },
        }
    };
    let mut running = pin!(AssertUnwindSafe(running).catch_unwind());
    // Most handlers end without waiting, or the timer is cheaper than what they wait for.
    let first = future::poll_fn(|context| Poll::Ready(running.as_mut().poll(context))).await;
    let ended = match first {
        Poll::Ready(ended) => Ok(ended),
        Poll::Pending => tokio::time::timeout(limit, running).await,
    };
    match ended {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = format!("the handler panicked: {}", said(&*panic));
            Outcome::Failed(Failed::for_now(Reason::Panicked, text))
        }
        Err(_) => {
            let text = format!("the handler did not end within {limit:?}");
            Outcome::Failed(Failed::for_now(Reason::TimedOut, text))
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it did not say why")
}
