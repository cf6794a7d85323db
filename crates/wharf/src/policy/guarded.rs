//! What the policies that stand on tower-resilience have in common: its errors become ours.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{BoxError, Service};
use tower_resilience::bulkhead::BulkheadServiceError;
use tower_resilience::ratelimiter::RateLimiterServiceError;
use tower_resilience::timelimiter::TimeLimiterError;

use super::{Event, Observe, Refused};

/// What a policy answers when it refuses, and who is told.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) observer: Option<Arc<dyn Observe>>,
}

impl Refusal {
    fn translate(&self, error: impl GuardError) -> BoxError {
        if let Some(inner) = error.into_inner() {
            return inner;
        }
        tracing::debug!(refused = %self.refused, "a policy refused a call");
        if let Some(observer) = &self.observer {
            observer.observe(self.refused.policy(), &Event::Refused(&self.refused));
        }
        Box::new(self.refused.clone())
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.fmt(formatter)
    }
}

/// A service behind a bulkhead, a rate limit or a timeout; `G` is tower-resilience's service around
/// the inner one.
#[derive(Clone)]
pub struct Guarded<G> {
    guard: G,
    refusal: Arc<Refusal>,
}

impl<G> Guarded<G> {
    pub(super) fn new(guard: G, refusal: &Refusal) -> Self {
        Self {
            guard,
            refusal: Arc::new(refusal.clone()),
        }
    }
}

impl<G> fmt::Debug for Guarded<G> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Guarded")
            .field(&self.refusal)
            .finish()
    }
}

impl<G, R> Service<R> for Guarded<G>
where
    G: Service<R>,
    G::Error: GuardError,
{
    type Response = G::Response;
    type Error = BoxError;
    type Future = GuardedFuture<G::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let ready = ready!(self.guard.poll_ready(context));
        Poll::Ready(ready.map_err(|error| self.refusal.translate(error)))
    }

    fn call(&mut self, request: R) -> Self::Future {
        GuardedFuture {
            call: self.guard.call(request),
            refusal: Arc::clone(&self.refusal),
        }
    }
}

pin_project! {
    /// A call behind a policy.
    pub struct GuardedFuture<F> {
        #[pin]
        call: F,
        refusal: Arc<Refusal>,
    }
}

impl<F> fmt::Debug for GuardedFuture<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("GuardedFuture")
            .field(&self.refusal)
            .finish()
    }
}

impl<F, T, E> Future for GuardedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: GuardError,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ended = ready!(this.call.poll(context));
        Poll::Ready(ended.map_err(|error| this.refusal.translate(error)))
    }
}

/// An error of tower-resilience, around one of the inner service or its own.
pub trait GuardError {
    /// The inner service's error; `None` if the policy refused.
    fn into_inner(self) -> Option<BoxError>;
}

impl<E: Into<BoxError>> GuardError for BulkheadServiceError<E> {
    fn into_inner(self) -> Option<BoxError> {
        Self::into_inner(self).map(Into::into)
    }
}

impl<E: Into<BoxError>> GuardError for RateLimiterServiceError<E> {
    fn into_inner(self) -> Option<BoxError> {
        Self::into_inner(self).map(Into::into)
    }
}

impl<E: Into<BoxError>> GuardError for TimeLimiterError<E> {
    fn into_inner(self) -> Option<BoxError> {
        Self::into_inner(self).map(Into::into)
    }
}
