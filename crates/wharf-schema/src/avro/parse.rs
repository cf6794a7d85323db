//! From text to [`Graph`], as Java's parser understands it.
//!
//! Names may be used before they are defined and be defined again where both definitions are the
//! same; unknown attributes are kept. What comes in is JSON that serde_json has read, so it nests at
//! most 128 deep; types nest at most `Limits::depth_max` deep and count at most `Limits::nodes_max`.
//! Whether defaults fit and unions are sound is asked in [`super::check`], when every name is known.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::graph::{
    Enumeration, Field, Fixed, Graph, Kind, Named, Node, NodeId, Order, Properties, Record,
};
use super::name::{self, Name};
use super::same::is_same_definition;
use super::text::put_value;
use crate::{Dependency, Invalid, Limits};

/// The largest array that Java has, and so the largest fixed.
const FIXED_BYTES_MAX: i64 = 2_147_483_639;
/// Attributes of types that Avro knows.
const KNOWN_OF_TYPES: [&str; 10] = [
    "doc",
    "fields",
    "items",
    "name",
    "namespace",
    "size",
    "symbols",
    "values",
    "type",
    "aliases",
];
/// Attributes of fields that Avro knows.
const KNOWN_OF_FIELDS: [&str; 6] = ["default", "doc", "name", "order", "type", "aliases"];

type Object = Map<String, Value>;

/// Reads a schema and what it refers to; `is_strict` demands well-formed names.
pub(super) fn parse(
    text: &str,
    dependencies: &[Dependency],
    limits: &Limits,
    is_strict: bool,
) -> Result<Graph, Invalid> {
    let mut parser = Parser {
        nodes: Vec::new(),
        names: HashMap::new(),
        awaited: HashMap::new(),
        path: Vec::new(),
        depth: 0,
        count: 0,
        limits,
        is_strict,
        is_moved: false,
    };
    let mut known = BTreeSet::new();
    for dependency in dependencies {
        let root = parser
            .document(&dependency.text)
            .map_err(|error| Invalid::new(format!("the reference {}: {error}", dependency.name)))?;
        if let Some(named) = parser.nodes[root].kind.named() {
            known.insert(named.name.full().to_owned());
        }
    }
    let root = parser.document(text)?;
    Ok(Graph {
        nodes: parser.nodes,
        root,
        known,
        is_moved: parser.is_moved || !dependencies.is_empty(),
    })
}

/// How far the definition of a name has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Done,
}

struct Parser<'a> {
    nodes: Vec<Node>,
    names: HashMap<String, (NodeId, State)>,
    /// Names that were used and not defined so far, and where.
    awaited: HashMap<String, (NodeId, String)>,
    path: Vec<String>,
    depth: usize,
    count: usize,
    limits: &'a Limits,
    is_strict: bool,
    /// Whether a name was used before its definition.
    is_moved: bool,
}

impl Parser<'_> {
    /// One text, with every name in it defined at its end.
    fn document(&mut self, text: &str) -> Result<NodeId, Invalid> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| Invalid::new(format!("the schema is no JSON: {error}")))?;
        let root = self.any(&json, None)?;
        if let Some((name, (_, place))) = self.awaited.iter().min_by_key(|(_, (node, _))| *node) {
            return Err(Invalid::new(format!(
                "the type {name} that is used at {place} is not defined"
            )));
        }
        Ok(root)
    }

    fn any(&mut self, json: &Value, space: Option<&str>) -> Result<NodeId, Invalid> {
        match json {
            Value::String(name) => self.by_name(name, space),
            Value::Object(object) => self.object(object, space),
            Value::Array(branches) => self.union(branches, space),
            _ => Err(self.wrong(&format!("{} is no type", shown(json)))),
        }
    }

    /// [`Self::any`] below the attribute `key`.
    fn below(&mut self, key: &str, json: &Value, space: Option<&str>) -> Result<NodeId, Invalid> {
        self.path.push(key.to_owned());
        self.depth += 1;
        if self.depth > self.limits.depth_max {
            return Err(self.wrong(&format!(
                "types are nested deeper than {}",
                self.limits.depth_max
            )));
        }
        let node = self.any(json, space)?;
        self.depth -= 1;
        self.path.pop();
        Ok(node)
    }

    fn by_name(&mut self, name: &str, space: Option<&str>) -> Result<NodeId, Invalid> {
        if let Some(kind) = Kind::primitive(name) {
            return self.add(kind, Properties::new());
        }
        let full = Name::new(name, space);
        if let Some((node, _)) = self.names.get(full.full()).or_else(|| self.names.get(name)) {
            return Ok(*node);
        }
        if let Some((node, _)) = self.awaited.get(full.full()) {
            return Ok(*node);
        }
        let node = self.add(Kind::Awaited(full.full().to_owned()), Properties::new())?;
        let place = self.pointer();
        self.awaited.insert(full.full().to_owned(), (node, place));
        Ok(node)
    }

    fn object(&mut self, object: &Object, space: Option<&str>) -> Result<NodeId, Invalid> {
        let Some(word) = text_of(object, "type") else {
            return Err(self.wrong(&format!(
                "{} has no \"type\" that is a name",
                shown_object(object)
            )));
        };
        match word {
            "record" | "error" => self.record(object, space, word == "error"),
            "enum" => self.enumeration(object, space),
            "fixed" => self.fixed(object, space),
            "array" | "map" => {
                let key = if word == "array" { "items" } else { "values" };
                let Some(inner) = object.get(key) else {
                    return Err(self.wrong(&format!("the {word} has no {key:?}")));
                };
                let inner = self.below(key, inner, space)?;
                let kind = if word == "array" {
                    Kind::Array(inner)
                } else {
                    Kind::Map(inner)
                };
                self.add(kind, properties(object, &KNOWN_OF_TYPES))
            }
            other => match Kind::primitive(other) {
                Some(kind) => self.add(kind, properties(object, &KNOWN_OF_TYPES)),
                None => self.by_name(other, space),
            },
        }
    }

    fn union(&mut self, branches: &[Value], space: Option<&str>) -> Result<NodeId, Invalid> {
        let mut nodes = Vec::with_capacity(branches.len());
        for (index, branch) in branches.iter().enumerate() {
            nodes.push(self.below(&index.to_string(), branch, space)?);
        }
        self.add(Kind::Union(nodes), Properties::new())
    }

    fn record(
        &mut self,
        object: &Object,
        space: Option<&str>,
        is_error: bool,
    ) -> Result<NodeId, Invalid> {
        let named = self.named(object, space)?;
        let Some(Value::Array(list)) = object.get("fields") else {
            return Err(self.wrong(&format!(
                "the record {} has no list \"fields\"",
                named.name.full()
            )));
        };
        let node = self.begin(&named.name)?;
        let mut fields = Vec::with_capacity(list.len());
        let mut places = HashMap::with_capacity(list.len());
        for (index, json) in list.iter().enumerate() {
            self.path.push(format!("fields/{index}"));
            let field = self.field(json, named.name.space())?;
            if places.insert(field.name.clone(), index).is_some() {
                return Err(self.wrong(&format!(
                    "the record {} has two fields {}",
                    named.name.full(),
                    field.name
                )));
            }
            self.path.pop();
            fields.push(field);
        }
        let kind = Kind::Record(Record {
            named,
            is_error,
            fields,
            places,
        });
        self.end(node, kind, properties(object, &KNOWN_OF_TYPES))
    }

    fn field(&mut self, json: &Value, space: Option<&str>) -> Result<Field, Invalid> {
        let object = json.as_object();
        let Some((object, name)) =
            object.and_then(|object| Some((object, text_of(object, "name")?)))
        else {
            return Err(self.wrong(&format!("the field {} has no \"name\"", shown(json))));
        };
        self.check_name(name::fault(name))?;
        let Some(kind) = object.get("type") else {
            return Err(self.wrong(&format!("the field {name} has no \"type\"")));
        };
        let node = self.below("type", kind, space)?;
        let default = match (object.get("default"), &self.nodes[node].kind) {
            (Some(Value::String(text)), Kind::Float | Kind::Double) => Some(self.spelled(text)?),
            (default, _) => default.cloned(),
        };
        Ok(Field {
            name: name.to_owned(),
            doc: text_of(object, "doc").map(str::to_owned),
            node,
            default,
            order: self.order(object.get("order"))?,
            aliases: self.aliases(object)?,
            properties: properties(object, &KNOWN_OF_FIELDS),
        })
    }

    /// A default of a float or double that is spelled as a text, such as "NaN".
    fn spelled(&self, text: &str) -> Result<Value, Invalid> {
        match text.trim() {
            word @ ("NaN" | "Infinity" | "-Infinity") => Ok(Value::from(word)),
            digits => digits
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from)
                .ok_or_else(|| self.wrong(&format!("the default {text:?} is no number"))),
        }
    }

    fn order(&self, json: Option<&Value>) -> Result<Order, Invalid> {
        let Some(json) = json else {
            return Ok(Order::Ascending);
        };
        let word = json.as_str().map(str::to_ascii_lowercase);
        [Order::Ascending, Order::Descending, Order::Ignore]
            .into_iter()
            .find(|order| word.as_deref() == Some(order.word()))
            .ok_or_else(|| {
                self.wrong(&format!(
                    "the order {} is none of ascending, descending, ignore",
                    shown(json)
                ))
            })
    }

    fn enumeration(&mut self, object: &Object, space: Option<&str>) -> Result<NodeId, Invalid> {
        let named = self.named(object, space)?;
        let Some(Value::Array(list)) = object.get("symbols") else {
            return Err(self.wrong(&format!(
                "the enum {} has no list \"symbols\"",
                named.name.full()
            )));
        };
        let node = self.begin(&named.name)?;
        self.spend(list.len())?;
        let mut symbols = Vec::with_capacity(list.len());
        let mut places = HashMap::with_capacity(list.len());
        for json in list {
            let Some(symbol) = json.as_str() else {
                return Err(self.wrong(&format!("the symbol {} is no text", shown(json))));
            };
            self.check_name(name::fault(symbol))?;
            if places.insert(symbol.to_owned(), symbols.len()).is_some() {
                return Err(self.wrong(&format!("the symbol {symbol} is there twice")));
            }
            symbols.push(symbol.to_owned());
        }
        let default = text_of(object, "default").map(str::to_owned);
        if let Some(default) = default.as_ref().filter(|it| !places.contains_key(*it)) {
            return Err(self.wrong(&format!(
                "the default {default} of the enum {} is none of its symbols",
                named.name.full()
            )));
        }
        let kind = Kind::Enum(Enumeration {
            named,
            symbols,
            places,
            default,
        });
        let mut properties = properties(object, &KNOWN_OF_TYPES);
        properties.shift_remove("default");
        self.end(node, kind, properties)
    }

    fn fixed(&mut self, object: &Object, space: Option<&str>) -> Result<NodeId, Invalid> {
        let named = self.named(object, space)?;
        let size = object.get("size").and_then(Value::as_i64);
        let size = size.filter(|size| (0..=FIXED_BYTES_MAX).contains(size));
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            return Err(self.wrong(&format!(
                "the fixed {} has no \"size\" between 0 and {FIXED_BYTES_MAX}",
                named.name.full()
            )));
        };
        let node = self.begin(&named.name)?;
        let kind = Kind::Fixed(Fixed { named, size });
        self.end(node, kind, properties(object, &KNOWN_OF_TYPES))
    }

    fn named(&self, object: &Object, space: Option<&str>) -> Result<Named, Invalid> {
        let Some(name) = text_of(object, "name") else {
            return Err(self.wrong(&format!("{} has no \"name\"", shown_object(object))));
        };
        let name = Name::new(name, text_of(object, "namespace").or(space));
        self.check_name(name.fault())?;
        if name.is_primitive() {
            return Err(self.wrong(&format!("a type may not be called {}", name.full())));
        }
        let mut aliases = Vec::new();
        for alias in self.aliases(object)? {
            let alias = Name::new(&alias, name.space());
            self.check_name(name::fault(alias.last()))?;
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        Ok(Named {
            name,
            aliases,
            doc: text_of(object, "doc").map(str::to_owned),
        })
    }

    fn aliases(&self, object: &Object) -> Result<Vec<String>, Invalid> {
        let list = match object.get("aliases") {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => {
                return Err(self.wrong(&format!("the aliases {} are no list", shown(other))));
            }
        };
        let mut seen = BTreeSet::new();
        let mut aliases = Vec::with_capacity(list.len());
        for alias in list {
            let Some(alias) = alias.as_str() else {
                return Err(self.wrong(&format!("the alias {} is no text", shown(alias))));
            };
            if seen.insert(alias) {
                aliases.push(alias.to_owned());
            }
        }
        Ok(aliases)
    }

    /// The node for a definition that begins: the one that uses before it have, a new one, or one
    /// of its own when the name is defined already.
    fn begin(&mut self, name: &Name) -> Result<NodeId, Invalid> {
        let full = name.full();
        if let Some((node, _)) = self.awaited.remove(full) {
            self.is_moved = true;
            self.names.insert(full.to_owned(), (node, State::Begun));
            return Ok(node);
        }
        let node = self.add(Kind::Awaited(full.to_owned()), Properties::new())?;
        match self.names.get(full) {
            None => {
                self.names.insert(full.to_owned(), (node, State::Begun));
            }
            Some((_, State::Done)) => {}
            Some((_, State::Begun)) => {
                return Err(self.wrong(&format!("{full} is defined again within itself")));
            }
        }
        Ok(node)
    }

    fn end(&mut self, node: NodeId, kind: Kind, properties: Properties) -> Result<NodeId, Invalid> {
        self.nodes[node] = Node { kind, properties };
        let Some(named) = self.nodes[node].kind.named() else {
            return Ok(node);
        };
        let Some((first, state)) = self.names.get_mut(named.name.full()) else {
            return Ok(node);
        };
        if *first == node {
            *state = State::Done;
            return Ok(node);
        }
        let first = *first;
        if is_same_definition(&self.nodes, first, node) {
            return Ok(first);
        }
        let full = named.name.full();
        Err(self.wrong(&format!("{full} is defined twice, and not in the same way")))
    }

    fn add(&mut self, kind: Kind, properties: Properties) -> Result<NodeId, Invalid> {
        self.spend(1)?;
        self.nodes.push(Node { kind, properties });
        Ok(self.nodes.len() - 1)
    }

    fn spend(&mut self, count: usize) -> Result<(), Invalid> {
        self.count += count;
        if self.count > self.limits.nodes_max {
            return Err(self.wrong(&format!(
                "the schema has more than {} types, fields and symbols",
                self.limits.nodes_max
            )));
        }
        Ok(())
    }

    fn check_name(&self, fault: Option<String>) -> Result<(), Invalid> {
        match fault {
            Some(fault) if self.is_strict => Err(self.wrong(&fault)),
            _ => Ok(()),
        }
    }

    fn wrong(&self, what: &str) -> Invalid {
        Invalid::new(format!("{what}, at {}", self.pointer()))
    }

    fn pointer(&self) -> String {
        format!("/{}", self.path.join("/"))
    }
}

fn text_of<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn properties(object: &Object, known: &[&str]) -> Properties {
    let unknown = object
        .iter()
        .filter(|(key, _)| !known.contains(&key.as_str()));
    unknown
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A piece of a schema in an error, cut off where it is long.
fn shown(json: &Value) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut text = String::new();
    put_value(&mut text, json);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn shown_object(object: &Object) -> String {
    shown(&Value::Object(object.clone()))
}
