//! Policies and handlers: what an outcome says about what a handler calls, and what becomes of a message
//! that a policy did not let through.

use std::time::Duration;

use wharf_message::dead_letter::Reason;

use super::{BoxError, Breaker, Classify, Refused, Verdict, refused};
use crate::failure::{Disposition, Error, Failed, chain};
use crate::outcome::Outcome;
use crate::router::Route;

/// The shortest and the longest time until a message that was not let through is tried again. It is
/// asked for often, since an operator may close a breaker at any time.
const POSTPONED: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Judges handlers by their outcomes: what is to be retried is a failure; what can never succeed, a
/// conflict or a message that was passed over says nothing about what the handler calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes;

impl<E> Classify<Outcome, E> for Outcomes {
    fn classify(&self, ended: Result<&Outcome, &E>) -> Verdict {
        match ended {
            Ok(Outcome::Done(_)) => Verdict::Success,
            Ok(Outcome::Failed(failed)) => match failed.disposition {
                Disposition::Retry | Disposition::RetryWith(_) => Verdict::Failure,
                _ => Verdict::Ignore,
            },
            Err(_) => Verdict::Failure,
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// Puts a breaker around the handlers of the route, and pauses the route while it is open: no
    /// messages are asked for, and those that are here wait without using up attempts.
    ///
    /// It replaces another [`gate`](Route::gate). A handler that does not end within the route's timeout
    /// counts as failed once it took `slow_call`, so keep that below the timeout.
    ///
    /// ```
    /// use wharf::policy::{Breaker, BreakerSettings};
    /// use wharf::{Raw, Router, group};
    ///
    /// async fn charge(Raw(_message): Raw) {}
    ///
    /// let payments = Breaker::new("payments", BreakerSettings::default())?;
    /// let billing = group("billing").on(charge).breaker(&payments);
    /// let router: Router = Router::new().topic("orders", billing);
    /// # Ok::<(), wharf::policy::InvalidPolicy>(())
    /// ```
    #[must_use]
    pub fn breaker(self, breaker: &Breaker) -> Self {
        let gate = breaker.clone();
        self.layer(breaker.layer().classify(Outcomes))
            .gate(move || {
                let breaker = gate.clone();
                async move { breaker.wait_until_calls_are_permitted().await }
            })
    }
}

impl Error {
    /// Of a call through policies, such as a client of another service. What a policy did not let
    /// begin is postponed, which counts as no attempt; everything else is retried.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use wharf::Raw;
    /// use wharf::policy::{Breaker, BreakerSettings};
    ///
    /// async fn charge(Raw(_message): Raw) -> Result<(), wharf::Error> {
    ///     let breaker = Breaker::new("payments", BreakerSettings::default())?;
    ///     let client = breaker.layer().layer(service_fn(async |(): ()| Ok::<_, std::io::Error>(())));
    ///     client.oneshot(()).await.map_err(wharf::Error::of_call)
    /// }
    /// ```
    pub fn of_call(error: BoxError) -> Self {
        let disposition = match refused(&*error) {
            Some(refused) => refused.disposition(),
            None => Disposition::Retry,
        };
        Self::new(error, disposition)
    }
}

impl Refused {
    fn disposition(&self) -> Disposition {
        let (shortest, longest) = POSTPONED;
        let after = match self {
            Self::Open { retry_after, .. } => retry_after.unwrap_or(longest),
            Self::Full { .. } => shortest,
            Self::TooMany { calls, period, .. } => {
                *period / u32::try_from(*calls).unwrap_or(u32::MAX).max(1)
            }
            // It began and may have had its effect.
            Self::TimedOut { .. } => return Disposition::Retry,
        };
        Disposition::Postpone(after.clamp(shortest, longest))
    }
}

/// What an error of a layer comes to.
pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Failed {
    let refused = refused(error);
    let disposition = refused.map_or(Disposition::Retry, Refused::disposition);
    let mut failed = Failed::of_handler(chain(error), disposition);
    if let Some(Refused::TimedOut { .. }) = refused {
        failed.reason = Reason::TimedOut;
    }
    failed
}
