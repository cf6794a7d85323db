//! The protocol from outside: frames in, frames out.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod cluster_keys;
mod compat;
mod config_keys;
mod consumer_group_keys;
mod frames;
mod group_keys;
mod list_offsets;
mod metadata;
mod offset_keys;
mod produce_fetch;
mod quota_keys;
mod records;
mod schema_validation;
mod support;
mod topic_keys;
mod transaction_keys;
mod traps;
