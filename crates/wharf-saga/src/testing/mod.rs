//! For tests of sagas, here and in the simulator: random machines, and an oracle that knows what
//! must be undone and in which order.
//!
//! The oracle works from what was told to the saga and what it sent, and not from what the machine
//! thinks of it, so that it does not repeat the machine's mistakes.

mod generate;
mod oracle;

pub use generate::{Draw, machine};
pub use oracle::{Broken, Oracle};
