//! The consumer under test, as the harness sees it: something that is delivered to, killed, and
//! looked at.

use std::future::Ready;

use wharf_message::Message;
use wharf_message::transport::Position;

use super::effects::Effects;
use super::fault::Faults;
use super::schedule::How;

/// A message as it is delivered.
#[derive(Clone, Debug)]
pub struct Given {
    /// Which of the messages it is, from 0.
    pub number: usize,
    /// Where it is in its topic.
    pub position: Position,
    /// Which delivery from this position it is, from 1.
    pub attempt: u32,
    /// The message.
    pub message: Message,
}

/// A consumer under test, of any kind: a function, a service in a process of its own.
///
/// # Contract
/// - What [`Subject::reset`] leaves is the same each time: no effects, nothing remembered, nothing
///   delivered, the consumer running.
/// - A crash is one: what the consumer holds in memory is gone, what it has committed elsewhere is
///   there. It is started again by itself.
/// - [`Subject::effects`] first waits until everything delivered is handled or given up.
/// - Only faults of [`Subject::faults`] are asked for.
pub trait Subject {
    /// Why it could not be run. That a consumer fails to handle a message is no such error: it
    /// shows in the effects.
    type Error;

    /// What can go wrong for it.
    fn faults(&self) -> Faults;

    /// Begins anew.
    fn reset(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// Delivers a message.
    fn deliver(&mut self, given: &Given, how: How)
    -> impl Future<Output = Result<(), Self::Error>>;

    /// Kills the consumer after everything delivered is handled, and starts it again.
    /// [`Fault::Restart`](super::Fault::Restart).
    fn restart(&mut self) -> impl Future<Output = Result<(), Self::Error>> {
        unasked("restart")
    }

    /// The same, with the commit of these last deliveries lost: they are delivered again, in order.
    /// [`Fault::Rewind`](super::Fault::Rewind).
    fn rewind(&mut self, _last: &[Given]) -> impl Future<Output = Result<(), Self::Error>> {
        unasked("rewind")
    }

    /// Lets the time pass for which the consumer remembers what it has seen.
    /// [`Fault::Window`](super::Fault::Window).
    fn pass_window(&mut self) -> impl Future<Output = Result<(), Self::Error>> {
        unasked("pass_window")
    }

    /// What it has left behind since it began anew.
    fn effects(&mut self) -> impl Future<Output = Result<Effects, Self::Error>>;
}

/// A fault that a subject says it can have and does not implement.
fn unasked<E>(method: &str) -> Ready<Result<(), E>> {
    panic!("the subject names a fault whose method `{method}` it does not have")
}
