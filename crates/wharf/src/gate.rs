//! Between layers and routes: a gate that stops consumption, and errors of layers as outcomes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{BoxError, Service};

use crate::incoming::Incoming;
use crate::outcome::Outcome;
use crate::policy;

/// Is waited for before messages are asked for.
#[derive(Clone)]
pub(crate) struct Gate(Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>);

impl Gate {
    pub(crate) fn new<F, Fut>(open: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(open())))
    }

    pub(crate) fn open(&self) -> BoxFuture<'static, ()> {
        (self.0)()
    }
}

/// A service whose errors are failed attempts.
#[derive(Clone, Debug)]
pub(crate) struct Settled<S>(pub(crate) S);

impl<S> Service<Incoming> for Settled<S>
where
    S: Service<Incoming, Response = Outcome>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = Settling<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // An error here is told by the call that follows.
        self.0.poll_ready(context).map(|_| Ok(()))
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        Settling(Box::pin(self.0.call(incoming)))
    }
}

/// The future of [`Settled`].
pub(crate) struct Settling<F>(Pin<Box<F>>);

impl<F, E> Future for Settling<F>
where
    F: Future<Output = Result<Outcome, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Outcome, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0
            .as_mut()
            .poll(context)
            .map(|ended| Ok(ended.unwrap_or_else(|error| refused(&error.into()))))
    }
}

/// What a layer's error comes to.
fn refused(error: &BoxError) -> Outcome {
    Outcome::Failed(policy::failed(&**error))
}
