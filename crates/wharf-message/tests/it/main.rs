//! The suites of the seams, run on the references and on references with one rule broken.

#![expect(clippy::unwrap_used, reason = "test binary")]

mod memory;
mod model;
mod sabotage;
mod simulated;
