//! The canonical text: what Java's `Schema.toString` prints.
//!
//! Attributes have Java's order: `type`, `name`, `namespace` (where it is not the enclosing one),
//! `doc`, the body, unknown attributes as they came, `aliases`; in fields `name`, `type`, `doc`,
//! `default`, `order` (unless ascending), `aliases`, unknown ones. A type is written out where it is
//! met first and by name afterwards.

use std::collections::BTreeSet;

use super::graph::{Field, Graph, Kind, Named, Node, NodeId, Order, Properties};
use super::normal::{default_of, properties_of, sorted};
use super::text::{put_key, put_list, put_value};
use crate::jackson::put_string;

/// Prints the schema; types named in `known` are not written out. `is_normal`: what does not matter
/// has one order and form.
pub(super) fn print(graph: &Graph, known: BTreeSet<String>, is_normal: bool) -> String {
    let mut printer = Printer {
        graph,
        known,
        is_normal,
        out: String::new(),
    };
    printer.node(graph.root, None);
    printer.out
}

struct Printer<'a> {
    graph: &'a Graph,
    known: BTreeSet<String>,
    is_normal: bool,
    out: String,
}

impl<'a> Printer<'a> {
    fn node(&mut self, id: NodeId, space: Option<&str>) {
        let graph = self.graph;
        let node = &graph.nodes[id];
        if let Some(named) = node.kind.named() {
            if self.known.insert(named.name.full().to_owned()) {
                self.definition(node, named, space);
            } else {
                put_string(&mut self.out, named.name.within(space));
            }
            return;
        }
        match &node.kind {
            Kind::Union(branches) => {
                self.out.push('[');
                for (index, branch) in branches.iter().enumerate() {
                    self.comma(index > 0);
                    self.node(*branch, space);
                }
                self.out.push(']');
            }
            Kind::Array(inner) | Kind::Map(inner) => {
                self.open(node.kind.word());
                let is_array = matches!(node.kind, Kind::Array(_));
                self.key(if is_array { "items" } else { "values" });
                self.node(*inner, space);
                self.node_properties(node);
                self.out.push('}');
            }
            simple if node.properties.is_empty() => put_string(&mut self.out, simple.word()),
            simple => {
                self.open(simple.word());
                self.node_properties(node);
                self.out.push('}');
            }
        }
    }

    fn definition(&mut self, node: &'a Node, named: &Named, space: Option<&str>) {
        let word = match &node.kind {
            Kind::Record(record) if record.is_error => "error",
            kind => kind.word(),
        };
        self.open(word);
        self.text("name", named.name.last());
        match named.name.space() {
            own if own == space => {}
            own => self.text("namespace", own.unwrap_or("")),
        }
        if let Some(doc) = named
            .doc
            .as_ref()
            .filter(|doc| !(self.is_normal && doc.is_empty()))
        {
            self.text("doc", doc);
        }
        match &node.kind {
            Kind::Record(record) => {
                self.key("fields");
                self.out.push('[');
                for (index, field) in record.fields.iter().enumerate() {
                    self.comma(index > 0);
                    self.field(field, named.name.space());
                }
                self.out.push(']');
            }
            Kind::Enum(enumeration) => {
                self.key("symbols");
                put_list(&mut self.out, &enumeration.symbols, |out, symbol| {
                    put_string(out, symbol);
                });
                if let Some(default) = &enumeration.default {
                    self.text("default", default);
                }
            }
            Kind::Fixed(fixed) => {
                self.key("size");
                self.out.push_str(&fixed.size.to_string());
            }
            _ => {}
        }
        self.node_properties(node);
        if !named.aliases.is_empty() {
            self.key("aliases");
            let mut aliases: Vec<_> = named.aliases.iter().collect();
            if self.is_normal {
                aliases.sort();
            }
            put_list(&mut self.out, aliases, |out, alias| {
                put_string(out, alias.within(named.name.space()));
            });
        }
        self.out.push('}');
    }

    fn field(&mut self, field: &Field, space: Option<&str>) {
        self.out.push('{');
        put_key(&mut self.out, "name");
        put_string(&mut self.out, &field.name);
        self.key("type");
        self.node(field.node, space);
        if let Some(doc) = &field.doc {
            self.text("doc", doc);
        }
        if let Some(default) = &field.default {
            self.key("default");
            if self.is_normal {
                let default = default_of(self.graph, field.node, default);
                put_value(&mut self.out, &default);
            } else {
                put_value(&mut self.out, default);
            }
        }
        if field.order != Order::Ascending {
            self.text("order", field.order.word());
        }
        if !field.aliases.is_empty() {
            self.key("aliases");
            let mut aliases: Vec<_> = field.aliases.iter().collect();
            if self.is_normal {
                aliases.sort();
            }
            put_list(&mut self.out, aliases, |out, alias| {
                put_string(out, alias);
            });
        }
        if self.is_normal {
            self.properties(&sorted(&field.properties));
        } else {
            self.properties(&field.properties);
        }
        self.out.push('}');
    }

    fn node_properties(&mut self, node: &Node) {
        if self.is_normal {
            self.properties(&properties_of(node));
        } else {
            self.properties(&node.properties);
        }
    }

    fn open(&mut self, word: &str) {
        self.out.push('{');
        put_key(&mut self.out, "type");
        put_string(&mut self.out, word);
    }

    fn key(&mut self, key: &str) {
        self.out.push(',');
        put_key(&mut self.out, key);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        put_string(&mut self.out, text);
    }

    fn properties(&mut self, properties: &Properties) {
        for (key, value) in properties {
            self.key(key);
            put_value(&mut self.out, value);
        }
    }

    fn comma(&mut self, wanted: bool) {
        if wanted {
            self.out.push(',');
        }
    }
}
