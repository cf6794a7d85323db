//! A worker: takes what is ready, handles it, and brings it to one of its ends.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use wharf_message::dead_letter::{Failure, Reason};
use wharf_message::{Message, TopicName, header};

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

/// What is to be done with what a worker still has in hand.
#[derive(Clone, Copy)]
enum Step {
    /// Nothing: it has ended, its lane goes on.
    Ended,
    /// Again, at once.
    Again,
    /// Again, later; its lane waits.
    Hold(Duration),
}

/// What a worker has in hand. One for all that it handles, because messages are large and moving or
/// allocating them costs more than all else that is done with them.
#[derive(Default)]
struct Hand {
    lane: Option<Lane>,
    /// One message, or those of a batch; without those that have ended.
    works: Vec<Work>,
    /// Where the message is that is lent to a handler; used again unless a handler has kept it.
    place: Option<Arc<[Received]>>,
}

/// Works until the route ends.
pub(super) async fn run(running: Arc<Running>) {
    let mut hand = Hand::default();
    while let Ok(woken) = running.woken.acquire().await {
        woken.forget();
        let mut is_busy = begin(&running, &mut hand);
        while is_busy {
            let step = handle(&running, &mut hand).await;
            is_busy = go_on(&running, &mut hand, step);
            // Handlers that never wait would keep the other tasks of this thread waiting.
            consume_budget().await;
        }
    }
}

/// This worker was woken. Returns whether there is something to do.
fn begin(running: &Running, hand: &mut Hand) -> bool {
    let mut queue = running.queue();
    queue.woken -= 1;
    take(running, &mut queue, hand)
}

/// This worker has come so far, and goes on with what is next. Returns whether there is something.
fn go_on(running: &Running, hand: &mut Hand, step: Step) -> bool {
    let mut queue = running.queue();
    if queue.has_ended {
        // Not given back under the lock: what a transport does then is its own.
        drop(queue);
        hand.works.clear();
        return false;
    }
    match step {
        Step::Ended => queue.lanes.done(hand.lane),
        Step::Again => queue.lanes.put_back(hand.lane, hand.works.drain(..)),
        Step::Hold(delay) => {
            let due = Instant::now() + delay;
            for work in hand.works.drain(..) {
                queue.holds += 1;
                let at = (due, queue.holds);
                queue.held.insert(at, (hand.lane, work));
            }
            running.held.notify_one();
        }
    }
    take(running, &mut queue, hand)
}

/// Takes what is ready next; if more is, another worker is woken for it.
fn take(running: &Running, queue: &mut Queue, hand: &mut Hand) -> bool {
    let Some((lane, work)) = queue.lanes.take() else {
        return false;
    };
    hand.lane = lane;
    let rest = match is_batch(running, &work) {
        true => {
            let max = running.route.settings.batch_max.saturating_sub(1);
            let fits = |other: &Work| other.handler == work.handler && !other.alone;
            queue.lanes.take_more(lane, max, fits)
        }
        false => Vec::new(),
    };
    hand.works.push(work);
    hand.works.extend(rest);
    running.wake(queue, 1);
    true
}

/// Whether its handler gets it together with others.
fn is_batch(running: &Running, work: &Work) -> bool {
    let handler = work.handler.map(|at| &running.route.handlers[at]);
    handler.is_some_and(|handler| handler.batch) && !work.alone
}

fn is_expired(running: &Running, work: &Work) -> bool {
    let at = work.expires_at;
    at.is_some_and(|at| at < running.bus.clock.now())
}

/// Those that are too old have ended.
fn expire(running: &Running, works: &mut Vec<Work>) {
    for work in works.extract_if(.., |work| is_expired(running, work)) {
        tracing::debug!(topic = %work.delivery.topic, "a message has expired and is passed over");
        end(running, &work, End::Expired);
        work.delivery.accept();
    }
}

async fn handle(running: &Running, hand: &mut Hand) -> Step {
    if hand.works.iter().any(|work| is_expired(running, work)) {
        expire(running, &mut hand.works);
    }
    match hand.works.first() {
        Some(work) if is_batch(running, work) => many(running, &mut hand.works).await,
        Some(_) => one(running, hand).await,
        None => Step::Ended,
    }
}

/// Handles one message.
async fn one(running: &Running, hand: &mut Hand) -> Step {
    let Some((at, received)) = hand.lend() else {
        return unknown(running, &mut hand.works);
    };
    let handler = &running.route.handlers[at];
    let incoming = Incoming::new(Arc::clone(&received), Arc::clone(&running.context));
    let span = running
        .bus
        .telemetry
        .process(&running.context.group, handler.name, &received);
    let limit = running.route.settings.timeout;
    let outcome = span
        .within(attempt(&handler.service, incoming, limit))
        .await;
    hand.give_back(received);
    #[cfg(feature = "saga")]
    let outcome = match handler.takes.is_command() {
        true => crate::saga::answered(outcome, &span),
        false => outcome,
    };
    let failed = match outcome {
        Outcome::Done(effects) if effects.is_empty() && !running.route.settings.atomic => {
            accept(running, &mut hand.works, End::Accepted);
            return Step::Ended;
        }
        Outcome::Done(effects) => {
            match span.within(finish(running, &mut hand.works, effects)).await {
                Ok(()) => return Step::Ended,
                Err(failed) => failed,
            }
        }
        Outcome::Failed(failed) => failed,
    };
    span.failed(&failed);
    after_failure(running, &mut hand.works, &failed)
}

impl Hand {
    /// Moves the message out of its delivery, to be lent to its handler, if there is one.
    fn lend(&mut self) -> Option<(usize, Arc<[Received]>)> {
        let work = self.works.first_mut()?;
        let at = work.handler?;
        if let Some(mut place) = self.place.take()
            && let Some([free]) = Arc::get_mut(&mut place)
        {
            // Most messages are of the same topic, and counting its users is not for nothing.
            if free.topic != work.delivery.topic {
                free.topic = work.delivery.topic.clone();
            }
            free.position = work.delivery.position;
            free.attempt = work.attempt();
            mem::swap(&mut free.message, &mut work.delivery.message);
            return Some((at, place));
        }
        Some((at, Arc::new([received(work)])))
    }

    /// Puts the message back into its delivery; without a copy, unless the handler kept it. What is
    /// left in the place is empty.
    fn give_back(&mut self, mut lent: Arc<[Received]>) {
        let Some(work) = self.works.first_mut() else {
            return;
        };
        match Arc::get_mut(&mut lent) {
            Some([only]) => {
                mem::swap(&mut only.message, &mut work.delivery.message);
                self.place = Some(lent);
            }
            _ => work.delivery.message = lent[0].message.clone(),
        }
    }
}

/// Handles a batch: together, and after a failure each alone.
async fn many(running: &Running, works: &mut Vec<Work>) -> Step {
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
    let limit = running.route.settings.timeout;
    let outcome = span
        .within(attempt(&handler.service, incoming, limit))
        .await;
    for (work, received) in works.iter_mut().zip(&*received) {
        work.delivery.message = received.message.clone();
    }
    let failed = match outcome {
        Outcome::Done(effects) => match span.within(finish(running, works, effects)).await {
            Ok(()) => return Step::Ended,
            Err(failed) => failed,
        },
        Outcome::Failed(failed) => failed,
    };
    span.failed(&failed);
    works.iter_mut().for_each(|work| work.alone = true);
    Step::Again
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

/// Publishes what came of messages that were handled together, and accepts them. Nothing of them is
/// left then. What is published is taken to come of the last one.
async fn finish(running: &Running, works: &mut Vec<Work>, effects: Effects) -> Result<(), Failed> {
    let is_atomic = running.route.settings.atomic;
    if let Some(last) = works.last()
        && (is_atomic || !effects.is_empty())
    {
        let delivery = &last.delivery;
        let headers = &delivery.message.headers;
        let group = running.context.group.as_str();
        let cause = Cause::of(headers, &delivery.topic, delivery.position, group);
        let outputs = running.bus.outputs(effects, headers, &cause, 0)?;
        let checked = running.bus.checking.check_in_all(outputs, &running.stop);
        let Some(outputs) = checked.await? else {
            // The service stops; they go back, and their repeat publishes the same ids.
            works.clear();
            return Ok(());
        };
        if is_atomic {
            // There is only one: a route of batches cannot be atomic.
            if let Some(work) = works.pop() {
                accept_with(running, work, outputs).await;
            }
        } else {
            let published = running.bus.publish_all(outputs, &running.stop).await;
            if !published.map_err(|error| Failed::for_ever(Reason::Rejected, error))? {
                works.clear();
            }
        }
    }
    accept(running, works, End::Accepted);
    Ok(())
}

/// Publishes and accepts in one step; if that fails, the message is delivered again.
async fn accept_with(running: &Running, work: Work, outputs: Vec<(TopicName, Message)>) {
    let topic = work.delivery.topic.clone();
    match work.delivery.accept_with(outputs).await {
        Ok(()) => {
            let telemetry = &running.bus.telemetry;
            telemetry.ended(&running.context.group, &topic, End::Accepted);
        }
        Err(error) => {
            tracing::warn!(%topic, %error, "outputs were not committed; the message is delivered again");
        }
    }
}

/// The message in hand has no handler.
fn unknown(running: &Running, works: &mut Vec<Work>) -> Step {
    match running.route.settings.unknown {
        Unknown::Skip => accept(running, works, End::Skipped),
        Unknown::DeadLetter => {
            let work = works.last();
            let kind = work.and_then(|work| work.delivery.message.headers.get(header::CE_TYPE));
            let text = match kind.map(|kind| String::from_utf8_lossy(kind)) {
                Some(kind) => format!("no handler of the group takes messages of type {kind}"),
                None => "the message has no type (ce_type), and no handler takes every message"
                    .to_owned(),
            };
            reject(running, works, &Failed::for_ever(Reason::UnknownType, text));
        }
    }
    Step::Ended
}

/// What follows a failed attempt at the one message in hand.
fn after_failure(running: &Running, works: &mut Vec<Work>, failed: &Failed) -> Step {
    let Some(work) = works.last_mut() else {
        return Step::Ended;
    };
    let backoff = match &failed.disposition {
        Disposition::Skip => {
            accept(running, works, End::Skipped);
            return Step::Ended;
        }
        Disposition::DeadLetter | Disposition::Declared(_) => {
            reject(running, works, failed);
            return Step::Ended;
        }
        Disposition::Postpone(delay) => return Step::Hold(*delay),
        Disposition::Conflict if work.conflicts < CONFLICTS_MAX => {
            work.conflicts += 1;
            let pause = CONFLICT_PAUSE.mul_f64(running.bus.chance());
            let longest = Duration::from_millis(u64::from(work.conflicts));
            return Step::Hold(pause.min(longest));
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
            reject(running, works, failed);
            Step::Ended
        }
        Next::Now => {
            work.failed += 1;
            work.conflicts = 0;
            Step::Again
        }
        Next::Wait(delay) if retry.meanwhile == Meanwhile::LetPass => {
            work.delivery.attempt = number;
            if let Some(first) = work.first_failed_at {
                let headers = &mut work.delivery.message.headers;
                headers.set(header::FIRST_FAILED_AT, first.to_rfc3339());
            }
            for work in works.drain(..) {
                end(running, &work, End::Retried);
                work.delivery.retry(delay);
            }
            Step::Ended
        }
        Next::Wait(delay) => {
            work.failed += 1;
            work.conflicts = 0;
            Step::Hold(delay)
        }
    }
}

/// They are done.
fn accept(running: &Running, works: &mut Vec<Work>, how: End) {
    for work in works.drain(..) {
        end(running, &work, how);
        work.delivery.accept();
    }
}

/// The one message in hand is set aside.
fn reject(running: &Running, works: &mut Vec<Work>, failed: &Failed) {
    let Some(work) = works.pop() else {
        return;
    };
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
        error: failed.error.clone(),
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
