//! Who runs the committer: its own thread, or the connection whose request it is.
//!
//! A request that comes alone is committed by the thread that received it, when the disk syncs
//! quickly: waking the committer's thread and being woken by it would cost more than the sync. That
//! thread serves no other connection meanwhile, so there is never more than one, it is left to the
//! committer's thread when the last commit took long, and a runtime with a single worker never does
//! it.
//!
//! Invariant: whichever thread panics while it commits, the node fails.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use wharf_log::{Appender, Attendance, Committer};

use crate::clock;
use crate::health::HealthLog;
use crate::threads::Alarm;

/// A commit up to this long may delay what else its thread has to do.
const QUICK: Duration = Duration::from_micros(500);

/// The committer, to be run by one thread at a time.
pub(crate) struct Commits {
    committer: Mutex<Committer>,
    appender: Appender,
    health: Arc<HealthLog>,
    failed: watch::Sender<bool>,
    /// Whether other threads serve connections while one commits.
    shared_work: bool,
    /// Whether the last commit was.
    quick: AtomicBool,
}

impl fmt::Debug for Commits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Commits").finish_non_exhaustive()
    }
}

impl Commits {
    /// `failed` becomes true if a thread panics while it commits. Call within the runtime that serves
    /// the connections.
    pub(crate) fn new(
        committer: Committer,
        appender: Appender,
        health: Arc<HealthLog>,
        failed: watch::Sender<bool>,
    ) -> Self {
        Self {
            committer: Mutex::new(committer),
            appender,
            health,
            failed,
            shared_work: Handle::current().metrics().num_workers() > 1,
            quick: AtomicBool::new(false),
        }
    }

    /// Commits whatever is submitted until the log is closed.
    pub(crate) fn run(&self) {
        let waiter = self.lock().waiter();
        while waiter.wait() {
            let mut committer = self.lock();
            self.timed(|| committer.run_pending(clock::now()));
        }
        // Another thread may be at it still; from here on there is nothing left to commit.
        drop(self.lock());
    }

    /// Attends to what the caller is about to submit, if committing that itself is worth it.
    pub(crate) fn attend(&self) -> Option<Attended<'_>> {
        let worth_it = self.shared_work && self.quick.load(Ordering::Relaxed);
        worth_it.then(|| Attended {
            commits: self,
            attendance: self.appender.attend(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Committer> {
        self.committer
            .lock()
            .expect("the node fails when a thread panics while it commits")
    }

    fn timed(&self, commit: impl FnOnce() -> usize) {
        let _alarm = Alarm::new(&self.failed);
        let since = Instant::now();
        if commit() > 0 {
            self.quick
                .store(since.elapsed() <= QUICK, Ordering::Relaxed);
        }
        self.health.look();
    }
}

/// Between submitting and committing. Dropped, it leaves the commit to the committer's thread.
#[derive(Debug)]
pub(crate) struct Attended<'a> {
    commits: &'a Commits,
    attendance: Attendance,
}

impl Attended<'_> {
    /// Commits what was submitted, unless another thread is committing: that one goes on with it.
    /// Blocks for as long as the disk syncs.
    pub(crate) fn commit(self) {
        let mut committer = match self.commits.committer.try_lock() {
            Ok(committer) => committer,
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => return,
        };
        let attendance = self.attendance;
        self.commits
            .timed(|| committer.run_attended(attendance, clock::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};

    use wharf_broker::{Broker, Options, Wakeups};
    use wharf_log::disk::simulated::{Faults, SimulatedDisk};
    use wharf_log::{Done, Log, StateChange, Unit};

    use super::*;
    use crate::runtime::TokioRuntime;

    /// How long anything may take.
    const LIMIT: Duration = Duration::from_secs(30);

    fn commits() -> Arc<Commits> {
        let wakeups = Wakeups::default();
        let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
        let options = wharf_log::Options::default();
        let observer = Arc::new(wakeups.clone());
        let log = Log::open(disk, options, observer, clock::now()).unwrap();
        let runtime = Arc::new(TokioRuntime::new(Handle::current()));
        let appender = log.appender.clone();
        let options = Options::default();
        let broker = Broker::open(options, log.appender, log.reader, &wakeups, runtime).unwrap();
        let health = Arc::new(HealthLog::new(broker));
        let (failed, _) = watch::channel(false);
        Arc::new(Commits::new(log.committer, appender, health, failed))
    }

    /// Submits a unit; the answer tells the thread that committed it.
    fn submit(commits: &Commits) -> mpsc::Receiver<ThreadId> {
        let (sender, committed_by) = mpsc::channel();
        let done: Done = Box::new(move |outcome| {
            outcome.unwrap();
            sender.send(thread::current().id()).unwrap();
        });
        let change = StateChange {
            key: "k".into(),
            value: Some("v".into()),
        };
        let unit = Unit {
            state: vec![change],
            ..Unit::default()
        };
        commits.appender.submit(vec![(unit, done)]);
        committed_by
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_commits_by_itself_only_while_commits_are_quick_and_nobody_else_does() {
        let commits = commits();
        assert!(commits.attend().is_none(), "nothing is known of the disk");
        commits.quick.store(true, Ordering::Relaxed);

        let attended = commits.attend().unwrap();
        let committed_by = submit(&commits);
        attended.commit();
        assert_eq!(committed_by.try_recv(), Ok(thread::current().id()));

        commits.quick.store(true, Ordering::Relaxed);
        let attended = commits.attend().unwrap();
        let committed_by = submit(&commits);
        let busy = commits.lock();
        attended.commit();
        assert!(committed_by.try_recv().is_err(), "another thread commits");
        drop(busy);
        let running = Arc::clone(&commits);
        let thread = thread::spawn(move || running.run());
        assert_eq!(committed_by.recv_timeout(LIMIT), Ok(thread.thread().id()));
        commits.appender.close();
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_single_worker_leaves_commits_to_their_own_thread() {
        let commits = commits();
        commits.quick.store(true, Ordering::Relaxed);
        assert!(commits.attend().is_none());
    }
}
