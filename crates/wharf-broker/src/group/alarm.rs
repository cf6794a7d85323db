//! One timer for all groups: wakes each group when its time comes.
//!
//! There is one task at most, and none while no group waits for anything. An alarm that rings for
//! a group that has nothing to do does no harm, so alarms are only moved when they must ring
//! earlier. Locked after a group, never before one.

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_channel::oneshot;
use wharf_message::Timestamp;

use crate::sync::lock;

/// The alarms of all groups, each known by its group's name.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    alarms: BTreeSet<(Timestamp, String)>,
    /// There is a task.
    is_running: bool,
    /// The task sleeps until then, unless woken.
    asleep: Option<(Timestamp, oneshot::Sender<()>)>,
}

impl Alarms {
    /// Moves a group's alarm. True when the caller must start the task.
    #[must_use]
    pub(super) fn set(
        &self,
        group: &str,
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    ) -> bool {
        let mut state = lock(&self.state);
        if let Some(before) = before {
            state.alarms.remove(&(before, group.to_owned()));
        }
        if let Some(after) = after {
            state.alarms.insert((after, group.to_owned()));
        }
        let next = state.alarms.first().map(|(time, _)| *time);
        let must_wake = state
            .asleep
            .as_ref()
            .is_some_and(|(until, _)| next.is_none_or(|next| next < *until));
        if must_wake && let Some((_, sleeper)) = state.asleep.take() {
            // The task is gone only if the runtime stopped: then nothing rings any more.
            sleeper.send(()).ok();
        }
        let start = next.is_some() && !state.is_running;
        state.is_running |= start;
        start
    }

    /// Takes the groups whose time has come.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<String> {
        let mut state = lock(&self.state);
        let mut due = Vec::new();
        while state.alarms.first().is_some_and(|(time, _)| *time <= now) {
            due.extend(state.alarms.pop_first().map(|(_, group)| group));
        }
        due
    }

    /// Until when the task may sleep and how it learns that it must wake earlier; `None` when no
    /// alarm is left and the task ends.
    pub(super) fn sleep(&self) -> Option<(Timestamp, oneshot::Receiver<()>)> {
        let mut state = lock(&self.state);
        let Some(until) = state.alarms.first().map(|(time, _)| *time) else {
            state.is_running = false;
            return None;
        };
        let (sleeper, woken) = oneshot::channel();
        state.asleep = Some((until, sleeper));
        Some((until, woken))
    }
}
