//! A service that is stopped for a while, so that one can see what becomes of orders meanwhile.
//!
//! It stops as it would for an upgrade: what was begun is finished, and the group is left. When it starts
//! again it goes on where it stopped, with what it had in memory.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::intake::Intake;
use crate::services::{SERVICES, Service};
use crate::tally::Tally;

/// How long the orders of the first checkouts may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// The service that tells customers: no order waits for it.
const LAST: &str = "notification";

/// Which service is stopped, and when.
#[derive(Debug)]
pub struct Pause {
    /// The service.
    pub service: String,
    /// After so many checkouts, once their orders have ended; the others are sent when it is stopped.
    pub after: u64,
    /// Told when it is stopped.
    pub stopped: oneshot::Sender<()>,
    /// It starts again when this is told, or can be told no more.
    pub resume: oneshot::Receiver<()>,
}

impl Pause {
    /// The services that orders wait for.
    pub fn services() -> impl Iterator<Item = &'static str> {
        let all = SERVICES.iter().map(|service| service.name);
        all.filter(|name| *name != LAST)
    }
}

/// How far a [`Pause`] has come.
pub(crate) struct Pausing {
    name: String,
    after: u64,
    state: State,
    resume: oneshot::Receiver<()>,
    allowed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    stopped: Option<oneshot::Sender<()>>,
    service: Option<(Service, Intake)>,
    task: Option<AbortHandle>,
    /// Since when the first checkouts are all sent.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Stopping,
    Stopped,
    Over,
}

impl Pausing {
    /// From what is wanted, and how many checkouts are allowed meanwhile.
    pub(crate) fn of(pause: Option<Pause>) -> (Option<Self>, watch::Receiver<u64>) {
        let Some(pause) = pause else {
            return (None, watch::channel(u64::MAX).1);
        };
        let (allowed, may) = watch::channel(pause.after);
        let pausing = Self {
            name: pause.service,
            after: pause.after,
            state: State::Before,
            resume: pause.resume,
            allowed,
            stop: watch::channel(false).0,
            stopped: Some(pause.stopped),
            service: None,
            task: None,
            since: None,
        };
        (Some(pausing), may)
    }

    pub(crate) fn is_of(&self, service: Service) -> bool {
        self.name == service.name
    }

    /// The service starts for the first time; done when it is to stop.
    pub(crate) fn opens(
        &mut self,
        service: Service,
        intake: Intake,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.service = Some((service, intake));
        let mut stop = self.stop.subscribe();
        Box::pin(async move {
            if stop.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }

    /// It runs in this task.
    pub(crate) fn runs(&mut self, task: AbortHandle) {
        self.task = Some(task);
    }

    /// Whether it is stopped, or will be.
    pub(crate) fn is_pending(&self) -> bool {
        self.state != State::Over
    }

    /// The shop closes: what was not stopped yet is not stopped any more.
    pub(crate) fn closes(&mut self) {
        if self.state == State::Before {
            self.state = State::Over;
            self.stopped = None;
        }
    }

    /// Whether the orders of the first checkouts have ended, or it takes too long to wait for them.
    fn is_settled(&mut self, tally: &Tally) -> bool {
        if tally.checkouts.get() < self.after {
            return false;
        }
        let (placed, ended) = (
            tally.placed.get(),
            tally.completed.get() + tally.rejected.get(),
        );
        let since = *self.since.get_or_insert_with(Instant::now);
        self.after == 0 || (placed > 0 && placed == ended) || since.elapsed() > PATIENCE
    }

    /// Takes the next step when it is time; what is to be started again.
    pub(crate) fn turn(&mut self, tally: &Tally) -> Option<(Service, Intake)> {
        let is_settled = self.state == State::Before && self.is_settled(tally);
        match self.state {
            State::Before if is_settled => {
                self.stop.send_replace(true);
                self.state = State::Stopping;
            }
            State::Stopping if self.task.as_ref().is_none_or(AbortHandle::is_finished) => {
                // Whoever asked may have left; the service starts again then.
                if let Some(stopped) = self.stopped.take() {
                    stopped.send(()).ok();
                }
                self.allowed.send_replace(u64::MAX);
                self.state = State::Stopped;
            }
            State::Stopped => match self.resume.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => {}
                _ => {
                    self.state = State::Over;
                    return self.service.take();
                }
            },
            _ => {}
        }
        None
    }
}
