//! Checking the text of settings and turning it into a [`TopicConfig`].
//!
//! Invariant: a `TopicConfig` exists only for text that every check accepted, so reading a value
//! of it cannot fail.

use std::collections::BTreeMap;
use std::time::Duration;

use wharf_log::batch::Compression;
use wharf_log::{Clock, Compaction, Retention};

use super::definitions::{Check, DEFINITIONS, Definition, find};
use super::{ConfigChange, ConfigOperation, TopicConfig};
use crate::{
    Error, ErrorKind, SchemaAction, SchemaDepth, SchemaRules, StoredCodec, SubjectStrategy,
};

/// The node's defaults of topic settings, by topic setting name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults(BTreeMap<&'static str, String>);

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The definition of `name`, or a refusal that names the nearest known one.
fn known(name: &str) -> Result<&'static Definition, Error> {
    find(name).ok_or_else(|| {
        let nearest = DEFINITIONS
            .iter()
            .min_by_key(|definition| strsim::damerau_levenshtein(definition.name, name))
            .map_or("", |definition| definition.name);
        invalid(format!(
            "unknown topic setting {:?}; the nearest known one is {nearest:?}",
            shortened(name)
        ))
    })
}

/// Refuses a name the table does not have.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    known(name).map(|_definition| ())
}

/// A client's text for an error message, cut to a length that fits one line.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Checks one value, returning it as it is kept.
fn checked(definition: &Definition, value: &str) -> Result<String, Error> {
    let value = value.trim();
    let refuse = |expected: &str| {
        Err(invalid(format!(
            "{:?} is no valid value of {}: {expected} is expected",
            shortened(value),
            definition.name
        )))
    };
    match definition.check {
        Check::Boolean => match value.to_ascii_lowercase().as_str() {
            lower @ ("true" | "false") => Ok(lower.to_owned()),
            _ => refuse("true or false"),
        },
        Check::Whole(_, min, max) => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
            _ => refuse(&format!("a whole number from {min} to {max}")),
        },
        Check::Double(min, max) => match value.parse::<f64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(value.to_owned()),
            _ => refuse(&format!("a number from {min} to {max}")),
        },
        Check::Word(words) => match words.iter().find(|word| **word == value) {
            Some(word) => Ok((*word).to_owned()),
            None => refuse(&format!("one of {}", words.join(", "))),
        },
        Check::Words(words) => {
            let items = items(value);
            if items.is_empty() || items.iter().any(|item| !words.contains(item)) {
                return refuse(&format!("a list of {}", words.join(", ")));
            }
            Ok(items.join(","))
        }
        Check::Class(names) => match names.contains(&class(value)) {
            true => Ok(value.to_owned()),
            false => refuse(&format!("a class named {}", names.join(", "))),
        },
        Check::List => Ok(items(value).join(",")),
    }
}

/// The items of a list, without blanks and repetitions.
fn items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    for item in list.split(',').map(str::trim) {
        if !item.is_empty() && !items.contains(&item) {
            items.push(item);
        }
    }
    items
}

impl Defaults {
    /// Checks the node's defaults; names are those of topic settings or of Kafka's broker settings.
    pub(crate) fn new(pairs: &[(String, String)]) -> Result<Self, Error> {
        let mut defaults = BTreeMap::new();
        for (name, value) in pairs {
            let definition = DEFINITIONS
                .iter()
                .find(|definition| definition.node_name == name)
                .map_or_else(|| known(name), Ok)?;
            defaults.insert(definition.name, checked(definition, value)?);
        }
        Ok(Self(defaults))
    }

    /// The node's own default of a setting, if it has one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The value in force: the topic's, else the node's, else the built-in one.
fn effective<'a>(
    defaults: &'a Defaults,
    overrides: &'a BTreeMap<String, String>,
    name: &str,
) -> &'a str {
    overrides
        .get(name)
        .map(String::as_str)
        .or_else(|| defaults.get(name))
        .or_else(|| find(name).map(|definition| definition.default))
        .expect("only names of the table are asked for")
}

/// The largest time that can be set: as good as none.
const NEVER: Duration = Duration::from_millis(i64::MAX.unsigned_abs());

impl TopicConfig {
    /// The settings under these overrides, all checked.
    pub(crate) fn new(
        defaults: &Defaults,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut kept = BTreeMap::new();
        for (name, value) in overrides {
            kept.insert(name.clone(), checked(known(name)?, value)?);
        }
        let text = |name| effective(defaults, &kept, name);
        let number = |name| text(name).parse::<i64>().expect("a checked number");
        let limit = |name| u64::try_from(number(name)).ok();
        let lasting = |name| Duration::from_millis(limit(name).unwrap_or(0));
        let policy = text("cleanup.policy");
        let delete = items(policy).contains(&"delete");
        let compact = items(policy).contains(&"compact");
        let compaction = Compaction {
            min_lag: lasting("min.compaction.lag.ms"),
            max_lag: Some(lasting("max.compaction.lag.ms")).filter(|lag| *lag < NEVER),
            dirty_ratio: text("min.cleanable.dirty.ratio")
                .parse()
                .expect("a checked number"),
            delete_retention: lasting("delete.retention.ms"),
        };
        let config = Self {
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            clock: match text("message.timestamp.type") {
                "LogAppendTime" => Clock::LogAppendTime,
                _ => Clock::CreateTime,
            },
            timestamp_before_max: lasting("message.timestamp.before.max.ms"),
            timestamp_after_max: lasting("message.timestamp.after.max.ms"),
            retention: Retention {
                bytes: limit("retention.bytes").filter(|_| delete),
                age: limit("retention.ms")
                    .filter(|_| delete)
                    .map(Duration::from_millis),
                segment_bytes: limit("segment.bytes").unwrap_or(u64::MAX),
                segment_age: lasting("segment.ms"),
                compaction: compact.then_some(compaction),
            },
            delete,
            compact,
            codec: codec(text("compression.type"), number),
            sync_before_ack: text("wharf.sync.before.ack") == "true",
            schemas: schemas(text),
            overrides: BTreeMap::new(),
        };
        Ok(Self {
            overrides: kept,
            ..config
        })
    }
}

/// What is asked of the schemas of keys and values. Confluent's names alone refuse, as at its broker.
fn schemas<'a>(text: impl Fn(&'static str) -> &'a str) -> Option<SchemaRules> {
    let key = text("confluent.key.schema.validation") == "true";
    let value = text("confluent.value.schema.validation") == "true";
    let (action, value) = match text("wharf.schema.validation") {
        "warn" => (SchemaAction::Warn, true),
        "reject" => (SchemaAction::Reject, true),
        _ if key || value => (SchemaAction::Reject, value),
        _ => return None,
    };
    let strategy = |name| match class(text(name)) {
        "RecordNameStrategy" => SubjectStrategy::Record,
        "TopicRecordNameStrategy" => SubjectStrategy::TopicRecord,
        _ => SubjectStrategy::Topic,
    };
    Some(SchemaRules {
        action,
        depth: match text("wharf.schema.validation.depth") {
            "payload" => SchemaDepth::Payload,
            _ => SchemaDepth::Id,
        },
        key: key.then(|| strategy("confluent.key.subject.name.strategy")),
        value: value.then(|| strategy("confluent.value.subject.name.strategy")),
    })
}

/// The class without its package.
fn class(name: &str) -> &str {
    name.rsplit_once('.')
        .map_or(name, |(_package, class)| class)
}

/// The codec that a topic's batches are stored in, by Kafka's names; `number` gives the levels.
fn codec(name: &str, number: impl Fn(&'static str) -> i64) -> Option<StoredCodec> {
    let (compression, level) = match name {
        "uncompressed" => (Compression::None, None),
        "gzip" => (Compression::Gzip, Some("compression.gzip.level")),
        "snappy" => (Compression::Snappy, None),
        // One level only: the encoder has no other.
        "lz4" => (Compression::Lz4, None),
        "zstd" => (Compression::Zstd, Some("compression.zstd.level")),
        _ => return None,
    };
    let level = level.and_then(|name| i32::try_from(number(name)).ok());
    Some(StoredCodec { compression, level })
}

/// The overrides after `changes`, all or none. `replace` starts from none.
pub(super) fn change(
    defaults: &Defaults,
    overrides: &BTreeMap<String, String>,
    changes: &[ConfigChange],
    replace: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let mut changed = if replace {
        BTreeMap::new()
    } else {
        overrides.clone()
    };
    for (index, item) in changes.iter().enumerate() {
        if changes[..index]
            .iter()
            .any(|earlier| earlier.name == item.name)
        {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                format!(
                    "the setting {:?} is changed twice in one request",
                    shortened(&item.name)
                ),
            ));
        }
        let definition = known(&item.name)?;
        match new_value(defaults, &changed, definition, item)? {
            Some(value) => changed.insert(item.name.clone(), value),
            None => changed.remove(&item.name),
        };
    }
    Ok(changed)
}

/// The value a setting gets by one change; `None` is back to the default.
fn new_value(
    defaults: &Defaults,
    overrides: &BTreeMap<String, String>,
    definition: &Definition,
    change: &ConfigChange,
) -> Result<Option<String>, Error> {
    let name = definition.name;
    if change.operation == ConfigOperation::Delete {
        return Ok(None);
    }
    let Some(value) = change.value.as_deref() else {
        return Err(invalid(format!("the new value of {name} is missing")));
    };
    let is_list = matches!(definition.check, Check::Words(_) | Check::List);
    let listed = items(value);
    let mut list = items(effective(defaults, overrides, name));
    match change.operation {
        ConfigOperation::Set | ConfigOperation::Delete => {
            return checked(definition, value).map(Some);
        }
        _ if !is_list => {
            return Err(invalid(format!(
                "{name} is no list: nothing can be added or removed"
            )));
        }
        ConfigOperation::Append => list.extend(listed),
        ConfigOperation::Subtract => list.retain(|item| !listed.contains(item)),
    }
    checked(definition, &list.join(",")).map(Some)
}
