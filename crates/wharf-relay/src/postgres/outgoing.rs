//! What was handed to the relay and is not durable yet, and what the slot may be told of it.
//!
//! Invariant: the slot is told a position only when a checkpoint that says so is durable: at the
//! target, or in the table of cursors where the target keeps none.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::{Duration, Instant};
use wharf_message::Code;

use super::control::Control;
use super::progress::Progress;
use crate::{Batch, Feed, FeedClosed, Trouble};

/// How often at most a checkpoint is written into the table of cursors.
const KEEP_EVERY: Duration = Duration::from_millis(200);

/// What is on its way.
pub(crate) struct Outgoing {
    feed: Feed,
    sent: u64,
    confirmed: u64,
    /// What the slot may be told after each batch; and its checkpoint, if it is to be kept here.
    under_way: VecDeque<(u64, Option<Bytes>)>,
    /// What the slot may be told now.
    flushed: u64,
    kept: Kept,
}

/// The checkpoints of a target that keeps none.
struct Kept {
    is_ours: bool,
    /// What is durable at the target.
    durable: Option<Progress>,
    /// What the slot may be told once that is kept.
    next: Option<u64>,
    at: Option<Instant>,
}

impl Outgoing {
    /// Nothing is on its way; `progress` is what is kept.
    pub(crate) fn new(feed: Feed, progress: Option<&Progress>) -> Self {
        let is_ours = !feed.keeps_checkpoints();
        Self {
            sent: 0,
            confirmed: 0,
            under_way: VecDeque::new(),
            flushed: 0,
            kept: Kept {
                is_ours,
                durable: progress.filter(|_| is_ours).cloned(),
                next: None,
                at: None,
            },
            feed,
        }
    }

    /// Hands a batch over; `confirm` is what the slot may be told then. The future is to be driven to
    /// its end before the next batch is handed over.
    pub(crate) fn send(
        &mut self,
        batch: Batch,
        confirm: u64,
    ) -> impl Future<Output = Result<(), FeedClosed>> + Send + 'static {
        let checkpoint = self.kept.is_ours.then(|| batch.checkpoint.bytes.clone());
        self.under_way.push_back((confirm, checkpoint));
        self.sent += 1;
        let feed = self.feed.clone();
        async move { feed.send(batch).await }
    }

    /// Hands a batch over, and lets the database hear something while that takes long.
    pub(crate) async fn patiently(
        &mut self,
        batch: Batch,
        confirm: u64,
        control: &mut Control,
    ) -> Result<(), Trouble> {
        let sent = control.wait_for(self.send(batch, confirm)).await?;
        sent.map_err(closed)
    }

    /// Waits until more is durable.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(crate) async fn confirmed(&mut self) -> Result<(), FeedClosed> {
        self.feed.confirmed_beyond(self.confirmed).await.map(drop)
    }

    /// Notices what is durable by now.
    pub(crate) fn settle(&mut self) {
        let confirmed = self.feed.confirmed();
        for _ in self.confirmed..confirmed {
            let Some((confirm, checkpoint)) = self.under_way.pop_front() else {
                break;
            };
            match checkpoint {
                None => self.flushed = self.flushed.max(confirm),
                Some(checkpoint) => {
                    // It was made here, of what came before.
                    Progress::apply(&mut self.kept.durable, &checkpoint).ok();
                    self.kept.next = Some(confirm);
                }
            }
        }
        self.confirmed = confirmed;
    }

    /// How many batches are not durable yet.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether everything that was handed over is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.confirmed == self.sent && self.kept.next.is_none()
    }

    /// What the slot may be told.
    pub(crate) fn flushed(&self) -> u64 {
        self.flushed
    }

    /// When something is to be kept in the database, if anything is.
    pub(crate) fn keep_at(&self) -> Option<Instant> {
        self.kept.next?;
        let at = self.kept.at.map(|at| at + KEEP_EVERY);
        Some(at.unwrap_or_else(Instant::now))
    }

    /// What is to be kept in the database, and what the slot may be told then.
    pub(crate) fn take_kept(&mut self) -> Option<(Bytes, u64)> {
        let next = self.kept.next.take()?;
        self.kept.at = Some(Instant::now());
        let durable = self.kept.durable.as_ref()?;
        Some((durable.whole().bytes, next))
    }

    /// That is kept.
    pub(crate) fn was_kept(&mut self, confirm: u64) {
        self.flushed = self.flushed.max(confirm);
    }

    /// Keeps what is to be kept in the database.
    pub(crate) async fn keep(
        &mut self,
        control: &mut Control,
        cursor: &str,
    ) -> Result<(), Trouble> {
        self.settle();
        if let Some((checkpoint, confirm)) = self.take_kept() {
            control.keep(cursor, &checkpoint).await?;
            self.was_kept(confirm);
        }
        Ok(())
    }

    /// Where a source tells how it stands.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// The relay has ended, and so nobody hears this.
pub(crate) fn closed(closed: FeedClosed) -> Trouble {
    Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, closed.to_string())
}
