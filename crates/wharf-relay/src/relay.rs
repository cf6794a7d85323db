//! The loop: open the target, run the source, route, deliver, confirm; and again after trouble.
//!
//! Invariants: confirmations reach the source in the order of its batches; nothing of an earlier run
//! is confirmed to a later one; a wait between two runs never exceeds [`Settings::patience`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::sleep;
use wharf_message::{Code, Timestamp};

use crate::feed::{Intake, Sent};
use crate::target::Delivered;
use crate::{Feed, Routed, Router, Row, Sink, Source, State, Status, Target, Trouble, TroubleKind};

/// How a relay works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most bytes of rows under way, from the source to the target; at least 1.
    pub bytes_max: u32,
    /// The longest wait between two attempts.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            patience: Duration::from_secs(5),
        }
    }
}

/// Moves the rows of one source to one target.
pub struct Relay {
    name: String,
    source: Arc<dyn Source>,
    router: Arc<dyn Router>,
    target: Arc<dyn Target>,
    settings: Settings,
    status: Arc<Status>,
    now: fn() -> Timestamp,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        formatter
            .debug_struct("Relay")
            .field("name", name)
            .finish_non_exhaustive()
    }
}

/// A delivery under way: what it comes to, and what is known of its rows.
struct UnderWay {
    result: Result<Delivered, Trouble>,
    counts: Counts,
    /// Given back when the rows are durable.
    _room: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    rows: u64,
    set_aside: u64,
    last_commit: Option<Timestamp>,
}

impl Counts {
    /// So many messages were made, and then refused by their topics.
    fn refused(&mut self, count: u64) {
        self.rows = self.rows.saturating_sub(count);
        self.set_aside += count;
    }
}

impl Relay {
    /// A relay of this name, which its checkpoints are kept under: never give it to another source.
    pub fn new(
        name: impl Into<String>,
        source: Arc<dyn Source>,
        router: Arc<dyn Router>,
        target: Arc<dyn Target>,
        now: fn() -> Timestamp,
    ) -> Self {
        Self {
            name: name.into(),
            source,
            router,
            target,
            settings: Settings::default(),
            status: Arc::default(),
            now,
        }
    }

    /// With other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How it stands, also while it runs.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Moves rows until `stop` turns true. Trouble never ends it; it waits and tries again.
    ///
    /// # Cancellation
    /// Dropping the future is a crash: what was not durable comes again at the next start.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        while !*stop.borrow() {
            self.status.change(|view| view.state = State::Connecting);
            let before = self.status.view().batches;
            let trouble = tokio::select! {
                trouble = self.serve() => trouble,
                _ = stop.wait_for(|&stop| stop) => return,
            };
            failures = match self.status.view().batches == before {
                true => failures + 1,
                false => 0,
            };
            self.tell(&trouble);
            tokio::select! {
                () = sleep(self.wait(trouble.kind, failures)) => {}
                _ = stop.wait_for(|&stop| stop) => return,
            }
        }
    }

    /// Until trouble comes.
    async fn serve(&self) -> Trouble {
        if let Err(trouble) = self.source.ready().await {
            return trouble;
        }
        let opened = match self.target.open(&self.name).await {
            Ok(opened) => opened,
            Err(trouble) => {
                let guarded = self.source.guard().await.err();
                // What is in the way of that is the same as with the next attempt, or told there.
                let given_up = guarded.filter(|it| it.code == Code::OUTBOX_LOG_RETAINED);
                return given_up.unwrap_or(trouble);
            }
        };
        let status = Arc::clone(&self.status);
        status.change(|view| view.connects += 1);
        let keeps = self.target.keeps_checkpoints();
        let (feed, intake) = Feed::new(self.settings.bytes_max, keeps, status);
        tokio::select! {
            biased;
            trouble = self.pump(intake, opened.sink) => trouble,
            trouble = self.source.run(opened.history, feed) => trouble,
        }
    }

    /// Routes and delivers what comes, and confirms what is durable.
    async fn pump(&self, mut intake: Intake, mut sink: Box<dyn Sink>) -> Trouble {
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some(done) = under_way.next() => {
                    let UnderWay { result, mut counts, _room } = done;
                    match result {
                        Ok(Delivered { set_aside }) => counts.refused(set_aside),
                        Err(trouble) => return trouble,
                    }
                    self.count(counts);
                    intake.confirmed.send_modify(|confirmed| *confirmed += 1);
                }
                Some(sent) = intake.batches.recv() => {
                    under_way.push_back(self.deliver(sent, &mut *sink));
                }
                else => {
                    let what = "the source ended";
                    return Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what);
                }
            }
        }
    }

    fn deliver(&self, sent: Sent, sink: &mut dyn Sink) -> BoxFuture<'static, UnderWay> {
        let Sent { batch, room } = sent;
        let mut counts = Counts::default();
        let routed = batch
            .rows
            .iter()
            .filter_map(|row| self.route(row, &mut counts));
        let delivered = sink.deliver(routed.collect(), batch.checkpoint);
        Box::pin(async move {
            UnderWay {
                result: delivered.await,
                counts,
                _room: room,
            }
        })
    }

    fn route(&self, row: &Row, counts: &mut Counts) -> Option<Routed> {
        counts.last_commit = row.committed_at.or(counts.last_commit);
        match self.router.route(row) {
            Ok(routed) => {
                counts.rows += 1;
                routed
            }
            Err(reason) => {
                counts.set_aside += 1;
                tracing::warn!(source = self.name, place = %row.place, %reason,
                    "a row of the outbox was set aside, since no message can be made of it ({})",
                    Code::OUTBOX_ROW_SET_ASIDE);
                Some(self.router.set_aside(&self.name, row, &reason))
            }
        }
    }

    fn count(&self, counts: Counts) {
        self.status.change(|view| {
            view.batches += 1;
            view.rows += counts.rows;
            view.set_aside += counts.set_aside;
            view.last_commit = counts.last_commit.or(view.last_commit);
        });
    }

    fn tell(&self, trouble: &Trouble) {
        let standby = trouble.kind == TroubleKind::Standby;
        if standby {
            tracing::debug!(source = self.name, "standing by: {trouble}");
        } else {
            let source = self.source.describe();
            tracing::warn!(
                name = self.name,
                source,
                "the relay does not run: {trouble}"
            );
        }
        let now = (self.now)();
        self.status.change(|view| {
            view.state = if standby {
                State::Standby
            } else {
                State::Stopped
            };
            view.trouble = Some((now, trouble.clone()));
        });
    }

    /// How long to wait after the `failures`-th failure in a row, from 1.
    fn wait(&self, kind: TroubleKind, failures: u32) -> Duration {
        let wait = match kind {
            TroubleKind::Unavailable => {
                Duration::from_millis(100).saturating_mul(1 << failures.min(10))
            }
            TroubleKind::Standby => Duration::from_secs(1),
            TroubleKind::Refused => Duration::from_secs(5),
        };
        wait.min(self.settings.patience)
    }
}
