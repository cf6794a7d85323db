//! Child processes in groups of their own, registered so that an interrupt reaches all of them.
//!
//! Invariant: a group is in the registry from just after its start until it was reaped. A process
//! id is never signalled after it was reaped, because by then it may belong to somebody else.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C or a request to terminate arrived.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// From now on an interrupt kills every live group and is remembered instead of ending this
/// process, so that it can still say what it did. The second interrupt ends it at once.
pub fn kill_groups_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            // A second interrupt: the first one's clean-up did not finish.
            std::process::abort();
        }
        for id in live().iter() {
            signal_group(*id, Signal::KILL);
        }
    })
    .context("failed to listen for interrupts")
}

fn live() -> MutexGuard<'static, BTreeSet<i32>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn signal_group(id: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(id) {
        // The group may have ended by itself; there is nothing to do then.
        kill_process_group(pid, signal).ok();
    }
}

/// A running child and everything it started.
#[derive(Debug)]
pub struct Group {
    child: Child,
    id: i32,
    reaped: bool,
}

impl Group {
    /// Starts `command` in a process group of its own.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {program}"))?;
        let id = i32::try_from(child.id()).context("the process id is out of range")?;
        live().insert(id);
        if interrupted() {
            signal_group(id, Signal::KILL);
        }
        Ok(Self {
            child,
            id,
            reaped: false,
        })
    }

    /// The child, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Lets the whole group do nothing (SIGSTOP) until [`Self::thaw`]. It can be killed meanwhile.
    pub fn freeze(&self) {
        if !self.reaped {
            signal_group(self.id, Signal::STOP);
        }
    }

    /// Lets the group go on (SIGCONT).
    pub fn thaw(&self) {
        if !self.reaped {
            signal_group(self.id, Signal::CONT);
        }
    }

    /// Kills the whole group at once (SIGKILL) and waits for the child.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            signal_group(self.id, Signal::KILL);
        }
        self.wait()
    }

    /// Asks the child to end (SIGTERM); kills the group when it has not within `patience`.
    /// Answers the exit status, or `None` when it had to be killed.
    pub fn terminate(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(pid) = Pid::from_raw(self.id).filter(|_| !self.reaped) {
            kill_process(pid, Signal::TERM).ok();
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                self.forget();
                return Ok(Some(status));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.kill()?;
        Ok(None)
    }

    /// Waits until the child ends by itself.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.forget();
        Ok(status)
    }

    /// Whether the child has ended, and how.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    fn forget(&mut self) {
        self.reaped = true;
        live().remove(&self.id);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill().ok();
        }
    }
}
