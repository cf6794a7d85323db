//! The settings of a circuit breaker, with their defaults and ranges.

use std::time::Duration;

use crate::policy::{InvalidPolicy, ensure, ensure_duration, ensure_name};

/// Which calls the rates are taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls: 1 to 100,000.
    Calls(u32),
    /// The calls that ended within the last duration, to a tenth of it: more than zero, at most
    /// 365 days.
    Time(Duration),
}

/// The settings of a circuit breaker. The defaults are those of resilience4j, and besides the wait
/// doubles as long as the trial calls fail.
///
/// ```
/// use std::time::Duration;
/// use wharf::policy::{Breaker, BreakerSettings, Window};
///
/// let settings = BreakerSettings {
///     window: Window::Time(Duration::from_secs(30)),
///     failure_percent: 25,
///     ..BreakerSettings::default()
/// };
/// let breaker = Breaker::new("payments", settings)?;
///
/// let wrong = BreakerSettings { failure_percent: 0, ..BreakerSettings::default() };
/// assert!(Breaker::new("payments", wrong).is_err());
/// # Ok::<(), wharf::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Which calls the rates are taken of: the last 100.
    pub window: Window,
    /// How many calls must have ended before the rates count: 100; 1 to 1,000,000. Of a window of
    /// fewer calls, a full window is enough.
    pub calls_min: u32,
    /// The share of failed calls at which the breaker opens, in percent: 50; 1 to 100.
    pub failure_percent: u8,
    /// From when on a call is slow: 60 s; more than zero, at most 365 days.
    pub slow_call: Duration,
    /// The share of slow calls at which the breaker opens, in percent: 100; 1 to 100.
    pub slow_percent: u8,
    /// How long it stays open the first time: 60 s; more than zero, at most 365 days.
    pub open_wait: Duration,
    /// To what that grows each time the trial calls fail, in percent of the time before: 200; 100
    /// (not at all) to 1,000.
    pub open_wait_growth_percent: u16,
    /// How long it stays open at most: 10 min; at least `open_wait`, at most 365 days.
    pub open_wait_max: Duration,
    /// How many trial calls it lets in when it is half-open: 10; 1 to 100,000.
    pub half_open_calls: u32,
    /// When all trial calls are under way and none ended for so long, they count as failed:
    /// 60 s; more than zero, at most 365 days.
    pub half_open_wait: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window: Window::Calls(100),
            calls_min: 100,
            failure_percent: 50,
            slow_call: Duration::from_secs(60),
            slow_percent: 100,
            open_wait: Duration::from_secs(60),
            open_wait_growth_percent: 200,
            open_wait_max: Duration::from_secs(600),
            half_open_calls: 10,
            half_open_wait: Duration::from_secs(60),
        }
    }
}

impl BreakerSettings {
    pub(super) fn validate(&self, name: &str) -> Result<(), InvalidPolicy> {
        ensure_name(name)?;
        match self.window {
            Window::Calls(calls) => {
                let valid = (1..=100_000).contains(&calls);
                ensure(name, "window", &self.window, valid, "1 to 100,000 calls")?;
            }
            Window::Time(duration) => ensure_duration(name, "window", duration)?,
        }
        for (setting, value, range, rule) in [
            ("calls_min", self.calls_min, 1..=1_000_000, "1 to 1,000,000"),
            (
                "failure_percent",
                self.failure_percent.into(),
                1..=100,
                "1 to 100",
            ),
            (
                "slow_percent",
                self.slow_percent.into(),
                1..=100,
                "1 to 100",
            ),
            (
                "open_wait_growth_percent",
                self.open_wait_growth_percent.into(),
                100..=1_000,
                "100 to 1,000",
            ),
            (
                "half_open_calls",
                self.half_open_calls,
                1..=100_000,
                "1 to 100,000",
            ),
        ] {
            ensure(name, setting, &value, range.contains(&value), rule)?;
        }
        ensure_duration(name, "slow_call", self.slow_call)?;
        ensure_duration(name, "open_wait", self.open_wait)?;
        ensure_duration(name, "open_wait_max", self.open_wait_max)?;
        ensure_duration(name, "half_open_wait", self.half_open_wait)?;
        let valid = self.open_wait_max >= self.open_wait;
        ensure(
            name,
            "open_wait_max",
            &self.open_wait_max,
            valid,
            "at least open_wait",
        )
    }

    /// How long it stays open after `failed` failed half-open times in a row.
    pub(super) fn open_wait_after(&self, failed: u32) -> Duration {
        let mut wait = self.open_wait;
        for _ in 0..failed {
            if wait >= self.open_wait_max || self.open_wait_growth_percent == 100 {
                break;
            }
            wait = wait * u32::from(self.open_wait_growth_percent) / 100;
        }
        wait.min(self.open_wait_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_up_to_its_limit() {
        let settings = BreakerSettings {
            open_wait: Duration::from_secs(10),
            open_wait_growth_percent: 150,
            open_wait_max: Duration::from_secs(20),
            ..BreakerSettings::default()
        };
        let waits = [0, 1, 2, u32::MAX].map(|failed| settings.open_wait_after(failed).as_millis());
        assert_eq!(waits, [10_000, 15_000, 20_000, 20_000]);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn a_setting_out_of_its_range_is_refused_by_name() {
        let good = BreakerSettings::default();
        let zero = Duration::ZERO;
        let cases = [
            (
                "window",
                BreakerSettings {
                    window: Window::Calls(0),
                    ..good
                },
            ),
            (
                "window",
                BreakerSettings {
                    window: Window::Time(zero),
                    ..good
                },
            ),
            (
                "window",
                BreakerSettings {
                    window: Window::Time(Duration::MAX),
                    ..good
                },
            ),
            (
                "calls_min",
                BreakerSettings {
                    calls_min: 0,
                    ..good
                },
            ),
            (
                "failure_percent",
                BreakerSettings {
                    failure_percent: 101,
                    ..good
                },
            ),
            (
                "slow_percent",
                BreakerSettings {
                    slow_percent: 0,
                    ..good
                },
            ),
            (
                "slow_call",
                BreakerSettings {
                    slow_call: zero,
                    ..good
                },
            ),
            (
                "open_wait",
                BreakerSettings {
                    open_wait: Duration::MAX,
                    ..good
                },
            ),
            (
                "open_wait_growth_percent",
                BreakerSettings {
                    open_wait_growth_percent: 99,
                    ..good
                },
            ),
            (
                "open_wait_max",
                BreakerSettings {
                    open_wait_max: Duration::from_secs(1),
                    ..good
                },
            ),
            (
                "half_open_calls",
                BreakerSettings {
                    half_open_calls: 0,
                    ..good
                },
            ),
            (
                "half_open_wait",
                BreakerSettings {
                    half_open_wait: zero,
                    ..good
                },
            ),
        ];
        assert_eq!(good.validate("good"), Ok(()));
        for (setting, settings) in cases {
            let error = settings.validate("bad").expect_err(setting).to_string();
            assert!(error.contains(setting), "{error}");
        }
        assert!(good.validate("").is_err());
    }
}
