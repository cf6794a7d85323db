//! DescribeConfigs: the settings of topics, of groups and of this node, each with its origin.
//!
//! The node without an id is the cluster-wide default of all nodes: nothing is ever set there.
//! A resource that cannot be described has its own error and message; the others are answered.

use std::collections::HashSet;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use wharf_broker::{Broker, ConfigEntry, ConfigSource, Context, Error, ErrorKind};

use super::Card;
use super::config_resource::{Kind, check_node, source_code};
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, Shape, TEXT, array, items};
use crate::wire::{message, text};
use crate::{Disconnect, Outcome};

/// How many settings one answer describes before further resources are refused. It bounds the
/// answer to a request that names very many topics.
const ENTRIES_MAX: usize = 250_000;

pub(super) static CARD: Card = Card {
    key: 32,
    name: "DescribeConfigs",
    advertised: 1..=4,
    answered: 1..=4,
    kips: &[133, 226, 569],
    shape: Shape::new(4, &[array(&[INT8, TEXT, items(&TEXT)]), BOOL, BOOL.from(3)]),
    notes: "Topics, groups and this node. Loggers and client metrics subscriptions have no \
            settings: they are described as empty.",
};

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (broker, cx) = (&call.broker, &call.cx);
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let mut seen = HashSet::new();
    let mut budget = ENTRIES_MAX;
    let results = request.resources.into_iter().map(|resource| {
        let is_new = seen.insert((resource.resource_type, resource.resource_name.clone()));
        let entries = if is_new && budget > 0 {
            describe(broker, cx, &resource).map(|entries| select(&resource, entries))
        } else if is_new {
            Err(invalid(
                "too many settings for one answer; describe fewer resources at a time",
            ))
        } else {
            Err(invalid("a resource may be named only once in a request"))
        };
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match entries {
            Ok(entries) => {
                budget = budget.saturating_sub(entries.len());
                let entries = entries.into_iter().map(|entry| wanted.entry(entry));
                result
                    .with_error_message(None)
                    .with_configs(entries.collect())
            }
            Err(error) => result
                .with_error_code(error_code(error.kind))
                .with_error_message(Some(message(&error))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

fn describe(
    broker: &Broker,
    cx: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Error> {
    let name = resource.resource_name.as_str();
    match Kind::from_code(resource.resource_type)? {
        Kind::Topic => broker.describe_topic_config(cx, name),
        Kind::Node if name.is_empty() => Ok(Vec::new()),
        Kind::Node => check_node(broker, name).map(|()| broker.describe_broker_config(cx)),
        Kind::NodeLoggers => check_node(broker, name).map(|()| Vec::new()),
        Kind::ClientMetrics | Kind::Group if name.is_empty() => {
            Err(invalid("the resource needs a name"))
        }
        Kind::Group => Ok(broker.describe_group_config(cx, name)),
        Kind::ClientMetrics => Ok(Vec::new()),
    }
}

/// The entries asked for by name; all of them when no name is given.
fn select(resource: &DescribeConfigsResource, mut entries: Vec<ConfigEntry>) -> Vec<ConfigEntry> {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    entries.retain(|entry| keys.is_empty() || keys.iter().any(|key| key.as_str() == entry.name));
    entries
}

/// What was asked for besides the values.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

impl Wanted {
    fn entry(self, entry: ConfigEntry) -> DescribeConfigsResourceResult {
        let synonyms = if self.synonyms {
            synonyms(&entry)
        } else {
            Vec::new()
        };
        let documentation = self
            .documentation
            .then(|| StrBytes::from_static_str(entry.documentation));
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(entry.name))
            .with_value(entry.value.map(text))
            .with_read_only(entry.read_only)
            .with_config_source(source_code(entry.source))
            .with_synonyms(synonyms)
            .with_config_type(entry.kind)
            .with_documentation(documentation)
    }
}

/// Every value the setting has somewhere, the one in force first, down to the built-in default.
/// What the node sets goes by the node's name of the setting.
fn synonyms(entry: &ConfigEntry) -> Vec<DescribeConfigsSynonym> {
    let own = entry
        .value
        .as_ref()
        .filter(|_| matches!(entry.source, ConfigSource::Topic | ConfigSource::Group));
    let values = [
        (entry.name, own, entry.source),
        (
            entry.node_name,
            entry.node_value.as_ref(),
            ConfigSource::Node,
        ),
        (
            entry.node_name,
            entry.default.as_ref(),
            ConfigSource::Default,
        ),
    ];
    let synonym = |(name, value, source): (&'static str, Option<&String>, _)| {
        let synonym = DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(value?.as_str())))
            .with_source(source_code(source));
        Some(synonym)
    };
    values.into_iter().filter_map(synonym).collect()
}
