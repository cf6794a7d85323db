//! The role that orchestrates sagas: durable, each on its way to an end, done or undone.
//!
//! What a saga does next is `wharf-saga`'s to decide; here are its topics, its workers and the people
//! who look after it. The topics are the truth: what is in memory is read again at every start, and
//! nobody is told of anything before it is durable.
//!
//! - `engine`: the handle that everybody else uses. `shared`: what its parts share. `view`: what is listed. `refusal`: why not.
//! - `shard`: one partition at work. `deciding`: what it does with one input. `sending`: what goes out, `children`: to sub-sagas, `executions`: to other machines.
//! - `held`: a saga in memory, awake or asleep. `history`: what happened to one.
//! - `store`, `topics`, `definitions`: what is kept, and where. `tokens`: what callbacks and task tokens are sealed with.
//! - `claims`: payloads that are too large for a saga.
//! - `resources`, `slots`, `workers`: who does the work, and how much at once.
//! - `alarms`, `metrics`: who is told. `api`: `/api/v1/sagas` and `/api/v1/saga-definitions`.
//! - `sfn`: the Step Functions API. `simulated`: the same role, for the simulator.

mod alarms;
mod api;
mod children;
pub(crate) mod claims;
mod deciding;
mod definitions;
mod engine;
mod executions;
mod held;
mod history;
mod metrics;
mod refusal;
mod resources;
mod sending;
mod sfn;
mod shard;
mod shared;
#[cfg(feature = "simulation")]
pub(crate) mod simulated;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod topics;
mod view;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry as Metrics;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wharf_message::TopicName;
use wharf_message::ledger::{Ledger, Partition};
use wharf_saga::machine::{Failure, Outcome, TaskToken};

use crate::Problem;
use crate::config::Sagas;
use crate::ending::end;
use crate::flag::raised;

pub use api::reference;
pub(crate) use api::routes;
pub use definitions::{Named, Version};
pub use engine::{Deployed, Engine, NewSaga, Started};
pub use refusal::Refused;
pub use sfn::reference as step_functions_reference;
pub use view::{Cursor, Filter, Row};
pub use workers::handler::Handlers;

use alarms::Alarms;
use claims::Claims;
use definitions::Definitions;
use metrics::{Counts, SagaMetrics};
use resources::ResourceMap;
use shard::{Queues, Shard, Work};
use shared::{Names, Shared};
pub(crate) use topics::MakeTopic;
use topics::Topics;
use workers::http::{HttpWorkers, Settings};
use workers::topic;

/// The topic of what people ordered.
const AUDIT: &str = "_wharf.audit";
/// How long what was begun may take when the node stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How much an answer over HTTP may have beyond a payload.
const ENVELOPE_BYTES: usize = 4 << 10;

/// How often it is tried again to begin.
const RETRY: Duration = Duration::from_secs(1);

/// The role at work.
#[derive(Debug)]
pub(crate) struct Running {
    engine: Engine,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the role needs of its node.
pub(crate) struct Place<'a> {
    pub(crate) config: &'a Sagas,
    /// How many partitions a command topic gets.
    pub(crate) partitions: u32,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) make: MakeTopic,
    /// Where HTTP workers answer later.
    pub(crate) http: Option<SocketAddr>,
    /// The folder of payloads that are too large for a saga.
    pub(crate) claims: Option<PathBuf>,
}

/// Starts the role; when this returns, every saga was read and goes on. Where nothing was ever
/// deployed, nothing is created.
pub(crate) async fn start(place: Place<'_>, metrics: &mut Metrics) -> Result<Running, Problem> {
    let (config, http) = (place.config, place.http);
    let Assembled {
        engine,
        poster,
        stop,
        is_known,
    } = assemble(place, metrics)?;
    let shared = engine.shared();
    shared.handlers.report_to(reporting(&engine));
    shared.handlers.claims_from(shared.claims.clone());
    connect(&engine, config, http)?;
    let mut tasks: Vec<_> = poster.into_iter().collect();
    if let Some(claims) = shared.claims.clone() {
        let sweeping = claims::sweeping(engine.clone(), claims, stop.subscribe());
        tasks.push(tokio::spawn(sweeping));
    }
    if is_known && let Err(refused) = engine.begin().await {
        shared.in_trouble(0, Some(&refused.message));
        let later = begin_later(engine.clone(), stop.subscribe());
        tasks.push(tokio::spawn(later));
    }
    Ok(Running {
        engine,
        stop,
        tasks,
    })
}

/// The role, with nothing at work yet.
struct Assembled {
    engine: Engine,
    /// What posts alarms, where there is a webhook.
    poster: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Whether its topics are there.
    is_known: bool,
}

fn assemble(place: Place<'_>, metrics: &mut Metrics) -> Result<Assembled, Problem> {
    let Place {
        config,
        partitions,
        ledger,
        make,
        http: _,
        claims,
    } = place;
    let claims = claims.map(|root| Claims::new(root, config.claim_max.as_usize()));
    let name = |text: &str| TopicName::new(text).expect("the name is a valid one");
    let names = Names {
        sagas: name(store::SAGAS),
        audit: name(AUDIT),
        alarms: name(alarms::ALARMS),
        replies: name(topic::REPLIES),
        starts: name(topic::STARTS),
    };
    let topics = Topics::new(Arc::clone(&ledger), make);
    let metrics = metrics.sub_registry_with_prefix("saga");
    let saga_metrics = SagaMetrics::register(metrics);
    let lost = saga_metrics.alarms_lost.clone();
    let known = topics.partitions(&names.sagas);
    let count = known.unwrap_or(i32::try_from(config.partitions).unwrap_or(1));
    let (requests, follow_ups, queues) = channels(count, config.waiting_max);
    let (stop, stopping) = watch::channel(false);
    let alarms = Alarms::start(config.alarm_webhook.as_ref(), lost, stopping.clone());
    let (alarms, poster) = alarms.map_err(|reason| unusable(&reason))?;
    let shared = Arc::new(Shared {
        names,
        topics,
        definitions: Definitions::new(Arc::clone(&ledger)),
        ledger,
        resources: ResourceMap::new(config.resource.clone()),
        index: view::Index::default(),
        slots: slots::Slots::new(count),
        children: shared::Children::default(),
        progress: shared::ReadSoFar::default(),
        metrics: saga_metrics,
        alarms,
        handlers: Handlers::default(),
        activities: workers::activity::Activities::default(),
        http: OnceLock::new(),
        callback: OnceLock::new(),
        had_sagas: known.is_some(),
        claims: claims.map(Arc::new),
        bodies: Semaphore::new(api::LARGE_PERMITS),
        payload_max: config.payload_max.as_usize(),
        keep: config.keep.as_option().map(|keep| keep.0),
        keep_max: config.keep_max.div_ceil(requests.len().max(1)),
        open_max: config.open_max.div_ceil(requests.len().max(1)),
        partitions: i32::try_from(partitions).unwrap_or(1),
        requests,
        follow_ups,
        trouble: Mutex::default(),
        asleep: (0..count).map(|_| AtomicUsize::default()).collect(),
        noise: Mutex::default(),
        begun: OnceLock::new(),
        dormant: tokio::sync::Mutex::new(Some(Dormant {
            queues,
            stop: stopping,
        })),
    });
    let engine = Engine(shared);
    metrics.register_collector(Box::new(Counts(engine.clone())));
    Ok(Assembled {
        engine,
        poster,
        stop,
        is_known: known.is_some(),
    })
}

type Channels = (
    Vec<mpsc::Sender<Work>>,
    Vec<mpsc::UnboundedSender<Work>>,
    Vec<Queues>,
);

/// What leads to each partition, and what it takes from.
fn channels(count: i32, waiting_max: usize) -> Channels {
    let (mut requests, mut follow_ups, mut queues) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (sender, receiver) = mpsc::channel(waiting_max);
        let (follow_up, followed) = mpsc::unbounded_channel();
        requests.push(sender);
        follow_ups.push(follow_up);
        queues.push(Queues {
            requests: receiver,
            follow_ups: followed,
        });
    }
    (requests, follow_ups, queues)
}

/// Tries until the topics can be used.
async fn begin_later(engine: Engine, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            () = sleep(RETRY) => {}
        }
        match engine.begin().await {
            Ok(()) => return engine.shared().in_trouble(0, None),
            Err(refused) => engine.shared().in_trouble(0, Some(&refused.message)),
        }
    }
}

/// How workers' answers come back through the engine.
fn reporting(engine: &Engine) -> workers::handler::Report {
    let engine = engine.clone();
    Arc::new(move |token: TaskToken, outcome: Outcome| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let is_success = matches!(outcome, Outcome::Success(_));
            // What is refused was counted; what is lost is done again when the sagas are read.
            if let Err(refused) = engine.reply(token, outcome).await
                && is_success
                && refused.is_unknown()
            {
                // Or its payload was not stored, and then nobody would ask again.
                let lost = Outcome::Failure(Failure {
                    error: "Wharf.AnswerLost".to_owned(),
                    cause: refused.message,
                    declared: false,
                });
                drop(engine.reply(token, lost).await);
            }
        });
    })
}

/// The workers that are asked over HTTP.
fn connect(engine: &Engine, config: &Sagas, http: Option<SocketAddr>) -> Result<(), Problem> {
    let shared = engine.shared();
    let settings = Settings {
        timeout: config.http_timeout.0,
        in_flight_max: config.http_in_flight_max,
        secret: config.http_secret.clone(),
        answer_bytes_max: engine.payload_limit().0 + ENVELOPE_BYTES,
        claims: shared.claims.clone(),
    };
    let workers =
        HttpWorkers::new(settings, reporting(engine)).map_err(|reason| unusable(&reason))?;
    // Nothing else sets these.
    drop(shared.http.set(Arc::new(workers)));
    let address = http.map(|address| format!("http://{address}"));
    let callback = config.public_url.clone().or(address).unwrap_or_default();
    drop(
        shared
            .callback
            .set(callback.trim_end_matches('/').to_owned()),
    );
    Ok(())
}

/// What waits to begin.
pub(crate) struct Dormant {
    queues: Vec<Queues>,
    stop: watch::Receiver<bool>,
}

impl Engine {
    /// Makes the topics, reads every saga, and goes on with them; says nothing when that was done.
    pub(crate) async fn begin(&self) -> Result<(), Refused> {
        let shared = self.shared();
        let mut dormant = shared.dormant.lock().await;
        if dormant.is_none() {
            return Ok(());
        }
        let (replies, starts) = create(shared).await.map_err(Refused::unavailable)?;
        shared.definitions.load().await?;
        let Some(Dormant { queues, stop }) = dormant.take() else {
            return Ok(());
        };
        let (mut read, mut tasks) = (Vec::new(), Vec::new());
        for (index, queues) in (0..).zip(queues) {
            let topic = shared.names.sagas.clone();
            let shard = Shard::new(Partition { topic, index }, Arc::clone(shared));
            let (ready, is_ready) = oneshot::channel();
            read.push(is_ready);
            tasks.push(tokio::spawn(shard.run(queues, ready, stop.clone())));
        }
        // From here on answers are taken: the first partition that was read has its tasks done while
        // the others are still read. Nobody else sets it: the lock is held.
        drop(shared.begun.set(Mutex::new(tasks)));
        for is_ready in read {
            // Not read is told by every answer; the node serves all the same.
            drop(is_ready.await);
        }
        let mut tasks = Vec::new();
        for index in 0..replies {
            let topic = shared.names.replies.clone();
            let partition = Partition { topic, index };
            let follow = workers::replies(self.clone(), partition, stop.clone());
            tasks.push(tokio::spawn(follow));
        }
        for index in 0..starts {
            let topic = shared.names.starts.clone();
            let partition = Partition { topic, index };
            let follow = workers::starts(self.clone(), partition, stop.clone());
            tasks.push(tokio::spawn(follow));
        }
        if let Some(begun) = shared.begun.get() {
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.extend(tasks);
        }
        Ok(())
    }
}

/// The topics; how many partitions replies and starts have.
async fn create(shared: &Shared) -> Result<(i32, i32), String> {
    let Shared { topics, names, .. } = shared;
    let count = i32::try_from(shared.requests.len()).unwrap_or(1);
    topics.own(shared.definitions.topic(), 1).await?;
    topics.kept(&names.audit).await?;
    topics.kept(&names.alarms).await?;
    let replies = topics.passing(&names.replies, count).await?;
    let starts = topics.passing(&names.starts, count).await?;
    // Last: where it is, the others are.
    topics.own(&names.sagas, count).await?;
    Ok((replies, starts))
}

impl Running {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The routes of the Step Functions API; what it keeps is written through a ledger.
    pub(crate) fn step_functions(&self, config: &Sagas, ledger: Arc<dyn Ledger>) -> axum::Router {
        let users = config.user.iter();
        let users = users.map(|user| (user.access_key.clone(), user.secret.expose().to_owned()));
        let stop = self.stop.subscribe();
        sfn::routes(self.engine.clone(), ledger, users.collect(), stop)
    }

    /// Ends it: what was decided is committed and answered, and nothing more is taken.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        let begun = self.engine.shared().begun.get();
        let begun = begun.map(|tasks| {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        });
        for task in self.tasks.into_iter().chain(begun.unwrap_or_default()) {
            end("a part of the orchestrator", task, DRAIN).await;
        }
    }
}

fn unusable(reason: &str) -> Problem {
    Problem::new(
        wharf_message::Code::SAGA_UNAVAILABLE,
        "the orchestrator of sagas cannot be started",
        reason,
        "follow the page of the code, or switch it off with `saga.enabled = false`",
    )
}
