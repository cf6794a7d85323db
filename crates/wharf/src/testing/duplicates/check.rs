//! The duplicate-delivery test as a test function.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt as _;
use wharf_message::Message;

use super::effects::Effects;
use super::fault::Fault;
use super::handlers::{Handler, Handlers, Hook, PATIENCE, Recorder, up_to};
use super::judge::{Error, Options, judge};
use super::report::Report;
use super::schedule::Schedule;
use super::subject::Given;

/// Begins the test of a handler. `start` starts an instance of it, as the start of a process would:
/// what it makes lives until the next crash, what it captures (a pool of database connections)
/// outlives them.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::{Arc, Mutex};
/// use wharf::testing::duplicates::{self, Effects, Given};
/// use wharf_message::Message;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), duplicates::Error<std::convert::Infallible>> {
/// let balances = Arc::new(Mutex::new(BTreeMap::<String, i64>::new()));
/// let start = || {
///     let balances = Arc::clone(&balances);
///     move |given: Given| {
///         let balances = Arc::clone(&balances);
///         async move {
///             let payload = given.message.payload.unwrap_or_default();
///             let deposit: serde_json::Value = serde_json::from_slice(&payload)?;
///             let account = deposit["account"].to_string();
///             let mut balances = balances.lock().expect("nobody panics holding it");
///             *balances.entry(account).or_default() += deposit["amount"].as_i64().unwrap_or(0);
///             Ok::<_, serde_json::Error>(())
///         }
///     }
/// };
/// let report = duplicates::check("deposits", start)
///     .message(Message::new(r#"{"account": 7, "amount": 10}"#))
///     .message(Message::new(r#"{"account": 8, "amount": 5}"#))
///     .reset(async || balances.lock().expect("nobody panics holding it").clear())
///     .effects(async || {
///         let balances = balances.lock().expect("nobody panics holding it");
///         let rows = balances.iter().map(|(account, sum)| serde_json::json!([account, sum]));
///         Effects::new().rows("balances", rows)
///     })
///     .report()
///     .await?;
/// assert_eq!(report.verdict.name(), "not-idempotent");
/// let failure = report.failure().expect("one decided");
/// assert_eq!(failure.minimal.to_string(), "1 1");
/// # Ok(())
/// # }
/// ```
pub fn check<'a, H, F, E>(name: impl Into<String>, mut start: impl FnMut() -> H + 'a) -> Check<'a>
where
    H: Fn(Given) -> F + 'a,
    F: Future<Output = Result<(), E>> + 'a,
    E: fmt::Display,
{
    let start = move || {
        let handler = start();
        let handler = move |given, killed_at| {
            let handling = handler(given);
            let handling = async move { handling.await.map_err(|error| error.to_string()) };
            match killed_at {
                None => handling.boxed_local(),
                Some(waits) => up_to(waits, handling).map(Ok).boxed_local(),
            }
        };
        Box::new(handler) as Handler<'a>
    };
    Check::of(name.into(), Box::new(start))
}

/// The test of a handler, being set up. See [`check`].
#[must_use = "nothing is tested before `run` or `report`"]
pub struct Check<'a> {
    handlers: Handlers<'a>,
    messages: Vec<Message>,
    options: Options,
}

impl<'a> Check<'a> {
    pub(super) fn of(name: String, start: Box<dyn FnMut() -> Handler<'a> + 'a>) -> Self {
        Self {
            handlers: Handlers {
                start,
                effects: None,
                reset: None,
                window: None,
                recorders: Vec::new(),
                patience: PATIENCE,
                instances: [None, None],
                unhandled: Effects::new(),
            },
            messages: Vec::new(),
            options: Options::new(name),
        }
    }

    /// Adds a message. Messages that only look alike (equal payloads with different ids, one id from
    /// two sources) make the test stricter: a handler that takes one for the other is found.
    pub fn message(mut self, message: Message) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds messages, in the order in which they were published.
    pub fn messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.messages.extend(messages);
        self
    }

    /// How the effects are seen: the rows of the tables that the handler writes.
    pub fn effects<F>(mut self, mut probe: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = Effects> + 'a,
    {
        let probe: Hook<'a, Effects> = Box::new(move || probe().boxed_local());
        self.handlers.effects = Some(probe);
        self
    }

    /// Adds a record of what the handler sends: messages, calls.
    pub fn recorder(mut self, recorder: &Recorder) -> Self {
        self.handlers.recorders.push(recorder.clone());
        self
    }

    /// How the effects of an earlier run are removed.
    pub fn reset<F>(mut self, mut reset: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = ()> + 'a,
    {
        self.handlers.reset = Some(Box::new(move || reset().boxed_local()));
        self
    }

    /// How the time passes for which the handler remembers what it has seen: moving its clock, or
    /// running what removes old inbox rows. Without this no schedule has `later`.
    pub fn window_passes<F>(mut self, pass: impl FnMut() -> F + 'a) -> Self
    where
        F: Future<Output = ()> + 'a,
    {
        let mut pass = pass;
        self.handlers.window = Some(Box::new(move || pass().boxed_local()));
        self
    }

    /// Says that duplicates need to be recognised only when they come after at most `others`
    /// different other messages; later ones are not tried then.
    pub fn window(mut self, others: usize) -> Self {
        self.options.window = Some(others);
        self.options.faults = self.options.faults.without(Fault::Window);
        self
    }

    /// Does not compare a field; see [`Ignored::push`](super::Ignored::push) for what it may name.
    pub fn ignore(mut self, field: &str) -> Self {
        self.options.ignored.push(field);
        self
    }

    /// Says that the messages of a key may come in any order.
    pub fn tolerates_reordering_within_a_key(mut self) -> Self {
        self.options.faults = self.options.faults.with(Fault::ReorderWithinKey);
        self
    }

    /// Does not try a fault.
    pub fn without(mut self, fault: Fault) -> Self {
        self.options.faults = self.options.faults.without(fault);
        self
    }

    /// What the mixtures come from; 1 if it is not said.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// How many mixtures are tried; 50 if it is not said.
    pub fn runs(mut self, runs: usize) -> Self {
        self.options.runs = runs;
        self
    }

    /// How long one delivery may take before the handler counts as hanging; 30 s if it is not said.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.handlers.patience = patience;
        self
    }

    /// Runs one schedule only, as a report shows it.
    ///
    /// # Panics
    /// When it is none.
    pub fn replay(mut self, schedule: &str) -> Self {
        let read = schedule
            .parse::<Schedule>()
            .unwrap_or_else(|error| panic!("{error}"));
        self.options.replay = Some(read);
        self
    }

    /// Runs the test.
    ///
    /// # Errors
    /// When there can be no verdict: no messages, no effects, effects that differ by themselves.
    pub async fn report(mut self) -> Result<Report, Error<Infallible>> {
        judge(
            &mut self.handlers,
            &self.messages,
            &self.options,
            &mut |_| {},
        )
        .await
    }

    /// Runs the test.
    ///
    /// # Panics
    /// When the handler is not idempotent (or only within a window that was not declared): with the
    /// shortest schedule that shows it and how its effects differ. When there can be no verdict.
    pub async fn run(self) -> Report {
        let report = self
            .report()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        if !report.verdict.is_good() {
            let replay = report.failure().map(|failure| failure.minimal.to_string());
            panic!(
                "{report}\nReplay: .replay({:?})",
                replay.unwrap_or_default()
            );
        }
        report
    }
}

impl fmt::Debug for Check<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Check")
            .field("messages", &self.messages.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
