//! Typed events that bring their schema: registered before they are published, read with the schema
//! they were written with.
//!
//! An event says what it is with `#[event(schema = "avro")]`, `#[event(schema = "json")]` or
//! `#[event(proto = "…", message = "…")]`; a bus that has a [`Registry`] writes it in Confluent's wire
//! format and reads whatever version of it is in the topic:
//!
//! ```
//! use std::future::IntoFuture;
//!
//! use serde::{Deserialize, Serialize};
//! use wharf::schema::Registry;
//! use wharf::{Bus, Event, Msg, Router, group};
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "shop.order.placed", topic = "shop.orders", key = "order", schema = "avro")]
//! struct OrderPlaced { order: String, total_cents: u64 }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
//! // In production: Registry::connect("http://127.0.0.1:8081")
//! let bus = Bus::connect("memory:", "shop").await?.with_registry(&Registry::in_memory());
//! let (handled, mut seen) = tokio::sync::mpsc::unbounded_channel();
//! let handle = move |Msg(placed): Msg<OrderPlaced>| {
//!     let handled = handled.clone();
//!     async move { handled.send(placed.total_cents).unwrap() }
//! };
//! let serving = bus.serve(Router::new().topic("shop.orders", group("accounts").on(handle)));
//! let serving = tokio::spawn(serving.into_future());
//! bus.publish(&OrderPlaced { order: "o-1".to_owned(), total_cents: 995 }).await?;
//! assert_eq!(seen.recv().await, Some(995));
//! # serving.abort();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Without a registry, a bus writes and reads plain JSON, as for events without a schema. What must
//! never happen: a record is published whose schema the registry does not have, or is read with
//! another schema than it names.

mod avro;
mod cache;
mod contract;
mod http;
mod json;
mod memory;
mod registry;
mod retained;
mod shape;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wharf_message::Code;

pub use contract::{Contract, Lazy};
pub use registry::{Framing, Registry};
pub use retained::{Retained, RetainedCheck};
pub use shape::{Content, Definition, Definitions, Field, MapKey, Schema, Shape, Variant};
pub use wharf_schema::contract::Strategy;
pub use wharf_schema::model::SchemaType;

pub(crate) use contract::MARK;
pub(crate) use registry::unframed;
pub(crate) use retained::check_routes;

/// What two Avro schemas are to each other, found once; or why they cannot be compared.
type Prepared = Result<Arc<wharf_schema::avro::Reading>, String>;

/// Why something could not be written or read with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// No schema can be made of the event.
    #[error("no schema can be made of {event}: {why} ({})", Code::SCHEMA_INVALID)]
    Invalid {
        /// The event's type.
        event: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The registry refused: what was sent is not compatible, or there is no such schema.
    #[error("the schema registry refused {what}: {why} ({})", Code::SCHEMA_REFUSED)]
    Refused {
        /// What was asked.
        what: String,
        /// The registry's own words.
        why: String,
    },
    /// The registry cannot be reached, or is in trouble.
    #[error(
        "the schema registry does not answer {what}: {why} ({})",
        Code::SCHEMA_REGISTRY_UNREACHABLE
    )]
    Unreachable {
        /// What was asked.
        what: String,
        /// Why not.
        why: String,
    },
    /// The bytes cannot be written or read with the schema.
    #[error(
        "{event} cannot be {done} with its schema: {why} ({})",
        Code::SCHEMA_UNREADABLE
    )]
    Unreadable {
        /// The event's type.
        event: String,
        /// `written` or `read`.
        done: &'static str,
        /// Why not.
        why: String,
    },
}

impl SchemaError {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The default of a field as JSON; for what the derive writes.
#[doc(hidden)]
pub fn default_of<T: serde::Serialize>(value: &T) -> Option<serde_json::Value> {
    serde_json::to_value(value).ok()
}

/// The default of a field that serde has none for: null, where it may be null.
#[doc(hidden)]
pub fn default_of_absent(shape: &Shape) -> Option<serde_json::Value> {
    matches!(shape, Shape::Optional(_)).then_some(serde_json::Value::Null)
}
