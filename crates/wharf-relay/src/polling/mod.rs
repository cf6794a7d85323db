//! Sources that read an outbox table by asking for it again and again.
//!
//! Needs no right to replicate and works behind connection poolers. What each database promises, and
//! by which means, is said in its module.

mod name;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
mod time;
mod trouble;

pub use name::TableName;
