//! Commands as ordinary Kafka clients: connecting, asking, and saying clearly when nobody answers.
//!
//! Nothing here knows Wharf's internals: every command works against any Kafka broker.

use std::time::Duration;

use clap::Args;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode;
use wharf_message::{Code, TopicName};
use wharf_server::Problem;

use crate::cli::Usage;

/// How long a broker may take to answer a question.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Which broker a command talks to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The broker's address [env: WHARF_BROKER]
    #[arg(
        short = 'b',
        long,
        env = "WHARF_BROKER",
        hide_env = true,
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    pub(crate) broker: String,
    /// A setting of librdkafka, may be repeated
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = pair)]
    client_settings: Vec<(String, String)>,
}

/// Reads `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

impl Connection {
    /// The client's configuration.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config_over(&[])
    }

    /// The client's configuration, with a command's own defaults below what `-X` says.
    pub(crate) fn config_over(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.broker);
        config.set("client.id", "wharf-cli");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.client_settings {
            config.set(name, value);
        }
        config
    }

    /// What `-X` says of a setting, under one of its names.
    pub(crate) fn setting(&self, names: &[&str]) -> Option<&str> {
        let mut settings = self.client_settings.iter().rev();
        settings
            .find(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, value)| value.as_str())
    }

    /// A client of the given kind. A bad `-X` setting is an error of usage.
    pub(crate) fn create<T: FromClientConfig>(&self, config: &ClientConfig) -> anyhow::Result<T> {
        config.create().map_err(not_created)
    }

    /// A client for administration.
    pub(crate) fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        self.create(&self.config())
    }

    /// A consumer that asks on behalf of `group` and never joins it.
    pub(crate) fn observer(&self, group: &str) -> anyhow::Result<BaseConsumer> {
        let mut config = self.config();
        config.set("group.id", group);
        config.set("enable.auto.commit", "false");
        self.create(&config)
    }

    /// What the cluster looks like; of one topic when given. Never creates it.
    pub(crate) fn metadata(
        &self,
        consumer: &BaseConsumer,
        topic: Option<&str>,
    ) -> anyhow::Result<Metadata> {
        let metadata = consumer
            .fetch_metadata(None, PATIENCE)
            .map_err(|error| self.explain(&error))?;
        if let Some(name) = topic {
            let known = metadata.topics().iter().any(|known| known.name() == name);
            if !known {
                let names = metadata.topics().iter().map(MetadataTopic::name);
                return Err(unknown_topic(name, names).into());
            }
        }
        Ok(metadata)
    }

    /// The partitions of a topic, in order. Never creates it.
    pub(crate) fn partitions(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
    ) -> anyhow::Result<Vec<i32>> {
        let metadata = self.metadata(consumer, Some(topic))?;
        let found = metadata.topics().iter().find(|known| known.name() == topic);
        Ok(found.map(partitions).unwrap_or_default())
    }

    /// What a client's error means to the person at the command line.
    pub(crate) fn explain(&self, error: &KafkaError) -> anyhow::Error {
        let unreachable = [
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::AllBrokersDown,
            RDKafkaErrorCode::OperationTimedOut,
            RDKafkaErrorCode::Resolve,
        ];
        match error.rdkafka_error_code() {
            Some(code) if unreachable.contains(&code) => Problem::new(
                Code::BROKER_UNREACHABLE,
                format!("no broker answered at {}", self.broker),
                error.to_string(),
                "start one with `wharf serve`, or name another with --broker HOST:PORT",
            )
            .into(),
            _ => anyhow::anyhow!("{error}"),
        }
    }
}

/// What it means that a client could not be made.
pub(crate) fn not_created(error: KafkaError) -> anyhow::Error {
    match error {
        KafkaError::ClientConfig(_, what, name, value) => {
            Usage(format!("-X {name}={value} cannot be used: {what}")).into()
        }
        KafkaError::ClientCreation(what) => Usage(format!("-X cannot be used: {what}")).into(),
        other => other.into(),
    }
}

/// The partitions of a topic, in order.
pub(crate) fn partitions(topic: &MetadataTopic) -> Vec<i32> {
    let mut ids: Vec<i32> = topic
        .partitions()
        .iter()
        .map(MetadataPartition::id)
        .collect();
    ids.sort_unstable();
    ids
}

/// The problem of a topic that is not there, with the nearest name that is.
pub(crate) fn unknown_topic<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let close = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = known
        .filter(|known| close(known) > 0.8)
        .max_by(|a, b| close(a).total_cmp(&close(b)));
    let fix = match nearest {
        Some(nearest) => format!("did you mean {nearest:?}? `wharf topic list` shows all"),
        None => format!("`wharf topic list` shows all; `wharf topic create {name}` creates it"),
    };
    Problem::new(
        Code::UNKNOWN_TOPIC,
        format!("the topic {name:?} does not exist"),
        "the broker does not know it",
        fix,
    )
}

/// What a refusal of one topic means to the person at the command line.
pub(crate) fn refused(topic: &str, code: RDKafkaErrorCode) -> anyhow::Error {
    match code {
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            unknown_topic(topic, std::iter::empty()).into()
        }
        RDKafkaErrorCode::TopicAlreadyExists => Problem::new(
            Code::TOPIC_EXISTS,
            format!("the topic {topic:?} exists already"),
            "a topic of this name was created before",
            "choose another name, or add --if-not-exists",
        )
        .into(),
        RDKafkaErrorCode::InvalidConfig => Problem::new(
            Code::INVALID_TOPIC_CONFIGURATION,
            format!("the settings of {topic:?} were refused"),
            "a setting is unknown or its value is not allowed",
            "`wharf topic describe TOPIC --all` shows every setting there is",
        )
        .into(),
        RDKafkaErrorCode::InvalidTopic => Problem::plain(
            format!("{topic:?} cannot be a topic's name"),
            TopicName::new(topic)
                .err()
                .map_or_else(|| code.to_string(), |why| why.to_string()),
            "choose another name",
        )
        .into(),
        RDKafkaErrorCode::InvalidPartitions => Problem::plain(
            format!("the number of partitions of {topic:?} was refused"),
            "a topic has at least one partition, and the number can only grow",
            "`wharf topic describe TOPIC` shows how many there are",
        )
        .into(),
        other => anyhow::anyhow!("{topic}: {other}"),
    }
}

/// Options for administrative requests.
pub(crate) fn admin_options(dry_run: bool) -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
        .validate_only(dry_run)
}

/// Runs a future of the client library to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}
