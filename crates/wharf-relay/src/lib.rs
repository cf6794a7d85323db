//! Heavy dependencies: the relay, which moves the rows of an outbox table to topics.
//!
//! A [`Source`] reads rows in an order that keeps each aggregate's own, a [`Router`] makes a message
//! of each, a [`Target`] makes them durable. A [`Relay`] joins the three and starts again after every
//! trouble, from what is known to be durable.
//!
//! ```text
//!  database ─► Source ─batches─► Router ─messages─► Target ─► topics
//!                 ▲                                    │
//!                 └────── confirmed, in order ─────────┘
//! ```
//!
//! Invariants: a source is told that a batch is done only when it and every batch before it are
//! durable at the target; what is under way is bounded in bytes; a row that no message can be made of
//! is set aside durably before its batch counts as done, and never stops the rows behind it.

mod feed;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
pub mod polling;
#[cfg(feature = "postgres")]
pub mod postgres;
mod relay;
#[cfg(any(feature = "postgres", feature = "mysql", feature = "sqlite"))]
mod room;
mod route;
mod row;
mod status;
pub mod target;
mod trouble;

pub use feed::{Batch, Checkpoint, Feed, FeedClosed, Source};
pub use relay::{Relay, Settings};
pub use route::{
    EmptyArrays, InvalidSetting, Missing, NullFields, OutboxRouter, OutboxSettings, Placement,
    Routed, Router, Unroutable, Where, dead_letter_topic,
};
pub use row::{Column, Columns, Kind, Place, Row};
pub use status::{Lag, State, Status, StatusView};
pub use target::{
    Connect, Delivered, LedgerSettings, LedgerTarget, Opened, PublishTarget, Sink, Target,
    TopicForm, Topics,
};
pub use trouble::{Trouble, TroubleKind};
