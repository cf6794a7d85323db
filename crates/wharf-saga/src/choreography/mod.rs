//! Sagas that nobody orchestrates: contracts, verdicts and the lens over traffic.
//!
//! - [`observed`] is a record as it was seen, with what its headers say in the dialects people use.
//! - [`lens`] derives live sagas and the graph of what follows what, without any declaration.
//! - [`contract`] is what shall follow what within how long, and what undoes what; its static checks
//!   find what cannot work before it is deployed.
//! - [`verdict`] judges every instance by its contract while its events come in.
//!
//! Records are written by strangers: nothing here panics, hangs or grows beyond its limits. Nothing
//! here reads a clock; a watcher is told how far time has come.

pub mod contract;
pub mod correlation;
pub mod lens;
pub mod nearest;
pub mod observed;
pub mod verdict;

pub use contract::{Contract, Problem};
pub use correlation::Correlation;
pub use lens::Lens;
pub use observed::Observed;
pub use verdict::{Monitor, Verdict};
