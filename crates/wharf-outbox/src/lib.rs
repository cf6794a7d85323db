//! Usable alone, with heavy dependencies: the inbox, rows in the user's own database, in the user's
//! own transaction, by which a message has its effects once however often it is delivered.
//!
//! A consumer begins a transaction, asks the [`Inbox`] whether the message is the [first](Once::First),
//! handles it, keeps what it is about to publish ([`Inbox::record_outputs`]), commits, publishes, and
//! only then accepts the message. A crash before the commit leaves nothing; one after it is healed by
//! the redelivery, which is a [`Once::Duplicate`] and hands the outputs back.
//!
//! ```
//! # #[cfg(feature = "sqlite")]
//! # async fn example(publish: impl AsyncFn(&[(wharf_message::TopicName, wharf_message::Message)])) -> Result<(), Box<dyn std::error::Error>> {
//! use sqlx::sqlite::SqlitePool;
//! use wharf_message::{Message, TopicName, idempotency};
//! use wharf_outbox::{Inbox, Once, PayloadHash};
//!
//! let pool = SqlitePool::connect("sqlite::memory:").await?;
//! Inbox::install(&pool).await?;
//! let inbox = Inbox::new("billing");
//!
//! // For every delivery:
//! let topic = TopicName::new("orders")?;
//! let message = Message::new("order 7").with_header("idempotency-key", "order-7");
//! let key = idempotency::key(&message, &topic, None)?.ok_or("no key")?;
//!
//! let mut transaction = pool.begin().await?;
//! let outputs = match inbox.once(&mut transaction, &key, &PayloadHash::of(&message)).await? {
//!     Once::First => {
//!         sqlx::query("CREATE TABLE charges (id INTEGER)").execute(&mut *transaction).await?;
//!         let outputs = vec![(TopicName::new("charged")?, Message::new("order 7"))];
//!         inbox.record_outputs(&mut transaction, &key, &outputs).await?;
//!         transaction.commit().await?;
//!         outputs
//!     }
//!     Once::Duplicate { outputs, .. } => {
//!         transaction.rollback().await?;
//!         outputs
//!     }
//! };
//! publish(&outputs).await;
//! // Now the message is accepted.
//! # Ok(())
//! # }
//! ```
//!
//! A database error is told by [`classify`]: after a [`Class::Conflict`] the transaction is tried again
//! at once and no attempt is counted, with [`Class::Unavailable`] the database is waited for.
//! [`classify_chain`] does the same for a handler's own error.
//!
//! Where messages of a key carry growing sequences, [`Inbox::advance`] takes one row for each key
//! instead of one for each message.

mod dialect;
mod error;
mod inbox;
mod outputs;
mod window;

pub use dialect::Dialect;
pub use error::{Class, Error, classify, classify_chain};
pub use inbox::{Advance, Inbox, Once, PayloadHash};
pub use outputs::{Damaged, OUTPUTS_BYTES_MAX, decode_outputs, encode_outputs};
pub use window::{Purged, WindowTooShort, check_window};
