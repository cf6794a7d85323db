//! Usable alone.

pub mod policy;
pub mod testing;
