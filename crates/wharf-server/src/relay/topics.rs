//! The topics of this node's broker that relays write to: created when missing, as every topic that
//! a publisher names.

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use wharf_broker::records::Record;
use wharf_broker::{Broker, Context, ErrorKind, TopicRef};
use wharf_message::transport::{Error, Publish as _};
use wharf_message::{Code, Message, TopicName};
use wharf_relay::{TopicForm, Topics, Trouble};
use wharf_transport::embedded::EmbeddedTransport;

/// The topics of a broker.
pub(super) struct BrokerTopics {
    pub(super) broker: Broker,
    /// Who writes, for what is counted.
    pub(super) cx: Context,
    /// Creates topics as publishing does, and sends scheduled messages when they are due.
    pub(super) transport: EmbeddedTransport,
    /// How many partitions a new topic gets.
    pub(super) partitions: u32,
}

impl BrokerTopics {
    fn form(&self, name: TopicName) -> Result<TopicForm, Trouble> {
        let found = self.broker.topic(&TopicRef::Name(name.as_str().to_owned()));
        let topic = found.map_err(|error| {
            let what = format!("the topic {name} cannot be used: {}", error.message);
            Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, what)
        })?;
        Ok(TopicForm {
            name,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
            message_bytes_max: EmbeddedTransport::message_bytes_max(&topic),
        })
    }
}

impl Topics for BrokerTopics {
    fn ensure<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, Result<TopicForm, Trouble>> {
        async move {
            if let Ok(form) = self.form(topic.clone()) {
                return Ok(form);
            }
            let created = self.transport.create_topic(topic, self.partitions).await;
            created.map_err(|error| refused(topic, &error))?;
            self.form(topic.clone())
        }
        .boxed()
    }

    fn ensure_scheduled<'a>(
        &'a self,
        topic: &'a TopicName,
    ) -> BoxFuture<'a, Result<TopicForm, Trouble>> {
        async move {
            self.ensure(topic).await?;
            let scheduled = self.transport.keep_scheduled(topic).await;
            self.form(scheduled.map_err(|error| refused(topic, &error))?)
        }
        .boxed()
    }

    fn refusal(&self, topic: &TopicName, message: &Message) -> Option<String> {
        let topic = self
            .broker
            .topic(&TopicRef::Name(topic.as_str().to_owned()));
        let topic = topic.ok().filter(|topic| topic.config.schemas.is_some())?;
        let headers = message.headers.iter();
        let record = Record {
            key: message.key.clone(),
            value: message.payload.clone(),
            headers: headers
                .map(|(name, value)| {
                    let value = value.map(Bytes::copy_from_slice);
                    (Bytes::copy_from_slice(name.as_bytes()), value)
                })
                .collect(),
            ..Record::default()
        };
        let checked = self.broker.check_schemas(&self.cx, &topic, &[record]);
        let refusal = checked.err()?;
        (refusal.kind == ErrorKind::InvalidRecord).then_some(refusal.message)
    }
}

fn refused(topic: &TopicName, error: &Error) -> Trouble {
    let what = format!("the topic {topic} cannot be created: {error}");
    match error.is_transient() {
        true => Trouble::unavailable(Code::OUTBOX_TARGET_UNAVAILABLE, what),
        false => {
            let fix = format!("create the topic {topic}, or change `topic` of the relay");
            Trouble::refused(Code::OUTBOX_TARGET_UNAVAILABLE, what, fix)
        }
    }
}
