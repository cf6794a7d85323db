//! Usable alone, with heavy dependencies: rows in the user's own database, in the user's own
//! transaction. The [`Outbox`] holds messages that are sent exactly when their transaction is
//! committed; the inbox lets a message have its effects once, however often it is delivered.
//!
//! # Inbox
//!
//! A consumer begins a transaction, asks the [`Inbox`] whether the message is the [first](Once::First),
//! handles it, keeps what it is about to publish ([`Inbox::record_outputs`]), commits, publishes, and
//! only then accepts the message. A crash before the commit leaves nothing; one after it is healed by
//! the redelivery, which is a [`Once::Duplicate`] and hands the outputs back.
//!
//! ```
//! use sqlx::SqlitePool;
//! use wharf_message::{Message, TopicName, idempotency};
//! use wharf_outbox::{Inbox, Once, PayloadHash};
//!
//! /// Handles one delivery; answers what is to be published before it is accepted.
//! async fn handle(
//!     pool: &SqlitePool,
//!     inbox: &Inbox,
//!     message: &Message,
//! ) -> Result<Vec<(TopicName, Message)>, Box<dyn std::error::Error>> {
//!     let orders = TopicName::new("orders")?;
//!     let key = idempotency::key(message, &orders, None)?.ok_or("no key")?;
//!     let mut transaction = pool.begin().await?;
//!     match inbox.once(&mut transaction, &key, &PayloadHash::of(message)).await? {
//!         Once::First => {
//!             let charge = "INSERT INTO charges (order_id) VALUES (7)";
//!             sqlx::query(charge).execute(&mut *transaction).await?;
//!             let outputs = vec![(TopicName::new("charged")?, Message::new("order 7"))];
//!             inbox.record_outputs(&mut transaction, &key, &outputs).await?;
//!             transaction.commit().await?;
//!             Ok(outputs)
//!         }
//!         Once::Duplicate { outputs, .. } => {
//!             transaction.rollback().await?;
//!             Ok(outputs)
//!         }
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let one = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
//! # let pool = one.connect("sqlite::memory:").await?;
//! # sqlx::query("CREATE TABLE charges (order_id INTEGER)").execute(&pool).await?;
//! Inbox::install(&pool).await?;
//! let inbox = Inbox::new("billing");
//! let message = Message::new("order 7").with_header("idempotency-key", "order-7");
//! let outputs = handle(&pool, &inbox, &message).await?;
//! assert_eq!(handle(&pool, &inbox, &message).await?, outputs, "delivered again");
//! # let charges: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM charges").fetch_one(&pool).await?;
//! # assert_eq!(charges, 1);
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
pub mod hint;
mod inbox;
mod outbox;
mod outputs;
mod window;

pub use dialect::Dialect;
pub use error::{Class, Error, classify, classify_chain};
pub use inbox::{Advance, Inbox, Once, PayloadHash};
pub use outbox::{
    Confirmed, InvalidTableName, Maintained, Outbox, OutboxError, PAYLOAD_BYTES_MAX, TABLE,
    TableName,
};
#[cfg(feature = "postgres")]
pub use outbox::{EMIT_PREFIX, Horizon, emit};
pub use outputs::{Damaged, OUTPUTS_BYTES_MAX, decode_outputs, encode_outputs};
pub use window::{Purged, WindowTooShort, check_window};
