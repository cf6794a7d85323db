//! The timeout: how long a call may take before it is given up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;
use tower_resilience::timelimiter::{FixedTimeout, TimeLimiter, TimeLimiterLayer};

use super::guarded::Refusal;
use super::{Guarded, InvalidPolicy, Observe, Refused, ensure_duration, ensure_name};

/// Gives up calls that take too long: the inner service's future is dropped. Put it inside a breaker, so
/// that the breaker sees what was given up.
///
/// ```
/// use std::time::Duration;
/// use tower::{Layer, ServiceExt, service_fn};
/// use wharf::policy::{Refused, Timeout, refused};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let timeout = Timeout::new("payments", Duration::from_millis(1))?;
/// let hangs = timeout.layer(service_fn(|(): ()| std::future::pending::<Result<(), std::io::Error>>()));
/// let error = hangs.oneshot(()).await.expect_err("it takes too long");
/// assert!(matches!(refused(&*error), Some(Refused::TimedOut { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Timeout {
    layer: TimeLimiterLayer<FixedTimeout>,
    refusal: Refusal,
}

impl Timeout {
    /// Calls may take up to `after`: more than zero, at most 365 days.
    ///
    /// # Errors
    /// When the duration or the name is out of its range.
    pub fn new(name: &str, after: Duration) -> Result<Self, InvalidPolicy> {
        ensure_name(name)?;
        ensure_duration(name, "after", after)?;
        let refused = Refused::TimedOut {
            policy: name.to_owned(),
            after,
        };
        Ok(Self {
            layer: TimeLimiterLayer::builder()
                .name(name)
                .timeout_duration(after)
                .cancel_running_future(true)
                .build(),
            refusal: Refusal {
                refused,
                observer: None,
            },
        })
    }

    /// The same, and `observer` is told what it gives up.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observe + 'static) -> Self {
        self.refusal.observer = Some(Arc::new(observer));
        self
    }
}

impl<S> Layer<S> for Timeout {
    type Service = Guarded<TimeLimiter<S, FixedTimeout>>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded::new(self.layer.layer(inner), &self.refusal)
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(formatter)
    }
}
