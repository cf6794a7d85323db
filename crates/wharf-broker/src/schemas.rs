//! Schemas as a topic's contract: what its settings ask, and who answers.
//!
//! The broker knows no registry. Whoever runs it and has one hands in a [`SchemaCheck`]; the broker
//! opens the batches of the topics that ask for it, one record at a time, and refuses what does not
//! pass (INVALID_RECORD, each record named: KIP-467).
//!
//! Invariants: a topic that asks for nothing costs nothing, not even a look at its records; a topic
//! that asks is never passed over because nobody is there to answer; control batches never come
//! here.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use wharf_log::batch::{self, Header, Record};
use wharf_message::TopicName;

use crate::config::TopicConfig;
use crate::error::RECORD_ERRORS_MAX;
use crate::{Broker, Context, Error, ErrorKind, RecordError, Topic, codec};

/// Where a registry keeps its schemas, in Confluent's format.
const REGISTRY_TOPIC: &str = "_schemas";

/// What happens to a record that breaks its topic's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaAction {
    /// It is counted and logged, and appended all the same.
    Warn,
    /// Its batch is refused.
    Reject,
}

/// How the subject of a record is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectStrategy {
    /// `<topic>-key` or `<topic>-value`.
    Topic,
    /// The full name of the record's type.
    Record,
    /// `<topic>-<full name of the record's type>`.
    TopicRecord,
}

/// How far a record is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaDepth {
    /// It names a schema that exists and belongs to the subject.
    Id,
    /// And its bytes can be read with it.
    Payload,
}

/// What a topic's settings ask of the schemas of its records; at least one of key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaRules {
    /// What happens to a record that does not pass.
    pub action: SchemaAction,
    /// How far it is looked into.
    pub depth: SchemaDepth,
    /// The subject of keys, where keys are looked at.
    pub key: Option<SubjectStrategy>,
    /// The subject of values, where values are looked at.
    pub value: Option<SubjectStrategy>,
}

/// Why a record does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaRefusal {
    /// It breaks the contract: why and what to do, in sentences for people that may be sent to
    /// clients.
    Broken(String),
    /// Nothing can be said yet: the registry is starting. The producer tries again.
    NotReady,
}

/// How many records of one batch were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaCounts<'a> {
    /// All of them.
    pub checked: u64,
    /// Those that break the contract.
    pub broken: u64,
    /// Why the first of them does.
    pub first: Option<&'a str>,
}

/// Who knows the schemas: the node's registry.
pub trait SchemaCheck: fmt::Debug + Send + Sync {
    /// Checks one record as the rules ask. A key or value that is null passes. Must not block: it
    /// runs while a request is being taken in.
    fn check(
        &self,
        topic: &TopicName,
        rules: &SchemaRules,
        record: &Record,
    ) -> Result<(), SchemaRefusal>;

    /// The outcome for one batch of a client, for counting and for the log.
    fn count(
        &self,
        cx: &Context,
        topic: &TopicName,
        action: SchemaAction,
        counts: &SchemaCounts<'_>,
    );
}

impl Broker {
    /// From now on `check` answers for topics that ask for schemas. It must be given before clients
    /// are served; given again, it changes nothing and says so with `false`.
    pub fn check_schemas_with(&self, check: Arc<dyn SchemaCheck>) -> bool {
        self.shared.schemas.set(check).is_ok()
    }

    /// Whether a topic would take these records, as far as its contract goes: for whoever decides
    /// before the append what is to become of a refused one. Only what breaks the contract is counted;
    /// the append counts the others.
    ///
    /// # Errors
    /// What the append would be refused with.
    pub fn check_schemas(
        &self,
        cx: &Context,
        topic: &Topic,
        records: &[Record],
    ) -> Result<(), Error> {
        let Some(rules) = rules(topic) else {
            return Ok(());
        };
        let registry = self.shared.schemas.get();
        let records = records.iter().map(Ok);
        check_records(registry, cx, topic, rules, records, Counting::Broken)
    }

    /// Refuses settings that ask for schemas on a node that has no registry.
    pub(crate) fn may_ask_for_schemas(
        &self,
        before: Option<&TopicConfig>,
        after: &TopicConfig,
    ) -> Result<(), Error> {
        let had = before.and_then(|before| before.schemas);
        if after.schemas.is_none() || after.schemas == had || self.shared.schemas.get().is_some() {
            return Ok(());
        }
        let sentence = "the topic cannot ask for schemas, since this node has no registry to look \
                        them up in: start it with --registry-listen, or leave \
                        wharf.schema.validation and confluent.*.schema.validation off";
        Err(Error::new(ErrorKind::InvalidConfig, sentence))
    }
}

/// What is counted of records that are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    All,
    Broken,
}

/// Checks the records of a batch that is no control batch, if its topic asks for it.
pub(crate) fn check(
    registry: Option<&Arc<dyn SchemaCheck>>,
    cx: &Context,
    topic: &Topic,
    header: &Header,
    bytes: &Bytes,
) -> Result<(), Error> {
    let Some(rules) = rules(topic) else {
        return Ok(());
    };
    let records = batch::Records::new(header, codec::body(header, bytes)?);
    let records = records.map(|record| {
        record.map_err(|error| Error::new(ErrorKind::InvalidRecord, error.to_string()))
    });
    check_records(registry, cx, topic, rules, records, Counting::All)
}

/// The same for records that are in no batch yet.
pub(crate) fn check_each(
    registry: Option<&Arc<dyn SchemaCheck>>,
    cx: &Context,
    topic: &Topic,
    records: &[Record],
) -> Result<(), Error> {
    match rules(topic) {
        None => Ok(()),
        Some(rules) => {
            let records = records.iter().map(Ok);
            check_records(registry, cx, topic, rules, records, Counting::All)
        }
    }
}

/// The node's own topics are none of a registry's business, whatever the node's defaults say.
fn rules(topic: &Topic) -> Option<&SchemaRules> {
    let rules = topic.config.schemas.as_ref()?;
    let own = topic.name.is_internal() || topic.name.as_str() == REGISTRY_TOPIC;
    (!own).then_some(rules)
}

fn check_records(
    registry: Option<&Arc<dyn SchemaCheck>>,
    cx: &Context,
    topic: &Topic,
    rules: &SchemaRules,
    records: impl Iterator<Item = Result<impl Borrow<Record>, Error>>,
    counting: Counting,
) -> Result<(), Error> {
    let Some(registry) = registry else {
        return without_registry(topic, rules.action);
    };
    let (mut checked, mut broken) = (0_u64, 0_u64);
    let mut named = Vec::new();
    for (index, record) in (0..).zip(records) {
        checked += 1;
        match registry.check(&topic.name, rules, record?.borrow()) {
            Ok(()) => {}
            Err(SchemaRefusal::NotReady) => return Err(not_ready(topic)),
            Err(SchemaRefusal::Broken(message)) => {
                broken += 1;
                if named.len() < RECORD_ERRORS_MAX {
                    named.push(RecordError { index, message });
                }
            }
        }
    }
    let counts = SchemaCounts {
        checked,
        broken,
        first: named.first().map(|first| first.message.as_str()),
    };
    if counting == Counting::All || broken > 0 && rules.action == SchemaAction::Reject {
        registry.count(cx, &topic.name, rules.action, &counts);
    }
    match (named.first(), rules.action) {
        (Some(first), SchemaAction::Reject) => {
            let message = format!(
                "{broken} of the batch's records break the contract of {}; the first, at {}: {}",
                topic.name, first.index, first.message
            );
            Err(Error {
                records: named,
                ..Error::new(ErrorKind::InvalidRecord, message)
            })
        }
        _ => Ok(()),
    }
}

/// The settings were made when the node had a registry: what may not be appended unchecked waits for
/// somebody to decide.
fn without_registry(topic: &Topic, action: SchemaAction) -> Result<(), Error> {
    match action {
        SchemaAction::Warn => Ok(()),
        SchemaAction::Reject => Err(Error::new(
            ErrorKind::PolicyViolation,
            format!(
                "{} takes only records whose schema was checked, and this node runs without a \
                 registry: start it with --registry-listen, or set wharf.schema.validation=off",
                topic.name
            ),
        )),
    }
}

/// Of the errors that producers come again after, the one that says: not yet.
fn not_ready(topic: &Topic) -> Error {
    let sentence = format!(
        "the registry that checks the records of {} is starting; try again",
        topic.name
    );
    Error::new(ErrorKind::NotEnoughReplicas, sentence)
}
