//! The inbox: which messages a consumer has had, in the transaction in which they had their effects.
//!
//! Invariants: every statement of a consumer's run is in the transaction that the caller gave, which
//! is a [`Transaction`] by type, so that no row can be committed before the effects are; nothing here
//! commits or rolls back. What is not the first is never told to be: with any doubt the answer is an
//! error of class [`Class::Conflict`](crate::Class::Conflict).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::error::DatabaseError;
use sqlx::{Pool, SqlStr, Transaction};
use wharf_message::idempotency::Key;
use wharf_message::{Code, Message, TopicName};

use crate::dialect::{Dialect, Refusal, Value};
use crate::{Class, Error, OUTPUTS_BYTES_MAX, classify, decode_outputs, encode_outputs};

/// A text longer than this many bytes is stored as its hash.
const TEXT_BYTES_MAX: usize = 200;
/// What a stored hash begins with.
const HASHED: &str = "sha256:";

/// What a payload is recognised by, so that another payload under the same id is noticed: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadHash([u8; 32]);

impl PayloadHash {
    /// Of the message's payload; one that is absent is not as an empty one. Key and headers do not
    /// count: they change on the way.
    pub fn of(message: &Message) -> Self {
        let mut hash = Sha256::new();
        if let Some(payload) = &message.payload {
            hash.update([1]);
            hash.update(payload);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for PayloadHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

/// Whether the message was seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Once {
    /// It was not: handle it, in this transaction.
    First,
    /// It was, and its effects are committed: roll this transaction back and handle nothing.
    Duplicate {
        /// What the first run published, to be published again with the same ids before the message
        /// is accepted: whether that was done before a crash is not known.
        outputs: Vec<(TopicName, Message)>,
        /// Whether the payload is the one the first run had. If not, two different messages have one
        /// id: a fault of the producer (`WHARF-5103`) that must be told to somebody, since the second
        /// one has no effect. A warning was logged.
        same_payload: bool,
    },
}

/// Whether a sequence is beyond the ones seen before of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Advance {
    /// It is, and it is the last one now: handle the message, in this transaction.
    Accepted,
    /// It is not: roll back and handle nothing.
    Behind {
        /// The last one that was accepted.
        last: i64,
        /// If this sequence is the last one: what its run published, to be published again with the
        /// same ids before the message is accepted. Those of earlier ones were published before the
        /// next one of the key was handled.
        outputs: Vec<(TopicName, Message)>,
    },
}

/// The messages that one consumer has had. Cheap to clone; see the [crate] for an example.
#[derive(Clone, Debug)]
pub struct Inbox {
    consumer: Cow<'static, str>,
}

impl Inbox {
    /// The inbox of a consumer: what has effects of its own and is to see every message once, such as
    /// `billing` or `billing/charge`. Two handlers of one message in one group are two consumers.
    pub fn new(consumer: &str) -> Self {
        Self {
            consumer: Cow::Owned(stored(consumer.as_bytes()).into_owned()),
        }
    }

    /// Creates the tables where they are missing. Several instances may do it at once; where the
    /// tables are there, no right to create any is needed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn install<D: Dialect>(pool: &Pool<D>) -> Result<(), Error> {
        let mut connection = pool.acquire().await.map_err(of::<D>)?;
        let sql = D::STATEMENTS;
        let nobody = [Value::Text(""), Value::Text(""), Value::Text("")];
        let found = match D::find(&mut connection, SqlStr::from_static(sql.find), &nobody).await {
            Ok(_) => D::last_sequence(
                &mut connection,
                SqlStr::from_static(sql.last_sequence),
                &nobody,
            )
            .await
            .map(drop),
            Err(error) => Err(error),
        };
        match found.map_err(of::<D>) {
            Err(Error::NotInstalled(_)) => {
                D::install(&mut connection, SqlStr::from_static(sql.schema))
                    .await
                    .map_err(of::<D>)
            }
            other => other,
        }
    }

    /// The statements that create the tables, for your own migrations.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// println!("{}", wharf_outbox::Inbox::schema::<sqlx::Sqlite>());
    /// ```
    pub fn schema<D: Dialect>() -> String {
        D::STATEMENTS.schema.to_owned()
    }

    /// Claims the message for this transaction, whose first statement it should be: if another
    /// transaction has claimed it and is open, this waits for its end, or is told a conflict.
    ///
    /// # Errors
    /// [`Error`]; by its [`class`](Error::class) the whole transaction is to be tried again.
    pub async fn once<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        key: &Key,
        payload: &PayloadHash,
    ) -> Result<Once, Error> {
        let (source, id) = (stored(key.source.as_bytes()), stored(key.id.as_bytes()));
        let row = [
            Value::Text(&self.consumer),
            Value::Text(&source),
            Value::Text(&id),
            Value::Bytes(&payload.0),
        ];
        match D::execute(transaction, SqlStr::from_static(D::STATEMENTS.claim), &row).await {
            Ok(0) => {}
            Ok(_) => return Ok(Once::First),
            Err(error) if is_unique_violation(&error) => {}
            Err(error) => return Err(of::<D>(error)),
        }
        let found = D::find(
            transaction,
            SqlStr::from_static(D::STATEMENTS.find),
            &row[..3],
        )
        .await;
        // It was purged, or its transaction was rolled back, in between.
        let (hash, outputs) = found.map_err(of::<D>)?.ok_or(Error::Conflict(None))?;
        let same_payload = hash == payload.0;
        if !same_payload {
            tracing::warn!(
                consumer = %self.consumer, source = %key.source, id = %key.id,
                "{}: two messages with different payloads have the same id; the second one is not handled. \
                 Look for the producer that gives an id twice",
                Code::INBOX_PAYLOAD_DIFFERS
            );
        }
        Ok(Once::Duplicate {
            outputs: decoded(outputs)?,
            same_payload,
        })
    }

    /// Keeps what the handler's run is about to publish in the row that [`Inbox::once`] made in the
    /// same transaction. Publish after the commit; after a crash in between, the message is delivered
    /// again and its [`Once::Duplicate`] hands them back.
    ///
    /// # Errors
    /// [`Error::OutputsTooLarge`], [`Error::NotFirst`], and what the database says.
    pub async fn record_outputs<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        key: &Key,
        outputs: &[(TopicName, Message)],
    ) -> Result<(), Error> {
        let Some(encoded) = encoded(outputs)? else {
            return Ok(());
        };
        let (source, id) = (stored(key.source.as_bytes()), stored(key.id.as_bytes()));
        let values = [
            Value::Bytes(&encoded),
            Value::Text(&self.consumer),
            Value::Text(&source),
            Value::Text(&id),
        ];
        match D::execute(
            transaction,
            SqlStr::from_static(D::STATEMENTS.record_outputs),
            &values,
        )
        .await
        {
            Ok(1) => Ok(()),
            Ok(_) => Err(Error::NotFirst),
            Err(error) => Err(of::<D>(error)),
        }
    }

    /// Accepts `sequence` if it is greater than the last one of this `source` and `key`, and makes it
    /// the last one: one row for each key, whatever passes. It takes sequences that grow with the
    /// order in which messages of a key are delivered; what arrives late is not handled.
    ///
    /// # Errors
    /// As [`Inbox::once`].
    pub async fn advance<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        source: &str,
        key: &[u8],
        sequence: i64,
    ) -> Result<Advance, Error> {
        let (source, key) = (stored(source.as_bytes()), stored(key));
        let values = [
            Value::Integer(sequence),
            Value::Text(&self.consumer),
            Value::Text(&source),
            Value::Text(&key),
            Value::Integer(sequence),
        ];
        let advanced = D::execute(
            transaction,
            SqlStr::from_static(D::STATEMENTS.advance),
            &values,
        )
        .await;
        if advanced.map_err(of::<D>)? > 0 {
            return Ok(Advance::Accepted);
        }
        if let Some(first) = D::STATEMENTS.first_sequence {
            match D::execute(transaction, SqlStr::from_static(first), &values[1..]).await {
                Ok(_) => return Ok(Advance::Accepted),
                Err(error) if is_unique_violation(&error) => {}
                Err(error) => return Err(of::<D>(error)),
            }
        }
        let last = D::last_sequence(
            transaction,
            SqlStr::from_static(D::STATEMENTS.last_sequence),
            &values[1..4],
        )
        .await;
        match last.map_err(of::<D>)? {
            Some((last, outputs)) if last >= sequence => Ok(Advance::Behind {
                last,
                outputs: decoded(outputs.filter(|_| last == sequence))?,
            }),
            // Somebody else's row came or went in between.
            _ => Err(Error::Conflict(None)),
        }
    }

    /// Keeps what the handler's run is about to publish beside the mark that [`Inbox::advance`] made in
    /// the same transaction, as [`Inbox::record_outputs`] does.
    ///
    /// # Errors
    /// As [`Inbox::record_outputs`].
    pub async fn record_sequence_outputs<D: Dialect>(
        &self,
        transaction: &mut Transaction<'_, D>,
        source: &str,
        key: &[u8],
        sequence: i64,
        outputs: &[(TopicName, Message)],
    ) -> Result<(), Error> {
        let Some(encoded) = encoded(outputs)? else {
            return Ok(());
        };
        let (source, key) = (stored(source.as_bytes()), stored(key));
        let values = [
            Value::Bytes(&encoded),
            Value::Text(&self.consumer),
            Value::Text(&source),
            Value::Text(&key),
            Value::Integer(sequence),
        ];
        let sql = D::STATEMENTS.record_sequence_outputs;
        match D::execute(transaction, SqlStr::from_static(sql), &values).await {
            Ok(1) => Ok(()),
            Ok(_) => Err(Error::NotFirst),
            Err(error) => Err(of::<D>(error)),
        }
    }
}

/// What is stored for these outputs; `None` for none.
fn encoded(outputs: &[(TopicName, Message)]) -> Result<Option<Bytes>, Error> {
    if outputs.is_empty() {
        return Ok(None);
    }
    let encoded = encode_outputs(outputs);
    if encoded.len() > OUTPUTS_BYTES_MAX {
        return Err(Error::OutputsTooLarge {
            bytes: encoded.len(),
        });
    }
    Ok(Some(encoded))
}

fn decoded(stored: Option<Vec<u8>>) -> Result<Vec<(TopicName, Message)>, Error> {
    let outputs = stored.map(|stored| decode_outputs(stored.into()));
    Ok(outputs.transpose()?.unwrap_or_default())
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

/// A database error as the inbox tells it.
pub(crate) fn of<D: Dialect>(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(inner) if is_missing::<D>(&**inner) => Error::NotInstalled(error),
        _ => match classify(&error) {
            Class::Conflict => Error::Conflict(Some(error)),
            Class::Unavailable => Error::Unavailable(error),
            Class::Other => Error::Database(error),
        },
    }
}

/// Whether one of the inbox's own tables is not there.
fn is_missing<D: Dialect>(error: &dyn DatabaseError) -> bool {
    D::refusal(error) == Some(Refusal::NoTable) && error.message().contains("wharf_inbox")
}

/// A text as it is stored: itself, or its hash where it is too long, is no text, or holds what one of
/// the databases does not take. Different texts are stored as different ones.
fn stored(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text)
            if text.len() <= TEXT_BYTES_MAX
                && !text.starts_with(HASHED)
                && !text.contains(char::is_control) =>
        {
            Cow::Borrowed(text)
        }
        _ => Cow::Owned(format!("{HASHED}{}", hex(&Sha256::digest(bytes)))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_stored_as_they_are_or_as_their_hash_and_never_as_each_other() {
        assert_eq!(stored(b"order-7"), "order-7");
        assert_eq!(stored("Größe 7 ".as_bytes()), "Größe 7 ");
        let hashed = stored(b"a\0b").into_owned();
        for text in [&b"a\xff"[..], b"a\nb", &[b'x'; 201], hashed.as_bytes()] {
            let stored = stored(text);
            assert!(stored.starts_with(HASHED), "{stored}");
            assert_eq!(stored.len(), HASHED.len() + 64);
        }
        assert_ne!(
            stored(hashed.as_bytes()),
            hashed,
            "a hash may not be forged"
        );
        assert_eq!(stored(&[b'x'; 200]).len(), 200);
    }

    #[test]
    fn an_absent_payload_is_not_as_an_empty_one_and_headers_do_not_count() {
        let empty = PayloadHash::of(&Message::new(""));
        assert_ne!(empty, PayloadHash::of(&Message::default()));
        let more = Message::new("").with_header("wharf-attempt", "2");
        assert_eq!(empty, PayloadHash::of(&more));
    }
}
