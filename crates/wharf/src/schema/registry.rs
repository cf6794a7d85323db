//! A registry as a bus uses it: subjects, registering, the wire format, and what is remembered.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use wharf_message::{Message, TopicName, header};
use wharf_schema::contract::{Part, Strategy};
use wharf_schema::model::{Reference, SchemaType};
use wharf_schema::registry::guid;
use wharf_schema::wire::{self, Framed, SchemaId, VALUE_HEADER};
use wharf_schema::{Dependency, Limits, Parsed, avro};

use super::cache::Cache;
use super::contract::{Contract, MARK, of_mark};
use super::http::Http;
use super::memory::Memory;
use super::store::{Named, Sent, Store};
use super::{Prepared, RetainedCheck, SchemaError};
use crate::bus::Bus;

/// How many comparisons of a reader's and a writer's Avro schema are kept.
const READINGS_MAX: usize = 1_000;
/// The media type of a payload that begins with the name of its schema.
const PREFIXED: &str = "application/octet-stream";

/// How a record names its schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By its id, before the payload: what every client reads.
    #[default]
    Prefix,
    /// By its GUID, in the header `__value_schema_id`; the payload stands alone.
    Header,
}

/// A schema registry with the settings of a service. Cheap to clone; clones remember together.
///
/// ```
/// use wharf::schema::{Framing, Registry, Strategy};
///
/// let registry = Registry::connect("http://127.0.0.1:8081")?
///     .subjects(Strategy::TopicRecord)
///     .auto_register(false)
///     .framing(Framing::Header);
/// # let _: Registry = registry;
/// # Ok::<(), wharf::schema::SchemaError>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    strategy: Strategy,
    registers: bool,
    framing: Framing,
    pub(super) retained: RetainedCheck,
    /// What contracts are called under a subject.
    names: Arc<Cache<(String, String, bool), Arc<Named>>>,
    /// What wrote records.
    writers: Arc<Cache<SchemaId, Arc<Writer>>>,
    /// What a contract makes of what a schema wrote. One takes much more memory than a schema.
    readings: Arc<Cache<(usize, SchemaId), Prepared, READINGS_MAX>>,
}

/// A schema that records were written with.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) parsed: Parsed,
    /// Where it is found.
    pub(super) place: Option<(String, i32)>,
}

impl Registry {
    /// The registry at an address: Wharf's own, Confluent's, or another that speaks its API. A user and
    /// a password may stand before the host. Nothing is sent yet.
    ///
    /// # Errors
    /// When it is no address.
    pub fn connect(address: &str) -> Result<Self, SchemaError> {
        Ok(Self::of(Arc::new(Http::new(address)?)))
    }

    /// A registry in this program, which begins empty and goes with it: for tests.
    pub fn in_memory() -> Self {
        Self::of(Arc::new(Memory::new()))
    }

    pub(super) fn of(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            strategy: Strategy::default(),
            registers: true,
            framing: Framing::default(),
            retained: RetainedCheck::default(),
            names: Arc::default(),
            writers: Arc::default(),
            readings: Arc::default(),
        }
    }

    /// Which subject an event's schema belongs to; [`Strategy::Topic`] by default.
    #[must_use]
    pub fn subjects(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }

    /// Whether schemas are registered before they are used, which is the default. Otherwise they must
    /// be there: a pipeline registers them.
    #[must_use]
    pub fn auto_register(self, registers: bool) -> Self {
        Self { registers, ..self }
    }

    /// How records name their schema; [`Framing::Prefix`] by default. Both are read.
    #[must_use]
    pub fn framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// What happens at the start of a service whose code cannot read what is retained in its topics;
    /// [`RetainedCheck::Warn`] by default.
    #[must_use]
    pub fn check_retained(self, retained: RetainedCheck) -> Self {
        Self { retained, ..self }
    }

    /// The message as it is published: one that was made of an event with a contract is written with
    /// its schema.
    pub(crate) async fn write(
        &self,
        topic: &TopicName,
        mut message: Message,
    ) -> Result<Message, SchemaError> {
        let contract = message.headers.get(MARK).and_then(|mark| of_mark(mark));
        let Some(contract) = contract else {
            return Ok(message);
        };
        message.headers.remove(MARK);
        // A reply's topic belongs to who asked; what is in it belongs to the event.
        let topic = match topic.as_str().starts_with("replies.") {
            true => contract.topic(),
            false => topic.as_str(),
        };
        let named = self.named(contract, topic).await?;
        let payload = contract.encode(message.payload.as_deref().unwrap_or_default())?;
        let mut frame = Vec::with_capacity(payload.len() + 24);
        match self.framing {
            Framing::Prefix => {
                wire::write(SchemaId::Id(named.id), contract.path(), &mut frame);
                frame.extend_from_slice(&payload);
                message.payload = Some(frame.into());
                message.headers.set(header::CONTENT_TYPE, PREFIXED);
            }
            Framing::Header => {
                let guid = named.guid.ok_or_else(|| SchemaError::Refused {
                    what: format!("the GUID of {}", contract.event()),
                    why: "it has none, so records must name ids: Framing::Prefix".to_owned(),
                })?;
                wire::write(SchemaId::Guid(guid), contract.path(), &mut frame);
                message.headers.set(VALUE_HEADER, frame);
                message
                    .headers
                    .set(header::CONTENT_TYPE, media(contract.kind()));
                message.payload = Some(payload.into());
            }
        }
        Ok(message)
    }

    /// What the registry calls the contract of records in a topic.
    async fn named(
        &self,
        contract: &'static Contract,
        topic: &str,
    ) -> Result<Arc<Named>, SchemaError> {
        let name = contract.name();
        let subject = self.strategy.subject(topic, Part::Value, name.as_deref());
        let subject = subject.ok_or_else(|| SchemaError::Invalid {
            event: contract.event().to_owned(),
            why: "its subject is named after its type, and the schema has no name".to_owned(),
        })?;
        let key = (contract.mark(), subject, self.registers);
        if let Some(named) = self.names.get(&key) {
            return Ok(named);
        }
        let mut references = Vec::with_capacity(contract.imports().len());
        for import in contract.imports() {
            let reference = self.import(contract, import, &references).await?;
            references.push(reference);
        }
        let sent = Sent {
            kind: contract.kind(),
            text: contract.text().to_owned(),
            references: direct(contract.text(), &references),
        };
        let named = self.name(&key.1, &sent).await?;
        let parsed = contract.parsed().clone();
        let place = Some((key.1.clone(), named.version));
        let writer = Arc::new(Writer { parsed, place });
        self.writers
            .put(SchemaId::Id(named.id), Arc::clone(&writer));
        let named = Arc::new(named);
        if let Some(guid) = named.guid {
            self.writers.put(SchemaId::Guid(guid), writer);
        }
        self.names.put(key, Arc::clone(&named));
        Ok(named)
    }

    /// A file that a contract imports, under the subject of its path, as Confluent's clients do.
    async fn import(
        &self,
        contract: &Contract,
        import: &Dependency,
        before: &[Reference],
    ) -> Result<Reference, SchemaError> {
        let sent = Sent {
            kind: contract.kind(),
            text: import.text.clone(),
            references: direct(&import.text, before),
        };
        let named = self.name(&import.name, &sent).await?;
        Ok(Reference {
            name: import.name.clone(),
            subject: import.name.clone(),
            version: named.version,
        })
    }

    async fn name(&self, subject: &str, sent: &Sent) -> Result<Named, SchemaError> {
        let named = match self.registers {
            true => self.store.register(subject, sent).await?,
            false => self.store.find(subject, sent).await?,
        };
        let own = || guid(&sent.text, &sent.references, None, None);
        // What a registry does not say can be computed, where it keeps the text as it was sent.
        let is_plain = sent.kind == SchemaType::Json;
        Ok(Named {
            guid: named.guid.or_else(|| is_plain.then(own)),
            ..named
        })
    }

    /// Whether a message names a schema that was not asked for yet.
    pub(crate) fn lacks(&self, message: &Message) -> bool {
        match framed(message) {
            Ok(Some(framed)) => self.writers.get(&framed.id).is_none(),
            Ok(None) | Err(_) => false,
        }
    }

    /// Asks for the schema that a message names, if it names one.
    pub(crate) async fn fetch(&self, message: &Message) -> Result<(), SchemaError> {
        match framed(message) {
            Ok(Some(framed)) => self.writer(framed.id).await.map(drop),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn writer(&self, id: SchemaId) -> Result<Arc<Writer>, SchemaError> {
        if let Some(writer) = self.writers.get(&id) {
            return Ok(writer);
        }
        let kept = self.store.get(id).await?;
        // Older registries let unsound defaults and names pass, and what they hold must stay readable.
        let parsed = Parsed::parse_stored(
            kept.kind,
            &kept.text,
            &kept.dependencies,
            &Limits::default(),
        );
        let parsed = parsed.map_err(|error| SchemaError::Refused {
            what: format!("the schema of {id}"),
            why: format!("what it gave cannot be understood: {error}"),
        })?;
        let place = kept.place;
        let writer = Arc::new(Writer { parsed, place });
        self.writers.put(id, Arc::clone(&writer));
        Ok(writer)
    }

    /// The event as JSON, with the schema that its message names and that was fetched; `None` where it
    /// names none.
    pub(crate) fn read(
        &self,
        contract: &Contract,
        message: &Message,
    ) -> Result<Option<Value>, SchemaError> {
        let framed =
            framed(message).map_err(|error| contract.unreadable("read", error.to_string()))?;
        let Some(framed) = framed else {
            return Ok(None);
        };
        let writer = self
            .writers
            .get(&framed.id)
            .ok_or_else(|| SchemaError::Unreachable {
                what: format!("the schema of {}", framed.id),
                why: "it was not fetched".to_owned(),
            })?;
        let prepared = |reader: &_, writer: &_| self.prepared(contract, framed.id, reader, writer);
        contract.decode(&writer.parsed, &framed, prepared).map(Some)
    }

    /// The comparison of a contract with the schema of an id, which never changes.
    pub(super) fn prepared(
        &self,
        contract: &Contract,
        id: SchemaId,
        reader: &avro::Schema,
        writer: &avro::Schema,
    ) -> Prepared {
        let key = (contract.number(), id);
        if let Some(prepared) = self.readings.get(&key) {
            return prepared;
        }
        let prepared = reader.reading(writer, &Limits::default());
        let prepared = prepared.map(Arc::new).map_err(|error| error.what);
        self.readings.put(key, prepared.clone());
        prepared
    }
}

impl Bus {
    /// The same with a schema registry: events with a contract are written in Confluent's wire format
    /// and read with the schema that they name. See [`crate::schema`].
    #[must_use]
    pub fn with_registry(&self, registry: &Registry) -> Self {
        let registry = registry.clone();
        self.with(|shared| shared.checking.schemas = Some(registry))
    }
}

/// The references to what a text imports itself; what is imported by imports is theirs.
fn direct(text: &str, references: &[Reference]) -> Vec<Reference> {
    let all = references.iter();
    let named = all.filter(|reference| text.contains(&format!("\"{}\"", reference.name)));
    named.cloned().collect()
}

/// The name that a message gives its schema; `None` for plain JSON, which begins with none.
pub(super) fn framed(message: &Message) -> Result<Option<Framed<'_>>, wire::Unframed> {
    let header = message.headers.get(VALUE_HEADER).map(|value| &value[..]);
    let Some(payload) = message.payload.as_deref() else {
        return Ok(None);
    };
    match Framed::read(header, payload) {
        Ok(framed) => Ok(Some(framed)),
        Err(_) if header.is_none() && !matches!(payload.first(), Some(0 | 1)) => Ok(None),
        Err(broken) => Err(broken),
    }
}

/// Refuses a message that names a schema, for a bus without a registry to ask for it.
pub(crate) fn unframed(contract: &Contract, message: &Message) -> Result<(), SchemaError> {
    match framed(message) {
        Ok(None) => Ok(()),
        Ok(Some(framed)) => Err(contract.unreadable(
            "read",
            format!(
                "it names the schema of {}, and the bus has no registry: Bus::with_registry",
                framed.id
            ),
        )),
        Err(error) => Err(contract.unreadable("read", error.to_string())),
    }
}

fn media(kind: SchemaType) -> &'static str {
    match kind {
        SchemaType::Avro => "application/avro",
        SchemaType::Json => "application/json",
        SchemaType::Protobuf => "application/protobuf",
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("store", &self.store)
            .field("strategy", &self.strategy)
            .field("registers", &self.registers)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}
