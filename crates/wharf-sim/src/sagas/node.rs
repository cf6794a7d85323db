//! One life of an orchestrator: a runtime of its own with time that only the simulation moves, and
//! what it was asked.
//!
//! Its death is the end of the runtime: every task is dropped where it waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wharf_message::Code;
use wharf_saga::machine::{Command, Order, Outcome, SagaId, TaskToken};
use wharf_server::config::Sagas;
use wharf_server::saga::{Filter, NewSaga};
use wharf_server::simulation::Orchestrator;

use super::checkers::{Broken, broken, replay};
use super::checkers::{durable_first, listed_as_it_is, one_saga_per_key, orders_are_records};
use super::clock::Clock;
use super::store::Store;
use super::watch::{Sent, Watch};

/// How long a person waits for an answer; a machine that dies gives none.
const PATIENCE: Duration = Duration::from_secs(10);

/// A handler in the process that was called, and waits for what to say.
pub(super) struct Call {
    pub(super) sent: Sent,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// What people and handlers have in common, over all lives.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) watch: Arc<Mutex<Watch>>,
    pub(super) told: Arc<Mutex<one_saga_per_key::Told>>,
    pub(super) calls: Arc<Mutex<Vec<Call>>>,
    /// Callers are told wrongly that their saga is new.
    pub(super) always_new: bool,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outside {
    /// Compares with what is durable.
    fn judge(&self, judge: impl FnOnce(&Watch) -> Result<(), Broken>) {
        let mut watch = lock(&self.watch);
        if let Err(found) = judge(&watch) {
            watch.found(found);
        }
    }
}

/// A life.
pub(super) struct Node {
    runtime: Runtime,
    orchestrator: Arc<Orchestrator>,
    outside: Outside,
    began: Instant,
    /// How much time had passed by then.
    passed: i64,
    ready: Arc<AtomicBool>,
}

impl Node {
    /// Starts one on what is there.
    pub(super) fn start(
        config: &Sagas,
        partitions: u32,
        store: &Store,
        outside: &Outside,
        handlers: &[String],
        clock: &Clock,
    ) -> Result<Self, Broken> {
        let passed = clock.passed();
        let mut builder = Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let runtime = runtime.or_else(|error| broken("a node starts", error.to_string()))?;
        let (began, orchestrator) = runtime.block_on(async {
            let began = Instant::now();
            clock.begin(began);
            let ledger = store.open(&Handle::current())?;
            let orchestrator = Orchestrator::new(config, partitions, ledger);
            let orchestrator = orchestrator.map(Arc::new);
            match orchestrator {
                Ok(orchestrator) => Ok((began, orchestrator)),
                Err(problem) => broken("a node starts", problem.to_string()),
            }
        })?;
        let node = Self {
            runtime,
            orchestrator,
            outside: outside.clone(),
            began,
            passed,
            ready: Arc::default(),
        };
        node.runtime.block_on(async {
            for name in handlers {
                node.handle(name);
            }
            let (orchestrator, ready) = (Arc::clone(&node.orchestrator), Arc::clone(&node.ready));
            tokio::spawn(async move {
                while orchestrator.begin().await.is_err() {
                    sleep(Duration::from_secs(1)).await;
                }
                ready.store(true, Ordering::Relaxed);
            });
        });
        Ok(node)
    }

    /// Registers a handler: it waits for what the simulation says.
    pub(super) fn handle(&self, name: &str) {
        let outside = self.outside.clone();
        let _entered = self.runtime.enter();
        let handlers = self.orchestrator.engine().handlers();
        handlers.register(name, move |command: Command| {
            let sent = Sent {
                saga: command.saga,
                step: command.step,
                generation: command.generation,
                key: command.idempotency_key.clone(),
                undo: command.undo,
                name: command.step_name.clone(),
                arguments: command.arguments.value().clone(),
            };
            outside.judge(|watch| durable_first::task(watch, &sent));
            let (answer, answered) = oneshot::channel();
            lock(&outside.calls).push(Call { sent, answer });
            async move {
                match answered.await {
                    Ok(outcome) => outcome,
                    Err(_gone) => std::future::pending().await,
                }
            }
        });
    }

    /// Whether everything was read.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Why it cannot work, if it cannot.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.orchestrator.engine().trouble().is_some()
    }

    /// Lives until so much time has passed.
    pub(super) fn live_until(&self, passed: i64) {
        let lived = u64::try_from(passed - self.passed).unwrap_or(0);
        let until = self.began + Duration::from_millis(lived);
        self.runtime.block_on(async { sleep_until(until).await });
    }

    /// Dies, or ends in good order.
    pub(super) fn end(self, passed: i64, in_order: bool, clock: &Clock) -> i64 {
        if in_order {
            self.runtime.block_on(self.orchestrator.stop());
        }
        let lived = self.runtime.block_on(async { clock.passed() });
        let passed = passed.max(lived);
        let Self { runtime, .. } = self;
        drop(runtime);
        clock.end(passed);
        passed
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// Deploys a definition and waits for it.
    pub(super) fn deploy(&self, name: &str, text: &str) -> Result<(), Broken> {
        let deployed = self
            .orchestrator
            .engine()
            .deploy(name, text, "the simulator");
        let deployed = async { timeout(PATIENCE, deployed).await };
        match self.runtime.block_on(deployed) {
            Err(_late) => Ok(()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) if refused.is_unknown() => Ok(()),
            Ok(Err(refused)) => broken("definitions are deployed", refused.to_string()),
        }
    }

    /// Somebody starts a saga.
    pub(super) fn start_saga(&self, new: NewSaga) {
        let (engine, outside) = (self.orchestrator.engine().clone(), self.outside.clone());
        self.spawn(async move {
            let (id, input) = (key_of(&new), new.input.clone());
            let outcome = engine.start(new).await;
            let mut told = lock(&outside.told);
            outside.judge(|watch| match outcome {
                Ok(started) => {
                    let is_new = started.is_new || outside.always_new;
                    durable_first::started(watch, started.id)?;
                    told.started(watch, started.id, is_new, &input)
                }
                Err(refused) if refused.code == Code::SAGA_KEY_TAKEN => {
                    told.taken(watch, id, &input)
                }
                Err(_) => Ok(()),
            });
        });
    }

    /// A person orders something.
    pub(super) fn order(&self, id: SagaId, order: Order) {
        let (engine, outside) = (self.orchestrator.engine().clone(), self.outside.clone());
        self.spawn(async move {
            let reason = order.reason.clone();
            let done = match engine.operate(id, order).await {
                Ok(()) => Some(true),
                Err(refused) if refused.is_unknown() => None,
                Err(_) => Some(false),
            };
            outside.judge(|watch| orders_are_records::told(watch, &reason, done));
        });
    }

    /// A worker answers by a call, to a dispatch that may be long over.
    pub(super) fn reply(&self, token: TaskToken, outcome: Outcome) {
        let (engine, outside) = (self.orchestrator.engine().clone(), self.outside.clone());
        self.spawn(async move {
            let replied = engine.reply(token, outcome).await;
            if replied.is_err_and(|refused| refused.code == Code::SAGA_TOKEN_UNKNOWN) {
                outside.judge(|watch| {
                    let seen = watch.sagas.get(&token.saga);
                    let seen = seen.filter(|seen| !seen.saga.status().is_end());
                    seen.map_or(Ok(()), |seen| seen.checks.stale.told(token.generation))
                });
            }
        });
    }

    /// Looks at sagas, which must be as the log has them.
    pub(super) fn look(&self, ids: impl IntoIterator<Item = SagaId>) {
        for id in ids {
            let (engine, outside) = (self.orchestrator.engine().clone(), self.outside.clone());
            self.spawn(async move {
                let seen = outside.clone();
                let looked = engine.look(id, move |saga| {
                    seen.judge(|watch| durable_first::looked(watch, id, &replay::written(saga)?));
                });
                // One that cannot be looked at now is looked at later.
                drop(looked.await);
            });
        }
    }

    /// What it lists, compared when nothing is on its way.
    pub(super) fn list(&self, before: &mut Option<Listed>, is_old: bool) -> Result<(), Broken> {
        let engine = self.orchestrator.engine();
        let (rows, _) = engine.list(&Filter::default(), None, usize::MAX);
        let now = (rows, engine.counts());
        let listed = match before {
            Some(before) if is_old => before,
            before => before.insert(now),
        };
        listed_as_it_is::list(&lock(&self.outside.watch), &listed.0, &listed.1)
    }

    /// The history of a saga, as it is told.
    pub(super) fn history(&self, id: SagaId) -> Result<(), Broken> {
        let history = self.orchestrator.engine().history(id);
        let watch = |found: &[_]| {
            let watch = lock(&self.outside.watch);
            let seen = watch.sagas.get(&id);
            seen.map_or(Ok(()), |seen| listed_as_it_is::history(seen, found))
        };
        match self.runtime.block_on(history) {
            Ok(found) => watch(&found),
            Err(refused) => broken(listed_as_it_is::PROMISE, refused.to_string()),
        }
    }
}

/// What was listed: rows, and counts by type and status.
pub(super) type Listed = (
    Vec<Arc<wharf_server::saga::Row>>,
    Vec<(String, &'static str, usize)>,
);

fn key_of(new: &NewSaga) -> SagaId {
    SagaId::of(&new.saga_type, new.key.as_deref().unwrap_or_default())
}

/// An input of a saga that is not a transfer.
pub(super) fn plain_input(number: u64) -> Value {
    serde_json::json!({ "n": number })
}
