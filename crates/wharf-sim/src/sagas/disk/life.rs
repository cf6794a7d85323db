//! One life of the log and its broker: opened on what a life before left, and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use wharf_broker::{
    Broker, EmbeddedLedger, Error as BrokerError, Options as BrokerOptions, Produce, Produced,
    RetentionPolicy, TopicRef, Wakeups,
};
use wharf_log::disk::simulated::{Faults, Random, SimulatedDisk};
use wharf_log::disk::{Disk, DiskFile, Entry as DirectoryEntry, Open};
use wharf_log::{
    Codec, Compaction, Health, Log, Observer, Options, PartitionId, Policy, Retention, batch,
};
use wharf_message::ledger::{Entry, Error, Ledger, Partition, Record, TopicSpec};
use wharf_message::{Timestamp, TopicName};

use super::super::checkers::{Broken, broken};
use super::super::clock;
use super::super::sabotage::Tamper;
use super::evidence::{Asked, Evidence, Found, Records};
use super::world::Surroundings;
use super::{DiskLedger, State, TALK, is_of_others, lock};
use crate::broker::client;
use crate::plan::pick;

const OPENS: &str = "a log opens after any crash";
/// How large a record is that is sent in masses.
const TALK_BYTES: usize = 20 << 10;
/// How many records are read at once.
const READ_MAX: usize = 10_000;

/// What others have to write.
pub(super) struct Outgoing {
    partition: Partition,
    record: Record,
    sending: Option<Sending>,
    /// It is not sent again when it was refused.
    is_idle_talk: bool,
}

type Sending = Pin<Box<dyn Future<Output = Vec<Result<Produced, BrokerError>>> + Send>>;

impl Outgoing {
    pub(super) fn new(partition: Partition, record: Record) -> Self {
        Self {
            partition,
            record,
            sending: None,
            is_idle_talk: false,
        }
    }

    /// What somebody sends in masses and does not mind to lose.
    pub(super) fn idle_talk(topic: &TopicName) -> Self {
        let record = Record {
            value: Some(Bytes::from(vec![0; TALK_BYTES])),
            ..Record::default()
        };
        let topic = topic.clone();
        Self {
            is_idle_talk: true,
            ..Self::new(Partition { topic, index: 0 }, record)
        }
    }

    pub(super) fn send(&mut self, broker: &Broker) {
        if self.sending.is_some() {
            return;
        }
        let record = self.record.clone();
        let record = batch::Record {
            offset: 0,
            timestamp: Timestamp::from_millis(clock::wall().0),
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        let produce = Produce {
            topic: TopicRef::Name(self.partition.topic.as_str().to_owned()),
            partition: self.partition.index,
            records: Some(batch::build(&[record], None)),
        };
        self.sending = Some(Box::pin(broker.produce(&client(), vec![produce])));
    }

    /// Whether it is there, if it was told by now.
    pub(super) fn outcome(&mut self) -> Option<bool> {
        let sending = self.sending.as_mut()?;
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(answers) = sending.as_mut().poll(&mut cx) else {
            return None;
        };
        self.sending = None;
        Some(self.is_idle_talk || answers.iter().all(Result::is_ok))
    }

    /// The connection is gone.
    fn forget(&mut self) {
        self.sending = None;
    }
}

/// Notes what was appended to, and wakes whoever waits for it.
struct Appended {
    wakeups: Wakeups,
    partitions: Mutex<BTreeSet<PartitionId>>,
}

impl Observer for Appended {
    fn appended(&self, partitions: &[PartitionId]) {
        lock(&self.partitions).extend(partitions);
        self.wakeups.appended(partitions);
    }
}

/// Rolls and compacts as soon as it may.
struct Eager {
    policy: RetentionPolicy,
    segment_bytes: u64,
    delete_retention: Duration,
}

impl Policy for Eager {
    fn retention(&self, partition: PartitionId) -> Option<Retention> {
        let retention = self.policy.retention(partition)?;
        let compaction = retention.compaction.map(|_| Compaction {
            min_lag: Duration::ZERO,
            max_lag: None,
            dirty_ratio: 0.0,
            delete_retention: self.delete_retention,
        });
        Some(Retention {
            segment_bytes: self.segment_bytes,
            compaction,
            ..retention
        })
    }

    fn codec(&self) -> &dyn Codec {
        self.policy.codec()
    }
}

/// A disk whose files say that they are synced and are not, for sabotage.
struct Lying(SimulatedDisk);

struct LyingFile(Arc<dyn DiskFile>);

impl Disk for Lying {
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LyingFile(self.0.open(path, mode)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirectoryEntry>> {
        self.0.list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.0.sync_dir(path)
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.0.preallocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

/// A log at work, with its broker.
pub(super) struct Life {
    log: Log,
    pub(super) broker: Broker,
    pub(super) ledger: EmbeddedLedger,
    pub(super) world: Surroundings,
    appended: Arc<Appended>,
    policy: Eager,
}

/// How a log is.
pub(in crate::sagas) fn draw_options(random: &mut Random) -> Options {
    Options {
        journal_file_bytes: 128 << 10,
        journal_files_max: *pick(&[1, 2, 4], random),
        group_bytes_max: *pick(&[4 << 10, 16 << 10, 1 << 20], random),
        tail_bytes_max: *pick(&[0, 8 << 10, 1 << 20], random),
        index_batches_max: *pick(&[20, 100, 100_000], random),
        open_segments_max: *pick(&[1, 3, 64], random),
        compaction_keys_max: *pick(&[12, 1_000_000], random),
        secret: 0x5EC7_E700,
        ..Options::default()
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(clock::wall().0)
}

impl Life {
    fn open(
        disk: &SimulatedDisk,
        options: &Options,
        handle: Handle,
        random: &mut Random,
        ledger: DiskLedger,
        is_lying: bool,
    ) -> Result<Self, String> {
        let wakeups = Wakeups::default();
        let appended = Arc::new(Appended {
            wakeups: wakeups.clone(),
            partitions: Mutex::default(),
        });
        let observer = Arc::clone(&appended) as Arc<dyn Observer>;
        let disk: Arc<dyn Disk> = match is_lying {
            false => Arc::new(disk.clone()),
            true => Arc::new(Lying(disk.clone())),
        };
        let log = Log::open(disk, options.clone(), observer, now());
        let log = log.map_err(|error| format!("{error:?}"))?;
        if !log.recovery.damaged.is_empty() {
            return Err(format!("{:?}", log.recovery.damaged));
        }
        let world = Surroundings::new(handle, random.fork(), ledger);
        let runtime: Arc<dyn wharf_broker::Runtime> = Arc::new(world.clone());
        let broker_options = BrokerOptions::default();
        let (appender, reader) = (log.appender.clone(), log.reader.clone());
        let broker = Broker::open(broker_options, appender, reader, &wakeups, runtime);
        let broker = broker.map_err(|error| format!("the broker: {error}"))?;
        let policy = Eager {
            policy: broker.retention_policy(),
            segment_bytes: *pick(&[1 << 10, 16 << 10, 1 << 30], random),
            delete_retention: Duration::from_secs(*pick(&[0, 86_400], random)),
        };
        Ok(Self {
            ledger: broker.ledger("saga"),
            log,
            broker,
            world,
            appended,
            policy,
        })
    }

    pub(super) fn health(&self) -> Health {
        self.log.reader.health()
    }

    /// Whether it does not work as it should.
    pub(super) fn is_ill(&self, disk: &SimulatedDisk) -> bool {
        disk.is_off() || self.health() != Health::Writable
    }

    /// Commits what is queued.
    pub(super) fn commit(&mut self) {
        self.log.committer.run_pending(now());
    }

    /// Does background work, in so many steps at most.
    pub(super) fn maintain(&mut self, steps: u32) {
        for _ in 0..steps {
            if !self.log.maintenance.run(&self.policy, now()) {
                break;
            }
        }
    }

    /// Stops in good order; whether that came to its end.
    fn finish(&mut self) -> bool {
        self.log.appender.close();
        self.commit();
        self.log.maintenance.finish(now()).is_ok()
    }

    /// The partitions that are there of these topics.
    fn partitions(
        &self,
        topics: &BTreeMap<TopicName, TopicSpec>,
    ) -> BTreeMap<PartitionId, Partition> {
        let mut found = BTreeMap::new();
        for name in topics.keys() {
            let topic = self.broker.topic(&TopicRef::Name(name.as_str().to_owned()));
            for (index, id) in topic.iter().flat_map(|topic| (0..).zip(&topic.partitions)) {
                let topic = name.clone();
                found.insert(*id, Partition { topic, index });
            }
        }
        found
    }

    /// Reads what was appended since.
    pub(super) fn read(
        &self,
        topics: &BTreeMap<TopicName, TopicSpec>,
        evidence: &mut Evidence,
    ) -> Result<(), Broken> {
        let appended = std::mem::take(&mut *lock(&self.appended.partitions));
        if appended.is_empty() {
            return Ok(());
        }
        let known = self.partitions(topics);
        for partition in appended.iter().filter_map(|id| known.get(id)) {
            for entry in self.entries(partition, evidence.next(partition))? {
                evidence.read(partition, entry)?;
            }
        }
        Ok(())
    }

    /// What a partition holds from an offset on.
    fn entries(&self, partition: &Partition, from: i64) -> Result<Vec<Entry>, Broken> {
        self.world.read_at_once(true);
        let (mut entries, mut next) = (Vec::new(), from);
        let outcome = loop {
            let read = self.ledger.follow(partition.clone(), next, READ_MAX);
            match read.now_or_never() {
                None => break Ok(entries),
                Some(Ok(more)) => {
                    next = more.last().map_or(next, |last| last.offset + 1);
                    entries.extend(more);
                }
                Some(Err(Error::OutOfRange { start, .. })) if start > next => next = start,
                Some(Err(error)) => break broken(OPENS, format!("{partition:?}: {error}")),
            }
        };
        self.world.read_at_once(false);
        outcome
    }

    /// Everything that is there, to compare it with what should be.
    fn found(
        &self,
        topics: &BTreeMap<TopicName, TopicSpec>,
        evidence: &Evidence,
        asked: &[Asked],
    ) -> Result<Found, Broken> {
        let mut found = Found::default();
        let there = self.partitions(topics);
        for partition in there.values() {
            let entries = self.entries(partition, 0)?;
            found.entries.insert(partition.clone(), entries);
        }
        for partition in evidence.partitions() {
            found.entries.entry(partition.clone()).or_default();
        }
        let asked = asked.iter().flat_map(|asked| &asked.progress);
        let asked = asked.map(|progress| (progress.reader.clone(), progress.partition.clone()));
        let readers: BTreeSet<_> = evidence.readers().cloned().chain(asked).collect();
        for (reader, partition) in readers {
            let kept = self.ledger.progress(&reader, partition.clone());
            if let Some(Ok(Some(offset))) = kept.now_or_never() {
                found.progress.insert((reader, partition), offset);
            }
        }
        Ok(found)
    }
}

impl DiskLedger {
    /// A process opens what is on the disk.
    pub(in crate::sagas) fn open(&self, handle: &Handle) -> Result<(), Broken> {
        let mut state = self.state();
        state.disk.set_faults(Faults::default());
        state.weather.is_full = false;
        (state.weather.unknown_percent, state.weather.refused_percent) = (0, 0);
        let happened = state.open(handle, self)?;
        for records in happened {
            state.counts.kept += 1;
            state.became_durable(&records);
        }
        drop(state);
        if let Ok(name) = TopicName::new(TALK) {
            let (ledger, partitions, compacted) = (self.clone(), 1, false);
            let spec = TopicSpec {
                name,
                partitions,
                compacted,
            };
            // Where it cannot be made, nobody talks.
            drop(handle.spawn(async move { ledger.create_topic(spec).await }));
        }
        self.send();
        Ok(())
    }

    /// The process ends, or the machine dies with it.
    pub(in crate::sagas) fn end(&self, in_order: bool) {
        self.state().end(in_order);
    }
}

impl State {
    fn open(&mut self, handle: &Handle, ledger: &DiskLedger) -> Result<Vec<Records>, Broken> {
        let mut dies = self.random.percent(10);
        let life = loop {
            if dies {
                let at = self.disk.counters().operations + 1 + self.random.below(12);
                self.disk.power_off_at(at);
            }
            let random = &mut self.random;
            let is_lying = self.tamper.as_ref().is_some_and(Tamper::lies_about_syncs);
            let opened = Life::open(
                &self.disk,
                &self.options,
                handle.clone(),
                random,
                ledger.clone(),
                is_lying,
            );
            if !self.disk.is_off() {
                self.disk.power_off_at(u64::MAX);
                match opened {
                    Ok(life) => break life,
                    Err(reason) => return broken(OPENS, reason),
                }
            }
            self.counts.deaths_in_recovery += 1;
            self.disk = self.disk.crash();
            dies = self.random.percent(30);
        };
        let asked = std::mem::take(&mut self.unsure);
        let found = life.found(&self.topics, &self.evidence, &asked)?;
        let topics = &self.topics;
        let is_compacted = |name: &TopicName| topics.get(name).is_some_and(|spec| spec.compacted);
        let lost = asked.len();
        let happened = self
            .evidence
            .reopened(found, &asked, is_compacted, is_of_others)?;
        self.counts.lost += u64::try_from(lost - happened.len().min(lost)).unwrap_or(0);
        lock(&life.appended.partitions).clear();
        self.life = Some(life);
        Ok(happened)
    }

    fn end(&mut self, in_order: bool) {
        let Some(mut life) = self.life.take() else {
            return;
        };
        self.is_syncing = false;
        let mut finished = false;
        let was_off = self.disk.is_off();
        if in_order && !was_off {
            finished = life.finish();
        } else if !was_off && self.random.coin() {
            // It dies while it writes what is queued.
            let at = self.disk.counters().operations + 1 + self.random.below(4);
            self.disk.power_off_at(at);
            life.commit();
        }
        let loses_power = match self.disk.is_off() {
            true => self.random.percent(80),
            false => self.random.percent(if finished { 50 } else { 70 }),
        };
        drop(life);
        self.disk = if loses_power {
            self.counts.power_losses += 1;
            self.disk.crash()
        } else {
            self.counts.kills += 1;
            self.disk.kill()
        };
        let mut cx = Context::from_waker(Waker::noop());
        for mut staged in std::mem::take(&mut self.staged) {
            match staged.outcome.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(_)) => staged.asked.must_be = true,
                Poll::Ready(Err(Error::Fenced { .. } | Error::TimerGone(_))) => continue,
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            self.unsure.push(staged.asked);
        }
        for outgoing in &mut self.outgoing {
            outgoing.forget();
        }
    }
}
