//! A worker: a process of its own that does what sagas want done in one bank, and is killed.
//!
//! It answers wrongly in every way that is allowed: late, twice, again for an older dispatch, and with
//! a failure after it did its work. It never loses or repeats an effect: that is the bank's.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use super::bank::{Answer, Bank, Command};
use super::chaos::{Chaos, Point};
use super::http::{self, Request};

/// The first argument of a worker's process.
pub(crate) const WORKER: &str = "saga-worker";
/// How long one look for commands takes.
const LOOK: Duration = Duration::from_millis(50);
/// How long to wait before an answer is told again.
const AGAIN: Duration = Duration::from_millis(100);
/// One in so many answers is of each wrong kind.
const ODD_ONE_IN: u64 = 25;

/// What a worker is started with.
#[derive(Debug, Parser)]
struct Options {
    /// Its name within its group
    #[arg(long)]
    name: String,
    /// The bank's file
    #[arg(long)]
    bank: PathBuf,
    /// While this file exists, undos are not declined out of a mood
    #[arg(long)]
    sweet: PathBuf,
    #[arg(long)]
    seed: u64,
    /// Reads commands from this topic
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    #[arg(long)]
    kafka: Option<String>,
    /// Serves commands at this address
    #[arg(long)]
    http: Option<String>,
    /// The node's API, for answers that come later
    #[arg(long)]
    api: Option<String>,
}

/// Runs a worker until it is killed.
pub(crate) fn main() -> Result<()> {
    let options = Options::parse_from(std::env::args().skip(1));
    let worker = Worker {
        bank: Mutex::new(Bank::open(&options.bank)?),
        chaos: Chaos::new(options.seed),
        sweet: options.sweet.clone(),
        busy: AtomicI64::new(0),
    };
    match (&options.topic, &options.kafka, &options.http) {
        (Some(topic), Some(kafka), _) => worker.read(&options.name, topic, kafka),
        (_, _, Some(address)) => {
            let api = options.api.as_deref().context("--api is missing")?;
            Arc::new(worker).serve(address, api)
        }
        _ => anyhow::bail!("neither --topic nor --http"),
    }
}

#[derive(Debug)]
struct Worker {
    bank: Mutex<Bank>,
    chaos: Chaos,
    sweet: PathBuf,
    /// Requests that were not answered yet.
    busy: AtomicI64,
}

impl Worker {
    fn bank(&self) -> MutexGuard<'_, Bank> {
        self.bank.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, command: &Command, later: Option<&str>) -> Result<Answer> {
        let sweet = self.sweet.exists();
        self.bank().carry_out(command, later, sweet, &self.chaos)
    }

    fn odd(&self) -> bool {
        self.chaos.below(ODD_ONE_IN) == 0
    }

    /// Reads commands from a topic and answers in the topic that they name.
    fn read(&self, name: &str, topic: &str, kafka: &str) -> Result<()> {
        let config = || {
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", kafka)
                .set("reconnect.backoff.max.ms", "300");
            config
        };
        let producer: BaseProducer = config()
            .set("linger.ms", "0")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .create()?;
        let consumer: BaseConsumer = config()
            .set("group.id", group(topic))
            .set("group.instance.id", name)
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()?;
        consumer.subscribe(&[topic])?;
        loop {
            // Errors of a broker that is down, or of partitions that went to somebody else.
            let Some(Ok(message)) = consumer.poll(LOOK) else {
                continue;
            };
            self.command(&producer, &message)?;
            self.chaos.maybe(Point::AfterReply);
            // Not committed is read again.
            consumer.commit_message(&message, CommitMode::Async).ok();
        }
    }

    fn command(&self, producer: &BaseProducer, message: &BorrowedMessage<'_>) -> Result<()> {
        let header = |name: &str| {
            let headers = message.headers()?;
            let found = headers.iter().find(|header| header.key == name)?;
            std::str::from_utf8(found.value?).ok()
        };
        let need = |name: &str| header(name).with_context(|| format!("no header {name}"));
        let arguments = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let command = command(need, header("undo") == Some("true"), arguments)?;
        let generation = command.generation;
        let reply = |generation: i64, said: &str, value: &Value| {
            let headers = [
                ("saga-id", need("saga-id")?.to_owned()),
                ("step", need("step")?.to_owned()),
                ("generation", generation.to_string()),
                ("saga-reply", said.to_owned()),
            ];
            let mut all = OwnedHeaders::new();
            for (key, value) in &headers {
                let value = Some(value);
                all = all.insert(Header { key, value });
            }
            let value = value.to_string();
            let record = BaseRecord::to(need("reply-to")?).payload(&value);
            let record = record.key(need("saga-id")?).headers(all);
            producer.send(record).map_err(|(error, _)| error)?;
            Ok::<_, anyhow::Error>(())
        };
        let failed = json!({ "error": "Broken", "cause": "out of bad luck" });
        if self.odd() {
            reply(generation, "RETRYABLE", &failed)?;
        } else {
            if self.odd() {
                reply(generation, "HEARTBEAT", &Value::Null)?;
            }
            let answer = self.carry_out(&command, None)?;
            if self.odd() {
                // It is done, and the worker says that it failed.
                reply(generation, "RETRYABLE", &failed)?;
            } else {
                let (said, value) = match &answer {
                    Answer::Done(output) => ("SUCCESS", output.clone()),
                    Answer::Declined(error) => ("BUSINESS_FAILURE", json!({ "error": error })),
                };
                if generation > 1 && self.odd() {
                    reply(generation - 1, said, &value)?;
                }
                reply(generation, said, &value)?;
                if self.odd() {
                    reply(generation, said, &value)?;
                }
            }
        }
        while producer.in_flight_count() > 0 {
            producer.poll(LOOK);
        }
        Ok(())
    }

    /// Serves commands over HTTP, and answers some of them later.
    fn serve(self: Arc<Self>, address: &str, api: &str) -> Result<()> {
        let listener = TcpListener::bind(address)?;
        let worker = Arc::clone(&self);
        let handler = move |request: &Request| {
            if request.method == "GET" {
                return worker.idle();
            }
            worker.busy.fetch_add(1, Ordering::SeqCst);
            let answer = worker.request(request);
            worker.busy.fetch_sub(1, Ordering::SeqCst);
            answer
                .unwrap_or_else(|error| (500, json!({ "cause": format!("{error:#}") }).to_string()))
        };
        http::serve(listener, Arc::new(handler));
        loop {
            let later = self.bank().later()?;
            for (row, url, body) in &later {
                let path = url
                    .split_once("/api/")
                    .map(|(_, path)| format!("/api/{path}"));
                let path = path.context("the callback is no address of the API")?;
                let body = serde_json::from_str(body)?;
                match http::ask(api, "POST", &path, Some(&body)) {
                    // A dispatch that nobody waits for any more is refused, which ends it too.
                    Ok((status, _)) if status < 500 && status != 429 => self.bank().told(*row)?,
                    Ok(_) | Err(_) => break,
                }
                self.chaos.maybe(Point::AfterReply);
            }
            std::thread::park_timeout(AGAIN);
        }
    }

    fn idle(&self) -> (u16, String) {
        let busy = self.busy.load(Ordering::SeqCst);
        (200, json!({ "busy": busy }).to_string())
    }

    fn request(&self, request: &Request) -> Result<(u16, String)> {
        let undo = request
            .headers
            .get("undo")
            .is_some_and(|undo| undo == "true");
        let need = |name: &str| request.header(name);
        let command = command(need, undo, serde_json::from_slice(&request.body)?)?;
        if self.odd() {
            return Ok((503, "{}".to_owned()));
        }
        if self.chaos.below(3) == 0 {
            let callback = request.header("saga-callback")?;
            self.carry_out(&command, Some(callback))?;
            return Ok((202, String::new()));
        }
        let answer = self.carry_out(&command, None)?;
        if self.odd() {
            return Ok((502, "it is done, and nobody says so".to_owned()));
        }
        Ok(match answer {
            Answer::Done(output) => (200, output.to_string()),
            Answer::Declined(error) => (409, json!({ "error": error }).to_string()),
        })
    }
}

/// The group of the workers of a topic.
pub(super) fn group(topic: &str) -> String {
    format!("bank-{topic}")
}

fn command<'a>(
    need: impl Fn(&str) -> Result<&'a str>,
    undo: bool,
    arguments: Value,
) -> Result<Command> {
    let key = need("idempotency-key")?;
    Ok(Command {
        step_name: need("step-name")?.to_owned(),
        generation: need("generation")?.parse()?,
        key: key.strip_suffix("/undo").unwrap_or(key).to_owned(),
        undo,
        arguments,
    })
}
