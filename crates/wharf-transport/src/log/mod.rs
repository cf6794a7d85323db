//! What every transport over a partitioned log needs: which deliveries are settled and what may be
//! committed ([`Tracker`]), the records that stand for retries and scheduled messages ([`detour`]),
//! and those whose time has not come ([`Hold`]).
//!
//! Pure: no clock, no task, no socket. Time is an argument. What must never happen here: a watermark
//! beyond a delivery that is not settled.

pub mod detour;
mod hold;
pub mod noted;
mod tracker;

pub use hold::{Due, Hold};
pub use noted::Commit;
pub use tracker::{Prefix, Slot, TopicPartition, Tracker};
