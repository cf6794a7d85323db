//! The envelope: CloudEvents 1.0 attributes as headers, written and read in one place.
//!
//! A handler never sets an id or a correlation by hand: what it publishes gets the correlation of the
//! message it handled, that message's id as its cause, and an id derived from both, so that handling
//! the same message again publishes the same ids.

use bytes::Bytes;
use uuid::Uuid;
use wharf_message::transport::Position;
use wharf_message::{Headers, Message, NotText, Timestamp, TopicName, header};

use crate::Event;

/// The media type of payloads that the library writes.
pub(crate) const JSON: &str = "application/json";

/// What is known about a message beside its payload.
///
/// Every attribute is optional: a message of any Kafka client is a message too.
///
/// ```
/// use wharf::{Message, Meta, Msg, header};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, wharf::Event)]
/// # #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// # struct OrderPlaced { order: String }
///
/// async fn log(meta: Meta, Msg(placed): Msg<OrderPlaced>) {
///     println!("{:?} placed {} at {:?}", meta.source, placed.order, meta.time);
/// }
/// # wharf::group::<()>("g").on(log);
///
/// let message = Message::new("x").with_header(header::CE_ID, "m-1").with_header(header::CE_SOURCE, "shop");
/// let meta = Meta::read(&message.headers)?;
/// assert_eq!((meta.id.as_deref(), meta.source.as_deref(), meta.kind), (Some("m-1"), Some("shop"), None));
/// let broken = Message::new("x").with_header(header::CE_ID, vec![0xff]);
/// assert_eq!(Meta::read(&broken.headers).unwrap_err().name, header::CE_ID);
/// # Ok::<(), wharf_message::NotText>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// CloudEvents `id`.
    pub id: Option<String>,
    /// CloudEvents `source`: the service that published it.
    pub source: Option<String>,
    /// CloudEvents `type`.
    pub kind: Option<String>,
    /// CloudEvents `time`.
    pub time: Option<Timestamp>,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// CloudEvents `dataschema`.
    pub schema: Option<String>,
    /// The media type of the payload.
    pub content_type: Option<String>,
    /// What belongs to one business transaction shares it.
    pub correlation: Option<String>,
    /// The id of the message that caused this one.
    pub causation: Option<String>,
    /// When it stops being of interest.
    pub expires_at: Option<Timestamp>,
    /// When the requester stops waiting.
    pub deadline: Option<Timestamp>,
    /// Where replies go.
    pub reply_to: Option<String>,
}

impl Meta {
    /// Reads the attributes.
    ///
    /// # Errors
    /// [`NotText`] when one is not UTF-8. A time that cannot be read counts as absent.
    pub fn read(headers: &Headers) -> Result<Self, NotText> {
        let text = |name| headers.text(name).map(|text| text.map(str::to_owned));
        let time = |name| {
            headers
                .text(name)
                .map(|text| text.and_then(Timestamp::parse_rfc3339))
        };
        Ok(Self {
            id: text(header::CE_ID)?,
            source: text(header::CE_SOURCE)?,
            kind: text(header::CE_TYPE)?,
            time: time(header::CE_TIME)?,
            subject: text(header::CE_SUBJECT)?,
            schema: text(header::CE_DATASCHEMA)?,
            content_type: text(header::CONTENT_TYPE)?,
            correlation: text(header::CE_CORRELATIONID)?,
            causation: text(header::CE_CAUSATIONID)?,
            expires_at: time(header::EXPIRES_AT)?,
            deadline: time(header::DEADLINE)?,
            reply_to: text(header::REPLY_TO)?,
        })
    }
}

/// Whether a header belongs to the envelope, and so is not the user's to set.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("ce_") || name.starts_with("wharf-") || name == header::TRACEPARENT
}

/// An event as a message: payload, key, type, subject; no ids yet.
pub(crate) fn message_of<T: Event>(event: &T) -> Result<Message, serde_json::Error> {
    let mut headers = Headers::with_capacity(12);
    headers.push(
        header::CE_SPECVERSION,
        Bytes::from_static(header::CE_SPECVERSION_VALUE.as_bytes()),
    );
    headers.push(header::CE_TYPE, Bytes::from_static(T::TYPE.as_bytes()));
    headers.push(header::CONTENT_TYPE, Bytes::from_static(JSON.as_bytes()));
    #[cfg(feature = "schema")]
    if let Some(contract) = T::contract() {
        let contract = contract.map_err(serde::ser::Error::custom)?;
        headers.push(crate::schema::MARK, contract.mark());
    }
    if let Some(subject) = event.subject() {
        headers.push(header::CE_SUBJECT, subject.into_owned());
    }
    if let Some(id) = event.id() {
        headers.push(header::CE_ID, id);
    }
    Ok(Message {
        key: event.key().map(|key| Bytes::from(key.into_owned())),
        payload: Some(Bytes::from(serde_json::to_vec(event)?)),
        headers,
        timestamp: None,
    })
}

/// What a message that is published owes to the one it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The id of the message that is handled; made of its position where it has none.
    pub(crate) id: String,
    /// Its correlation, or its own id where it began the conversation.
    pub(crate) correlation: String,
    /// Names the handled message among all, for deriving ids.
    name: String,
}

impl Cause {
    /// Of a message that is handled by `group`.
    pub(crate) fn of(
        headers: &Headers,
        topic: &TopicName,
        position: Option<Position>,
        group: &str,
    ) -> Self {
        let text = |name| headers.text(name).ok().flatten();
        let own = text(header::CE_ID).map_or_else(
            || match position {
                Some(Position { partition, offset }) => format!("{topic}/{partition}/{offset}"),
                None => Uuid::now_v7().to_string(),
            },
            str::to_owned,
        );
        let correlation = text(header::CE_CORRELATIONID).map_or_else(|| own.clone(), str::to_owned);
        let source = text(header::CE_SOURCE).unwrap_or_default();
        let name = format!("{group}\n{source}\n{own}");
        Self {
            id: own,
            correlation,
            name,
        }
    }

    /// The same, for what is written to an outbox, so that its ids are not those of what is returned.
    #[cfg(feature = "sql")]
    pub(crate) fn in_outbox(self) -> Self {
        Self {
            name: format!("{}\noutbox", self.name),
            ..self
        }
    }

    /// The id of the `nth` message that comes of it: the same however often it is handled.
    fn derived_id(&self, nth: usize) -> String {
        let name = format!("{}\n{nth}", self.name);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    }
}

/// Adds what every published message carries: id, source, time, correlation and cause. What begins a
/// conversation names it by its own id, so that the first message is found with all the others.
pub(crate) fn complete(
    message: &mut Message,
    source: &str,
    now: Timestamp,
    cause: Option<(&Cause, usize)>,
) {
    let headers = &mut message.headers;
    if !headers.contains(header::CE_ID) {
        let id = match cause {
            Some((cause, nth)) => cause.derived_id(nth),
            None => Uuid::now_v7().to_string(),
        };
        headers.push(header::CE_ID, id);
    }
    if cause.is_none()
        && !headers.contains(header::CE_CORRELATIONID)
        && let Some(id) = headers.get(header::CE_ID).cloned()
    {
        headers.push(header::CE_CORRELATIONID, id);
    }
    headers.push(header::CE_SOURCE, source.to_owned());
    headers.push(header::CE_TIME, now.to_rfc3339());
    if let Some((cause, _)) = cause {
        headers.push(header::CE_CORRELATIONID, cause.correlation.clone());
        headers.push(header::CE_CAUSATIONID, cause.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicName {
        TopicName::new("orders").expect("valid")
    }

    #[test]
    fn what_comes_of_a_message_has_the_same_ids_whenever_it_is_handled() {
        let handled = Message::new("x")
            .with_header(header::CE_ID, "m-1")
            .with_header(header::CE_SOURCE, "shop");
        let publish = |time: i64, nth| {
            let cause = Cause::of(&handled.headers, &topic(), None, "billing");
            let mut message = Message::new("y");
            complete(
                &mut message,
                "billing",
                Timestamp::from_millis(time),
                Some((&cause, nth)),
            );
            Meta::read(&message.headers).expect("text")
        };
        let (first, again, other) = (publish(0, 0), publish(99, 0), publish(0, 1));
        assert_eq!(first.id, again.id);
        assert_ne!(first.id, other.id);
        assert_eq!(first.correlation.as_deref(), Some("m-1"));
        assert_eq!(first.causation.as_deref(), Some("m-1"));
    }

    #[test]
    fn what_begins_a_conversation_is_found_with_all_that_comes_of_it() {
        let mut first = Message::new("x").with_header(header::CE_ID, "o-1");
        complete(&mut first, "shop", Timestamp::ZERO, None);
        let cause = Cause::of(&first.headers, &topic(), None, "billing");
        let mut second = Message::new("y");
        complete(&mut second, "billing", Timestamp::ZERO, Some((&cause, 0)));
        let correlation = |message: &Message| Meta::read(&message.headers).unwrap().correlation;
        assert_eq!(correlation(&first).as_deref(), Some("o-1"));
        assert_eq!(correlation(&second), correlation(&first));
        // Whoever sets one keeps it.
        let mut own = Message::new("z").with_header(header::CE_CORRELATIONID, "c");
        complete(&mut own, "shop", Timestamp::ZERO, None);
        assert_eq!(correlation(&own).as_deref(), Some("c"));
    }

    #[test]
    fn a_conversation_keeps_its_correlation_and_a_plain_record_is_named_by_its_place() {
        let mut message = Message::new("y")
            .with_header(header::CE_CORRELATIONID, "c")
            .with_header(header::CE_ID, "2");
        let cause = Cause::of(&message.headers, &topic(), None, "g");
        assert_eq!((&*cause.correlation, &*cause.id), ("c", "2"));
        message.headers = Headers::default();
        let position = Some(Position {
            partition: 3,
            offset: 7,
        });
        assert_eq!(
            Cause::of(&message.headers, &topic(), position, "g").id,
            "orders/3/7"
        );
    }
}
