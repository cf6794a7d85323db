//! The server from outside: configuration, the listeners, start and stop.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod choreography;
mod choreography_groups;
mod client;
mod config;
mod hostile;
mod neighbours;
mod node;
mod registry;
mod relay;
mod saga;
mod saga_sfn;
mod schema_impact;
mod schema_validation;
