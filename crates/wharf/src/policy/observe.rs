//! What policies tell to metrics: one event per call or change, to whoever wants to count.

use std::time::Duration;

use super::{Refused, State, Verdict};

/// Something a policy did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call was not let through, or was given up.
    Refused(&'a Refused),
    /// A call that a breaker let in ended.
    Finished {
        /// How it counts.
        verdict: Verdict,
        /// How long it took.
        elapsed: Duration,
        /// Whether that is slow.
        slow: bool,
    },
    /// A breaker's state changed.
    State {
        /// From this.
        from: State,
        /// To this.
        to: State,
    },
}

/// Receives events. Called in the path of the call: it counts and returns.
///
/// Every `Fn(&str, &Event)` is one:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use wharf::policy::{Breaker, BreakerSettings, Event};
///
/// let changes = Arc::new(AtomicU64::new(0));
/// let counted = Arc::clone(&changes);
/// let breaker = Breaker::new("payments", BreakerSettings::default())?.observed_by(
///     move |_policy: &str, event: &Event<'_>| {
///         if let Event::State { .. } = event {
///             counted.fetch_add(1, Ordering::Relaxed);
///         }
///     },
/// );
/// breaker.force_open();
/// assert_eq!(changes.load(Ordering::Relaxed), 1);
/// # Ok::<(), wharf::policy::InvalidPolicy>(())
/// ```
pub trait Observe: Send + Sync {
    /// `policy` did this.
    fn observe(&self, policy: &str, event: &Event<'_>);
}

impl<F: Fn(&str, &Event<'_>) + Send + Sync> Observe for F {
    fn observe(&self, policy: &str, event: &Event<'_>) {
        self(policy, event);
    }
}
