//! The claim check: a payload above a threshold goes to object storage, and the message carries a
//! reference in its place.
//!
//! ```
//! use wharf::claim::{Claims, ObjectBlobs};
//! use wharf_message::Message;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let claims = Claims::new("payloads", ObjectBlobs::memory())?;
//! let scan = Message::new(vec![7; 100_000]).with_key("order-1");
//!
//! let small = claims.check_in(scan, 64 << 10).await?; // what is published
//! assert_eq!(small.payload.as_deref(), Some(&[][..]));
//!
//! let blob = claims.open(&small).await?; // what a handler reads
//! assert_eq!(blob.bytes().await?, vec![7; 100_000]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! On the wire: `ce_dataref` is `claim://store/sha256`, `wharf-claim-sha256` and `wharf-claim-size` say
//! it again and how long it is, and the payload is empty (not absent: in a compacted topic that would
//! delete the key). The object's key is `sha256/ab/cdef…`, below `tenants/<tenant>/` if there is one, so
//! the same payload is stored once, and storing it again after an interruption does no harm.
//!
//! Nothing deletes an object when a message is handled: others may refer to it still. [`sweep`] removes
//! what nothing refers to. What must never happen: a payload is handed out that is not the one that
//! was stored, or a message's reference chooses what is read beyond the configured stores.

mod blob;
mod digest;
mod error;
mod history;
mod layer;
mod object;
mod publishing;
mod reference;
#[cfg(feature = "s3")]
mod s3;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

pub use blob::{Blob, BlobReader};
pub use digest::Digest;
pub use error::{ClaimError, InvalidClaims, StoreError};
pub use history::TopicReferences;
pub use layer::{ClaimLayer, ClaimService};
pub use object::ObjectBlobs;
pub use reference::Reference;
#[cfg(feature = "s3")]
pub use s3::S3Settings;
pub use store::{BlobStore, ByteStream, Listed, Name, Object, Receipt};
pub use sweep::{References, SweepError, SweepReport, SweepSettings, Unread, sweep};
pub use wharf_message::transport::{Extent, TopicHistory};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;
use wharf_message::Message;

use blob::Expected;
use error::ensure;
use reference::{AwsPointer, is_plain_key};

/// The default of [`Claims::size_max`]: 2 GiB.
const SIZE_MAX: u64 = 2 << 30;
/// How often a payload is stored again because a sweep was about to delete it.
const ATTEMPTS_MAX: u32 = 5;
/// A sweep that takes longer with one object than this has died; it gives up much earlier.
const DOOM_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether a sweep is done with an object.
const DOOM_POLL: Duration = Duration::from_millis(200);

/// The stores of claim checks, and their limits. Clones share them.
#[derive(Clone)]
pub struct Claims(Arc<Config>);

#[derive(Clone)]
struct Config {
    /// The store that is written to.
    name: String,
    stores: BTreeMap<String, Arc<dyn BlobStore>>,
    prefix: String,
    size_max: u64,
    /// By bucket: the store's name and the prefix that keys must have.
    buckets: BTreeMap<String, (String, String)>,
}

impl Claims {
    /// Payloads are written to `store`, and references name it `name`: 1 to 63 of `[a-z0-9-]`. The name
    /// stays when the store moves.
    ///
    /// # Errors
    /// When the name is not in order.
    pub fn new(name: &str, store: impl BlobStore + 'static) -> Result<Self, InvalidClaims> {
        let claims = Self(Arc::new(Config {
            name: name.to_owned(),
            stores: BTreeMap::new(),
            prefix: String::new(),
            size_max: SIZE_MAX,
            buckets: BTreeMap::new(),
        }));
        claims.with_store(name, store)
    }

    /// The same, and payloads are also read from `store`, to which references by `name` lead.
    ///
    /// # Errors
    /// When the name is not in order.
    pub fn with_store(
        mut self,
        name: &str,
        store: impl BlobStore + 'static,
    ) -> Result<Self, InvalidClaims> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=63).contains(&name.len()) && name.chars().all(allowed);
        ensure("store", name, valid, "1 to 63 of a-z, 0-9 and -")?;
        let config = Arc::make_mut(&mut self.0);
        config.stores.insert(name.to_owned(), Arc::new(store));
        Ok(self)
    }

    /// The same for one tenant: its objects have a prefix of their own, so that nobody learns by storing
    /// a payload whether another tenant has it. 1 to 63 of `[A-Za-z0-9_-]`.
    ///
    /// # Errors
    /// When the tenant's name is not in order.
    pub fn tenant(mut self, tenant: &str) -> Result<Self, InvalidClaims> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let valid = (1..=63).contains(&tenant.len()) && tenant.chars().all(allowed);
        ensure("tenant", tenant, valid, "1 to 63 of A-Z, a-z, 0-9, _ and -")?;
        Arc::make_mut(&mut self.0).prefix = format!("tenants/{tenant}/");
        Ok(self)
    }

    /// The same, and no payload may be larger: 2 GiB by default; 1 to 5,000,000,000 bytes (what S3 moves
    /// in one piece).
    ///
    /// # Errors
    /// When the number is out of its range.
    pub fn size_max(mut self, bytes: u64) -> Result<Self, InvalidClaims> {
        let valid = (1..=5_000_000_000).contains(&bytes);
        ensure("size_max", &bytes, valid, "1 to 5,000,000,000 bytes")?;
        Arc::make_mut(&mut self.0).size_max = bytes;
        Ok(self)
    }

    /// The same, and pointers of the AWS extended client (versions 1 and 2) to `bucket` are read from
    /// the store `store`, if their keys begin with `prefix`: empty, or ending in `/`. They carry no hash,
    /// so only the length is verified.
    ///
    /// # Errors
    /// When there is no such store, or the prefix is not in order.
    pub fn aws_bucket(
        mut self,
        bucket: &str,
        store: &str,
        prefix: &str,
    ) -> Result<Self, InvalidClaims> {
        let known = self.0.stores.contains_key(store);
        ensure("aws_bucket", store, known, "the name of a store")?;
        let valid = prefix.is_empty() || prefix.ends_with('/');
        ensure(
            "aws_bucket",
            prefix,
            valid,
            "a prefix that is empty or ends in /",
        )?;
        let config = Arc::make_mut(&mut self.0);
        let target = (store.to_owned(), prefix.to_owned());
        config.buckets.insert(bucket.to_owned(), target);
        Ok(self)
    }

    /// `message` as it is published: a payload of more than `threshold` bytes is stored, and a reference
    /// and an empty payload take its place. Others are left as they are.
    ///
    /// Publish it when this has returned, so that the object is there before anybody may look for it.
    /// A message whose payload is empty and that refers to one already passes through, so that it can
    /// be forwarded without fetching anything.
    ///
    /// # Errors
    /// When the payload is too large or the store fails; nothing was published then, and trying again
    /// does no harm.
    pub async fn check_in(
        &self,
        mut message: Message,
        threshold: usize,
    ) -> Result<Message, ClaimError> {
        match &message.payload {
            Some(payload) if payload.len() > threshold => {
                let receipt = self.store_bytes(payload.clone()).await?;
                Ok(self.refer(message, &receipt))
            }
            Some(payload) if !payload.is_empty() => {
                // A reference beside a payload of its own is left from a message it was made of.
                Reference::remove(&mut message);
                Ok(message)
            }
            _ => Ok(message),
        }
    }

    /// `message` with a reference to `payload`, which is stored as it comes, in bounded memory.
    ///
    /// ```
    /// use futures_util::stream;
    /// use wharf::claim::{Claims, ObjectBlobs};
    /// use wharf_message::Message;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
    /// let chunks = stream::iter((0..10).map(|_| Ok(vec![7; 1_000].into())));
    /// let message = claims.check_in_stream(Message::default(), Box::pin(chunks)).await?;
    /// assert_eq!(claims.open(&message).await?.size(), 10_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Claims::check_in`], and when the payload cannot be read to its end.
    pub async fn check_in_stream(
        &self,
        message: Message,
        payload: ByteStream<'_>,
    ) -> Result<Message, ClaimError> {
        let receipt = self.put(payload).await?;
        if !self.is_kept(&receipt).await? {
            let error =
                "a sweep removed the payload while it was stored; store it again".to_owned();
            return Err(self.store_error(StoreError::Unavailable(error)));
        }
        Ok(self.refer(message, &receipt))
    }

    /// The payload of `message`, wherever it is. A stored one is opened and its length compared; it is
    /// fetched as it is read.
    ///
    /// # Errors
    /// When the reference is refused, or the object is not there, has another length or is larger than
    /// allowed, or the store fails: [`ClaimError::reason`] says what becomes of the message.
    pub async fn open(&self, message: &Message) -> Result<Blob, ClaimError> {
        if let Some(Reference {
            store,
            digest,
            bytes,
        }) = Reference::of(message)?
        {
            let key = digest.key(&self.0.prefix);
            let digest = Some(digest);
            return self
                .open_object(Expected {
                    store,
                    key,
                    bytes,
                    digest,
                })
                .await;
        }
        if let Some(pointer) = AwsPointer::of(message)? {
            return self.open_pointer(pointer).await;
        }
        Ok(Blob::inline(message.payload.clone().unwrap_or_default()))
    }

    /// `message` with its payload in it again, and without the reference.
    ///
    /// # Errors
    /// As [`Claims::open`] and [`Blob::bytes`].
    pub async fn check_out(&self, mut message: Message) -> Result<Message, ClaimError> {
        let blob = self.open(&message).await?;
        if blob.is_stored() {
            message.payload = Some(blob.bytes().await?);
            Reference::remove(&mut message);
        }
        Ok(message)
    }

    async fn open_pointer(&self, pointer: AwsPointer) -> Result<Blob, ClaimError> {
        let AwsPointer { bucket, key, bytes } = pointer;
        let Some((store, prefix)) = self.0.buckets.get(&bucket) else {
            return Err(ClaimError::UnknownStore(format!("the bucket {bucket:?}")));
        };
        if !is_plain_key(&key, prefix) {
            let what = format!("the key {key:?} is not below {prefix:?} of the bucket {bucket:?}");
            return Err(ClaimError::Invalid(what));
        }
        let store = store.clone();
        self.open_object(Expected {
            store,
            key,
            bytes,
            digest: None,
        })
        .await
    }

    async fn open_object(&self, expected: Expected) -> Result<Blob, ClaimError> {
        let Some(store) = self.0.stores.get(&expected.store) else {
            return Err(ClaimError::UnknownStore(format!(
                "the store {:?}",
                expected.store
            )));
        };
        self.fits(expected.bytes)?;
        let object = store.get(&expected.key).await;
        let object =
            object.map_err(|error| ClaimError::reading(&expected.store, &expected.key, error))?;
        if object.bytes != expected.bytes {
            return Err(ClaimError::Damaged {
                what: format!(
                    "it has {} bytes instead of {}",
                    object.bytes, expected.bytes
                ),
                store: expected.store,
                key: expected.key,
            });
        }
        Ok(Blob::stored(expected, object.content))
    }

    fn fits(&self, bytes: u64) -> Result<(), ClaimError> {
        let bytes_max = self.0.size_max;
        if bytes > bytes_max {
            return Err(ClaimError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    fn refer(&self, mut message: Message, receipt: &Receipt) -> Message {
        let reference = Reference {
            store: self.0.name.clone(),
            digest: receipt.digest,
            bytes: receipt.bytes,
        };
        reference.write(&mut message);
        message.payload = Some(Bytes::new());
        message
    }

    async fn store_bytes(&self, payload: Bytes) -> Result<Receipt, ClaimError> {
        self.fits(payload.len() as u64)?;
        for _ in 0..ATTEMPTS_MAX {
            let once = payload.clone();
            let receipt = self
                .put(stream::once(async move { Ok(once) }).boxed())
                .await?;
            if self.is_kept(&receipt).await? {
                return Ok(receipt);
            }
        }
        let error = "a sweep removed the payload each time it was stored".to_owned();
        Err(self.store_error(StoreError::Unavailable(error)))
    }

    /// Stores a payload, as far as its size is allowed.
    async fn put(&self, payload: ByteStream<'_>) -> Result<Receipt, ClaimError> {
        let bytes_max = self.0.size_max;
        let seen = AtomicU64::new(0);
        let counted = payload.map(|chunk| {
            let bytes = chunk.as_ref().map_or(0, Bytes::len) as u64;
            if seen.fetch_add(bytes, Ordering::Relaxed) + bytes > bytes_max {
                return Err(std::io::Error::other("it is larger than allowed"));
            }
            chunk
        });
        let prefix = &self.0.prefix;
        let put = self
            .own()
            .put(Name::Content { prefix }, counted.boxed())
            .await;
        let bytes = seen.load(Ordering::Relaxed);
        put.map_err(|error| match self.fits(bytes) {
            Err(too_large) => too_large,
            Ok(()) => self.store_error(error),
        })
    }

    /// Whether what was just stored stays. A sweep that found the object old may be about to delete it:
    /// it marks the object first and looks at it again; here the object was written first and the mark
    /// is looked for after that. So one of the two sees the other (`sweep.rs`).
    async fn is_kept(&self, receipt: &Receipt) -> Result<bool, ClaimError> {
        let mark = sweep::mark(&self.0.prefix, &receipt.digest);
        let begin = Instant::now();
        let mut waited = false;
        while self.exists(&mark).await? {
            if begin.elapsed() >= DOOM_MAX {
                // Whoever set it died; so it deletes nothing any more.
                let deleted = self.own().delete(&mark).await;
                deleted.map_err(|error| self.store_error(error))?;
                break;
            }
            waited = true;
            tokio::time::sleep(DOOM_POLL).await;
        }
        if !waited {
            return Ok(true);
        }
        self.exists(&receipt.digest.key(&self.0.prefix)).await
    }

    async fn exists(&self, key: &str) -> Result<bool, ClaimError> {
        match self.own().get(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => Ok(false),
            Err(error) => Err(self.store_error(error)),
        }
    }

    fn own(&self) -> &dyn BlobStore {
        &*self.0.stores[&self.0.name]
    }

    fn store_error(&self, error: StoreError) -> ClaimError {
        ClaimError::Store {
            store: self.0.name.clone(),
            error,
        }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Claims")
            .field("name", &self.0.name)
            .field("stores", &self.0.stores.keys())
            .field("prefix", &self.0.prefix)
            .field("size_max", &self.0.size_max)
            .finish_non_exhaustive()
    }
}
