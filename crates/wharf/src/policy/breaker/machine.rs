//! The states of a circuit breaker: a machine without a clock, locks or waiting.
//!
//! Every change of state begins a new *era*. A call remembers the era it was let in, and what ends
//! in another era counts for nothing, so that a slow call from before an outage cannot end the
//! outage, and a trial call that comes back late cannot free a place it no longer holds.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Calls, Tally};
use super::{BreakerSettings, State, Verdict};

/// A call that was let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    era: u64,
    pub(super) since: Instant,
}

/// Why a call is not let in: until when, if that is a matter of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed(pub(super) Option<Instant>);

#[derive(Debug)]
enum Phase {
    Closed(Calls),
    Open {
        until: Instant,
    },
    HalfOpen {
        free: u32,
        ended: Tally,
        last_admitted: Instant,
    },
    ForcedOpen,
    Disabled,
    MetricsOnly(Calls),
}

#[derive(Debug)]
pub(super) struct Machine {
    settings: BreakerSettings,
    phase: Phase,
    era: u64,
    since: Instant,
    /// How often in a row it was open without having been closed in between.
    opened: u32,
}

/// From one state to another.
pub(super) type Change = Option<(State, State)>;

impl Machine {
    pub(super) fn new(settings: BreakerSettings, now: Instant) -> Self {
        Self {
            phase: Phase::Closed(Calls::new(settings.window, now)),
            settings,
            era: 0,
            since: now,
            opened: 0,
        }
    }

    pub(super) fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::MetricsOnly(_) => State::MetricsOnly,
        }
    }

    /// The calls its state is judged by, and since when it is in this state.
    pub(super) fn standing(&mut self, now: Instant) -> (Tally, Instant) {
        let tally = match &mut self.phase {
            Phase::Closed(calls) | Phase::MetricsOnly(calls) => calls.tally(now),
            Phase::HalfOpen { ended, .. } => *ended,
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => Tally::default(),
        };
        (tally, self.since)
    }

    /// How many calls would be let in now, and otherwise when to ask again.
    pub(super) fn permitted(&self, now: Instant) -> Result<u32, Closed> {
        match self.phase {
            Phase::Closed(_) | Phase::Disabled | Phase::MetricsOnly(_) => Ok(u32::MAX),
            Phase::Open { until } if now < until => Err(Closed(Some(until))),
            Phase::Open { .. } => Ok(self.settings.half_open_calls),
            Phase::HalfOpen { free, .. } if free > 0 => Ok(free),
            // Once they count as failed it is open again; asking then makes it so.
            Phase::HalfOpen { last_admitted, .. } => {
                Err(Closed(Some(last_admitted + self.settings.half_open_wait)))
            }
            Phase::ForcedOpen => Err(Closed(None)),
        }
    }

    /// What passing time alone changes: trial calls that never end count as failed.
    pub(super) fn pass(&mut self, now: Instant) -> Change {
        match self.phase {
            Phase::HalfOpen {
                free: 0,
                last_admitted,
                ..
            } if now >= last_admitted + self.settings.half_open_wait => self.open(now),
            _ => None,
        }
    }

    /// Lets a call in, or says why not.
    pub(super) fn admit(&mut self, now: Instant) -> (Result<Admission, Closed>, Change) {
        let mut change = self.pass(now);
        if let Err(closed) = self.permitted(now) {
            return (Err(closed), change);
        }
        if matches!(self.phase, Phase::Open { .. }) {
            change = self.enter(
                now,
                Phase::HalfOpen {
                    free: self.settings.half_open_calls,
                    ended: Tally::default(),
                    last_admitted: now,
                },
            );
        }
        if let Phase::HalfOpen {
            free,
            last_admitted,
            ..
        } = &mut self.phase
        {
            *free -= 1;
            *last_admitted = now;
        }
        let admission = Admission {
            era: self.era,
            since: now,
        };
        (Ok(admission), change)
    }

    /// Whether a call that was let in earlier may still begin.
    pub(super) fn is_current(&self, admission: &Admission) -> bool {
        admission.era == self.era
    }

    /// Takes back what was let in and does not count.
    pub(super) fn give_back(&mut self, admission: &Admission) {
        if let Phase::HalfOpen { free, .. } = &mut self.phase
            && admission.era == self.era
        {
            *free += 1;
        }
    }

    /// Counts a call that ended.
    pub(super) fn record(
        &mut self,
        now: Instant,
        admission: &Admission,
        verdict: Verdict,
        elapsed: Duration,
    ) -> Change {
        if verdict == Verdict::Ignore {
            self.give_back(admission);
            return None;
        }
        if !self.is_current(admission) {
            return None;
        }
        let (failed, slow) = (
            verdict == Verdict::Failure,
            elapsed >= self.settings.slow_call,
        );
        match &mut self.phase {
            Phase::MetricsOnly(calls) => calls.record(now, failed, slow),
            Phase::Closed(calls) => {
                calls.record(now, failed, slow);
                let tally = calls.tally(now);
                if tally.calls >= self.settings.calls_needed()
                    && self.settings.fails(tally, tally.calls)
                {
                    return self.open(now);
                }
            }
            Phase::HalfOpen { ended, .. } => {
                ended.add(Tally::of(failed, slow));
                let (ended, calls) = (*ended, u64::from(self.settings.half_open_calls));
                if self.settings.fails(ended, calls) {
                    return self.open(now);
                }
                if ended.calls >= calls {
                    return self.close(now);
                }
            }
            Phase::Open { .. } | Phase::ForcedOpen | Phase::Disabled => {}
        }
        None
    }

    pub(super) fn close(&mut self, now: Instant) -> Change {
        self.opened = 0;
        self.enter(now, Phase::Closed(Calls::new(self.settings.window, now)))
    }

    pub(super) fn force_open(&mut self, now: Instant) -> Change {
        self.enter(now, Phase::ForcedOpen)
    }

    pub(super) fn disable(&mut self, now: Instant) -> Change {
        self.enter(now, Phase::Disabled)
    }

    pub(super) fn metrics_only(&mut self, now: Instant) -> Change {
        self.enter(
            now,
            Phase::MetricsOnly(Calls::new(self.settings.window, now)),
        )
    }

    fn open(&mut self, now: Instant) -> Change {
        let until = now + self.settings.open_wait_after(self.opened);
        self.opened = self.opened.saturating_add(1);
        self.enter(now, Phase::Open { until })
    }

    fn enter(&mut self, now: Instant, phase: Phase) -> Change {
        let from = self.state();
        self.phase = phase;
        self.era += 1;
        self.since = now;
        Some((from, self.state()))
    }
}

impl BreakerSettings {
    fn calls_needed(&self) -> u64 {
        match self.window {
            super::Window::Calls(calls) => calls.min(self.calls_min).into(),
            super::Window::Time(_) => self.calls_min.into(),
        }
    }

    fn fails(&self, tally: Tally, of: u64) -> bool {
        Tally::reaches(tally.failed, self.failure_percent, of)
            || Tally::reaches(tally.slow, self.slow_percent, of)
    }
}
