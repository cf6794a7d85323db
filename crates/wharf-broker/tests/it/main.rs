//! The broker over a real log on a simulated disk, in virtual time.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod settings;
mod support;
