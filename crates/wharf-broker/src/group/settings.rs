//! The settings of single groups: what DescribeConfigs and IncrementalAlterConfigs know as the
//! resource type GROUP.
//!
//! A setting holds for a group of its name whether or not it exists, as in Kafka. The view changes
//! after a change is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::{CommitError, Condition, Reader, StateChange, Unit};

use super::consumer::Limits;
use super::keys;
use super::machine::refusal;
use super::recover::unreadable;
use crate::config::{ConfigChange, ConfigEntry, ConfigOperation, ConfigSource, INT};
use crate::encoding::{Decoder, Encoder};
use crate::sync::lock;
use crate::{Broker, Context, Error, ErrorKind, Options};

const VERSION: u8 = 1;
/// What a name with its value takes at least.
const SETTING_BYTES_MIN: usize = 8;
/// How often a change is decided anew because another change of the same group came first.
const ATTEMPTS_MAX: usize = 100;

/// The text of a group's settings, by name.
type Overrides = BTreeMap<String, String>;

/// A setting of a group.
struct Definition {
    name: &'static str,
    node_name: &'static str,
    /// The node's value and the limits for a single group.
    of_node: fn(&Options) -> (Duration, Duration, Duration),
    documentation: &'static str,
}

const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";

/// Every setting, by name.
const DEFINITIONS: [Definition; 2] = [
    Definition {
        name: HEARTBEAT_INTERVAL,
        node_name: "group.consumer.heartbeat.interval.ms",
        of_node: |o| {
            (
                o.consumer_heartbeat_interval,
                o.consumer_heartbeat_interval_min,
                o.consumer_heartbeat_interval_max,
            )
        },
        documentation: "How often members of the consumer protocol are told to send heartbeats.",
    },
    Definition {
        name: SESSION_TIMEOUT,
        node_name: "group.consumer.session.timeout.ms",
        of_node: |o| {
            (
                o.consumer_session_timeout,
                o.consumer_session_timeout_min,
                o.consumer_session_timeout_max,
            )
        },
        documentation: "A member of the consumer protocol that is not heard of for this long is \
                        removed.",
    },
];

/// A group's settings and the exact value they have in the state.
#[derive(Clone, Debug, Default)]
struct Stored {
    overrides: Overrides,
    value: Option<Bytes>,
}

/// The settings of all groups that have any.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(Arc<Mutex<BTreeMap<String, Stored>>>);

impl Settings {
    pub(super) fn recover(reader: &Reader) -> Result<Self, Error> {
        let mut groups = BTreeMap::new();
        for (key, value) in reader.state(keys::SETTINGS) {
            let found = keys::parse_settings(&key);
            let group = found.ok_or_else(|| unreadable("setting of a group", &key))?;
            let overrides = decode(&value)?;
            groups.insert(
                group,
                Stored {
                    overrides,
                    value: Some(value),
                },
            );
        }
        Ok(Self(Arc::new(Mutex::new(groups))))
    }

    /// What holds for a group.
    pub(super) fn limits(&self, group: &str, options: &Options) -> Limits {
        match lock(&self.0).get(group) {
            Some(stored) => limits(&stored.overrides, options),
            None => Limits::from(options),
        }
    }

    fn get(&self, group: &str) -> Stored {
        lock(&self.0).get(group).cloned().unwrap_or_default()
    }

    fn put(&self, group: String, stored: Stored) {
        let mut groups = lock(&self.0);
        match stored.value {
            Some(_) => groups.insert(group, stored),
            None => groups.remove(&group),
        };
    }
}

fn limits(overrides: &Overrides, options: &Options) -> Limits {
    let own = |name: &str, of_node: Duration| {
        let millis = overrides.get(name).and_then(|text| text.parse().ok());
        let definition = DEFINITIONS
            .iter()
            .find(|definition| definition.name == name);
        let (_, min, max) =
            definition.map_or((of_node, of_node, of_node), |one| (one.of_node)(options));
        millis.map_or(of_node, |millis| {
            Duration::from_millis(millis).max(min).min(max)
        })
    };
    let of_node = Limits::from(options);
    Limits {
        session_timeout: own(SESSION_TIMEOUT, of_node.session_timeout),
        heartbeat_interval: own(HEARTBEAT_INTERVAL, of_node.heartbeat_interval),
        ..of_node
    }
}

fn encode(overrides: &Overrides) -> Bytes {
    let mut out = Encoder::new(VERSION);
    out.u32(u32::try_from(overrides.len()).expect("there are two settings"));
    for (name, value) in overrides {
        out.text(name).text(value);
    }
    out.finish()
}

fn decode(value: &[u8]) -> Result<Overrides, Error> {
    let mut input = Decoder::new("setting of a group", VERSION, value)?;
    let mut overrides = Overrides::new();
    for _ in 0..input.count(SETTING_BYTES_MIN)? {
        let name = input.text()?.to_owned();
        overrides.insert(name, input.text()?.to_owned());
    }
    input.finish()?;
    Ok(overrides)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The overrides after `changes`, all or none.
fn change(
    options: &Options,
    before: &Overrides,
    changes: &[ConfigChange],
    replace: bool,
) -> Result<Overrides, Error> {
    let mut after = if replace {
        Overrides::new()
    } else {
        before.clone()
    };
    for change in changes {
        let known = DEFINITIONS.iter().find(|one| one.name == change.name);
        let Some(definition) = known else {
            let names = DEFINITIONS.each_ref().map(|one| one.name).join(" and ");
            return Err(invalid(format!("groups have the settings {names}")));
        };
        let (_, min, max) = (definition.of_node)(options);
        let (min, max) = (min.as_millis(), max.as_millis());
        match (change.operation, change.value.as_deref()) {
            (ConfigOperation::Delete, _) => {
                after.remove(definition.name);
            }
            (ConfigOperation::Set, Some(text)) => {
                let millis = text.trim().parse::<u128>().ok();
                let millis = millis.filter(|millis| (min..=max).contains(millis));
                let Some(millis) = millis else {
                    let name = definition.name;
                    return Err(invalid(format!(
                        "{name} is a whole number of milliseconds from {min} to {max}"
                    )));
                };
                after.insert(definition.name.to_owned(), millis.to_string());
            }
            _ => return Err(invalid(format!("{} is no list", definition.name))),
        }
    }
    let limits = limits(&after, options);
    if limits.heartbeat_interval >= limits.session_timeout {
        return Err(invalid(format!(
            "{HEARTBEAT_INTERVAL} must be below {SESSION_TIMEOUT}"
        )));
    }
    Ok(after)
}

impl Broker {
    /// All settings of a group, whether or not it exists.
    pub fn describe_group_config(&self, cx: &Context, group: &str) -> Vec<ConfigEntry> {
        let _anyone_may_ask = cx;
        let options = &self.shared.options;
        let own = self.shared.groups.inner.settings.get(group).overrides;
        let entries = DEFINITIONS.iter().map(|definition| {
            let text = |duration: Duration| duration.as_millis().to_string();
            let of_node = text((definition.of_node)(options).0);
            let built_in = text((definition.of_node)(&Options::default()).0);
            let node_value = (of_node != built_in).then(|| of_node.clone());
            let (value, source) = match (own.get(definition.name), &node_value) {
                (Some(own), _) => (own.clone(), ConfigSource::Group),
                (None, Some(of_node)) => (of_node.clone(), ConfigSource::Node),
                (None, None) => (of_node, ConfigSource::Default),
            };
            ConfigEntry {
                name: definition.name,
                value: Some(value),
                source,
                default: Some(built_in),
                kind: INT,
                read_only: false,
                documentation: definition.documentation,
                node_name: definition.node_name,
                node_value,
            }
        });
        entries.collect()
    }

    /// The groups that have settings of their own.
    pub fn groups_with_config(&self, cx: &Context) -> Vec<String> {
        let _anyone_may_ask = cx;
        lock(&self.shared.groups.inner.settings.0)
            .keys()
            .cloned()
            .collect()
    }

    /// Changes settings of a group, all or none, durable when this returns. `replace` first drops
    /// every setting of its own (the old AlterConfigs). With `validate_only` nothing is changed.
    pub async fn alter_group_config(
        &self,
        cx: &Context,
        group: &str,
        changes: Vec<ConfigChange>,
        replace: bool,
        validate_only: bool,
    ) -> Result<(), Error> {
        let _anyone_may_change = cx;
        if group.is_empty() || group.len() > keys::GROUP_NAME_BYTES_MAX {
            return Err(refusal(ErrorKind::InvalidGroupId));
        }
        let settings = &self.shared.groups.inner.settings;
        for _ in 0..ATTEMPTS_MAX {
            let before = settings.get(group);
            let overrides = change(&self.shared.options, &before.overrides, &changes, replace)?;
            if validate_only || overrides == before.overrides {
                return Ok(());
            }
            let groups = lock(&settings.0).len();
            if before.value.is_none() && groups >= self.shared.options.groups_max {
                let message =
                    format!("{groups} groups have settings already; there is no more room");
                return Err(Error::new(ErrorKind::PolicyViolation, message));
            }
            let value = (!overrides.is_empty()).then(|| encode(&overrides));
            let key = keys::settings(group);
            let unit = Unit {
                conditions: vec![Condition::StateEquals {
                    key: key.clone(),
                    value: before.value,
                }],
                state: vec![StateChange {
                    key,
                    value: value.clone(),
                }],
                ..Unit::default()
            };
            let (view, name) = (settings.clone(), group.to_owned());
            let applied = move |outcome: &Result<_, _>| {
                if outcome.is_ok() {
                    view.put(name, Stored { overrides, value });
                }
            };
            match crate::commit::submit(&self.shared.appender, unit, applied)
                .wait()
                .await
            {
                Ok(_) => return Ok(()),
                Err(CommitError::ConditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorKind::RequestTimedOut,
            "the group's settings were changed by others all the time; try again",
        ))
    }
}
