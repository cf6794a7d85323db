//! The log's two threads: the committer, and maintenance behind it.
//!
//! They block on the disk, so they are real threads and not tasks. Neither may end before it is
//! told to: whoever waits for an answer would wait for ever. If one panics, the node fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use wharf_log::{Committer, Maintenance, Policy};

use crate::clock;

/// How often retention is looked at when nothing else calls for maintenance.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);

/// The running threads.
#[derive(Debug)]
pub(crate) struct LogThreads {
    committer: JoinHandle<()>,
    maintenance: JoinHandle<io::Result<()>>,
    stop: Arc<AtomicBool>,
}

/// Tells the node when the thread that holds it unwinds.
struct Alarm(watch::Sender<bool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

impl LogThreads {
    /// Starts both. `failed` becomes true if one of them panics.
    pub(crate) fn start(
        mut committer: Committer,
        mut maintenance: Maintenance,
        policy: impl Policy + 'static,
        failed: &watch::Sender<bool>,
    ) -> io::Result<Self> {
        let alarm = Alarm(failed.clone());
        let committer = Builder::new()
            .name("wharf-commit".to_owned())
            .spawn(move || {
                let _alarm = alarm;
                while committer.wait() {
                    committer.run_pending(clock::now());
                }
            })?;
        let alarm = Alarm(failed.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let maintenance = Builder::new()
            .name("wharf-maintain".to_owned())
            .spawn(move || {
                let _alarm = alarm;
                while !stopped.load(Ordering::Acquire) {
                    while maintenance.run(&policy, clock::now()) && !stopped.load(Ordering::Acquire)
                    {
                    }
                    if !stopped.load(Ordering::Acquire) {
                        maintenance.wait(MAINTENANCE_INTERVAL);
                    }
                }
                maintenance.finish(clock::now())
            })?;
        Ok(Self {
            committer,
            maintenance,
            stop,
        })
    }

    /// Waits for both, the appender being closed already. Blocks.
    pub(crate) fn join(self) -> io::Result<()> {
        let panicked = |_| io::Error::other("a thread of the log panicked");
        self.committer.join().map_err(panicked)?;
        self.stop.store(true, Ordering::Release);
        self.maintenance.join().map_err(panicked)?
    }
}
