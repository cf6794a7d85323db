//! The transactional outbox: events that are sent exactly when the change they tell of is kept.
//!
//! A service writes its rows and its event in one database transaction; a relay of the server moves the
//! event to its topic. [`publish`] takes the caller's own transaction, or the [`Tx`] of a handler: then
//! the inbox row, the business rows and the event are committed together, and the event has the
//! correlation, the cause and the trace context of the handled message, and an id that is the same
//! however often that message is handled.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # #[cfg(feature = "sqlite")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use sqlx::Sqlite;
//! use wharf::testing::TestBus;
//! use wharf::{Event, Msg, Router, SqlInbox, Tx, group, outbox};
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
//! struct OrderPlaced { order: String }
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(type = "shop.stock.reserved", topic = "shop.stock", key = "order")]
//! struct StockReserved { order: String }
//!
//! async fn reserve(mut tx: Tx<Sqlite>, Msg(placed): Msg<OrderPlaced>) -> Result<(), wharf::Error> {
//!     let sql = "INSERT INTO reserved (id) VALUES (?)";
//!     sqlx::query(sql).bind(&placed.order).execute(&mut *tx).await?;
//!     outbox::publish(&mut tx, &StockReserved { order: placed.order }).await?;
//!     Ok(())
//! }
//!
//! # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
//! # sqlx::query("CREATE TABLE reserved (id TEXT)").execute(&pool).await?;
//! let outbox = outbox::Outbox::new();
//! outbox.rows().install(&pool).await?;
//! let inbox = SqlInbox::new(pool.clone(), "inventory");
//! inbox.install().await?;
//! let router = Router::new().topic("shop.orders", group("inventory").on(reserve).inbox(inbox));
//! // Every message comes twice.
//! let bus = TestBus::builder().duplicate_every(1).start(router).await;
//! bus.publish(OrderPlaced { order: "o-1".to_owned() }).await;
//! bus.settle().await;
//! let sql = "SELECT aggregatetype, aggregateid, type FROM wharf_outbox";
//! let rows: Vec<(String, String, String)> = sqlx::query_as(sql).fetch_all(&pool).await?;
//! let row = ("shop.stock", "o-1", "shop.stock.reserved");
//! assert_eq!(rows, [(row.0.to_owned(), row.1.to_owned(), row.2.to_owned())]);
//!
//! // And without a handler:
//! let mut tx = pool.begin().await?;
//! outbox::publish(&mut tx, &OrderPlaced { order: "o-2".to_owned() }).await?;
//! tx.commit().await?;
//! outbox::hint();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use sqlx::Transaction;
use wharf_message::{Message, Timestamp, TopicName};
use wharf_outbox::Dialect;

use crate::bus::{self, Bus, Shared};
use crate::clock::Clock;
use crate::envelope::{self, Cause};
use crate::failure::Failed;
use crate::inbox::Tx;
use crate::incoming::{Context, Received};
use crate::outcome::{Effects, IntoEffects, Outgoing, Target, When, topic_of, write};
use crate::{Event, Headers};

pub use wharf_outbox::{
    Confirmed, InvalidTableName, Maintained, OutboxError as Error, PAYLOAD_BYTES_MAX, TableName,
};

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

/// A transaction that events can be written in: sqlx's own, and the [`Tx`] of a handler.
pub trait InTransaction: Sealed + Send {
    /// Writes rows. The future has no type of its own, so that what awaits it can be sent to another
    /// thread whatever the transaction's lifetime is.
    #[doc(hidden)]
    fn write<'a>(
        &'a mut self,
        rows: &'a wharf_outbox::Outbox,
        messages: &'a [(TopicName, Message)],
    ) -> BoxFuture<'a, Result<(), Error>>;
}

impl<D: Dialect> Sealed for Transaction<'_, D> {}
impl<D: Dialect> Sealed for Tx<D> {}

impl<D: Dialect> InTransaction for Transaction<'_, D> {
    fn write<'a>(
        &'a mut self,
        rows: &'a wharf_outbox::Outbox,
        messages: &'a [(TopicName, Message)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(rows.publish_all(self, messages))
    }
}

impl<D: Dialect> InTransaction for Tx<D> {
    fn write<'a>(
        &'a mut self,
        rows: &'a wharf_outbox::Outbox,
        messages: &'a [(TopicName, Message)],
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.transaction().write(rows, messages)
    }
}

/// A transaction of Postgres, whose log takes events without a table.
#[cfg(feature = "postgres")]
pub trait InLog: InTransaction {
    /// Writes a message into the log.
    #[doc(hidden)]
    fn emit<'a>(
        &'a mut self,
        topic: &'a TopicName,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

#[cfg(feature = "postgres")]
impl InLog for Transaction<'_, sqlx::Postgres> {
    fn emit<'a>(
        &'a mut self,
        topic: &'a TopicName,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(wharf_outbox::emit(self, topic, message))
    }
}

#[cfg(feature = "postgres")]
impl InLog for Tx<sqlx::Postgres> {
    fn emit<'a>(
        &'a mut self,
        topic: &'a TopicName,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.transaction().emit(topic, message)
    }
}

/// Writes an event into the table `wharf_outbox`, in this transaction. It is sent to its topic if and
/// when the transaction is committed. Outside of handlers, use [`Bus::outbox`], which knows the name of
/// the service; here it is the program's.
///
/// # Errors
/// [`Error`]; roll the transaction back.
pub async fn publish<T: Event>(tx: &mut impl InTransaction, event: &T) -> Result<(), Error> {
    Outbox::new().publish(tx, event).await
}

/// Writes an event that is not to be delivered before this time.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.payment.overdue", topic = "shop.overdue", key = "order")]
/// # struct Overdue { order: String }
/// # #[cfg(feature = "sqlite")]
/// async fn remind(tx: &mut wharf::Tx<sqlx::Sqlite>, due: wharf::Timestamp) -> Result<(), wharf::outbox::Error> {
///     wharf::outbox::schedule(tx, due, &Overdue { order: "o-1".to_owned() }).await
/// }
/// ```
///
/// # Errors
/// As [`publish`].
pub async fn schedule<T: Event>(
    tx: &mut impl InTransaction,
    at: Timestamp,
    event: &T,
) -> Result<(), Error> {
    Outbox::new().schedule(tx, at, event).await
}

/// Writes whatever a handler could return, in this transaction: [`To`](crate::To) another topic,
/// [`Schedule`](crate::Schedule)d, the [start of a saga](crate::saga::Start), several at once.
///
/// # Errors
/// As [`publish`].
pub async fn emit<E: IntoEffects>(tx: &mut impl InTransaction, what: E) -> Result<(), Error> {
    Outbox::new().emit(tx, what).await
}

/// Tells the relays in this process that rows of `wharf_outbox` were committed, so that they look at
/// once. Cheap; call it after the commit. After the transaction of a handler the library does.
pub fn hint() {
    Outbox::new().hint();
}

/// An outbox, with the name of the service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outbox {
    rows: wharf_outbox::Outbox,
    shared: Option<Arc<Shared>>,
}

impl Bus {
    /// The outbox of this service, in the table `wharf_outbox`. Nothing goes over the bus itself; it
    /// gives the service's name, the clock and the telemetry.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
    /// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
    /// # struct OrderPlaced { order: String }
    /// # #[cfg(feature = "sqlite")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    /// let bus = wharf::Bus::connect("memory:", "shop").await?;
    /// let outbox = bus.outbox();
    /// outbox.rows().install(&pool).await?;
    /// let mut tx = pool.begin().await?;
    /// outbox.publish(&mut tx, &OrderPlaced { order: "o-1".to_owned() }).await?;
    /// tx.commit().await?;
    /// outbox.hint();
    /// let sql = "SELECT headers ->> '$.ce_source' FROM wharf_outbox";
    /// let source: String = sqlx::query_scalar(sql).fetch_one(&pool).await?;
    /// assert_eq!(source, "shop");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn outbox(&self) -> Outbox {
        Outbox {
            rows: wharf_outbox::Outbox::new(),
            shared: Some(Arc::clone(self.shared())),
        }
    }
}

impl Outbox {
    /// The table `wharf_outbox`, for a service that is named as the program.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another table.
    #[must_use]
    pub fn table(self, table: TableName) -> Self {
        let rows = wharf_outbox::Outbox::new().table(table);
        Self { rows, ..self }
    }

    /// The table: to create it, to show its statements, to keep it small, to write messages that were
    /// made by hand.
    pub fn rows(&self) -> &wharf_outbox::Outbox {
        &self.rows
    }

    /// As [`publish`](fn@publish).
    ///
    /// # Errors
    /// [`Error`]; roll the transaction back.
    pub async fn publish<T: Event>(
        &self,
        tx: &mut impl InTransaction,
        event: &T,
    ) -> Result<(), Error> {
        let effects = effects_of(event, When::Now)?;
        self.write(tx, effects).await
    }

    /// As [`schedule`](fn@schedule).
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub async fn schedule<T: Event>(
        &self,
        tx: &mut impl InTransaction,
        at: Timestamp,
        event: &T,
    ) -> Result<(), Error> {
        let effects = effects_of(event, When::At(at))?;
        self.write(tx, effects).await
    }

    /// Writes whatever a handler could return: [`To`](crate::To) another topic,
    /// [`Schedule`](crate::Schedule)d, several at once. A reply goes to who asked, from within a
    /// handler, and else nowhere.
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    pub async fn emit<E: IntoEffects>(
        &self,
        tx: &mut impl InTransaction,
        what: E,
    ) -> Result<(), Error> {
        let mut effects = Effects::default();
        what.add_to(&mut effects)
            .map_err(|failed| refused("what is to be sent", failed))?;
        self.write(tx, effects).await
    }

    /// Writes an event into the log of Postgres alone, without a table: see [`wharf_outbox::emit`] for
    /// what that is good for.
    ///
    /// # Errors
    /// As [`Outbox::publish`].
    #[cfg(feature = "postgres")]
    pub async fn publish_in_log<T: Event>(
        &self,
        tx: &mut impl InLog,
        event: &T,
    ) -> Result<(), Error> {
        for (topic, message) in self.messages(effects_of(event, When::Now)?).await? {
            tx.emit(&topic, &message).await?;
        }
        Ok(())
    }

    /// As [`hint`](fn@hint).
    pub fn hint(&self) {
        self.rows.hint();
    }

    async fn write(&self, tx: &mut impl InTransaction, effects: Effects) -> Result<(), Error> {
        let messages = self.messages(effects).await?;
        tx.write(&self.rows, &messages).await?;
        // A hint that comes of a transaction which is rolled back costs one look.
        if let Ok(handling) = HANDLING.try_with(Arc::clone) {
            handling.wrote_to(&self.rows);
        }
        Ok(())
    }

    /// The messages as they are sent: with their envelopes, and written with their schemas.
    #[cfg(feature = "schema")]
    async fn messages(&self, effects: Effects) -> Result<Vec<(TopicName, Message)>, Error> {
        let handling = HANDLING.try_with(Arc::clone).ok();
        let of_handling = handling.as_ref();
        let shared = of_handling.map(|handling| Arc::clone(handling.context.bus.shared()));
        let shared = shared.or_else(|| self.shared.clone());
        let nothing = crate::checking::Checking::default();
        let checking = shared.as_ref().map_or(&nothing, |shared| &shared.checking);
        let mut messages = self.enveloped(effects)?;
        for (topic, message) in &mut messages {
            let written = checking.write(topic, std::mem::take(message)).await;
            *message = written.map_err(|error| Error::Message {
                topic: topic.to_string(),
                what: error.to_string(),
            })?;
        }
        Ok(messages)
    }

    /// The same without schemas.
    #[cfg(not(feature = "schema"))]
    async fn messages(&self, effects: Effects) -> Result<Vec<(TopicName, Message)>, Error> {
        std::future::ready(self.enveloped(effects)).await
    }

    /// The messages with their envelopes.
    fn enveloped(&self, effects: Effects) -> Result<Vec<(TopicName, Message)>, Error> {
        if let Ok(handling) = HANDLING.try_with(Arc::clone) {
            let messages = handling.messages(effects);
            return messages.map_err(|failed| refused("a reply", failed));
        }
        let shared = self.shared.as_deref();
        let clock = shared.map_or_else(Clock::wall, |shared| shared.clock);
        let now = clock.now();
        let mut messages = Vec::with_capacity(effects.len());
        for outgoing in effects.outgoing {
            let Target::Topic(topic) = outgoing.to.clone() else {
                continue;
            };
            let mut message = bus::timed(outgoing, now, &clock);
            let source: &str = match shared {
                Some(shared) => &shared.service,
                None => program(),
            };
            envelope::complete(&mut message, source, now, None);
            if let Some(shared) = shared {
                shared
                    .telemetry
                    .create(&topic, &mut message, &Headers::default());
            }
            messages.push((topic, message));
        }
        Ok(messages)
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Outbox")
            .field("table", self.rows.table_name())
            .finish_non_exhaustive()
    }
}

/// An event as the one thing to send.
fn effects_of<T: Event>(event: &T, when: When) -> Result<Effects, Error> {
    let mut effects = Effects::default();
    let refused = |failed| refused(T::TOPIC, failed);
    effects.push(Outgoing {
        to: Target::Topic(topic_of(T::TOPIC).map_err(refused)?),
        when,
        expires_after: None,
        message: write(event).map_err(refused)?,
    });
    Ok(effects)
}

fn refused(topic: &str, failed: Failed) -> Error {
    Error::Message {
        topic: topic.to_owned(),
        what: failed.error,
    }
}

/// The program's name, for want of the service's.
fn program() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let program = std::env::current_exe().ok();
        let name = program.as_deref().and_then(|program| program.file_stem());
        name.map_or_else(
            || "wharf".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    })
}

tokio::task_local! {
    /// The attempt that this task makes in the transaction of an inbox.
    static HANDLING: Arc<Handling>;
}

/// What an attempt in the transaction of an inbox gives to the events it writes.
pub(crate) struct Handling {
    received: Arc<[Received]>,
    context: Context,
    /// How many messages it has written, for their ids.
    written: AtomicUsize,
    /// Where to.
    tables: Mutex<Vec<wharf_outbox::Outbox>>,
}

impl Handling {
    /// Of these messages; not empty.
    pub(crate) fn new(received: Arc<[Received]>, context: Context) -> Arc<Self> {
        Arc::new(Self {
            received,
            context,
            written: AtomicUsize::new(0),
            tables: Mutex::default(),
        })
    }

    /// Runs the attempt: what it publishes through an outbox comes of its message.
    pub(crate) fn scope<F: Future>(
        self: &Arc<Self>,
        attempt: F,
    ) -> impl Future<Output = F::Output> {
        HANDLING.scope(Arc::clone(self), attempt)
    }

    /// Its transaction was committed.
    pub(crate) fn committed(&self) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().for_each(wharf_outbox::Outbox::hint);
    }

    fn wrote_to(&self, outbox: &wharf_outbox::Outbox) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if !tables.contains(outbox) {
            tables.push(outbox.clone());
        }
    }

    fn messages(&self, effects: Effects) -> Result<Vec<(TopicName, Message)>, Failed> {
        let Some(last) = self.received.last() else {
            return Ok(Vec::new());
        };
        let (headers, group) = (&last.message.headers, self.context.group.as_str());
        let cause = Cause::of(headers, &last.topic, last.position, group).in_outbox();
        let first = self.written.fetch_add(effects.len(), Ordering::Relaxed);
        let shared = self.context.bus.shared();
        shared.outputs(effects, headers, &cause, first)
    }
}
