//! Payloads to JSON with the schema that wrote them, in Avro's own JSON encoding: a union's value is
//! `null` or an object with the branch's name as its one key, bytes are text with a character for
//! each byte, and numbers that JSON lacks are "NaN", "Infinity", "-Infinity".

use serde_json::{Map, Value};

use super::binary::{Input, Piece};
use super::graph::{Graph, Kind, NodeId};
use crate::Unreadable;

/// Reads a whole payload.
pub(super) fn decode(graph: &Graph, payload: &[u8]) -> Result<Value, Unreadable> {
    let mut input = Input::new(payload);
    let value = value(graph, &mut input, graph.root)?;
    expect_end(&input)?;
    Ok(value)
}

/// An error if the payload goes on.
pub(super) fn expect_end(input: &Input<'_, '_>) -> Result<(), Unreadable> {
    match input.rest().len() {
        0 => Ok(()),
        left => Err(Unreadable::new(format!(
            "{left} bytes of the payload are left over"
        ))),
    }
}

/// Reads a value of a type.
pub(super) fn value<'s>(
    graph: &'s Graph,
    input: &mut Input<'_, 's>,
    node: NodeId,
) -> Result<Value, Unreadable> {
    input.pay(0)?;
    match graph.kind(node) {
        Kind::Array(inner) => {
            let mut items = Vec::new();
            blocks(input, |input, index| {
                input.enter(Piece::Index(index))?;
                items.push(value(graph, input, *inner)?);
                input.leave();
                Ok(())
            })?;
            Ok(Value::Array(items))
        }
        Kind::Map(inner) => {
            let mut entries = Map::new();
            blocks(input, |input, index| {
                let key = input.string()?.to_owned();
                input.enter(Piece::Index(index))?;
                entries.insert(key, value(graph, input, *inner)?);
                input.leave();
                Ok(())
            })?;
            Ok(Value::Object(entries))
        }
        Kind::Union(branches) => {
            let branch = branches[input.choice(branches.len(), "branch")?];
            let tag = graph.tag(branch);
            input.enter(Piece::Name(tag))?;
            let inner = value(graph, input, branch)?;
            input.leave();
            tagged(input, graph.kind(branch), tag, inner)
        }
        Kind::Record(record) => {
            let mut entries = Map::new();
            for field in &record.fields {
                input.pay(field.name.len())?;
                input.enter(Piece::Name(&field.name))?;
                entries.insert(field.name.clone(), value(graph, input, field.node)?);
                input.leave();
            }
            Ok(Value::Object(entries))
        }
        simple => simple_value(simple, input),
    }
}

/// A value of a union's branch, with the branch's name around it unless it is null.
pub(super) fn tagged(
    input: &mut Input<'_, '_>,
    branch: &Kind,
    tag: &str,
    value: Value,
) -> Result<Value, Unreadable> {
    if matches!(branch, Kind::Null) {
        return Ok(value);
    }
    input.pay(tag.len())?;
    Ok(Value::Object(Map::from_iter([(tag.to_owned(), value)])))
}

/// A value of a type that has no types within it.
pub(super) fn simple_value(kind: &Kind, input: &mut Input<'_, '_>) -> Result<Value, Unreadable> {
    Ok(match kind {
        Kind::Boolean => Value::Bool(input.boolean()?),
        Kind::Int => Value::from(input.int()?),
        Kind::Long => Value::from(input.long()?),
        Kind::Float => float_value(input.float()?),
        Kind::Double => double_value(input.double()?),
        Kind::Bytes => bytes_value(input.bytes()?),
        Kind::String => Value::from(input.string()?),
        Kind::Fixed(fixed) => bytes_value(input.take(fixed.size)?),
        Kind::Enum(enumeration) => {
            let symbol = input.choice(enumeration.symbols.len(), "symbol")?;
            let symbol = &enumeration.symbols[symbol];
            input.pay(symbol.len())?;
            Value::from(symbol.as_str())
        }
        _ => Value::Null,
    })
}

/// The items of an array or the entries of a map, block by block.
pub(super) fn blocks<'p, 's>(
    input: &mut Input<'p, 's>,
    mut item: impl FnMut(&mut Input<'p, 's>, usize) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut index = 0;
    loop {
        let (count, _) = input.block()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            item(input, index)?;
            index += 1;
        }
    }
}

/// Reads past a value.
pub(super) fn skip<'s>(
    graph: &'s Graph,
    input: &mut Input<'_, 's>,
    node: NodeId,
) -> Result<(), Unreadable> {
    input.pay(0)?;
    match graph.kind(node) {
        Kind::Array(inner) => skip_blocks(graph, input, *inner, false),
        Kind::Map(inner) => skip_blocks(graph, input, *inner, true),
        Kind::Union(branches) => {
            let branch = branches[input.choice(branches.len(), "branch")?];
            input.enter(Piece::Name(graph.tag(branch)))?;
            skip(graph, input, branch)?;
            input.leave();
            Ok(())
        }
        Kind::Record(record) => {
            for field in &record.fields {
                input.enter(Piece::Name(&field.name))?;
                skip(graph, input, field.node)?;
                input.leave();
            }
            Ok(())
        }
        Kind::String | Kind::Bytes => input.bytes().map(drop),
        Kind::Fixed(fixed) => input.take(fixed.size).map(drop),
        simple => simple_value(simple, input).map(drop),
    }
}

fn skip_blocks<'s>(
    graph: &'s Graph,
    input: &mut Input<'_, 's>,
    inner: NodeId,
    has_keys: bool,
) -> Result<(), Unreadable> {
    loop {
        let (count, bytes) = input.block()?;
        if count == 0 {
            return Ok(());
        }
        if let Some(bytes) = bytes {
            input.take(bytes)?;
            continue;
        }
        for _ in 0..count {
            if has_keys {
                input.string()?;
            }
            input.enter(Piece::Index(0))?;
            skip(graph, input, inner)?;
            input.leave();
        }
    }
}

/// A double, or the word for one that JSON lacks.
pub(super) fn double_value(double: f64) -> Value {
    if double.is_finite() {
        Value::from(double)
    } else if double.is_nan() {
        Value::from("NaN")
    } else if double > 0.0 {
        Value::from("Infinity")
    } else {
        Value::from("-Infinity")
    }
}

/// A float with its own digits: 0.1, not what 0.1 becomes as a double.
pub(super) fn float_value(float: f32) -> Value {
    let digits = float.to_string().parse();
    double_value(digits.unwrap_or_else(|_word| f64::from(float)))
}

/// A character for each byte.
pub(super) fn bytes_value(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().copied().map(char::from).collect())
}
