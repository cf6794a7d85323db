//! Claim checks of the node: a payload that is too large for a saga becomes a file and a reference.
//!
//! What comes in without a claim layer (requests, answers of plain HTTP workers, records) is stored
//! here when it is above `saga.payload-max`, durable before its saga knows the reference. What goes
//! out to workers that know no reference gets the payload itself; whoever reads a topic gets the
//! headers that the library's claim layer reads. The reference is all that a saga keeps.

mod folder;
mod sweep;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use wharf_message::Code;
use wharf_message::header::{CE_DATAREF, CLAIM_SIZE};
use wharf_saga::machine::{Action, Command, Data, Failure, Outcome};

use super::engine::{Engine, NewSaga};
use super::refusal::Refused;
use super::workers::claim;

pub(super) use folder::Digest;
use folder::Folder;
#[cfg(test)]
pub(super) use sweep::sweep;
pub(super) use sweep::sweeping;

/// The name of the node's store in references.
pub(super) const STORE: &str = "wharf-sagas";
/// The largest payload that is read; the setting allows no larger one.
const READ_MAX: usize = 32 << 20;
/// The store's folder in the data directory.
pub(crate) const FOLDER: &str = "claims";

/// The node's store.
#[derive(Debug)]
pub(crate) struct Claims {
    folder: Arc<Folder>,
    /// The largest payload that is stored; none for nothing. What is there is read all the same.
    max: usize,
}

impl Claims {
    pub(super) fn new(root: PathBuf, max: usize) -> Self {
        Self {
            folder: Arc::new(Folder::new(root)),
            max,
        }
    }

    /// A payload as it was stored; nothing when it is not there.
    pub(super) async fn get(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let folder = Arc::clone(&self.folder);
        let got = spawn_blocking(move || folder.get(&digest, READ_MAX)).await;
        got.map_err(io::Error::other)?
    }

    /// Stores a value; the reference to it.
    async fn put(&self, value: &Value) -> io::Result<Value> {
        let content = serde_json::to_vec(value)?;
        let size = content.len();
        let folder = Arc::clone(&self.folder);
        let stored = spawn_blocking(move || folder.put(&content)).await;
        let digest = stored.map_err(io::Error::other)??;
        let target = format!("claim://{STORE}/{}", digest.as_str());
        Ok(json!({ CE_DATAREF: target, CLAIM_SIZE: size }))
    }

    /// What arguments stand for, where they are a reference to this store and nothing else.
    pub(super) async fn content(&self, arguments: &Value) -> Result<Option<Vec<u8>>, Failure> {
        let Some(digest) = claim::digest_in(arguments, STORE).and_then(Digest::parse) else {
            return Ok(None);
        };
        let failure = |error: &str, cause: String| Failure {
            error: error.to_owned(),
            cause,
            declared: false,
        };
        match self.get(digest.clone()).await {
            Ok(Some(content)) => Ok(Some(content)),
            Ok(None) => {
                let cause = format!("the payload {} is not in the node's store", digest.as_str());
                Err(failure("Wharf.ClaimLost", cause))
            }
            Err(error) => {
                let cause = format!("the payload {}: {error}", digest.as_str());
                Err(failure("Wharf.ClaimUnreadable", cause))
            }
        }
    }

    /// A command whose worker knows no references.
    pub(super) async fn filled(&self, mut command: Command) -> Result<Command, Failure> {
        if let Some(content) = self.content(&command.arguments).await? {
            let value: Result<Value, _> = serde_json::from_slice(&content);
            let value = value.map_err(|error| Failure {
                error: "Wharf.ClaimUnreadable".to_owned(),
                cause: error.to_string(),
                declared: false,
            })?;
            command.arguments = value.into();
        }
        Ok(command)
    }
}

impl Engine {
    /// A reference in place of a value that is too large for a saga and not for the store.
    async fn checked_in(&self, value: &Value) -> Result<Option<Value>, Refused> {
        let Some(claims) = &self.shared().claims else {
            return Ok(None);
        };
        if !is_larger(value, self.shared().payload_max) || is_larger(value, claims.max) {
            return Ok(None);
        }
        let stored = claims.put(value).await;
        let reference = stored.map_err(|error| {
            Refused::unavailable(format!("a large payload cannot be stored: {error}"))
        })?;
        Ok(Some(reference))
    }

    pub(super) async fn start_checked_in(&self, mut new: NewSaga) -> Result<NewSaga, Refused> {
        if is_larger(&new.input, self.shared().payload_max) {
            // Nothing is stored for what is not there.
            self.definition(&new.saga_type, new.version.as_deref())?;
        }
        if let Some(reference) = self.checked_in(&new.input).await? {
            new.input = reference;
        }
        Ok(new)
    }

    pub(super) async fn data_checked_in(&self, data: Data) -> Result<Data, Refused> {
        let reference = self.checked_in(data.value()).await?;
        Ok(reference.map_or(data, Data::from))
    }

    pub(super) async fn outcome_checked_in(&self, outcome: Outcome) -> Result<Outcome, Refused> {
        Ok(match outcome {
            Outcome::Success(output) => Outcome::Success(self.data_checked_in(output).await?),
            other => other,
        })
    }

    pub(super) async fn action_checked_in(&self, action: &mut Action) -> Result<(), Refused> {
        if let Action::Skip { output: data, .. } | Action::Edit { input: data, .. } = action {
            *data = self.data_checked_in(data.clone()).await?;
        }
        Ok(())
    }

    /// A payload of the node's store.
    pub(super) async fn claim(&self, digest: &str) -> Result<Vec<u8>, Refused> {
        let unknown = || {
            let message = format!(
                "there is no payload {digest:.80}; they go when no saga that is kept refers to them"
            );
            Refused::new(Code::SAGA_UNKNOWN, message)
        };
        let known = Digest::parse(digest).ok_or_else(unknown)?;
        let claims = self.shared().claims.as_ref().ok_or_else(unknown)?;
        let got = claims.get(known).await.map_err(Refused::unavailable)?;
        got.ok_or_else(unknown)
    }

    /// The largest payload of a request, and what to do about a larger one.
    pub(super) fn payload_limit(&self) -> (usize, &'static str) {
        match &self.shared().claims {
            Some(claims) if claims.max > 0 => (
                claims.max,
                "saga.claim-max; store it elsewhere and send a reference, or raise the setting",
            ),
            _ => (
                self.shared().payload_max,
                "saga.payload-max; check it into a store and send its reference, \
                 {\"ce_dataref\": \"claim://STORE/SHA256\", \"wharf-claim-size\": BYTES}, or let the \
                 node do that: set saga.claim-max",
            ),
        }
    }
}

/// Whether a value has more bytes as JSON.
pub(super) fn is_larger(value: &Value, max: usize) -> bool {
    struct Room(usize);

    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let left = self.0.checked_sub(bytes.len());
            self.0 = left.ok_or(io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    serde_json::to_writer(Room(max), value).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_measured_as_json_to_the_byte() {
        for value in [json!(null), json!("é\n"), json!({ "a": [1, 2.5, true] })] {
            let size = value.to_string().len();
            assert!(!is_larger(&value, size), "{value}");
            assert!(is_larger(&value, size - 1), "{value}");
        }
    }
}
