//! Reading the log: from the stream of the slot to batches, and back from what is durable to the slot.
//!
//! One task does all of it and waits for everything at once, so the server hears from the relay also
//! while the target takes nothing.
//!
//! Invariants: the server is told only what [`Outgoing`] says is durable; no read is given up half-way
//! with its bytes lost; what waits for a batch is bounded.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pgwire_replication::protocol::ReplicationCopyData;
use tokio::time::{Instant, sleep_until};
use wharf_message::Code;

use super::assembly::{Assembly, Odd};
use super::control::{Control, Moment, SILENCE_MAX};
use super::outgoing::{Outgoing, closed};
use super::session::{Failed, Session};
use super::{PostgresLog, lag_of, pgoutput};
use crate::{FeedClosed, Lag, Trouble};

/// The most bytes of rows in a batch, but for one row.
const BATCH_BYTES: usize = 1 << 20;
/// How many batches make a target busy, and what counts as a small one then.
const UNDER_WAY_MANY: usize = 8;
const BATCH_BYTES_SMALL: usize = 64 << 10;
/// How many messages are taken before anything else gets its turn.
const MESSAGES_AT_ONCE: usize = 1024;
/// How often the server is told something new at most, and something at all at least.
const FEEDBACK_MIN: Duration = Duration::from_millis(50);
const FEEDBACK_MAX: Duration = Duration::from_secs(1);
/// How often the database is asked how it stands.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What came of asking the database.
type Asked = (Control, Result<(Moment, Option<u64>), Trouble>);

/// The reading of the log.
pub(crate) struct Follow<'a> {
    source: &'a PostgresLog,
    session: Session,
    assembly: Assembly,
    outgoing: Outgoing,
    /// `None` while the database is asked.
    control: Option<Control>,
    asking: Option<BoxFuture<'static, Asked>>,
    sending: Option<BoxFuture<'static, Result<(), FeedClosed>>>,
    ask_at: Instant,
    /// How long the server waits for a word.
    patience: Duration,
    /// What the server was told last, and when.
    told: (u64, Instant),
    /// When the server was heard last.
    heard: Instant,
    /// Where the last anchor was.
    anchored: u64,
    /// When to write a heartbeat, and where the log was after the last one.
    heartbeat: (Instant, u64),
    /// What was left at a position of the log that has not come yet, though nothing else is left.
    looked: Option<(Lag, u64)>,
    warned: HashSet<Odd>,
    warned_of_retention: bool,
}

impl<'a> Follow<'a> {
    /// Over a session that has begun to stream.
    pub(crate) fn new(
        source: &'a PostgresLog,
        session: Session,
        assembly: Assembly,
        outgoing: Outgoing,
        control: Control,
        patience: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            source,
            session,
            assembly,
            outgoing,
            control: Some(control),
            asking: None,
            sending: None,
            ask_at: now,
            patience,
            told: (0, now),
            heard: now,
            anchored: 0,
            heartbeat: (now + source.heartbeat, 0),
            looked: None,
            warned: HashSet::new(),
            warned_of_retention: false,
        }
    }

    /// Until trouble comes.
    pub(crate) async fn run(mut self) -> Trouble {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(retained)) => return self.give_up(retained).await,
                Err(trouble) => return trouble,
            }
        }
    }

    /// Does what can be done and waits for more; says how much the slot keeps when that is too much.
    async fn step(&mut self) -> Result<Option<u64>, Trouble> {
        self.fill()?;
        self.send();
        self.tell_lag();
        self.ask();
        self.feedback().await?;
        let room = self.assembly.bytes() < BATCH_BYTES;
        let next = self.next_at();
        tokio::select! {
            biased;
            sent = async { self.sending.as_mut().expect("looked at").await }, if self.sending.is_some() => {
                self.sending = None;
                sent.map_err(closed)?;
            }
            frame = self.session.read(), if room => self.take(frame)?,
            asked = async { self.asking.as_mut().expect("looked at").await }, if self.asking.is_some() => {
                self.asking = None;
                return self.answered(asked);
            }
            confirmed = self.outgoing.confirmed() => {
                confirmed.map_err(closed)?;
                self.outgoing.settle();
            }
            () = sleep_until(next) => {}
        }
        Ok(None)
    }

    /// Takes what has come already.
    fn fill(&mut self) -> Result<(), Trouble> {
        for _ in 0..MESSAGES_AT_ONCE {
            if self.assembly.bytes() >= BATCH_BYTES {
                break;
            }
            let Some(frame) = self.session.read().now_or_never() else {
                break;
            };
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: Result<ReplicationCopyData, Failed>) -> Result<(), Trouble> {
        let frame = frame.map_err(|failed| self.source.names().failed(&failed))?;
        self.heard = Instant::now();
        match frame {
            ReplicationCopyData::XLogData { data, .. } => {
                let message =
                    pgoutput::decode(&data).map_err(|malformed| self.malformed(&malformed))?;
                self.assembly.take(message);
            }
            ReplicationCopyData::KeepAlive {
                wal_end,
                reply_requested,
                ..
            } => {
                self.assembly.heard(wal_end.0);
                if reply_requested {
                    // It is told at once what it was told before.
                    self.told.1 = self.heard - self.patience;
                }
            }
        }
        for odd in self.assembly.odd() {
            if self.warned.insert(odd) {
                tracing::warn!(slot = self.source.slot, "{}", said(odd));
            }
        }
        Ok(())
    }

    fn malformed(&self, malformed: &pgoutput::Malformed) -> Trouble {
        let what = format!(
            "the log of the slot {} cannot be read: {malformed}",
            self.source.slot
        );
        Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what)
    }

    /// Hands over what waits, if the batch before is gone. While the target is busy with many, small
    /// ones grow until it is done with one of them.
    fn send(&mut self) {
        let busy = self.outgoing.under_way() >= UNDER_WAY_MANY;
        if busy && self.assembly.bytes() < BATCH_BYTES_SMALL {
            return;
        }
        if self.sending.is_none() && (self.assembly.has_rows() || self.assembly.is_anchored()) {
            let (batch, confirm) = self.assembly.batch();
            self.sending = Some(self.outgoing.send(batch, confirm).boxed());
        }
    }

    /// Asks the database how it stands, when it is time.
    fn ask(&mut self) {
        let now = Instant::now();
        let keep = self.outgoing.keep_at().is_some_and(|at| at <= now);
        if now < self.ask_at && !keep {
            return;
        }
        let Some(mut control) = self.control.take() else {
            return;
        };
        // What was seen the last time and has not come meanwhile is told as it is: one look at a time.
        if let Some((lag, _)) = self.looked.take() {
            self.outgoing.feed().status().set_lag(lag);
        }
        let kept = self.outgoing.take_kept();
        let cursor = self.source.cursor();
        let beats = now >= self.heartbeat.0;
        if beats {
            self.heartbeat.0 = now + self.source.heartbeat;
        }
        let (beaten, heartbeat) = (self.heartbeat.1, self.source.heartbeat);
        let asking = async move {
            let work = async || {
                let confirm = match kept {
                    Some((checkpoint, confirm)) => {
                        control.keep(&cursor, &checkpoint).await?;
                        Some(confirm)
                    }
                    None => None,
                };
                let mut moment = control.moment().await?;
                if beats && !heartbeat.is_zero() && moment.position != beaten {
                    control.heartbeat().await?;
                    moment = control.moment().await?;
                    moment.beaten = true;
                }
                Ok((moment, confirm))
            };
            let asked = work().await;
            (control, asked)
        };
        self.ask_at = now + ASK_EVERY;
        self.asking = Some(asking.boxed());
    }

    /// Takes in how the database stands.
    fn answered(&mut self, (control, asked): Asked) -> Result<Option<u64>, Trouble> {
        self.control = Some(control);
        let (moment, kept) = asked?;
        if let Some(confirm) = kept {
            self.outgoing.was_kept(confirm);
        }
        if moment.beaten {
            self.heartbeat.1 = moment.position;
        }
        let lag = lag_of(self.source, &moment, self.outgoing.flushed());
        self.looked = Some((lag, moment.position));
        self.tell_lag();
        if !moment.is_published {
            return Err(self.source.unpublished());
        }
        let Some(slot) = moment.slot else {
            return Err(self.source.slot_gone());
        };
        if !self.assembly.awaits() && moment.position != self.anchored {
            self.anchored = moment.position;
            self.assembly.anchor(moment.snapshot, moment.position);
        }
        self.warn_of_retention(slot.retained, slot.safe);
        let too_much = self
            .source
            .retained_max
            .is_some_and(|max| slot.retained > max);
        Ok(too_much.then_some(slot.retained))
    }

    /// Tells what was left when the database was asked last: no row, once everything of the log up to
    /// there has come and is durable. Bytes alone do not say so, since others write into the log, too,
    /// and so do checkpoints that are kept in the database.
    fn tell_lag(&mut self) {
        let Some((lag, position)) = &mut self.looked else {
            return;
        };
        let idle = self.outgoing.is_idle() && !self.assembly.is_busy();
        if idle && self.assembly.heard_of() < *position {
            return;
        }
        lag.rows = idle.then_some(0);
        if let Some((lag, _)) = self.looked.take() {
            self.outgoing.feed().status().set_lag(lag);
        }
    }

    fn warn_of_retention(&mut self, retained: u64, safe: Option<i64>) {
        let max = self.source.retained_max;
        let much = max.is_some_and(|max| retained > max / 2);
        let unsafe_soon = safe.is_some_and(|safe| u64::try_from(safe).unwrap_or(0) < retained);
        if (much || unsafe_soon) && !self.warned_of_retention {
            tracing::warn!(
                slot = self.source.slot,
                retained,
                safe,
                max,
                "the database keeps much of its log for the outbox ({})",
                Code::OUTBOX_LOG_RETAINED
            );
        }
        self.warned_of_retention = much || unsafe_soon;
    }

    /// Tells the server what is durable, when there is news or it is time.
    async fn feedback(&mut self) -> Result<(), Trouble> {
        self.outgoing.settle();
        let now = Instant::now();
        if now < self.feedback_at() {
            let silent = now - self.heard;
            // While nothing is read, nothing can be heard.
            if silent > SILENCE_MAX * 2 && self.assembly.bytes() < BATCH_BYTES {
                let what = "the database says nothing any more";
                return Err(Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what));
            }
            return Ok(());
        }
        let flushed = self.outgoing.flushed();
        // A server that has nothing to say is asked, and an anchor needs to know how far the log is.
        let silent = now - self.heard > FEEDBACK_MAX;
        let ask = self.assembly.awaits() || self.looked.is_some() || silent;
        self.told = (flushed, now);
        let told = self.session.feedback(flushed, ask).await;
        told.map_err(|failed| self.source.names().failed(&failed))
    }

    fn feedback_at(&self) -> Instant {
        let (told, at) = self.told;
        let wait = match self.outgoing.flushed() > told || self.looked.is_some() {
            true => FEEDBACK_MIN,
            false => FEEDBACK_MAX.min(self.patience),
        };
        at + wait
    }

    /// When to do something at the latest.
    fn next_at(&self) -> Instant {
        let asks = match self.control.is_some() {
            true => self
                .outgoing
                .keep_at()
                .map_or(self.ask_at, |at| at.min(self.ask_at)),
            false => self.feedback_at(),
        };
        asks.min(self.feedback_at())
    }

    /// Gives the slot up, which keeps too much; the next start goes on from the table.
    async fn give_up(self, retained: u64) -> Trouble {
        self.session.close().await;
        let control = match (self.control, self.asking) {
            (Some(control), _) => control,
            (None, Some(asking)) => asking.await.0,
            (None, None) => return self.source.slot_gone(),
        };
        let mut control = control;
        super::give_up(self.source, &mut control, retained).await
    }
}

fn said(odd: Odd) -> &'static str {
    match odd {
        Odd::Changed => {
            "rows of the outbox are changed or deleted, which the relay ignores; \
             it sends what is inserted"
        }
        Odd::Message => {
            "a message without a table is no row of an outbox and is set aside; \
             docs/specs/outbox-table.md has the format"
        }
        Odd::Loose => {
            "a message without a table is outside of a transaction and is ignored; \
             emit it with pg_logical_emit_message(true, …)"
        }
    }
}
