//! Usable alone.

pub mod policy;
