//! The trait behind which object storage stands.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream};
use wharf_message::Timestamp;

use super::{Digest, StoreError};

/// A payload that is read as it comes.
pub type ByteStream<'a> = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send + 'a>>;

/// Under which key an object is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// Under the one that its content gives it: [`Digest::key`] with this prefix.
    Content {
        /// The prefix; empty or ending in `/`.
        prefix: &'a str,
    },
    /// Under this one. For small objects.
    Key(&'a str),
}

impl Name<'_> {
    /// The key for this content.
    pub fn key(&self, digest: &Digest) -> String {
        match self {
            Self::Content { prefix } => digest.key(prefix),
            Self::Key(key) => (*key).to_owned(),
        }
    }
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The SHA-256 of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An object that is there.
pub struct Object {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was stored last, by the store's clock.
    pub modified: Timestamp,
    /// Its content, fetched as it is read.
    pub content: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Object")
            .field("bytes", &self.bytes)
            .field("modified", &self.modified)
            .finish_non_exhaustive()
    }
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// When it was stored last, by the store's clock.
    pub modified: Timestamp,
}

/// Where payloads are kept.
///
/// # Contract
/// - An object is there whole or not at all, and is durable when `put` returns. Storing one that is
///   there writes it anew: its `modified` is of now (the sweep relies on it), and readers see the old
///   content or the new one.
/// - `put` with [`Name::Content`] reads the payload once, whatever its size, in bounded memory.
/// - What was stored or deleted is seen by every later `get` and `list` of every client.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::{TryStreamExt, stream};
/// use wharf::claim::{BlobStore, Name, ObjectBlobs};
///
/// let store = ObjectBlobs::memory();
/// let payload = stream::iter([Ok("a large ".into()), Ok("payload".into())]);
/// let name = Name::Content { prefix: "scans/" };
/// let stored = store.put(name, Box::pin(payload)).await?;
///
/// let key = name.key(&stored.digest);
/// let parts: Vec<_> = store.get(&key).await?.content.try_collect().await?;
/// assert_eq!(parts.concat(), b"a large payload");
/// assert_eq!(store.list("scans/").try_collect::<Vec<_>>().await?.len(), 1);
/// store.delete(&key).await?;
/// # Ok(())
/// # }
/// ```
pub trait BlobStore: Send + Sync {
    /// Stores an object.
    ///
    /// # Cancellation
    /// Dropping the future leaves no object under the key; parts of it may stay elsewhere in the store,
    /// until a sweep or the store's own rules remove them.
    fn put<'a>(
        &'a self,
        name: Name<'a>,
        payload: ByteStream<'a>,
    ) -> BoxFuture<'a, Result<Receipt, StoreError>>;

    /// Opens an object. [`StoreError::NotFound`] means that the store answered and it is not there.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Object, StoreError>>;

    /// Deletes an object; one that is not there is no error.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All objects whose keys begin with `prefix`, which is empty or ends in `/`.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>>;
}
