//! The transaction of an attempt, as a handler's argument.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Transaction;
use wharf_message::dead_letter::Reason;
use wharf_outbox::Dialect;

use crate::extract::{self, FromParts};
use crate::failure::Failed;
use crate::incoming::Incoming;

/// Why a [`Tx`] always has its transaction.
const TAKEN: &str = "it is taken by dropping only";

/// Where the transaction is while no handler holds it.
pub(super) struct Slot<D: Dialect>(Arc<Mutex<Option<Transaction<'static, D>>>>);

impl<D: Dialect> Slot<D> {
    pub(super) fn new(transaction: Transaction<'static, D>) -> Self {
        Self(Arc::new(Mutex::new(Some(transaction))))
    }

    /// Takes it out; `None` while somebody else has it.
    pub(super) fn take(&self) -> Option<Transaction<'static, D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, transaction: Transaction<'static, D>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(transaction);
    }
}

impl<D: Dialect> Clone for Slot<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The database transaction of this attempt, which holds the message's row of the inbox. It derefs to
/// the connection: `query.execute(&mut *tx)`. It is committed when the handler has succeeded, with
/// what is to be published, and rolled back when it has failed. A route that has it needs an inbox
/// ([`Route::inbox`](crate::Route::inbox)).
///
/// It cannot stand beside [`Requests`](crate::Requests): while a reply is waited for, no lock is held.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
/// # #[cfg(feature = "sqlite")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use sqlx::Sqlite;
/// use sqlx::sqlite::SqlitePoolOptions;
/// use wharf::testing::TestBus;
/// use wharf::{Msg, Router, SqlInbox, Tx, group};
///
/// async fn store(mut tx: Tx<Sqlite>, Msg(placed): Msg<OrderPlaced>) -> Result<(), wharf::Error> {
///     let sql = "INSERT INTO orders (id) VALUES (?)";
///     sqlx::query(sql).bind(placed.order).execute(&mut *tx).await?;
///     Ok(())
/// }
///
/// let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
/// sqlx::query("CREATE TABLE orders (id TEXT)").execute(&pool).await?;
/// let inbox = SqlInbox::new(pool.clone(), "orders");
/// inbox.install().await?;
/// let router = Router::new().topic("shop.orders", group("orders").on(store).inbox(inbox));
/// // Every message comes twice.
/// let bus = TestBus::builder().duplicate_every(1).start(router).await;
/// bus.publish(OrderPlaced { order: "o-1".to_owned() }).await;
/// bus.settle().await;
/// let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM orders").fetch_one(&pool).await?;
/// assert_eq!(rows, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
pub struct Tx<D: Dialect> {
    /// Present until it is dropped.
    transaction: Option<Transaction<'static, D>>,
    slot: Slot<D>,
}

impl<D: Dialect> Tx<D> {
    /// The transaction itself, for what takes one by type.
    pub fn transaction(&mut self) -> &mut Transaction<'static, D> {
        self.transaction.as_mut().expect(TAKEN)
    }
}

impl<D: Dialect> Deref for Tx<D> {
    type Target = D::Connection;

    fn deref(&self) -> &Self::Target {
        self.transaction.as_ref().expect(TAKEN)
    }
}

impl<D: Dialect> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.transaction.as_mut().expect(TAKEN)
    }
}

impl<D: Dialect> Drop for Tx<D> {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.slot.put(transaction);
        }
    }
}

impl<D: Dialect> std::fmt::Debug for Tx<D> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tx")
    }
}

impl<S, D: Dialect> FromParts<S> for Tx<D> {
    type Holds = extract::Transaction;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let missing = "there is no transaction of this database: the inbox of the route is in another one, or `Tx` occurs twice";
        let slot = incoming.extensions().get::<Slot<D>>().cloned();
        let taken = slot.and_then(|slot| slot.take().map(|transaction| (slot, transaction)));
        let (slot, transaction) =
            taken.ok_or_else(|| Failed::for_now(Reason::Rejected, missing))?;
        Ok(Self {
            transaction: Some(transaction),
            slot,
        })
    }
}
