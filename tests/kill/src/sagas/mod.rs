//! Sagas that transfer money, under random SIGKILLs of the orchestrator and of its workers.
//!
//! Clients start transfers between the accounts of two banks, each with the same keys again and again,
//! over HTTP and by records. The workers of one bank read a topic, those of the other are asked over
//! HTTP and answer some tasks later. Everything that may go wrong does: node and workers are killed and
//! stopped, workers die between their commit and their answer, answer twice or too late, decline for
//! good; operators get in the way. Now and then everybody holds still, and all that was promised is
//! compared with the books of the banks ([`check`]); the node is killed once more, and what it says of
//! every saga must be the same, byte by byte.

mod bank;
mod chaos;
mod check;
mod clients;
mod http;
mod machines;
mod operators;
mod read;
mod signals;
mod worker;
mod world;

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use self::check::{Alarm, Evidence, moments};
use self::clients::Shared;
use self::world::{VICTIMS, World};
use crate::random::{Deck, Random};
use crate::{Score, say};

pub(crate) use self::worker::{WORKER, main as work};

/// How often something is struck, unless it is said.
pub(crate) const STRIKES: u64 = 20;
/// After so many strikes everybody holds still.
const STILL_AFTER: u64 = 10;
/// The banks, each a file.
const BANKS: [&str; 2] = [machines::NORTH, "south"];
/// Within this time every saga must have come to rest once nobody gets in its way.
const REST_WITHIN: Duration = Duration::from_secs(120);
/// How often all that is parked is tried again at the end.
const REPAIRS: usize = 2;

/// The alarms that were posted.
type Posted = Arc<Mutex<Vec<Alarm>>>;

/// Runs it all: `scratch` is empty.
pub(crate) fn run(
    wharf: &Path,
    scratch: &Path,
    seed: u64,
    strikes: u64,
    score: &mut Score,
) -> Result<()> {
    let posted = Posted::default();
    let webhook = webhook(&posted)?;
    let mut world = World::start(wharf, scratch, &webhook, seed)?;
    let mut random = Random::new(seed);
    let shared = Shared::new(world.api(), world.kafka(), seed);
    let mut people = clients::start(&shared, &mut random)?;
    people.extend(operators::start(&shared, &mut random));
    people.push(signals::start(&shared, &mut random));
    let mut deck = Deck::of(&VICTIMS);
    for strike in 1..=strikes {
        world.pass(Duration::from_millis(300 + random.below(1_500)))?;
        world.sweeten(random.below(2) == 0)?;
        let victim = deck.draw(&mut random);
        say(&format!("strike {strike}: {victim:?}"));
        world.strike(victim, &mut random)?;
        ensure!(!harness::interrupted(), "interrupted");
        if strike % STILL_AFTER == 0 && strike < strikes {
            shared.hold(true);
            rest(&mut world, &shared)?;
            compare(
                &mut world,
                &shared,
                score,
                &format!("after strike {strike}"),
            )?;
            shared.hold(false);
        }
    }
    shared.hold(true);
    world.sweeten(true)?;
    rest(&mut world, &shared)?;
    for _ in 0..REPAIRS {
        operators::retry_all(&shared)?;
        rest(&mut world, &shared)?;
    }
    let evidence = compare(&mut world, &shared, score, "at the end")?;
    shared.stop();
    for person in people {
        person
            .join()
            .map_err(|panic| anyhow::anyhow!("a client panicked: {panic:?}"))?;
    }
    let posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
    score.note("alarms are posted", &unposted(&evidence, &posted));
    score.note("the load got through", &idle(&evidence, &world));
    drop(posted);
    world.stop()
}

/// Takes alarms, and says where.
fn webhook(posted: &Posted) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let posted = Arc::clone(posted);
    let handler = move |request: &http::Request| {
        let alarm = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.push(read::alarm_of(&alarm));
        (200, "{}".to_owned())
    };
    http::serve(listener, Arc::new(handler));
    Ok(address)
}

/// Waits until nothing is under way: no saga goes on, no command waits, no answer is owed.
fn rest(world: &mut World, shared: &Shared) -> Result<()> {
    let deadline = Instant::now() + REST_WITHIN;
    loop {
        let why = unrest(world, shared).unwrap_or_else(|error| Some(format!("{error:#}")));
        let Some(why) = why else { return Ok(()) };
        ensure!(
            Instant::now() < deadline,
            "no rest within {REST_WITHIN:?}: {why}"
        );
        world.pass(Duration::from_millis(200))?;
    }
}

fn unrest(world: &mut World, shared: &Shared) -> Result<Option<String>> {
    if shared.is_busy() {
        return Ok(Some("a client is busy".to_owned()));
    }
    let api = world.api();
    operators::resume_all(shared)?;
    signals::sign_all(shared)?;
    // A sub-saga that waits for a person holds up its parent.
    let parked = read::list(api, "&status=PARKED")?;
    let holds_up = |row: &&Value| parked.iter().any(|child| child["parent"] == row["id"]);
    for status in ["RUNNING", "COMPENSATING"] {
        let rows = read::list(api, &format!("&status={status}"))?;
        if let Some(row) = rows.iter().find(|row| !holds_up(row)) {
            let id = row["id"].as_str().unwrap_or_default();
            let shown = http::read_text(api, &format!("/api/v1/sagas/{id}"))?;
            return Ok(Some(format!(
                "{} are {status}, such as {shown}",
                rows.len()
            )));
        }
    }
    let there: Vec<_> = read::list(api, "")?;
    let recorded = shared.known().recorded.clone();
    let is_there = |(saga_type, key): &check::Name| {
        let mut rows = there.iter();
        rows.any(|row| row["type"] == **saga_type && row["key"] == **key)
    };
    if let Some(missing) = recorded.iter().find(|name| !is_there(name)) {
        return Ok(Some(format!("{missing:?} was recorded and did not begin")));
    }
    let lag = read::lag(world.kafka())?;
    if lag > 0 {
        return Ok(Some(format!("{lag} commands are unread")));
    }
    world.serve()?;
    for bank in BANKS {
        let file = world.scratch().join(bank).with_extension("db");
        let owed = bank::Bank::open(&file)?.books()?.later;
        if owed > 0 {
            return Ok(Some(format!("{bank} owes {owed} answers")));
        }
    }
    Ok(None)
}

/// Compares everything, kills the node, and compares what it says with what it said.
fn compare(world: &mut World, shared: &Shared, score: &mut Score, when: &str) -> Result<Evidence> {
    let known = shared.known().clone();
    let evidence = read::evidence(world.kafka(), world.api(), world.scratch(), known)?;
    tell(&evidence, world, when);
    for (what, findings) in check::all(&evidence) {
        score.note(&format!("{what} {when}"), &findings);
    }
    let before = read::bytes(world.api())?;
    world.restart()?;
    let after = read::bytes(world.api())?;
    score.note(
        &format!("byte-equal after one more kill {when}"),
        &read::differences(&before, &after),
    );
    Ok(evidence)
}

fn tell(evidence: &Evidence, world: &World, when: &str) {
    let mut counts = std::collections::BTreeMap::new();
    for seen in evidence.sagas.values() {
        let status = seen.shown["status"].as_str().unwrap_or_default();
        *counts.entry(status.to_owned()).or_insert(0) += 1;
    }
    let rows: usize = evidence.books.iter().map(|books| books.ledger.len()).sum();
    let undos = evidence.books.iter().flat_map(|books| &books.ledger);
    let undos = undos.filter(|entry| entry.undo).count();
    say(&format!(
        "{when}: {} sagas {counts:?}, {rows} effects of which {undos} undos, {} dispatches to the \
         topic, {} alarms, {} actions recorded; {} kills, {} workers died by themselves",
        evidence.sagas.len(),
        evidence.commands.len(),
        evidence.alarms.len(),
        evidence.audit.len(),
        world.kills,
        world.deaths,
    ));
}

/// Every alarm that was posted is recorded, and some were posted: one that a kill cut off is not
/// posted again, which is why the topic counts.
fn unposted(evidence: &Evidence, posted: &[Alarm]) -> Vec<String> {
    let strange = posted
        .iter()
        .filter(|alarm| !evidence.alarms.contains(alarm));
    let mut found: Vec<_> = strange
        .map(|alarm| format!("{alarm:?} was posted and is not recorded"))
        .collect();
    if posted.is_empty() || posted.len() * 2 < evidence.alarms.len() {
        found.push(format!(
            "{} of {} alarms were posted",
            posted.len(),
            evidence.alarms.len()
        ));
    }
    found
}

/// What did not happen often enough for the run to show anything.
fn idle(evidence: &Evidence, world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for status in ["COMPLETED", "COMPENSATED", "ABORTED_BY_OPERATOR", "PARKED"] {
        let has = evidence
            .sagas
            .values()
            .any(|seen| seen.shown["status"] == status);
        if !has {
            found.push(format!("no saga is {status}"));
        }
    }
    for (what, count) in [
        ("no deadline turned a saga back", moments::overdue(evidence)),
        ("no sub-saga was given up", moments::given_up(evidence)),
        ("no signal was sent", evidence.known.signals.len()),
    ] {
        if count == 0 {
            found.push(what.to_owned());
        }
    }
    if world.deaths == 0 {
        found.push("no worker died by itself".to_owned());
    }
    if world.has_disk() && world.fulls == 0 {
        found.push("the disk was never full for anybody".to_owned());
    }
    let undone = evidence.books.iter().flat_map(|books| &books.ledger);
    if !undone.clone().any(|entry| entry.undo && !entry.nothing) {
        found.push("nothing was undone".to_owned());
    }
    found
}
