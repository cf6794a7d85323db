//! Claim checks under faults: what is stored, what is read, what is swept.

mod faults;
mod history;
mod reading;
mod storing;
mod sweeping;

use super::*;
use wharf_message::{Timestamp, header};

/// The size of a part in these tests, so that small payloads are large.
const PART: usize = 1_000;

/// A store in memory with small parts.
fn memory() -> ObjectBlobs {
    ObjectBlobs::new(Arc::new(object_store::memory::InMemory::new()), PART)
}

/// A payload that is the same for the same `seed` and no other.
fn payload(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

fn claims(store: impl BlobStore + 'static) -> Claims {
    Claims::new("payloads", store).expect("a good name")
}

/// A payload that comes in chunks of this size.
#[expect(clippy::needless_pass_by_value, reason = "what a test has just made")]
fn chunked(payload: Vec<u8>, size: usize) -> ByteStream<'static> {
    let chunks: Vec<_> = payload
        .chunks(size)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    stream::iter(chunks).boxed()
}

/// All keys of a store.
async fn keys(store: &dyn BlobStore) -> Vec<String> {
    let mut keys: Vec<String> = store
        .list("")
        .map(|one| one.expect("listed").key)
        .collect()
        .await;
    keys.sort();
    keys
}

async fn read(claims: &Claims, message: &Message) -> Result<Bytes, ClaimError> {
    claims.open(message).await?.bytes().await
}
