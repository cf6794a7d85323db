//! What is published for a delivery before it is settled: its next attempt, its dead letter, or the
//! message itself when its time has come.
//!
//! What must never happen here: a delivery settled although what it promised is not acknowledged.
//! An errand that fails is tried again with backoff until it succeeds or its partition is gone; only a
//! scheduled message that its topic will never take becomes a dead letter instead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;
use wharf_message::dead_letter::{self, Failure, Reason};
use wharf_message::transport::Error;
use wharf_message::{GroupName, Message, TopicName};

use super::admin::Form;
use super::outbox::{Outcome, Parcel, Then};
use super::state::{Detail, Errand, Pending, Shared};
use super::{backoff, now};
use crate::log::detour;

/// The longest pause between two tries of an errand.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Where an errand publishes what.
struct Outgoing {
    topic: TopicName,
    form: Form,
    message: Message,
    raw: Option<OwnedHeaders>,
}

impl Shared {
    /// Runs what is to be run now; answers when the next one is.
    pub(super) fn run_errands(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let (mut due, next) = {
            let mut state = self.current();
            let mut due: Vec<Pending> = state.pending.drain(..).collect();
            let (ripe, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.later)
                .into_iter()
                .partition(|(at, _)| *at <= now);
            due.extend(ripe.into_iter().map(|(_, pending)| pending));
            state.later = rest;
            state.away += due.len();
            (due, state.later.iter().map(|(at, _)| *at).min())
        };
        for pending in due.drain(..) {
            self.run(pending);
        }
        next
    }

    fn run(self: &Arc<Self>, pending: Pending) {
        let detail = self.current().detail(pending.token);
        let Some(detail) = detail else {
            // The partition went to another member, which delivers it again.
            self.current().away -= 1;
            return;
        };
        let Some(group) = &self.group else {
            return self.give_up(&pending, &detail);
        };
        let outgoing = match outgoing(&pending.errand, detail, group) {
            Ok(outgoing) => outgoing,
            Err(error) => return self.done(pending, Err(error)),
        };
        if let Err(error) = self.prepare(&outgoing) {
            return self.done(pending, Err(error));
        }
        let me = Arc::clone(self);
        let Outgoing {
            topic,
            message,
            raw,
            ..
        } = outgoing;
        self.wiring.outbox.send(Parcel {
            topic,
            message,
            raw,
            then: Then::Call(Box::new(move |outcome| me.done(pending, outcome))),
        });
    }

    /// Makes the topic if it is missing. A detour has as many partitions as the way it leads around.
    fn prepare(&self, outgoing: &Outgoing) -> Result<(), Error> {
        self.wiring.admin.ensure(&outgoing.topic, outgoing.form)
    }

    fn done(&self, mut pending: Pending, outcome: Outcome) {
        let mut state = self.current();
        state.away -= 1;
        match outcome {
            Ok(_) => state.settle(pending.token),
            Err(error) if pending.refused_for_good(&error) => {
                state.later.push((Instant::now(), pending));
            }
            Err(error) => {
                pending.failures += 1;
                let pause = backoff(pending.failures, BACKOFF_MAX);
                tracing::warn!(
                    %error,
                    what = pending.errand.name(),
                    group = self.group.as_ref().map(tracing::field::display),
                    "what a delivery needs before it is settled could not be published; it stays unsettled and this is tried again in {pause:?}: check the broker, and that this client may create and write the topic",
                );
                state.later.push((Instant::now() + pause, pending));
            }
        }
        drop(state);
        self.room_was_made(true);
    }

    /// Without a group there is no topic to set it aside in, and nobody who would miss it.
    fn give_up(&self, pending: &Pending, detail: &Detail) {
        tracing::warn!(
            topic = %detail.topic,
            position = detail.position.map(tracing::field::display),
            "a message was rejected by a subscription for everyone, which has no dead letters; it is dropped here",
        );
        let mut state = self.current();
        state.away -= 1;
        state.settle(pending.token);
        drop(state);
        self.room_was_made(true);
    }
}

impl Pending {
    /// Whether it was a scheduled message that its topic will never take; it is a dead letter from then
    /// on, so that those behind it go on.
    fn refused_for_good(&mut self, error: &Error) -> bool {
        let Errand::Forward { message, to } = &mut self.errand else {
            return false;
        };
        if !detour::is_final(error) {
            return false;
        }
        tracing::warn!(topic = %to, %error, "a scheduled message is refused by its topic; it is set aside as a dead letter");
        self.errand = Errand::Reject {
            message: std::mem::take(message),
            failure: Box::new(detour::refused(error, now())),
        };
        true
    }
}

impl Errand {
    fn name(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Reject { .. } | Self::SetAside { .. } => "dead letter",
            Self::Forward { .. } => "scheduled message",
        }
    }
}

fn outgoing(errand: &Errand, detail: Detail, group: &GroupName) -> Result<Outgoing, Error> {
    let invalid = |error: wharf_message::InvalidName| Error::Refused(error.to_string());
    match errand {
        Errand::Retry { message, after } => {
            let topic = detour::retry_topic(&detail.topic, group).map_err(invalid)?;
            let failed = detour::Failed {
                message: message.clone(),
                topic: detail.topic,
                position: detail.position,
                attempt: detail.attempt,
            };
            Ok(Outgoing {
                topic,
                form: Form::Detour,
                message: detour::retry(failed, *after, now()),
                raw: None,
            })
        }
        Errand::Reject { message, failure } => {
            set_aside(message.clone(), None, &detail, group, failure)
        }
        Errand::SetAside { message, raw } => {
            let failure = Failure {
                reason: Reason::Undecodable,
                error: "the name of a header is not UTF-8".to_owned(),
                attempts: detail.attempt,
                first_failed_at: None,
                failed_at: now(),
                handler: "kafka transport".to_owned(),
            };
            set_aside(message.clone(), Some(raw.clone()), &detail, group, &failure)
        }
        Errand::Forward { message, to } => Ok(Outgoing {
            topic: to.clone(),
            form: Form::Messages(None),
            // It is published now: by its old time, retention might delete it at once.
            message: Message {
                timestamp: None,
                ..message.clone()
            },
            raw: None,
        }),
    }
}

fn set_aside(
    message: Message,
    raw: Option<OwnedHeaders>,
    detail: &Detail,
    group: &GroupName,
    failure: &Failure,
) -> Result<Outgoing, Error> {
    let topic = dead_letter::topic(&detail.topic, group);
    let topic = topic.map_err(|error| Error::Refused(error.to_string()))?;
    let letter = dead_letter::dead_letter(message, &detail.topic, detail.position, group, failure);
    Ok(Outgoing {
        topic,
        form: Form::Messages(None),
        message: Message {
            timestamp: None,
            ..letter
        },
        raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_an_unreadable_name_is_set_aside_with_what_is_known_of_it() {
        let detail = Detail {
            topic: TopicName::new("orders").expect("valid"),
            position: None,
            attempt: 1,
        };
        let raw = OwnedHeaders::new();
        let message = Message::default();
        let group = GroupName::new("billing").expect("valid");
        let errand = Errand::SetAside { message, raw };
        let outgoing = outgoing(&errand, detail, &group).expect("valid names");
        assert_eq!(outgoing.topic.as_str(), "dlq.orders.billing");
        let headers = outgoing.message.headers;
        let reason = headers.text(wharf_message::header::DLQ_REASON);
        assert_eq!(reason, Ok(Some("undecodable")));
        assert!(outgoing.raw.is_some());
    }
}
