//! What a service tells others: a type with a name that stays, a topic, and a key.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of message. Derive it, or implement it by hand: the derive is only sugar.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::Event;
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// struct OrderPlaced {
///     order: String,
///     total_cents: u64,
/// }
///
/// let placed = OrderPlaced { order: "o-1".to_owned(), total_cents: 995 };
/// assert_eq!(OrderPlaced::TYPE, "shop.order.placed");
/// assert_eq!(placed.key().as_deref(), Some("o-1"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "has no type name and no topic",
    note = "derive it: `#[derive(Serialize, Deserialize, Event)]` with `#[event(type = \"shop.order.placed\", topic = \"shop.orders\")]`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The CloudEvents `type`: its name for ever, whatever the Rust type is called.
    const TYPE: &'static str;
    /// The topic it is published to unless another is named.
    const TOPIC: &'static str;

    /// What is kept in order with what: events with the same key stay in order.
    fn key(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// The CloudEvents `subject`: what the event is about.
    fn subject(&self) -> Option<Cow<'_, str>> {
        None
    }

    /// An id derived from the content, where publishing the same again must be the same message.
    /// With `None`, every published message gets an id of its own (and what a handler returns gets
    /// one that is derived from the message it handled).
    fn id(&self) -> Option<String> {
        None
    }

    /// The schema that the event brings, if it brings one; a bus that has a registry writes and reads
    /// it with that. The derive makes it of `schema = "avro"`, `schema = "json"` or `proto = "…"`.
    #[cfg(feature = "schema")]
    fn contract() -> Option<Result<&'static crate::schema::Contract, crate::schema::SchemaError>> {
        None
    }
}

/// An event that asks for a reply.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::{Event, Request};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.price.asked", topic = "shop.prices")]
/// struct AskPrice { article: String }
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.price", topic = "shop.prices")]
/// struct Price { cents: u64 }
///
/// impl Request for AskPrice {
///     type Reply = Price;
/// }
/// ```
pub trait Request: Event {
    /// What the handler that answers replies with.
    type Reply: Event;
}
