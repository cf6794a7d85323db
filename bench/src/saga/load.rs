//! The load that everybody gets, and the rows that everybody has.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Options;
use super::figures::{Figure, Report, Who, number};
use crate::report::Unit;

/// How many steps a saga has.
pub(super) const STEPS: [&str; 5] = ["reserve", "charge", "arrange", "invoice", "confirm"];

/// How sagas follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// So many at once: the next one begins when one has ended.
    AtOnce(usize),
    /// So many a second, whether those before have ended or not.
    Rate(u32),
}

/// What is asked of a system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) pace: Pace,
    pub(super) length: Duration,
    /// Whether every saga fails after its last step, so that all five are undone.
    pub(super) fails: bool,
}

/// What came of it. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// Ended sagas per second.
    pub(super) rate: f64,
    /// From the start of a saga to its end.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// From one step's effect to the next one's, both in the worker.
    pub(super) step_p50: f64,
    pub(super) step_p99: f64,
}

impl Taken {
    /// What a client in Python answered, which is checked.
    pub(super) fn of(answer: &Value, fails: bool) -> Result<Self> {
        check(answer, number(answer, "sagas")?, fails)?;
        Ok(Self {
            rate: number(answer, "rate")?,
            p50: number(answer, "p50")?,
            p99: number(answer, "p99")?,
            step_p50: number(answer, "step_p50")?,
            step_p99: number(answer, "step_p99")?,
        })
    }
}

/// Every step of every saga must have had its effect in the worker, and every undo too.
pub(super) fn check(answer: &Value, sagas: f64, fails: bool) -> Result<()> {
    let wanted = sagas * STEPS.len() as f64;
    let (effects, undos) = (number(answer, "effects")?, number(answer, "undos")?);
    ensure!(
        effects >= wanted,
        "{sagas} sagas ended and their workers saw {effects} steps"
    );
    ensure!(
        undos >= if fails { wanted } else { 0.0 },
        "{sagas} sagas were undone and their workers saw {undos} undos"
    );
    Ok(())
}

/// A system with its workers, ready for load.
pub(super) trait Engine {
    fn load(&mut self, load: Load) -> Result<Taken>;

    /// The rows that only this one has.
    fn more(&mut self, _options: &Options, _report: &mut Report) {}
}

/// The rows of [`common`].
pub(super) const COMMON: [&str; 4] = ["sagas", "undo", "saga-paced", "step-paced"];

/// The rows that everybody has.
pub(super) fn common(
    engine: &mut dyn Engine,
    options: &Options,
    who: Who,
    report: &mut Report,
) -> Result<()> {
    let (at_once, length) = (Pace::AtOnce(options.at_once()), options.length());
    let load = |pace, fails| Load {
        pace,
        length,
        fails,
    };
    engine
        .load(load(at_once, false))
        .context("while it warmed up")?;
    let per_second = |taken: Taken| Figure::new(taken.rate, Unit::PerSecond);
    if options.wants("sagas") {
        report.add(
            "sagas",
            who,
            engine.load(load(at_once, false)).map(per_second),
        );
    }
    if options.wants("undo") {
        report.add(
            "undo",
            who,
            engine.load(load(at_once, true)).map(per_second),
        );
    }
    if options.wants("saga-paced") || options.wants("step-paced") {
        let taken = engine.load(load(Pace::Rate(options.paced()), false))?;
        let saga = Figure::new(taken.p50, Unit::Millis).with_percentiles(taken.p50, taken.p99);
        report.add("saga-paced", who, Ok(saga));
        let (p50, p99) = (taken.step_p50, taken.step_p99);
        let step = Figure::new(p50, Unit::Millis).with_percentiles(p50, p99);
        report.add("step-paced", who, Ok(step));
    }
    Ok(())
}
