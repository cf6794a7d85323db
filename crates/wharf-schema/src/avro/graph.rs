//! A parsed schema: its types as a graph of nodes.
//!
//! Every type is a [`Node`] in one list; a type that is used by its name is the same node at each
//! use, so recursion is a cycle of numbers. A graph that left the parser has every name resolved,
//! and no walk over it that enters each named type once goes deeper than `Limits::depth_max`.
//! Nothing here changes after parsing.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::name::Name;

/// The number of a node in its graph.
pub(super) type NodeId = usize;

/// What a schema says beside the attributes that Avro knows, in the order of the text.
pub(super) type Properties = Map<String, Value>;

/// A whole schema with what it refers to.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    /// The full names of the outermost types of the schemas referred to: the canonical text has
    /// them as names.
    pub(super) known: BTreeSet<String>,
    /// Whether types may stand elsewhere in the canonical text than in the text that was read:
    /// names were used before their definition, or come from references.
    pub(super) is_moved: bool,
}

/// A type.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) properties: Properties,
}

/// What a type is.
#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Record),
    Enum(Enumeration),
    Fixed(Fixed),
    /// A name whose definition has not been met; the parser leaves none behind.
    Awaited(String),
}

/// What records, enums and fixed have in common.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Name,
    pub(super) aliases: Vec<Name>,
    pub(super) doc: Option<String>,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) named: Named,
    /// `"type": "error"`, which is a record otherwise.
    pub(super) is_error: bool,
    pub(super) fields: Vec<Field>,
    /// The fields' places by name.
    pub(super) places: HashMap<String, usize>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) doc: Option<String>,
    pub(super) node: NodeId,
    pub(super) default: Option<Value>,
    pub(super) order: Order,
    pub(super) aliases: Vec<String>,
    pub(super) properties: Properties,
}

/// How records are sorted by a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
    Ignore,
}

#[derive(Debug)]
pub(super) struct Enumeration {
    pub(super) named: Named,
    pub(super) symbols: Vec<String>,
    /// The symbols' places.
    pub(super) places: HashMap<String, usize>,
    pub(super) default: Option<String>,
}

#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) named: Named,
    /// In bytes.
    pub(super) size: usize,
}

impl Graph {
    /// What the node is.
    pub(super) fn kind(&self, node: NodeId) -> &Kind {
        &self.nodes[node].kind
    }

    /// The name by which a union knows the node: the full name, or the type's.
    pub(super) fn tag(&self, node: NodeId) -> &str {
        let kind = self.kind(node);
        kind.named().map_or(kind.word(), |named| named.name.full())
    }

    /// The reader's field that takes what the writer's field of this name has: by name, else by
    /// alias; the place in the writer.
    pub(super) fn writer_field(writer: &Record, field: &Field) -> Option<usize> {
        let names = std::iter::once(&field.name).chain(&field.aliases);
        names
            .filter_map(|name| writer.places.get(name))
            .next()
            .copied()
    }
}

impl Kind {
    /// The word for the type in a schema.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Record(_) | Self::Awaited(_) => "record",
            Self::Enum(_) => "enum",
            Self::Fixed(_) => "fixed",
        }
    }

    /// The simple type of this word.
    pub(super) fn primitive(word: &str) -> Option<Self> {
        Some(match word {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// What a named type is called.
    pub(super) fn named(&self) -> Option<&Named> {
        match self {
            Self::Record(record) => Some(&record.named),
            Self::Enum(enumeration) => Some(&enumeration.named),
            Self::Fixed(fixed) => Some(&fixed.named),
            _ => None,
        }
    }
}

impl Order {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Descending => "descending",
            Self::Ignore => "ignore",
        }
    }
}
