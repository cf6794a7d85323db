//! The broker over a real log on a simulated disk, in virtual time.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod fetching;
mod groups;
mod listing;
mod producing;
mod settings;
mod support;
mod topics;
