//! Which message a row becomes, and where it goes.
//!
//! [`OutboxRouter`] does it as the Outbox Event Router of Debezium does, and adds CloudEvents.

mod aside;
mod java;
mod json;
mod outbox;
mod placed;
mod settings;
mod span;
mod template;
#[cfg(test)]
mod tests;

pub use aside::dead_letter_topic;
pub(crate) use aside::refused;
pub use outbox::OutboxRouter;
pub use settings::{
    EmptyArrays, InvalidSetting, Missing, NullFields, OutboxSettings, Placement, Where,
};

use wharf_message::{Message, TopicName};

use crate::Row;

/// A message, and the topic it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The topic.
    pub topic: TopicName,
    /// The partition the row asks for; `None` goes by the key.
    pub partition: Option<i32>,
    /// The message.
    pub message: Message,
}

/// Why no message can be made of a row, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unroutable(pub String);

/// Makes messages of rows.
pub trait Router: Send + Sync {
    /// The message of a row; `None` when there is nothing to send, as for a row that only marks
    /// something.
    ///
    /// # Errors
    /// When none can be made: the row is set aside with this reason.
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable>;

    /// The message that keeps a row which no message could be made of, for the dead-letter topic of
    /// the source.
    fn set_aside(&self, source: &str, row: &Row, reason: &Unroutable) -> Routed;
}
