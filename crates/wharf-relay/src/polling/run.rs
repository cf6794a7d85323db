//! What all polling sources do: take the lease, read page after page, and beside that renew the lease,
//! save what is confirmed, look at what is left, and make room.
//!
//! Two connections: one reads and may wait for room in the feed, the other keeps the lease meanwhile.
//! Invariants: no page is handed over unless the lease is believed in; the cursor is moved to nothing
//! but what the feed says is confirmed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use wharf_message::Code;
use wharf_outbox::hint;

use super::backend::{Backend, Reader as _};
use super::lease::{Lease, check_free};
use super::pace::Pace;
use super::trouble::{Asked, trouble};
use crate::room::Room;
use crate::{Batch, Checkpoint, Feed, Source, Trouble};

/// How often what is confirmed is saved.
const SAVE_EVERY: Duration = Duration::from_millis(200);
/// How often what is left is looked at, unless that takes long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A source that polls.
pub(crate) struct Polling<B: Backend> {
    backend: Arc<B>,
    /// Who holds the lease: this object, whichever of its runs.
    holder: String,
}

impl<B: Backend> Polling<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self {
            backend: Arc::new(backend),
            holder: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4()),
        }
    }
}

impl<B: Backend> Source for Polling<B> {
    fn describe(&self) -> String {
        format!("{} table {}", B::NAME, self.backend.settings().table)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), Trouble>> {
        async move {
            let mut connection = self.connect().await?;
            check_free(&*self.backend, &mut connection, &self.holder).await
        }
        .boxed()
    }

    fn run(&self, history: Vec<Bytes>, feed: Feed) -> BoxFuture<'_, Trouble> {
        async move {
            match self.serve(history, feed).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            }
        }
        .boxed()
    }
}

/// What cannot be.
enum Never {}

/// What the reader and the keeper tell each other.
struct Shared {
    /// The checkpoints behind the batches that were sent and not yet seen to be confirmed.
    sent: Mutex<VecDeque<(u64, Bytes)>>,
    /// Until when the lease is believed in.
    until: watch::Sender<Instant>,
    /// The reader wants it renewed now.
    renew: Notify,
    /// The last checkpoint that is durable.
    confirmed: Mutex<Option<Bytes>>,
}

impl<B: Backend> Polling<B> {
    async fn serve(&self, history: Vec<Bytes>, feed: Feed) -> Result<Never, Trouble> {
        let backend = &self.backend;
        let mut connection = self.connect().await?;
        let table = backend.describe(&mut connection).await?;
        let mut lease = Lease::take(backend, &mut connection, &self.holder).await?;
        let checkpoint = history.into_iter().last().or(lease.checkpoint.take());
        let second = self.connect().await?;
        let reader = backend.reader(second, &table, checkpoint.as_ref()).await?;
        feed.status().set_running(false);
        let shared = Shared {
            sent: Mutex::default(),
            until: watch::channel(lease.until).0,
            renew: Notify::new(),
            confirmed: Mutex::new(checkpoint.clone()),
        };
        let keeper = Keeper {
            connection,
            lease,
            table: &table,
            shared: &shared,
            feed: feed.clone(),
            confirmed: checkpoint,
            saved: true,
        };
        tokio::select! {
            ended = self.read(reader, &feed, &shared) => ended,
            ended = keeper.keep(backend) => ended,
            ended = self.make_room(&shared) => ended,
        }
    }

    async fn connect(&self) -> Result<B::Connection, Trouble> {
        let settings = self.backend.settings();
        let connected = timeout(settings.lease, self.backend.connect()).await;
        let connected = connected.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        connected.map_err(|error| {
            trouble(
                &error,
                Asked {
                    user: self.backend.user(),
                    table: &settings.table,
                    quote: B::WORDS.quote,
                    rights: "SELECT",
                },
            )
        })
    }

    /// Hands page after page over.
    async fn read(
        &self,
        mut reader: B::Reader,
        feed: &Feed,
        shared: &Shared,
    ) -> Result<Never, Trouble> {
        let settings = self.backend.settings();
        let mut hint = hint::subscribe(settings.table.name());
        let mut pace = Pace::new(settings.idle_max);
        let mut until = shared.until.subscribe();
        let mut number = 0;
        loop {
            let page = reader.read(pace.rows()).await?;
            pace.read(page.rows.len(), page.bytes);
            if let Some(bytes) = page.checkpoint {
                let mut least = Instant::now();
                if page.settle {
                    // Renewed from now on: a commit behind all that the page has.
                    least += settings.lease;
                    shared.renew.notify_one();
                }
                // Late: the keeper renews it or says that it is lost.
                let held = until.wait_for(|&until| least <= until).await;
                held.map_err(|_gone| ended())?;
                number += 1;
                shared.sent().push_back((number, bytes.clone()));
                let checkpoint = Checkpoint { bytes, whole: true };
                let rows = page.rows;
                let sent = feed.send(Batch { rows, checkpoint }).await;
                sent.map_err(|_closed| ended())?;
            }
            if !page.more {
                tokio::select! {
                    () = sleep(pace.wait()) => {}
                    () = hint.told() => pace.hinted(),
                }
            }
        }
    }
}

impl<B: Backend> Polling<B> {
    /// Removes rows that are durable at the target and old, and makes partitions ahead.
    async fn make_room(&self, shared: &Shared) -> Result<Never, Trouble> {
        let settings = self.backend.settings();
        let Some(keep) = settings.keep else {
            return std::future::pending().await;
        };
        let mut room = Room::new(self.backend.pool(), &settings.table, keep);
        loop {
            sleep(settings.maintain_every).await;
            let confirmed = shared.confirmed().as_ref().and_then(B::complete);
            if let Some(confirmed) = confirmed {
                room.make(confirmed).await;
            }
        }
    }
}

fn ended() -> Trouble {
    Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, "the relay has ended")
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, VecDeque<(u64, Bytes)>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmed(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes on beside the reading.
struct Keeper<'a, B: Backend> {
    connection: B::Connection,
    lease: Lease<B>,
    table: &'a B::Table,
    shared: &'a Shared,
    feed: Feed,
    /// The last checkpoint that is durable.
    confirmed: Option<Bytes>,
    /// Whether it is in the database, or need not be.
    saved: bool,
}

impl<B: Backend> Keeper<'_, B> {
    async fn keep(mut self, backend: &Arc<B>) -> Result<Never, Trouble> {
        let lease = backend.settings().lease;
        let mut renewed = Instant::now();
        let (mut look_at, mut asked) = (renewed, false);
        let mut watch = B::Watch::default();
        loop {
            self.see_confirmed();
            let now = Instant::now();
            // Whatever does not come back in time is as good as gone, and so is the lease.
            let step = async {
                if asked || !self.saved || now >= renewed + lease / 3 {
                    self.renew().await?;
                    renewed = now;
                }
                if now >= look_at {
                    let confirmed = self.confirmed.as_ref();
                    let (connection, table) = (&mut self.connection, self.table);
                    let lag = backend
                        .lag(connection, table, confirmed, &mut watch)
                        .await?;
                    self.feed.status().set_lag(lag);
                    // What takes long is done less often.
                    look_at = Instant::now() + LOOK_EVERY.max(now.elapsed() * 20);
                }
                Ok(())
            };
            timeout(lease, step).await.map_err(|_late| silent())??;
            asked = tokio::select! {
                () = self.shared.renew.notified() => true,
                () = sleep(SAVE_EVERY.min(lease / 10)) => false,
            };
        }
    }

    fn see_confirmed(&mut self) {
        let confirmed = self.feed.confirmed();
        let mut sent = self.shared.sent();
        let durable = sent.partition_point(|(number, _)| *number <= confirmed);
        if let Some((_, last)) = sent.drain(..durable).last() {
            *self.shared.confirmed() = Some(last.clone());
            self.confirmed = Some(last);
            self.saved = self.feed.keeps_checkpoints();
        }
    }

    async fn renew(&mut self) -> Result<(), Trouble> {
        match &self.confirmed {
            Some(checkpoint) if !self.saved => {
                self.lease.save(&mut self.connection, checkpoint).await?;
                self.saved = true;
            }
            _ => self.lease.renew(&mut self.connection).await?,
        }
        self.shared.until.send_replace(self.lease.until);
        Ok(())
    }
}

fn silent() -> Trouble {
    let what = "the database does not answer in time";
    Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what)
}
