//! Clients that start sagas, again and again with the same keys: over HTTP, and by records.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use super::check::{Known, Name};
use super::{http, machines};
use crate::random::Random;

/// How many clients there are; the last one writes records.
const CLIENTS: u64 = 4;
/// Where records start sagas.
const STARTS: &str = "_wharf.saga-starts";
/// How long a client waits before its next request.
const PAUSE_MILLIS: u64 = 450;
/// How long a record may take to be acknowledged.
const RECORDED_WITHIN: Duration = Duration::from_secs(20);

/// What everybody shares.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) api: String,
    pub(super) kafka: String,
    pub(super) seed: u64,
    known: Arc<Mutex<Known>>,
    /// The number of the next saga.
    next: Arc<AtomicU64>,
    /// Nobody begins anything while this is so.
    held: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicU64>,
}

impl Shared {
    pub(super) fn new(api: &str, kafka: &str, seed: u64) -> Self {
        Self {
            api: api.to_owned(),
            kafka: kafka.to_owned(),
            seed,
            known: Arc::default(),
            next: Arc::default(),
            held: Arc::default(),
            stop: Arc::default(),
            busy: Arc::default(),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds everybody back, or lets them go on.
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::SeqCst);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether somebody is in the middle of something.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst) > 0
    }

    /// Does this again and again, with pauses, until it is to stop.
    pub(super) fn work(&self, mut random: Random, pause: u64, mut turn: impl FnMut(&mut Random)) {
        while !self.stop.load(Ordering::SeqCst) {
            self.busy.fetch_add(1, Ordering::SeqCst);
            if !self.held.load(Ordering::SeqCst) {
                turn(&mut random);
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            thread::park_timeout(Duration::from_millis(pause / 2 + random.below(pause)));
        }
    }

    /// A saga to ask for: a new one, or one that somebody asked for before.
    fn choose(&self, random: &mut Random) -> (Name, Value, bool) {
        let next = self.next.load(Ordering::SeqCst);
        let number = match next > 0 && random.below(2) == 0 {
            true => next.saturating_sub(1 + random.below(next.min(30))),
            false => self.next.fetch_add(1, Ordering::SeqCst),
        };
        let (saga_type, input) = machines::order(self.seed, number);
        let name = (saga_type.to_owned(), format!("order-{number}"));
        let mut known = self.known();
        known.asked.insert(name.clone(), input.clone());
        let is_known = known.answered.contains_key(&name);
        (name, input, is_known)
    }
}

/// Starts the clients.
pub(super) fn start(shared: &Shared, random: &mut Random) -> Result<Vec<JoinHandle<()>>> {
    let mut clients = Vec::new();
    for _ in 1..CLIENTS {
        let (shared, random) = (shared.clone(), Random::new(random.next()));
        clients.push(thread::spawn(move || {
            shared.work(random, PAUSE_MILLIS, |random| ask(&shared, random));
        }));
    }
    let producer = ClientConfig::new()
        .set("bootstrap.servers", &shared.kafka)
        .set("reconnect.backoff.max.ms", "300")
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (shared, random) = (shared.clone(), Random::new(random.next()));
    clients.push(thread::spawn(move || {
        shared.work(random, PAUSE_MILLIS, |random| {
            let (name, input, _) = shared.choose(random);
            // What is not acknowledged may be there or not.
            if runtime.block_on(record(&producer, &name, &input)).is_ok() {
                shared.known().recorded.insert(name);
            }
        });
    }));
    Ok(clients)
}

async fn record(producer: &FutureProducer, name: &Name, input: &Value) -> Result<()> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in [("saga-type", &name.0), ("idempotency-key", &name.1)] {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    let input = input.to_string();
    let record = FutureRecord::to(STARTS)
        .key(&name.1)
        .payload(&input)
        .headers(headers);
    let sent = producer.send(record, RECORDED_WITHIN).await;
    sent.map(|_delivery| ())
        .map_err(|(error, _)| anyhow!(error))
}

/// One start over HTTP; now and then with another input, which must be refused.
fn ask(shared: &Shared, random: &mut Random) {
    let (name, input, is_known) = shared.choose(random);
    let is_other = is_known && random.below(10) == 0;
    let input = if is_other {
        json!({ "other": true })
    } else {
        input
    };
    let body = json!({ "type": name.0, "key": name.1, "input": input });
    // No answer: it may have begun or not.
    let Ok((status, text)) = http::ask(&shared.api, "POST", "/api/v1/sagas", Some(&body)) else {
        return;
    };
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    let id = told["id"].as_str().unwrap_or_default().to_owned();
    let mut known = shared.known();
    let wrong = match (status, is_other) {
        (409, true) | (429 | 503, _) => None,
        (200 | 201, true) => Some("started again with another input"),
        (201, false) if is_known => Some("was new twice"),
        (200 | 201, false) => match known.answered.insert(name.clone(), id.clone()) {
            Some(other) if other != id => Some("has two ids"),
            _ => None,
        },
        _ => Some("was refused"),
    };
    if let Some(wrong) = wrong {
        known
            .violations
            .push(format!("{name:?} {wrong}: {status} {text}"));
    }
}
