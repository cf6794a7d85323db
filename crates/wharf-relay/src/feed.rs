//! The seam between a database and the relay: a source puts batches of rows in, and hears in return
//! how many of them, from the first on, are durable at the target.
//!
//! Invariants: batches are confirmed in the order in which they were sent, and none before all those
//! ahead of it; a source that sends more than the relay holds waits in `send`, so it must keep its own
//! connection alive from elsewhere.

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::{Row, Status, Trouble};

/// How many batches wait between a source and the relay.
const BATCHES_MAX: usize = 256;
/// What a batch on its way takes beside its rows and its checkpoint: its places in the queues, and
/// whoever waits for it.
const BATCH_BYTES: usize = 512;

/// Where a source is to go on after everything up to here is durable: bytes of the source's own,
/// small (some hundred bytes), in a form that later versions read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// What the source wants to be told when it starts again.
    pub bytes: Bytes,
    /// Whether it says everything. If not, it adds to those before it, back to the last one that did:
    /// all of them are handed over at the start, in order.
    pub whole: bool,
}

/// Rows that become durable together with the checkpoint behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The rows, in order. May be empty, to move the checkpoint.
    pub rows: Vec<Row>,
    /// Where to go on after them.
    pub checkpoint: Checkpoint,
}

impl Batch {
    /// The memory it takes on its way to the target, in bytes; never 0.
    fn size(&self) -> usize {
        let rows = self.rows.iter().map(Row::size).sum::<usize>();
        BATCH_BYTES + rows + self.checkpoint.bytes.len()
    }
}

/// A database, as rows of one outbox table.
///
/// # Contract
/// - Every row that was committed comes, none that was rolled back, and the rows of one aggregate in
///   the order in which they were committed (what a polling source can promise less is in its docs).
/// - After a start with the checkpoints that were kept, no row comes that was durable with them.
///   With none kept at the target (`history` is empty) a source goes on from what it keeps itself in
///   the database, where rows may come again.
/// - It serves alone: another one of the same name, here or elsewhere, gets
///   [`Standby`](crate::TroubleKind::Standby) until this one is gone.
/// - It tells [`Status::set_running`] when it has begun to read.
/// - It confirms nothing to its database but what [`Feed::confirmed`] covers.
pub trait Source: Send + Sync {
    /// What it reads, for people: `postgres log of shop.public.outbox`.
    fn describe(&self) -> String;

    /// Whether nobody else serves it, as far as can be said: asked before the target is opened, so
    /// that a relay that stands by does not end whoever delivers there. `run` decides.
    fn ready(&self) -> BoxFuture<'_, Result<(), Trouble>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Asked whenever the target cannot be opened, every few seconds: what the database keeps because of
    /// this source must not grow beyond what is allowed meanwhile.
    ///
    /// # Errors
    /// Something had to be given up for that, or could not be looked at.
    fn guard(&self) -> BoxFuture<'_, Result<(), Trouble>> {
        std::future::ready(Ok(())).boxed()
    }

    /// Reads until trouble comes. Dropping the future ends the reading and gives up the source for
    /// others; what was not confirmed comes again.
    fn run(&self, history: Vec<Bytes>, feed: Feed) -> BoxFuture<'_, Trouble>;
}

/// A batch on its way, with the room it takes.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) batch: Batch,
    pub(crate) room: OwnedSemaphorePermit,
}

/// Where a source puts its batches. One for each run of a source.
#[derive(Clone, Debug)]
pub struct Feed {
    batches: mpsc::Sender<Sent>,
    room: Arc<Semaphore>,
    room_max: u32,
    confirmed: watch::Receiver<u64>,
    keeps_checkpoints: bool,
    status: Arc<Status>,
}

/// The relay's end of a feed.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) batches: mpsc::Receiver<Sent>,
    pub(crate) confirmed: watch::Sender<u64>,
}

impl Feed {
    /// A feed that holds batches of at most `bytes_max` bytes, to a target that keeps checkpoints or not.
    pub(crate) fn new(
        bytes_max: u32,
        keeps_checkpoints: bool,
        status: Arc<Status>,
    ) -> (Self, Intake) {
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        let (confirm, confirmed) = watch::channel(0);
        let feed = Self {
            batches: sender,
            room: Arc::new(Semaphore::new(bytes_max as usize)),
            room_max: bytes_max,
            confirmed,
            keeps_checkpoints,
            status,
        };
        let intake = Intake {
            batches: receiver,
            confirmed: confirm,
        };
        (feed, intake)
    }

    /// Hands a batch over, waiting for room. The first one of a run is number 1.
    ///
    /// # Errors
    /// The relay has ended; the run is to end, too.
    ///
    /// # Cancellation
    /// A dropped future did not hand it over.
    pub async fn send(&self, batch: Batch) -> Result<(), FeedClosed> {
        let size = u32::try_from(batch.size())
            .unwrap_or(u32::MAX)
            .min(self.room_max);
        let room = Arc::clone(&self.room).acquire_many_owned(size);
        let room = room.await.map_err(|_closed| FeedClosed)?;
        let sent = Sent { batch, room };
        self.batches.send(sent).await.map_err(|_closed| FeedClosed)
    }

    /// How many batches of this run, from the first on, are durable.
    pub fn confirmed(&self) -> u64 {
        *self.confirmed.borrow()
    }

    /// Waits until more than `seen` batches are durable, and says how many.
    ///
    /// # Errors
    /// The relay has ended.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub async fn confirmed_beyond(&mut self, seen: u64) -> Result<u64, FeedClosed> {
        let confirmed = self.confirmed.wait_for(|&confirmed| confirmed > seen).await;
        confirmed.map(|now| *now).map_err(|_closed| FeedClosed)
    }

    /// Whether the target keeps the checkpoints with the messages. If not, the source keeps the last
    /// one that is durable in its database.
    pub fn keeps_checkpoints(&self) -> bool {
        self.keeps_checkpoints
    }

    /// Where a source tells what is left to do and how it stands.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

/// The relay that a feed led to has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay has ended")]
pub struct FeedClosed;
