//! Messages that show what breaks: written with the old type, read with the new one.
//!
//! A few values are tried for the fields that a difference is about. A witness is given only when
//! the new type really cannot read the bytes, or reads something else than was written; where no
//! value shows it, there is none. The number of values in a message is bounded.

use prost_reflect::prost::Message as _;
use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

use super::codec;
use crate::compat::{Outcome, Witness};

/// How many values a message that is made up holds at most.
const VALUES_MAX: usize = 200;

/// How deep messages are made up.
const DEPTH_MAX: usize = 4;

/// A message of the old type in which the fields of these numbers are set, if there is one that the
/// new type fails on.
pub(super) fn of_fields(
    old: &MessageDescriptor,
    new: &MessageDescriptor,
    numbers: &[u32],
) -> Option<(DynamicMessage, Witness)> {
    let base = least(old)?;
    let mut fields = numbers.iter().filter_map(|number| old.get_field(*number));
    let Some(first) = fields.next() else {
        return shown(base, new);
    };
    // Without the field at all: what is required only now shows in that.
    if first.supports_presence() && !first.is_required() {
        let absent = shown(base.clone(), new);
        let is_required_now = new
            .get_field(first.number())
            .is_some_and(|field| field.is_required());
        if is_required_now && absent.is_some() {
            return absent;
        }
    }
    let mut full = base;
    for field in fields {
        if let Some(value) = values(&field).into_iter().next() {
            full.set_field(&field, value);
        }
    }
    values(&first).into_iter().find_map(|value| {
        let mut record = full.clone();
        record.set_field(&first, value);
        shown(record, new)
    })
}

/// A message with a field that holds a message which the new type of the field fails on.
pub(super) fn of_user(
    field: &FieldDescriptor,
    new: &MessageDescriptor,
    inner: &DynamicMessage,
) -> Option<(DynamicMessage, Witness)> {
    let mut record = least(field.parent_message())?;
    let value = if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let key = plain_values(&entry.map_entry_key_field().kind())
            .into_iter()
            .next()?
            .into_map_key()?;
        Value::Map([(key, Value::Message(inner.clone()))].into())
    } else if field.is_list() {
        Value::List(vec![Value::Message(inner.clone())])
    } else {
        Value::Message(inner.clone())
    };
    record.try_set_field(field, value).ok()?;
    shown(record, new)
}

/// Any message of a type that the reader does not have.
pub(super) fn of_removed(message: &MessageDescriptor) -> Option<Witness> {
    let record = full(message.clone(), DEPTH_MAX, &mut VALUES_MAX.clone())?;
    let reason = format!("there is no message {}", message.name());
    Some(witness(&record, Outcome::Unreadable(reason)))
}

fn witness(record: &DynamicMessage, outcome: Outcome) -> Witness {
    let payload = record.encode_to_vec();
    Witness {
        record: codec::to_json(record),
        payload: payload.iter().map(|byte| format!("{byte:02x}")).collect(),
        outcome,
    }
}

/// The record with what becomes of it, if that is not what it was.
fn shown(record: DynamicMessage, reader: &MessageDescriptor) -> Option<(DynamicMessage, Witness)> {
    let payload = record.encode_to_vec();
    // What the old type does not read itself shows nothing.
    let written = codec::decode(record.descriptor(), &payload).ok()?;
    let outcome = match codec::decode(reader.clone(), &payload) {
        Err(error) => Outcome::Unreadable(error.what),
        Ok(read) if same(&written, &read) => return None,
        Ok(read) => Outcome::ReadsDifferently(codec::to_json(&read)),
    };
    let witness = witness(&record, outcome);
    Some((record, witness))
}

/// Whether a reader sees the values that were written, and loses none.
pub(super) fn same(written: &DynamicMessage, read: &DynamicMessage) -> bool {
    let is_kept = |(field, value): (FieldDescriptor, &Value)| {
        let seen = read.descriptor().get_field(field.number());
        seen.is_some_and(|seen| {
            let has_value = read.has_field(&seen) || value.is_default_for_field(&field);
            has_value && same_value(value, &read.get_field(&seen))
        })
    };
    let is_written = |(field, value): (FieldDescriptor, &Value)| {
        let seen = written.descriptor().get_field(field.number());
        seen.is_some_and(|seen| written.has_field(&seen)) || value.is_default_for_field(&field)
    };
    read.unknown_fields().count() == written.unknown_fields().count()
        && written.fields().all(is_kept)
        && read.fields().all(is_written)
}

/// Whether two values mean the same: numbers, truth values and enums by their number, texts and
/// bytes by their bytes, a single value as a list of one.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Message(a), Value::Message(b)) => same(a, b),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::List(items), one) | (one, Value::List(items)) => {
            matches!(&items[..], [item] if same_value(item, one))
        }
        (Value::Map(a), Value::Map(b)) => {
            let values = |(key, value): (&MapKey, &Value)| {
                let key = Value::from(key.clone());
                b.iter().any(|(other, b)| {
                    same_value(&key, &other.clone().into()) && same_value(value, b)
                })
            };
            a.len() == b.len() && a.iter().all(values)
        }
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        _ => match (number(a), number(b), bytes(a), bytes(b)) {
            (Some(a), Some(b), ..) => a == b,
            (_, _, Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

fn number(value: &Value) -> Option<i128> {
    Some(match value {
        Value::Bool(value) => i128::from(*value),
        Value::I32(value) | Value::EnumNumber(value) => i128::from(*value),
        Value::I64(value) => i128::from(*value),
        Value::U32(value) => i128::from(*value),
        Value::U64(value) => i128::from(*value),
        _ => return None,
    })
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::String(text) => Some(text.as_bytes()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// The message with no more than it must have. None where there is no end to that.
fn least(message: &MessageDescriptor) -> Option<DynamicMessage> {
    filled(message.clone(), DEPTH_MAX, &mut VALUES_MAX.clone(), false)
}

/// The message with all its fields, as far as the bounds allow.
fn full(message: MessageDescriptor, depth: usize, left: &mut usize) -> Option<DynamicMessage> {
    filled(message, depth, left, true)
}

fn filled(
    message: MessageDescriptor,
    depth: usize,
    left: &mut usize,
    is_full: bool,
) -> Option<DynamicMessage> {
    let mut record = DynamicMessage::new(message);
    for field in record.descriptor().fields() {
        let is_wanted = field.is_required() || is_full && *left > 0 && depth > 0;
        if !is_wanted {
            continue;
        }
        let value = first_value(&field, depth, left, is_full);
        match value {
            Some(value) => record.set_field(&field, value),
            None if field.is_required() => return None,
            None => {}
        }
    }
    Some(record)
}

fn first_value(
    field: &FieldDescriptor,
    depth: usize,
    left: &mut usize,
    is_full: bool,
) -> Option<Value> {
    *left = left.checked_sub(1)?;
    let single = |kind: Kind, left: &mut usize| match kind {
        Kind::Message(message) => {
            let depth = depth.checked_sub(1)?;
            filled(message, depth, left, is_full).map(Value::Message)
        }
        kind => plain_values(&kind).into_iter().next(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let key = single(entry.map_entry_key_field().kind(), left)?;
            let value = single(entry.map_entry_value_field().kind(), left)?;
            Some(Value::Map([(key.into_map_key()?, value)].into()))
        }
        kind if field.is_list() => Some(Value::List(vec![single(kind, left)?])),
        kind => single(kind, left),
    }
}

/// Values that are worth trying for a field.
fn values(field: &FieldDescriptor) -> Vec<Value> {
    let single = |kind: &Kind| match kind {
        Kind::Message(message) => {
            let least = least(message).map(Value::Message);
            let full = full(message.clone(), DEPTH_MAX, &mut VALUES_MAX.clone());
            full.map(Value::Message).into_iter().chain(least).collect()
        }
        kind => plain_values(kind),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let keys = single(&entry.map_entry_key_field().kind());
            let values = single(&entry.map_entry_value_field().kind());
            let mut found = Vec::new();
            for key in keys.into_iter().filter_map(Value::into_map_key) {
                let each = values.iter().cloned();
                found.extend(each.map(|value| Value::Map([(key.clone(), value)].into())));
            }
            found
        }
        kind if field.is_list() => {
            let values = single(&kind);
            let lists = values.iter().map(|value| Value::List(vec![value.clone()]));
            let mut found: Vec<Value> = lists.collect();
            found.push(Value::List(values.into_iter().take(2).collect()));
            found
        }
        kind => single(&kind),
    }
}

/// Values of a type that is no message: none is the default, so that each is written.
fn plain_values(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Double => vec![Value::F64(1.5)],
        Kind::Float => vec![Value::F32(1.5)],
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => [1, 150, -2].map(Value::I32).into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => [1, 150, -2].map(Value::I64).into(),
        Kind::Uint32 | Kind::Fixed32 => [1, 150].map(Value::U32).into(),
        Kind::Uint64 | Kind::Fixed64 => [1, 150].map(Value::U64).into(),
        Kind::Bool => vec![Value::Bool(true)],
        Kind::String => ["a", "text"]
            .map(|text| Value::String(text.to_owned()))
            .into(),
        Kind::Bytes => [&b"a"[..], b"\xff\xfe"]
            .map(|bytes| Value::Bytes(Bytes::from_static(bytes)))
            .into(),
        Kind::Enum(one) => {
            let numbers = one.values().map(|value| value.number());
            let mut numbers: Vec<i32> = numbers.filter(|number| *number != 0).take(2).collect();
            if numbers.is_empty() {
                numbers.push(one.default_value().number());
            }
            numbers.into_iter().map(Value::EnumNumber).collect()
        }
        Kind::Message(_) => Vec::new(),
    }
}
