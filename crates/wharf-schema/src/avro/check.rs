//! What is asked of a schema once every name in it is known: unions are sound, no walk is too deep,
//! and defaults fit their types.

use serde_json::Value;

use super::graph::{Field, Graph, Kind, NodeId};
use super::print::print;
use super::text::put_value;
use crate::{Invalid, Limits};

/// How deep serde_json lets a text nest: what is accepted must be readable again.
const JSON_DEPTH_MAX: usize = 127;

/// Unions and depth: without them nothing else works, so every schema is asked.
pub(super) fn check_shape(graph: &Graph, limits: &Limits) -> Result<(), Invalid> {
    for node in &graph.nodes {
        if let Kind::Union(branches) = &node.kind {
            check_union(graph, branches)?;
        }
    }
    // The canonical text leaves out what is referred to, so it may meet a type by a longer way.
    for leaves_known in [false, true] {
        let mut walk = Walk {
            graph,
            leaves_known,
            seen: vec![false; graph.nodes.len()],
            depth_max: limits.depth_max,
        };
        walk.enter(graph.root, 0)?;
    }
    if graph.is_moved && json_depth(&print(graph, graph.known.clone(), false)) > JSON_DEPTH_MAX {
        return Err(Invalid::new(format!(
            "types are nested too deep: the canonical text is JSON deeper than {JSON_DEPTH_MAX}"
        )));
    }
    Ok(())
}

/// How deep a JSON text nests.
fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = text.bytes();
    let mut is_text = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_text = !is_text,
            b'\\' => drop(bytes.next()),
            b'{' | b'[' if !is_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn check_union(graph: &Graph, branches: &[NodeId]) -> Result<(), Invalid> {
    let mut tags = std::collections::HashSet::with_capacity(branches.len());
    for branch in branches {
        if matches!(graph.kind(*branch), Kind::Union(_)) {
            return Err(Invalid::new("a union is directly within a union"));
        }
        let tag = graph.tag(*branch);
        if !tags.insert(tag) {
            return Err(Invalid::new(format!("{tag} is twice in one union")));
        }
    }
    Ok(())
}

/// A walk that enters each named type once, as printing does.
struct Walk<'a> {
    graph: &'a Graph,
    leaves_known: bool,
    seen: Vec<bool>,
    depth_max: usize,
}

impl Walk<'_> {
    fn enter(&mut self, node: NodeId, depth: usize) -> Result<(), Invalid> {
        if depth > self.depth_max {
            return Err(Invalid::new(format!(
                "types are nested deeper than {} when each name is written out once",
                self.depth_max
            )));
        }
        let kind = self.graph.kind(node);
        if let Some(named) = kind.named() {
            let is_known = self.leaves_known && self.graph.known.contains(named.name.full());
            if is_known || std::mem::replace(&mut self.seen[node], true) {
                return Ok(());
            }
        }
        match kind {
            Kind::Array(inner) | Kind::Map(inner) => self.enter(*inner, depth + 1),
            Kind::Union(branches) => branches
                .iter()
                .try_for_each(|branch| self.enter(*branch, depth + 1)),
            Kind::Record(record) => record
                .fields
                .iter()
                .try_for_each(|field| self.enter(field.node, depth + 1)),
            _ => Ok(()),
        }
    }
}

/// Whether every default fits its field's type. For a union that is any of its branches.
pub(super) fn check_defaults(graph: &Graph, limits: &Limits) -> Result<(), Invalid> {
    let mut steps = Steps {
        left: limits.comparisons_max,
        depth_max: limits.depth_max,
    };
    for node in &graph.nodes {
        let Kind::Record(record) = &node.kind else {
            continue;
        };
        for field in &record.fields {
            let Some(default) = &field.default else {
                continue;
            };
            if !steps.fits(graph, field.node, default, 0)? {
                return Err(unfit(graph, record.named.name.full(), field, default));
            }
        }
    }
    Ok(())
}

fn unfit(graph: &Graph, record: &str, field: &Field, default: &Value) -> Invalid {
    let mut shown = String::new();
    put_value(&mut shown, default);
    let name = &field.name;
    let kind = match graph.kind(field.node) {
        Kind::Union(branches) => {
            let tags: Vec<&str> = branches.iter().map(|branch| graph.tag(*branch)).collect();
            format!("none of {}", tags.join(", "))
        }
        _ => format!("no {}", graph.tag(field.node)),
    };
    Invalid::new(format!(
        "Invalid default for field {name} of {record}: {shown} is {kind}"
    ))
}

/// How much may still be looked at: a default may be tried against branch after branch.
pub(super) struct Steps {
    pub(super) left: usize,
    pub(super) depth_max: usize,
}

impl Steps {
    /// Whether a default, as a schema has it, is a value of the type.
    pub(super) fn fits(
        &mut self,
        graph: &Graph,
        node: NodeId,
        default: &Value,
        depth: usize,
    ) -> Result<bool, Invalid> {
        if self.left == 0 || depth > self.depth_max {
            return Err(Invalid::new(
                "a default is nested too deep, or takes too long to compare with its type",
            ));
        }
        self.left -= 1;
        Ok(match (graph.kind(node), default) {
            (Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Fixed(_), Value::String(_))
            | (Kind::Float | Kind::Double, Value::Number(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Null, Value::Null) => true,
            (Kind::Float | Kind::Double, Value::String(word)) => {
                matches!(word.as_str(), "NaN" | "Infinity" | "-Infinity")
            }
            (Kind::Int, Value::Number(number)) => number
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_ok()),
            (Kind::Long, Value::Number(number)) => number.is_i64(),
            (Kind::Array(inner), Value::Array(items)) => {
                self.all_fit(graph, *inner, items, depth)?
            }
            (Kind::Map(inner), Value::Object(entries)) => {
                self.all_fit(graph, *inner, entries.values(), depth)?
            }
            (Kind::Union(branches), _) => {
                for branch in branches {
                    if self.fits(graph, *branch, default, depth + 1)? {
                        return Ok(true);
                    }
                }
                false
            }
            (Kind::Record(record), Value::Object(entries)) => {
                for field in &record.fields {
                    let value = entries.get(&field.name).or(field.default.as_ref());
                    let fits = match value {
                        Some(value) => self.fits(graph, field.node, value, depth + 1)?,
                        None => false,
                    };
                    if !fits {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    fn all_fit<'a>(
        &mut self,
        graph: &Graph,
        inner: NodeId,
        values: impl IntoIterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<bool, Invalid> {
        for value in values {
            if !self.fits(graph, inner, value, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
