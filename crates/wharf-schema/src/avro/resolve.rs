//! What one schema wrote, read with another: Avro's schema resolution.
//!
//! Where the specification leaves a choice, it is made so that a reader whose verdict is
//! "compatible" reads every value: a branch of the reader's union is the first that can take every
//! value of the writer's type (by full name, then by the last part of the name, then by promotion),
//! and bytes that become a string need not be UTF-8.

use serde_json::{Map, Value};

use super::binary::{Input, Piece};
use super::decode::{blocks, bytes_value, double_value, expect_end, float_value, simple_value};
use super::decode::{skip, tagged};
use super::defaults::default_value;
use super::graph::{Enumeration, Kind, Named, Record};
use super::pairs::{Pairs, Parts, has_name_of};
use crate::Unreadable;

/// Reads a whole payload of the pairs' writer as their reader.
pub(super) fn read(pairs: &Pairs, payload: &[u8]) -> Result<Value, Unreadable> {
    let mut input = Input::new(payload);
    let value = value(pairs, &mut input, Pairs::ROOT)?;
    expect_end(&input)?;
    Ok(value)
}

fn value<'s>(
    pairs: &'s Pairs,
    input: &mut Input<'_, 's>,
    place: usize,
) -> Result<Value, Unreadable> {
    input.pay(0)?;
    let pair = pairs.get(place);
    let reader = pairs.reader.kind(pair.reader);
    let writer = pairs.writer.kind(pair.writer);
    match (&pair.parts, reader, writer) {
        (Parts::Branches(parts), ..) => {
            let index = input.choice(parts.len(), "branch")?;
            let branch = pairs.get(parts[index]).writer;
            input.enter(Piece::Name(pairs.writer.tag(branch)))?;
            let value = value(pairs, input, parts[index])?;
            input.leave();
            Ok(value)
        }
        (Parts::Choice(candidates), ..) => {
            let Some(chosen) = pairs.chosen(candidates) else {
                let tag = pairs.writer.tag(pair.writer);
                return Err(input.wrong(format_args!("the reader's union has no branch for {tag}")));
            };
            let branch = pairs.get(chosen).reader;
            let tag = pairs.reader.tag(branch);
            input.enter(Piece::Unwritten)?;
            let inner = value(pairs, input, chosen)?;
            input.leave();
            tagged(input, pairs.reader.kind(branch), tag, inner)
        }
        (Parts::Inner(inner), Kind::Array(_), _) => {
            let mut items = Vec::new();
            blocks(input, |input, index| {
                input.enter(Piece::Index(index))?;
                items.push(value(pairs, input, *inner)?);
                input.leave();
                Ok(())
            })?;
            Ok(Value::Array(items))
        }
        (Parts::Inner(inner), ..) => {
            let mut entries = Map::new();
            blocks(input, |input, index| {
                let key = input.string()?.to_owned();
                input.enter(Piece::Index(index))?;
                entries.insert(key, value(pairs, input, *inner)?);
                input.leave();
                Ok(())
            })?;
            Ok(Value::Object(entries))
        }
        (Parts::Fields(fields), Kind::Record(reader), Kind::Record(writer)) => {
            record(pairs, input, reader, writer, fields)
        }
        _ => simple(input, reader, writer),
    }
}

fn record<'s>(
    pairs: &'s Pairs,
    input: &mut Input<'_, 's>,
    reader: &'s Record,
    writer: &'s Record,
    fields: &[(usize, usize, usize)],
) -> Result<Value, Unreadable> {
    check_name(input, &reader.named, &writer.named)?;
    let mut values = vec![None; reader.fields.len()];
    let mut by_writer: Vec<_> = fields
        .iter()
        .map(|(to, from, pair)| (*from, *to, *pair))
        .collect();
    by_writer.sort_unstable();
    let mut readers = by_writer.into_iter().peekable();
    for (place, field) in writer.fields.iter().enumerate() {
        input.enter(Piece::Name(&field.name))?;
        let start = input.rest();
        let mut is_read = false;
        // Aliases can give one field of the writer to several of the reader.
        while let Some((_, to, pair)) = readers.next_if(|(from, ..)| *from == place) {
            input.rewind(start);
            values[to] = Some(value(pairs, input, pair)?);
            is_read = true;
        }
        if !is_read {
            skip(&pairs.writer, input, field.node)?;
        }
        input.leave();
    }
    let mut entries = Map::new();
    for (field, value) in std::iter::zip(&reader.fields, values) {
        input.pay(field.name.len())?;
        let value = match (value, &field.default) {
            (Some(value), _) => value,
            (None, Some(default)) => {
                input.enter(Piece::Name(&field.name))?;
                let value = default_value(&pairs.reader, input, field.node, default)?;
                input.leave();
                value
            }
            (None, None) => {
                let name = &field.name;
                return Err(input.wrong(format_args!(
                    "the field {name} was not written and has no default"
                )));
            }
        };
        entries.insert(field.name.clone(), value);
    }
    Ok(Value::Object(entries))
}

fn simple(input: &mut Input<'_, '_>, reader: &Kind, writer: &Kind) -> Result<Value, Unreadable> {
    match (writer, reader) {
        (Kind::Enum(writer), Kind::Enum(reader)) => symbol(input, reader, writer),
        (Kind::Fixed(writer), Kind::Fixed(reader)) => {
            check_name(input, &reader.named, &writer.named)?;
            if writer.size != reader.size {
                return Err(input.wrong(format_args!(
                    "a fixed of {} bytes was written, and {} are expected",
                    writer.size, reader.size
                )));
            }
            Ok(bytes_value(input.take(writer.size)?))
        }
        (Kind::Int, Kind::Long) => Ok(Value::from(input.int()?)),
        #[expect(
            clippy::cast_precision_loss,
            reason = "promotion rounds, as Java's does"
        )]
        (Kind::Int | Kind::Long, Kind::Float) => Ok(float_value(input.long()? as f32)),
        #[expect(
            clippy::cast_precision_loss,
            reason = "promotion rounds, as Java's does"
        )]
        (Kind::Int | Kind::Long, Kind::Double) => Ok(double_value(input.long()? as f64)),
        (Kind::Float, Kind::Double) => Ok(double_value(f64::from(input.float()?))),
        (Kind::Bytes, Kind::String) => Ok(Value::from(String::from_utf8_lossy(input.bytes()?))),
        (Kind::String, Kind::Bytes) => Ok(bytes_value(input.bytes()?)),
        _ if writer.word() == reader.word() => simple_value(reader, input),
        _ => {
            let (writer, reader) = (writer.word(), reader.word());
            Err(input.wrong(format_args!(
                "the type {writer} was written, and {reader} is expected"
            )))
        }
    }
}

fn symbol(
    input: &mut Input<'_, '_>,
    reader: &Enumeration,
    writer: &Enumeration,
) -> Result<Value, Unreadable> {
    check_name(input, &reader.named, &writer.named)?;
    let symbol = &writer.symbols[input.choice(writer.symbols.len(), "symbol")?];
    input.pay(symbol.len())?;
    if reader.places.contains_key(symbol) {
        return Ok(Value::from(symbol.as_str()));
    }
    match &reader.default {
        Some(default) => Ok(Value::from(default.as_str())),
        None => Err(input.wrong(format_args!(
            "the reader's enum {} has no symbol {symbol} and no default",
            reader.named.name.full()
        ))),
    }
}

fn check_name(input: &Input<'_, '_>, reader: &Named, writer: &Named) -> Result<(), Unreadable> {
    if has_name_of(reader, writer) {
        return Ok(());
    }
    let (writer, reader) = (writer.name.full(), reader.name.full());
    Err(input.wrong(format_args!(
        "{writer} was written, and {reader} is expected"
    )))
}
