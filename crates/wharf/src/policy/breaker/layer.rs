//! The breaker around a service: lets calls in, judges how they end.
//!
//! What must never happen: the inner service is called without a permit, or a permit outlives its
//! call.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Breaker, Permit};
use crate::policy::BoxError;

/// How a call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It succeeded: what is behind it works.
    Success,
    /// It failed because of what is behind it.
    Failure,
    /// It says nothing about what is behind it: a bad request, a message that cannot be handled.
    Ignore,
}

/// Judges how a call ended.
///
/// Every `Fn(Result<&Response, &Error>) -> Verdict` is one. Count as [`Verdict::Failure`] only what
/// another call might meet too: a refused card is no reason to stop charging cards.
pub trait Classify<R, E> {
    /// How it counts.
    fn classify(&self, ended: Result<&R, &E>) -> Verdict;
}

impl<R, E, F: Fn(Result<&R, &E>) -> Verdict> Classify<R, E> for F {
    fn classify(&self, ended: Result<&R, &E>) -> Verdict {
        self(ended)
    }
}

/// An error is a failure, every response a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors;

impl<R, E> Classify<R, E> for Errors {
    fn classify(&self, ended: Result<&R, &E>) -> Verdict {
        match ended {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Failure,
        }
    }
}

/// What a call meets while the breaker lets none in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenOpen {
    /// It fails at once with [`crate::policy::Refused::Open`]: for a client, whose caller waits for an answer.
    #[default]
    Refuse,
    /// The service is not ready until calls are let in again: for a consumer, which pauses.
    Wait,
}

/// Puts a breaker around services.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use wharf::policy::{Breaker, BreakerSettings, Verdict};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let breaker = Breaker::new("payments", BreakerSettings::default())?;
/// let judged = breaker.layer().classify(|ended: Result<&u16, &std::io::Error>| match ended {
///     Ok(200..=499) => Verdict::Success, // the server works, whatever it thinks of the request
///     Ok(_) | Err(_) => Verdict::Failure,
/// });
/// let client = judged.layer(service_fn(async |path: &str| Ok::<u16, std::io::Error>(503)));
/// assert_eq!(client.oneshot("/pay").await?, 503);
/// assert_eq!(breaker.snapshot().failed, 1);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # }).map_err(|error| error.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = Errors> {
    breaker: Breaker,
    classify: C,
    when_open: WhenOpen,
}

impl<C> BreakerLayer<C> {
    pub(super) fn new(breaker: Breaker, classify: C) -> Self {
        Self {
            breaker,
            classify,
            when_open: WhenOpen::default(),
        }
    }

    /// The same, judging calls by `classify`.
    pub fn classify<N>(self, classify: N) -> BreakerLayer<N> {
        BreakerLayer {
            breaker: self.breaker,
            classify,
            when_open: self.when_open,
        }
    }

    /// The same, with this while it is open.
    #[must_use]
    pub fn when_open(mut self, when_open: WhenOpen) -> Self {
        self.when_open = when_open;
        self
    }

    /// The breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService {
            inner,
            breaker: self.breaker.clone(),
            classify: self.classify.clone(),
            when_open: self.when_open,
            permit: None,
            waiting: None,
        }
    }
}

/// A service behind a breaker.
pub struct BreakerService<S, C> {
    inner: S,
    breaker: Breaker,
    classify: C,
    when_open: WhenOpen,
    permit: Option<Permit>,
    /// `Sync`, so that a service is wherever it is cloned from.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl<S: Clone, C: Clone> Clone for BreakerService<S, C> {
    /// A clone has to become ready for itself.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            breaker: self.breaker.clone(),
            classify: self.classify.clone(),
            when_open: self.when_open,
            permit: None,
            waiting: None,
        }
    }
}

impl<S, C> std::fmt::Debug for BreakerService<S, C> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BreakerService")
            .field("breaker", &self.breaker)
            .field("when_open", &self.when_open)
            .finish_non_exhaustive()
    }
}

impl<S, C> BreakerService<S, C> {
    /// Waits for a permit, as far as that is wanted. `false` means that the call will be refused.
    fn poll_permit(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.permit.as_ref().is_some_and(Permit::is_current) {
                return Poll::Ready(true);
            }
            self.permit = None;
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            match (self.when_open, self.breaker.calls_permitted()) {
                (WhenOpen::Refuse, 0) => return Poll::Ready(false),
                (WhenOpen::Wait, 0) => {
                    let breaker = self.breaker.clone();
                    self.waiting = Some(Box::pin(async move {
                        breaker.wait_until_calls_are_permitted().await;
                    }));
                }
                // Another call may have been quicker; then this asks again.
                _ => self.permit = self.breaker.admit().ok(),
            }
        }
    }
}

impl<S, C, R> Service<R> for BreakerService<S, C>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !ready!(self.poll_permit(context)) {
            // Ready to refuse, whatever the inner service is ready for.
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // Without a permit the inner service was not asked whether it is ready: it is not called.
        let admitted = match self.permit.take() {
            Some(permit) if permit.is_current() => Ok(permit),
            Some(_outdated) => self.breaker.admit(),
            None => Err(self.breaker.refusal()),
        };
        match admitted {
            Ok(permit) => BreakerFuture {
                state: Call::Running {
                    permit: Some(permit.begin()),
                    classify: self.classify.clone(),
                    future: self.inner.call(request),
                },
            },
            Err(refused) => BreakerFuture {
                state: Call::Refused {
                    error: Some(Box::new(refused)),
                },
            },
        }
    }
}

pin_project! {
    /// A call behind a breaker.
    pub struct BreakerFuture<F, C> {
        #[pin]
        state: Call<F, C>,
    }
}

pin_project! {
    #[project = CallProjection]
    enum Call<F, C> {
        Running {
            permit: Option<Permit>,
            classify: C,
            #[pin]
            future: F,
        },
        Refused {
            error: Option<Box<dyn Error + Send + Sync>>,
        },
    }
}

impl<F, C> std::fmt::Debug for BreakerFuture<F, C> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BreakerFuture")
            .finish_non_exhaustive()
    }
}

impl<F, C, R, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<R, E>>,
    E: Into<BoxError>,
    C: Classify<R, E>,
{
    type Output = Result<R, BoxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            CallProjection::Running {
                permit,
                classify,
                future,
            } => {
                let ended = ready!(future.poll(context));
                if let Some(permit) = permit.take() {
                    permit.settle(classify.classify(ended.as_ref()));
                }
                Poll::Ready(ended.map_err(Into::into))
            }
            CallProjection::Refused { error } => Poll::Ready(Err(error
                .take()
                .expect("a future is not polled after it is ready"))),
        }
    }
}
