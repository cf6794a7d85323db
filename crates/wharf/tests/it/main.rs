//! The library on the transport in memory, with tokio's clock paused: nothing here waits for real.

#![expect(clippy::unwrap_used, reason = "test binary")]

#[cfg(feature = "sqlite")]
mod inbox;
mod routes;
mod support;
mod test_bus;
