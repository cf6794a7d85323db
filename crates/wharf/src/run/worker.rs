//! A worker: takes what is ready, handles it, and brings it to one of its ends.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use wharf_message::dead_letter::{Failure, Reason};
use wharf_message::header;

use super::attempt::attempt;
use super::lanes::Lane;
use super::{Queue, Running, Work};
use crate::envelope::Cause;
use crate::failure::{Disposition, Failed};
use crate::incoming::{Incoming, Received};
use crate::outcome::{Effects, Outcome};
use crate::retry::{Meanwhile, Next};
use crate::router::Unknown;
use crate::telemetry::End;

/// So many conflicts in a row count as a failed attempt.
const CONFLICTS_MAX: u32 = 100;
/// The longest pause between two conflicts.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);

/// What to do with a message after an attempt.
#[expect(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box would be allocated for every retry"
)]
enum Step {
    /// It has ended, its lane goes on.
    Ended,
    /// Again, at once.
    Again(Vec<Work>),
    /// Again, later; its lane waits.
    Hold(Work, Duration),
}

/// Works until the route ends.
pub(super) async fn run(running: Arc<Running>) {
    let mut loan = Loan::default();
    while let Ok(woken) = running.woken.acquire().await {
        woken.forget();
        let mut next = begin(&running);
        while let Some((lane, works)) = next {
            let step = handle(&running, &mut loan, works).await;
            next = go_on(&running, lane, step);
            // Handlers that never wait would keep all other tasks of this thread waiting.
            consume_budget().await;
        }
    }
}

/// One message, or those of a batch.
enum Works {
    One(Work),
    Many(Vec<Work>),
}

/// This worker was woken.
fn begin(running: &Running) -> Option<(Option<Lane>, Works)> {
    let mut queue = running.queue();
    queue.woken -= 1;
    take(running, &mut queue)
}

/// What this worker had in hand has come so far; it goes on with what is next.
fn go_on(running: &Running, lane: Option<Lane>, step: Step) -> Option<(Option<Lane>, Works)> {
    let mut queue = running.queue();
    if queue.has_ended {
        // Not given back under the lock: what a transport does then is its own.
        drop(queue);
        drop(step);
        return None;
    }
    match step {
        Step::Ended => queue.lanes.done(lane),
        Step::Again(works) => queue.lanes.put_back(lane, works.into_iter()),
        Step::Hold(work, delay) => {
            queue.holds += 1;
            let at = (Instant::now() + delay, queue.holds);
            queue.held.insert(at, (lane, work));
            running.held.notify_one();
        }
    }
    take(running, &mut queue)
}

/// What is ready next; if more is, another worker is woken for it.
fn take(running: &Running, queue: &mut Queue) -> Option<(Option<Lane>, Works)> {
    let (lane, work) = queue.lanes.take()?;
    let batch = work
        .handler
        .is_some_and(|at| running.route.handlers[at].batch);
    let works = if !batch || work.alone {
        Works::One(work)
    } else {
        let max = running.route.settings.batch_max.saturating_sub(1);
        let fits = |other: &Work| other.handler == work.handler && !other.alone;
        let mut works = queue.lanes.take_more(lane, max, fits);
        works.insert(0, work);
        Works::Many(works)
    };
    running.wake(queue, 1);
    Some((lane, works))
}

/// Where a worker puts the message that it lends to a handler. The place is used again unless a
/// handler has kept it.
#[derive(Default)]
struct Loan(Option<Arc<[Received]>>);

impl Loan {
    /// Moves the message out of its delivery, to be lent.
    fn lend(&mut self, work: &mut Work) -> Arc<[Received]> {
        let received = received(work);
        if let Some(mut place) = self.0.take()
            && let Some([free]) = Arc::get_mut(&mut place)
        {
            *free = received;
            return place;
        }
        Arc::new([received])
    }

    /// Puts the message back into its delivery; without a copy, unless the handler kept it.
    fn give_back(&mut self, work: &mut Work, mut lent: Arc<[Received]>) {
        match Arc::get_mut(&mut lent) {
            Some([only]) => {
                work.delivery.message = mem::take(&mut only.message);
                self.0 = Some(lent);
            }
            _ => work.delivery.message = lent[0].message.clone(),
        }
    }
}

async fn handle(running: &Running, loan: &mut Loan, works: Works) -> Step {
    match works {
        Works::One(work) => one(running, loan, work).await,
        Works::Many(works) => {
            let mut live = Vec::with_capacity(works.len());
            for work in works {
                if is_expired(running, &work) {
                    expire(running, work);
                } else {
                    live.push(work);
                }
            }
            many(running, live).await
        }
    }
}

fn is_expired(running: &Running, work: &Work) -> bool {
    work.expires_at
        .is_some_and(|at| at < running.bus.clock.now())
}

fn expire(running: &Running, work: Work) {
    running
        .bus
        .telemetry
        .ended(&running.context.group, &work.delivery.topic, End::Expired);
    tracing::debug!(topic = %work.delivery.topic, "a message has expired and is passed over");
    work.delivery.accept();
}

/// Handles one message.
async fn one(running: &Running, loan: &mut Loan, mut work: Work) -> Step {
    if is_expired(running, &work) {
        expire(running, work);
        return Step::Ended;
    }
    let Some(at) = work.handler else {
        return unknown(running, work);
    };
    let handler = &running.route.handlers[at];
    let received = loan.lend(&mut work);
    let incoming = Incoming::new(Arc::clone(&received), Arc::clone(&running.context));
    let span = running
        .bus
        .telemetry
        .process(&running.context.group, handler.name, &received);
    let outcome = span
        .within(attempt(
            &handler.service,
            incoming,
            running.route.settings.timeout,
        ))
        .await;
    loan.give_back(&mut work, received);
    let failed = match outcome {
        Outcome::Done(effects) => match span.within(finish(running, work, effects)).await {
            Ok(_) => return Step::Ended,
            Err((unfinished, failed)) => {
                work = unfinished;
                failed
            }
        },
        Outcome::Failed(failed) => failed,
    };
    span.failed(&failed);
    after_failure(running, work, failed)
}

/// Handles a batch: together, and after a failure each alone.
async fn many(running: &Running, mut works: Vec<Work>) -> Step {
    let Some(at) = works.first().and_then(|work| work.handler) else {
        return Step::Ended;
    };
    let handler = &running.route.handlers[at];
    let received: Arc<[Received]> = works.iter_mut().map(received).collect();
    let incoming = Incoming::new(Arc::clone(&received), Arc::clone(&running.context));
    let span = running
        .bus
        .telemetry
        .process(&running.context.group, handler.name, &received);
    let outcome = span
        .within(attempt(
            &handler.service,
            incoming,
            running.route.settings.timeout,
        ))
        .await;
    for (work, received) in works.iter_mut().zip(&*received) {
        work.delivery.message = received.message.clone();
    }
    match outcome {
        Outcome::Done(effects) => {
            let Some(last) = works.pop() else {
                return Step::Ended;
            };
            // Everything comes of the last message; those before it are accepted after it.
            match span.within(finish(running, last, effects)).await {
                Ok(Finished::Accepted) => {
                    for work in works {
                        end(running, &work, End::Accepted);
                        work.delivery.accept();
                    }
                    Step::Ended
                }
                Ok(Finished::Released) => Step::Ended,
                Err((last, failed)) => {
                    span.failed(&failed);
                    works.push(last);
                    alone(works)
                }
            }
        }
        Outcome::Failed(failed) => {
            span.failed(&failed);
            alone(works)
        }
    }
}

fn alone(mut works: Vec<Work>) -> Step {
    for work in &mut works {
        work.alone = true;
    }
    Step::Again(works)
}

/// Moves the message out of the delivery, so that it can be lent to the handler.
fn received(work: &mut Work) -> Received {
    Received {
        topic: work.delivery.topic.clone(),
        position: work.delivery.position,
        attempt: work.attempt(),
        message: mem::take(&mut work.delivery.message),
    }
}

/// Where a message is after its handler succeeded.
enum Finished {
    /// Done.
    Accepted,
    /// It goes back, and is delivered again.
    Released,
}

/// Publishes what came of a message, and accepts it.
async fn finish(
    running: &Running,
    work: Work,
    effects: Effects,
) -> Result<Finished, (Work, Failed)> {
    if effects.is_empty() && !running.route.settings.atomic {
        end(running, &work, End::Accepted);
        work.delivery.accept();
        return Ok(Finished::Accepted);
    }
    let delivery = &work.delivery;
    let headers = &delivery.message.headers;
    let group = running.context.group.as_str();
    let cause = Cause::of(headers, &delivery.topic, delivery.position, group);
    let outputs = match running.bus.outputs(effects, headers, &cause) {
        Ok(outputs) => outputs,
        Err(failed) => return Err((work, failed)),
    };
    if running.route.settings.atomic {
        let topic = work.delivery.topic.clone();
        return match work.delivery.accept_with(outputs).await {
            Ok(()) => {
                running
                    .bus
                    .telemetry
                    .ended(&running.context.group, &topic, End::Accepted);
                Ok(Finished::Accepted)
            }
            Err(error) => {
                tracing::warn!(%topic, %error, "outputs were not committed; the message is delivered again");
                Ok(Finished::Released)
            }
        };
    }
    match running.bus.publish_all(outputs, &running.stop).await {
        Ok(true) => {
            end(running, &work, End::Accepted);
            work.delivery.accept();
            Ok(Finished::Accepted)
        }
        // The service stops; the message goes back, and its repeat publishes the same ids.
        Ok(false) => Ok(Finished::Released),
        Err(error) => Err((work, Failed::for_ever(Reason::Rejected, error))),
    }
}

fn unknown(running: &Running, work: Work) -> Step {
    match running.route.settings.unknown {
        Unknown::Skip => {
            end(running, &work, End::Skipped);
            work.delivery.accept();
        }
        Unknown::DeadLetter => {
            let kind = work.delivery.message.headers.get(header::CE_TYPE);
            let text = match kind.map(|kind| String::from_utf8_lossy(kind)) {
                Some(kind) => format!("no handler of the group takes messages of type {kind}"),
                None => "the message has no type (ce_type), and no handler takes every message"
                    .to_owned(),
            };
            reject(running, work, Failed::for_ever(Reason::UnknownType, text));
        }
    }
    Step::Ended
}

/// What follows a failed attempt.
fn after_failure(running: &Running, mut work: Work, failed: Failed) -> Step {
    let backoff = match &failed.disposition {
        Disposition::Skip => {
            end(running, &work, End::Skipped);
            work.delivery.accept();
            return Step::Ended;
        }
        Disposition::DeadLetter => {
            reject(running, work, failed);
            return Step::Ended;
        }
        Disposition::Postpone(delay) => return Step::Hold(work, *delay),
        Disposition::Conflict if work.conflicts < CONFLICTS_MAX => {
            work.conflicts += 1;
            let pause = CONFLICT_PAUSE.mul_f64(running.bus.chance());
            let longest = Duration::from_millis(u64::from(work.conflicts));
            return Step::Hold(work, pause.min(longest));
        }
        Disposition::RetryWith(backoff) => Some(backoff),
        Disposition::Conflict | Disposition::Retry => None,
    };
    let number = work.attempt();
    let retry = &running.route.settings.retry;
    let mut next = retry.after(number, backoff, running.bus.chance());
    if failed.reason == Reason::Panicked && next != Next::Now {
        // A panic is a bug: waiting does not mend it.
        next = Next::GiveUp;
    }
    work.first_failed_at
        .get_or_insert_with(|| running.bus.clock.now());
    tracing::warn!(
        topic = %work.delivery.topic, position = ?work.delivery.position, group = %running.context.group,
        attempt = number, error = %failed.error, next = ?next, "an attempt failed"
    );
    match next {
        Next::GiveUp => {
            reject(running, work, failed);
            Step::Ended
        }
        Next::Now => {
            work.failed += 1;
            work.conflicts = 0;
            Step::Again(vec![work])
        }
        Next::Wait(delay) if retry.meanwhile == Meanwhile::LetPass => {
            end(running, &work, End::Retried);
            work.delivery.attempt = number;
            if let Some(first) = work.first_failed_at {
                work.delivery
                    .message
                    .headers
                    .set(header::FIRST_FAILED_AT, first.to_rfc3339());
            }
            work.delivery.retry(delay);
            Step::Ended
        }
        Next::Wait(delay) => {
            work.failed += 1;
            work.conflicts = 0;
            Step::Hold(work, delay)
        }
    }
}

fn reject(running: &Running, work: Work, failed: Failed) {
    end(running, &work, End::DeadLettered(failed.reason));
    let now = running.bus.clock.now();
    let handler = work
        .handler
        .map_or("", |at| running.route.handlers[at].name);
    tracing::error!(
        topic = %work.delivery.topic, position = ?work.delivery.position, group = %running.context.group,
        handler, reason = %failed.reason, error = %failed.error,
        "a message is set aside; look at dlq.{}.{}", work.delivery.topic, running.context.group
    );
    let failure = Failure {
        reason: failed.reason,
        error: failed.error,
        attempts: work.attempt(),
        first_failed_at: work.first_failed_at,
        failed_at: now,
        handler: handler.to_owned(),
    };
    work.delivery.reject(failure);
}

fn end(running: &Running, work: &Work, end: End) {
    running
        .bus
        .telemetry
        .ended(&running.context.group, &work.delivery.topic, end);
}
