//! The library on the transport in memory, with tokio's clock paused: nothing here waits for real.

#![expect(clippy::unwrap_used, reason = "test binary")]

mod routes;
mod support;
