//! A store around another one: with a clock of its own, operations that fail, and a door at which a
//! deletion waits.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::Notify;

use super::*;

/// See the module.
#[derive(Clone)]
pub(super) struct Faulty(pub(super) Arc<Faults>);

pub(super) struct Faults {
    pub(super) inner: ObjectBlobs,
    /// The store's clock, in milliseconds.
    pub(super) clock: AtomicI64,
    modified: Mutex<HashMap<String, i64>>,
    /// How many more operations succeed.
    pub(super) left: AtomicI64,
    /// Deletions of contents wait here, if it is there.
    pub(super) door: Option<Door>,
}

/// Where a deletion waits, after everything before it was done.
#[derive(Default)]
pub(super) struct Door {
    pub(super) reached: Notify,
    pub(super) mark_seen: Notify,
}

impl Faulty {
    pub(super) fn new(door: Option<Door>) -> Self {
        Self(Arc::new(Faults {
            inner: memory(),
            clock: AtomicI64::new(0),
            modified: Mutex::default(),
            left: AtomicI64::new(i64::MAX),
            door,
        }))
    }

    pub(super) fn set_clock(&self, days: i64) {
        self.0.clock.store(days * 86_400_000, Ordering::SeqCst);
    }

    fn operate(&self) -> Result<(), StoreError> {
        if self.0.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(StoreError::Unavailable("it is switched off".to_owned()))
    }

    fn modified(&self, key: &str) -> Timestamp {
        let modified = self.0.modified.lock().expect("no panic");
        Timestamp::from_millis(modified.get(key).copied().unwrap_or(0))
    }
}

impl BlobStore for Faulty {
    fn put<'a>(
        &'a self,
        name: Name<'a>,
        payload: ByteStream<'a>,
    ) -> BoxFuture<'a, Result<Receipt, StoreError>> {
        Box::pin(async move {
            self.operate()?;
            let receipt = self.0.inner.put(name, payload).await?;
            let now = self.0.clock.load(Ordering::SeqCst);
            let key = name.key(&receipt.digest);
            self.0.modified.lock().expect("no panic").insert(key, now);
            Ok(receipt)
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            self.operate()?;
            let found = self.0.inner.get(key).await;
            if let (Some(door), Ok(_)) = (&self.0.door, &found)
                && key.starts_with("doomed/")
            {
                door.mark_seen.notify_one();
            }
            let modified = self.modified(key);
            Ok(Object { modified, ..found? })
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.operate()?;
            if let Some(door) = &self.0.door
                && key.starts_with("sha256/")
            {
                door.reached.notify_one();
                door.mark_seen.notified().await;
            }
            self.0.inner.delete(key).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let listed = self.0.inner.list(prefix).map(|one| {
            self.operate()?;
            let one = one?;
            let modified = self.modified(&one.key);
            Ok(Listed { modified, ..one })
        });
        listed.boxed()
    }
}
