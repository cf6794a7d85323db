//! Sagas in a simulated world: the node's own orchestrator over a ledger that breaks, with workers
//! that die, answers that are lost, doubled and late, people who order things, and a clock that
//! jumps.
//!
//! The seed decides everything. After a rough while everything calms down and people repair what is
//! parked; then every saga must have ended, and every promise of docs/specs/saga.md must have held.
//! Nothing here decides what a saga does; that is the code that is judged.

mod checkers;
mod clock;
mod definitions;
mod disk;
mod ledger;
mod node;
mod participants;
mod people;
mod plan;
mod report;
mod sabotage;
mod store;
mod watch;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use wharf_log::disk::simulated::Random;
use wharf_saga::definition::Definition;
use wharf_server::config::Sagas;

pub use plan::SagaPlan;
pub use report::SagaReport;
pub use sabotage::Sabotage as SagaSabotage;

use checkers::{Broken, broken, every_saga_ends, money, timers};
use clock::{Clock, Wrong};
use definitions::{RANDOM, TRANSFER};
use disk::{DiskLedger, draw_options};
use ledger::{SimulatedLedger, Weather};
use node::{Node, Outside, lock};
use participants::Participants;
use plan::Mix;
use sabotage::{Sabotage, Tamper};
use store::Store;
use watch::Watch;
use workers::Work;

/// How long the world is looked away from at most, in milliseconds.
const GLANCE: i64 = 250;
/// How long everything must have been well before it is asked whether things happen soon.
const WELL: i64 = 6_000;
/// How long it may take until every saga ended, once everything is well.
const CALM: i64 = 1_200_000;

/// A promise that one seed found broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaViolation {
    /// The seed that shows it again.
    pub seed: u64,
    /// The promise, as its checker names it.
    pub promise: &'static str,
    /// What was found.
    pub detail: String,
    /// When, in milliseconds of the simulation.
    pub passed: i64,
    /// Whether the plan wanted the node's own log under it.
    pub on_the_log: bool,
    /// What happened before, where the plan wants it told.
    pub story: Vec<String>,
}

impl fmt::Display for SagaViolation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            promise,
            detail,
            passed,
            on_the_log,
            story,
        } = self;
        let log = if *on_the_log { " --log" } else { "" };
        for line in story {
            writeln!(formatter, "{line}")?;
        }
        write!(
            formatter,
            "broken: {promise}\n  {detail}\n  after {passed}ms\n  \
             replay it: cargo xtask sim --sagas{log} --seed {seed}"
        )
    }
}

impl std::error::Error for SagaViolation {}

/// Runs one seed.
pub fn run_sagas(seed: u64, plan: &SagaPlan) -> Result<SagaReport, Box<SagaViolation>> {
    let (mut passed, mut story) = (0, Vec::new());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut simulation = Simulation::new(seed, plan);
        let outcome = simulation.run();
        passed = simulation.now;
        story = lock(&simulation.outside.watch)
            .story
            .take()
            .unwrap_or_default();
        simulation.count();
        outcome.map(|()| simulation.report)
    }));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        broken("nothing panics", text.unwrap_or("a panic without a text"))
    });
    outcome.map_err(|Broken { promise, detail }| {
        Box::new(SagaViolation {
            seed,
            promise,
            detail,
            passed,
            on_the_log: plan.on_the_log == Some(true),
            story,
        })
    })
}

/// What happens at a moment.
#[derive(Debug)]
enum Event {
    /// Something about workers.
    Work(Work),
    /// Somebody starts the saga of this number.
    Start(usize),
    /// Somebody orders something, or asks something.
    Order,
    Reply,
    Look,
    /// The process dies, or ends in good order, and is there again after a while.
    End {
        in_order: bool,
        back_in: i64,
    },
    Begin,
    Weather(Weather),
    Jump(i64),
    Compact,
    Deploy(&'static str),
}

/// A world.
struct Simulation {
    random: Random,
    mix: Mix,
    sabotage: Option<Sabotage>,
    clock: Clock,
    now: i64,
    config: Sagas,
    ledger: Store,
    outside: Outside,
    workers: Participants,
    node: Option<Node>,
    events: BTreeMap<(i64, u64), Event>,
    next_event: u64,
    /// Since when nothing has been wrong.
    well_since: i64,
    is_calm: bool,
    desk: workers::Desk,
    sagas: Vec<people::Case>,
    orders: u64,
    versions: BTreeMap<&'static str, u32>,
    handlers: Vec<String>,
    listed: Option<node::Listed>,
    report: SagaReport,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            node.end(self.now, false, &self.clock);
        }
    }
}

impl Simulation {
    fn new(seed: u64, plan: &SagaPlan) -> Self {
        let mut random = Random::new(seed);
        let mix = Mix::draw(plan, &mut random);
        let sabotage = plan.sabotage;
        let watch = Watch {
            judges_order: sabotage == Some(Sabotage::NoOrder),
            story: plan.tells.then(Vec::new),
            ..Watch::default()
        };
        let outside = Outside {
            watch: Arc::new(Mutex::new(watch)),
            told: Arc::default(),
            calls: Arc::default(),
            always_new: sabotage == Some(Sabotage::AlwaysNew),
        };
        let wrong = match sabotage {
            Some(Sabotage::FastClock) => Some(Wrong::Ahead(5_000)),
            Some(Sabotage::LateTimers) => Some(Wrong::Still(5_000)),
            _ => None,
        };
        let clock = Clock::new(random.fork(), wrong);
        let tamper = sabotage.map(Tamper::new);
        let watch = Arc::clone(&outside.watch);
        let ledger = match mix.on_the_log {
            false => Store::Model(SimulatedLedger::new(random.fork(), watch, tamper)),
            true => {
                let options = draw_options(&mut random);
                Store::Disk(DiskLedger::new(random.fork(), options, watch, tamper))
            }
        };
        ledger.set_weather(Weather::of(mix.sync_max));
        let config = Sagas {
            partitions: mix.partitions,
            ..Sagas::default()
        };
        Self {
            random,
            mix,
            sabotage,
            clock,
            now: 0,
            config,
            ledger,
            outside,
            workers: Participants::new(sabotage),
            node: None,
            events: BTreeMap::new(),
            next_event: 0,
            well_since: 0,
            is_calm: false,
            desk: workers::Desk::default(),
            sagas: Vec::new(),
            orders: 0,
            versions: BTreeMap::new(),
            handlers: Vec::new(),
            listed: None,
            report: SagaReport::default(),
        }
    }

    fn run(&mut self) -> Result<(), Broken> {
        self.begin()?;
        while self.node.as_ref().is_some_and(|node| !node.is_ready()) {
            self.pass(10)?;
            if self.now > CALM {
                return broken("a node starts", "it is never ready".to_owned());
            }
        }
        for saga_type in self.mix.types.clone() {
            self.deploy(saga_type)?;
        }
        self.prepare();
        while self.now < self.mix.rough {
            self.pass(GLANCE)?;
        }
        self.calm()
    }

    /// Plans an event so many milliseconds from now.
    fn plan(&mut self, after: u64, event: Event) {
        let at = self.now + i64::try_from(after).unwrap_or(0);
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    /// Lets time pass until something happens, and at most so long.
    fn pass(&mut self, most: i64) -> Result<(), Broken> {
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let until = next.map_or(self.now + most, |next| next.min(self.now + most));
        let until = until.max(self.now);
        match &self.node {
            Some(node) => node.live_until(until),
            None => self.clock.end(until),
        }
        self.now = until;
        self.clock.note(until);
        if let Some(is_off) = self.ledger.ends()
            && (is_off || self.is_calm || self.random.percent(30))
        {
            let back_in = i64::try_from(self.random.below(3_000)).unwrap_or(0);
            self.end(false, back_in);
        }
        self.take_work();
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= self.now
        {
            let event = entry.remove();
            self.happen(event)?;
        }
        self.well();
        match &lock(&self.outside.watch).broken {
            Some(found) => Err(found.clone()),
            None => Ok(()),
        }
    }

    /// Keeps since when all is well.
    fn well(&mut self) {
        let is_well = self
            .node
            .as_ref()
            .is_some_and(|node| node.is_ready() && !node.is_in_trouble());
        if !is_well || self.ledger.is_bad() {
            self.well_since = self.now;
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        let now = self.now;
        lock(&self.outside.watch).tell(|| format!("{now}ms {event:?}"));
        match event {
            Event::Work(work) => self.work(work),
            Event::Start(number) => self.start_case(number),
            Event::Order => self.order(),
            Event::Reply => self.reply_late(),
            Event::Look => self.look()?,
            Event::End {
                in_order: false, ..
            } if self.random.coin() && self.ledger.dies_soon() => {}
            Event::End { in_order, back_in } => self.end(in_order, back_in),
            Event::Begin => self.begin()?,
            Event::Weather(weather) => {
                self.ledger.set_weather(weather);
                self.well_since = self.now;
            }
            Event::Jump(millis) => {
                self.clock.jump(millis);
                self.well_since = self.now;
                self.report.count("clock jumps", 1);
            }
            Event::Compact => self.ledger.compact(),
            Event::Deploy(saga_type) => self.deploy(saga_type)?,
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Broken> {
        if self.node.is_some() {
            return Ok(());
        }
        let node = Node::start(
            &self.config,
            self.mix.topic_partitions,
            &self.ledger,
            &self.outside,
            &self.handlers,
            &self.clock,
        )?;
        self.node = Some(node);
        self.well_since = self.now;
        self.report.count("lives", 1);
        Ok(())
    }

    fn end(&mut self, in_order: bool, back_in: i64) {
        let Some(node) = self.node.take() else {
            return;
        };
        self.now = node.end(self.now, in_order, &self.clock);
        self.ledger.end(in_order);
        lock(&self.outside.calls).clear();
        self.desk.forget_calls();
        let name = if in_order {
            "stops in good order"
        } else {
            "crashes"
        };
        self.report.count(name, 1);
        self.plan(u64::try_from(back_in).unwrap_or(0), Event::Begin);
    }

    /// Deploys another version of a type.
    fn deploy(&mut self, saga_type: &'static str) -> Result<(), Broken> {
        let Some(node) = self.node.as_ref().filter(|node| node.is_ready()) else {
            return Ok(());
        };
        let version = self.versions.entry(saga_type).or_default();
        *version += 1;
        let mut value = definitions::draw(saga_type, *version, &mut self.random);
        if self.sabotage == Some(Sabotage::NoOrder) {
            value["Saga"]["Order"] = "Unordered".into();
        }
        let accepted = match Definition::of(&value) {
            Ok(accepted) => accepted.definition,
            Err(problems) => return broken("definitions are valid", format!("{problems} {value}")),
        };
        for resource in definitions::resources(&accepted.machine) {
            if let Some(name) = resource.strip_prefix("wharf:handler:") {
                self.handlers.push(name.to_owned());
                node.handle(name);
            }
        }
        let definition = Arc::new(accepted);
        lock(&self.outside.watch)
            .definitions
            .insert(definition.hash, definition);
        node.deploy(saga_type, &value.to_string())
    }

    /// Everything is well from now on, and people repair what is parked, until all is over.
    fn calm(&mut self) -> Result<(), Broken> {
        self.is_calm = true;
        self.ledger.lives_on();
        self.ledger.set_weather(Weather::of(5));
        self.events
            .retain(|_, event| matches!(event, Event::Work(_) | Event::Begin));
        let until = self.now + CALM;
        loop {
            self.begin()?;
            self.repair();
            let next = self.now + 1_000;
            while self.now < next {
                self.pass(500)?;
            }
            self.judge_while_well()?;
            let is_over = {
                let watch = lock(&self.outside.watch);
                let mut sagas = watch.sagas.values();
                sagas.all(|seen| seen.saga.status().is_end())
            };
            if (is_over && self.events.is_empty() && self.is_quiet()) || self.now > until {
                break;
            }
        }
        self.judge()
    }

    /// Whether nothing has been wrong for a while, and nothing is on its way to the disk.
    fn is_quiet(&self) -> bool {
        self.now - self.well_since >= WELL && self.ledger.is_idle()
    }

    /// What must hold at every moment at which nothing has been wrong for a while.
    fn judge_while_well(&mut self) -> Result<(), Broken> {
        let Some(node) = self.node.as_ref().filter(|_| self.is_quiet()) else {
            return Ok(());
        };
        timers::soon(&lock(&self.outside.watch), clock::wall().0)?;
        let is_old = self.sabotage == Some(Sabotage::OldLists) && self.listed.is_some();
        node.list(&mut self.listed, is_old)?;
        self.report.count("lists compared", 1);
        Ok(())
    }

    /// What must hold in the end.
    fn judge(&mut self) -> Result<(), Broken> {
        let acknowledged = lock(&self.outside.told).sagas();
        let watch = lock(&self.outside.watch);
        every_saga_ends::over(&watch, &acknowledged)?;
        let all: Vec<_> = watch.sagas.keys().copied().collect();
        every_saga_ends::over(&watch, &all)?;
        for (id, seen) in &watch.sagas {
            seen.checks.visits.ended(*id, &self.workers)?;
        }
        money::settled(&watch, &self.workers)?;
        drop(watch);
        let Some(node) = &self.node else {
            return Ok(());
        };
        for id in &all {
            node.history(*id)?;
        }
        node.look(all);
        self.pass(100)?;
        self.judge_while_well()
    }

    /// Adds what happened to the report.
    fn count(&mut self) {
        let watch = lock(&self.outside.watch);
        let (ledger, workers, report) = (self.ledger.counts(), &self.workers, &mut self.report);
        let lives_on_the_log = match self.mix.on_the_log {
            true => ledger.power_losses + ledger.kills + 1,
            false => 0,
        };
        for (name, count) in [
            ("sagas", watch.sagas.len() as u64),
            ("facts", watch.facts),
            ("snapshots", watch.snapshots),
            ("stale answers recorded", watch.stale),
            ("commits", ledger.commits),
            ("commits of unknown outcome", ledger.unknown),
            ("commits refused", ledger.refused),
            ("commits on a full disk", ledger.full),
            ("commits lost in a crash", ledger.lost),
            ("commits kept unanswered in a crash", ledger.kept),
            ("records compacted away", ledger.compacted),
            ("lives on the node's own log", lives_on_the_log),
            ("power losses", ledger.power_losses),
            ("kills", ledger.kills),
            ("deaths in recovery", ledger.deaths_in_recovery),
            ("effects", workers.done),
            ("effects undone", workers.undone),
            ("effects asked for again", workers.repeated),
            ("outdated commands", workers.outdated),
            ("commands refused after their undo", workers.refused),
        ] {
            report.count(name, count);
        }
        for seen in watch.sagas.values() {
            match seen.saga.status().as_str() {
                "COMPLETED" => report.count("sagas completed", 1),
                "COMPENSATED" => report.count("sagas undone", 1),
                "ABORTED_BY_OPERATOR" => report.count("sagas aborted", 1),
                _ => {}
            }
        }
    }
}
