//! Usable alone, a deliverable: messages to async functions, with the reliability patterns on.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use wharf::{Bus, Event, Msg, Publish, Router, group};
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
//! struct OrderPlaced { order: String, article: String }
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "shop.stock.reserved", topic = "shop.stock", key = "order")]
//! struct StockReserved { order: String }
//!
//! async fn reserve(Msg(placed): Msg<OrderPlaced>) -> Publish<StockReserved> {
//!     Publish(StockReserved { order: placed.order })
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let bus = Bus::connect("embedded:///var/lib/shop", "inventory").await?;
//!     let router = Router::new().topic("shop.orders", group("inventory").on(reserve));
//!     bus.serve(router).await?;
//!     Ok(())
//! }
//! ```

#[cfg(test)]
extern crate self as wharf;

mod bus;
mod checking;
#[cfg(feature = "claim-check")]
pub mod claim;
mod clock;
mod connect;
#[cfg(feature = "embedded")]
pub mod embedded;
mod envelope;
mod event;
mod extract;
mod failure;
mod gate;
mod handler;
#[cfg(feature = "sql")]
mod inbox;
mod incoming;
#[cfg(feature = "sql")]
pub mod outbox;
mod outcome;
pub mod policy;
mod request;
mod retry;
mod router;
mod run;
#[cfg(feature = "saga")]
pub mod saga;
#[cfg(feature = "schema")]
pub mod schema;
mod serve;
mod telemetry;
pub mod testing;

pub use bus::{Bus, BusError};
pub use clock::Clock;
pub use envelope::Meta;
pub use event::{Event, Request};
#[cfg(feature = "schema")]
pub use extract::Contracted;
pub use extract::{
    Attempt, Batch, Beside, Correlation, Deadline, FromIncoming, FromParts, FromRef, Key, Msg,
    Nothing, Raw, State, Takes, Transaction, Waiting,
};
pub use failure::{Disposition, Error, Failed, Failure, IntoFailed};
pub use handler::{Handler, HandlerService};
#[cfg(feature = "sql")]
pub use inbox::{Inbox, SqlInbox, Tx, WindowTooShort};
pub use incoming::{Context, Extensions, Incoming, Received};
pub use outcome::{
    Effects, IntoEffects, IntoOutcome, Outcome, Outgoing, Publish, Reply, Schedule, Target, To,
    When,
};
pub use request::{Asking, Requests};
pub use retry::{Backoff, Meanwhile, Retry};
pub use router::{Attempts, Concurrency, InvalidRoute, Route, Router, Unknown, group};
#[cfg(feature = "schema")]
pub use schema::Schema;
pub use serve::{Serve, ServeError};
pub use telemetry::Ends;
#[cfg(feature = "schema")]
pub use wharf_derive::Schema;
/// ```
/// use wharf::{Raw, State};
///
/// #[wharf::handler]
/// async fn archive(State(_folder): State<String>, Raw(_message): Raw) {}
/// # let _: wharf::Route<String> = wharf::group("archive").on(archive);
/// ```
///
/// ```compile_fail
/// #[wharf::handler]
/// async fn archive(folder: String, wharf::Raw(_message): wharf::Raw) {} // takes nothing out of a message
/// ```
pub use wharf_derive::handler;
pub use wharf_derive::{Event, Failure};
pub use wharf_message::dead_letter::Reason;
pub use wharf_message::transport::{Capabilities, Capability, Position, Start};
pub use wharf_message::{GroupName, Headers, Message, Timestamp, TopicName, header};
