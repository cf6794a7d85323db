//! The relay with its sources, routers and targets, against real databases and brokers.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod ledger;
mod polling;
mod postgres_log;
mod publish;
mod relay;
