//! The circuit breaker: calls that keep failing are stopped for a while, so that what is behind them
//! can recover and no attempt is burnt on what cannot succeed.
//!
//! It is Wharf's own: that of tower-resilience 0.13 counts all calls since its last change of state
//! instead of the last ones, reads the machine's clock, has no growing wait and none of the states
//! that an operator sets (`docs/adr/0003-circuit-breaker.md`).
//!
//! A [`Breaker`] is a handle; clones are the same breaker. [`Breaker::layer`] puts it around a
//! service, any number of times. A consumer asks [`Breaker::wait_until_calls_are_permitted`] before
//! it takes more messages: an open breaker pauses it.

mod layer;
mod machine;
mod registry;
mod settings;
#[cfg(test)]
mod tests;
mod window;

pub use layer::{BreakerFuture, BreakerLayer, BreakerService, Classify, Errors, Verdict, WhenOpen};
pub use registry::Breakers;
pub use settings::{BreakerSettings, Window};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Event, InvalidPolicy, Observe, Refused};
use machine::{Admission, Change, Closed, Machine};

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Calls go through and are counted.
    Closed,
    /// Too many failed: no call goes through until the wait is over.
    Open,
    /// Some trial calls go through, and decide.
    HalfOpen,
    /// No call goes through until an operator says otherwise.
    ForcedOpen,
    /// Every call goes through and none is counted.
    Disabled,
    /// Every call goes through and is counted, and nothing follows from it.
    MetricsOnly,
}

impl State {
    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced-open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics-only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How a breaker stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The breaker's name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// For how long it has been in that state.
    pub since: Duration,
    /// How many calls count for it now: those of the window, or the trial calls that ended.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were slow.
    pub slow: u64,
    /// When calls may be let in again at the earliest, if it lets none in and that is a matter of
    /// time.
    pub retry_after: Option<Duration>,
}

/// A circuit breaker; cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Breaker(Arc<Inner>);

struct Inner {
    name: String,
    machine: Mutex<Machine>,
    /// Told whenever calls may be let in that were not before.
    changed: Notify,
    observer: Mutex<Option<Arc<dyn Observe>>>,
}

impl Breaker {
    /// A closed breaker of this name.
    ///
    /// # Errors
    /// When a setting is out of its range, or the name is empty, longer than 200 bytes or has control
    /// characters.
    pub fn new(name: &str, settings: BreakerSettings) -> Result<Self, InvalidPolicy> {
        settings.validate(name)?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            machine: Mutex::new(Machine::new(settings, Instant::now())),
            changed: Notify::new(),
            observer: Mutex::new(None),
        })))
    }

    /// The same, and `observer` is told what happens, in place of an earlier one.
    #[must_use]
    pub fn observed_by(self, observer: impl Observe + 'static) -> Self {
        *lock(&self.0.observer) = Some(Arc::new(observer));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its settings.
    pub fn settings(&self) -> BreakerSettings {
        *lock(&self.0.machine).settings()
    }

    /// Its state. An open breaker whose wait is over stays open until the first call comes.
    ///
    /// ```
    /// use wharf::policy::{Breaker, BreakerSettings, State};
    ///
    /// let breaker = Breaker::new("payments", BreakerSettings::default())?;
    /// assert_eq!(breaker.state(), State::Closed);
    /// breaker.force_open();
    /// assert_eq!(breaker.state(), State::ForcedOpen);
    /// breaker.close();
    /// assert_eq!(breaker.state(), State::Closed);
    /// # Ok::<(), wharf::policy::InvalidPolicy>(())
    /// ```
    pub fn state(&self) -> State {
        lock(&self.0.machine).state()
    }

    /// How it stands now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut machine = lock(&self.0.machine);
        let (tally, since) = machine.standing(now);
        let retry_after = match machine.permitted(now) {
            Err(Closed(Some(until))) => Some(until.saturating_duration_since(now)),
            _ => None,
        };
        Snapshot {
            name: self.0.name.clone(),
            state: machine.state(),
            since: now.saturating_duration_since(since),
            calls: tally.calls,
            failed: tally.failed,
            slow: tally.slow,
            retry_after,
        }
    }

    /// How many calls would be let in now: 0 while it is open, `u32::MAX` while it is closed, the free
    /// trial calls in between. A consumer takes no more messages than that.
    pub fn calls_permitted(&self) -> u32 {
        let now = Instant::now();
        self.act(|machine| (machine.permitted(now).unwrap_or(0), machine.pass(now)))
    }

    /// Waits until a call would be let in. It reserves nothing: whoever calls first is let in. Dropping
    /// the future changes nothing.
    ///
    /// ```
    /// use wharf::policy::{Breaker, BreakerSettings};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let breaker = Breaker::new("payments", BreakerSettings::default())?;
    /// breaker.force_open();
    /// let consumer = tokio::spawn({
    ///     let breaker = breaker.clone();
    ///     async move { breaker.wait_until_calls_are_permitted().await }
    /// });
    /// breaker.close();
    /// consumer.await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_until_calls_are_permitted(&self) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let now = Instant::now();
            match self.act(|machine| {
                let change = machine.pass(now);
                (machine.permitted(now), change)
            }) {
                Ok(_) => return,
                Err(Closed(Some(until))) => {
                    // Whichever comes first: both lead to asking again.
                    let _elapsed = tokio::time::timeout_at(until, changed).await;
                }
                Err(Closed(None)) => changed.await,
            }
        }
    }

    /// Lets no call through until [`Breaker::close`].
    pub fn force_open(&self) {
        self.act(|machine| ((), machine.force_open(Instant::now())));
    }

    /// Closes it, whatever state it is in, and forgets what was counted.
    pub fn close(&self) {
        self.act(|machine| ((), machine.close(Instant::now())));
    }

    /// Lets every call through and counts none, until [`Breaker::close`].
    pub fn disable(&self) {
        self.act(|machine| ((), machine.disable(Instant::now())));
    }

    /// Lets every call through and counts them without consequence, until [`Breaker::close`]: to see
    /// what a breaker would do before it may.
    pub fn metrics_only(&self) {
        self.act(|machine| ((), machine.metrics_only(Instant::now())));
    }

    /// A layer that counts errors as failures and refuses calls while it is open.
    pub fn layer(&self) -> BreakerLayer<Errors> {
        BreakerLayer::new(self.clone(), Errors)
    }

    /// Lets a call in.
    fn admit(&self) -> Result<Permit, Refused> {
        let now = Instant::now();
        match self.act(|machine| machine.admit(now)) {
            Ok(admission) => Ok(Permit {
                breaker: self.clone(),
                admission,
                begun: false,
                settled: false,
            }),
            Err(_) => Err(self.refusal()),
        }
    }

    /// What a call is told that is not let in.
    fn refusal(&self) -> Refused {
        let refused = Refused::Open {
            policy: self.0.name.clone(),
            retry_after: self.snapshot().retry_after,
        };
        self.tell(&Event::Refused(&refused));
        refused
    }

    /// Runs `action` on the machine, and tells what it changed when the lock is free again.
    fn act<T>(&self, action: impl FnOnce(&mut Machine) -> (T, Change)) -> T {
        let mut machine = lock(&self.0.machine);
        let (answer, change) = action(&mut machine);
        let standing = change.map(|_| machine.permitted(Instant::now()));
        drop(machine);
        if let Some((from, to)) = change {
            self.log(from, to, standing);
            self.tell(&Event::State { from, to });
            self.0.changed.notify_waiters();
        }
        answer
    }

    fn tell(&self, event: &Event<'_>) {
        let observer = lock(&self.0.observer).clone();
        if let Some(observer) = observer {
            observer.observe(&self.0.name, event);
        }
    }

    fn log(&self, from: State, to: State, standing: Option<Result<u32, Closed>>) {
        let (breaker, from) = (self.name(), from.name());
        match to {
            State::Open => {
                let retry_after = match standing {
                    Some(Err(Closed(Some(until)))) => {
                        until.saturating_duration_since(Instant::now())
                    }
                    _ => Duration::ZERO,
                };
                tracing::warn!(
                    breaker,
                    from,
                    ?retry_after,
                    "{}: the circuit breaker opened, too many calls failed or were slow; look at what \
                     they call. Consumers behind it pause, and trial calls begin after the wait",
                    wharf_message::Code::BREAKER_OPEN
                );
            }
            State::HalfOpen => {
                tracing::info!(
                    breaker,
                    from,
                    "the circuit breaker lets trial calls through"
                );
            }
            State::Closed => {
                tracing::info!(
                    breaker,
                    from,
                    "the circuit breaker closed; calls go through"
                );
            }
            State::ForcedOpen => tracing::warn!(
                breaker,
                from,
                "the circuit breaker was opened by hand; no call goes through until it is closed by hand"
            ),
            State::Disabled | State::MetricsOnly => tracing::warn!(
                breaker,
                from,
                to = to.name(),
                "the circuit breaker was switched off by hand; it protects nothing until it is closed by hand"
            ),
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Breaker")
            .field("name", &self.0.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// A call that was let in. Dropped before it began, it gives its place back.
#[derive(Debug)]
struct Permit {
    breaker: Breaker,
    admission: Admission,
    begun: bool,
    settled: bool,
}

impl Permit {
    /// Whether it is still good; the state may have changed since it was given.
    fn is_current(&self) -> bool {
        lock(&self.breaker.0.machine).is_current(&self.admission)
    }

    fn begin(mut self) -> Self {
        self.begun = true;
        self.admission.since = Instant::now();
        self
    }

    fn settle(mut self, verdict: Verdict) {
        self.count(verdict);
    }

    fn count(&mut self, verdict: Verdict) {
        self.settled = true;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.admission.since);
        self.breaker
            .act(|machine| ((), machine.record(now, &self.admission, verdict, elapsed)));
        if verdict == Verdict::Ignore {
            // Its place is free for another trial call.
            self.breaker.0.changed.notify_waiters();
        }
        if self.begun {
            let slow = elapsed >= self.breaker.settings().slow_call;
            self.breaker.tell(&Event::Finished {
                verdict,
                elapsed,
                slow,
            });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let elapsed = self.admission.since.elapsed();
        let slow = elapsed >= self.breaker.settings().slow_call;
        // Given up: it tells nothing, unless it took long enough to be slow, or panicked.
        let failed = self.begun && (slow || std::thread::panicking());
        self.count(if failed {
            Verdict::Failure
        } else {
            Verdict::Ignore
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
