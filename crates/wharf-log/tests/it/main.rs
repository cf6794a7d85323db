//! The log from outside: commits, reads, restarts, crashes.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod harness;
mod restart;
