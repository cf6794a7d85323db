//! The protocol from outside: frames in, frames out.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod compat;
mod frames;
mod metadata;
mod produce_fetch;
mod support;
