//! Defaults as values: a schema writes the default of a union without its branch, a record has it
//! with the branch, the first that the default fits.

use serde_json::{Map, Value};

use super::binary::{Input, Piece};
use super::decode::tagged;
use super::graph::{Graph, Kind, NodeId};
use crate::Unreadable;

/// The value that a field gets from its default. It is paid for by the payload that lacks it.
pub(super) fn default_value<'s>(
    graph: &'s Graph,
    input: &mut Input<'_, 's>,
    node: NodeId,
    default: &'s Value,
) -> Result<Value, Unreadable> {
    match (graph.kind(node), default) {
        (Kind::Array(inner), Value::Array(items)) => {
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                values.push(within(graph, input, *inner, item, "items")?);
            }
            Ok(Value::Array(values))
        }
        (Kind::Map(inner), Value::Object(entries)) => {
            let mut values = Map::new();
            for (key, item) in entries {
                input.pay(key.len())?;
                values.insert(key.clone(), within(graph, input, *inner, item, "values")?);
            }
            Ok(Value::Object(values))
        }
        (Kind::Union(branches), _) => {
            for branch in branches {
                if input.fits(graph, *branch, default)? {
                    let tag = graph.tag(*branch);
                    let value = within(graph, input, *branch, default, tag)?;
                    return tagged(input, graph.kind(*branch), tag, value);
                }
            }
            Err(input.wrong("the default fits no branch of the union"))
        }
        (Kind::Record(record), Value::Object(entries)) => {
            let mut values = Map::new();
            for field in &record.fields {
                let Some(item) = entries.get(&field.name).or(field.default.as_ref()) else {
                    return Err(input.wrong(format_args!("the default lacks {}", field.name)));
                };
                let value = within(graph, input, field.node, item, &field.name)?;
                values.insert(field.name.clone(), value);
            }
            Ok(Value::Object(values))
        }
        _ if input.fits(graph, node, default)? => {
            input.pay(default.as_str().map_or(0, str::len))?;
            Ok(default.clone())
        }
        _ => Err(input.wrong("the default does not fit its type")),
    }
}

fn within<'s>(
    graph: &'s Graph,
    input: &mut Input<'_, 's>,
    node: NodeId,
    default: &'s Value,
    name: &'s str,
) -> Result<Value, Unreadable> {
    input.pay(name.len())?;
    input.enter(Piece::Name(name))?;
    let value = default_value(graph, input, node, default)?;
    input.leave();
    Ok(value)
}
