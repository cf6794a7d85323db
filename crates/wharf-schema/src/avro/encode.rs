//! JSON to payloads: the inverse of [`super::decode`], with the same form of unions, bytes and
//! numbers. A field that is not there gets its default; a field that the record does not have is an
//! error, since it is a slip far more often than it is meant.

use serde_json::Value;

use super::binary::{Input, Piece, VALUE_DEPTH_MAX, put_bytes, put_length, put_long};
use super::defaults::default_value;
use super::graph::{Graph, Kind, NodeId, Record};
use crate::Unreadable;

/// Writes a value of the schema.
pub(super) fn encode(graph: &Graph, value: &Value) -> Result<Vec<u8>, Unreadable> {
    let mut encoder = Encoder {
        graph,
        out: Vec::new(),
        path: Vec::new(),
    };
    encoder.value(graph.root, value)?;
    Ok(encoder.out)
}

struct Encoder<'a> {
    graph: &'a Graph,
    out: Vec<u8>,
    path: Vec<Piece<'a>>,
}

impl<'a> Encoder<'a> {
    fn wrong(&self, what: impl std::fmt::Display) -> Unreadable {
        let mut input = Input::new(&[]);
        input.path.clone_from(&self.path);
        input.wrong(what)
    }

    fn within(&mut self, piece: Piece<'a>, node: NodeId, value: &Value) -> Result<(), Unreadable> {
        self.path.push(piece);
        if self.path.len() > VALUE_DEPTH_MAX {
            return Err(self.wrong(format_args!(
                "values are nested deeper than {VALUE_DEPTH_MAX}"
            )));
        }
        self.value(node, value)?;
        self.path.pop();
        Ok(())
    }

    fn value(&mut self, node: NodeId, value: &Value) -> Result<(), Unreadable> {
        let kind = self.graph.kind(node);
        match (kind, value) {
            (Kind::Null, Value::Null) => {}
            (Kind::Boolean, Value::Bool(truth)) => self.out.push(u8::from(*truth)),
            (Kind::Int, Value::Number(number)) => {
                let int = number.as_i64().and_then(|long| i32::try_from(long).ok());
                let int = int.ok_or_else(|| self.wrong(format_args!("{number} is no int")))?;
                put_long(&mut self.out, i64::from(int));
            }
            (Kind::Long, Value::Number(number)) => {
                let long = number.as_i64();
                let long = long.ok_or_else(|| self.wrong(format_args!("{number} is no long")))?;
                put_long(&mut self.out, long);
            }
            (Kind::Float, _) => {
                let double = self.number(value)?;
                #[expect(clippy::cast_possible_truncation, reason = "a float has fewer digits")]
                self.out.extend((double as f32).to_le_bytes());
            }
            (Kind::Double, _) => self.out.extend(self.number(value)?.to_le_bytes()),
            (Kind::String, Value::String(text)) => put_bytes(&mut self.out, text.as_bytes()),
            (Kind::Bytes, Value::String(text)) => {
                let bytes = self.bytes(text)?;
                put_bytes(&mut self.out, &bytes);
            }
            (Kind::Fixed(fixed), Value::String(text)) => {
                let bytes = self.bytes(text)?;
                if bytes.len() != fixed.size {
                    let has = bytes.len();
                    let size = fixed.size;
                    return Err(self.wrong(format_args!("{has} bytes are not {size}")));
                }
                self.out.extend(bytes);
            }
            (Kind::Enum(enumeration), Value::String(symbol)) => {
                let place = enumeration.places.get(symbol).copied();
                let place =
                    place.ok_or_else(|| self.wrong(format_args!("{symbol} is no symbol")))?;
                put_length(&mut self.out, place);
            }
            (Kind::Array(inner), Value::Array(items)) => {
                self.block(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.within(Piece::Index(index), *inner, item)?;
                }
                self.out.push(0);
            }
            (Kind::Map(inner), Value::Object(entries)) => {
                self.block(entries.len());
                for (index, (key, item)) in entries.iter().enumerate() {
                    put_bytes(&mut self.out, key.as_bytes());
                    self.within(Piece::Index(index), *inner, item)?;
                }
                self.out.push(0);
            }
            (Kind::Union(branches), _) => self.union(branches, value)?,
            (Kind::Record(record), Value::Object(entries)) => {
                if let Some(name) = entries.keys().find(|key| !record.places.contains_key(*key)) {
                    let record = record.named.name.full();
                    return Err(self.wrong(format_args!("{record} has no field {name}")));
                }
                self.record(record, entries)?;
            }
            _ => {
                let tag = self.graph.tag(node);
                return Err(self.wrong(format_args!("the JSON value is no {tag}")));
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        record: &'a Record,
        entries: &serde_json::Map<String, Value>,
    ) -> Result<(), Unreadable> {
        for field in &record.fields {
            let piece = Piece::Name(field.name.as_str());
            if let Some(value) = entries.get(&field.name) {
                self.within(piece, field.node, value)?;
                continue;
            }
            let Some(default) = &field.default else {
                return Err(self.wrong(format_args!("the field {} is missing", field.name)));
            };
            let value = default_value(self.graph, &mut Input::new(&[]), field.node, default)?;
            self.within(piece, field.node, &value)?;
        }
        Ok(())
    }

    fn union(&mut self, branches: &'a [NodeId], value: &Value) -> Result<(), Unreadable> {
        let graph = self.graph;
        let (tag, inner) = match value {
            Value::Null => ("null", value),
            Value::Object(entries) => match entries.iter().next() {
                Some((tag, inner)) if entries.len() == 1 => (tag.as_str(), inner),
                _ => return Err(self.wrong("a union's value has its branch's name as its one key")),
            },
            _ => {
                return Err(self.wrong(
                    "a union's value is null or an object with its branch's name as its one key",
                ));
            }
        };
        let Some(place) = branches.iter().position(|branch| graph.tag(*branch) == tag) else {
            return Err(self.wrong(format_args!("the union has no branch {tag}")));
        };
        put_length(&mut self.out, place);
        let branch = branches[place];
        self.within(Piece::Name(graph.tag(branch)), branch, inner)
    }

    /// A block of items, if there are any.
    fn block(&mut self, count: usize) {
        if count > 0 {
            put_length(&mut self.out, count);
        }
    }

    fn number(&self, value: &Value) -> Result<f64, Unreadable> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(word) => match word.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        };
        number.ok_or_else(|| self.wrong("the JSON value is no number"))
    }

    fn bytes(&self, text: &str) -> Result<Vec<u8>, Unreadable> {
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        bytes.map_err(|_beyond| self.wrong("bytes are written as characters up to U+00FF"))
    }
}
