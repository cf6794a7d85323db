//! The test kit: a bus in memory with a virtual clock, faults on purpose, and the duplicate-delivery
//! test.

mod bus;
pub mod duplicates;

pub use bus::{DeadLetter, TestBus, TestBusBuilder};
pub use wharf_message::transport::faults::Faults;
