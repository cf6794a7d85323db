//! Topic settings: the names, types, defaults and checks that Kafka's tools expect.
//!
//! [`definitions`] is the table, [`values`] checks and parses, [`node`] describes the node's own
//! settings. A setting the table does not have is refused with the nearest known name.

mod definitions;
mod node;
mod values;

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{Broker, Context, Error, TopicRef};

pub(crate) use kind::INT;
pub(crate) use values::{Defaults, check_name};

/// The numeric types of settings, as DescribeConfigs v3 carries them.
mod kind {
    pub(super) const BOOLEAN: i8 = 1;
    pub(super) const STRING: i8 = 2;
    pub(crate) const INT: i8 = 3;
    pub(super) const SHORT: i8 = 4;
    pub(super) const LONG: i8 = 5;
    pub(super) const DOUBLE: i8 = 6;
    pub(super) const LIST: i8 = 7;
}

/// The settings of one topic, parsed.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    /// What was set on the topic itself, as text, by name.
    pub overrides: std::collections::BTreeMap<String, String>,
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub clock: wharf_log::Clock,
    /// `message.timestamp.before.max.ms`: how old a producer's timestamps may be.
    pub timestamp_before_max: Duration,
    /// `message.timestamp.after.max.ms`: how far ahead a producer's timestamps may be.
    pub timestamp_after_max: Duration,
    /// `retention.ms` and `retention.bytes` (none of them unless [`Self::delete`]) and the segment sizes.
    pub retention: wharf_log::Retention,
    /// `cleanup.policy` contains `delete`.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`; how is in [`Self::retention`].
    pub compact: bool,
    /// `compression.type` with its level; `None` keeps what the producer sent.
    pub codec: Option<crate::StoredCodec>,
    /// `wharf.sync.before.ack`: false answers produce requests before the sync.
    pub sync_before_ack: bool,
    /// `wharf.schema.validation` and its neighbours; `None` where nothing is asked.
    pub schemas: Option<crate::SchemaRules>,
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the group.
    Group,
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
    /// The node's setting that gives the default, as Kafka calls it.
    pub node_name: &'static str,
    /// What the node's configuration sets for it, if it does.
    pub node_value: Option<String>,
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

/// Documents every topic setting as a Markdown table, for `docs/how-to/topic-settings.md`.
pub fn topic_settings_table() -> String {
    let mut table = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for definition in definitions::DEFINITIONS {
        let default = if definition.default.is_empty() {
            "(empty)"
        } else {
            definition.default
        };
        table.push_str(&format!(
            "| `{}` | `{default}` | {} |\n",
            definition.name, definition.documentation
        ));
    }
    table
}

impl Broker {
    /// All settings of a topic.
    pub fn describe_topic_config(
        &self,
        cx: &Context,
        name: &str,
    ) -> Result<Vec<ConfigEntry>, Error> {
        let _anyone_may_ask = cx;
        let topic = self.topic(&TopicRef::Name(name.to_owned()))?;
        Ok(self.describe_config(&topic.config))
    }

    /// All settings of a topic that has `config`, also of one that was only planned.
    pub fn describe_config(&self, config: &TopicConfig) -> Vec<ConfigEntry> {
        let defaults = &self.shared.topics.defaults;
        let entries = definitions::DEFINITIONS.iter().map(|definition| {
            let of_topic = config.overrides.get(definition.name).map(String::as_str);
            let of_node = defaults.get(definition.name);
            let (value, source) = match (of_topic, of_node) {
                (Some(value), _) => (value, ConfigSource::Topic),
                (None, Some(value)) => (value, ConfigSource::Node),
                (None, None) => (definition.default, ConfigSource::Default),
            };
            ConfigEntry {
                name: definition.name,
                value: Some(value.to_owned()),
                source,
                default: Some(definition.default.to_owned()),
                kind: definition.check.kind(),
                read_only: false,
                documentation: definition.documentation,
                node_name: definition.node_name,
                node_value: of_node.map(str::to_owned),
            }
        });
        entries.collect()
    }

    /// Changes settings of a topic, all or none, durable when this returns. `replace` first drops
    /// every override (the old AlterConfigs). With `validate_only` nothing is changed.
    pub async fn alter_topic_config(
        &self,
        cx: &Context,
        topic: &TopicRef,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Error> {
        self.alter(cx, topic, validate_only, |current| {
            let defaults = &self.shared.topics.defaults;
            let overrides = values::change(defaults, &current.config.overrides, &changes, replace)?;
            let config = TopicConfig::new(defaults, &overrides)?;
            self.may_ask_for_schemas(Some(&current.config), &config)?;
            Ok(crate::topics::Alteration::Config(config))
        })
        .await
        .map(|_before| ())
    }
}
