//! Starting sagas: over the orchestrator's own interface, or as a record that is kept together with
//! whatever made it necessary.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use wharf_message::dead_letter::Reason;
use wharf_message::{Message, header};

use crate::failure::Failed;
use crate::outcome::{Effects, IntoEffects, Outgoing, Target, When, topic_of};

/// The topic whose records start sagas.
const STARTS: &str = "_wharf.saga-starts";
/// The CloudEvents `type` of such a record.
const KIND: &str = "wharf.saga.start";

/// A saga to be started: one type and one key are one saga, however often it is asked for.
///
/// [`Sagas::start`](super::Sagas::start) starts it now. Returned by a handler, it is a record that is
/// published with the handler's other outputs: with `atomic_outputs()` in the same journal frame as the
/// offset of the message that was handled. Given to [`outbox::emit`](crate::outbox::emit), it is a row of
/// the caller's own transaction. Without a [`key`](Self::key), a record has its own id for one: what a
/// handler returns keeps that however often its message is handled.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use wharf::saga::Start;
/// use wharf::{Event, Msg};
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
/// struct OrderPlaced { order: String, cents: u64 }
///
/// async fn check_out(Msg(placed): Msg<OrderPlaced>) -> Start {
///     Start::of("checkout", &placed).key(&placed.order).attribute("channel", "web")
/// }
/// # let _: wharf::Route = wharf::group("checkout").on(check_out).atomic_outputs();
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Start {
    pub(super) saga_type: String,
    pub(super) version: Option<String>,
    pub(super) key: Option<String>,
    pub(super) input: Result<Value, String>,
    pub(super) correlation: Option<String>,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Start {
    /// Of this type, with this input.
    pub fn of(saga_type: &str, input: &(impl Serialize + ?Sized)) -> Self {
        Self {
            saga_type: saga_type.to_owned(),
            version: None,
            key: None,
            input: serde_json::to_value(input).map_err(|error| error.to_string()),
            correlation: None,
            attributes: BTreeMap::new(),
        }
    }

    /// The idempotency key: what makes it the same saga when it is started again.
    pub fn key(self, key: impl Into<String>) -> Self {
        let key = Some(key.into());
        Self { key, ..self }
    }

    /// A version or an alias of the definition; the current version unless set.
    pub fn version(self, version: impl Into<String>) -> Self {
        let version = Some(version.into());
        Self { version, ..self }
    }

    /// The business case. A record that a handler returns has that of its message, unless set.
    pub fn correlation(self, correlation: impl Into<String>) -> Self {
        let correlation = Some(correlation.into());
        Self {
            correlation,
            ..self
        }
    }

    /// Something that people search by.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    fn into_message(self) -> Result<Message, Failed> {
        let input = self.input.map_err(|error| {
            let text = format!("the input of {} cannot be written: {error}", self.saga_type);
            Failed::for_ever(Reason::Rejected, text)
        })?;
        let mut message = Message::new(input.to_string());
        let headers = &mut message.headers;
        headers.push(header::CE_SPECVERSION, header::CE_SPECVERSION_VALUE);
        headers.push(header::CE_TYPE, KIND);
        headers.push(header::CONTENT_TYPE, "application/json");
        headers.push(header::SAGA_TYPE, self.saga_type);
        if let Some(version) = self.version {
            headers.push(header::SAGA_VERSION, version);
        }
        if let Some(correlation) = self.correlation {
            headers.push(CORRELATION, correlation);
        }
        for (name, value) in self.attributes {
            let name = format!("{}{name}", header::SAGA_ATTRIBUTE_PREFIX);
            headers.push(name, value);
        }
        if let Some(key) = self.key {
            headers.push(header::IDEMPOTENCY_KEY, key.clone());
            message.key = Some(key.into());
        }
        Ok(message)
    }
}

/// A correlation of the saga's own; `ce_correlationid` says that of the message it came from.
const CORRELATION: &str = "correlation-id";

impl IntoEffects for Start {
    fn add_to(self, effects: &mut Effects) -> Result<(), Failed> {
        effects.push(Outgoing {
            to: Target::Topic(topic_of(STARTS)?),
            when: When::Now,
            expires_after: None,
            message: self.into_message()?,
        });
        Ok(())
    }
}
