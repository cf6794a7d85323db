//! Clients of the schema registry, and what must hold of their schemas through every kill.
//!
//! Workers register schemas under subjects that they share, the same ones and new ones, and register,
//! delete and delete for good under subjects of their own. A number in each schema tells it from all
//! others. What is checked: every registration that was answered is there with its id; an id means one
//! schema and a schema has one id, in everything that was ever answered or served; nothing is there
//! that nobody sent; what was deleted for good stays gone, and is gone whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::random::Random;

/// How many clients there are.
const WORKERS: u64 = 3;
/// How many subjects they share.
const SUBJECTS: u64 = 6;
/// One in so many turns goes to a subject of one's own, from beginning to end.
const OWN_ONE_IN: u64 = 6;
/// The most that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many schemas are listed at once.
const PAGE: usize = 1_000;

/// What is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The numbers that were sent.
    attempted: BTreeSet<u64>,
    /// What was answered: by subject and number, the id.
    registered: BTreeMap<(String, u64), i64>,
    /// Every id that was ever answered or served, with its number.
    ids: BTreeMap<i64, u64>,
    /// The same the other way round.
    numbers: BTreeMap<u64, i64>,
    /// Subjects of which both versions were answered.
    whole: BTreeSet<String>,
    /// Subjects whose deletion for good was answered.
    gone: BTreeSet<String>,
    /// What was seen to be wrong meanwhile.
    violations: Vec<String>,
}

/// A version as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    subject: String,
    version: i64,
    id: i64,
    number: u64,
}

/// The clients and what they know.
pub(crate) struct Schemas {
    address: String,
    facts: Arc<Mutex<Facts>>,
    workers: Vec<JoinHandle<()>>,
}

impl Facts {
    /// How many registrations were answered.
    pub(crate) fn answered(&self) -> usize {
        self.registered.len()
    }

    /// Notes what an id means; once and for all.
    fn means(&mut self, id: i64, number: u64) {
        let known = *self.ids.entry(id).or_insert(number);
        if known != number {
            let text = format!("the id {id} means f{number} and meant f{known} before");
            self.violations.push(text);
        }
        let other = *self.numbers.entry(number).or_insert(id);
        if other != id {
            let text = format!("f{number} has the id {id} and had {other} before");
            self.violations.push(text);
        }
    }

    /// Compares what was known before with what was served after; `self` learns from it.
    pub(crate) fn check(&mut self, before: &Self, served: &[Version]) -> Vec<String> {
        let mut subjects: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
        for version in served {
            subjects.entry(&version.subject).or_default().push(version);
            if !self.attempted.contains(&version.number) {
                let text = format!("f{} of {} was never sent", version.number, version.subject);
                self.violations.push(text);
            }
            self.means(version.id, version.number);
        }
        let mut found = std::mem::take(&mut self.violations);
        for ((subject, number), id) in &before.registered {
            let there = |version: &&Version| version.number == *number && version.id == *id;
            let versions = subjects
                .get(subject.as_str())
                .map_or(&[][..], Vec::as_slice);
            match versions.iter().copied().filter(there).count() {
                1 => {}
                count => found.push(format!(
                    "f{number} with id {id} is {count} times in {subject}"
                )),
            }
        }
        for (subject, versions) in &subjects {
            if before.gone.contains(*subject) {
                found.push(format!("{subject} was deleted for good and is there"));
            }
            let numbers: BTreeSet<_> = versions.iter().map(|version| version.version).collect();
            if numbers.len() != versions.len() {
                found.push(format!("a version of {subject} is there twice"));
            }
            if before.whole.contains(*subject) && versions.len() != 2 {
                found.push(format!("{subject} is half deleted: {numbers:?} is left"));
            }
        }
        found
    }
}

impl Schemas {
    /// Starts the clients; the registry stays at its address.
    pub(crate) fn start(address: &str, stop: &Arc<AtomicBool>, seed: u64) -> Result<Self> {
        let level = json!({ "compatibility": "NONE" });
        let (status, told) = ask(address, "PUT", "/config", Some(&level))?;
        ensure!(status == 200, "the level cannot be set: {told}");
        let facts = Arc::new(Mutex::new(Facts::default()));
        let worker = |worker: u64| {
            let (address, facts, stop) = (address.to_owned(), Arc::clone(&facts), Arc::clone(stop));
            thread::spawn(move || {
                let random = Random::new(seed.wrapping_add(worker));
                work(&address, &facts, &stop, worker, random);
            })
        };
        let workers = (1..=WORKERS).map(worker).collect();
        Ok(Self {
            address: address.to_owned(),
            facts,
            workers,
        })
    }

    /// Waits until the clients have ended.
    pub(crate) fn join(&mut self) -> Result<()> {
        for worker in self.workers.drain(..) {
            let ended = worker.join();
            ended
                .map_err(|panic| anyhow::anyhow!("a client of the registry panicked: {panic:?}"))?;
        }
        Ok(())
    }

    /// Asks for everything and compares; may go on while the clients do.
    pub(crate) fn check(&self) -> Result<Vec<String>> {
        let before = lock(&self.facts).clone();
        let served = served(&self.address)?;
        Ok(lock(&self.facts).check(&before, &served))
    }

    /// How many registrations were answered, and how many subjects deleted for good.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let facts = lock(&self.facts);
        (facts.answered(), facts.gone.len())
    }
}

fn lock(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works until it is told to stop, through every death of the registry.
fn work(address: &str, facts: &Mutex<Facts>, stop: &AtomicBool, worker: u64, mut random: Random) {
    for turn in 1.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if random.below(OWN_ONE_IN) == 0 {
            let subject = format!("own-{worker}-{turn}");
            // Whatever is not answered is not known to have happened, and is left as it is.
            own(address, facts, &subject, turn * 1_000 + worker).ok();
            continue;
        }
        // Everybody sends the same few new ones, so several send one at the same time.
        let number = 1_000_000_000 + turn / 2 + random.below(3);
        let subject = format!("shared-{}", random.below(SUBJECTS));
        if let Ok(id) = register(address, facts, &subject, number) {
            let mut facts = lock(facts);
            let old = facts.registered.insert((subject.clone(), number), id);
            if old.is_some_and(|old| old != id) {
                let text = format!("f{number} of {subject} has the ids {old:?} and {id}");
                facts.violations.push(text);
            }
        }
    }
}

/// The whole life of a subject.
fn own(address: &str, facts: &Mutex<Facts>, subject: &str, number: u64) -> Result<()> {
    register(address, facts, subject, number)?;
    register(address, facts, subject, number + 500)?;
    let path = format!("/subjects/{subject}");
    // From here on a part of it may be gone only with all of it.
    lock(facts).whole.insert(subject.to_owned());
    let (status, told) = ask(address, "DELETE", &path, None)?;
    ensure!(status == 200, "{told}");
    let (status, told) = ask(address, "DELETE", &format!("{path}?permanent=true"), None)?;
    ensure!(status == 200, "{told}");
    lock(facts).gone.insert(subject.to_owned());
    Ok(())
}

/// Registers a schema; its id.
fn register(address: &str, facts: &Mutex<Facts>, subject: &str, number: u64) -> Result<i64> {
    lock(facts).attempted.insert(number);
    let fields = json!([{ "name": format!("f{number}"), "type": "string" }]);
    let schema = json!({ "type": "record", "name": "Killed", "fields": fields }).to_string();
    let path = format!("/subjects/{subject}/versions");
    let (status, told) = ask(address, "POST", &path, Some(&json!({ "schema": schema })))?;
    let mut facts = lock(facts);
    let Some(id) = told["id"].as_i64().filter(|_| status == 200) else {
        // What the end of the node is answered with; everything else is a finding.
        if told["error_code"] != 50001 {
            facts
                .violations
                .push(format!("f{number} was refused: {told}"));
        }
        anyhow::bail!("refused");
    };
    facts.means(id, number);
    Ok(id)
}

/// Everything that is there. The clients go on meanwhile, so a list must not move between its pages:
/// the subjects of one's own, which come and go, fit on one page, and each shared one only grows.
fn served(address: &str) -> Result<Vec<Version>> {
    let (status, told) = ask(address, "GET", "/subjects?deleted=true", None)?;
    let subjects = told.as_array().filter(|_| status == 200);
    for subject in subjects.with_context(|| format!("the subjects cannot be listed: {told}"))? {
        let name = subject.as_str().unwrap_or_default();
        let is_known = ["own-", "shared-"]
            .iter()
            .any(|known| name.starts_with(known));
        ensure!(is_known, "nobody sent the subject {subject}");
    }
    let mut versions = listed(address, "own-")?;
    for subject in 0..SUBJECTS {
        versions.extend(listed(address, &format!("shared-{subject}"))?);
    }
    Ok(versions)
}

/// The versions of the subjects that begin so.
fn listed(address: &str, prefix: &str) -> Result<Vec<Version>> {
    let mut versions = Vec::new();
    loop {
        let offset = versions.len();
        let path =
            format!("/schemas?subjectPrefix={prefix}&deleted=true&offset={offset}&limit={PAGE}");
        let (status, told) = ask(address, "GET", &path, None)?;
        let page = told.as_array().filter(|_| status == 200);
        let page = page.with_context(|| format!("the schemas cannot be listed: {told}"))?;
        for version in page {
            versions.push(read(version).with_context(|| format!("it is no version: {version}"))?);
        }
        if page.len() < PAGE {
            return Ok(versions);
        }
    }
}

fn read(version: &Value) -> Option<Version> {
    let schema: Value = serde_json::from_str(version["schema"].as_str()?).ok()?;
    let field = schema["fields"][0]["name"].as_str()?;
    Some(Version {
        subject: version["subject"].as_str()?.to_owned(),
        version: version["version"].as_i64()?,
        id: version["id"].as_i64()?,
        number: field.strip_prefix('f')?.parse().ok()?,
    })
}

/// One request over a connection of its own: the status and what was told.
fn ask(address: &str, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer was cut")?;
    let status = head
        .split(' ')
        .nth(1)
        .context("there is no status")?
        .parse()?;
    Ok((status, serde_json::from_str(body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(subject: &str, version: i64, id: i64, number: u64) -> Version {
        Version {
            subject: subject.to_owned(),
            version,
            id,
            number,
        }
    }

    fn facts() -> Facts {
        Facts {
            attempted: BTreeSet::from([1, 2, 3]),
            registered: BTreeMap::from([(("a".to_owned(), 1), 10), (("b".to_owned(), 2), 20)]),
            ids: BTreeMap::from([(10, 1), (20, 2)]),
            numbers: BTreeMap::from([(1, 10), (2, 20)]),
            whole: BTreeSet::from(["own".to_owned()]),
            gone: BTreeSet::from(["gone".to_owned()]),
            violations: Vec::new(),
        }
    }

    fn found(served: &[Version]) -> Vec<String> {
        let mut facts = facts();
        let before = facts.clone();
        facts.check(&before, served)
    }

    #[test]
    fn what_was_answered_and_sent_is_right() {
        let served = [
            version("a", 1, 10, 1),
            version("b", 1, 20, 2),
            version("b", 2, 30, 3),
        ];
        assert_eq!(found(&served), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_break_the_promise_is_found() {
        let (a, b) = (version("a", 1, 10, 1), version("b", 1, 20, 2));
        for (served, expected) in [
            (vec![a.clone()], "is 0 times in b"),
            (
                vec![a.clone(), b.clone(), version("b", 2, 20, 2)],
                "is 2 times in b",
            ),
            (
                vec![a.clone(), b.clone(), version("c", 1, 40, 4)],
                "never sent",
            ),
            (
                vec![a.clone(), b.clone(), version("c", 1, 10, 3)],
                "means f3 and meant f1",
            ),
            (
                vec![a.clone(), b.clone(), version("c", 1, 30, 1)],
                "has the id 30 and had 10",
            ),
            (
                vec![a.clone(), b.clone(), version("gone", 1, 30, 3)],
                "deleted for good",
            ),
            (
                vec![a.clone(), b.clone(), version("own", 2, 30, 3)],
                "half deleted",
            ),
            (vec![a, b, version("b", 1, 30, 3)], "there twice"),
        ] {
            let found = found(&served);
            assert!(
                found.iter().any(|text| text.contains(expected)),
                "{expected}: {found:?}"
            );
        }
    }
}
