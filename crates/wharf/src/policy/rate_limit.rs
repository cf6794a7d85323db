//! The rate limit: how many calls may begin per period, as a destination or a contract allows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;
use tower_resilience::ratelimiter::{
    self as resilience, RateLimiterHandle, RateLimiterLayer, WindowType,
};

use super::guarded::Refusal;
use super::{
    Guarded, InvalidPolicy, Observe, Refused, WhenFull, ensure, ensure_duration, ensure_name,
};

/// A limit to the calls that begin per period. Clones, and all services it is put around, share it.
///
/// The window slides: it weighs the calls of the period before with the part of it that is still
/// within one period from now. With [`RateLimit::burst`] it is a token bucket.
///
/// ```
/// use std::time::Duration;
/// use tower::{Layer, ServiceExt, service_fn};
/// use wharf::policy::{RateLimit, Refused, WhenFull, refused};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let limit = RateLimit::new("geocoder", 2, Duration::from_secs(60))?.when_full(WhenFull::Refuse)?;
/// let client = limit.layer(service_fn(async |(): ()| Ok::<_, std::io::Error>(())));
/// client.clone().oneshot(()).await?;
/// client.clone().oneshot(()).await?;
/// let error = client.oneshot(()).await.expect_err("one too many");
/// assert!(matches!(refused(&*error), Some(Refused::TooMany { .. })));
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # }).map_err(|error| error.to_string())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct RateLimit {
    settings: Settings,
    layer: RateLimiterLayer,
    handle: RateLimiterHandle,
    refusal: Refusal,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    calls: usize,
    period: Duration,
    burst: Option<usize>,
    when_full: WhenFull,
}

impl RateLimit {
    /// At most `calls` per `period`: 1 to 1,000,000,000, more than zero and at most 365 days. The
    /// others wait.
    ///
    /// # Errors
    /// When a setting or the name is out of its range.
    pub fn new(name: &str, calls: usize, period: Duration) -> Result<Self, InvalidPolicy> {
        ensure_name(name)?;
        let valid = (1..=CALLS_MAX).contains(&calls);
        ensure(name, "calls", &calls, valid, "1 to 1,000,000,000")?;
        ensure_duration(name, "period", period)?;
        let refused = Refused::TooMany {
            policy: name.to_owned(),
            calls,
            period,
        };
        let refusal = Refusal {
            refused,
            observer: None,
        };
        let settings = Settings {
            calls,
            period,
            burst: None,
            when_full: WhenFull::Wait,
        };
        Self::build(refusal, settings)
    }

    /// The same limit anew, with so many calls more at once after a quiet time: 0 to 1,000,000,000. The
    /// rate in the long run stays.
    ///
    /// # Errors
    /// When the number is out of its range.
    pub fn burst(self, calls: usize) -> Result<Self, InvalidPolicy> {
        let name = self.refusal.refused.policy();
        ensure(
            name,
            "burst",
            &calls,
            calls <= CALLS_MAX,
            "0 to 1,000,000,000",
        )?;
        let settings = Settings {
            burst: Some(calls),
            ..self.settings
        };
        Self::build(self.refusal, settings)
    }

    /// The same limit anew, with this for a call that is one too many.
    ///
    /// # Errors
    /// When the wait is out of its range.
    pub fn when_full(self, when_full: WhenFull) -> Result<Self, InvalidPolicy> {
        if let WhenFull::WaitAtMost(wait) = when_full {
            ensure_duration(self.refusal.refused.policy(), "when_full", wait)?;
        }
        let settings = Settings {
            when_full,
            ..self.settings
        };
        Self::build(self.refusal, settings)
    }

    /// The same, and `observer` is told what it refuses.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Observe + 'static) -> Self {
        self.refusal.observer = Some(Arc::new(observer));
        self
    }

    /// About how many calls may begin now.
    pub fn calls_left(&self) -> usize {
        self.handle.available_permits()
    }

    fn build(refusal: Refusal, settings: Settings) -> Result<Self, InvalidPolicy> {
        let name = refusal.refused.policy();
        let builder = RateLimiterLayer::builder()
            .name(name)
            .limit_for_period(settings.calls)
            .refresh_period(settings.period)
            .window_type(WindowType::SlidingCounter);
        let builder = match settings.burst {
            Some(burst) => builder.burst_size(burst),
            None => builder,
        };
        let builder = match settings.when_full {
            WhenFull::Wait => builder.backpressure(),
            WhenFull::WaitAtMost(wait) => builder.timeout_duration(wait),
            WhenFull::Refuse => builder.timeout_duration(Duration::ZERO),
        };
        let built = builder.build_with_handle();
        ensure(
            name,
            "settings",
            &settings,
            built.is_ok(),
            "what the rate limit takes",
        )?;
        let (layer, handle) = built.expect("it was ensured");
        Ok(Self {
            settings,
            layer,
            handle,
            refusal,
        })
    }
}

const CALLS_MAX: usize = 1_000_000_000;

impl<S> Layer<S> for RateLimit {
    type Service = Guarded<resilience::RateLimiter<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded::new(self.layer.layer(inner), &self.refusal)
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RateLimit")
            .field("name", &self.refusal.refused.policy())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
