//! A bus with claim checks, and payloads that are published as they come.

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use wharf_message::{Message, TopicName};

use super::{ByteStream, ClaimError, Claims, StoreError};
use crate::bus::{Bus, BusError};

impl From<ClaimError> for BusError {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}

impl Bus {
    /// The same with claim checks: of whatever it publishes or asks and its handlers return, a payload of
    /// more than `threshold` bytes is stored, and a reference to it is published. Replies that come as
    /// references are fetched; routes fetch with [`Claims::layer`] or [`Claims::streamed`].
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use std::sync::Arc;
    /// use wharf::claim::{Claims, ObjectBlobs, Reference};
    /// use wharf::{Bus, Message, Timestamp, TopicName};
    /// use wharf_message::transport::memory::MemoryTransport;
    ///
    /// let transport = Arc::new(MemoryTransport::new(Timestamp::ZERO));
    /// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
    /// let bus = Bus::new(transport.clone(), "scanner").with_claims(&claims, 64 << 10);
    /// bus.send(TopicName::new("scans")?, Message::new(vec![7; 100_000])).await?;
    ///
    /// let published = transport.messages("scans").remove(0);
    /// assert_eq!(Reference::of(&published)?.map(|reference| reference.bytes), Some(100_000));
    /// assert_eq!(claims.open(&published).await?.bytes().await?, vec![7; 100_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_claims(&self, claims: &Claims, threshold: usize) -> Self {
        let claims = (claims.clone(), threshold);
        self.with(|shared| shared.checking.claims = Some(claims))
    }

    /// Publishes `message` with a payload that is read as it comes. One of more than the threshold of
    /// [`Bus::with_claims`] is stored in bounded memory, a smaller one is published in the message.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use futures_util::stream::{self, StreamExt};
    /// use wharf::claim::{Claims, ObjectBlobs};
    /// use wharf::{Bus, Message, TopicName};
    ///
    /// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
    /// let bus = Bus::connect("memory:", "scanner").await?.with_claims(&claims, 64 << 10);
    /// let scan = stream::iter((0..100).map(|_| Ok(vec![7; 10_000].into())));
    /// let message = Message::default().with_key("order-1");
    /// bus.send_stream(TopicName::new("scans")?, message, scan.boxed()).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Bus::publish`], and when the payload cannot be read to its end or stored, or the bus has no claim
    /// checks; nothing was published then.
    pub async fn send_stream(
        &self,
        topic: TopicName,
        mut message: Message,
        mut payload: ByteStream<'_>,
    ) -> Result<(), BusError> {
        let Some((claims, threshold)) = &self.shared().checking.claims else {
            let why = "a payload is streamed to object storage, and the bus has none: add `Bus::with_claims`";
            return Err(BusError::Invalid(why.to_owned()));
        };
        let (mut head, mut bytes) = (Vec::new(), 0);
        while bytes <= *threshold {
            let next = payload.try_next().await;
            match next.map_err(|error| claims.unread(&error))? {
                Some(chunk) => {
                    bytes += chunk.len();
                    head.push(chunk);
                }
                None => {
                    message.payload = Some(joined(head, bytes));
                    return self.send(topic, message).await;
                }
            }
        }
        let head = stream::iter(head.into_iter().map(Ok::<Bytes, std::io::Error>));
        let message = claims.check_in_stream(message, head.chain(payload).boxed());
        self.send(topic, message.await?).await
    }
}

/// Small chunks count only once.
fn joined(chunks: Vec<Bytes>, bytes: usize) -> Bytes {
    match <[Bytes; 1]>::try_from(chunks) {
        Ok([only]) => only,
        Err(chunks) => {
            let mut all = BytesMut::with_capacity(bytes);
            chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
            all.freeze()
        }
    }
}

impl Claims {
    fn unread(&self, error: &std::io::Error) -> ClaimError {
        self.store_error(StoreError::Payload(error.to_string()))
    }
}
