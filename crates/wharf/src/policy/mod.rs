//! Policies for calls that may fail, be slow or be too many: circuit breaker, bulkhead, rate limit
//! and timeout, each a `tower::Layer` for any `tower::Service`, whatever its request.
//!
//! They stand around a handler and around an outgoing HTTP or gRPC client alike. Their services
//! answer with tower's usual [`BoxError`]: what the service itself failed with, or [`Refused`], which
//! [`refused`] finds again.
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
//! use wharf::policy::{Breaker, BreakerSettings, Bulkhead, RateLimit, Timeout};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let breaker = Breaker::new("payments", BreakerSettings::default())?;
//! let client = ServiceBuilder::new()
//!     .layer(RateLimit::new("payments", 50, Duration::from_secs(1))?)
//!     .layer(Bulkhead::new("payments", 16)?)
//!     .layer(breaker.layer())
//!     .layer(Timeout::new("payments", Duration::from_secs(2))?) // inside, so that the breaker sees it
//!     .service(service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount + 1)));
//! assert_eq!(client.oneshot(1).await?, 2);
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # }).map_err(|error| error.to_string())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants: an invalid setting is refused at construction; time is tokio's clock; nothing here
//! grows with the number of calls. What must never happen: a call that was admitted and ended
//! without giving its place back.

pub mod breaker;
mod bulkhead;
mod guarded;
mod observe;
mod rate_limit;
mod route;
mod timeout;

pub use breaker::{
    Breaker, BreakerLayer, BreakerSettings, Breakers, Classify, Errors, Snapshot, State, Verdict,
    WhenOpen, Window,
};
pub use bulkhead::{Bulkhead, WhenFull};
pub use guarded::Guarded;
pub use observe::{Event, Observe};
pub use rate_limit::RateLimit;
pub use route::Outcomes;
pub(crate) use route::failed;
pub use timeout::Timeout;
pub use tower::BoxError;

use std::time::Duration;

use wharf_message::Code;

/// Why a policy did not let a call through, or did not let it end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The circuit breaker is open, or half-open with all its trial calls under way.
    #[error(
        "{code}: the circuit breaker {policy} is open{when}: calls fail until what is behind it answers again",
        code = self.code(),
        when = retry_after.map(|after| format!(" for another {after:?}")).unwrap_or_default()
    )]
    Open {
        /// The breaker's name.
        policy: String,
        /// When calls may be let in again at the earliest, if that is a matter of time.
        retry_after: Option<Duration>,
    },
    /// As many calls as the bulkhead allows are under way.
    #[error(
        "{code}: the bulkhead {policy} is full: {calls_max} calls are under way; raise its limit or call less",
        code = self.code()
    )]
    Full {
        /// The bulkhead's name.
        policy: String,
        /// How many calls may be under way.
        calls_max: usize,
    },
    /// More calls than the rate limit allows.
    #[error(
        "{code}: the rate limit {policy} of {calls} calls in {period:?} is used up; call less or raise it",
        code = self.code()
    )]
    TooMany {
        /// The rate limit's name.
        policy: String,
        /// How many calls a period has.
        calls: usize,
        /// How long a period is.
        period: Duration,
    },
    /// The call took too long and was given up.
    #[error(
        "{code}: the call took longer than {after:?} and was given up (timeout {policy})",
        code = self.code()
    )]
    TimedOut {
        /// The timeout's name.
        policy: String,
        /// How long it was given.
        after: Duration,
    },
}

impl Refused {
    /// The code of its page under `docs/errors`.
    pub fn code(&self) -> Code {
        match self {
            Self::Open { .. } => Code::BREAKER_OPEN,
            Self::Full { .. } => Code::BULKHEAD_FULL,
            Self::TooMany { .. } => Code::RATE_LIMITED,
            Self::TimedOut { .. } => Code::CALL_TIMED_OUT,
        }
    }

    /// The name of the policy.
    pub fn policy(&self) -> &str {
        match self {
            Self::Open { policy, .. }
            | Self::Full { policy, .. }
            | Self::TooMany { policy, .. }
            | Self::TimedOut { policy, .. } => policy,
        }
    }

    /// Whether the call never began, so that it cannot have had an effect.
    pub fn never_began(&self) -> bool {
        !matches!(self, Self::TimedOut { .. })
    }
}

/// The refusal in `error`, if a policy made it, also when other layers wrapped it.
///
/// ```
/// use wharf::policy::{BoxError, refused};
///
/// let error: BoxError = "the card is blocked".into();
/// assert!(refused(&*error).is_none());
/// ```
pub fn refused<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refused> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        next = error.source();
    }
    None
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: the policy {policy:?} cannot have {setting} = {value}: {rule}",
    Code::INVALID_POLICY
)]
pub struct InvalidPolicy {
    policy: String,
    setting: &'static str,
    value: String,
    rule: &'static str,
}

/// Refuses `setting` unless it is `valid`.
fn ensure(
    policy: &str,
    setting: &'static str,
    value: &dyn std::fmt::Debug,
    valid: bool,
    rule: &'static str,
) -> Result<(), InvalidPolicy> {
    if valid {
        return Ok(());
    }
    Err(InvalidPolicy {
        policy: policy.to_owned(),
        setting,
        value: format!("{value:?}"),
        rule,
    })
}

/// Refuses a name that cannot stand in metrics and logs.
fn ensure_name(name: &str) -> Result<(), InvalidPolicy> {
    let valid = !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control);
    ensure(
        name,
        "name",
        &name,
        valid,
        "1 to 200 bytes without control characters",
    )
}

/// The longest duration a setting may have: beyond it a clock could overflow.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Refuses a duration that is zero or longer than a year.
fn ensure_duration(
    policy: &str,
    setting: &'static str,
    value: Duration,
) -> Result<(), InvalidPolicy> {
    let valid = !value.is_zero() && value <= DURATION_MAX;
    ensure(
        policy,
        setting,
        &value,
        valid,
        "more than zero and at most 365 days",
    )
}
