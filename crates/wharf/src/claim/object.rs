//! Stores on the crate object_store: a folder, memory, S3 and what speaks its protocol.
//!
//! Memory is bounded: what is larger than one part goes to a temporary key in parts while it is
//! hashed, and is moved to its own key at the end. A payload that fits into a part is written at
//! once. What must never happen: an object under a content key that is not that content.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut, WriteMultipart,
};
use uuid::Uuid;
use wharf_message::Timestamp;

use super::digest::Hashing;
use super::{BlobStore, ByteStream, Listed, Name, Object, Receipt, StoreError};

/// The size of a part of a large object: what S3 takes, and what is held in memory at least.
pub(super) const PART: usize = 8 << 20;
/// How many parts may be on their way at once.
const PARTS_MAX: usize = 2;
/// Where large objects are until their key is known.
pub(super) const UPLOADS: &str = "uploads/";

/// A store on object_store. Clones share it.
#[derive(Clone)]
pub struct ObjectBlobs {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) part: usize,
}

impl ObjectBlobs {
    /// A folder of the local file system; made if it is missing. What is stored is synced.
    ///
    /// ```
    /// let folder = tempfile::tempdir()?;
    /// let store = wharf::claim::ObjectBlobs::folder(folder.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn folder(path: impl AsRef<FilePath>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        std::fs::create_dir_all(path)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| translate("", error))?;
        Ok(Self::new(Arc::new(store.with_fsync(true)), PART))
    }

    /// The memory of this process: for tests.
    ///
    /// ```
    /// let store = wharf::claim::ObjectBlobs::memory();
    /// ```
    pub fn memory() -> Self {
        Self::new(Arc::new(InMemory::new()), PART)
    }

    pub(super) fn new(store: Arc<dyn ObjectStore>, part: usize) -> Self {
        Self { store, part }
    }

    async fn store(
        &self,
        name: Name<'_>,
        mut payload: ByteStream<'_>,
    ) -> Result<Receipt, StoreError> {
        let mut hashing = Hashing::default();
        let mut head = PutPayloadMut::new();
        while let Some(chunk) = next(&mut payload).await? {
            hashing.update(&chunk).await;
            gather(&mut head, chunk);
            if head.content_length() > self.part {
                return self.store_in_parts(name, hashing, head, payload).await;
            }
        }
        let receipt = receipt(hashing);
        let key = name.key(&receipt.digest);
        let put = self.store.put(&path(&key)?, head.freeze()).await;
        put.map_err(|error| translate(&key, error))?;
        Ok(receipt)
    }

    async fn store_in_parts(
        &self,
        name: Name<'_>,
        hashing: Hashing,
        head: PutPayloadMut,
        payload: ByteStream<'_>,
    ) -> Result<Receipt, StoreError> {
        let temporary = format!("{UPLOADS}{}", Uuid::new_v4());
        let temporary_path = path(&temporary)?;
        let upload = self.store.put_multipart(&temporary_path).await;
        let upload = upload.map_err(|error| translate(&temporary, error))?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, self.part);
        let receipt = match upload_parts(&mut write, hashing, head.freeze(), payload).await {
            Ok(receipt) => receipt,
            Err(error) => {
                if let Err(abort) = write.abort().await {
                    tracing::warn!(
                        upload = %temporary,
                        %abort,
                        "an upload that failed could not be taken back; a lifecycle rule for incomplete \
                         multipart uploads removes what is left of it"
                    );
                }
                return Err(error);
            }
        };
        let finished = write.finish().await;
        finished.map_err(|error| translate(&temporary, error))?;
        let key = name.key(&receipt.digest);
        let moved = self.store.rename(&temporary_path, &path(&key)?).await;
        moved.map_err(|error| translate(&key, error))?;
        Ok(receipt)
    }
}

async fn upload_parts(
    write: &mut WriteMultipart,
    mut hashing: Hashing,
    head: PutPayload,
    mut payload: ByteStream<'_>,
) -> Result<Receipt, StoreError> {
    for chunk in head {
        write.put(chunk);
    }
    while let Some(chunk) = next(&mut payload).await? {
        hashing.update(&chunk).await;
        let room = write.wait_for_capacity(PARTS_MAX).await;
        room.map_err(|error| translate(UPLOADS, error))?;
        // Small chunks are copied together, so that many of them take no more than their bytes.
        if chunk.len() < COPIED_BELOW {
            write.write(&chunk);
        } else {
            write.put(chunk);
        }
    }
    Ok(receipt(hashing))
}

/// Chunks below this size are copied together instead of being kept one by one.
const COPIED_BELOW: usize = 16 << 10;

fn gather(head: &mut PutPayloadMut, chunk: Bytes) {
    if chunk.len() < COPIED_BELOW {
        head.extend_from_slice(&chunk);
    } else {
        head.push(chunk);
    }
}

async fn next(payload: &mut ByteStream<'_>) -> Result<Option<Bytes>, StoreError> {
    let next = payload.try_next().await;
    next.map_err(|error| StoreError::Payload(error.to_string()))
}

fn receipt(hashing: Hashing) -> Receipt {
    Receipt {
        bytes: hashing.bytes,
        digest: hashing.digest(),
    }
}

impl BlobStore for ObjectBlobs {
    fn put<'a>(
        &'a self,
        name: Name<'a>,
        payload: ByteStream<'a>,
    ) -> BoxFuture<'a, Result<Receipt, StoreError>> {
        Box::pin(self.store(name, payload))
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        Box::pin(async move {
            let found = self.store.get(&path(key)?).await;
            let found = found.map_err(|error| translate(key, error))?;
            let (bytes, modified) = (found.meta.size, modified(&found.meta));
            let key = key.to_owned();
            let content = found
                .into_stream()
                .map_err(move |error| translate(&key, error));
            Ok(Object {
                bytes,
                modified,
                content: content.boxed(),
            })
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match self.store.delete(&path(key)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(translate(key, error)),
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let below = (!prefix.is_empty()).then(|| Path::from(prefix));
        let listed = self.store.list(below.as_ref()).map(move |found| {
            let meta = found.map_err(|error| translate(prefix, error))?;
            Ok(Listed {
                modified: modified(&meta),
                key: meta.location.into(),
            })
        });
        listed.boxed()
    }
}

fn modified(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_millis(meta.last_modified.timestamp_millis())
}

/// A key as a path: refused unless it is one as it stands, so that nothing climbs out of the store.
fn path(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::Refused(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn translate(key: &str, error: object_store::Error) -> StoreError {
    use object_store::Error;
    let text = chain(&error);
    match error {
        Error::NotFound { .. } => StoreError::NotFound(key.to_owned()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied(text),
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}

/// An error with its causes, without what is said twice.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("ObjectBlobs")
            .field(&self.store.to_string())
            .finish()
    }
}
