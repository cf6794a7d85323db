//! A handler in this process as a consumer under test.
//!
//! The harness is its broker. A crash is dropping the handler and what it is doing, at one of the
//! places where it waits: what it had in memory is gone, a transaction that was open is rolled
//! back, what was committed stays. Tasks that a handler started by itself are not reached by that.

use std::any::Any;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, join};
use serde_json::Value;
use wharf_message::Message;

use super::effects::Effects;
use super::fault::{Fault, Faults};
use super::schedule::{How, Point};
use super::subject::{Given, Subject};

/// A handler is called so often for one delivery before it counts as failed.
const ATTEMPTS_MAX: u32 = 5;
/// A handler that takes longer than this counts as hanging.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A running instance: takes a delivery to its end, or to where it waits the n-th time.
pub(super) type Handler<'a> =
    Box<dyn Fn(Given, Option<u32>) -> LocalBoxFuture<'a, Result<(), String>> + 'a>;
/// Something to be called now and then.
pub(super) type Hook<'a, T> = Box<dyn FnMut() -> LocalBoxFuture<'a, T> + 'a>;

/// Takes down what a consumer sends, where its test has put this in place of a publisher or an HTTP
/// client. Clones write to the same record; the harness clears it before each run.
///
/// ```
/// use serde_json::json;
/// use wharf::Message;
/// use wharf::testing::duplicates::{Given, Recorder, check};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let payments = Recorder::new();
/// let start = || {
///     let payments = payments.clone();
///     move |given: Given| {
///         // A key that is the same for every attempt: the receiver knows the call again.
///         let key = format!("charge {}", given.number);
///         payments.called("POST", "/charges", json!({"amount": 10}), Some(&key));
///         async { Ok::<_, String>(()) }
///     }
/// };
/// check("charging", start).message(Message::new("{}")).recorder(&payments).run().await;
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Effects>>);

impl Recorder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A message was published.
    pub fn published(&self, topic: &str, message: &Message) {
        self.with(|effects| effects.push_message(topic, message));
    }

    /// A call was made.
    pub fn called(
        &self,
        method: &str,
        target: &str,
        body: impl Into<Value>,
        idempotency_key: Option<&str>,
    ) {
        self.with(|effects| effects.push_call(method, target, body, idempotency_key));
    }

    /// A row was written.
    pub fn row(&self, table: &str, row: impl Into<Value>) {
        self.with(|effects| effects.push_row(table, row));
    }

    pub(super) fn once(&self, table: &str, id: &str, row: impl Into<Value>) {
        self.with(|effects| effects.push_once(table, id, row));
    }

    pub(super) fn effects(&self) -> Effects {
        self.with(|effects| effects.clone())
    }

    pub(super) fn clear(&self) {
        self.with(|effects| *effects = Effects::new());
    }

    fn with<T>(&self, act: impl FnOnce(&mut Effects) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A handler in this process.
pub(super) struct Handlers<'a> {
    pub(super) start: Box<dyn FnMut() -> Handler<'a> + 'a>,
    pub(super) effects: Option<Hook<'a, Effects>>,
    pub(super) reset: Option<Hook<'a, ()>>,
    pub(super) window: Option<Hook<'a, ()>>,
    pub(super) recorders: Vec<Recorder>,
    pub(super) patience: Duration,
    /// The instances that run; killed, they are none.
    pub(super) instances: [Option<Handler<'a>>; 2],
    /// What was given up.
    pub(super) unhandled: Effects,
}

impl<'a> Handlers<'a> {
    fn kill(&mut self) {
        self.instances = [None, None];
    }

    fn handle(&mut self, instance: usize, given: &Given) -> LocalBoxFuture<'a, Result<(), String>> {
        self.handle_up_to(instance, given, None)
    }

    fn handle_up_to(
        &mut self,
        instance: usize,
        given: &Given,
        waits: Option<u32>,
    ) -> LocalBoxFuture<'a, Result<(), String>> {
        let handler = self.instances[instance].get_or_insert_with(&mut self.start);
        handler(given.clone(), waits)
    }

    /// Delivers until it is settled; `first` is how the first attempt ended.
    async fn settle(&mut self, instance: usize, given: &Given, first: Result<(), String>) {
        let (mut ended, mut given) = (first, given.clone());
        for _ in 1..ATTEMPTS_MAX {
            if ended.is_ok() {
                return;
            }
            given.attempt += 1;
            let handling = self.handle(instance, &given);
            ended = guarded(self.patience, handling).await;
        }
        if let Err(error) = ended {
            self.unhandled.push_given_up(given.number, &error);
        }
    }
}

/// Runs a handler to its end; panicking or not coming to one is failing.
async fn guarded(
    patience: Duration,
    handling: LocalBoxFuture<'_, Result<(), String>>,
) -> Result<(), String> {
    match tokio::time::timeout(patience, AssertUnwindSafe(handling).catch_unwind()).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(panic)) => Err(format!("panicked: {}", said(&*panic))),
        Err(_) => Err(format!("did not come to an end within {patience:?}")),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or(panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Runs a future up to where it waits the `waits`-th time; what it does after that never happens.
pub(super) async fn up_to<T>(waits: u32, future: impl Future<Output = T>) {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Pending if left > 1 => {
            left -= 1;
            Poll::Pending
        }
        Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
    })
    .await;
}

impl Subject for Handlers<'_> {
    type Error = Infallible;

    fn faults(&self) -> Faults {
        match self.window {
            Some(_) => Faults::all(),
            None => Faults::all().without(Fault::Window),
        }
    }

    async fn reset(&mut self) -> Result<(), Infallible> {
        self.kill();
        self.unhandled = Effects::new();
        if let Some(reset) = &mut self.reset {
            reset().await;
        }
        self.recorders.iter().for_each(Recorder::clear);
        Ok(())
    }

    async fn deliver(&mut self, given: &Given, how: How) -> Result<(), Infallible> {
        match how {
            How::Settled | How::Copy => {
                let handling = self.handle(0, given);
                let ended = guarded(self.patience, handling).await;
                self.settle(0, given, ended).await;
            }
            How::Race => {
                let (one, other) = (self.handle(0, given), self.handle(1, given));
                let patience = self.patience;
                let (one, other) = join(guarded(patience, one), guarded(patience, other)).await;
                self.settle(0, given, one).await;
                self.settle(1, given, other).await;
            }
            How::Crash(point) => {
                match point {
                    Point::Before => {}
                    Point::Midway(waits) => {
                        let handling = self.handle_up_to(0, given, Some(waits));
                        // Killed or done before that, nobody learns of it.
                        guarded(self.patience, handling).await.ok();
                    }
                    Point::After => {
                        let handling = self.handle(0, given);
                        // Settled or not, nobody learns of it.
                        guarded(self.patience, handling).await.ok();
                    }
                }
                self.kill();
            }
        }
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), Infallible> {
        self.kill();
        Ok(())
    }

    async fn rewind(&mut self, last: &[Given]) -> Result<(), Infallible> {
        self.kill();
        for given in last {
            self.deliver(given, How::Settled).await?;
        }
        Ok(())
    }

    async fn pass_window(&mut self) -> Result<(), Infallible> {
        if let Some(window) = &mut self.window {
            window().await;
        }
        Ok(())
    }

    async fn effects(&mut self) -> Result<Effects, Infallible> {
        let mut effects = self.unhandled.clone();
        self.recorders
            .iter()
            .for_each(|recorder| effects.extend(recorder.effects()));
        if let Some(probe) = &mut self.effects {
            effects.extend(probe().await);
        }
        Ok(effects)
    }
}
