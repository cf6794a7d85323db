//! The idempotent consumer (Hohpe and Woolf's *Idempotent Receiver*): a message has its effects once,
//! however often it is delivered.
//!
//! A route with an inbox runs each attempt in a database transaction, which begins with a row for the
//! message. Where the row is there already, the handler is not called. What the handler writes through
//! [`Tx`] and what it returns to be published are committed with the row; a crash after the commit is
//! healed by the redelivery, which publishes the same again. What must never happen: a row without its
//! effects, or effects without their row.

mod service;
mod tx;

pub use tx::Tx;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::Pool;
use wharf_message::Timestamp;
use wharf_outbox::Dialect;

use crate::router::Attempts;
use service::InboxService;

pub use wharf_outbox::{Inbox, WindowTooShort};

/// Rows are looked through for old ones this often.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);
/// So many are removed at a time.
const PURGE_ROWS: u32 = 1_000;

/// How a message is recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By its key: the idempotency key, else its source and id, else its position.
    #[default]
    Id,
    /// By these fields of its JSON payload.
    Fields(Vec<String>),
    /// By a header with a number that grows with each message of a key.
    Sequence(String),
}

/// The inbox of a route, in the database that its handlers write to.
///
/// ```no_run
/// # #[cfg(feature = "postgres")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # use serde::{Deserialize, Serialize};
/// use sqlx::{PgPool, Postgres};
/// use wharf::{Event, Msg, Router, SqlInbox, Tx, group};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// struct OrderPlaced { order: String }
///
/// async fn store(mut tx: Tx<Postgres>, Msg(placed): Msg<OrderPlaced>) -> Result<(), wharf::Error> {
///     let sql = "INSERT INTO orders (id) VALUES ($1)";
///     sqlx::query(sql).bind(placed.order).execute(&mut *tx).await?;
///     Ok(())
/// }
///
/// let pool = PgPool::connect("postgres://localhost/shop").await?;
/// let inbox = SqlInbox::new(pool, "orders");
/// inbox.install().await?;
/// let router = Router::new().topic("shop.orders", group("orders").on(store).inbox(inbox));
/// # let _: Router = router;
/// # Ok(())
/// # }
/// ```
pub struct SqlInbox<D: Dialect> {
    pool: Pool<D>,
    inbox: Inbox,
    mode: Mode,
    keep: Duration,
    purged: Arc<AtomicI64>,
}

impl<D: Dialect> SqlInbox<D> {
    /// An inbox for this consumer, which is usually named as its group. Rows are kept for 7 days.
    pub fn new(pool: Pool<D>, consumer: &str) -> Self {
        Self {
            pool,
            inbox: Inbox::new(consumer),
            mode: Mode::Id,
            keep: Duration::from_secs(7 * 86_400),
            purged: Arc::default(),
        }
    }

    /// Creates the tables where they are missing; [`Inbox::schema`] shows the statements for your own
    /// migrations.
    ///
    /// # Errors
    /// What the database says.
    pub async fn install(&self) -> Result<(), wharf_outbox::Error> {
        Inbox::install(&self.pool).await
    }

    /// How long a message is remembered. It should be as long as the topic and its dead letters are
    /// kept; [`SqlInbox::check_window`] tells.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    /// Warns (in the log too) when messages can come again after they are forgotten.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use std::time::Duration;
    /// use sqlx::SqlitePool;
    /// use wharf::SqlInbox;
    ///
    /// let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("an address");
    /// let day = Duration::from_secs(86_400);
    /// let inbox = SqlInbox::new(pool, "orders").keep(7 * day);
    /// assert!(inbox.check_window(Some(3 * day), Some(4 * day)).is_ok());
    /// assert!(inbox.check_window(Some(30 * day), Some(7 * day)).is_err());
    /// # drop(inbox);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WindowTooShort`].
    pub fn check_window(
        &self,
        topic_retention: Option<Duration>,
        dead_letter_retention: Option<Duration>,
    ) -> Result<(), WindowTooShort> {
        let checked = wharf_outbox::check_window(self.keep, topic_retention, dead_letter_retention);
        checked.inspect_err(|error| tracing::warn!(%error, "the window of an inbox is short"))
    }

    /// Recognises messages by these fields of their payload (JSON pointers, `/order/id`), for
    /// producers that give no ids.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use sqlx::SqlitePool;
    /// use wharf::SqlInbox;
    ///
    /// let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("an address");
    /// let inbox = SqlInbox::new(pool, "imports").by_fields(["/supplier", "/delivery/number"]);
    /// # drop(inbox);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn by_fields<'a>(self, pointers: impl IntoIterator<Item = &'a str>) -> Self {
        let mode = Mode::Fields(pointers.into_iter().map(str::to_owned).collect());
        Self { mode, ..self }
    }

    /// Recognises messages by a number in this header that grows with each message of a key: one row
    /// for each key, and no window. Needs the order by key.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
    /// use sqlx::SqlitePool;
    /// use wharf::SqlInbox;
    ///
    /// let pool = SqlitePool::connect_lazy("sqlite::memory:").expect("an address");
    /// let inbox = SqlInbox::new(pool, "articles").by_sequence("version");
    /// # drop(inbox);
    /// # Ok::<(), std::io::Error>(())
    /// # })?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn by_sequence(self, header: &str) -> Self {
        Self {
            mode: Mode::Sequence(header.to_owned()),
            ..self
        }
    }

    pub(crate) fn wrap(&self, inner: Attempts) -> Attempts {
        Attempts::new(InboxService {
            inbox: self.clone(),
            inner,
        })
    }

    /// Removes old rows beside the work, once in a while.
    fn purge_now_and_then(&self, now: Timestamp) {
        let last = self.purged.load(Ordering::Relaxed);
        if now.since(Timestamp::from_millis(last)) < PURGE_INTERVAL {
            return;
        }
        let mine = self.purged.compare_exchange(
            last,
            now.as_millis(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if mine.is_ok() {
            let (pool, keep) = (self.pool.clone(), self.keep);
            tokio::spawn(async move {
                loop {
                    match Inbox::purge(&pool, keep, PURGE_ROWS).await {
                        Ok(purged) if purged.more => {}
                        Ok(_) => return,
                        Err(error) => {
                            tracing::warn!(%error, "old rows of the inbox were not removed; it is tried again in a minute");
                            return;
                        }
                    }
                }
            });
        }
    }
}

impl<D: Dialect> Clone for SqlInbox<D> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            inbox: self.inbox.clone(),
            mode: self.mode.clone(),
            keep: self.keep,
            purged: Arc::clone(&self.purged),
        }
    }
}

impl<D: Dialect> std::fmt::Debug for SqlInbox<D> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut inbox = formatter.debug_struct("SqlInbox");
        inbox
            .field("mode", &self.mode)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}
