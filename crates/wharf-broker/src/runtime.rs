//! The world outside, as an argument: time, tasks, blocking work, randomness.

use std::fmt;

use futures_util::future::BoxFuture;
use wharf_message::Timestamp;

/// What the broker needs from whoever runs it. The server implements it with tokio, the
/// simulator with virtual time.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// The time now, as people and producers tell it. May jump either way whenever somebody sets
    /// the machine's clock, so no deadline goes by it.
    fn now(&self) -> Timestamp;
    /// What [`Self::now`] was when the node started, plus the time passed since: never jumps.
    /// Every deadline goes by it.
    fn steady(&self) -> Timestamp;
    /// Completes when [`Self::steady`] reaches `deadline` (soon, when it has already). Dropping it
    /// cancels.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
    /// Runs a task in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// Runs work that may block on the disk, away from the tasks.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>);
    /// Sixteen random bytes, for ids.
    fn random(&self) -> [u8; 16];
}
