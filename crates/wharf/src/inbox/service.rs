//! An attempt within the transaction of its inbox row.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Pool, Transaction};
use tower::{Service, ServiceExt};
use wharf_message::dead_letter::Reason;
use wharf_message::idempotency::{self, Key, Protects};
use wharf_message::{Headers, Message, TopicName, header};
use wharf_outbox::{Advance, Class, Dialect, Once, PayloadHash};

use super::tx::Slot;
use super::{Mode, SqlInbox};
use crate::envelope::Cause;
use crate::failure::{Disposition, Failed, chain};
use crate::incoming::{Incoming, Received};
use crate::outbox::Handling;
use crate::outcome::{Effects, Outcome};
use crate::router::Attempts;

/// The source of the keys of all tasks of sagas.
const SAGAS: &str = "saga";
/// What the key of an undo ends with, after that of its step.
const UNDO_SUFFIX: &str = "/undo";
/// How long a database that is down is left alone.
const DOWN_PAUSE: Duration = Duration::from_secs(1);

/// Runs attempts in transactions.
pub(super) struct InboxService<D: Dialect> {
    pub(super) inbox: SqlInbox<D>,
    pub(super) inner: Attempts,
}

impl<D: Dialect> Clone for InboxService<D> {
    fn clone(&self) -> Self {
        Self {
            inbox: self.inbox.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<D: Dialect> Service<Incoming> for InboxService<D> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, incoming: Incoming) -> Self::Future {
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let inbox = self.inbox.clone();
        Box::pin(async move {
            Ok(attempt(inbox, inner, incoming)
                .await
                .unwrap_or_else(Outcome::Failed))
        })
    }
}

/// What recognises a message.
enum Mark {
    Key(Key),
    Sequence {
        source: String,
        key: Vec<u8>,
        sequence: i64,
    },
}

/// Begins a transaction in a task of its own. An attempt may be given up at any moment, and a `BEGIN`
/// that is given up before its answer would leave the transaction open in a connection that goes back
/// to the pool: sqlx rolls back only what it knows to have begun.
async fn begin<D: Dialect>(pool: &Pool<D>) -> Result<Transaction<'static, D>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin().await }).await;
    begun.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

async fn attempt<D: Dialect>(
    inbox: SqlInbox<D>,
    mut inner: Attempts,
    mut incoming: Incoming,
) -> Result<Outcome, Failed> {
    let received = incoming.shared();
    let (context, clock) = (incoming.context().clone(), incoming.context().clock);
    inbox.purge_now_and_then(clock.now());
    let marks = received
        .iter()
        .map(|one| mark(&inbox.mode, one, context.group.as_str()));
    let marks = marks.collect::<Result<Vec<Mark>, Failed>>()?;
    let transaction = begin(&inbox.pool).await;
    let mut transaction = transaction.map_err(|error| database(&error))?;
    for (mark, one) in marks.iter().zip(&*received) {
        if let Some(seen) = claim(&inbox, &mut transaction, mark, one).await? {
            // Of a batch, the others are claimed when each is handled alone.
            return if received.len() == 1 {
                seen.into_outcome()
            } else {
                Err(alone())
            };
        }
    }
    let slot = Slot::new(transaction);
    incoming.extensions().insert(slot.clone());
    let handling = Handling::new(Arc::clone(&received), context.clone());
    let called = async {
        match inner.ready().await {
            Ok(ready) => ready.call(incoming).await,
            Err(never) => match never {},
        }
    };
    let outcome = handling.scope(called).await;
    let effects = match outcome {
        Ok(Outcome::Done(effects)) => effects,
        // The transaction is rolled back when its slot goes.
        Ok(Outcome::Failed(failed)) => return Ok(Outcome::Failed(failed)),
        Err(never) => match never {},
    };
    let mut transaction = slot.take().ok_or_else(kept)?;
    let last = &received[received.len() - 1];
    let headers = &last.message.headers;
    let cause = Cause::of(headers, &last.topic, last.position, context.group.as_str());
    let bus = context.bus.shared();
    let outputs = bus.outputs(effects, headers, &cause, 0)?;
    let outputs = bus.checking.check_in_now(outputs).await?;
    if let Some(mark) = marks.last() {
        let kept = keep(&inbox, &mut transaction, mark, &outputs).await;
        kept.map_err(|error| of_inbox(&error))?;
    }
    transaction
        .commit()
        .await
        .map_err(|error| database(&error))?;
    handling.committed();
    Ok(Outcome::Done(Effects::ready(outputs)))
}

/// A message that had its effects before.
enum Seen {
    /// These are to be published again.
    Before(Vec<(TopicName, Message)>),
    /// Another message had its id.
    Otherwise,
}

impl Seen {
    fn into_outcome(self) -> Result<Outcome, Failed> {
        match self {
            Self::Before(outputs) => Ok(Outcome::Done(Effects::ready(outputs))),
            Self::Otherwise => Err(Failed::for_ever(
                Reason::Rejected,
                format!(
                    "{}: another message with the same id and another payload was handled before, or the \
                     undo of this step",
                    wharf_message::Code::INBOX_PAYLOAD_DIFFERS
                ),
            )),
        }
    }
}

/// Claims a message; `None` when it is the first.
async fn claim<D: Dialect>(
    inbox: &SqlInbox<D>,
    transaction: &mut Transaction<'static, D>,
    mark: &Mark,
    received: &Received,
) -> Result<Option<Seen>, Failed> {
    match mark {
        Mark::Key(key) => {
            let hash = PayloadHash::of(&received.message);
            let once = inbox.inbox.once(transaction, key, &hash).await;
            Ok(match once.map_err(|error| of_inbox(&error))? {
                Once::First => {
                    bar(inbox, transaction, received).await?;
                    None
                }
                Once::Duplicate {
                    outputs,
                    same_payload: true,
                } => Some(Seen::Before(outputs)),
                Once::Duplicate {
                    same_payload: false,
                    ..
                } => Some(Seen::Otherwise),
            })
        }
        Mark::Sequence {
            source,
            key,
            sequence,
        } => {
            let advanced = inbox
                .inbox
                .advance(transaction, source, key, *sequence)
                .await;
            Ok(match advanced.map_err(|error| of_inbox(&error))? {
                Advance::Accepted => None,
                Advance::Behind { outputs, .. } => Some(Seen::Before(outputs)),
            })
        }
    }
}

/// An undo bars its step: a command that was on its way for too long must do nothing any more, even
/// where it comes after the undo.
async fn bar<D: Dialect>(
    inbox: &SqlInbox<D>,
    transaction: &mut Transaction<'static, D>,
    received: &Received,
) -> Result<(), Failed> {
    let headers = &received.message.headers;
    if !is_command(headers) || headers.text(header::SAGA_UNDO) != Ok(Some("true")) {
        return Ok(());
    }
    let key = headers.text(header::IDEMPOTENCY_KEY).ok().flatten();
    if let Some(step) = key.and_then(|key| key.strip_suffix(UNDO_SUFFIX)) {
        let barred = PayloadHash::of(&Message::new("barred by its undo"));
        let key = Key::operation(SAGAS, step);
        // It is done already, or it never will be.
        let _done_or_barred = inbox
            .inbox
            .once(transaction, &key, &barred)
            .await
            .map_err(|error| of_inbox(&error))?;
    }
    Ok(())
}

fn is_command(headers: &Headers) -> bool {
    headers.contains(header::SAGA_ID) && headers.contains(header::SAGA_STEP)
}

/// Keeps what is about to be published beside what recognises the message.
async fn keep<D: Dialect>(
    inbox: &SqlInbox<D>,
    transaction: &mut Transaction<'static, D>,
    mark: &Mark,
    outputs: &[(TopicName, Message)],
) -> Result<(), wharf_outbox::Error> {
    let inbox = &inbox.inbox;
    match mark {
        Mark::Key(key) => inbox.record_outputs(transaction, key, outputs).await,
        Mark::Sequence {
            source,
            key,
            sequence,
        } => {
            inbox
                .record_sequence_outputs(transaction, source, key, *sequence, outputs)
                .await
        }
    }
}

fn mark(mode: &Mode, received: &Received, consumer: &str) -> Result<Mark, Failed> {
    let undecodable = |why: String| Failed::for_ever(Reason::Undecodable, why);
    let Received {
        message,
        topic,
        position,
        ..
    } = received;
    match mode {
        Mode::Id => {
            let key = idempotency::key(message, topic, *position);
            let key = key.map_err(|error| undecodable(error.to_string()))?;
            let none = || {
                undecodable(
                    "the message has neither an id nor a position to be recognised by".to_owned(),
                )
            };
            let key = key.ok_or_else(none)?;
            // The key of a task names its saga: whichever topic brings it, it is the same task.
            Ok(Mark::Key(match is_command(&message.headers) {
                true if key.protects == Protects::Operation => Key::operation(SAGAS, key.id),
                _ => key,
            }))
        }
        Mode::Fields(pointers) => {
            let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
            let payload = message.payload.as_deref().unwrap_or_default();
            let key = idempotency::of_fields(consumer, payload, &pointers);
            key.map(Mark::Key)
                .map_err(|error| undecodable(error.to_string()))
        }
        Mode::Sequence(header) => {
            let text = message
                .headers
                .text(header)
                .map_err(|error| undecodable(error.to_string()))?;
            let sequence = text.and_then(|text| text.parse().ok());
            let none = || undecodable(format!("the header {header} holds no number"));
            Ok(Mark::Sequence {
                source: topic.to_string(),
                key: message.key.as_deref().unwrap_or_default().to_vec(),
                sequence: sequence.ok_or_else(none)?,
            })
        }
    }
}

fn of_inbox(error: &wharf_outbox::Error) -> Failed {
    of_class(error.class(), chain(error))
}

fn database(error: &sqlx::Error) -> Failed {
    of_class(wharf_outbox::classify(error), chain(error))
}

/// The database's own troubles are no failures of the message.
fn of_class(class: Class, error: String) -> Failed {
    let disposition = match class {
        Class::Conflict => Disposition::Conflict,
        Class::Unavailable => {
            tracing::warn!(
                error,
                "the database of an inbox is not available; its messages wait, and use up no attempts"
            );
            Disposition::Postpone(DOWN_PAUSE)
        }
        _ => Disposition::Retry,
    };
    Failed {
        reason: Reason::RetriesExhausted,
        error,
        disposition,
    }
}

fn kept() -> Failed {
    let text = "the handler kept its `Tx` beyond its end; drop it before returning";
    Failed::for_now(Reason::Rejected, text)
}

fn alone() -> Failed {
    Failed::for_now(
        Reason::RetriesExhausted,
        "a message of the batch had its effects before; each is handled alone",
    )
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use harness::{Database, DatabaseKind};
    use sqlx::postgres::PgPoolOptions;

    use super::*;

    #[tokio::test]
    async fn a_begin_that_is_given_up_leaves_no_transaction_open() {
        let server = Database::start(DatabaseKind::Postgres, &["-c", "fsync=off"]);
        let server = server.expect("Postgres starts");
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(&server.url("postgres")).await;
        let pool = pool.expect("it answers");
        // Given up a little later each time, so that every step is interrupted.
        for turns in 0..50 {
            let patience = async {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                _begun = begin(&pool) => {}
                () = patience => {}
            }
            // On the only connection: `now()` stands still within a transaction.
            let now = || sqlx::query_scalar::<_, String>("SELECT now()::text").fetch_one(&pool);
            let (first, second) = (now().await.expect("a time"), now().await.expect("a time"));
            assert_ne!(first, second);
        }
        pool.close().await;
    }
}
