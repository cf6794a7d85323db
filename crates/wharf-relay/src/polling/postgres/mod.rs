//! Postgres 13 and newer: rows in the order of their transactions, none before it is sure that no
//! other comes before it.
//!
//! A number of a sequence is taken at the insert, not at the commit, so that reading behind the last
//! number loses rows of transactions that commit later. Here rows are read in the order of
//! `(transaction_id, sequence)`, and only those of transactions below the oldest one that is still
//! running (the horizon): of those nothing can come any more.
//!
//! What that promises: no row is lost or comes twice, and the rows of a transaction come together. The
//! rows of one aggregate come in the order in which they were committed if each transaction locks the
//! aggregate before its first write of any kind; one that wrote elsewhere first has an earlier
//! transaction id than its lock says. The log knows the order of commits in every case.
//!
//! A transaction that writes and stays open holds back all rows behind it, wherever in the server it
//! is; [`Lag::held_by`](crate::Lag::held_by) names it.

mod checkpoint;
mod held;
mod polling;
mod table;

pub use polling::source;
pub use table::{Position, Read, Table, Until};
