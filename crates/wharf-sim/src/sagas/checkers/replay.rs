//! 9: replaying comes to the same state, byte for byte: from the log alone, and from a snapshot at
//! any record with what follows it.

use wharf_saga::machine::{Fact, Saga};

use super::durable_first::digest;
use super::{Broken, broken};
use crate::sagas::watch::Seen;

pub(crate) const PROMISE: &str = "a replay comes to the same state, byte for byte";

/// After each record: from a snapshot before it, and what it says.
pub(crate) fn record(seen: &mut Seen, facts: &[Fact]) -> Result<(), Broken> {
    let bytes = written(&seen.saga)?;
    if !seen.bytes.is_empty() {
        let restored = serde_json::from_slice::<Saga>(&seen.bytes);
        let Ok(mut restored) = restored else {
            return broken(PROMISE, "a snapshot cannot be read".to_owned());
        };
        for fact in facts {
            restored.apply(fact);
        }
        if written(&restored)? != bytes {
            let id = seen.saga.id();
            return broken(
                PROMISE,
                format!("{id:?} differs from its snapshot and the rest"),
            );
        }
    }
    seen.past.insert(digest(&bytes));
    seen.bytes = bytes;
    Ok(())
}

/// A snapshot that was written says what the facts add up to.
pub(crate) fn snapshot(seen: &Seen, found: &[u8]) -> Result<(), Broken> {
    let state = String::from_utf8_lossy(&seen.bytes);
    let wanted = format!(r#"{{"seq":{},"state":{state}}}"#, seen.seq);
    if wanted.as_bytes() == found {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found);
    broken(
        PROMISE,
        format!("the snapshot is {found}\n  and the facts say {wanted}"),
    )
}

/// The state as bytes.
pub(crate) fn written(saga: &Saga) -> Result<Vec<u8>, Broken> {
    let written = serde_json::to_vec(saga);
    written.or_else(|error| broken(PROMISE, error.to_string()))
}
