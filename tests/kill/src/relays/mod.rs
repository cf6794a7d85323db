//! Relays under random SIGKILLs of node and database.
//!
//! Writers of every kind work on a Postgres and a MariaDB, while relays of every kind move the rows to
//! one broker, and all of it is killed at random moments. At the end the table says what was committed,
//! and the topics are read by a Kafka client: each committed row once, none that was rolled back, the
//! order of each aggregate kept. A relay that writes over the Kafka protocol may repeat rows with the
//! same id. Then the broker is killed once more, and nothing may have changed.

mod check;
mod read;
mod store;
mod world;
mod write;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::DatabaseKind;
use sqlx::{MySql, Postgres};
use tokio::task::JoinHandle;

use self::check::Row;
use self::store::{Store, topics_of};
use self::world::{RELAYS, VICTIMS, World, pass, tell};
use self::write::{Journal, Writer};
use crate::random::{Deck, Random};
use crate::{Score, say};

/// How often something is killed, unless it is said.
pub(crate) const STRIKES: u64 = 14;
/// How many writers each database has.
const WRITERS: u64 = 6;
/// Within this time after everything is up again a writer must have got through.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// Within this time the writers must have ended.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// The writers of one database.
struct Load {
    name: &'static str,
    journal: Journal,
    tasks: Vec<JoinHandle<Result<()>>>,
}

/// Runs it all: `scratch` is empty.
pub(crate) fn run(
    wharf: &Path,
    scratch: &Path,
    seed: u64,
    strikes: u64,
    score: &mut Score,
) -> Result<()> {
    let mut world = World::start(wharf, scratch)?;
    let mut random = Random::new(seed);
    let mut loads = [
        load::<Postgres>(&world, DatabaseKind::Postgres, &mut random),
        load::<MySql>(&world, DatabaseKind::MariaDb, &mut random),
    ];
    let (mut deck, mut lives) = (Deck::of(&VICTIMS), BTreeMap::new());
    for strike in 1..=strikes {
        let before = loads.each_ref().map(|load| load.journal.known().committed);
        pass(Duration::from_millis(200 + random.below(2_000)));
        written(&loads, before)?;
        let moved = world.moved()?;
        for (name, rows, _) in &moved {
            *lives.entry(name.clone()).or_insert(0_u64) += u64::from(*rows > 0);
        }
        let victim = deck.draw(&mut random);
        tell(strike, victim, &moved);
        world.strike(victim, &mut random)?;
        ensure!(!harness::interrupted(), "interrupted");
    }
    for load in &mut loads {
        stop(&world, load)?;
    }
    score.note("the load got through", &idle(&loads, &lives, strikes));
    let tables = [
        table::<Postgres>(&world, DatabaseKind::Postgres, &loads[0], score)?,
        table::<MySql>(&world, DatabaseKind::MariaDb, &loads[1], score)?,
    ];
    compare(&world, &tables, score, "after the load")?;
    world.restart_near()?;
    compare(&world, &tables, score, "after one more kill")?;
    world.stop()
}

fn load<S: Store>(world: &World, kind: DatabaseKind, random: &mut Random) -> Load {
    let journal = Journal::default();
    let writer = |_| {
        let writer = Writer {
            url: world.url(kind),
            random: Random::new(random.next()),
            journal: journal.clone(),
        };
        world.runtime().spawn(writer.run::<S>())
    };
    Load {
        name: S::NAME,
        tasks: (0..WRITERS).map(writer).collect(),
        journal,
    }
}

/// Waits until each load has committed more than before.
fn written(loads: &[Load; 2], before: [usize; 2]) -> Result<()> {
    let deadline = Instant::now() + WRITTEN_WITHIN;
    for (load, before) in loads.iter().zip(before) {
        while load.journal.known().committed <= before {
            if Instant::now() > deadline || load.tasks.iter().all(JoinHandle::is_finished) {
                bail!("nobody gets through to {}", load.name);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn stop(world: &World, load: &mut Load) -> Result<()> {
    load.journal.stop.store(true, Ordering::SeqCst);
    let ending = async {
        for task in &mut load.tasks {
            task.await?.context("a writer could not go on")?;
        }
        Ok(())
    };
    let ended = world
        .runtime()
        .block_on(async { tokio::time::timeout(ENDED_WITHIN, ending).await });
    ended.with_context(|| format!("the writers of {} do not end", load.name))?
}

/// What did not happen often enough for the run to show anything.
fn idle(loads: &[Load; 2], lives: &BTreeMap<String, u64>, strikes: u64) -> Vec<String> {
    let mut findings = Vec::new();
    for load in loads {
        let known = load.journal.known();
        say(&format!("{}: {:?}", load.name, known.shapes));
        let missing = write::needed().filter(|shape| !known.shapes.contains_key(shape));
        findings.extend(missing.map(|shape| format!("{}: no transaction {shape}", load.name)));
    }
    for relay in &RELAYS {
        let lives = lives.get(relay.name).copied().unwrap_or(0);
        if lives * 3 < strikes {
            let name = relay.name;
            findings.push(format!(
                "{name}: moved rows before {lives} of {strikes} strikes only"
            ));
        }
    }
    findings
}

/// What is committed, after comparing it with what the writers know.
fn table<S: Store>(
    world: &World,
    kind: DatabaseKind,
    load: &Load,
    score: &mut Score,
) -> Result<Vec<Row>> {
    let url = world.url(kind);
    let rows = world.runtime().block_on(store::committed::<S>(&url))?;
    let findings = check::table(&load.journal.known().fates, &rows);
    score.note(&format!("the table of {}", S::NAME), &findings);
    Ok(rows)
}

/// Compares every topic with its table.
fn compare(world: &World, tables: &[Vec<Row>; 2], score: &mut Score, when: &str) -> Result<()> {
    for relay in &RELAYS {
        let what = format!("{} {when}", relay.name);
        if let Some(why) = world.drain(relay)? {
            score.note(&format!("{what}: it has nothing left to do"), &[why]);
        }
        let mut arrived = Vec::new();
        for topic in topics_of(relay.name) {
            arrived.extend(read::topic(world.broker(), relay.name, &topic)?);
        }
        let rows = &tables[usize::from(relay.kind == DatabaseKind::MariaDb)];
        let mut findings = check::topics(rows, &arrived, relay.promise);
        let aside = format!("dlq.outbox.{}.relay", relay.name);
        if read::topics(world.broker())?.contains(&aside) {
            findings.push("a row was set aside".to_owned());
        }
        say(&format!(
            "{what}: {} rows, {} records",
            rows.len(),
            arrived.len()
        ));
        score.note(&what, &findings);
    }
    Ok(())
}
