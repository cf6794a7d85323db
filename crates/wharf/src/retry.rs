//! When a failed message is tried again. Pure: time and chance are arguments.

use std::time::Duration;

/// Growing delays: `first`, times `factor` each time, at most `max`, at most `times` times.
///
/// ```
/// use std::time::Duration;
/// use wharf::{Backoff, Retry};
///
/// let seconds = Duration::from_secs;
/// let backoff = Backoff { first: seconds(1), factor: 3.0, max: seconds(5), times: 3 };
/// let limits: Vec<_> = (0..4).map(|nth| backoff.limit(nth)).collect();
/// assert_eq!(limits, [Some(seconds(1)), Some(seconds(3)), Some(seconds(5)), None]);
/// assert_eq!(Retry::never().delays(backoff).attempts_max(), 4);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// What each further delay is multiplied by, at least 1.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// How many delays there are.
    pub times: u32,
}

impl Backoff {
    /// The longest that the `nth` delay may be, from 0; `None` when there are no more.
    pub fn limit(&self, nth: u32) -> Option<Duration> {
        if nth >= self.times {
            return None;
        }
        let exponent = i32::try_from(nth).unwrap_or(i32::MAX);
        let seconds = self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        Some(
            Duration::try_from_secs_f64(seconds)
                .unwrap_or(self.max)
                .min(self.max),
        )
    }
}

/// How a route tries again.
///
/// First some attempts at once, which is right for what passes within milliseconds; then attempts
/// after growing delays with full jitter (each delay is drawn between half of its limit and its
/// limit, so that many failures at once do not come back at once); then the dead letter.
///
/// ```
/// use std::time::Duration;
/// use wharf::Retry;
///
/// let retry = Retry::default().immediate(1).delayed(Duration::from_millis(500), 5);
/// assert_eq!(retry.attempts_max(), 7);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub(crate) immediate: u32,
    pub(crate) delayed: Backoff,
    pub(crate) meanwhile: Meanwhile,
}

/// What happens to later messages of the same key while one waits for its next attempt. Messages of
/// other keys go on in any case.
///
/// ```
/// use std::time::Duration;
/// use wharf::{Meanwhile, Raw, Retry, Route, group};
///
/// let retry = Retry::default().delayed(Duration::from_secs(60), 10).meanwhile(Meanwhile::LetPass);
/// let route: Route = group("mails").on(async |_: Raw| ()).retry(retry);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meanwhile {
    /// They wait: the order by key is kept. The message stays with this process, so its attempts
    /// are counted anew after a restart unless the transport counts deliveries.
    #[default]
    KeepOrder,
    /// They pass: the message waits at the broker, its attempts travel with it, and any member of
    /// the group may take it up again. Needs the transport's `delayed-retry`.
    LetPass,
}

impl Default for Retry {
    /// Twice at once, then eight times after 200 ms to 30 s; the order by key is kept.
    fn default() -> Self {
        Self {
            immediate: 2,
            delayed: Backoff {
                first: Duration::from_millis(200),
                factor: 2.0,
                max: Duration::from_secs(30),
                times: 8,
            },
            meanwhile: Meanwhile::KeepOrder,
        }
    }
}

impl Retry {
    /// One attempt only.
    pub fn never() -> Self {
        Self::default().immediate(0).delays(Backoff {
            first: Duration::ZERO,
            factor: 1.0,
            max: Duration::ZERO,
            times: 0,
        })
    }

    /// So many further attempts at once.
    #[must_use]
    pub fn immediate(self, times: u32) -> Self {
        Self {
            immediate: times,
            ..self
        }
    }

    /// Then so many, after a delay that begins with `first` and doubles up to 30 s (or `first`).
    #[must_use]
    pub fn delayed(self, first: Duration, times: u32) -> Self {
        let max = first.max(Duration::from_secs(30));
        self.delays(Backoff {
            first,
            factor: 2.0,
            max,
            times,
        })
    }

    /// The same with these delays.
    #[must_use]
    pub fn delays(self, delayed: Backoff) -> Self {
        Self { delayed, ..self }
    }

    /// What later messages of the same key do meanwhile.
    #[must_use]
    pub fn meanwhile(self, meanwhile: Meanwhile) -> Self {
        Self { meanwhile, ..self }
    }

    /// The most attempts there are, the first one included.
    pub fn attempts_max(&self) -> u32 {
        self.immediate
            .saturating_add(self.delayed.times)
            .saturating_add(1)
    }

    /// What follows the failure of the attempt with this number (from 1). `chance` is drawn evenly
    /// from 0 to 1. `backoff` replaces the route's delays.
    pub(crate) fn after(&self, attempt: u32, backoff: Option<&Backoff>, chance: f64) -> Next {
        let Some(nth) = attempt.checked_sub(self.immediate + 1) else {
            return Next::Now;
        };
        let limit = backoff.unwrap_or(&self.delayed).limit(nth);
        limit.map_or(Next::GiveUp, |limit| {
            Next::Wait(limit.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0))
        })
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Now,
    Wait(Duration),
    GiveUp,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn immediate_attempts_come_first_then_growing_delays_then_the_end() {
        let retry = Retry::default().immediate(1).delays(Backoff {
            first: Duration::from_secs(1),
            factor: 3.0,
            max: Duration::from_secs(5),
            times: 3,
        });
        let steps: Vec<Next> = (1..=6)
            .map(|attempt| retry.after(attempt, None, 1.0))
            .collect();
        let wait = |seconds| Next::Wait(Duration::from_secs(seconds));
        assert_eq!(
            steps,
            [
                Next::Now,
                wait(1),
                wait(3),
                wait(5),
                Next::GiveUp,
                Next::GiveUp
            ]
        );
        assert_eq!(retry.attempts_max(), 5);
        assert_eq!(Retry::never().after(1, None, 0.5), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_of_its_limit_and_its_limit(
            attempt in 0_u32..100, chance in 0.0_f64..=1.0, times in 0_u32..100,
        ) {
            let retry = Retry::default().delayed(Duration::from_millis(200), times);
            match retry.after(attempt, None, chance) {
                Next::Now => prop_assert!(attempt <= 2),
                Next::GiveUp => prop_assert!(attempt >= 3 + times),
                Next::Wait(delay) => {
                    let limit = retry.delayed.limit(attempt - 3).unwrap_or_default();
                    prop_assert!(delay <= limit && delay >= limit / 2);
                }
            }
        }
    }
}
