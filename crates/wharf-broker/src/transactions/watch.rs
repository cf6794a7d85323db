//! One timer for all transactional ids: sees to transactions that live too long and ids that
//! nobody uses any more.
//!
//! There is one task at most, and none while there is no id. It looks at all ids at once and at
//! least every [`LOOK_EVERY`] while a transaction is open, so what begins and ends between two
//! looks costs nothing. Time is the steady one: setting the machine's clock changes no deadline.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{self, FutureExt};
use wharf_message::Timestamp;

use super::shell::Inner;
use crate::sync::lock;

/// The longest time between two looks while a transaction is open
/// (`transaction.abort.timed.out.transaction.cleanup.interval.ms`).
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The longest time between two looks while none is open.
pub(super) const LOOK_EVERY_IDLE: Duration = Duration::from_secs(10 * 60);
/// The next look at an id whose change is under way or was refused.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The shortest time between two looks.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);

/// When the next look is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// There is a task.
    is_running: bool,
    /// A look was asked for within this while the task was looking.
    asked: Option<Duration>,
    /// The task sleeps until then, unless woken.
    asleep: Option<(Timestamp, oneshot::Sender<()>)>,
}

impl Inner {
    /// Sees to it that the next look is within `wait` from `now`.
    pub(super) fn watch(self: &Arc<Self>, wait: Duration, now: Timestamp) {
        let mut state = lock(&self.watch.state);
        match state.asleep.take() {
            Some((until, sleeper)) if until <= now.after(wait) => {
                state.asleep = Some((until, sleeper));
            }
            Some((_, sleeper)) => {
                // The task is gone only if the runtime stopped: then nothing is seen to any more.
                sleeper.send(()).ok();
            }
            None => state.asked = Some(state.asked.map_or(wait, |asked| asked.min(wait))),
        }
        if !state.is_running {
            state.is_running = true;
            drop(state);
            self.runtime.spawn(watch(Arc::downgrade(self)).boxed());
        }
    }

    /// One look; until when to sleep and how to be woken, or `None` when there is nothing to watch.
    fn take_turn(self: &Arc<Self>) -> Option<(Timestamp, oneshot::Receiver<()>)> {
        let now = self.runtime.steady();
        lock(&self.watch.state).asked = None;
        let found = self.look(now);
        let mut state = lock(&self.watch.state);
        let Some(wait) = [found, state.asked].into_iter().flatten().min() else {
            state.is_running = false;
            return None;
        };
        let until = now.after(wait.max(LOOK_EVERY_MIN));
        let (sleeper, woken) = oneshot::channel();
        state.asleep = Some((until, sleeper));
        Some((until, woken))
    }
}

async fn watch(transactions: Weak<Inner>) {
    while let Some(inner) = transactions.upgrade() {
        let Some((until, woken)) = inner.take_turn() else {
            return;
        };
        let sleep = inner.runtime.sleep_until(until);
        drop(inner); // so that the task does not keep a broker alive that nobody uses any more
        future::select(sleep, woken).await;
    }
}
