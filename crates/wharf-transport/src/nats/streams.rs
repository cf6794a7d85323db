//! The streams of topics and the consumers of groups, made when they are missing and never changed.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, ConsumerError, ConsumerErrorKind, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{self, Context};
use wharf_message::transport::{Error, Start};
use wharf_message::{GroupName, TopicName};

use super::names;

/// A listener's consumer goes by itself so long after it was last asked.
const LISTENER_KEPT: Duration = Duration::from_secs(5 * 60);

/// Whether the server can deliver messages at a later time.
pub(super) fn has_schedules(context: &Context) -> bool {
    context.client().is_server_compatible(2, 12, 0)
}

/// The stream of a topic, made if there is none. One that exists is left as it is.
pub(super) async fn ensure(context: &Context, topic: &TopicName) -> Result<Stream, Error> {
    let schedules = has_schedules(context);
    let mut subjects = vec![names::subject(topic)];
    if schedules {
        subjects.push(names::schedule(topic, ">"));
    }
    let config = Config {
        name: names::stream(topic),
        subjects,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        allow_message_schedules: schedules,
        allow_message_ttl: schedules,
        ..Config::default()
    };
    let stream = context.get_or_create_stream(config).await;
    stream.map_err(|error| stream_refused(&error))
}

/// The consumer of a group, made if there is none.
pub(super) async fn of_group(
    stream: &Stream,
    topic: &TopicName,
    group: &GroupName,
    start: Start,
    ack_wait: Duration,
) -> Result<Consumer<pull::Config>, Error> {
    let name = names::consumer(group);
    let deliver_policy = match start {
        Start::Earliest => DeliverPolicy::All,
        Start::Latest => DeliverPolicy::New,
    };
    let config = pull::Config {
        durable_name: Some(name.clone()),
        deliver_policy,
        ..common(topic, ack_wait)
    };
    let consumer = stream.get_or_create_consumer(&name, config).await;
    consumer.map_err(|error| consumer_refused(&error))
}

/// The consumer of one listener, from a sequence on.
pub(super) async fn of_listener(
    stream: &Stream,
    topic: &TopicName,
    name: &str,
    first: u64,
    ack_wait: Duration,
) -> Result<Consumer<pull::Config>, Error> {
    let config = pull::Config {
        name: Some(name.to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: first,
        },
        inactive_threshold: LISTENER_KEPT,
        ..common(topic, ack_wait)
    };
    let consumer = stream.get_or_create_consumer(name, config).await;
    consumer.map_err(|error| consumer_refused(&error))
}

fn common(topic: &TopicName, ack_wait: Duration) -> pull::Config {
    pull::Config {
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        filter_subject: names::subject(topic),
        max_deliver: -1,
        // The members of a group share it, so it cannot be what each of them may hold.
        max_ack_pending: -1,
        ..pull::Config::default()
    }
}

fn stream_refused(error: &CreateStreamError) -> Error {
    match error.kind() {
        CreateStreamErrorKind::JetStream(told) => told_refused(&told),
        CreateStreamErrorKind::JetStreamUnavailable => Error::Refused(
            "the server has no JetStream; enable it with the block jetstream {} of its configuration".to_owned(),
        ),
        CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::Response => {
            Error::Unavailable(error.to_string())
        }
        _ => Error::Refused(error.to_string()),
    }
}

fn consumer_refused(error: &ConsumerError) -> Error {
    match error.kind() {
        ConsumerErrorKind::JetStream(told) => told_refused(&told),
        ConsumerErrorKind::TimedOut | ConsumerErrorKind::Request | ConsumerErrorKind::Other => {
            Error::Unavailable(error.to_string())
        }
        _ => Error::Refused(error.to_string()),
    }
}

fn told_refused(told: &jetstream::Error) -> Error {
    if told.code() < 500 {
        Error::Refused(told.to_string())
    } else {
        Error::Unavailable(told.to_string())
    }
}
