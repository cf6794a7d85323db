//! The consumer as a process: started in a process group of its own, killed with all it started.
//!
//! Invariant: whatever ends this program but SIGKILL, the consumer does not outlive it: it is
//! killed when its owner is dropped and when the program is interrupted.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// The group that runs; a group is in here until just before it is waited for.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt kills the consumer and makes [`check_interrupt`] fail.
pub(super) fn kill_on_interrupt() -> Result<()> {
    ctrlc::set_handler(|| {
        INTERRUPTED.store(true, Ordering::SeqCst);
        kill_running();
    })
    .context("interrupts cannot be listened for")
}

/// Fails after an interrupt.
pub(super) fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

fn kill_running() {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = running.take() {
        // It may have ended by itself, and then there is nothing to do.
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// A running consumer.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts it; what it prints goes to the end of `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        check_interrupt()?;
        let log = File::options().create(true).append(true).open(log)?;
        command
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command.spawn().context("the consumer cannot be started")?;
        let group = Some(Pid::from_child(&child));
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = group;
        let process = Self { child };
        check_interrupt()?;
        Ok(process)
    }

    /// Whether it has ended by itself. It is not waited for, so that its id stays its own.
    pub(super) fn has_ended(&self) -> Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let id = Pid::from_child(&self.child);
        Ok(waitid(WaitId::Pid(id), look)?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        kill_running();
        // It was killed; there is nobody to tell that it cannot be waited for.
        self.child.wait().ok();
    }
}
