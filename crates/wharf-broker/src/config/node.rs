//! The node's settings under the names Kafka's tools know, read-only.

use super::{ConfigEntry, ConfigSource, definitions::DEFINITIONS, kind};
use crate::{Broker, Context, Options, group};

struct NodeSetting {
    name: &'static str,
    kind: i8,
    /// Whether it comes from the node's configuration (else it is the same for every node).
    configured: bool,
    value: fn(&Options) -> String,
    documentation: &'static str,
}

macro_rules! settings {
    ($($name:literal, $kind:ident, $configured:literal, $value:expr, $documentation:literal;)*) => {
        const SETTINGS: &[NodeSetting] = &[$(NodeSetting {
            name: $name,
            kind: kind::$kind,
            configured: $configured,
            value: $value,
            documentation: $documentation,
        }),*];
    };
}

settings! {
    "auto.create.topics.enable", BOOLEAN, true, |o| o.auto_create_topics.to_string(),
        "Whether asking for an unknown topic's metadata creates it; clients ask before they produce.";
    "broker.id", INT, true, |o| o.node_id.to_string(), "This node's id.";
    "default.replication.factor", INT, false, |_| "1".to_owned(),
        "There is one copy of every partition.";
    "delete.topic.enable", BOOLEAN, false, |_| "true".to_owned(), "Topics can be deleted.";
    "fetch.max.bytes", INT, true, |o| o.fetch_bytes_max.to_string(),
        "The most bytes one fetch answers.";
    "group.consumer.assignors", LIST, false, |_| group::ASSIGNORS.join(","),
        "The assignors of the consumer protocol, the default first.";
    "group.consumer.heartbeat.interval.ms", INT, true,
        |o| o.consumer_heartbeat_interval.as_millis().to_string(),
        "How often members of the consumer protocol are told to send heartbeats.";
    "group.consumer.max.heartbeat.interval.ms", INT, true,
        |o| o.consumer_heartbeat_interval_max.as_millis().to_string(),
        "The longest heartbeat interval that a single group may be given.";
    "group.consumer.max.session.timeout.ms", INT, true,
        |o| o.consumer_session_timeout_max.as_millis().to_string(),
        "The longest session time-out that a single group may be given.";
    "group.consumer.max.size", INT, true, |o| o.consumer_members_max.to_string(),
        "The most members of one group of the consumer protocol.";
    "group.consumer.migration.policy", STRING, true,
        |o| o.consumer_migration_policy.name().to_owned(),
        "Which groups may change between the classic and the consumer protocol with members.";
    "group.consumer.min.heartbeat.interval.ms", INT, true,
        |o| o.consumer_heartbeat_interval_min.as_millis().to_string(),
        "The shortest heartbeat interval that a single group may be given.";
    "group.consumer.min.session.timeout.ms", INT, true,
        |o| o.consumer_session_timeout_min.as_millis().to_string(),
        "The shortest session time-out that a single group may be given.";
    "group.consumer.session.timeout.ms", INT, true,
        |o| o.consumer_session_timeout.as_millis().to_string(),
        "A member of the consumer protocol that is not heard of for this long is removed.";
    "group.coordinator.rebalance.protocols", LIST, false, |_| "classic,consumer".to_owned(),
        "The protocols that groups may speak.";
    "group.initial.rebalance.delay.ms", INT, true,
        |o| o.group_initial_rebalance_delay.as_millis().to_string(),
        "The wait before the first rebalance of an empty group.";
    "group.max.session.timeout.ms", INT, true,
        |o| o.group_session_timeout_max.as_millis().to_string(),
        "The longest session time-out a member may ask for.";
    "group.max.size", INT, true, |o| o.group_members_max.to_string(),
        "The most members of one group.";
    "group.min.session.timeout.ms", INT, true,
        |o| o.group_session_timeout_min.as_millis().to_string(),
        "The shortest session time-out a member may ask for.";
    "log.dirs", LIST, true, |o| o.log_directory.clone(), "The directory the log is kept in.";
    "max.incremental.fetch.session.cache.slots", INT, true, |o| o.fetch_sessions_max.to_string(),
        "The most fetch sessions kept.";
    "node.id", INT, true, |o| o.node_id.to_string(), "This node's id.";
    "num.partitions", INT, true, |o| o.default_partitions.to_string(),
        "Partitions of topics created without a count.";
    "offset.metadata.max.bytes", INT, true, |o| o.offset_metadata_bytes_max.to_string(),
        "The longest metadata text of a committed offset.";
    "offsets.retention.minutes", INT, true,
        |o| (o.offsets_retention.as_secs() / 60).to_string(),
        "How long the offsets of an empty group are kept.";
    "offsets.topic.replication.factor", SHORT, false, |_| "1".to_owned(),
        "There is one copy of committed offsets.";
    "transaction.max.timeout.ms", INT, true,
        |o| o.transaction_timeout_max.as_millis().to_string(),
        "The longest time-out a transaction may ask for.";
    "transaction.partition.verification.enable", BOOLEAN, false, |_| "true".to_owned(),
        "Records are refused where no transaction is open for them.";
    "transaction.state.log.min.isr", INT, false, |_| "1".to_owned(),
        "There is one copy of the state of transactions.";
    "transaction.state.log.replication.factor", SHORT, false, |_| "1".to_owned(),
        "There is one copy of the state of transactions.";
    "transactional.id.expiration.ms", INT, true,
        |o| o.transactional_id_expiration.as_millis().to_string(),
        "How long a transactional id is kept after its last transaction.";
    "process.roles", LIST, false, |_| "broker,controller".to_owned(),
        "One node holds every role.";
}

impl Broker {
    /// The node's settings under Kafka's names, read-only.
    pub fn describe_broker_config(&self, cx: &Context) -> Vec<ConfigEntry> {
        let _anyone_may_ask = cx;
        let options = &self.shared.options;
        let built_in = Options::default();
        let own = SETTINGS.iter().map(|setting| {
            let value = (setting.value)(options);
            let default = (setting.value)(&built_in);
            let is_default = !setting.configured || value == default;
            let node_value = (!is_default).then(|| value.clone());
            ConfigEntry {
                name: setting.name,
                value: Some(value),
                source: if is_default {
                    ConfigSource::Default
                } else {
                    ConfigSource::Node
                },
                default: Some(default),
                kind: setting.kind,
                read_only: true,
                documentation: setting.documentation,
                node_name: setting.name,
                node_value,
            }
        });
        let defaults = &self.shared.topics.defaults;
        let of_topics = DEFINITIONS.iter().map(|definition| {
            let set = defaults.get(definition.name);
            ConfigEntry {
                name: definition.node_name,
                value: Some(set.unwrap_or(definition.default).to_owned()),
                source: if set.is_some() {
                    ConfigSource::Node
                } else {
                    ConfigSource::Default
                },
                default: Some(definition.default.to_owned()),
                kind: definition.check.kind(),
                read_only: true,
                documentation: definition.documentation,
                node_name: definition.node_name,
                node_value: set.map(str::to_owned),
            }
        });
        let mut entries: Vec<_> = own.chain(of_topics).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }
}
