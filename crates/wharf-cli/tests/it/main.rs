//! The binary from outside: what it prints, and the code it ends with.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod basics;
mod choreography;
mod choreography_walk;
mod commands;
mod crowd;
mod demo;
mod demo_orchestration;
mod duplicates;
mod outbox;
mod quotas;
mod refused;
mod relay;
mod run;
mod saga;
mod schema_files;
mod schema_impact;
mod serve;
mod transactions;
