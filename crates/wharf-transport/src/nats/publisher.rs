//! The task that publishes: in the order of handing over, each answered when its stream has it.
//!
//! Invariant: what a publish needs exists before it; a stream that turns out to be missing is made and
//! the message published again.

use std::collections::HashSet;
use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use wharf_message::transport::{Error, Position};
use wharf_message::{Message, Timestamp, TopicName, header};

use super::streams::ensure;
use super::{codec, names};
use crate::held::{Handed, Handover};

/// How much less than the server's limit a message may have, in bytes: room for our own headers.
const RESERVE_BYTES: usize = 256;
/// The server's name for the id by which it drops repeated messages.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// What is handed over.
#[derive(Debug)]
pub(super) enum Outgoing {
    Message(Publication),
    /// Make sure that the topic's stream exists.
    Topic(TopicName),
    /// Answer when everything before has been answered.
    Flush,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) topic: TopicName,
    pub(super) message: Message,
    /// Under which the server drops a repetition.
    pub(super) id: Option<String>,
    /// When it is due, if it is to wait.
    pub(super) due: Option<Timestamp>,
}

/// The way to the task.
#[derive(Clone, Debug)]
pub(super) struct Publisher(Arc<Handover<Outgoing, Option<Position>>>);

impl Publisher {
    /// Starts the task.
    pub(super) fn start(context: Context) -> Self {
        let (handover, receiver) = Handover::new();
        let task = Task {
            context,
            known: HashSet::new(),
            confirms: FuturesUnordered::new(),
            flushes: Vec::new(),
        };
        tokio::spawn(task.run(receiver));
        Self(Arc::new(handover))
    }

    pub(super) fn publish(
        &self,
        publication: Publication,
    ) -> BoxFuture<'static, Result<Option<Position>, Error>> {
        let bytes = publication.message.size();
        self.0.hand_over(Outgoing::Message(publication), bytes)
    }

    pub(super) fn ensure(
        &self,
        topic: TopicName,
    ) -> BoxFuture<'static, Result<Option<Position>, Error>> {
        self.0.hand_over(Outgoing::Topic(topic), 0)
    }

    pub(super) fn flush(&self) -> BoxFuture<'static, Result<Option<Position>, Error>> {
        self.0.hand_over(Outgoing::Flush, 0)
    }
}

/// The id under which the server drops a repetition of this message: its CloudEvents identity. A
/// message that is replayed on purpose has the identity of the first, so it has no such id.
pub(super) fn identity(message: &Message) -> Option<String> {
    let text = |name| message.headers.text(name).ok().flatten();
    let replayed = message
        .headers
        .iter()
        .any(|(name, _)| name.starts_with("wharf-replay-") || name.starts_with(header::DLQ_PREFIX));
    let id = text(header::CE_ID).filter(|_| !replayed)?;
    let source = text(header::CE_SOURCE).unwrap_or_default();
    let identity = format!("{source} {id}");
    let is_plain = identity.trim() == identity && !identity.contains(['\r', '\n']);
    is_plain.then_some(identity)
}

type Waiting = Handed<Outgoing, Option<Position>>;
type Confirm = BoxFuture<'static, (Waiting, Result<PublishAck, PublishError>)>;

struct Task {
    context: Context,
    /// The topics whose streams are known to exist.
    known: HashSet<TopicName>,
    confirms: FuturesUnordered<Confirm>,
    flushes: Vec<Waiting>,
}

impl Task {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Waiting>) {
        loop {
            tokio::select! {
                handed = receiver.recv() => match handed {
                    Some(handed) => self.take(handed).await,
                    None => break,
                },
                Some((handed, confirmed)) = self.confirms.next() => {
                    self.confirmed(handed, confirmed).await;
                }
            }
        }
        while let Some((handed, confirmed)) = self.confirms.next().await {
            self.confirmed(handed, confirmed).await;
        }
    }

    async fn take(&mut self, handed: Waiting) {
        match &handed.item {
            Outgoing::Flush if self.confirms.is_empty() => handed.answer(Ok(None)),
            Outgoing::Flush => self.flushes.push(handed),
            Outgoing::Topic(topic) => {
                let topic = topic.clone();
                let ensured = self.ensure(&topic).await;
                handed.answer(ensured.map(|()| None));
            }
            Outgoing::Message(publication) => match self.send(publication).await {
                Ok(confirm) => self
                    .confirms
                    .push(Box::pin(async move { (handed, confirm.await) })),
                Err(error) => handed.answer(Err(error)),
            },
        }
    }

    async fn ensure(&mut self, topic: &TopicName) -> Result<(), Error> {
        if !self.known.contains(topic) {
            ensure(&self.context, topic).await?;
            self.known.insert(topic.clone());
        }
        Ok(())
    }

    async fn send(
        &mut self,
        publication: &Publication,
    ) -> Result<jetstream::context::PublishAckFuture, Error> {
        let (mut headers, payload) = codec::encode(&publication.message);
        let limit = self.context.client().max_payload();
        check(&publication.message, &headers, &payload, limit)?;
        self.ensure(&publication.topic).await?;
        let mut subject = names::subject(&publication.topic);
        if let Some(id) = &publication.id {
            codec::append(&mut headers, MESSAGE_ID, id);
        }
        if let Some(due) = publication.due {
            codec::append(
                &mut headers,
                "Nats-Schedule",
                &format!("@at {}", due.to_rfc3339()),
            );
            codec::append(&mut headers, "Nats-Schedule-Target", &subject);
            // It stays until it is due, however short the stream keeps other messages.
            codec::append(&mut headers, "Nats-TTL", "never");
            let id = uuid::Uuid::new_v4().simple().to_string();
            subject = names::schedule(&publication.topic, &id);
        }
        let message = PublishMessage::build().payload(payload).headers(headers);
        let sent = self.context.send_publish(subject, message).await;
        sent.map_err(|error| refused(&error, &publication.message))
    }

    async fn confirmed(&mut self, handed: Waiting, confirmed: Result<PublishAck, PublishError>) {
        let Outgoing::Message(publication) = &handed.item else {
            return;
        };
        if let Err(error) = &confirmed
            && error.kind() == PublishErrorKind::StreamNotFound
            && self.known.remove(&publication.topic)
        {
            // It was deleted since it was made sure of.
            self.take(handed).await;
            return;
        }
        let is_scheduled = publication.due.is_some();
        let answer = match confirmed {
            Ok(_) if is_scheduled => Ok(None),
            Ok(ack) => Ok(Some(Position {
                partition: 0,
                offset: i64::try_from(ack.sequence).unwrap_or(i64::MAX),
            })),
            Err(error) => Err(refused(&error, &publication.message)),
        };
        handed.answer(answer);
        if self.confirms.is_empty() {
            for flush in self.flushes.drain(..) {
                flush.answer(Ok(None));
            }
        }
    }
}

/// # Errors
/// [`Error::TooLarge`].
fn check(
    message: &Message,
    headers: &HeaderMap,
    payload: &Bytes,
    limit: usize,
) -> Result<(), Error> {
    let bytes_max = limit.saturating_sub(RESERVE_BYTES);
    let bytes = message.size();
    if bytes > bytes_max {
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    let bytes = codec::wire_bytes(headers, payload);
    let bytes_max = limit.saturating_sub(RESERVE_BYTES / 2);
    if bytes > bytes_max {
        // Many headers, or encoded ones.
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

fn refused(error: &PublishError, message: &Message) -> Error {
    use std::error::Error as _;
    let told = error.source().and_then(|source| {
        source
            .downcast_ref::<jetstream::Error>()
            .map(|told| (told.code(), told.to_string()))
    });
    match (error.kind(), told) {
        (PublishErrorKind::MaxPayloadExceeded, _) => Error::TooLarge {
            bytes: message.size(),
            bytes_max: 0,
        },
        (PublishErrorKind::StreamNotFound, _) => {
            Error::Unavailable("the stream is gone and could not be made again".to_owned())
        }
        (_, Some((code, text))) if code < 500 => Error::Refused(text),
        (_, Some((_, text))) => Error::Unavailable(text),
        (_, None) => Error::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_source_and_id_unless_it_is_replayed() {
        let message = Message::new("p")
            .with_header(header::CE_ID, "7")
            .with_header(header::CE_SOURCE, "shop");
        assert_eq!(identity(&message).as_deref(), Some("shop 7"));
        for replayed in ["wharf-replay-plan", header::DLQ_REASON] {
            assert_eq!(identity(&message.clone().with_header(replayed, "x")), None);
        }
        assert_eq!(identity(&Message::new("p")), None);
        let broken = Message::new("p").with_header(header::CE_ID, "a\r\nb");
        assert_eq!(identity(&broken), None);
    }
}
