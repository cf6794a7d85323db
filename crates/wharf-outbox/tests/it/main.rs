//! Inbox and outbox on the real databases: Postgres, MariaDB and SQLite.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "test binary")]

mod classes;
mod crashes;
mod high_water;
mod once;
mod outbox;
mod races;
mod room;
mod support;
mod tables;
mod windows;
