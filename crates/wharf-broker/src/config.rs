//! Topic settings: the names, types, defaults and checks that Kafka's tools expect.

use crate::{Broker, Context, Error, TopicRef};

/// The settings of one topic, parsed.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    /// What was set on the topic itself, as text, by name.
    pub overrides: std::collections::BTreeMap<String, String>,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub clock: wharf_log::Clock,
    /// `retention.ms` and `retention.bytes` and the segment sizes.
    pub retention: wharf_log::Retention,
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact` (kept; acted on when compaction comes).
    pub compact: bool,
    /// `wharf.sync.before.ack`: false answers produce requests before the sync.
    pub sync_before_ack: bool,
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// The node's configuration.
    Node,
    /// Built in.
    Default,
}

/// One setting as described to tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The name.
    pub name: &'static str,
    /// The value as text.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// The built-in default.
    pub default: Option<String>,
    /// Kafka's numeric type (`ConfigDef.Type` as DescribeConfigs v3 carries it).
    pub kind: i8,
    /// Whether it can be changed.
    pub read_only: bool,
    /// What it does.
    pub documentation: &'static str,
}

/// What to do with a setting (IncrementalAlterConfigs, KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Set it.
    Set,
    /// Back to the default.
    Delete,
    /// Add to a list.
    Append,
    /// Remove from a list.
    Subtract,
}

/// One change of a setting.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    /// The name, unchecked.
    pub name: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// The value; `None` only with [`ConfigOperation::Delete`].
    pub value: Option<String>,
}

impl Broker {
    /// All settings of a topic.
    pub fn describe_topic_config(
        &self,
        cx: &Context,
        name: &str,
    ) -> Result<Vec<ConfigEntry>, Error> {
        let _ = (cx, name);
        unimplemented!()
    }

    /// The node's settings under Kafka's names, read-only.
    pub fn describe_broker_config(&self, cx: &Context) -> Vec<ConfigEntry> {
        let _ = cx;
        unimplemented!()
    }

    /// Changes settings of a topic, all or none. `replace` first drops every override (the old
    /// AlterConfigs).
    pub async fn alter_topic_config(
        &self,
        cx: &Context,
        topic: &TopicRef,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Error> {
        let _ = (cx, topic, changes, replace, validate_only);
        unimplemented!()
    }
}
