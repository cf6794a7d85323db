//! What the broker needs from the world, on tokio.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::runtime::Handle;
use wharf_broker::Runtime;
use wharf_message::Timestamp;

use crate::clock;

/// The broker's tasks, timers and blocking work on a tokio runtime.
#[derive(Clone, Debug)]
pub(crate) struct TokioRuntime {
    handle: Handle,
    /// When the node started, by both clocks.
    started: (Timestamp, Instant),
}

impl TokioRuntime {
    pub(crate) fn new(handle: Handle) -> Self {
        let started = (clock::now(), Instant::now());
        Self { handle, started }
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn steady(&self) -> Timestamp {
        let (by_the_clock, instant) = self.started;
        by_the_clock.after(instant.elapsed())
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        // Rounded up by the millisecond the clock has cut off, so that it is not too early.
        let wait = deadline.since(self.steady()) + Duration::from_millis(1);
        Box::pin(tokio::time::sleep(wait))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(self.handle.spawn_blocking(work));
    }

    fn random(&self) -> [u8; 16] {
        random()
    }
}

/// Sixteen random bytes from the kernel.
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::empty());
    assert_eq!(
        filled,
        Ok(16),
        "the kernel gives up to 256 random bytes at once"
    );
    bytes
}
