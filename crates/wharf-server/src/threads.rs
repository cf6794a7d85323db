//! The log's two threads: the committer, and maintenance behind it.
//!
//! They block on the disk, so they are real threads and not tasks. Neither may end before it is
//! told to: whoever waits for an answer would wait for ever. If one panics, the node fails.
//! Maintenance ends last and holds what must outlive every write: the lock of the data directory.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use wharf_broker::Broker;
use wharf_log::{Appender, Log, Maintenance, Policy};

use crate::clock;
use crate::commits::Commits;
use crate::health::HealthLog;

/// How often retention is looked at when nothing else calls for maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is tried whether a full disk has space again.
const DISK_FULL_INTERVAL: Duration = Duration::from_millis(250);

/// The running threads. Dropped, they end by themselves.
#[derive(Debug)]
pub(crate) struct LogThreads {
    stop: Stop,
    maintenance: JoinHandle<io::Result<()>>,
}

/// Closes the log when dropped.
#[derive(Debug)]
struct Stop {
    appender: Appender,
    requested: Arc<AtomicBool>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.requested.store(true, Ordering::Release);
        // Ends the committer once everything queued is answered, and wakes maintenance.
        self.appender.close();
    }
}

/// Tells the node when the thread that holds it unwinds.
pub(crate) struct Alarm<'a>(&'a watch::Sender<bool>);

impl<'a> Alarm<'a> {
    pub(crate) fn new(failed: &'a watch::Sender<bool>) -> Self {
        Self(failed)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

impl LogThreads {
    /// Starts both; the committer's thread is the one that runs the [`Commits`] returned. `failed`
    /// becomes true if one of them panics; `kept` is dropped when both have ended. Call within the
    /// runtime that serves the connections.
    pub(crate) fn start(
        log: Log,
        broker: Broker,
        failed: &watch::Sender<bool>,
        kept: impl Send + 'static,
    ) -> io::Result<(Self, Arc<Commits>)> {
        let policy = broker.retention_policy();
        let health = Arc::new(HealthLog::new(broker));
        let appender = log.appender;
        let commits = Arc::new(Commits::new(
            log.committer,
            appender.clone(),
            Arc::clone(&health),
            failed.clone(),
        ));
        let requested = Arc::new(AtomicBool::new(false));
        let stop = Stop {
            appender,
            requested: Arc::clone(&requested),
        };
        let running = Arc::clone(&commits);
        let committer = Builder::new()
            .name("wharf-commit".to_owned())
            .spawn(move || running.run())?;
        let mut maintaining = Maintaining {
            maintenance: log.maintenance,
            policy,
            health,
            requested,
        };
        let failed = failed.clone();
        let maintenance = Builder::new()
            .name("wharf-maintain".to_owned())
            .spawn(move || {
                let (_alarm, _kept) = (Alarm::new(&failed), kept);
                maintaining.run();
                committer
                    .join()
                    .map_err(|panic| panicked("committing", panic))?;
                maintaining.maintenance.finish(clock::now())
            })?;
        Ok((Self { stop, maintenance }, commits))
    }

    /// Closes the log and waits for both; maintenance is last, so its snapshot covers every
    /// commit. Blocks.
    pub(crate) fn join(self) -> io::Result<()> {
        drop(self.stop);
        self.maintenance
            .join()
            .map_err(|panic| panicked("maintenance", panic))?
    }
}

/// What the maintenance thread works with.
struct Maintaining<P> {
    maintenance: Maintenance,
    policy: P,
    health: Arc<HealthLog>,
    requested: Arc<AtomicBool>,
}

impl<P: Policy> Maintaining<P> {
    /// Maintains until the node stops.
    fn run(&mut self) {
        let requested = Arc::clone(&self.requested);
        let stopping = || requested.load(Ordering::Acquire);
        while !stopping() {
            let more = self.maintenance.run(&self.policy, clock::now());
            self.health.look();
            self.health.look_for_damage();
            if !more && !stopping() {
                self.maintenance.wait(if self.health.is_full() {
                    DISK_FULL_INTERVAL
                } else {
                    MAINTENANCE_INTERVAL
                });
            }
        }
    }
}

fn panicked(thread: &str, panic: Box<dyn Any + Send>) -> io::Error {
    let said = panic
        .downcast::<&'static str>()
        .map_or("it did not say why", |text| *text);
    io::Error::other(format!("the {thread} thread panicked: {said}"))
}
