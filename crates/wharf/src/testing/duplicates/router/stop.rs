//! Where a router is stopped as if its process were killed: at the n-th place where it waits.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tower::{Layer, Service};

use crate::router::Attempts;
use crate::{Incoming, Outcome};

/// Counts the waits of a router. Once it is reached nothing goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many waits are left, if they are counted; none left is stopped.
    left: Mutex<Option<u32>>,
    reached: Notify,
}

impl Stop {
    /// Stops at the n-th wait from now.
    pub(super) fn arm(&self, waits: u32) {
        *self.left() = Some(waits.max(1));
    }

    /// Ends when it has stopped.
    pub(super) async fn reached(&self) {
        while !self.is_reached() {
            self.0.reached.notified().await;
        }
    }

    /// A place where it waits; does not come back when it stops there.
    pub(super) async fn pass(&self) {
        self.count();
        if self.is_reached() {
            pending::<()>().await;
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Option<u32>> {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_reached(&self) -> bool {
        *self.left() == Some(0)
    }

    fn count(&self) {
        let mut left = self.left();
        if let Some(left) = left.as_mut().filter(|left| **left > 0) {
            *left -= 1;
            if *left == 0 {
                self.0.reached.notify_one();
            }
        }
    }
}

impl Layer<Attempts> for Stop {
    type Service = Stopping;

    fn layer(&self, inner: Attempts) -> Stopping {
        Stopping {
            inner,
            stop: self.clone(),
        }
    }
}

/// Handlers whose waits are counted.
#[derive(Clone)]
pub(super) struct Stopping {
    inner: Attempts,
    stop: Stop,
}

impl Service<Incoming> for Stopping {
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        let mut handling = self.inner.call(incoming);
        let stop = self.stop.clone();
        Box::pin(poll_fn(move |context| {
            if stop.is_reached() {
                return Poll::Pending;
            }
            let polled = handling.as_mut().poll(context);
            if polled.is_pending() {
                stop.count();
            }
            polled
        }))
    }
}
