//! Counts the messages under way: one thread hands over, others report what became of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long the sending thread sleeps before it looks by itself; it is woken before.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// See the module. Owned by the sending thread.
pub(crate) struct Window {
    max: u64,
    entered: u64,
    shared: Arc<Shared>,
}

struct Shared {
    left: AtomicU64,
    refused: AtomicU64,
    /// Why the first one was refused.
    reason: Mutex<Option<String>>,
    sender: Mutex<Option<Thread>>,
    is_waiting: AtomicBool,
}

/// The reporting side.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

impl Window {
    /// A window of at most `max` messages under way.
    pub(crate) fn new(max: u64) -> Self {
        Self {
            max,
            entered: 0,
            shared: Arc::new(Shared {
                left: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                reason: Mutex::default(),
                sender: Mutex::default(),
                is_waiting: AtomicBool::new(false),
            }),
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate(Arc::clone(&self.shared))
    }

    /// Takes a place for a message, waiting for one if need be.
    pub(crate) fn enter(&mut self, within: Duration) -> Result<()> {
        self.wait_until_under(self.max, within)?;
        self.entered += 1;
        Ok(())
    }

    /// Gives the place back that was taken last: the message was not handed over after all.
    pub(crate) fn leave_again(&mut self) {
        self.entered -= 1;
    }

    /// Waits until all have left. An error when one was refused.
    pub(crate) fn drain(&self, within: Duration) -> Result<()> {
        self.wait_until_under(1, within)?;
        self.check()
    }

    fn check(&self) -> Result<()> {
        let refused = self.shared.refused.load(Ordering::Acquire);
        if refused > 0 {
            let reason = lock(&self.shared.reason).clone().unwrap_or_default();
            bail!("{refused} messages were refused: {reason}");
        }
        Ok(())
    }

    /// How many have not left yet.
    fn under_way(&self) -> u64 {
        self.entered - self.shared.left.load(Ordering::SeqCst)
    }

    fn wait_until_under(&self, max: u64, within: Duration) -> Result<()> {
        if self.under_way() < max {
            return Ok(());
        }
        *lock(&self.shared.sender) = Some(thread::current());
        let deadline = Instant::now() + within;
        loop {
            self.shared.is_waiting.store(true, Ordering::SeqCst);
            if self.under_way() < max {
                break;
            }
            thread::park_timeout(LOOK_AGAIN);
            if Instant::now() > deadline {
                self.check()?;
                bail!(
                    "{} messages were not acknowledged within {within:?}",
                    self.under_way()
                );
            }
        }
        self.shared.is_waiting.store(false, Ordering::SeqCst);
        Ok(())
    }
}

impl Gate {
    /// A message was acknowledged, or refused for this reason.
    pub(crate) fn leave(&self, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            lock(&self.0.reason).get_or_insert(reason);
            self.0.refused.fetch_add(1, Ordering::Release);
        }
        self.0.left.fetch_add(1, Ordering::SeqCst);
        if self.0.is_waiting.swap(false, Ordering::SeqCst)
            && let Some(sender) = lock(&self.0.sender).as_ref()
        {
            sender.unpark();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn a_full_window_lets_the_next_one_in_when_one_has_left() {
        let mut window = Window::new(1);
        let gate = window.gate();
        window.enter(SOON).expect("there is room");
        assert!(window.enter(SOON).is_err());
        thread::scope(|scope| {
            scope.spawn(|| gate.leave(Ok(())));
            window.enter(WITHIN).expect("there is room again");
        });
    }

    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn a_refused_message_fails_the_drain() {
        let mut window = Window::new(5);
        window.enter(SOON).expect("there is room");
        window.gate().leave(Err("too large".to_owned()));
        let error = window.drain(SOON).expect_err("one was refused");
        assert!(error.to_string().contains("too large"), "{error}");
    }
}
