//! What a verdict says is looked for in real messages: each witness fails, and what is compatible
//! reads what was written.

use proptest::collection::vec;
use proptest::prelude::*;
use prost_reflect::prost::Message as _;
use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value};
use wharf_schema::compat::{Difference, Outcome, Policy};
use wharf_schema::{Limits, protobuf::Schema};

use super::generate::{File, change, file};

/// Differences that the verdict allows although values can be lost: nothing is claimed of messages
/// of schemas that have one.
const NO_CLAIM: [&str; 3] = [
    "FIELD_CARDINALITY_CHANGED",
    "FIELD_REQUIRED_CHANGED",
    "FIELD_SCALAR_TYPE_CHANGED",
];

fn parse(file: &File) -> Schema {
    let text = file.text("");
    let parsed = Schema::parse(&text, &[], &Limits::default());
    parsed.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn reads(new: &Schema, old: &Schema) -> Vec<Difference> {
    new.reads(old, Policy::Strict, &Limits::default()).unwrap()
}

/// The messages of a file, by a compiler of their own.
fn messages(file: &File) -> Vec<MessageDescriptor> {
    let source = protox::file::File::from_source("f.proto", &file.text("")).unwrap();
    let mut pool = prost_reflect::DescriptorPool::new();
    pool.add_file_descriptor_proto(source.into()).unwrap();
    let file = pool.get_file_by_name("f.proto").unwrap();
    file.messages().collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The message that a witness is a record of: the one whose name is the front of the path.
fn index_of(schema: &Schema, path: &str, package: u8) -> Option<Vec<i32>> {
    let name = path.split('.').nth(1)?;
    schema.message_index(&format!("p{package}.{name}"))
}

/// A message with chosen values; nested ones as deep as the choices reach.
fn sample(message: MessageDescriptor, choices: &mut dyn Iterator<Item = u8>) -> DynamicMessage {
    let mut record = DynamicMessage::new(message);
    for field in record.descriptor().fields() {
        let choice = choices.next().unwrap_or(0);
        if choice.is_multiple_of(4) && !field.is_required() {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                continue;
            };
            let key = single(&entry.map_entry_key_field().kind(), choice, choices);
            let value = single(&entry.map_entry_value_field().kind(), choice, choices);
            key.and_then(Value::into_map_key)
                .zip(value)
                .map(|(key, value)| Value::Map([(key, value)].into()))
        } else if field.is_list() {
            let items = (0..choice % 3).filter_map(|_| single(&field.kind(), choice, choices));
            Some(Value::List(items.collect()))
        } else {
            single(&field.kind(), choice, choices)
        };
        if let Some(value) = value {
            record.set_field(&field, value);
        }
    }
    record
}

fn single(kind: &Kind, choice: u8, choices: &mut dyn Iterator<Item = u8>) -> Option<Value> {
    let number = i32::from(choice) - 100;
    Some(match kind {
        Kind::Double => Value::F64(f64::from(number)),
        Kind::Float => Value::F32(f32::from(choice)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(number) << 30),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::from(choice)),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(choice) << 40),
        Kind::Bool => Value::Bool(choice.is_multiple_of(2)),
        Kind::String => Value::String(format!("s{choice}")),
        Kind::Bytes => Value::Bytes(Bytes::from(vec![choice, 255])),
        Kind::Enum(one) => {
            let at = usize::from(choice) % one.values().len();
            Value::EnumNumber(one.values().nth(at)?.number())
        }
        Kind::Message(message) => {
            let mut rest = choices.take(6).collect::<Vec<_>>().into_iter();
            if rest.len() < 6 {
                return None;
            }
            Value::Message(sample(message.clone(), &mut rest))
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_witness_of_a_protobuf_change_fails_or_reads_differently(
        old in file(),
        changes in vec(change(), 1..4),
    ) {
        let new = changes.iter().fold(old.clone(), File::with);
        let (writer, reader) = (parse(&old), parse(&new));
        for difference in reads(&reader, &writer) {
            let Some(witness) = &difference.witness else { continue };
            prop_assert!(!difference.is_compatible);
            let payload = bytes(&witness.payload);
            let index = index_of(&writer, &difference.path, old.package).unwrap();
            let written = writer.decode(&payload, &index).unwrap();
            prop_assert_eq!(&written, &witness.record);
            prop_assert_eq!(&writer.encode(&witness.record, &index).unwrap(), &payload);
            let read = index_of(&reader, &difference.path, new.package)
                .map(|index| reader.decode(&payload, &index));
            match (&witness.outcome, read) {
                (Outcome::Unreadable(_), None) => prop_assert_eq!(difference.kind, "MESSAGE_REMOVED"),
                (Outcome::Unreadable(why), Some(read)) => prop_assert_eq!(&read.unwrap_err().what, why),
                (Outcome::ReadsDifferently(value), Some(read)) => prop_assert_eq!(&read.unwrap(), value),
                (outcome, None) => prop_assert!(false, "{outcome:?} without a reader"),
            }
        }
    }

    #[test]
    fn a_compatible_protobuf_change_reads_every_message_that_was_written(
        old in file(),
        changes in vec(change(), 1..4),
        choices in vec(any::<u8>(), 64),
    ) {
        let new = changes.iter().fold(old.clone(), File::with);
        let (writer, reader) = (parse(&old), parse(&new));
        let found = reads(&reader, &writer);
        let is_claimed = |difference: &Difference| {
            difference.is_compatible && !NO_CLAIM.contains(&difference.kind)
        };
        if !found.iter().all(is_claimed) {
            return Ok(());
        }
        let readers = messages(&new);
        for message in messages(&old) {
            let record = sample(message.clone(), &mut choices.iter().copied());
            let payload = record.encode_to_vec();
            let index = writer.message_index(message.full_name()).unwrap();
            // A sample that the bounds cut may lack what is required.
            let Ok(_) = writer.decode(&payload, &index) else { continue };
            let index = reader.message_index(message.full_name()).unwrap();
            prop_assert!(reader.decode(&payload, &index).is_ok(), "{found:?}");
            let own = readers.iter().find(|one| one.full_name() == message.full_name()).unwrap();
            let read = DynamicMessage::decode(own.clone(), &payload[..]).unwrap();
            for (field, value) in record.fields() {
                let Some(seen) = own.get_field(field.number()) else { continue };
                if value.as_message().is_none() && value.as_list().is_none() && value.as_map().is_none() {
                    prop_assert_eq!(&*read.get_field(&seen), value, "{:?}", field);
                }
            }
        }
    }

    #[test]
    fn a_protobuf_file_reads_what_it_wrote_and_its_texts_are_stable(one in file()) {
        let schema = parse(&one);
        prop_assert!(reads(&schema, &schema).is_empty());
        let limits = Limits::default();
        for text in [schema.canonical(), schema.normalized(), schema.formatted("ignore_extensions").unwrap()] {
            let again = Schema::parse(&text, &[], &limits).unwrap();
            prop_assert_eq!(again.canonical(), text);
            prop_assert_eq!(again.normalized(), schema.normalized());
            prop_assert!(reads(&again, &schema).is_empty());
        }
        let sent = schema.formatted("serialized").unwrap();
        let sent = Schema::parse(&sent, &[], &limits).unwrap();
        prop_assert_eq!(sent.normalized(), schema.normalized());
        prop_assert!(reads(&sent, &schema).iter().all(|difference| difference.is_compatible));
    }
}
