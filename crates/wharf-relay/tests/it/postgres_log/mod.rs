//! The source that reads the log of Postgres, on real servers.

mod basics;
mod support;
mod tls;
mod traps;
mod trouble;
