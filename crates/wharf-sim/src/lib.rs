//! Test-only: the simulator.
//!
//! [`run`] uses a log on a simulated disk in virtual time, breaks the machine under it at random
//! moments, starts it again, and lets [`checkers`] compare what is there with what was answered.
//! The seed decides everything, so a failing one is replayed by one line. Nothing here reads a
//! clock, a real disk or any other source of chance.

mod broker;
pub mod checkers;
mod lives;
pub mod model;
mod network;
pub mod plan;
mod report;
pub mod sabotage;
#[cfg(feature = "sagas")]
mod sagas;
mod simulation;
pub mod view;
mod workload;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::Plan;
pub use report::Report;
#[cfg(feature = "sagas")]
pub use sagas::{SagaPlan, SagaReport, SagaSabotage, SagaViolation, run_sagas};

use broker::BrokerSimulation;
use checkers::{Broken, broken};
use lives::{Lives as _, live};
use network::NetworkSimulation;
use simulation::Simulation;

/// A promise that one seed found broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed that shows it again.
    pub seed: u64,
    /// The promise, as its checker names it.
    pub promise: &'static str,
    /// What was found.
    pub detail: String,
    /// What had happened until then.
    pub report: Report,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            promise,
            detail,
            report,
        } = self;
        write!(
            formatter,
            "broken: {promise}\n  {detail}\n  in round {} after {} units\n  \
             replay it: cargo xtask sim --seed {seed}",
            report.rounds, report.units
        )
    }
}

impl std::error::Error for Violation {}

/// Runs one seed.
pub fn run(seed: u64, plan: &Plan) -> Result<Report, Box<Violation>> {
    let mut report = Report::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| simulate(seed, plan, &mut report)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        broken("nothing panics", text.unwrap_or("a panic without a text"))
    });
    match outcome {
        Ok(()) => Ok(report),
        Err(Broken { promise, detail }) => Err(Box::new(Violation {
            seed,
            promise,
            detail,
            report,
        })),
    }
}

fn simulate(seed: u64, plan: &Plan, report: &mut Report) -> Result<(), Broken> {
    let mut simulation = Simulation::start(seed, plan)?;
    live(&mut simulation, plan.rounds, report)?;
    if plan.sabotage.is_some() {
        return Ok(());
    }
    let outcome = simulation.corrupt();
    *report = *simulation.world().report;
    outcome?;
    let mut simulation = BrokerSimulation::start(seed, plan)?;
    live(&mut simulation, plan.rounds, report)?;
    let mut simulation = NetworkSimulation::start(seed, plan)?;
    live(&mut simulation, plan.rounds, report)
}
