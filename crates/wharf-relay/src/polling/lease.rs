//! Who serves a source: a row of the cursor table, held for some seconds by the database's clock.
//!
//! Invariants: every statement that moves the cursor names the epoch that it was taken under, so that
//! a holder who was paused and replaced cannot; a lease is believed in only from before the statement
//! that renewed it was sent. One that is not renewed is free for others when its time has passed.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use wharf_message::Code;

use super::backend::{Backend, Value};
use super::name::{cursor_of, quoted_table};
use super::trouble::{Asked, trouble};
use crate::{Trouble, TroubleKind};

/// A lease that was taken.
pub(crate) struct Lease<B: Backend> {
    backend: Arc<B>,
    statements: Statements,
    epoch: i64,
    /// Until when nobody else can have taken it.
    pub(crate) until: Instant,
    /// What its last holder had left.
    pub(crate) checkpoint: Option<Bytes>,
}

struct Statements {
    insert: String,
    take: String,
    mine: String,
    others: String,
    renew: String,
    save: String,
    release: String,
}

impl Statements {
    fn new<B: Backend>(backend: &B) -> Self {
        let (words, settings) = (B::WORDS, backend.settings());
        let cursor = quoted_table(&cursor_of(&settings.table), words.quote);
        let later = words
            .later
            .replace("{}", &settings.lease.as_millis().to_string());
        let holder = words.bytes_of.replace("{}", "holder");
        let (now, (insert, end)) = (words.now, words.insert);
        // The values of each statement, in order.
        let [one, two, three] = match words.numbered {
            true => ["$1", "$2", "$3"],
            false => ["?"; 3],
        };
        Self {
            insert: format!("{insert} INTO {cursor} (source, epoch) VALUES ({one}, 0) {end}"),
            take: format!(
                "UPDATE {cursor} SET holder = {one}, epoch = epoch + 1, expires_at = {later}
                WHERE source = {two} AND (holder IS NULL OR holder = {three}
                    OR expires_at IS NULL OR expires_at < {now})"
            ),
            mine: format!(
                "SELECT epoch, checkpoint FROM {cursor} WHERE source = {one} AND holder = {two}"
            ),
            others: format!(
                "SELECT epoch, {holder} FROM {cursor}
                WHERE source = {one} AND holder <> {two} AND expires_at >= {now}"
            ),
            renew: format!(
                "UPDATE {cursor} SET expires_at = {later} WHERE source = {one} AND epoch = {two}"
            ),
            save: format!(
                "UPDATE {cursor} SET checkpoint = {one}, expires_at = {later}
                WHERE source = {two} AND epoch = {three}"
            ),
            release: format!(
                "UPDATE {cursor} SET holder = NULL, expires_at = NULL
                WHERE source = {one} AND epoch = {two}"
            ),
        }
    }
}

/// Whether the lease is free or this holder's own.
pub(crate) async fn check_free<B: Backend>(
    backend: &B,
    connection: &mut B::Connection,
    holder: &str,
) -> Result<(), Trouble> {
    let source = &backend.settings().source;
    let values = [Value::Text(source), Value::Text(holder)];
    let others = Statements::new(backend).others;
    let found = B::find(connection, &others, &values).await;
    match found.map_err(|error| refused(backend, &error))? {
        None => Ok(()),
        Some((_, other)) => {
            let other = other.unwrap_or_default();
            let other = String::from_utf8_lossy(&other);
            let what = format!("the lease of {source:?} is held by another relay, {other}");
            Err(Trouble::standby(Code::OUTBOX_TAKEN, what))
        }
    }
}

impl<B: Backend> Lease<B> {
    /// Takes the lease, if it is free or this holder's own.
    pub(crate) async fn take(
        backend: &Arc<B>,
        connection: &mut B::Connection,
        holder: &str,
    ) -> Result<Self, Trouble> {
        let statements = Statements::new(&**backend);
        let source = Value::Text(&backend.settings().source);
        let holds = Value::Text(holder);
        let refused = |error| refused(&**backend, &error);
        let asked = Instant::now();
        B::execute(connection, &statements.insert, &[source])
            .await
            .map_err(refused)?;
        let taken = B::execute(connection, &statements.take, &[holds, source, holds]).await;
        if taken.map_err(refused)? != 1 {
            check_free(&**backend, connection, holder).await?;
        }
        let mine = B::find(connection, &statements.mine, &[source, holds]).await;
        let Some((epoch, checkpoint)) = mine.map_err(refused)? else {
            let what = "another relay was quicker to take the lease";
            return Err(Trouble::standby(Code::OUTBOX_TAKEN, what));
        };
        Ok(Self {
            backend: Arc::clone(backend),
            statements,
            epoch,
            until: asked + backend.settings().lease,
            checkpoint: checkpoint.map(Bytes::from),
        })
    }

    /// Holds it for longer.
    pub(crate) async fn renew(&mut self, connection: &mut B::Connection) -> Result<(), Trouble> {
        let (backend, asked) = (Arc::clone(&self.backend), Instant::now());
        let values = [
            Value::Text(&backend.settings().source),
            Value::Integer(self.epoch),
        ];
        self.still(
            B::execute(connection, &self.statements.renew, &values).await,
            asked,
        )
    }

    /// Moves the cursor, and holds it for longer.
    pub(crate) async fn save(
        &mut self,
        connection: &mut B::Connection,
        checkpoint: &[u8],
    ) -> Result<(), Trouble> {
        let (backend, asked) = (Arc::clone(&self.backend), Instant::now());
        let values = [
            Value::Bytes(checkpoint),
            Value::Text(&backend.settings().source),
            Value::Integer(self.epoch),
        ];
        self.still(
            B::execute(connection, &self.statements.save, &values).await,
            asked,
        )
    }

    fn still(&mut self, touched: Result<u64, sqlx::Error>, asked: Instant) -> Result<(), Trouble> {
        match touched {
            Ok(1) => {
                self.until = asked + self.backend.settings().lease;
                Ok(())
            }
            Ok(_) => Err(Trouble::standby(
                Code::OUTBOX_TAKEN,
                "another relay took the lease, since this one did not renew it in time",
            )),
            Err(error) => Err(refused(&*self.backend, &error)),
        }
    }
}

/// Gives the lease back for others at once, on a connection of its own, if that takes no longer than
/// waiting for its end.
impl<B: Backend> Drop for Lease<B> {
    fn drop(&mut self) {
        let (backend, epoch) = (Arc::clone(&self.backend), self.epoch);
        let release = std::mem::take(&mut self.statements.release);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let lease = backend.settings().lease;
            let released = timeout(lease, async {
                let mut connection = backend.connect().await?;
                let values = [
                    Value::Text(&backend.settings().source),
                    Value::Integer(epoch),
                ];
                B::execute(&mut connection, &release, &values).await
            });
            match released.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the lease runs out by itself"),
                Err(_late) => tracing::debug!("the lease runs out by itself"),
            }
        });
    }
}

/// An error of the cursor table, with the statement that mends it.
fn refused<B: Backend>(backend: &B, error: &sqlx::Error) -> Trouble {
    let (words, settings) = (B::WORDS, backend.settings());
    let cursor = cursor_of(&settings.table);
    let mut trouble = trouble(
        error,
        Asked {
            user: backend.user(),
            table: &cursor,
            quote: words.quote,
            rights: "SELECT, INSERT, UPDATE",
        },
    );
    if trouble.kind == TroubleKind::Refused && trouble.code == Code::OUTBOX_NOT_INSTALLED {
        trouble.fix = Some(
            words
                .create_cursor
                .replace("{}", &quoted_table(&cursor, words.quote)),
        );
    }
    trouble
}
