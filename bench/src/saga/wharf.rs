//! Wharf's sagas: a node, definitions of the same five steps for each kind of worker, and the load over
//! the node's API.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::{try_join, try_join_all};
use harness::{Launch, Node};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Options;
use super::figures::Who;
use super::load::{Engine, Load, Pace, STEPS, Taken, check};
use super::peers::{gathered, node_worker};
use super::program::Program;
use super::worker::{KafkaWorker, topic};
use crate::clients::{Kafka, Topic};
use crate::http::{self, Call, Connection, Target, wait_until};

/// How many partitions a topic of commands has.
const PARTITIONS: usize = 4;
/// How many connections start sagas.
const STARTERS: usize = 32;
/// How many sagas with a rate may be under way.
const PACED: usize = 16;
/// How often it is looked whether sagas have ended.
const LOOK: Duration = Duration::from_millis(2);
/// How often, when the time of one saga is taken.
const LOOK_AT_ONE: Duration = Duration::from_millis(1);
/// How long sagas may take to end after the last one was started.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// The saga of the five steps.
const SAGA: &str = "bench";
/// Nothing that ended is forgotten while it is counted.
const SETTINGS: &str = "[saga]\nkeep-max = 100000000\nopen-max = 100000000\n";

/// A node's place, whether it runs or not.
pub(super) struct Place {
    launch: Launch,
    folder: PathBuf,
}

impl Place {
    pub(super) fn new(options: &Options, name: &str) -> Result<Self> {
        let folder = options.scratch.join(name);
        fs::create_dir_all(&folder)?;
        let file = folder.join("wharf.toml");
        fs::write(&file, SETTINGS)?;
        let mut launch = Launch::new(&options.wharf, &folder.join("data"), &folder.join("log"));
        launch.arguments = vec!["--config".to_owned(), file.display().to_string()];
        Ok(Self { launch, folder })
    }

    pub(super) fn start(&self) -> Result<Node> {
        self.launch.start()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed goes with everything else at the end.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// The API of a node.
pub(super) fn api(node: &Node) -> Target {
    Target {
        address: node.http.clone(),
        prefix: "/api/v1",
        media: "application/json",
    }
}

/// Deploys a definition.
pub(super) fn deploy(target: &Target, name: &str, definition: &Value) -> Result<()> {
    let call = Call::put(format!("/saga-definitions/{name}"), definition.to_string());
    http::Load::new(target)?.on_one(|mut one| async move { one.good(call).await })?;
    Ok(())
}

/// The five steps, each with its undo; an order that `fails` is declined after the last one.
pub(super) fn five_steps(resource: impl Fn(&str) -> String) -> Value {
    let mut states = serde_json::Map::new();
    for (at, step) in STEPS.iter().enumerate() {
        let next = STEPS.get(at + 1).copied().unwrap_or("verdict");
        let state = json!({
            "Type": "Task",
            "Resource": resource(step),
            "ResultPath": format!("$.{step}"),
            "TimeoutSeconds": 60,
            "Compensate": { "Resource": resource(step) },
            "Next": next,
        });
        states.insert((*step).to_owned(), state);
    }
    let fails = json!({ "Variable": "$.fails", "BooleanEquals": true, "Next": "declined" });
    states.insert(
        "verdict".to_owned(),
        json!({ "Type": "Choice", "Choices": [fails], "Default": "confirmed" }),
    );
    states.insert(
        "declined".to_owned(),
        json!({ "Type": "Fail", "Error": "Declined" }),
    );
    states.insert("confirmed".to_owned(), json!({ "Type": "Succeed" }));
    json!({ "StartAt": STEPS[0], "States": states })
}

/// The request that starts a saga.
pub(super) fn start(saga: &str, key: &str, input: &Value) -> Call {
    let new = json!({ "type": saga, "key": key, "input": input });
    Call::post("/sagas", new.to_string())
}

/// How many sagas of a type stand so. None may be parked: nothing of the load should be.
pub(super) async fn count(one: &mut Connection<'_>, saga: &str, statuses: &[&str]) -> Result<u64> {
    let body = one.good(Call::get("/sagas/counts")).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    let counts = answer["counts"].as_array().context("no counts")?;
    let of = |wanted: &[&str]| -> u64 {
        let counts = counts.iter().filter(|count| {
            count["type"] == saga && wanted.iter().any(|status| count["status"] == *status)
        });
        counts.filter_map(|count| count["count"].as_u64()).sum()
    };
    let parked = of(&["PARKED"]);
    ensure!(parked == 0, "{parked} sagas are parked");
    Ok(of(statuses))
}

enum Worker {
    Kafka(KafkaWorker),
    Http(Program),
}

impl Worker {
    fn gathered(&mut self) -> Result<Value> {
        match self {
            Self::Kafka(worker) => worker.gathered(),
            Self::Http(worker) => gathered(worker),
        }
    }
}

/// A node with its workers.
pub(super) struct Wharf {
    worker: Worker,
    target: Target,
    /// Makes the keys of every load new.
    loads: u64,
    _node: Node,
    _place: Place,
}

impl Wharf {
    pub(super) fn start(options: &Options, who: Who) -> Result<Self> {
        let place = Place::new(options, who.key())?;
        let node = place.start()?;
        let target = api(&node);
        let worker = if who == Who::WharfHttp {
            let log = place.folder.join("worker.log");
            let (worker, port) = node_worker(options, "wharf.mjs", 0, &log)?;
            let url = |step: &str| format!("wharf:http:http://127.0.0.1:{port}/{step}");
            deploy(&target, SAGA, &five_steps(url))?;
            Worker::Http(worker)
        } else {
            let topics = STEPS.map(|step| Topic::new(topic(step), PARTITIONS));
            Kafka::new(&node.kafka).make_all(&topics)?;
            let resource = |step: &str| format!("wharf:topic:{}", topic(step));
            deploy(&target, SAGA, &five_steps(resource))?;
            Worker::Kafka(KafkaWorker::start(&node.kafka)?)
        };
        Ok(Self {
            worker,
            target,
            loads: 0,
            _node: node,
            _place: place,
        })
    }

    fn key(&self, number: u64) -> String {
        format!("{}-{number}", self.loads)
    }
}

impl Engine for Wharf {
    fn load(&mut self, load: Load) -> Result<Taken> {
        self.loads += 1;
        self.worker.gathered()?;
        let driver = http::Load::new(&self.target)?;
        let (sagas, mut taken) = match load.pace {
            Pace::AtOnce(count) => driver.block_on(at_once(self, count, load))?,
            Pace::Rate(rate) => driver.block_on(paced(self, rate, load))?,
        };
        let answer = self.worker.gathered()?;
        check(&answer, sagas as f64, load.fails)?;
        taken.step_p50 = answer["step_p50"].as_f64().unwrap_or(f64::NAN);
        taken.step_p99 = answer["step_p99"].as_f64().unwrap_or(f64::NAN);
        Ok(taken)
    }
}

/// As many sagas at once as wanted. How many have ended is asked for all of them together, so that
/// watching costs the node next to nothing.
async fn at_once(wharf: &Wharf, at_once: usize, load: Load) -> Result<(u64, Taken)> {
    let ends = if load.fails {
        "COMPENSATED"
    } else {
        "COMPLETED"
    };
    let mut watching = Connection::open(&wharf.target).await?;
    let before = count(&mut watching, SAGA, &[ends]).await?;
    let room = Semaphore::new(at_once);
    let (started, running) = (Cell::new(0), Cell::new(STARTERS));
    let began = Instant::now();
    let starting = (0..STARTERS).map(|_| async {
        let mut one = Connection::open(&wharf.target).await?;
        loop {
            room.acquire().await?.forget();
            if began.elapsed() >= load.length {
                // Another one that waits may go on to its end, too.
                room.add_permits(1);
                running.set(running.get() - 1);
                return anyhow::Ok(());
            }
            let number = started.get();
            started.set(number + 1);
            let input = json!({ "id": number, "fails": load.fails });
            one.good(start(SAGA, &wharf.key(number), &input)).await?;
        }
    });
    let watch = async {
        let mut seen = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let ended = count(&mut watching, SAGA, &[ends]).await? - before;
            room.add_permits(usize::try_from(ended - seen)?);
            seen = ended;
            if running.get() == 0 && ended >= started.get() {
                return Ok(began.elapsed());
            }
            let late = began.elapsed().saturating_sub(load.length);
            if late > ENDED_WITHIN {
                bail!(
                    "{ended} of {} sagas have ended after {late:?} more",
                    started.get()
                );
            }
        }
    };
    let (_, took) = try_join(try_join_all(starting), watch).await?;
    let sagas = started.get();
    let rate = sagas as f64 / took.as_secs_f64();
    let taken = Taken {
        rate,
        ..Taken::default()
    };
    Ok((sagas, taken))
}

/// So many a second; each is watched until it has ended.
async fn paced(wharf: &Wharf, rate: u32, load: Load) -> Result<(u64, Taken)> {
    let (next, began) = (Cell::new(0_u64), Instant::now());
    let one_by_one = (0..PACED).map(|_| async {
        let mut one = Connection::open(&wharf.target).await?;
        let mut times = Histogram::<u64>::new(3)?;
        loop {
            let number = next.get();
            let due = began + Duration::from_secs_f64(number as f64 / f64::from(rate));
            if due.saturating_duration_since(began) > load.length {
                return anyhow::Ok(times);
            }
            next.set(number + 1);
            wait_until(due).await;
            let input = json!({ "id": number, "fails": load.fails });
            let body = one.good(start(SAGA, &wharf.key(number), &input)).await?;
            let told: Value = serde_json::from_slice(&body)?;
            let id = told["id"].as_str().context("a saga without an id")?;
            while !has_ended(&mut one, id).await? {
                ensure!(due.elapsed() < ENDED_WITHIN, "the saga {id} does not end");
                tokio::time::sleep(LOOK_AT_ONE).await;
            }
            times.record(u64::try_from(due.elapsed().as_nanos())?)?;
        }
    });
    let mut all = Histogram::<u64>::new(3)?;
    for times in try_join_all(one_by_one).await? {
        all.add(times)?;
    }
    let millis = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
    let taken = Taken {
        rate: all.len() as f64 / began.elapsed().as_secs_f64(),
        p50: millis(0.5),
        p99: millis(0.99),
        ..Taken::default()
    };
    Ok((all.len(), taken))
}

async fn has_ended(one: &mut Connection<'_>, id: &str) -> Result<bool> {
    let body = one.good(Call::get(format!("/sagas/{id}"))).await?;
    let saga: Value = serde_json::from_slice(&body)?;
    Ok(saga["ended"].is_string())
}
