//! The key that tokens of tasks are sealed with: made once, kept with the definitions.
//!
//! Whoever shows a token answers for a worker, so it must not be guessed. The key comes from the
//! system's randomness and is durable before the first token is given out; every later start reads
//! it, so a token survives restarts. Tasks that were given out before there was a key have tokens
//! without a seal, and those stay good for as long as their worker is waited for.

use serde::{Deserialize, Serialize};
use wharf_message::ledger::Record;
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::{TaskToken, TokenKey};

use super::engine::Engine;
use super::refusal::Refused;
use super::shared::Shared;
use super::store::record;
use crate::clock;

/// The key of the record.
pub(super) const KEY: &str = "token-key";
/// So many times the system is asked for 64 bits, of which 4 are always the same.
const DRAWS: usize = 5;

/// The key at work.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) key: TokenKey,
    /// When it was made: what was dispatched before has a token without a seal.
    made: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: String,
    made: i64,
}

impl Tokens {
    pub(super) fn read(value: &[u8]) -> Result<Self, String> {
        let kept: Kept = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        Ok(Self {
            key: TokenKey::new(kept.key.as_bytes()),
            made: Timestamp::from_millis(kept.made),
        })
    }
}

/// The record of a new key.
pub(super) fn made(now: Timestamp) -> Record {
    let key = (0..DRAWS).map(|_| format!("{:016x}", clock::chance()));
    let kept = Kept {
        key: key.collect(),
        made: now.as_millis(),
    };
    let value = serde_json::json!(kept).to_string().into_bytes();
    record(KEY.to_owned(), Some(value), now)
}

impl Shared {
    /// The token of a task as its worker gets it.
    pub(super) fn token(&self, token: TaskToken) -> String {
        match self.definitions.tokens() {
            Some(tokens) => tokens.key.seal(token),
            // Nothing is dispatched before the key was read; without a seal nobody can answer.
            None => token.to_string(),
        }
    }

    /// Where the worker of a task answers later.
    pub(super) fn callback(&self, token: TaskToken) -> String {
        let base = self.callback.get().map_or("", String::as_str);
        format!("{base}/api/v1/sagas/callbacks/{}", self.token(token))
    }
}

impl Engine {
    /// The token of a task as its worker gets it.
    pub fn token(&self, token: TaskToken) -> String {
        self.shared().token(token)
    }

    /// The task that a token names. Refused when this node did not give it out.
    pub async fn task(&self, text: &str) -> Result<TaskToken, Refused> {
        let Some(tokens) = self.shared().definitions.tokens() else {
            self.check_begun()?;
            return Err(unknown());
        };
        if let Some(token) = tokens.key.open(text) {
            return Ok(token);
        }
        let plain = TaskToken::parse(text).filter(|token| token.to_string() == text);
        let plain = plain.ok_or_else(unknown)?;
        let open = self.look(plain.saga, move |saga| saga.open_step(plain.step));
        let open = match open.await {
            Err(refused) if refused.code == Code::SAGA_UNKNOWN => None,
            open => open?,
        };
        let is_older = open.is_some_and(|open| {
            open.command.generation == plain.generation && open.since < tokens.made
        });
        is_older.then_some(plain).ok_or_else(unknown)
    }
}

fn unknown() -> Refused {
    let message = "the token is none that this node gave out: its seal is wrong or missing; answer \
                   with the token as it came with the task";
    Refused::new(Code::SAGA_TOKEN_UNKNOWN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another_and_is_read_as_it_was_made() {
        let now = Timestamp::from_millis(5);
        let (one, other) = (made(now), made(now));
        let read = |record: &Record| Tokens::read(record.value.as_deref().unwrap()).unwrap();
        let token = TaskToken::parse("7f6b1c52-93d4-5e0a-8a41-6c0e57a9d1b3.1.1").unwrap();
        let sealed = read(&one).key.seal(token);
        assert_eq!(read(&one).key.open(&sealed), Some(token));
        assert_eq!(read(&other).key.open(&sealed), None);
        assert_eq!(read(&one).made, now);
        assert!(Tokens::read(b"{}").is_err());
    }
}
