//! Postgres 13 and newer: rows from snapshot to snapshot.
//!
//! A number of a sequence is taken at the insert, not at the commit, so that reading behind the last
//! number loses rows of transactions that commit later. Here a batch is the rows that one snapshot of
//! the database sees and the one before does not, told by the column `transaction_id`; no open
//! transaction, however long, holds back the rows of others.
//!
//! What that promises: no row is lost or comes twice. The rows of one aggregate come in the order in
//! which they were committed if each transaction inserts them while it has a lock on the aggregate:
//! a snapshot that sees a commit sees those before it, and within a batch rows come in the order of
//! their numbers, which were taken under the lock. (The order of transaction ids would not do: an
//! `UPDATE` takes its id before it waits for the row.) The sequence must be one that gives its numbers
//! to all sessions in turn (`CACHE 1`, as is usual), and a number to one row only.
//!
//! Commits have to be on disk before others see them, as with `synchronous_commit` they are: after a
//! crash the server gives the ids of transactions that left no trace to others.

mod checkpoint;
mod polling;
mod reader;
mod table;

pub(crate) use checkpoint::Batch;
pub use polling::source;
pub(crate) use reader::PostgresReader;
pub(crate) use table::Table;
