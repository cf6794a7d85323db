//! One seed over the broker: topics, settings, groups' offsets, records and transactions through
//! crashes.
//!
//! Calls run concurrently as tasks in virtual time; the node dies with some of them unanswered. The
//! log below is checked by [`crate::simulation`]; here it is what the broker builds on it.

mod calls;
mod registers;
pub(crate) mod runtime;
mod transactions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use wharf_broker::group::CommittedOffset;
use wharf_broker::{Broker, ConfigSource, Context, Options, TopicRef, Wakeups};
use wharf_log::disk::simulated::{Faults, Random, SimulatedDisk};
use wharf_log::{Log, Reader};
use wharf_message::{Principal, Timestamp};

use crate::checkers::{Broken, body, broken};
use crate::lives::{Lives, World};
use crate::plan::{Fault, Mix, Plan};
use crate::report::Report;
use crate::view::split;
use calls::{Call, Outcome, SETTING};
use registers::{Register, Registers, Value};
use runtime::VirtualRuntime;
use transactions::{Seen, Transaction};

const RECORDS: &str = "no acknowledged record is lost";
const OPENS: &str = "a log opens after any crash";
const HOUR_MS: u64 = 3_600_000;
pub(crate) const EPOCH: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// The time of records in transactions. These begin late when an earlier one is still being ended; a
/// clock that is set back meanwhile must not make them records of the future. Nor must they be old
/// enough for the default retention.
const A_DAY_BEFORE: Timestamp = Timestamp::from_millis(EPOCH.as_millis() - 24 * 3_600_000);

/// Calls by number with their outcomes, as the tasks leave them.
type Outcomes = Arc<Mutex<Vec<(u64, Outcome)>>>;

/// A running node.
pub(crate) struct Node {
    pub(crate) log: Log,
    pub(crate) broker: Broker,
    pub(crate) runtime: VirtualRuntime,
}

pub(crate) struct BrokerSimulation {
    random: Random,
    mix: Mix,
    steps: u32,
    disk: SimulatedDisk,
    node: Node,
    outcomes: Outcomes,
    in_flight: BTreeMap<u64, Call>,
    next_call: u64,
    /// Topics ever asked for; names are not used again.
    topics: u64,
    registers: Registers,
    /// Acknowledged batches by topic, partition and base offset.
    records: BTreeMap<(String, i32, i64), Bytes>,
    report: Report,
}

impl Lives for BrokerSimulation {
    fn world(&mut self) -> World<'_> {
        World {
            random: &mut self.random,
            mix: &self.mix,
            disk: &self.disk,
            report: &mut self.report,
            steps: self.steps,
        }
    }

    fn dies_within(_: &mut Random) -> u64 {
        200
    }

    fn step(&mut self) -> Result<(), Broken> {
        for _ in 0..self.random.below(5) {
            self.call();
        }
        for _ in 0..self.random.below(6) {
            self.node.runtime.step();
            if self.random.percent(70) {
                self.node.log.committer.run_pending(self.now());
            }
        }
        if self.random.percent(self.mix.maintenance_percent) {
            let (policy, now) = (self.node.broker.retention_policy(), self.now());
            self.node.log.maintenance.run(&policy, now);
        }
        if self.random.percent(2) {
            let jump = i64::try_from(self.random.below(2 * HOUR_MS)).unwrap_or(0);
            self.node.runtime.jump_clock(jump - HOUR_MS.cast_signed());
        }
        let passed = Duration::from_millis(self.random.below(300));
        let time = wharf_broker::Runtime::steady(&self.node.runtime).after(passed);
        self.node.runtime.advance_to(time);
        self.take_outcomes()
    }

    fn restart(&mut self) -> Result<(), Broken> {
        let kill = self.mix.faults.contains(&Fault::Kill) && self.random.coin();
        // The last calls are on their way when the node dies; nobody hears what became of them.
        for _ in 0..self.random.below(10) {
            self.call();
        }
        self.node.runtime.step();
        if self.random.coin() {
            self.node.log.committer.run_pending(self.now());
            self.node.runtime.step();
        }
        let now = self.now();
        self.node.runtime.stop();
        self.outcomes = Outcomes::default();
        self.in_flight.clear();
        self.disk = if kill {
            self.disk.kill()
        } else {
            self.disk.crash()
        };
        self.report.kills += u64::from(kill);
        self.report.power_losses += u64::from(!kill);
        self.node = open(&self.disk, &self.mix, now, &mut self.random)?;
        let broker = self.node.broker.clone();
        let seen = Seen::read(&broker, &self.node.log.reader)?;
        let look = |register: &Register| look(&broker, &seen, register);
        self.report.registers += self.registers.check(look)?;
        self.check_records()?;
        self.report.records += u64::try_from(self.records.len()).unwrap_or(0);
        Ok(())
    }
}

impl BrokerSimulation {
    pub(crate) fn start(seed: u64, plan: &Plan) -> Result<Self, Broken> {
        let mut random = Random::new(seed ^ 0xB0B0);
        let mix = Mix::draw(plan, &mut random);
        let disk = SimulatedDisk::new(random.next_u64(), Faults::default());
        let node = open(&disk, &mix, EPOCH, &mut random)?;
        Ok(Self {
            random,
            mix,
            steps: plan.steps,
            disk,
            node,
            outcomes: Outcomes::default(),
            in_flight: BTreeMap::new(),
            next_call: 1,
            topics: 0,
            registers: Registers::default(),
            records: BTreeMap::new(),
            report: Report::default(),
        })
    }

    fn now(&self) -> Timestamp {
        wharf_broker::Runtime::now(&self.node.runtime)
    }

    fn call(&mut self) {
        let Some(call) = self.draw_call() else { return };
        if self.in_flight.values().any(|other| other.conflicts(&call)) {
            return;
        }
        for (register, value) in call.changes() {
            self.registers.begins(&register, value);
        }
        let number = self.next_call;
        self.next_call += 1;
        self.report.calls += 1;
        let outcomes = Arc::clone(&self.outcomes);
        let future = call.start(self.node.broker.clone(), client());
        let task = Box::pin(async move {
            let outcome = future.await;
            outcomes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((number, outcome));
        });
        wharf_broker::Runtime::spawn(&self.node.runtime, task);
        self.in_flight.insert(number, call);
    }

    fn draw_call(&mut self) -> Option<Call> {
        let number = self.next_call;
        if self.topics == 0 || self.random.percent(5) {
            self.topics += 1;
            return Some(Call::create(format!("t{}", self.topics), number));
        }
        let topic = format!("t{}", self.random.between(1, self.topics));
        let present = Register::Presence {
            topic: topic.clone(),
        };
        // Only calls that must succeed are made: every refusal is looked at.
        if !self.registers.is_certainly_there(&present) {
            return None;
        }
        let partition = i32::from(self.random.coin());
        Some(match self.random.below(100) {
            0..3 => Call::Delete { topic },
            3..15 => Call::alter(topic, number, self.random.percent(20)),
            15..50 => {
                let group = format!("g{}", self.random.below(4));
                Call::commit(topic, group, partition, number)
            }
            50..56 => Call::NewProducer,
            56..66 => Call::Transact(Transaction {
                topic,
                group: format!("g{}", self.random.below(4)),
                id: format!("x{}", self.random.below(3)),
                number,
                time: A_DAY_BEFORE,
                commit: self.random.percent(70),
                is_explicit: self.random.coin(),
            }),
            _ => Call::produce(topic, partition, number, self.now()),
        })
    }

    fn take_outcomes(&mut self) -> Result<(), Broken> {
        let outcomes =
            std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, outcome) in outcomes {
            let Some(call) = self.in_flight.remove(&number) else {
                continue;
            };
            match outcome {
                Outcome::Done(result) => self.acknowledged(&call, result)?,
                // The log stopped: what became of the call is not known.
                Outcome::Refused(_) if self.disk.is_off() => {}
                Outcome::Refused(error) => {
                    return broken(
                        "units are answered by the rules",
                        format!("{call:?}: {error}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, call: &Call, result: i64) -> Result<(), Broken> {
        self.report.calls_acknowledged += 1;
        for (register, value) in call.changes() {
            self.registers.is(&register, value);
        }
        match call {
            Call::NewProducer => self.registers.producer(result)?,
            Call::Produce {
                topic,
                partition,
                batch,
            } => {
                self.records
                    .insert((topic.clone(), *partition, result), body(batch));
            }
            Call::Delete { topic } => {
                self.registers.forget(topic);
                self.records.retain(|key, _| key.0 != *topic);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_records(&mut self) -> Result<(), Broken> {
        let broker = &self.node.broker;
        let gone = |topic: &str| broker.topic(&TopicRef::Name(topic.to_owned())).is_err();
        self.records.retain(|(topic, ..), _| !gone(topic));
        for ((topic, index, base), expected) in &self.records {
            let place = || format!("{topic}-{index} at {base}");
            let found = broker.topic(&TopicRef::Name(topic.clone()));
            let partition = found.ok().and_then(|topic| {
                usize::try_from(*index)
                    .ok()
                    .and_then(|at| topic.partitions.get(at).copied())
            });
            let Some(partition) = partition else {
                return broken(RECORDS, format!("{} has no partition", place()));
            };
            let slice = match self.node.log.reader.read(partition, *base, 1, true) {
                Ok(slice) => slice,
                Err(error) => return broken(RECORDS, format!("{}: {error:?}", place())),
            };
            let batches = split(&slice, *base, 1)?;
            if batches
                .first()
                .is_none_or(|stored| body(&stored.bytes) != *expected)
            {
                return broken(RECORDS, format!("{} holds something else", place()));
            }
        }
        Ok(())
    }
}

/// A node on what is on the disk.
pub(crate) fn open(
    disk: &SimulatedDisk,
    mix: &Mix,
    now: Timestamp,
    random: &mut Random,
) -> Result<Node, Broken> {
    let wakeups = Wakeups::default();
    let observer = Arc::new(wakeups.clone());
    let log = match Log::open(Arc::new(disk.clone()), mix.options.clone(), observer, now) {
        Ok(log) => log,
        Err(error) => return broken(OPENS, format!("{error:?}")),
    };
    let runtime = VirtualRuntime::new(now, random.fork());
    let reader: Reader = log.reader.clone();
    let shared: Arc<dyn wharf_broker::Runtime> = Arc::new(runtime.clone());
    let options = Options {
        group_initial_rebalance_delay: Duration::from_millis(100),
        // Some nodes read everything while they send it, the others nothing.
        stretch_bytes_min: match mix.options.journal_files_max {
            1 => usize::MAX,
            _ => 1,
        },
        ..Options::default()
    };
    let opened = Broker::open(options, log.appender.clone(), reader, &wakeups, shared);
    match opened {
        Ok(broker) => Ok(Node {
            log,
            broker,
            runtime,
        }),
        Err(error) => broken(OPENS, format!("the broker: {error}")),
    }
}

/// What a register holds now.
fn look(broker: &Broker, seen: &Seen, register: &Register) -> Value {
    match register {
        Register::Transaction { topic, number } => seen.find(topic, *number),
        Register::Presence { topic } => broker
            .topic(&TopicRef::Name(topic.clone()))
            .ok()
            .map(|_| String::new()),
        Register::Setting { topic } => {
            let entries = broker.describe_topic_config(&client(), topic).ok()?;
            let mut own = entries
                .into_iter()
                .filter(|entry| entry.source == ConfigSource::Topic);
            own.find(|entry| entry.name == SETTING)
                .and_then(|entry| entry.value)
        }
        Register::Offset {
            topic,
            group,
            partition,
        } => {
            let wanted = [(TopicRef::Name(topic.clone()), *partition)];
            let found = broker
                .committed_offsets(&client(), group, None, Some(&wanted))
                .ok()?;
            match found.into_iter().next() {
                Some(Ok(CommittedOffset {
                    offset, metadata, ..
                })) if offset >= 0 => Some(format!("{offset}:{metadata}")),
                _ => None,
            }
        }
    }
}

/// Who the simulated clients are.
pub(crate) fn client() -> Context {
    Context {
        principal: Principal::anonymous(),
        client_id: "sim".into(),
        client_host: "/127.0.0.1".into(),
        connection: 1,
    }
}
