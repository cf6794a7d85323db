//! What a JSON Schema says, in the form in which Confluent compares it.
//!
//! Confluent compares not keywords but the classes of the Everit library: a schema is a string, a
//! number, an object, an array, an enumeration …, or a combination of those, where keywords for
//! several types stand side by side. [`Model`] is an arena of such shapes; references are edges in
//! it, so recursion costs nothing. Nothing here reads text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

use super::pattern::Pattern;

/// The place of a node in its model.
pub(super) type Index = u32;

/// A schema as a graph; the root is node 0.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) nodes: Vec<Node>,
    /// The longest row of schemas that look at one and the same value.
    pub(super) chain: usize,
    /// Whether the errors of a record can all be gathered in bounded time: not where alternatives
    /// are part of themselves.
    pub(super) explains: bool,
}

impl Model {
    pub(super) fn node(&self, index: Index) -> &Node {
        &self.nodes[index as usize]
    }

    /// The node that a reference, or a reference to references, stands for. That they end
    /// somewhere was checked when the model was built.
    pub(super) fn resolve(&self, mut index: Index) -> Index {
        while let Shape::Reference(target) = self.node(index).shape {
            index = target;
        }
        index
    }
}

/// A schema inside the schema.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shape: Shape,
    pub(super) note: Note,
}

/// What is said about a schema without limiting what it accepts.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) id: Option<String>,
    pub(super) title: Option<String>,
    pub(super) description: Option<String>,
    pub(super) default: Option<Value>,
    /// `connect.type` is `bytes`: Kafka Connect's decimals change their form and stay the same.
    pub(super) is_connect_bytes: bool,
}

/// What a schema accepts.
#[derive(Debug)]
pub(super) enum Shape {
    /// Everything: `true`, `{}`, or what only says something.
    Everything,
    /// Nothing: `false`.
    Nothing,
    Null,
    Boolean,
    String(Text),
    Number(Numeric),
    Object(Box<Object>),
    Array(Box<Array>),
    Enum(Choice),
    Const(Choice),
    Not(Index),
    Combined(Combined),
    /// `if`, `then`, `else`: kept for what they reach, never compared (nor does Confluent).
    Conditional([Option<Index>; 3]),
    Reference(Index),
}

/// Values to choose from, with their forms for comparison.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) values: Vec<Value>,
    pub(super) forms: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) pattern: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Numeric {
    pub(super) is_integer: bool,
    pub(super) minimum: Option<Number>,
    pub(super) maximum: Option<Number>,
    pub(super) exclusive_minimum: Option<Number>,
    pub(super) exclusive_maximum: Option<Number>,
    pub(super) multiple_of: Option<Number>,
}

/// What a list of named or numbered schemas leaves to all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Others {
    /// Anything; also when nothing is said.
    #[default]
    Anything,
    /// Nothing.
    Nothing,
    /// What this schema accepts.
    Only(Index),
}

impl Others {
    fn schema(self) -> Option<Index> {
        match self {
            Self::Only(schema) => Some(schema),
            Self::Anything | Self::Nothing => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) properties: BTreeMap<String, Index>,
    pub(super) patterns: Vec<(Pattern, Index)>,
    pub(super) additional: Others,
    pub(super) unevaluated: Option<Index>,
    pub(super) required: BTreeSet<String>,
    pub(super) names: Option<Index>,
    pub(super) dependent_required: BTreeMap<String, BTreeSet<String>>,
    pub(super) dependent_schemas: BTreeMap<String, Index>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
}

impl Object {
    /// The schema of a property, listed or not; none where anything goes, or nothing.
    pub(super) fn schema_of(&self, name: &str) -> Option<Index> {
        let matching = |(pattern, _): &&(Pattern, Index)| pattern.matches(name);
        let listed = self.properties.get(name).copied();
        listed
            .or_else(|| {
                self.patterns
                    .iter()
                    .find(matching)
                    .map(|(_, schema)| *schema)
            })
            .or_else(|| self.additional.schema())
            .or(self.unevaluated)
    }
}

#[derive(Debug, Default)]
pub(super) struct Array {
    /// The schema of every item.
    pub(super) all: Option<Index>,
    /// The schemas of the first items.
    pub(super) first: Vec<Index>,
    pub(super) additional: Others,
    pub(super) unevaluated: Option<Index>,
    pub(super) contains: Option<Index>,
    pub(super) min_contains: Option<u64>,
    pub(super) max_contains: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) is_unique: bool,
}

impl Array {
    /// The schema of an item; none where anything goes, or nothing.
    pub(super) fn schema_of(&self, place: usize) -> Option<Index> {
        let listed = self.first.get(place).copied();
        listed
            .or(self.all)
            .or_else(|| self.additional.schema())
            .or(self.unevaluated)
    }
}

/// How the parts of a combination work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Criterion {
    All,
    Any,
    One,
}

impl Criterion {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::All => "allOf",
            Self::Any => "anyOf",
            Self::One => "oneOf",
        }
    }
}

#[derive(Debug)]
pub(super) struct Combined {
    pub(super) criterion: Criterion,
    pub(super) parts: Vec<Index>,
    /// The parts without those that say the same as an earlier one.
    pub(super) distinct: Vec<Index>,
}

impl Node {
    /// The nodes that this one is made of, and whether they look at the same value as this one
    /// does (rather than at a part of it).
    pub(super) fn children(&self) -> Vec<(Index, bool)> {
        let mut children = Vec::new();
        match &self.shape {
            Shape::Everything
            | Shape::Nothing
            | Shape::Null
            | Shape::Boolean
            | Shape::String(_)
            | Shape::Number(_)
            | Shape::Enum(_)
            | Shape::Const(_) => {}
            Shape::Not(inner) | Shape::Reference(inner) => children.push((*inner, true)),
            Shape::Combined(combined) => {
                children.extend(combined.parts.iter().map(|part| (*part, true)));
            }
            Shape::Conditional(parts) => {
                children.extend(parts.iter().flatten().map(|part| (*part, true)));
            }
            Shape::Object(object) => {
                let inside = object
                    .properties
                    .values()
                    .chain(object.patterns.iter().map(|(_, schema)| schema))
                    .chain(&object.unevaluated)
                    .chain(&object.names);
                children.extend(inside.map(|schema| (*schema, false)));
                if let Others::Only(schema) = object.additional {
                    children.push((schema, false));
                }
                children.extend(object.dependent_schemas.values().map(|s| (*s, true)));
            }
            Shape::Array(array) => {
                let inside = array
                    .first
                    .iter()
                    .chain(&array.all)
                    .chain(&array.unevaluated)
                    .chain(&array.contains);
                children.extend(inside.map(|schema| (*schema, false)));
                if let Others::Only(schema) = array.additional {
                    children.push((schema, false));
                }
            }
        }
        children
    }
}
