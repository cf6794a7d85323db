//! At the start of a service: can its code read what is retained in its topics?
//!
//! The topics of routes whose handlers take events with a contract are read once, for the names of
//! schemas alone; each schema that is named is compared with the event's by the engine. What was
//! written without a schema, and what is there for other handlers, is none of its business.

use std::collections::BTreeMap;
use std::fmt;

use wharf_message::{Code, Message, TopicName, header};
use wharf_schema::Limits;
use wharf_schema::compat::{Direction, Policy};
use wharf_schema::wire::SchemaId;

use super::contract::Contract;
use super::registry::{Registry, framed};
use crate::bus::Bus;
use crate::router::BoundRoute;
use crate::serve::ServeError;

/// What happens when a service starts whose code cannot read what is retained in its topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainedCheck {
    /// The topics are not looked at.
    Off,
    /// It is told in the log, and the service starts: such messages become dead letters.
    #[default]
    Warn,
    /// The service does not start.
    Refuse,
}

/// A schema that is retained in a topic and that an event cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The event.
    pub event: String,
    /// The topic.
    pub topic: String,
    /// The schema, as its records name it.
    pub schema: String,
    /// Where the registry has it: subject and version.
    pub place: Option<(String, i32)>,
    /// In which partitions its records are: the first and the last offset, and how many there are.
    pub partitions: BTreeMap<i32, (i64, i64, u64)>,
    /// Why the event cannot read them: each difference with its path, and with a record that shows it
    /// where there is one.
    pub why: Vec<String>,
}

impl fmt::Display for Retained {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            event,
            topic,
            schema,
            ..
        } = self;
        write!(formatter, "{event} cannot read the schema of {schema}")?;
        if let Some((subject, version)) = &self.place {
            write!(formatter, " (version {version} of {subject})")?;
        }
        write!(formatter, ", which is retained in {topic}:")?;
        for (partition, (first, last, count)) in &self.partitions {
            write!(
                formatter,
                " {count} records in partition {partition}, offsets {first} to {last};"
            )?;
        }
        write!(formatter, " {}", self.why.join("; "))
    }
}

/// Where records of a schema are.
type Places = BTreeMap<i32, (i64, i64, u64)>;

/// Checks the topics of routes, as the bus's registry is set up to.
///
/// # Errors
/// When something is unreadable, or could not be looked at, and that is to be refused.
pub(crate) async fn check_routes(bus: &Bus, routes: &[BoundRoute]) -> Result<(), ServeError> {
    let Some(registry) = &bus.shared().checking.schemas else {
        return Ok(());
    };
    if registry.retained == RetainedCheck::Off {
        return Ok(());
    }
    let mut by_topic: BTreeMap<TopicName, Vec<&'static Contract>> = BTreeMap::new();
    let mut found = Vec::new();
    for route in routes {
        for handler in &route.handlers {
            match (handler.contract)() {
                None => {}
                Some(Err(error)) => found.push(error.to_string()),
                Some(Ok(contract)) => {
                    for topic in &route.topics {
                        by_topic.entry(topic.clone()).or_default().push(contract);
                    }
                }
            }
        }
    }
    for (topic, contracts) in &by_topic {
        match check(bus, registry, topic, contracts).await {
            Ok(unreadable) => found.extend(unreadable.iter().map(ToString::to_string)),
            Err(why) => found.push(format!(
                "what is retained in {topic} cannot be looked at: {why}"
            )),
        }
    }
    match registry.retained {
        _ if found.is_empty() => Ok(()),
        RetainedCheck::Refuse => Err(ServeError::Retained {
            why: found.join("; and "),
        }),
        _ => {
            for why in found {
                tracing::warn!(
                    why,
                    "the code may not read everything that is retained ({})",
                    Code::SCHEMA_RETAINED
                );
            }
            Ok(())
        }
    }
}

/// What of the topic's records the contracts cannot read. The error says why it could not be found
/// out.
async fn check(
    bus: &Bus,
    registry: &Registry,
    topic: &TopicName,
    contracts: &[&'static Contract],
) -> Result<Vec<Retained>, String> {
    let found = scan(bus, topic, contracts).await?;
    let mut unreadable = Vec::new();
    for ((event, id), partitions) in found {
        let Some(contract) = contracts.iter().find(|contract| contract.event() == event) else {
            continue;
        };
        let (place, why) = match registry.writer(id).await {
            Ok(writer) => {
                let read =
                    contract
                        .parsed()
                        .reads(&writer.parsed, Policy::Strict, &Limits::default());
                (writer.place.clone(), reasons(read))
            }
            Err(error) if error.is_transient() => return Err(error.to_string()),
            Err(error) => (None, vec![error.to_string()]),
        };
        if !why.is_empty() {
            unreadable.push(Retained {
                event: event.to_owned(),
                topic: topic.to_string(),
                schema: id.to_string(),
                place,
                partitions,
                why,
            });
        }
    }
    Ok(unreadable)
}

/// The incompatible differences, in words.
fn reasons(
    read: Result<Vec<wharf_schema::compat::Difference>, wharf_schema::Invalid>,
) -> Vec<String> {
    match read {
        Err(error) => vec![error.what],
        Ok(differences) => differences
            .iter()
            .filter(|difference| !difference.is_compatible)
            .map(|difference| {
                let sentence = difference.sentence(Direction::Backward);
                match &difference.witness {
                    None => sentence,
                    Some(witness) => format!("{sentence}, as in {}", witness.record),
                }
            })
            .collect(),
    }
}

/// By event and schema, where its records are.
async fn scan(
    bus: &Bus,
    topic: &TopicName,
    contracts: &[&'static Contract],
) -> Result<BTreeMap<(&'static str, SchemaId), Places>, String> {
    let history = bus
        .transport()
        .history()
        .map_err(|error| error.to_string())?;
    let extents = history.extents(topic).await;
    let extents = extents.map_err(|error| error.to_string())?;
    let mut found: BTreeMap<(&'static str, SchemaId), Places> = BTreeMap::new();
    for extent in extents.unwrap_or_default() {
        let partition = extent.partition;
        let mut each = |offset: i64, message: &Message| {
            let Some((event, id)) = named(contracts, message) else {
                return;
            };
            let places = found.entry((event, id)).or_default();
            let (_, last, count) = places.entry(partition).or_insert((offset, offset, 0));
            *last = offset;
            *count += 1;
        };
        let read = history.read(topic, extent, &mut each).await;
        read.map_err(|error| error.to_string())?;
    }
    Ok(found)
}

/// The event that a message is for, and the schema that it names.
fn named(contracts: &[&'static Contract], message: &Message) -> Option<(&'static str, SchemaId)> {
    let kind = message.headers.get(header::CE_TYPE)?;
    let contract = contracts
        .iter()
        .find(|contract| contract.event().as_bytes() == &kind[..])?;
    let framed = framed(message).ok()??;
    Some((contract.event(), framed.id))
}
