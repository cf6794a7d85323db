//! Tasks that workers ask for: a queue per activity, asked with patience.
//!
//! Nothing here is durable: the queues are made of the open tasks at every start. A task is handed
//! to one worker; that it was is a fact before the worker has it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wharf_saga::machine::{Command, TaskToken};

/// The queues.
#[derive(Debug, Default)]
pub(crate) struct Activities {
    queues: Mutex<HashMap<String, VecDeque<Command>>>,
    grown: Notify,
}

impl Activities {
    /// A task waits for a worker.
    pub(crate) fn offer(&self, name: &str, command: Command) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry(name.to_owned()).or_default();
        if queue.iter().all(|known| known.token() != command.token()) {
            queue.push_back(command);
        }
        drop(queues);
        self.grown.notify_waiters();
    }

    /// Nobody waits for this dispatch any more.
    pub(crate) fn cancel(&self, token: TaskToken) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues.values_mut() {
            queue.retain(|command| command.token() != token);
        }
        queues.retain(|_, queue| !queue.is_empty());
    }

    /// The task that waits longest; waits for one as long as it may.
    pub(crate) async fn take(&self, name: &str, patience: Duration) -> Option<Command> {
        let until = Instant::now() + patience;
        loop {
            // Before the look, so that nothing comes between.
            let grown = self.grown.notified();
            tokio::pin!(grown);
            grown.as_mut().enable();
            {
                let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(queue) = queues.get_mut(name) {
                    let next = queue.pop_front();
                    if queue.is_empty() {
                        queues.remove(name);
                    }
                    if next.is_some() {
                        return next;
                    }
                }
            }
            timeout_at(until, grown).await.ok()?;
        }
    }

    /// How many tasks wait, by activity.
    pub(crate) fn waiting(&self) -> Vec<(String, usize)> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues
            .iter()
            .map(|(name, queue)| (name.clone(), queue.len()))
            .collect()
    }
}
