//! What every message passes before its handler, as a `tower` layer: messages of earlier runs are
//! left alone, and everything is counted. A service without a database has its inbox here, too.
//!
//! An event counts as handled once its handler has succeeded, never before: an attempt that failed is
//! made again. Two messages with the same id have the same key, and the library handles those one
//! after the other, so none slips past its twin.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::util::MapRequestLayer;
use tower::{Layer, Service};
use wharf::{Disposition, Effects, Incoming, Outcome, Received, header};

use crate::inbox::Inbox;
use crate::tally::ServiceTally;

/// The intake of one service. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Intake(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    /// What the keys of this run's messages begin with.
    run: String,
    tally: Arc<ServiceTally>,
    /// The inbox of a service that has none in a database. It outlives the handlers, should the service be
    /// stopped for a while.
    memory: OnceLock<Mutex<Inbox>>,
}

/// Whether an attempt got past the inbox in the database.
#[derive(Clone, Debug, Default)]
struct Passed(Arc<AtomicBool>);

impl Intake {
    /// For a service whose inbox is in its database; [`Intake::behind_inbox`] goes behind that.
    pub(crate) fn new(run: &str, tally: Arc<ServiceTally>) -> Self {
        Self(Arc::new(Desk {
            run: format!("{run}-"),
            tally,
            memory: OnceLock::new(),
        }))
    }

    /// The same for a service that has its state in memory, and so its inbox.
    pub(crate) fn with_memory(&self) -> Self {
        self.0.memory.get_or_init(Mutex::default);
        self.clone()
    }

    /// The layer between the inbox in a database and the handlers, which no repeat reaches.
    pub(crate) fn behind_inbox() -> MapRequestLayer<fn(Incoming) -> Incoming> {
        MapRequestLayer::new(|mut incoming: Incoming| {
            if let Some(Passed(passed)) = incoming.extensions().get() {
                passed.store(true, Ordering::Relaxed);
            }
            incoming
        })
    }
}

impl Desk {
    /// The inbox in memory, if there is one.
    fn in_memory<T>(&self, ask: impl FnOnce(&mut Inbox) -> T) -> Option<T> {
        let memory = self.memory.get()?;
        let mut inbox = memory.lock().unwrap_or_else(PoisonError::into_inner);
        Some(ask(&mut inbox))
    }

    /// The id under which the message is remembered, if its handler is to see it.
    fn admit(&self, incoming: &Incoming) -> Option<String> {
        let received = incoming.first();
        if received.attempt > 1 {
            self.tally.retried.add(1);
        } else {
            self.tally.received.add(1);
        }
        let key = received.message.key.as_deref().unwrap_or_default();
        if !key.starts_with(self.run.as_bytes()) {
            self.tally.leftover.add(1);
            return None;
        }
        if let Some(sent) = received.message.timestamp {
            let on_its_way = incoming.context().clock.now().since(sent);
            self.tally.arrived_after(on_its_way);
        }
        let id = identity(received);
        if self.in_memory(|inbox| inbox.knows(&id)) == Some(true) {
            self.tally.suppressed.add(1);
            return None;
        }
        Some(id)
    }

    fn note(&self, id: String, passed: &Passed, outcome: &Outcome) {
        match outcome {
            Outcome::Done(_) => {
                let remembered = self.in_memory(|inbox| inbox.remember(id)).is_some();
                if !remembered && !passed.0.load(Ordering::Relaxed) {
                    self.tally.suppressed.add(1);
                }
            }
            Outcome::Failed(failed) if failed.disposition == Disposition::DeadLetter => {
                self.tally.set_aside.add(1);
            }
            Outcome::Failed(_) => {}
        }
    }
}

/// What makes an event the same event, as CloudEvents has it: its source and its id. Whoever sends
/// none is known by the place of the message.
fn identity(received: &Received) -> String {
    let text = |name| received.message.headers.text(name).ok().flatten();
    match (text(header::CE_SOURCE), text(header::CE_ID)) {
        (Some(source), Some(id)) => format!("{source} {id}"),
        _ => format!("{} {:?}", received.topic, received.position),
    }
}

impl<S> Layer<S> for Intake {
    type Service = Admitted<S>;

    fn layer(&self, handlers: S) -> Admitted<S> {
        Admitted {
            desk: Arc::clone(&self.0),
            handlers,
        }
    }
}

/// The handlers behind the intake.
#[derive(Clone, Debug)]
pub(crate) struct Admitted<S> {
    desk: Arc<Desk>,
    handlers: S,
}

impl<S> Service<Incoming> for Admitted<S>
where
    S: Service<Incoming, Response = Outcome, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.handlers.poll_ready(context)
    }

    fn call(&mut self, mut incoming: Incoming) -> Self::Future {
        let Some(id) = self.desk.admit(&incoming) else {
            return Box::pin(async { Ok(Outcome::Done(Effects::default())) });
        };
        let desk = Arc::clone(&self.desk);
        let passed = Passed::default();
        incoming.extensions().insert(passed.clone());
        let handling = self.handlers.call(incoming);
        Box::pin(async move {
            let outcome = handling.await?;
            desk.note(id, &passed, &outcome);
            Ok(outcome)
        })
    }
}
