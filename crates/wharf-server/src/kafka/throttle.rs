//! Client quotas on a connection: what a request costs, and what its answer tells.
//!
//! The time that is charged is the time spent on a request, not what it waited: for the disk, for
//! other clients, or for something to read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use wharf_kafka::{Meter, Response};

/// Counts what one request takes of its client's quotas; see [`Meter`].
pub(crate) trait Metering: fmt::Debug + Send {
    /// How long the client has to wait before its next request.
    fn charge(&self, spent: Duration, answer: Option<&Response>) -> Duration;

    /// Writes that time into the answer.
    fn tell(&self, answer: &mut Response, wait: Duration);
}

impl Metering for Meter {
    fn charge(&self, spent: Duration, answer: Option<&Response>) -> Duration {
        self.charge(spent, answer)
    }

    fn tell(&self, answer: &mut Response, wait: Duration) {
        self.tell(answer, wait);
    }
}

/// What was charged for a request whose answer is still to come.
#[derive(Debug, Default)]
pub(super) struct Charged {
    meter: Option<Box<dyn Metering>>,
    pub(super) wait: Duration,
}

impl Charged {
    /// Charges a request and, when it is there already, its answer.
    pub(super) fn charge(
        meter: Option<Box<dyn Metering>>,
        spent: Duration,
        answer: Option<&Response>,
    ) -> Self {
        let wait = meter.as_ref().map(|meter| meter.charge(spent, answer));
        Self {
            meter,
            wait: wait.unwrap_or_default(),
        }
    }

    /// Writes the time to wait into the answer.
    pub(super) fn tell(&self, answer: &mut Response) {
        if let Some(meter) = &self.meter {
            meter.tell(answer, self.wait);
        }
    }
}

/// A future with the time that was spent on it.
pub(super) struct Timed<T> {
    future: BoxFuture<'static, T>,
    spent: Duration,
}

impl<T> Timed<T> {
    /// `spent` was spent on it already.
    pub(super) fn new(future: BoxFuture<'static, T>, spent: Duration) -> Self {
        Self { future, spent }
    }
}

impl<T> Future for Timed<T> {
    type Output = (T, Duration);

    fn poll(mut self: Pin<&mut Self>, waking: &mut Context<'_>) -> Poll<Self::Output> {
        let begun = Instant::now();
        let polled = self.future.as_mut().poll(waking);
        self.spent += begun.elapsed();
        polled.map(|output| (output, self.spent))
    }
}
