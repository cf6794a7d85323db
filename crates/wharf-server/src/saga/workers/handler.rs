//! Handlers in this process: what a program registers under `wharf:handler:NAME`.
//!
//! A task whose handler is not registered yet waits for it: sagas are read before a program has set
//! itself up. A handler that panics has failed, and nothing else has.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::task::AbortHandle;
use wharf_saga::machine::{Command, Failure, Outcome, TaskToken};

use super::waiting::Waiting;
use crate::saga::claims::Claims;

type Handle = Arc<dyn Fn(Command) -> BoxFuture<'static, Outcome> + Send + Sync>;
/// Takes the answers.
pub(crate) type Report = Arc<dyn Fn(TaskToken, Outcome) + Send + Sync>;

/// The handlers of a node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handlers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    by_name: HashMap<String, Handle>,
    waiting: Waiting,
    running: HashMap<TaskToken, AbortHandle>,
    report: Option<Report>,
    claims: Option<Arc<Claims>>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Handlers").finish_non_exhaustive()
    }
}

impl Handlers {
    /// Registers what does the tasks of `wharf:handler:NAME`, in place of what did before. Tasks that
    /// waited for it begin at once. Needs the node's runtime.
    ///
    /// The handler may be called again with the same idempotency key: after a crash, and after a
    /// failure that is retried.
    pub fn register<F, R>(&self, name: impl Into<String>, handler: F)
    where
        F: Fn(Command) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let name = name.into();
        let handle: Handle = Arc::new(move |command| Box::pin(handler(command)));
        let waiting = {
            let mut inner = self.lock();
            inner.by_name.insert(name.clone(), handle);
            inner.waiting.all(&name)
        };
        for command in waiting {
            self.run(&name, command);
        }
    }

    pub(crate) fn report_to(&self, report: Report) {
        self.lock().report = Some(report);
    }

    /// Where large arguments are.
    pub(crate) fn claims_from(&self, claims: Option<Arc<Claims>>) {
        self.lock().claims = claims;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every change is complete before the lock is released.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task, now or when its handler is there.
    pub(crate) fn run(&self, name: &str, command: Command) {
        let token = command.token();
        let mut inner = self.lock();
        if inner.running.contains_key(&token) {
            return;
        }
        let (Some(handle), Some(report)) = (inner.by_name.get(name).cloned(), inner.report.clone())
        else {
            inner.waiting.add(name, command);
            return;
        };
        let claims = inner.claims.clone();
        let work = tokio::spawn(async move {
            let command = match claims {
                Some(claims) => claims.filled(command).await,
                None => Ok(command),
            };
            match command {
                Ok(command) => handle(command).await,
                Err(failure) => Outcome::Failure(failure),
            }
        });
        inner.running.insert(token, work.abort_handle());
        drop(inner);
        let handlers = self.clone();
        tokio::spawn(async move {
            let outcome = match work.await {
                Ok(outcome) => Some(outcome),
                // It was cancelled: nobody waits for an answer.
                Err(error) if error.is_cancelled() => None,
                Err(_panic) => Some(Outcome::Failure(Failure {
                    error: "States.TaskFailed".to_owned(),
                    cause: "the handler panicked; the log says where".to_owned(),
                    declared: false,
                })),
            };
            handlers.lock().running.remove(&token);
            if let Some(outcome) = outcome {
                report(token, outcome);
            }
        });
    }

    /// Nobody waits for this dispatch any more.
    pub(crate) fn cancel(&self, token: TaskToken) {
        let mut inner = self.lock();
        inner.waiting.remove(token);
        if let Some(running) = inner.running.remove(&token) {
            running.abort();
        }
    }
}
