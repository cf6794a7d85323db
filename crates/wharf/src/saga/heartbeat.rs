//! Signs of life of a worker that takes its time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use wharf_message::dead_letter::Reason;
use wharf_message::{TopicName, header};
use wharf_saga::machine::TaskToken;

use super::reply::Answer;
use super::task;
use crate::bus::{Bus, BusError};
use crate::extract::{FromParts, Nothing};
use crate::failure::Failed;
use crate::incoming::Incoming;

/// Tells the saga that its worker is still at it, for steps with a `HeartbeatSeconds`. An argument of a
/// handler, before the [`Task`](super::Task). It is sent at once, and not with what the handler returns.
///
/// ```
/// use std::time::Duration;
/// use wharf::saga::{Done, Heartbeat, Task};
///
/// async fn film(heart: Heartbeat, task: Task<String>) -> Result<Done<u32>, wharf::Error> {
///     let reels = heart.beating(Duration::from_secs(5), render(&task.arguments)).await?;
///     heart.beat().await?;
///     Ok(Done(reels))
/// }
///
/// async fn render(_scene: &str) -> std::io::Result<u32> {
///     Ok(7)
/// }
/// # wharf::group::<()>("studio").on(film);
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    bus: Bus,
    to: TopicName,
    token: TaskToken,
}

impl Heartbeat {
    /// One sign of life.
    ///
    /// # Errors
    /// When it could not be sent. The work may go on all the same.
    pub async fn beat(&self) -> Result<(), BusError> {
        let message = Answer::heartbeat(self.token).into_message()?;
        self.bus.send(self.to.clone(), message).await
    }

    /// Works, with a sign of life this often. One that could not be sent is logged, and the work goes on.
    pub async fn beating<F: Future>(&self, every: Duration, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        let mut due = interval(every.max(Duration::from_millis(1)));
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = due.tick() => {
                    // The work goes on while it is sent.
                    let beat = self.beat();
                    tokio::select! {
                        biased;
                        done = &mut work => return done,
                        sent = beat => if let Err(error) = sent {
                            tracing::warn!(task = %self.token, %error, "a heartbeat could not be sent");
                        }
                    }
                }
            }
        }
    }
}

impl<S> FromParts<S> for Heartbeat {
    type Holds = Nothing;

    fn from_parts(incoming: &mut Incoming, _: &S) -> Result<Self, Failed> {
        let headers = &incoming.first().message.headers;
        let token = task::token(headers)?;
        let to = headers.text(header::SAGA_REPLY_TO);
        let to = to.map_err(|error| Failed::for_ever(Reason::Undecodable, error))?;
        let missing = || Failed::for_ever(Reason::Undecodable, "there is no header reply-to");
        let to = TopicName::new(to.ok_or_else(missing)?);
        Ok(Self {
            to: to.map_err(|error| Failed::for_ever(Reason::Undecodable, error))?,
            bus: incoming.context().bus.clone(),
            token,
        })
    }
}
