//! Usable alone, and pure: schemas as contracts between services.
//!
//! - [`Parsed`] is a schema of one of the three kinds that was understood: it has a canonical text,
//!   reads payloads, and is compared with another by our own compatibility engines.
//! - [`compat`] says what breaks between a new schema and the versions before it, every
//!   incompatibility with its kind, path and sentence, and a [`compat::Witness`]: a record that the
//!   one side writes and the other cannot read.
//! - [`wire`] is how a record names the schema it was written with.
//! - [`registry`] is a schema registry as a view over its topic, and the decisions that go into it.
//! - [`contract`] is what a record owes to its topic: a known schema, of its subject, that reads it.
//! - [`model`] holds the words of the registry: subjects, versions, references, metadata, rules.
//!
//! What comes in is written by strangers: nothing here may panic, hang, recurse without a bound or
//! allocate beyond [`Limits`]; there is no clock, file or socket.

pub mod avro;
pub mod compat;
pub mod contract;
pub mod findings;
mod format;
pub mod impact;
mod jackson;
pub mod json;
mod limits;
pub mod lint;
pub mod model;
pub mod names;
pub mod protobuf;
pub mod registry;
pub mod wire;

pub use format::{Dependency, Invalid, Parsed, Unreadable};
pub use limits::Limits;
