//! The transaction of an attempt, as a handler's argument.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Transaction;
use wharf_message::dead_letter::Reason;
use wharf_outbox::Dialect;

use crate::extract::{self, FromParts};
use crate::failure::Failed;
use crate::incoming::Incoming;

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
pub struct Tx<D: Dialect> {
    /// Present until it is dropped.
    transaction: Option<Transaction<'static, D>>,
    slot: Slot<D>,
}

impl<D: Dialect> Deref for Tx<D> {
    type Target = Transaction<'static, D>;

    fn deref(&self) -> &Self::Target {
        self.transaction
            .as_ref()
            .expect("it is taken by dropping only")
    }
}

impl<D: Dialect> DerefMut for Tx<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.transaction
            .as_mut()
            .expect("it is taken by dropping only")
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
