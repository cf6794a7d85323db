//! The world outside, as an argument: time, tasks, blocking work, randomness.

use std::fmt;

use futures_util::future::BoxFuture;
use wharf_message::Timestamp;

/// What the broker needs from whoever runs it. The server implements it with tokio, the
/// simulator with virtual time.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// The time now. May jump; nothing durable depends on it never going back.
    fn now(&self) -> Timestamp;
    /// Completes at `deadline` (soon, when it has passed already). Dropping it cancels.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
    /// Runs a task in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);
    /// Runs work that may block on the disk, away from the tasks.
    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>);
    /// Sixteen random bytes, for ids.
    fn random(&self) -> [u8; 16];
}
