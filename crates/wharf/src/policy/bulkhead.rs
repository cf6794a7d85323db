//! The bulkhead: how many calls may be under way at once, so that one slow destination does not take
//! everything a service has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;
use tower_resilience::bulkhead::{self as resilience, BulkheadHandle, BulkheadLayer};

use super::guarded::Refusal;
use super::{Guarded, InvalidPolicy, Observe, Refused, ensure, ensure_duration, ensure_name};

/// What a call meets that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The service is not ready until there is room: whoever calls it slows down.
    #[default]
    Wait,
    /// It waits for so long at most, and then fails: more than zero, at most 365 days.
    WaitAtMost(Duration),
    /// It fails at once.
    Refuse,
}

/// A limit to the calls under way at once. Clones, and all services it is put around, share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use wharf::policy::{Bulkhead, Refused, WhenFull, refused};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let bulkhead = Bulkhead::new("reports", 1)?.when_full(WhenFull::Refuse)?;
/// let slow = bulkhead.layer(service_fn(|(): ()| std::future::pending::<Result<(), std::io::Error>>()));
/// let first = tokio::spawn(slow.clone().oneshot(()));
/// while bulkhead.calls() == 0 {
///     tokio::task::yield_now().await;
/// }
/// let error = slow.oneshot(()).await.expect_err("one too many");
/// assert!(matches!(refused(&*error), Some(Refused::Full { .. })));
/// first.abort();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bulkhead {
    layer: BulkheadLayer,
    handle: BulkheadHandle,
    refusal: Refusal,
}

impl Bulkhead {
    /// At most `calls_max` calls at once: 1 to 1,000,000. The others wait.
    ///
    /// # Errors
    /// When the number or the name is out of its range.
    pub fn new(name: &str, calls_max: usize) -> Result<Self, InvalidPolicy> {
        ensure_name(name)?;
        let valid = (1..=1_000_000).contains(&calls_max);
        ensure(name, "calls_max", &calls_max, valid, "1 to 1,000,000")?;
        let refused = Refused::Full {
            policy: name.to_owned(),
            calls_max,
        };
        let refusal = Refusal {
            refused,
            observer: None,
        };
        Self::build(refusal, calls_max, WhenFull::Wait)
    }

    /// The same limit anew, with this for a call that is one too many.
    ///
    /// # Errors
    /// When the wait is out of its range.
    pub fn when_full(self, when_full: WhenFull) -> Result<Self, InvalidPolicy> {
        if let WhenFull::WaitAtMost(wait) = when_full {
            ensure_duration(self.refusal.refused.policy(), "when_full", wait)?;
        }
        let calls_max = self.handle.max_concurrent();
        Self::build(self.refusal, calls_max, when_full)
    }

    /// The same, and `observer` is told what it refuses.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observe + 'static) -> Self {
        self.refusal.observer = Some(Arc::new(observer));
        self
    }

    /// How many calls are under way, or reserved by services that are ready.
    pub fn calls(&self) -> usize {
        self.handle.active_calls()
    }

    fn build(
        refusal: Refusal,
        calls_max: usize,
        when_full: WhenFull,
    ) -> Result<Self, InvalidPolicy> {
        let name = refusal.refused.policy();
        let builder = BulkheadLayer::builder()
            .name(name)
            .max_concurrent_calls(calls_max);
        let builder = match when_full {
            WhenFull::Wait => builder.backpressure(),
            WhenFull::WaitAtMost(wait) => builder.max_wait_duration(wait),
            WhenFull::Refuse => builder.reject_when_full(),
        };
        let built = builder.build_with_handle();
        ensure(
            name,
            "calls_max",
            &calls_max,
            built.is_ok(),
            "what the bulkhead takes",
        )?;
        let (layer, handle) = built.expect("it was ensured");
        Ok(Self {
            layer,
            handle,
            refusal,
        })
    }
}

impl<S> Layer<S> for Bulkhead {
    type Service = Guarded<resilience::Bulkhead<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded::new(self.layer.layer(inner), &self.refusal)
    }
}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Bulkhead")
            .field("name", &self.refusal.refused.policy())
            .field("calls_max", &self.handle.max_concurrent())
            .field("calls", &self.calls())
            .finish_non_exhaustive()
    }
}
