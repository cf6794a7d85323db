//! One seed: a node that is used, broken, restarted and checked, again and again.
//!
//! Everything runs in one thread in virtual time; the seed decides all of it. A promise found
//! broken ends the run.

mod answers;
mod corruption;
mod restart;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::disk::Disk;
use wharf_log::disk::simulated::{Faults, Random, SimulatedDisk};
use wharf_log::{
    Codec, CommitError, Committed, Compaction, Done, Health, Log, NoCodec, Observer,
    PartitionChange, PartitionId, Policy, Retention, Unit,
};
use wharf_message::Timestamp;

use crate::checkers::{
    Answers, Broken, Evidence, FailStop, OncePerSequence, Written, body, broken, check_view,
    read_somewhere,
};
use crate::lives::{Lives, World};
use crate::model::Model;
use crate::plan::{Fault, Mix, Plan, pick};
use crate::report::Report;
use crate::sabotage::{MixedKeys, Sabotage, forget_producers, half_end, sabotaged};
use crate::view::View;
use crate::workload::Workload;
use restart::unsettled;

/// More background steps in a row than any workload here needs.
const MAINTENANCE_STEPS_MAX: u32 = 5_000;
/// Where virtual time begins.
const EPOCH: i64 = 1_700_000_000_000;

type Answer = Result<Committed, CommitError>;

/// A unit that was handed to the log.
#[derive(Debug)]
struct Submitted {
    operation: u64,
    unit: Unit,
    tried_at: Option<Timestamp>,
    /// Whether the disk may have been full then.
    disk_may_be_full: bool,
    answer: Option<Answer>,
}

/// What the log calls back into.
#[derive(Debug, Default)]
struct Callbacks {
    answers: Mutex<Vec<(u64, Answer)>>,
    appended: Mutex<BTreeSet<PartitionId>>,
}

impl Observer for Callbacks {
    fn appended(&self, partitions: &[PartitionId]) {
        let mut appended = self.appended.lock().unwrap_or_else(PoisonError::into_inner);
        appended.extend(partitions);
    }
}

/// The settings of partitions.
#[derive(Debug, Default)]
struct Settings {
    retentions: BTreeMap<PartitionId, Retention>,
    /// Whether compaction takes all keys for the same one.
    mixes_keys: bool,
}

impl Policy for Settings {
    fn retention(&self, partition: PartitionId) -> Option<Retention> {
        self.retentions.get(&partition).cloned()
    }

    fn codec(&self) -> &dyn Codec {
        if self.mixes_keys {
            &MixedKeys
        } else {
            &NoCodec
        }
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Orderly,
    Kill,
    PowerLoss,
}

pub(crate) struct Simulation {
    random: Random,
    mix: Mix,
    plan: Plan,
    disk: SimulatedDisk,
    log: Log,
    callbacks: Arc<Callbacks>,
    workload: Workload,
    settings: Settings,
    now: Timestamp,
    /// The latest time there was; clocks may jump back.
    latest: Timestamp,
    /// What every answer so far amounts to.
    model: Model,
    /// What a power loss must leave: everything up to the last answer that waited for a sync.
    durable: Model,
    /// Answered since then.
    since: Vec<Submitted>,
    /// Not answered, or answered that the log has stopped.
    pending: VecDeque<Submitted>,
    /// Batches that were sent: how many of their sendings have no outcome, and whether one had.
    bodies: BTreeMap<Bytes, (u32, bool)>,
    refused: BTreeSet<Bytes>,
    /// What compaction may take away.
    written: Written,
    once: OncePerSequence,
    fail_stop: FailStop,
    answers: Answers,
    disk_failed: bool,
    disk_may_be_full: bool,
    report: Report,
}

impl Lives for Simulation {
    fn world(&mut self) -> World<'_> {
        World {
            random: &mut self.random,
            mix: &self.mix,
            disk: &self.disk,
            report: &mut self.report,
            steps: self.plan.steps,
        }
    }

    fn dies_within(random: &mut Random) -> u64 {
        *pick(&[10, 60, 400], random)
    }

    fn step(&mut self) -> Result<(), Broken> {
        self.pass_time();
        self.change_faults()?;
        let burst = self.random.between(0, self.mix.burst_max);
        for _ in 0..burst {
            self.submit();
        }
        if self.random.percent(80) {
            self.commit()?;
        }
        let compacted = self.report.compactions;
        if self.random.percent(self.mix.maintenance_percent) {
            let steps = if self.random.coin() {
                1
            } else {
                MAINTENANCE_STEPS_MAX
            };
            self.maintain(steps)?;
        }
        if self.disk.is_off() {
            return Ok(());
        }
        // A failed sync may have dropped what was acknowledged without waiting for one.
        if self.disk_failed && self.mix.buffered_percent > 0 {
            return Ok(());
        }
        read_somewhere(
            &self.model,
            &self.written,
            &self.log.reader,
            &mut self.random,
            self.latest,
        )?;
        let compacts = self.report.compactions > compacted;
        if self.random.percent(if compacts { 50 } else { 4 }) {
            self.commit()?;
            if !self.disk.is_off() {
                self.check_running()?;
            }
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Broken> {
        let ending = self.draw_ending();
        self.end(ending)
    }
}

impl Simulation {
    pub(crate) fn start(seed: u64, plan: &Plan) -> Result<Self, Broken> {
        let mut random = Random::new(seed);
        let mix = Mix::draw(plan, &mut random);
        let disk = SimulatedDisk::new(random.next_u64(), Faults::default());
        let callbacks = Arc::new(Callbacks::default());
        let now = Timestamp::from_millis(EPOCH);
        let log = open(&disk, plan, &mix, &callbacks, &mut random, now)?;
        let model = Model::new(mix.options.producer_expiry);
        let unit_bytes_max = usize::try_from(mix.options.journal_file_bytes / 4).unwrap_or(0);
        Ok(Self {
            workload: Workload::new(random.fork(), &mix),
            random,
            mix,
            plan: plan.clone(),
            disk,
            log,
            callbacks,
            settings: Settings {
                mixes_keys: plan.sabotage == Some(Sabotage::MixedKeys),
                ..Settings::default()
            },
            now,
            latest: now,
            durable: model.clone(),
            model,
            since: Vec::new(),
            pending: VecDeque::new(),
            bodies: BTreeMap::new(),
            refused: BTreeSet::new(),
            written: Written::default(),
            once: OncePerSequence::default(),
            fail_stop: FailStop::default(),
            answers: Answers { unit_bytes_max },
            disk_failed: false,
            disk_may_be_full: false,
            report: Report::default(),
        })
    }

    /// A log on what is on the disk.
    fn open(&mut self) -> Result<Log, Broken> {
        let Self {
            disk,
            plan,
            mix,
            callbacks,
            random,
            now,
            ..
        } = self;
        open(disk, plan, mix, callbacks, random, *now)
    }

    fn has(&self, fault: Fault) -> bool {
        self.mix.faults.contains(&fault)
    }

    fn draw_ending(&mut self) -> Ending {
        if self.disk.is_off() {
            let only_killed = self.has(Fault::Kill) && self.random.coin();
            return if only_killed {
                Ending::Kill
            } else {
                Ending::PowerLoss
            };
        }
        let stopped = matches!(self.log.reader.health(), Health::Poisoned { .. });
        let mut endings = Vec::new();
        if self.has(Fault::PowerLoss) || stopped {
            endings.push(Ending::PowerLoss);
        }
        if self.has(Fault::Kill) {
            endings.push(Ending::Kill);
        }
        if !stopped && (endings.is_empty() || self.random.percent(30)) {
            return Ending::Orderly;
        }
        *pick(&endings, &mut self.random)
    }

    fn pass_time(&mut self) {
        let millis = match self.random.below(100) {
            0..3 => 120_000,
            3..6 => -3_000,
            _ => i64::try_from(self.random.below(500)).unwrap_or(0),
        };
        self.pass(millis);
    }

    fn pass(&mut self, millis: i64) {
        self.now = Timestamp::from_millis(self.now.as_millis() + millis);
        self.latest = self.latest.max(self.now);
    }

    fn change_faults(&mut self) -> Result<(), Broken> {
        if self.has(Fault::FailedSync) && self.random.percent(1) {
            let sync_failure_one_in = *pick(&[1, 4], &mut self.random);
            let write_failure_one_in = *pick(&[0, 10], &mut self.random);
            let faults = Faults {
                sync_failure_one_in,
                write_failure_one_in,
                ..Faults::default()
            };
            self.disk.set_faults(faults);
            self.disk_failed = true;
        }
        if self.has(Fault::FullDisk) && !self.disk_failed && self.random.percent(5) {
            if self.disk_may_be_full {
                self.disk.set_faults(Faults::default());
                // Full disks are asked again after half a second.
                self.pass(1_000);
                self.maintain(MAINTENANCE_STEPS_MAX)?;
                self.disk_may_be_full = self.disk.is_off();
            } else {
                let spare = *pick(&[0, 5_000, 100_000], &mut self.random);
                let capacity_bytes = Some(self.disk.used_bytes() + spare);
                self.disk.set_faults(Faults {
                    capacity_bytes,
                    ..Faults::default()
                });
                self.disk_may_be_full = true;
            }
        }
        Ok(())
    }

    fn submit(&mut self) {
        let (operation, unit) = self.workload.next(&self.model, &self.mix, self.now);
        for change in &unit.partitions {
            if let PartitionChange::Create(id) = change {
                self.draw_settings(*id);
            }
        }
        for append in &unit.appends {
            let body = body(&append.batch);
            self.refused.remove(&body);
            self.bodies.entry(body).or_default().0 += 1;
        }
        let callbacks = Arc::clone(&self.callbacks);
        let done: Done = Box::new(move |answer| {
            let mut answers = callbacks
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            answers.push((operation, answer));
        });
        self.report.units += 1;
        let mut handed_over = unit.clone();
        if self.plan.sabotage == Some(Sabotage::HalfEndedTransactions)
            && half_end(&mut handed_over, &self.log.reader)
            && self.random.coin()
        {
            // The answer, which would tell, is lost with the machine.
            let soon = self.disk.counters().operations + 2 + self.random.below(2);
            self.disk.power_off_at(soon);
        }
        if self.plan.sabotage == Some(Sabotage::AcceptedDuplicates) {
            forget_producers(&mut handed_over, &self.log.reader);
        }
        self.log.appender.submit(vec![(handed_over, done)]);
        self.pending.push_back(Submitted {
            operation,
            unit,
            tried_at: None,
            disk_may_be_full: false,
            answer: None,
        });
    }

    /// A partition is made: by its first settings it is kept for as long as it lives.
    fn draw_settings(&mut self, id: PartitionId) {
        if self.settings.retentions.contains_key(&id)
            || !self.random.percent(self.mix.retention_percent)
        {
            return;
        }
        let compacts = self.random.percent(self.mix.compaction_percent);
        let retention = draw_retention(compacts, &mut self.random);
        if let Some(compaction) = retention.compaction {
            self.written.compacts(id, compaction);
            self.workload.compacts(id);
        }
        self.settings.retentions.insert(id, retention);
    }

    fn commit(&mut self) -> Result<(), Broken> {
        for submitted in &mut self.pending {
            if submitted.tried_at.is_none() {
                submitted.tried_at = Some(self.now);
                submitted.disk_may_be_full = self.disk_may_be_full;
            }
        }
        self.log.committer.run_pending(self.now);
        self.take_answers()?;
        let unanswered = self
            .pending
            .iter()
            .any(|submitted| submitted.answer.is_none());
        if unanswered && !self.disk.is_off() {
            return broken("units are answered by the rules", "a unit was not answered");
        }
        if self.disk.is_off() {
            Ok(())
        } else {
            self.adopt_retention()
        }
    }

    fn maintain(&mut self, steps: u32) -> Result<(), Broken> {
        self.written.worked(self.now);
        for step in 1.. {
            let before = self.log.reader.statistics().compacted_bytes;
            let more = self.log.maintenance.run(&self.settings, self.now);
            let replaced = self.log.reader.statistics().compacted_bytes - before;
            self.report.compactions += u64::from(replaced > 0);
            self.report.compacted_bytes += replaced;
            if self.disk.is_off() {
                return Ok(());
            }
            if !more || step >= steps {
                break;
            }
            if step == MAINTENANCE_STEPS_MAX - 1 {
                return broken("background work ends", format!("not after {step} steps"));
            }
        }
        self.adopt_retention()
    }
    /// Compares everything readable with every answer so far, while the node runs.
    fn check_running(&mut self) -> Result<(), Broken> {
        let view = View::read(&self.log.reader, &mut self.random, &self.written)?;
        let unsettled = unsettled(self.pending.iter());
        let evidence = Evidence {
            must: &self.model,
            unsettled: &unsettled,
            refused: &self.refused,
            retained: &self.settings.retentions,
            written: &self.written,
            now: self.latest,
        };
        check_view(&evidence, &view)?;
        self.report.views += 1;
        Ok(())
    }
}

fn open(
    disk: &SimulatedDisk,
    plan: &Plan,
    mix: &Mix,
    callbacks: &Arc<Callbacks>,
    random: &mut Random,
    now: Timestamp,
) -> Result<Log, Broken> {
    let mut seam: Arc<dyn Disk> = Arc::new(disk.clone());
    if let Some(sabotage) = plan.sabotage {
        seam = sabotaged(seam, sabotage, random.fork());
    }
    let observer: Arc<dyn Observer> = Arc::<Callbacks>::clone(callbacks);
    match Log::open(seam, mix.options.clone(), observer, now) {
        Ok(log) => Ok(log),
        Err(error) => broken("a log opens after any crash", format!("{error:?}")),
    }
}

fn draw_retention(compacts: bool, random: &mut Random) -> Retention {
    // Most of what is compacted is deleted by nothing else.
    let deletes = !compacts || random.percent(30);
    Retention {
        bytes: (deletes && random.coin()).then(|| random.between(1_000, 40_000)),
        age: (deletes && random.coin()).then(|| Duration::from_secs(random.between(10, 300))),
        segment_bytes: random.between(2_000, 30_000),
        segment_age: Duration::from_secs(random.between(5, 600)),
        compaction: compacts.then(|| draw_compaction(random)),
    }
}

fn draw_compaction(random: &mut Random) -> Compaction {
    let mut seconds = |choices: &[u64]| Duration::from_secs(*pick(choices, random));
    Compaction {
        min_lag: seconds(&[0, 0, 5, 100]),
        delete_retention: seconds(&[0, 30, 200, 3_600]),
        max_lag: Some(seconds(&[1, 20, 200])).filter(|_| random.percent(70)),
        dirty_ratio: *pick(&[0.0, 0.3, 0.7], random),
    }
}
