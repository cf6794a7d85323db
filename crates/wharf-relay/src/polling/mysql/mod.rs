//! MySQL 8, MariaDB 10.6 and newer, with InnoDB: rows in the order of their numbers, and those that
//! are committed late as soon as they are.
//!
//! A number of `AUTO_INCREMENT` is taken at the insert, not at the commit, and a rolled-back one is
//! never used, so that reading behind the last number loses rows. Here a missing number is a hole that
//! is read again with every page until it is certain that nobody fills it: see `holes.rs`.
//!
//! What that promises: no row is lost or comes twice. The rows of one aggregate come in the order in
//! which they were committed if each transaction inserts them while it has a lock on the aggregate,
//! since then their numbers have that order, and a page that has one of them has all before it.
//!
//! A row is handed over once it is on disk: InnoDB shows it to others some moments before, and a crash
//! in between takes it back and gives its number to another row. So after each page the lease is
//! renewed, a commit that comes to disk behind all that the page saw.
//!
//! Needs, beside `SELECT` on the table: `PROCESS`, to see which transactions are open. Without it a
//! hole counts as closed when it has been there for [`insert_max`](super::Settings::insert_max)
//! without a lock on it: longer than any single `INSERT` may take. All writers have to use the same
//! server, since locks and open transactions are its own (no Galera with several writers).

mod holes;
mod polling;
mod probe;
mod table;

pub use polling::source;
