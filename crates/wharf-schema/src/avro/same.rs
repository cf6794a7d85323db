//! Whether two definitions of one name say the same, as Java's `Schema.equals` has it: `doc` and
//! `aliases` do not count.

use super::graph::{Field, Kind, Node, NodeId};

/// Compares two definitions. Named types inside are compared by name: their own definitions were
/// compared when they were met. The walk is no deeper than the text.
pub(super) fn is_same_definition(nodes: &[Node], one: NodeId, other: NodeId) -> bool {
    let (one, other) = (&nodes[one], &nodes[other]);
    if one.properties != other.properties {
        return false;
    }
    match (&one.kind, &other.kind) {
        (Kind::Record(one), Kind::Record(other)) => {
            one.fields.len() == other.fields.len()
                && std::iter::zip(&one.fields, &other.fields)
                    .all(|(one, other)| is_same_field(nodes, one, other))
        }
        (Kind::Enum(one), Kind::Enum(other)) => one.symbols == other.symbols,
        (Kind::Fixed(one), Kind::Fixed(other)) => one.size == other.size,
        _ => false,
    }
}

fn is_same_field(nodes: &[Node], one: &Field, other: &Field) -> bool {
    one.name == other.name
        && one.default == other.default
        && one.order == other.order
        && one.properties == other.properties
        && is_same_type(nodes, one.node, other.node)
}

fn is_same_type(nodes: &[Node], one: NodeId, other: NodeId) -> bool {
    if one == other {
        return true;
    }
    let (one, other) = (&nodes[one], &nodes[other]);
    match (&one.kind, &other.kind) {
        (Kind::Awaited(one), Kind::Awaited(other)) => one == other,
        (Kind::Array(one_inner), Kind::Array(other_inner))
        | (Kind::Map(one_inner), Kind::Map(other_inner)) => {
            one.properties == other.properties && is_same_type(nodes, *one_inner, *other_inner)
        }
        (Kind::Union(one), Kind::Union(other)) => {
            one.len() == other.len()
                && std::iter::zip(one, other).all(|(one, other)| is_same_type(nodes, *one, *other))
        }
        (one_kind, other_kind) => match (one_kind.named(), other_kind.named()) {
            (Some(one), Some(other)) => one.name == other.name,
            (None, None) => {
                one_kind.word() == other_kind.word() && one.properties == other.properties
            }
            _ => false,
        },
    }
}
