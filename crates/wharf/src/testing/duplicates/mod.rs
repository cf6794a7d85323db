//! The duplicate-delivery test: every message twice, late, out of order and after a crash, and a
//! judgement by the effects.
//!
//! A transport that loses nothing delivers some messages more than once. Whether a consumer bears
//! that is decided by what it leaves behind: rows of a database, messages it sent, calls it made.
//! So that is what is compared: the effects of delivering each message once, in order, with those
//! of many [schedules](Schedule) with faults in them. A schedule whose effects differ is made
//! shorter as long as they do; what remains says in a line what goes wrong.
//!
//! [`check`] tests a handler in this process, [`check_router`] a router. [`judge`] is the same for a [`Subject`] of any kind;
//! the command `wharf test duplicates` is one for processes in any language.
//!
//! Nothing here reads a clock or random numbers: a seed gives the same schedules everywhere.

mod check;
mod effects;
mod fault;
mod handlers;
mod judge;
mod junit;
mod plan;
mod report;
mod router;
mod run;
mod schedule;
mod shrink;
mod subject;

#[cfg(test)]
mod mutants;

/// The page's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../../../docs/how-to/test-for-duplicates.md")]
struct Page;

pub use check::{Check, check};
pub use effects::{Diff, Difference, Effects, Ignored, Normal};
pub use fault::{Fault, Faults};
pub use handlers::Recorder;
pub use judge::{Error, Options, Progress, judge};
pub use report::{Case, Failure, Outcome, Report, Verdict};
pub use router::check_router;
pub use schedule::{How, NotAStep, Point, Schedule, Step, Twist};
pub use subject::{Given, Subject};
