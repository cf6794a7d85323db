//! The proof: consumers that are broken in known ways are caught, and correct ones are not.

mod broken;
mod correct;
mod store;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wharf_message::{Message, header};

use self::store::Database;
use super::{Fault, Given, Recorder, Report, Schedule, Step, Verdict, check};

/// What a consumer has: a database and an outer world that outlive its crashes, and its memory.
#[derive(Clone, Debug, Default)]
struct World {
    database: Database,
    sent: Recorder,
    /// A source of ids that are never the same.
    ids: Arc<Mutex<u64>>,
    memory: Arc<Mutex<HashSet<String>>>,
}

impl World {
    /// The same world for a process that begins anew.
    fn after_a_crash(&self) -> Self {
        Self {
            memory: Arc::default(),
            ..self.clone()
        }
    }

    fn new_id(&self) -> String {
        let mut last = self.ids.lock().unwrap();
        *last += 1;
        format!("random-{last}")
    }

    /// Whether this process has not seen it before.
    fn is_new_to_memory(&self, id: &str) -> bool {
        self.memory.lock().unwrap().insert(id.to_owned())
    }

    fn publish(&self, id: &str, input: &Input) {
        let message = Message::new(json!({"account": input.account}).to_string())
            .with_header(header::CE_ID, id.to_owned())
            .with_header(header::CE_TYPE, "credited");
        self.sent.published("credits", &message);
    }
}

/// A deposit as the consumers read it.
#[derive(Clone, Debug)]
struct Input {
    /// Source and id: what a message is known by.
    identity: String,
    id: String,
    account: String,
    amount: i64,
    /// Counts the messages of an account.
    sequence: i64,
    position: String,
    time: String,
    payload: String,
}

impl Input {
    fn read(given: &Given) -> Self {
        let message = &given.message;
        let header = |name| message.headers.text(name).unwrap().unwrap().to_owned();
        let payload = String::from_utf8(message.payload.clone().unwrap().to_vec()).unwrap();
        let body: Value = serde_json::from_str(&payload).unwrap();
        Self {
            identity: format!("{}/{}", header(header::CE_SOURCE), header(header::CE_ID)),
            id: header(header::CE_ID),
            account: body["account"].as_str().unwrap().to_owned(),
            amount: body["amount"].as_i64().unwrap(),
            sequence: header("ce_sequence").parse().unwrap(),
            position: given.position.to_string(),
            time: message.timestamp.unwrap().to_string(),
            payload,
        }
    }
}

type Handling = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// A consumer, and what must be said of it.
struct Specimen {
    name: &'static str,
    verdict: Verdict,
    /// The shortest schedules that show it, one of which must be found.
    minimal: &'static [&'static str],
    handle: fn(World, Input) -> Handling,
}

const SEEDS: [u64; 3] = [1, 7, 2026];
const NOT: Verdict = Verdict::NotIdempotent;

fn within(others: usize) -> Verdict {
    Verdict::WithinWindow {
        others,
        declared: false,
    }
}

/// Deposits to three accounts. Two only look alike (1 and 4), and two sources use the same id
/// (1 and 5); the last of an account closes it.
fn messages() -> Vec<Message> {
    let mut sequences = std::collections::BTreeMap::new();
    let rows = [
        ("shop", "1", "a", 10),
        ("shop", "2", "b", 20),
        ("shop", "3", "a", 30),
        ("shop", "4", "a", 10),
        ("bank", "1", "c", 50),
        ("shop", "5", "b", 60),
        ("bank", "2", "c", 70),
        ("shop", "6", "a", 0),
        ("shop", "7", "b", 90),
    ];
    let message =
        |(source, id, account, amount): (&'static str, &'static str, &'static str, i64)| {
            let sequence: &mut i64 = sequences.entry(account).or_default();
            *sequence += 1;
            Message::new(json!({"account": account, "amount": amount}).to_string())
                .with_key(account)
                .with_header(header::CE_SOURCE, source)
                .with_header(header::CE_ID, id)
                .with_header("ce_sequence", sequence.to_string())
        };
    rows.into_iter().map(message).collect()
}

async fn judge(specimen: &Specimen, seed: u64) -> Report {
    let world = World::default();
    let start = || {
        let (world, handle) = (world.after_a_crash(), specimen.handle);
        move |given: Given| handle(world.clone(), Input::read(&given))
    };
    let check = check(specimen.name, start)
        .messages(messages())
        .recorder(&world.sent)
        .reset(async || world.database.clear())
        .effects(async || world.database.effects())
        .window_passes(async || world.database.forget("remembered for a time"))
        .ignore("outbox:value.id")
        .ignore("log:key")
        .seed(seed);
    check
        .report()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}", specimen.name))
}

/// The schedule with its messages numbered from 1: which of those that would do is left to chance.
fn ranked(mut schedule: Schedule) -> String {
    let messages = schedule.messages();
    for step in &mut schedule.steps {
        if let Step::Deliver { message, .. } = step {
            *message = messages.iter().position(|one| one == message).unwrap();
        }
    }
    schedule.to_string()
}

#[tokio::test]
async fn every_broken_consumer_is_caught_by_the_shortest_schedule() {
    let mut missed = String::new();
    for specimen in broken::all() {
        for seed in SEEDS {
            let report = judge(&specimen, seed).await;
            let minimal = report
                .failure()
                .map(|failure| ranked(failure.minimal.clone()));
            let known = minimal
                .as_deref()
                .is_some_and(|line| specimen.minimal.contains(&line));
            if !known || report.verdict != specimen.verdict {
                missed.push_str(&format!("seed {seed}, by {minimal:?}: {report}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[tokio::test]
async fn no_correct_consumer_is_blamed() {
    let mut blamed = String::new();
    for specimen in correct::all() {
        for seed in SEEDS {
            let report = judge(&specimen, seed).await;
            assert_eq!(report.untested, [Fault::ReorderWithinKey]);
            if report.verdict != Verdict::Idempotent {
                blamed.push_str(&format!("seed {seed}: {report}"));
            }
        }
    }
    assert!(blamed.is_empty(), "{blamed}");
}
