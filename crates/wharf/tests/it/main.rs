//! The library on the transport in memory, with tokio's clock paused: nothing here waits for real.

#![expect(clippy::unwrap_used, reason = "test binary")]

#[cfg(feature = "claim-check")]
mod claims;
#[cfg(feature = "claim-check")]
mod claims_bus;
#[cfg(all(feature = "claim-check", feature = "embedded", feature = "kafka"))]
mod claims_sweep;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod duplicates_sql;
mod examples;
#[cfg(feature = "sqlite")]
mod inbox;
#[cfg(all(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod outbox;
mod policies;
mod promises;
#[cfg(feature = "real-servers")]
mod real_servers {
    mod claims_s3;
}
mod routes;
#[cfg(all(
    feature = "embedded",
    feature = "kafka",
    feature = "saga",
    feature = "sqlite"
))]
mod sagas;
#[cfg(feature = "schema")]
mod schemas;
#[cfg(feature = "schema")]
mod schemas_set;
mod support;
mod telemetry;
mod test_bus;
