//! The one task of the role: reads what is new, judges it, writes what came of it, takes contracts in.
//!
//! Every contract, and the lens, has a follower of its own, because each begins at another time. What
//! is judged while a contract's topics are read for the first time is told only at the end of it, and
//! only what was not told before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use wharf_broker::{Broker, Context, Topic, TopicRef};
use wharf_message::{Code, Timestamp};
use wharf_saga::choreography::verdict::{Change, Kind};
use wharf_saga::choreography::{Contract, Observed};

use super::contracts::{CONTRACTS, Kept};
use super::follow::{Follower, Round};
use super::shared::{Command, Shared, Watched, What, locked};
use super::verdicts::{VERDICTS, Verdicts};
use crate::clock;
use crate::config::{Choreography, Limit};
use crate::flag::raised;
use crate::webhook::Webhook;

/// The pause between rounds when nothing is new.
const PAUSE: Duration = Duration::from_millis(200);
/// Where something is behind, this much of a round's own time is left to others.
const REST: u32 = 2;
/// After a round without news it rests so many times as long as that took.
const IDLE_REST: u32 = 20;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The pause after the topics could not be used.
const TROUBLE: Duration = Duration::from_secs(1);
/// How often groups are asked how far they are.
const ASK_GROUPS: Duration = Duration::from_millis(500);
/// The largest contract in the folder.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is watched, and how.
#[derive(Debug)]
pub(super) struct Watch {
    broker: Broker,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    contracts: Kept,
    verdicts: Verdicts,
    lens: Follower,
    /// By the contract's name.
    followers: HashMap<String, One>,
    topics: Vec<String>,
    folder: Option<PathBuf>,
    history: Option<Duration>,
    partitions_max: usize,
    /// What could not be read in this round.
    found: Option<String>,
}

/// A contract that is followed.
#[derive(Debug)]
struct One {
    watched: Arc<Watched>,
    follower: Follower,
    /// The last change of each instance while its topics are read for the first time.
    held: BTreeMap<String, Change>,
    groups_asked: Option<Instant>,
}

impl Watch {
    pub(super) fn new(
        config: &Choreography,
        broker: &Broker,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        webhook: Option<Webhook>,
    ) -> Self {
        let history = match config.history {
            Limit::At(period) => Some(period.0),
            Limit::Unlimited => None,
        };
        let ledger = broker.ledger("choreography");
        Self {
            broker: broker.clone(),
            shared,
            commands,
            contracts: Kept::new(ledger.clone(), CONTRACTS),
            verdicts: Verdicts::new(ledger, webhook),
            lens: Follower::new(broker, history, config.partitions_max),
            followers: HashMap::new(),
            topics: config.topics.clone(),
            folder: config.contracts.clone(),
            history,
            partitions_max: config.partitions_max,
            found: None,
        }
    }

    /// Works until `stop`.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                loaded = self.load() => match loaded {
                    Ok(()) => break,
                    Err(reason) => self.trouble(Some(reason)),
                },
            }
            tokio::select! {
                () = raised(&mut stop) => return,
                () = sleep(TROUBLE) => {}
            }
        }
        loop {
            let pause = tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                pause = self.round() => pause,
            };
            tokio::select! {
                biased;
                () = raised(&mut stop) => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                () = sleep(pause) => {}
            }
        }
    }

    fn trouble(&self, reason: Option<String>) {
        let mut trouble = locked(&self.shared.trouble);
        if *trouble != reason {
            if let Some(reason) = &reason {
                let code = Code::CHOREOGRAPHY_UNAVAILABLE;
                tracing::error!(%code, reason, "choreographies cannot use their topics");
            }
            *trouble = reason;
        }
    }

    /// Reads what was told and deployed before, and the folder.
    async fn load(&mut self) -> Result<(), String> {
        let told = self.verdicts.load(&self.broker).await;
        told.map_err(|error| format!("{VERDICTS}: {error}"))?;
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let take = |name: &str, value: Option<&[u8]>| {
            match value {
                Some(value) => {
                    texts.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned())
                }
                None => texts.remove(name),
            };
        };
        let read = self.contracts.read(&self.broker, take).await;
        read.map_err(|error| format!("{CONTRACTS}: {error}"))?;
        for (name, text) in texts {
            match Contract::parse(&text) {
                Ok(contract) => self.follow(contract, text),
                Err(problems) => tell_invalid(&name, &problems),
            }
        }
        if let Some(folder) = self.folder.clone() {
            for (contract, text) in in_folder(&folder) {
                self.follow(contract, text);
            }
        }
        Ok(())
    }

    fn follow(&mut self, contract: Contract, text: String) {
        let name = contract.name.clone();
        let one = One {
            watched: self.shared.watch(contract, text),
            follower: Follower::new(&self.broker, self.history, self.partitions_max),
            held: BTreeMap::new(),
            groups_asked: None,
        };
        self.followers.insert(name, one);
    }

    async fn command(&mut self, command: Command) {
        let Command { what, answer } = command;
        let done = match what {
            What::Deploy(contract, text) => {
                let record = (contract.name.clone(), Some(text.clone().into_bytes()));
                let was = self.followers.contains_key(&contract.name);
                let written = self.contracts.write(vec![record]).await;
                written.map(|()| {
                    self.follow(*contract, text);
                    was
                })
            }
            What::Remove(name) => match self.followers.contains_key(&name) {
                false => Ok(false),
                true => {
                    let written = self.contracts.write(vec![(name.clone(), None)]).await;
                    written.map(|()| {
                        self.followers.remove(&name);
                        self.shared.forget(&name);
                        self.verdicts.forget_but(&name, |_| false);
                        true
                    })
                }
            },
        };
        // Who asked may be gone.
        answer
            .send(done.map_err(|error| format!("{CONTRACTS}: {error}")))
            .ok();
    }

    /// Reads a little of everything; how long to wait before the next time.
    async fn round(&mut self) -> Duration {
        let begun = Instant::now();
        if let Err(error) = self.verdicts.write().await {
            self.trouble(Some(format!("{VERDICTS}: {error}")));
            return TROUBLE;
        }
        if self.verdicts.is_full() {
            return PAUSE;
        }
        self.found = None;
        let all = self.broker.topics();
        let mut is_behind = self.look(&all).await;
        let names: Vec<String> = self.followers.keys().cloned().collect();
        for name in names {
            is_behind |= self.judge(&name, &all).await;
        }
        if let Err(error) = self.verdicts.write().await {
            self.trouble(Some(format!("{VERDICTS}: {error}")));
            return TROUBLE;
        }
        self.trouble(self.found.clone());
        let took = begun.elapsed();
        match is_behind {
            true => (took / REST).max(Duration::from_millis(1)),
            false => (took * IDLE_REST).clamp(PAUSE, PAUSE_MAX),
        }
    }

    /// The lens; whether it is behind.
    async fn look(&mut self, all: &[Arc<Topic>]) -> bool {
        let wanted: HashSet<&str> = self.topics.iter().map(String::as_str).collect();
        let is_watched = |topic: &&Arc<Topic>| match wanted.is_empty() {
            // Our own topics, those of Kafka's kind, and the registry's.
            true => !topic.name.as_str().starts_with('_'),
            false => wanted.contains(topic.name.as_str()),
        };
        let topics: Vec<Arc<Topic>> = all.iter().filter(is_watched).cloned().collect();
        let round = self.lens.round(&topics).await;
        let now = clock::now();
        for (topic, partition, entries) in &round.read {
            {
                let mut lens = locked(&self.shared.lens);
                for entry in entries {
                    lens.observe(&seen(topic, *partition, entry), now);
                }
            }
            self.count(entries.len());
            tokio::task::yield_now().await;
        }
        locked(&self.shared.lens).tick(now);
        if round.reached.is_some() {
            self.shared.is_lens_read.store(true, Ordering::Relaxed);
        }
        let is_behind = round.is_behind();
        self.found = self.found.take().or(round.trouble);
        is_behind
    }

    fn count(&self, records: usize) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        self.shared.records.fetch_add(records, Ordering::Relaxed);
    }

    /// One contract; whether it is behind.
    async fn judge(&mut self, name: &str, all: &[Arc<Topic>]) -> bool {
        let Some(one) = self.followers.get_mut(name) else {
            return false;
        };
        let topics = all.iter().filter(|topic| {
            one.watched
                .topics
                .iter()
                .any(|name| name == topic.name.as_str())
        });
        let topics: Vec<Arc<Topic>> = topics.cloned().collect();
        let round = one.follower.round(&topics).await;
        let is_behind = round.is_behind();
        let Round {
            read,
            begins,
            reached,
            trouble,
            has_moved: _,
        } = round;
        let mut records = 0;
        for (topic, partition, entries) in &read {
            {
                let mut monitor = one.watched.monitor();
                for entry in entries {
                    monitor.observe(&seen(topic, *partition, entry));
                }
            }
            records += entries.len();
            tokio::task::yield_now().await;
        }
        let is_time = one
            .groups_asked
            .is_none_or(|asked| asked.elapsed() >= ASK_GROUPS);
        if is_time && reached.is_some() {
            one.groups_asked = Some(Instant::now());
            ask_groups(&self.broker, one, &topics);
        }
        let mut monitor = one.watched.monitor();
        begins.into_iter().for_each(|at| monitor.begins(at));
        // What is behind is only judged by what it has.
        monitor.tick(reached.unwrap_or(Timestamp::ZERO));
        let (changes, gone) = (monitor.take_changes(), monitor.take_gone());
        drop(monitor);
        let was_read = one.watched.is_read();
        for change in changes {
            match was_read {
                true => self.verdicts.take(change),
                false => _ = one.held.insert(change.instance.clone(), change),
            }
        }
        for instance in gone {
            one.held.remove(&instance);
            self.verdicts.forget(name, &instance);
        }
        if reached.is_some() && !was_read {
            for change in std::mem::take(&mut one.held).into_values() {
                self.verdicts.take(change);
            }
            // What is older than what was read is remembered no more.
            let monitor = one.watched.monitor();
            let is_kept = |instance: &str| monitor.verdict(instance).is_some();
            self.verdicts.forget_but(name, is_kept);
            drop(monitor);
            one.watched.is_read.store(true, Ordering::Relaxed);
            tracing::info!(choreography = name, "the topics of a contract were read");
        }
        self.count(records);
        self.found = self.found.take().or(trouble);
        is_behind
    }
}

/// Where groups are in the topics of a contract, once something waits for them.
fn ask_groups(broker: &Broker, one: &One, topics: &[Arc<Topic>]) {
    let cx = Context::internal("choreography");
    let is_waiting = {
        let monitor = one.watched.monitor();
        let running = monitor
            .counts()
            .now
            .get(&Kind::Running)
            .copied()
            .unwrap_or(0);
        let is_bad = |(kind, count): (&Kind, &u64)| kind.is_bad() && *count > 0;
        running > 0 || monitor.due().is_some() || monitor.counts().now.iter().any(is_bad)
    };
    if !is_waiting {
        return;
    }
    for topic in topics {
        let readers = broker
            .readers(&cx, &TopicRef::Id(topic.id))
            .unwrap_or_default();
        let mut monitor = one.watched.monitor();
        for reader in &readers {
            for offset in &reader.offsets {
                monitor.committed(
                    &reader.group,
                    topic.name.as_str(),
                    offset.partition,
                    offset.offset,
                );
            }
        }
    }
}

fn seen<'a>(
    topic: &'a str,
    partition: i32,
    entry: &'a wharf_message::ledger::Entry,
) -> Observed<'a> {
    Observed {
        topic,
        partition,
        offset: entry.offset,
        record: &entry.record,
    }
}

/// The contracts in a folder; what cannot be used is told and left out.
fn in_folder(folder: &Path) -> Vec<(Contract, String)> {
    let mut found = Vec::new();
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => {
            let code = Code::CHOREOGRAPHY_CONTRACT_INVALID;
            tracing::error!(%code, folder = %folder.display(), %error, "the folder of contracts cannot be read");
            return found;
        }
    };
    let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    for file in files {
        let end = file.extension().and_then(|end| end.to_str());
        if !matches!(end, Some("yaml" | "yml" | "json")) {
            continue;
        }
        let name = file.display().to_string();
        // What cannot be looked at cannot be opened either, and is told below.
        let about = std::fs::metadata(&file).ok();
        if about.as_ref().is_some_and(|about| !about.is_file()) {
            continue;
        }
        let size = about.map_or(0, |about| about.len());
        if size > FILE_BYTES_MAX {
            tracing::error!(code = %Code::CHOREOGRAPHY_CONTRACT_INVALID, file = name, size, "a contract is too large");
            continue;
        }
        match std::fs::read_to_string(&file) {
            Ok(text) => match Contract::parse(&text) {
                Ok(contract) => {
                    let problems = wharf_saga::choreography::contract::check::check(&contract);
                    match problems.is_empty() {
                        true => found.push((contract, text)),
                        false => tell_invalid(&name, &problems),
                    }
                }
                Err(problems) => tell_invalid(&name, &problems),
            },
            Err(error) => {
                tracing::error!(code = %Code::CHOREOGRAPHY_CONTRACT_INVALID, file = name, %error, "a contract cannot be read");
            }
        }
    }
    found
}

fn tell_invalid(name: &str, problems: &[wharf_saga::choreography::Problem]) {
    let code = Code::CHOREOGRAPHY_CONTRACT_INVALID;
    for problem in problems {
        tracing::error!(%code, contract = name, %problem, "a contract cannot be used");
    }
}
