//! An event's schema in this program: its text, and its payload between JSON and the schema's form.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use serde_json::Value;
use wharf_schema::model::SchemaType;
use wharf_schema::protobuf::texts_of_set;
use wharf_schema::wire::Framed;
use wharf_schema::{Dependency, Limits, Parsed, avro};

use super::Prepared;
use super::avro::Avro;
use super::json;
use super::shape::{Definition, Definitions, Schema, Shape};
use super::{SchemaError, default_of};
use crate::Event;

/// Marks a message whose payload has a contract, from where it is made to where it leaves the bus.
/// It is never published.
pub(crate) const MARK: &str = "wharf-contract";

/// The contracts of this program, by their marks.
static ALL: RwLock<Option<HashMap<usize, &'static Contract>>> = RwLock::new(None);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The schema that an event brings.
#[derive(Debug)]
pub struct Contract {
    event: &'static str,
    topic: &'static str,
    text: String,
    imports: Vec<Dependency>,
    parsed: Parsed,
    form: Form,
    mark: usize,
}

/// How its payloads are written.
enum Form {
    Json,
    Avro(Avro),
    Protobuf(Protobuf),
}

/// What is done with the prost type, on its JSON.
struct Protobuf {
    message: String,
    path: Vec<i32>,
    encode: fn(&[u8]) -> Result<Vec<u8>, String>,
    decode: fn(&[u8]) -> Result<Value, String>,
}

impl std::fmt::Debug for Form {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json => formatter.write_str("Json"),
            Self::Avro(avro) => formatter.debug_tuple("Avro").field(avro).finish(),
            Self::Protobuf(protobuf) => formatter
                .debug_tuple("Protobuf")
                .field(&protobuf.message)
                .finish(),
        }
    }
}

impl Contract {
    /// A JSON Schema made from the event's fields.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`].
    pub fn json<T: Event + Schema>() -> Result<Self, SchemaError> {
        let (root, definitions) = shape::<T>()?;
        let text = json::schema(&root, &definitions).to_string();
        Self::new::<T>(SchemaType::Json, text, Vec::new(), |_| Ok(Form::Json))
    }

    /// An Avro schema made from the event's fields. Its namespace is the event's type without the
    /// last part.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`].
    pub fn avro<T: Event + Schema>() -> Result<Self, SchemaError> {
        let (root, definitions) = shape::<T>()?;
        if !matches!(definitions.get(&root), Some(Definition::Record { .. })) {
            let why = "in Avro an event is a struct with named fields; put the enum into a field";
            return Err(invalid::<T>(why));
        }
        let namespace = T::TYPE.rsplit_once('.').map_or("", |(space, _)| space);
        let avro = Avro::new(root, namespace.replace('-', "_"), definitions);
        let text = avro.schema().map_err(invalid::<T>)?.to_string();
        let form = Form::Avro(avro);
        Self::new::<T>(SchemaType::Avro, text, Vec::new(), |_| Ok(form))
    }

    /// A `.proto` file and the full name of the event's message in it; `imports` are the files that
    /// it imports, by the paths it uses, each after those it imports itself.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`].
    pub fn protobuf<T: Event + prost::Message + Default>(
        message: &str,
        text: &str,
        imports: &[(&str, &str)],
    ) -> Result<Self, SchemaError> {
        let imports = imports.iter().map(|(name, text)| Dependency {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        });
        let form = |parsed: &Parsed| {
            let Parsed::Protobuf(schema) = parsed else {
                return Err("it is no Protobuf".to_owned());
            };
            let path = schema.message_index(message);
            let path = path.ok_or_else(|| format!("the file has no message {message}"))?;
            Ok(Form::Protobuf(Protobuf {
                message: message.to_owned(),
                path,
                encode: encode::<T>,
                decode: decode::<T>,
            }))
        };
        Self::new::<T>(
            SchemaType::Protobuf,
            text.to_owned(),
            imports.collect(),
            form,
        )
    }

    /// The full name of the event's message, and a compiled set of `.proto` files that has it: the bytes
    /// of a `FileDescriptorSet` with its imports, as `protoc --include_imports`, prost-build and protox
    /// write it.
    ///
    /// # Errors
    /// [`SchemaError::Invalid`].
    pub fn protobuf_set<T: Event + prost::Message + Default>(
        message: &str,
        set: &[u8],
    ) -> Result<Self, SchemaError> {
        let texts = texts_of_set(set, message, &Limits::default());
        let (text, imports) = texts.map_err(|error| invalid::<T>(error.what))?;
        let imports = imports.iter().map(|it| (&*it.name, &*it.text));
        Self::protobuf::<T>(message, &text, &imports.collect::<Vec<_>>())
    }

    fn new<T: Event>(
        kind: SchemaType,
        text: String,
        imports: Vec<Dependency>,
        form: impl FnOnce(&Parsed) -> Result<Form, String>,
    ) -> Result<Self, SchemaError> {
        let parsed = Parsed::parse(kind, &text, &imports, &Limits::default());
        let parsed = parsed.map_err(|error| invalid::<T>(error.what))?;
        let form = form(&parsed).map_err(invalid::<T>)?;
        Ok(Self {
            event: T::TYPE,
            topic: T::TOPIC,
            text,
            imports,
            parsed,
            form,
            mark: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The event's type.
    pub fn event(&self) -> &'static str {
        self.event
    }

    /// The event's own topic.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The language of the schema.
    pub fn kind(&self) -> SchemaType {
        self.parsed.kind()
    }

    /// The schema's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The schema, understood.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    /// The full name of the event's type in the schema.
    pub fn name(&self) -> Option<String> {
        match &self.form {
            Form::Protobuf(protobuf) => Some(protobuf.message.clone()),
            _ => self.parsed.name(),
        }
    }

    /// What the schema imports.
    pub(super) fn imports(&self) -> &[Dependency] {
        &self.imports
    }

    /// Which of this program's contracts it is.
    pub(super) fn number(&self) -> usize {
        self.mark
    }

    /// The value of [`MARK`].
    pub(crate) fn mark(&self) -> String {
        self.mark.to_string()
    }

    /// The path of the message, of Protobuf.
    pub(super) fn path(&self) -> Option<&[i32]> {
        match &self.form {
            Form::Protobuf(protobuf) => Some(&protobuf.path),
            _ => None,
        }
    }

    /// The payload of an event whose JSON is given.
    pub(super) fn encode(&self, json: &[u8]) -> Result<Vec<u8>, SchemaError> {
        let value = || serde_json::from_slice::<Value>(json).map_err(|error| error.to_string());
        let written = match &self.form {
            Form::Protobuf(protobuf) => (protobuf.encode)(json),
            Form::Json => value().and_then(|value| {
                let written = self.parsed.encode(&value, &[]);
                written.map_err(|error| error.what)
            }),
            Form::Avro(avro) => value()
                .and_then(|value| avro.to_avro(value))
                .and_then(|value| {
                    let written = self.parsed.encode(&value, &[]);
                    written.map_err(|error| error.what)
                }),
        };
        written.map_err(|why| self.unreadable("written", why))
    }

    /// The event as JSON, from a payload that was written with this schema or another one. What
    /// comes of the comparison of two Avro schemas is asked of `prepared`.
    pub(super) fn decode(
        &self,
        writer: &Parsed,
        framed: &Framed<'_>,
        prepared: impl FnOnce(&avro::Schema, &avro::Schema) -> Prepared,
    ) -> Result<Value, SchemaError> {
        let read = match (&self.form, &self.parsed, writer) {
            (Form::Avro(avro), Parsed::Avro(reader), Parsed::Avro(writer)) => {
                prepared(reader, writer).and_then(|reading| {
                    let value = reading.read(framed.payload());
                    avro.to_serde(value.map_err(|error| error.what)?)
                })
            }
            (Form::Json, _, Parsed::Json(_)) => {
                serde_json::from_slice(framed.payload()).map_err(|error| error.to_string())
            }
            (Form::Protobuf(protobuf), _, Parsed::Protobuf(writer)) => framed
                .message()
                .map_err(|error| error.to_string())
                .and_then(|(path, payload)| match writer.message_name(&path) {
                    Some(name) if name == protobuf.message => (protobuf.decode)(payload),
                    Some(name) => Err(format!("it is a {name}, not a {}", protobuf.message)),
                    None => Err("the file has no such message".to_owned()),
                }),
            (_, own, other) => Err(format!(
                "it was written with {}, and the event has {}",
                other.kind(),
                own.kind()
            )),
        };
        read.map_err(|why| self.unreadable("read", why))
    }

    pub(super) fn unreadable(&self, done: &'static str, why: impl Into<String>) -> SchemaError {
        SchemaError::Unreadable {
            event: self.event.to_owned(),
            done,
            why: why.into(),
        }
    }
}

/// The contract of a mark.
pub(crate) fn of_mark(mark: &[u8]) -> Option<&'static Contract> {
    let mark = std::str::from_utf8(mark).ok()?.parse().ok()?;
    let all = ALL.read().unwrap_or_else(PoisonError::into_inner);
    all.as_ref()?.get(&mark).copied()
}

/// The name of the event's type, and everything it consists of.
fn shape<T: Event + Schema>() -> Result<(String, Definitions), SchemaError> {
    let mut definitions = Definitions::default();
    let shape = T::shape(&mut definitions);
    definitions.check().map_err(invalid::<T>)?;
    match shape {
        Shape::Named(name) => Ok((name, definitions)),
        _ => Err(invalid::<T>("it has no name: give it named fields")),
    }
}

fn invalid<T: Event>(why: impl Into<String>) -> SchemaError {
    SchemaError::Invalid {
        event: T::TYPE.to_owned(),
        why: why.into(),
    }
}

fn encode<T: Event + prost::Message + Default>(json: &[u8]) -> Result<Vec<u8>, String> {
    let event: T = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    Ok(event.encode_to_vec())
}

fn decode<T: Event + prost::Message + Default>(payload: &[u8]) -> Result<Value, String> {
    let event = T::decode(payload).map_err(|error| error.to_string())?;
    default_of(&event).ok_or_else(|| "it has no JSON form".to_owned())
}

/// A contract that is made when it is first asked for; for what the derive writes.
#[derive(Debug)]
pub struct Lazy(OnceLock<Result<Contract, SchemaError>>);

impl Lazy {
    /// Nothing is made yet.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The contract.
    ///
    /// # Errors
    /// That of `make`, which is called once.
    pub fn get(
        &'static self,
        make: impl FnOnce() -> Result<Contract, SchemaError>,
    ) -> Result<&'static Contract, SchemaError> {
        if let Some(made) = self.0.get() {
            return made.as_ref().map_err(Clone::clone);
        }
        let made = self.0.get_or_init(make);
        if let Ok(contract) = made {
            let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
            all.get_or_insert_default().insert(contract.mark, contract);
        }
        made.as_ref().map_err(Clone::clone)
    }
}
