//! What is asked of the cluster beside records: which topics there are, and that some be made.
//!
//! The client library answers these by blocking: nothing here is called on an async thread.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use tokio::runtime::Handle;
use wharf_message::TopicName;
use wharf_message::transport::Error;

use super::outbox::lock;
use super::{Options, error, log};

/// How long the cluster may take to answer a question.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What our bookkeeping may add to a message beyond what a publisher may send.
pub(super) const BOOKKEEPING_BYTES_MAX: usize = 64 << 10;

/// What a topic that is made is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Messages; with this many partitions, or the cluster's default.
    Messages(Option<i32>),
    /// Retries or scheduled messages: kept until they are forwarded, however long that takes.
    Detour,
}

pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }
}

/// A client for questions. See the module.
pub(super) struct Admin {
    client: AdminClient<Quiet>,
    runtime: Handle,
    /// Topics that were seen: they are not asked for again.
    seen: Mutex<BTreeSet<TopicName>>,
    bytes_max: usize,
}

impl Admin {
    /// Makes the client.
    pub(super) fn open(options: &Options, runtime: Handle) -> Result<Self, Error> {
        let client = options.client(&[]).create_with_context(Quiet);
        Ok(Self {
            client: client.map_err(|error| error::general(&error))?,
            runtime,
            seen: Mutex::new(BTreeSet::new()),
            bytes_max: options.message_bytes_max(),
        })
    }

    /// How many partitions a topic has; `None` when it does not exist.
    pub(super) fn partitions(&self, topic: &TopicName) -> Result<Option<i32>, Error> {
        let client = self.client.inner();
        let metadata = client.fetch_metadata(Some(topic.as_str()), PATIENCE);
        let metadata = metadata.map_err(|error| error::general(&error))?;
        let Some(found) = metadata.topics().first() else {
            return Ok(None);
        };
        match found.error() {
            None => {
                let led = found
                    .partitions()
                    .iter()
                    .all(|partition| partition.leader() >= 0);
                let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
                Ok((led && count > 0).then_some(count))
            }
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => Err(
                Error::Denied(format!("the topic {topic} may not be described")),
            ),
            Some(_) => Ok(None),
        }
    }

    /// Whether a topic was seen to exist.
    pub(super) fn knows(&self, topic: &TopicName) -> bool {
        lock(&self.seen).contains(topic)
    }

    /// One past the last record of a partition.
    pub(super) fn end(&self, topic: &TopicName, partition: i32) -> Result<i64, Error> {
        let client = self.client.inner();
        let ends = client.fetch_watermarks(topic.as_str(), partition, PATIENCE);
        ends.map(|(_, end)| end)
            .map_err(|error| error::general(&error))
    }

    /// Makes sure that a topic exists and can be written to; one that exists is left as it is.
    pub(super) fn ensure(&self, topic: &TopicName, form: Form) -> Result<(), Error> {
        if lock(&self.seen).contains(topic) {
            return Ok(());
        }
        let bytes_max = (self.bytes_max + BOOKKEEPING_BYTES_MAX).to_string();
        let (partitions, detour) = match form {
            Form::Messages(partitions) => (partitions.unwrap_or(-1), false),
            Form::Detour => (-1, true),
        };
        let new = NewTopic::new(topic.as_str(), partitions, TopicReplication::Fixed(-1));
        let mut new = new.set("max.message.bytes", &bytes_max);
        if detour {
            new = new
                .set("retention.ms", "-1")
                .set("cleanup.policy", "delete");
        }
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        let created = self
            .runtime
            .block_on(self.client.create_topics([&new], &options));
        let created = created.map_err(|error| error::general(&error))?;
        let refused = match created.into_iter().next() {
            None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => None,
            Some(Err((_, code))) => Some(code),
        };
        self.wait_for(topic, refused)?;
        lock(&self.seen).insert(topic.clone());
        Ok(())
    }

    /// A topic that was made a moment ago is not known everywhere at once; one that may not be made
    /// may be there already.
    fn wait_for(&self, topic: &TopicName, refused: Option<Code>) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.partitions(topic)?.is_some() {
                return Ok(());
            }
            if let Some(code) = refused {
                let error = error::of_publish(&KafkaError::AdminOp(code), topic, 0, 0);
                return Err(match error {
                    Error::Denied(_) => Error::Denied(format!(
                        "the topic {topic} does not exist and may not be created: {code}"
                    )),
                    Error::Refused(_) => {
                        Error::Refused(format!("the topic {topic} cannot be created: {code}"))
                    }
                    other => other,
                });
            }
            if Instant::now() > deadline {
                let why = format!("the new topic {topic} had no leader within {PATIENCE:?}");
                return Err(Error::Unavailable(why));
            }
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// The largest message that a topic takes, if it says so.
    pub(super) async fn bytes_max_of(&self, topic: &TopicName) -> Option<usize> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let resource = ResourceSpecifier::Topic(topic.as_str());
        let described = self.client.describe_configs([&resource], &options).await;
        let config = described.ok()?.into_iter().next()?.ok()?;
        config
            .get("max.message.bytes")?
            .value
            .as_ref()?
            .parse()
            .ok()
    }
}
