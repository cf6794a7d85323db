//! What the simulations have in common: a node lives for some steps, ends, and is started again.
//!
//! Invariant: the chances are drawn in one order, or a seed would show something else.

use wharf_log::disk::simulated::{Random, SimulatedDisk};

use crate::checkers::Broken;
use crate::plan::{Fault, Mix};
use crate::report::Report;

/// What every simulation has.
pub(crate) struct World<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) mix: &'a Mix,
    /// The disk under the node that runs now.
    pub(crate) disk: &'a SimulatedDisk,
    pub(crate) report: &'a mut Report,
    /// How many steps a life has at most.
    pub(crate) steps: u32,
}

/// A simulation of one node over its lives.
pub(crate) trait Lives {
    fn world(&mut self) -> World<'_>;

    /// Of a machine that is to die in the middle of something: within how many operations of its disk.
    fn dies_within(random: &mut Random) -> u64;

    fn step(&mut self) -> Result<(), Broken>;

    /// Ends the node, starts it on what is there, and checks that.
    fn restart(&mut self) -> Result<(), Broken>;

    /// One life of the node.
    fn live(&mut self) -> Result<(), Broken> {
        let World {
            random,
            mix,
            disk,
            report,
            steps,
        } = self.world();
        report.rounds += 1;
        if mix.faults.contains(&Fault::MidOperation) && random.percent(60) {
            let within = Self::dies_within(random);
            disk.power_off_at(disk.counters().operations + 1 + random.below(within));
        }
        for _ in 0..steps {
            self.world().report.steps += 1;
            self.step()?;
            if self.world().disk.is_off() {
                break;
            }
        }
        self.restart()
    }
}

/// Some lives; adds what happened to the report, also when one of them broke a promise.
pub(crate) fn live(
    simulation: &mut impl Lives,
    lives: u32,
    report: &mut Report,
) -> Result<(), Broken> {
    let before = *report;
    for _ in 0..lives {
        let outcome = simulation.live();
        *report = before;
        report.add(simulation.world().report);
        outcome?;
    }
    Ok(())
}
