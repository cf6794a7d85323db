//! The source that reads the log of Postgres: rows come in the order of their commits, within
//! milliseconds, and without a query to the table.
//!
//! A replication slot keeps the log until what is in it is durable at the target. When the slot is
//! lost, or is given up because it keeps too much, the source goes on from the table, and back to the
//! log once there is a slot again; nothing is lost or repeated on the way.
//!
//! ```text
//!          ┌────────── New: reads the table, makes the slot ──────────┐
//!          │                                                          ▼
//!       (nothing)                                          Log: reads the slot's log
//!                                                              │            ▲
//!                slot lost, given up, moved by somebody else   ▼            │ a slot is there, and
//!                                                       Table: reads the table ┘ all before it read
//! ```
//!
//! Invariants: the slot is never told a position that no durable checkpoint has; a slot that had been
//! there is never made again without being told to; which server it is is known before its log is
//! asked for, on the same connection.

mod address;
mod assembly;
mod catch_up;
mod control;
mod emitted;
mod follow;
mod maintenance;
mod outgoing;
pub mod pgoutput;
mod progress;
mod refusal;
mod session;
mod settings;
mod tls;
mod value;

use std::convert::Infallible;
use std::str::FromStr as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};
use wharf_message::Code;

pub(crate) use progress::Snapshot;
pub use settings::PostgresLog;

use self::address::Address;
use self::assembly::{Assembly, Wanted};
use self::catch_up::CatchUp;
use self::control::{Control, Moment, SILENCE_MAX};
use self::follow::Follow;
use self::outgoing::Outgoing;
use self::progress::{Phase, Progress};
use self::session::Session;
use crate::polling::postgres::{PostgresReader, Table};
use crate::{Feed, Lag, Source, Trouble};

/// How long to wait for somebody who is about to leave a slot.
const LEAVING: Duration = Duration::from_secs(2);
const LEAVING_STEP: Duration = Duration::from_millis(20);

impl Source for PostgresLog {
    fn describe(&self) -> String {
        let options = PgConnectOptions::from_str(&self.url).ok();
        let database = options.and_then(|options| options.get_database().map(str::to_owned));
        match database {
            Some(database) => format!("postgres log of {database}.{}", self.table),
            None => format!("postgres log of {}", self.table),
        }
    }

    fn guard(&self) -> BoxFuture<'_, Result<(), Trouble>> {
        async move {
            // Without a backlog the log alone may say what is wanted, and the target alone knows.
            let Some(max) = self.retained_max.filter(|_| self.backlog) else {
                return Ok(());
            };
            let mut control = Control::connect(&self.options()?, self.names()).await?;
            match control.moment().await?.slot {
                Some(slot) if slot.is_ours && slot.retained > max => {
                    Err(give_up(self, &mut control, slot.retained).await)
                }
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn run(&self, history: Vec<Bytes>, feed: Feed) -> BoxFuture<'_, Trouble> {
        async move {
            match Box::pin(self.serve(history, feed)).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            }
        }
        .boxed()
    }
}

/// How things stand, for people.
fn lag_of(source: &PostgresLog, moment: &Moment, confirmed: u64) -> Lag {
    let slot = moment.slot.as_ref();
    let state = slot.map_or("missing", |slot| &slot.state);
    Lag {
        rows: None,
        bytes: (confirmed > 0).then(|| moment.position.saturating_sub(confirmed)),
        retained_bytes: slot.map(|slot| slot.retained),
        safe_bytes: slot.and_then(|slot| slot.safe),
        slot: Some((source.slot.clone(), state.to_owned())),
        held_by: (moment.held_by.as_ref())
            .map(|held_by| format!("{held_by} ({})", Code::OUTBOX_HELD_BACK)),
    }
}

/// Drops the slot, to protect the database's disk; the next start goes on from the table.
async fn give_up(source: &PostgresLog, control: &mut Control, retained: u64) -> Trouble {
    let deadline = Instant::now() + LEAVING;
    loop {
        match control.drop_slot().await {
            Ok(()) => break,
            // Its sender has not noticed yet that nobody listens.
            Err(trouble) if trouble.code == Code::OUTBOX_TAKEN && Instant::now() < deadline => {
                sleep(LEAVING_STEP).await;
            }
            Err(trouble) => return trouble,
        }
    }
    let what = format!(
        "the slot {} kept {retained} bytes of the log, more than is allowed, and was given up; \
         the outbox is read from its table",
        source.slot
    );
    Trouble {
        fix: Some(source.slot_statement()),
        ..Trouble::unavailable(Code::OUTBOX_LOG_RETAINED, what)
    }
}

impl PostgresLog {
    async fn serve(&self, history: Vec<Bytes>, feed: Feed) -> Result<Infallible, Trouble> {
        let options = self.options()?;
        let mut control = Control::connect(&options, self.names()).await?;
        let user = &control.names.user.clone();
        let table = Table::describe(&mut control.connection, &self.table, user).await?;
        self.check_columns(&table)?;
        let (namespace, name) = control.table().await?;
        if !control.server.is_logical {
            let what = "the database writes no log that can be decoded: wal_level is not logical";
            let fix = "ALTER SYSTEM SET wal_level = 'logical', and restart the database";
            return Err(Trouble::refused(Code::OUTBOX_LOG_OFF, what, fix));
        }
        let session = Session::connect(&Address::new(&options)).await;
        let mut session = session.map_err(|failed| control.names.failed(&failed))?;
        let kept = self.kept(history, &feed, &mut control).await?;
        let mut outgoing = Outgoing::new(feed, kept.as_ref());
        let mut progress = self.identify(kept, &mut session, &control).await?;
        self.check_publication(&mut control, &mut progress, &mut outgoing)
            .await?;
        self.check_slot(&mut control, &mut progress, &table, &mut session)
            .await?;
        if progress.phase != Phase::Log {
            table.check_ordered()?;
            let connection = options.clone().disable_statement_logging().connect().await;
            let connection = connection.map_err(|error| control.names.error(&error))?;
            let (done, batch) = (progress.seen.clone(), progress.batch.clone());
            let catch_up = CatchUp {
                source: self,
                control: &mut control,
                reader: PostgresReader::new(connection, table.clone(), done, batch),
                outgoing: &mut outgoing,
                progress: &mut progress,
                session: Some(session),
            };
            session = catch_up.run().await?;
            // From here on a slot that is gone was a slot that was in use.
            self.persist(&mut control, &progress, &mut outgoing).await?;
        }
        let wanted = Wanted {
            namespace,
            table: name,
            messages: self.messages,
            kinds: table
                .columns()
                .iter()
                .map(|it| (it.name.clone(), it.kind.clone()))
                .collect(),
        };
        let patience = self.start(&mut session, &control, &table).await?;
        outgoing.feed().status().set_running(false);
        let near = control.moment().await?.snapshot.xmax;
        let assembly = Assembly::new(wanted, progress, near);
        let follow = Follow::new(self, session, assembly, outgoing, control, patience);
        tokio::select! {
            trouble = follow.run() => Err(trouble),
            never = self.make_room(&options, &table) => match never {},
        }
    }

    /// What is known from before.
    async fn kept(
        &self,
        history: Vec<Bytes>,
        feed: &Feed,
        control: &mut Control,
    ) -> Result<Option<Progress>, Trouble> {
        let history = match feed.keeps_checkpoints() {
            true => history,
            false => {
                let cursor = self.cursor();
                let kept = match control.kept(&cursor).await {
                    // The table of cursors is the relay's own, so it may make it.
                    Err(Trouble {
                        code: Code::OUTBOX_NOT_INSTALLED,
                        fix: Some(statement),
                        ..
                    }) if self.create_slot => {
                        control.execute(statement).await?;
                        control.kept(&cursor).await?
                    }
                    kept => kept?,
                };
                kept.into_iter().map(Bytes::from).collect()
            }
        };
        Progress::fold(&history).map_err(|damaged| {
            let fix = "run the version of the relay that wrote it, or newer";
            Trouble::refused(Code::OUTBOX_SOURCE_UNAVAILABLE, damaged.to_string(), fix)
        })
    }

    /// Checks that the server is the one that was read before, or follows from it.
    async fn identify(
        &self,
        kept: Option<Progress>,
        session: &mut Session,
        control: &Control,
    ) -> Result<Progress, Trouble> {
        let failed = |failed| control.names.failed(&failed);
        let answer = session.query("IDENTIFY_SYSTEM").await.map_err(failed)?;
        let text = |at: usize| {
            let value = answer.first()?.get(at)?.as_ref()?;
            str::from_utf8(value).ok()?.parse::<u64>().ok()
        };
        let (Some(system), Some(timeline)) = (text(0), text(1)) else {
            let what = "the database does not say which one it is";
            return Err(Trouble::unavailable(Code::OUTBOX_SOURCE_UNAVAILABLE, what));
        };
        let timeline = u32::try_from(timeline).unwrap_or(u32::MAX);
        let Some(mut progress) = kept else {
            return Ok(Progress::new(system, timeline));
        };
        let fix = "make sure that the url is right; if this server is meant, let the relay begin anew \
                   under another name: docs/operating/outbox.md says how";
        if progress.system != system {
            let what = format!(
                "the database is another one than before: its system identifier is {system}, not {}",
                progress.system
            );
            return Err(Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix));
        }
        if progress.timeline == timeline {
            return Ok(progress);
        }
        let asked = session.query(&format!("TIMELINE_HISTORY {timeline}")).await;
        let asked = asked.map_err(failed)?;
        let lines = asked
            .first()
            .and_then(|row| row.get(1)?.as_deref())
            .unwrap_or_default();
        let left = left_at(&String::from_utf8_lossy(lines), progress.timeline);
        match left {
            Some(position) if progress.commit < position => {
                progress.follow(timeline, position);
                Ok(progress)
            }
            _ => {
                let what = format!(
                    "the database is on timeline {timeline}, which does not have everything that was \
                     read on timeline {}",
                    progress.timeline
                );
                Err(Trouble::refused(Code::OUTBOX_OTHER_DATABASE, what, fix))
            }
        }
    }

    /// Makes sure that the table is published, before there is a slot: the log is decoded with what was
    /// there when it was written.
    async fn check_publication(
        &self,
        control: &mut Control,
        progress: &mut Progress,
        outgoing: &mut Outgoing,
    ) -> Result<(), Trouble> {
        if control.moment().await?.is_published {
            return Ok(());
        }
        if progress.phase == Phase::Log {
            // Rows that are inserted now will never be in the log of this slot.
            progress.phase = Phase::Table;
            self.persist(control, progress, outgoing).await?;
        }
        let publication = refusal::quoted(&self.publication);
        if control.has_publication().await? {
            let table = self.table.quoted::<sqlx::Postgres>();
            let what = format!("the publication {publication} does not have inserts into {table}");
            let fix = format!(
                "ALTER PUBLICATION {publication} ADD TABLE {table}, and ALTER PUBLICATION {publication} \
                 SET (publish = 'insert', publish_via_partition_root = true)"
            );
            return Err(Trouble::refused(Code::OUTBOX_ACCESS_REFUSED, what, fix));
        }
        if !self.create_slot {
            let what = format!("there is no publication {publication}");
            return Err(Trouble::refused(
                Code::OUTBOX_ACCESS_REFUSED,
                what,
                control.publication(),
            ));
        }
        control.publish().await
    }

    /// Finds out whether the slot can be relied on, and where to go on if not.
    async fn check_slot(
        &self,
        control: &mut Control,
        progress: &mut Progress,
        table: &Table,
        session: &mut Session,
    ) -> Result<(), Trouble> {
        let moment = control.moment().await?;
        if moment.slot.as_ref().is_some_and(|slot| !slot.is_ours) {
            let what = format!("the slot {} is of another database or plugin", self.slot);
            let fix = "give the source another slot";
            return Err(Trouble::refused(Code::OUTBOX_SLOT_LOST, what, fix));
        }
        match (progress.phase, moment.slot) {
            (Phase::Log, Some(slot)) if slot.is_usable() && slot.confirmed <= progress.confirm => {}
            (Phase::Log, slot) => {
                let state = slot.map_or_else(|| "gone".to_owned(), |slot| slot.state);
                tracing::warn!(
                    slot = self.slot,
                    state,
                    "the slot lacks what was not read ({})",
                    Code::OUTBOX_SLOT_LOST
                );
                if let Err(lacking) = table.check_ordered() {
                    let what = format!("{}, and {}", self.slot_gone().what, lacking.what);
                    let fix = lacking.fix.unwrap_or_default();
                    return Err(Trouble::refused(Code::OUTBOX_SLOT_LOST, what, fix));
                }
                progress.phase = Phase::Table;
            }
            (Phase::New, slot) if !self.backlog || table.check_ordered().is_err() => {
                // Only the log is read, from the slot on.
                if slot.is_none() {
                    progress.seen = moment.snapshot;
                    self.make_slot(session, control).await?;
                }
                let slot = control
                    .moment()
                    .await?
                    .slot
                    .ok_or_else(|| self.slot_gone())?;
                progress.confirm = slot.confirmed;
                progress.phase = Phase::Log;
            }
            (Phase::New | Phase::Table, _) => {}
        }
        Ok(())
    }

    /// Waits until it is durable how far the source is.
    async fn persist(
        &self,
        control: &mut Control,
        progress: &Progress,
        outgoing: &mut Outgoing,
    ) -> Result<(), Trouble> {
        let batch = crate::Batch {
            rows: Vec::new(),
            checkpoint: progress.whole(),
        };
        outgoing.patiently(batch, progress.confirm, control).await?;
        loop {
            outgoing.keep(control, &self.cursor()).await?;
            if outgoing.is_idle() {
                return Ok(());
            }
            let confirmed = control.wait_for(outgoing.confirmed()).await?;
            confirmed.map_err(outgoing::closed)?;
        }
    }

    /// Makes the slot, which waits for all transactions that are open.
    async fn make_slot(&self, session: &mut Session, control: &mut Control) -> Result<(), Trouble> {
        if !self.create_slot {
            let what = format!("there is no slot {}", self.slot);
            return Err(Trouble::refused(
                Code::OUTBOX_SLOT_LOST,
                what,
                self.slot_statement(),
            ));
        }
        let creation = self.creation();
        let made = control.wait_for(session.query(&creation)).await?;
        made.map(drop)
            .map_err(|failed| control.names.failed(&failed))
    }

    /// Begins the stream; says how long the server waits for a word, by half.
    async fn start(
        &self,
        session: &mut Session,
        control: &Control,
        table: &Table,
    ) -> Result<Duration, Trouble> {
        let server = control.server;
        let timeout = server
            .sender_timeout
            .filter(|&timeout| timeout <= SILENCE_MAX);
        if timeout.is_none() {
            // So that the slot is free soon when the relay is gone without a word.
            let set = format!("SET wal_sender_timeout = {}", SILENCE_MAX.as_millis());
            let set = session.query(&set).await;
            set.map_err(|failed| control.names.failed(&failed))?;
        }
        let options = self.stream_options(server.version, table);
        let deadline = Instant::now() + LEAVING;
        loop {
            match session.start(&self.slot, &options).await {
                Ok(()) => break,
                Err(failed) if failed.code() == Some("55006") && Instant::now() < deadline => {
                    sleep(LEAVING_STEP).await;
                }
                Err(failed) => return Err(control.names.failed(&failed)),
            }
        }
        Ok(timeout.unwrap_or(SILENCE_MAX) / 4)
    }
}

/// Where a timeline ended, by the history of a later one.
fn left_at(history: &str, timeline: u32) -> Option<u64> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let id: u32 = words.next()?.parse().ok()?;
        let (high, low) = words.next()?.split_once('/')?;
        let high = u64::from_str_radix(high, 16).ok()?;
        let low = u64::from_str_radix(low, 16).ok()?;
        (id == timeline).then_some(high << 32 | low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_of_a_timeline_says_where_an_older_one_ended() {
        let history = "1\t0/3000148\tno recovery target specified\n\n2\t1/5\treason\n";
        assert_eq!(left_at(history, 1), Some(0x300_0148));
        assert_eq!(left_at(history, 2), Some((1 << 32) + 5));
        assert_eq!(left_at(history, 3), None);
        assert_eq!(left_at("nonsense", 1), None);
    }
}
