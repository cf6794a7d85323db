//! What a record owes to its topic: a schema that the registry knows, that belongs to the subject,
//! and with which its bytes can be read.
//!
//! Records come from strangers: nothing here panics, and every sentence says what to do.

use std::fmt;

use crate::Parsed;
use crate::registry::{Refusal, Registered, Registry};
use crate::wire::{Framed, SchemaId};

/// How the subject of a record is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// `<topic>-key` or `<topic>-value`.
    #[default]
    Topic,
    /// The full name of the record's type.
    Record,
    /// `<topic>-<full name of the record's type>`.
    TopicRecord,
}

impl Strategy {
    /// The subject; `None` where a name is needed and the type has none.
    pub fn subject(self, topic: &str, part: Part, name: Option<&str>) -> Option<String> {
        match self {
            Self::Topic => Some(format!("{topic}-{part}")),
            Self::Record => name.map(str::to_owned),
            Self::TopicRecord => name.map(|name| format!("{topic}-{name}")),
        }
    }
}

/// The key or the value of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl Part {
    /// The record header that names its schema.
    pub fn header(self) -> &'static str {
        match self {
            Self::Key => crate::wire::KEY_HEADER,
            Self::Value => crate::wire::VALUE_HEADER,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Key => "key",
            Self::Value => "value",
        })
    }
}

/// What is asked of one part of the records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Which part of a record.
    pub part: Part,
    /// How its subject is found.
    pub strategy: Strategy,
    /// Whether its bytes must be readable.
    pub is_deep: bool,
}

impl Contract<'_> {
    /// Checks the bytes of a record; `header` is the last one of [`Part::header`], if there is one.
    ///
    /// # Errors
    /// Why the record breaks the contract, and what to do, in one sentence.
    pub fn check(
        &self,
        registry: &Registry,
        header: Option<&[u8]>,
        bytes: &[u8],
    ) -> Result<(), String> {
        let part = self.part;
        let framed = Framed::read(header, bytes).map_err(|why| {
            format!(
                "the {part} names no schema: {why}; write it with a serializer that uses the \
                 registry"
            )
        })?;
        let uses = self.uses(registry, framed.id)?;
        let found = self.find(registry, &framed, &uses)?;
        if self.is_deep {
            self.read(registry, &framed, found)?;
        }
        Ok(())
    }

    /// Every version that the name of a schema stands for.
    fn uses(&self, registry: &Registry, id: SchemaId) -> Result<Vec<Registered>, String> {
        let found = match id {
            SchemaId::Id(id) => registry.versions_of_id(id, None, true),
            SchemaId::Guid(guid) => registry
                .by_guid(guid)
                .map(|found| by_same_guid(registry, &found)),
        };
        match found {
            Ok(uses) if !uses.is_empty() => Ok(uses),
            Ok(_) | Err(_) => Err(format!(
                "the {} names the schema of {id}, which the registry does not have; register the \
                 schema before it is used",
                self.part
            )),
        }
    }

    /// The version by which the schema belongs to the subject.
    fn find<'a>(
        &self,
        registry: &Registry,
        framed: &Framed<'_>,
        uses: &'a [Registered],
    ) -> Result<&'a Registered, String> {
        let (part, id) = (self.part, framed.id);
        let name = match self.strategy {
            Strategy::Topic => None,
            Strategy::Record | Strategy::TopicRecord => self.name(registry, framed, &uses[0])?,
        };
        let subject = self
            .strategy
            .subject(self.topic, part, name.as_deref())
            .ok_or_else(|| {
                format!(
                    "the type of the {part} has no name, and the subject is named after it; give \
                     the schema of {id} a name (in JSON Schema a title)"
                )
            })?;
        let mut own = uses.iter().filter(|found| *found.subject == *subject);
        let first = own.clone().next();
        match (own.find(|found| !found.deleted), first) {
            (Some(found), _) => Ok(found),
            (None, Some(_)) => Err(format!(
                "the schema of the {part}, {id}, was deleted from {subject}; use one of the \
                 versions that are left, or register it again"
            )),
            (None, None) => Err(format!(
                "the schema of the {part}, {id}, belongs to {} and not to {subject}; register it \
                 under {subject}, or send the record where it belongs",
                uses[0].subject
            )),
        }
    }

    /// The name of the record's type.
    fn name(
        &self,
        registry: &Registry,
        framed: &Framed<'_>,
        found: &Registered,
    ) -> Result<Option<String>, String> {
        let parsed = self.parsed(registry, found)?;
        match &*parsed {
            Parsed::Protobuf(schema) => {
                let (path, _) = framed.message().map_err(|why| why.to_string())?;
                Ok(schema.message_name(&path))
            }
            parsed => Ok(parsed.name()),
        }
    }

    fn parsed(
        &self,
        registry: &Registry,
        found: &Registered,
    ) -> Result<std::sync::Arc<Parsed>, String> {
        registry.parsed(found).map_err(|Refusal { message, .. }| {
            format!(
                "the schema of the {}, version {} of {}, cannot be used: {message}",
                self.part, found.version, found.subject
            )
        })
    }

    fn read(
        &self,
        registry: &Registry,
        framed: &Framed<'_>,
        found: &Registered,
    ) -> Result<(), String> {
        let parsed = self.parsed(registry, found)?;
        let read = match &*parsed {
            Parsed::Protobuf(_) => {
                let message = framed.message().map_err(|why| why.to_string());
                message.and_then(|(path, payload)| {
                    let read = parsed.decode(payload, &path);
                    read.map_err(|why| why.what)
                })
            }
            _ => {
                let read = parsed.decode(framed.payload(), &[]);
                read.map_err(|why| why.what)
            }
        };
        read.map(drop).map_err(|why| {
            format!(
                "the {} cannot be read with the schema that it names, version {} of {}: {why}; \
                 write it with that schema, or name the one it was written with",
                self.part, found.version, found.subject
            )
        })
    }
}

/// The versions that share the GUID of one, in every context.
fn by_same_guid(registry: &Registry, found: &Registered) -> Vec<Registered> {
    let ids = registry.ids_of_guid(found.content.guid);
    let of_id = |(context, id): (String, i32)| {
        let context = crate::registry::Subject::context_only(&context);
        registry.versions_of_id(id, Some(&context), true)
    };
    let versions = ids.into_iter().filter_map(|place| of_id(place).ok());
    versions.flatten().collect()
}

#[cfg(test)]
mod tests {
    use wharf_message::Timestamp;

    use super::*;
    use crate::model::SchemaType;
    use crate::registry::{Decision, Registration, Settings, Subject};
    use crate::wire;

    const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"string"},{"name":"cents","type":"long"}]}"#;
    const PROTO: &str = r#"syntax = "proto3"; package shop;
        message Other { string note = 1; }
        message Paid { message Detail { int64 cents = 1; } }"#;
    const JSON: &str =
        r#"{"type":"object","properties":{"id":{"type":"string"}},"required":["id"]}"#;

    struct World(Registry);

    impl World {
        fn new() -> Self {
            Self(Registry::new(Settings::default()))
        }

        fn now() -> Timestamp {
            Timestamp::from_millis(1)
        }

        fn apply<T>(&mut self, decision: Decision<T>) -> T {
            for (key, value) in &decision.records {
                let offset = self.0.next_offset();
                self.0
                    .apply(offset, Self::now(), Some(key), value.as_deref());
            }
            decision.answer
        }

        fn register(&mut self, subject: &str, kind: SchemaType, text: &str) -> Registered {
            let schema = Registration::new(kind, text);
            let decision = self.0.register(
                &Subject::parse(subject),
                &schema,
                Default::default(),
                Self::now(),
            );
            let decision = decision.unwrap();
            self.apply(decision)
        }
    }

    fn contract(strategy: Strategy, is_deep: bool) -> Contract<'static> {
        Contract {
            topic: "orders",
            part: Part::Value,
            strategy,
            is_deep,
        }
    }

    fn framed(id: SchemaId, path: Option<&[i32]>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::write(id, path, &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The Avro record `{"id": "o", "cents": 1}`.
    const PAYLOAD: &[u8] = &[2, b'o', 2];

    #[test]
    fn a_record_must_name_a_schema_that_there_is_under_the_subject() {
        let mut world = World::new();
        let own = world.register("orders-value", SchemaType::Avro, ORDER);
        let other = world.register("payments-value", SchemaType::Avro, r#""string""#);
        let check = |bytes: &[u8]| contract(Strategy::Topic, false).check(&world.0, None, bytes);
        assert_eq!(check(&framed(SchemaId::Id(own.id), None, PAYLOAD)), Ok(()));
        assert_eq!(check(&framed(SchemaId::Id(own.id), None, b"!")), Ok(()));
        let why = check(br#"{"id":"o"}"#).unwrap_err();
        assert!(why.contains("begins with the byte 0x7b"), "{why}");
        let why = check(&framed(SchemaId::Id(99), None, PAYLOAD)).unwrap_err();
        assert!(why.contains("id 99"), "{why}");
        let why = check(&framed(SchemaId::Id(other.id), None, PAYLOAD)).unwrap_err();
        assert!(
            why.contains("belongs to payments-value and not to orders-value"),
            "{why}"
        );
    }

    #[test]
    fn a_guid_in_a_header_is_as_good_as_an_id() {
        let mut world = World::new();
        let own = world.register("orders-value", SchemaType::Avro, ORDER);
        let header = framed(SchemaId::Guid(own.content.guid), None, b"");
        let deep = contract(Strategy::Topic, true);
        assert_eq!(deep.check(&world.0, Some(&header), PAYLOAD), Ok(()));
        let unknown = framed(SchemaId::Guid(uuid::Uuid::nil()), None, b"");
        assert!(deep.check(&world.0, Some(&unknown), PAYLOAD).is_err());
        assert!(deep.check(&world.0, Some(b""), PAYLOAD).is_err());
    }

    #[test]
    fn a_deep_look_reads_the_bytes() {
        let mut world = World::new();
        let avro = world.register("orders-value", SchemaType::Avro, ORDER);
        let json = world.register("json-value", SchemaType::Json, JSON);
        let deep = contract(Strategy::Topic, true);
        let check = |bytes: &[u8]| deep.check(&world.0, None, bytes);
        assert_eq!(check(&framed(SchemaId::Id(avro.id), None, PAYLOAD)), Ok(()));
        let why = check(&framed(SchemaId::Id(avro.id), None, &PAYLOAD[..2])).unwrap_err();
        assert!(why.contains("version 1 of orders-value"), "{why}");
        let json_deep = Contract {
            topic: "json",
            ..deep
        };
        let good = framed(SchemaId::Id(json.id), None, br#"{"id":"o"}"#);
        assert_eq!(json_deep.check(&world.0, None, &good), Ok(()));
        let bad = framed(SchemaId::Id(json.id), None, br#"{"id":1}"#);
        assert!(json_deep.check(&world.0, None, &bad).is_err());
    }

    #[test]
    fn subjects_named_after_types_take_the_message_that_the_path_names() {
        let mut world = World::new();
        let proto = world.register("shop.Paid.Detail", SchemaType::Protobuf, PROTO);
        let id = SchemaId::Id(proto.id);
        let deep = contract(Strategy::Record, true);
        let own = framed(id, Some(&[1, 0]), &[8, 5]);
        assert_eq!(deep.check(&world.0, None, &own), Ok(()));
        let why = deep
            .check(&world.0, None, &framed(id, Some(&[0]), &[]))
            .unwrap_err();
        assert!(why.contains("not to shop.Other"), "{why}");
        let broken = framed(id, Some(&[1, 0]), &[8]);
        assert!(deep.check(&world.0, None, &broken).is_err());
        let beyond = framed(id, Some(&[7, 7]), &[8, 5]);
        assert!(deep.check(&world.0, None, &beyond).is_err());

        let avro = world.register("orders-shop.Order", SchemaType::Avro, ORDER);
        let of_topic = contract(Strategy::TopicRecord, true);
        let bytes = framed(SchemaId::Id(avro.id), None, PAYLOAD);
        assert_eq!(of_topic.check(&world.0, None, &bytes), Ok(()));
        assert!(deep.check(&world.0, None, &bytes).is_err());
    }

    #[test]
    fn a_deleted_version_is_none_of_the_subject_any_more() {
        let mut world = World::new();
        let own = world.register("orders-value", SchemaType::Avro, ORDER);
        let deleted = world
            .0
            .delete_subject(&Subject::parse("orders-value"), false);
        world.apply(deleted.unwrap());
        let bytes = framed(SchemaId::Id(own.id), None, PAYLOAD);
        let why = contract(Strategy::Topic, false)
            .check(&world.0, None, &bytes)
            .unwrap_err();
        assert!(why.contains("was deleted from orders-value"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged(header in proptest::option::of(proptest::collection::vec(0..=255_u8, 0..24)),
            bytes in proptest::collection::vec(0..=255_u8, 0..64)) {
            let mut world = World::new();
            world.register("orders-value", SchemaType::Avro, ORDER);
            for strategy in [Strategy::Topic, Strategy::Record, Strategy::TopicRecord] {
                drop(contract(strategy, true).check(&world.0, header.as_deref(), &bytes));
                let framed = framed(SchemaId::Id(1), None, &bytes);
                drop(contract(strategy, true).check(&world.0, None, &framed));
            }
        }
    }
}
