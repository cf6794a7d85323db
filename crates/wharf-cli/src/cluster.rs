//! The brokers of a cluster as the requests of [`wire`](crate::wire) need them: any of them, all of
//! them, a partition's leader, who coordinates a transactional id or a group.
//!
//! Works over plain connections, with a user's password where they ask for one (SASL PLAIN), and
//! says so over others. Whom a broker names is asked next, under the address that it names.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use wharf_server::Problem;

use crate::client::{Connection, PATIENCE, unknown_topic};
use crate::wire::{Login, Wire, refused};

/// How long to wait before what may pass by itself is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What has a coordinator, as FindCoordinator numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coordinated {
    Group = 0,
    Transaction = 1,
}

/// Connections to the brokers of one cluster, made when they are needed.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The broker that answered first.
    first: String,
    wires: BTreeMap<String, Wire>,
    login: Option<Login>,
}

impl Cluster {
    /// Connects to the first of the brokers (separated by commas) that answers.
    pub(crate) fn connect(connection: &Connection) -> Result<Self> {
        Self::of(&connection.broker, login(connection)?)
    }

    /// As [`Cluster::connect`], with what it needs of the connection's settings.
    pub(crate) fn of(brokers: &str, login: Option<Login>) -> Result<Self> {
        let mut failed = None;
        for address in brokers.split(',').map(str::trim) {
            match Wire::connect(address, login.as_ref()) {
                Ok(wire) => {
                    let first = address.to_owned();
                    let wires = BTreeMap::from([(first.clone(), wire)]);
                    return Ok(Self {
                        first,
                        wires,
                        login,
                    });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.context("--broker names no broker")?)
    }

    /// The broker that answered first.
    pub(crate) fn any(&mut self) -> Result<&mut Wire> {
        let first = self.first.clone();
        self.at(&first)
    }

    /// The broker at an address.
    pub(crate) fn at(&mut self, address: &str) -> Result<&mut Wire> {
        if !self.wires.contains_key(address) {
            let wire = Wire::connect(address, self.login.as_ref())?;
            self.wires.insert(address.to_owned(), wire);
        }
        self.wires.get_mut(address).context("it was just put there")
    }

    /// Topics by name, all of them when none is named, and the brokers. Never creates a topic.
    pub(crate) fn metadata(&mut self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        let topics = topics.map(|topics| {
            let topics = topics.iter().map(|name| topic_name(name));
            let topic = |name| MetadataRequestTopic::default().with_name(Some(name));
            topics.map(topic).collect()
        });
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(false);
        self.any()?.ask(&request)
    }

    /// The partitions of a topic by the address of their leader.
    pub(crate) fn leaders(&mut self, topic: &str) -> Result<BTreeMap<String, Vec<i32>>> {
        let metadata = self.metadata(Some(&[topic]))?;
        let described = metadata
            .topics
            .iter()
            .find(|one| named(one.name.as_ref(), topic));
        let described = described.context("the broker's answer does not name the topic")?;
        match ResponseError::try_from_code(described.error_code) {
            None => {}
            Some(ResponseError::UnknownTopicOrPartition) => {
                return Err(unknown_topic(topic, std::iter::empty()).into());
            }
            Some(error) => {
                return Err(refused(format!("{topic} cannot be asked for"), error, None));
            }
        }
        let mut leaders = BTreeMap::<String, Vec<i32>>::new();
        for partition in &described.partitions {
            let leader = metadata
                .brokers
                .iter()
                .find(|one| one.node_id == partition.leader_id);
            let index = partition.partition_index;
            let leader = leader.ok_or_else(|| {
                let what = format!("{topic}[{index}] has no leader");
                refused(what, ResponseError::LeaderNotAvailable, None)
            })?;
            leaders.entry(address_of(leader)).or_default().push(index);
        }
        Ok(leaders)
    }

    /// Who coordinates these, by address. Waits a little while nobody does.
    pub(crate) fn coordinators(
        &mut self,
        kind: Coordinated,
        keys: &[String],
    ) -> Result<BTreeMap<String, Vec<String>>> {
        let text = |text: &String| StrBytes::from_string(text.clone());
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind as i8)
            .with_coordinator_keys(keys.iter().map(text).collect());
        patiently(|| {
            let mut by_address = BTreeMap::<String, Vec<String>>::new();
            for one in self.any()?.ask(&request)?.coordinators {
                if let Some(error) = ResponseError::try_from_code(one.error_code) {
                    let what = format!("nobody coordinates {:?}", one.key.as_str());
                    return Ok(Err((
                        error,
                        refused(what, error, one.error_message.as_deref()),
                    )));
                }
                let keys = by_address.entry(format!("{}:{}", one.host, one.port));
                keys.or_default().push(one.key.to_string());
            }
            Ok(Ok(by_address))
        })
    }

    /// Who coordinates a transactional id.
    pub(crate) fn transaction_coordinator(&mut self, id: &str) -> Result<&mut Wire> {
        let found = self.coordinators(Coordinated::Transaction, &[id.to_owned()])?;
        let address = found.into_keys().next();
        let address = address.context("the broker's answer names no coordinator")?;
        self.at(&address)
    }
}

/// Who to log in as, by the settings that librdkafka has for it.
fn login(connection: &Connection) -> Result<Option<Login>> {
    let protocol = connection.setting(&["security.protocol"]);
    let protocol = protocol.unwrap_or("plaintext").to_ascii_lowercase();
    let mechanism = connection.setting(&["sasl.mechanism", "sasl.mechanisms"]);
    match (protocol.as_str(), mechanism.unwrap_or_default()) {
        ("plaintext", _) => Ok(None),
        ("sasl_plaintext", "PLAIN") => Ok(Some(Login {
            user: connection.setting(&["sasl.username"]).unwrap_or_default().to_owned(),
            password: connection.setting(&["sasl.password"]).unwrap_or_default().to_owned(),
        })),
        _ => Err(Problem::plain(
            format!("this cannot be asked with security.protocol={protocol}"),
            "librdkafka has no call for it, and this program's own connections are not encrypted \
             and know no mechanism but PLAIN",
            "ask a listener with plaintext, or sasl_plaintext and PLAIN, or use Apache Kafka's tools",
        )
        .into()),
    }
}

/// Tries until it works, the broker refuses for good, or [`PATIENCE`] has passed. An attempt that
/// the broker refused returns why, and what to tell the person.
pub(crate) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<Result<T, (ResponseError, anyhow::Error)>>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt()? {
            Ok(done) => return Ok(done),
            Err((error, told)) if !passes(error) || Instant::now() > deadline => return Err(told),
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}

/// Whether a refusal may pass by itself: an abort answers with CONCURRENT_TRANSACTIONS until it is
/// written everywhere.
fn passes(error: ResponseError) -> bool {
    error.is_retriable() || error == ResponseError::ConcurrentTransactions
}

/// The address of a broker as the cluster names it.
pub(crate) fn address_of(broker: &MetadataResponseBroker) -> String {
    format!("{}:{}", broker.host, broker.port)
}

/// Whether a topic in an answer has this name.
fn named(found: Option<&TopicName>, wanted: &str) -> bool {
    found.is_some_and(|found| found.as_str() == wanted)
}

/// A topic's name for a request.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
