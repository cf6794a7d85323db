//! Tasks that workers ask for: a queue per activity, asked with patience.
//!
//! Nothing here is durable: the queues are made of the open tasks at every start. A task is handed
//! to one worker; that it was is a fact before the worker has it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wharf_saga::machine::{Command, TaskToken};

use super::waiting::Waiting;

/// The queues.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    waiting: Mutex<Waiting>,
    grown: Notify,
}

/// A task for whoever asked. Until it is kept it waits again as soon as nobody has it: who asked may be
/// gone before it is a fact that somebody has it.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    activities: &'a Activities,
    name: &'a str,
    command: Option<Command>,
}

impl Taken<'_> {
    /// The task.
    pub(crate) fn command(&self) -> Option<&Command> {
        self.command.as_ref()
    }

    /// The task, which does not wait again.
    pub(crate) fn keep(mut self) -> Option<Command> {
        self.command.take()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(command) = self.command.take() {
            self.activities.offer(self.name, command);
        }
    }
}

impl Activities {
    /// A task waits for a worker.
    pub(crate) fn offer(&self, name: &str, command: Command) {
        self.lock().add(name, command);
        self.grown.notify_waiters();
    }

    /// Nobody waits for this dispatch any more.
    pub(crate) fn cancel(&self, token: TaskToken) {
        self.lock().remove(token);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete before the lock is released.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task that waits longest; waits for one as long as it may.
    pub(crate) async fn take<'a>(&'a self, name: &'a str, patience: Duration) -> Option<Taken<'a>> {
        let until = Instant::now() + patience;
        loop {
            // Before the look, so that nothing comes between.
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            let command = self.lock().first(name);
            if command.is_some() {
                return Some(Taken {
                    activities: self,
                    name,
                    command,
                });
            }
            timeout_at(until, grown).await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::waiting::tests::command;
    use super::*;

    #[tokio::test]
    async fn a_task_whose_worker_goes_before_it_has_it_waits_again() {
        let activities = Activities::default();
        activities.offer("pay", command("1"));
        let taken = activities.take("pay", Duration::ZERO).await.unwrap();
        assert!(activities.take("pay", Duration::ZERO).await.is_none());
        drop(taken);
        let taken = activities.take("pay", Duration::ZERO).await.unwrap();
        assert_eq!(taken.command(), Some(&command("1")));
        assert_eq!(taken.keep(), Some(command("1")));
        assert!(activities.take("pay", Duration::ZERO).await.is_none());
    }
}
