//! Reading the table: before there is a slot, and when the slot is lost or was given up.
//!
//! Goes from snapshot to snapshot, as the polling source does, leaving out what came from the log: so
//! rows of one aggregate come in the order of their commits here, too. Once a slot is there, let X be
//! the next transaction id: whatever commits from X on began after the slot was there and is in its
//! log. When every transaction below X is over and read, the log takes over and leaves out what is read.
//!
//! Invariants: a slot is made only where none has been before, or where the settings say so, and only
//! after a checkpoint that says so is durable; the log takes over only when nothing that it lacks is
//! left to read.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use wharf_message::Code;

use super::control::{Control, Moment, Slot};
use super::outgoing::Outgoing;
use super::progress::{Phase, Progress};
use super::session::{Failed, Session};
use super::{PostgresLog, lag_of};
use crate::polling::Reader as _;
use crate::polling::pace::Pace;
use crate::polling::postgres::PostgresReader;
use crate::{Batch, Row, Trouble};

/// How long to wait at most when there was nothing to read.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// How often a checkpoint says all, at least, and the database hears something.
const WHOLE_EVERY: Duration = Duration::from_secs(1);

/// The making of a slot, by the session that will read it.
type Making = BoxFuture<'static, (Session, Result<(), Failed>)>;

/// Reads the table until the log can take over.
pub(crate) struct CatchUp<'a> {
    pub(crate) source: &'a PostgresLog,
    pub(crate) control: &'a mut Control,
    /// Over a connection of its own: sorting a large backlog takes its time.
    pub(crate) reader: PostgresReader,
    pub(crate) outgoing: &'a mut Outgoing,
    pub(crate) progress: &'a mut Progress,
    /// `None` while it makes a slot.
    pub(crate) session: Option<Session>,
}

impl CatchUp<'_> {
    /// Until the log can take over.
    pub(crate) async fn run(mut self) -> Result<Session, Trouble> {
        // So that whoever starts again knows that the table is read, and whether a slot may be made.
        self.deliver(Vec::new(), true).await?;
        let (mut takes_over_at, mut making): (Option<u64>, Option<Making>) = (None, None);
        let (mut pace, mut told) = (Pace::new(WAIT_MAX), None);
        let mut whole_at = Instant::now();
        loop {
            let moment = self.control.moment().await?;
            let usable = moment.is_published && moment.slot.as_ref().is_some_and(Slot::is_usable);
            takes_over_at = match (usable, takes_over_at) {
                (false, _) => None,
                (true, None) => Some(moment.snapshot.xmax),
                (true, known) => known,
            };
            self.tell(&moment, usable, &mut told);
            self.guard(&moment).await?;
            let rows = self.read(&mut pace).await?;
            let is_over = takes_over_at.is_some_and(|at| moment.snapshot.xmin >= at);
            if rows > 0 && whole_at.elapsed() > WHOLE_EVERY {
                self.deliver(Vec::new(), true).await?;
                whole_at = Instant::now();
            }
            self.outgoing
                .keep(self.control, &self.source.cursor())
                .await?;
            if is_over && let Some(session) = self.session.take() {
                let slot = moment.slot.as_ref().map_or(0, |slot| slot.confirmed);
                self.progress.confirm = self.progress.confirm.max(slot);
                self.progress.phase = Phase::Log;
                return Ok(session);
            }
            if moment.slot.is_none() && making.is_none() && self.may_make() {
                making = self.make();
            }
            tokio::select! {
                (session, made) = async { making.as_mut().expect("looked at").await }, if making.is_some() => {
                    making = None;
                    self.session = Some(session);
                    match made {
                        Ok(()) => {}
                        // Somebody was faster, which is as good.
                        Err(failed) if failed.code() == Some("42710") => {}
                        Err(failed) => return Err(self.control.names.failed(&failed)),
                    }
                }
                () = sleep(pace.wait()) => {}
            }
        }
    }

    /// Whether to make a slot now: everything that was read is durable by then.
    fn may_make(&mut self) -> bool {
        let allowed = match self.progress.phase {
            Phase::New => self.source.create_slot,
            Phase::Table | Phase::Log => self.source.recreate_slot,
        };
        self.outgoing.settle();
        allowed && self.outgoing.is_idle()
    }

    /// Makes the slot; it waits for all transactions that are open, so the table is read meanwhile.
    fn make(&mut self) -> Option<Making> {
        let mut session = self.session.take()?;
        let statement = self.source.creation();
        let making = async move {
            let made = session.query(&statement).await.map(drop);
            (session, made)
        };
        Some(making.boxed())
    }

    /// Reads and hands over all rows that are visible now and not delivered yet.
    async fn read(&mut self, pace: &mut Pace) -> Result<u64, Trouble> {
        let mut count = 0;
        loop {
            let reading = self.reader.read(pace.rows());
            let page = self.control.wait_for(reading).await??;
            pace.read(page.rows.len(), page.bytes);
            let whole = self.progress.partial.is_some();
            let rows = self.take(page.rows);
            let (done, batch) = self.reader.at();
            self.progress.read(done, batch);
            count += rows.len() as u64;
            if !rows.is_empty() {
                self.deliver(rows, whole).await?;
            }
            if !page.more {
                return Ok(count);
            }
        }
    }

    /// Those rows that are not delivered yet.
    fn take(&mut self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| {
            let xid = row.place.commit;
            self.progress.newest = self.progress.newest.max(xid);
            if let Some(partial) = &mut self.progress.partial
                && partial.xid == xid
                && partial.rows > 0
            {
                partial.rows -= 1;
                return false;
            }
            !self.progress.has(xid)
        });
        rows
    }

    /// Hands rows over, and lets the database hear something while that takes long.
    async fn deliver(&mut self, rows: Vec<Row>, whole: bool) -> Result<(), Trouble> {
        let checkpoint = match whole {
            true => self.progress.whole(),
            false => self.progress.table_delta(),
        };
        let batch = Batch { rows, checkpoint };
        let confirm = self.progress.confirm;
        self.outgoing.patiently(batch, confirm, self.control).await
    }

    fn tell(&mut self, moment: &Moment, usable: bool, told: &mut Option<bool>) {
        let status = self.outgoing.feed().status();
        status.set_lag(lag_of(self.source, moment, self.progress.confirm));
        let degraded = self.progress.phase != Phase::New;
        status.set_running(degraded);
        if *told == Some(usable) {
            return;
        }
        *told = Some(usable);
        let slot = &self.source.slot;
        if usable {
            tracing::info!(
                slot,
                "the outbox is read from its table until the log can take over"
            );
        } else if degraded || !self.source.create_slot {
            let statement = self.source.slot_statement();
            tracing::warn!(
                slot,
                statement,
                "the outbox is read from its table, since the slot is gone or was given up; \
                 the statement makes a new one ({})",
                Code::OUTBOX_SLOT_LOST
            );
        }
    }

    /// Gives up a slot that keeps too much of the log.
    async fn guard(&mut self, moment: &Moment) -> Result<(), Trouble> {
        let Some(slot) = &moment.slot else {
            return Ok(());
        };
        match self
            .source
            .retained_max
            .is_some_and(|max| slot.retained > max)
        {
            true => Err(super::give_up(self.source, self.control, slot.retained).await),
            false => Ok(()),
        }
    }
}
