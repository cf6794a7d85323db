//! A payload that is read as it comes, and not believed before it is verified.
//!
//! The length is compared before the first byte, the hash after the last one; the last chunk is held
//! back until then, so that nobody takes a damaged payload for a whole one. More bytes than announced
//! end the reading at once.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, ReadBuf};

use super::digest::Hashing;
use super::{ClaimError, Digest, StoreError};

/// The payload of a message, wherever it is.
pub struct Blob {
    bytes: u64,
    stored: bool,
    content: BoxStream<'static, Result<Bytes, ClaimError>>,
}

/// What is known of an object that is about to be read.
pub(super) struct Expected {
    pub(super) store: String,
    pub(super) key: String,
    pub(super) bytes: u64,
    /// Absent of what others stored without a hash.
    pub(super) digest: Option<Digest>,
}

impl Blob {
    /// A payload that is in its message.
    pub fn inline(payload: Bytes) -> Self {
        Self {
            bytes: payload.len() as u64,
            stored: false,
            content: stream::once(async move { Ok(payload) }).boxed(),
        }
    }

    pub(super) fn stored(
        expected: Expected,
        content: BoxStream<'static, Result<Bytes, StoreError>>,
    ) -> Self {
        let bytes = expected.bytes;
        let verified = Verified {
            expected,
            content,
            hashing: Hashing::default(),
            held: None,
            over: false,
        };
        Self {
            bytes,
            stored: true,
            content: stream::try_unfold(verified, Verified::step).boxed(),
        }
    }

    /// Its size in bytes; of a stored one, as announced and as the store says.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Whether it is in object storage, not in the message.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    /// All of it in memory.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let blob = wharf::claim::Blob::inline("small".into());
    /// assert_eq!(blob.size(), 5);
    /// assert_eq!(blob.bytes().await?, "small");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it is lost or damaged, or the store fails.
    pub async fn bytes(mut self) -> Result<Bytes, ClaimError> {
        let first = self.content.try_next().await?.unwrap_or_default();
        if first.len() as u64 == self.bytes {
            // What follows can only be the end, or the error of too many bytes.
            return match self.content.try_next().await? {
                None => Ok(first),
                Some(more) => Ok(Bytes::from([first, more].concat())),
            };
        }
        let mut all = BytesMut::from(&first[..]);
        while let Some(chunk) = self.content.try_next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// As chunks. An error ends them.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ClaimError>> + Send + 'static {
        self.content
    }

    /// As a reader. Errors are [`io::ErrorKind::InvalidData`] with a [`ClaimError`] inside.
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let mut text = String::new();
    /// wharf::claim::Blob::inline("small".into()).into_reader().read_to_string(&mut text).await?;
    /// assert_eq!(text, "small");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_reader(self) -> BlobReader {
        BlobReader {
            content: self.content,
            chunk: Bytes::new(),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Blob")
            .field("bytes", &self.bytes)
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

struct Verified {
    expected: Expected,
    content: BoxStream<'static, Result<Bytes, StoreError>>,
    hashing: Hashing,
    held: Option<Bytes>,
    over: bool,
}

impl Verified {
    /// The chunk before the next one; the last one only if all of it was right.
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, ClaimError> {
        while !self.over {
            let next = self.content.try_next().await.map_err(|error| {
                ClaimError::reading(&self.expected.store, &self.expected.key, error)
            })?;
            match next {
                Some(chunk) if chunk.is_empty() => {}
                Some(chunk) => {
                    self.hashing.update(&chunk).await;
                    if self.hashing.bytes > self.expected.bytes {
                        return Err(self.damaged("it is longer than announced"));
                    }
                    if let Some(before) = self.held.replace(chunk) {
                        return Ok(Some((before, self)));
                    }
                }
                None => self.verify()?,
            }
        }
        Ok(self.held.take().map(|last| (last, self)))
    }

    fn verify(&mut self) -> Result<(), ClaimError> {
        self.over = true;
        if self.hashing.bytes != self.expected.bytes {
            return Err(self.damaged("it is shorter than announced"));
        }
        let found = std::mem::take(&mut self.hashing).digest();
        match self.expected.digest {
            Some(expected) if expected != found => {
                Err(self.damaged(&format!("its SHA-256 is {found}")))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, what: &str) -> ClaimError {
        ClaimError::Damaged {
            store: self.expected.store.clone(),
            key: self.expected.key.clone(),
            what: what.to_owned(),
        }
    }
}

/// A blob as a reader.
pub struct BlobReader {
    content: BoxStream<'static, Result<Bytes, ClaimError>>,
    chunk: Bytes,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlobReader").finish_non_exhaustive()
    }
}

impl AsyncRead for BlobReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(self.content.poll_next_unpin(context)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let read = buffer.remaining().min(self.chunk.len());
        buffer.put_slice(&self.chunk[..read]);
        self.chunk.advance(read);
        Poll::Ready(Ok(()))
    }
}
