//! Locks that survive a panic in another thread, and a signal between two threads.
//!
//! A thread that panics while it holds a lock leaves data that is still consistent here: every
//! critical section either completes or changes nothing that others rely on. So poisoning of locks
//! is ignored; it has nothing to do with a poisoned log.

use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A flag that one thread raises and another waits for.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        *lock(&self.raised) = true;
        self.changed.notify_one();
    }

    /// Waits until raised, or `limit` has passed; lowers the flag.
    pub(crate) fn wait(&self, limit: Duration) {
        let raised = lock(&self.raised);
        let waited = self
            .changed
            .wait_timeout_while(raised, limit, |raised| !*raised);
        let (mut raised, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        *raised = false;
    }
}
