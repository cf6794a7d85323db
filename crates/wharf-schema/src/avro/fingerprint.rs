//! The Parsing Canonical Form and the fingerprints that the Avro specification makes of it: the same
//! for schemas that read and write the same bytes, whatever their docs, aliases and defaults.

use std::collections::BTreeSet;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::graph::{Graph, Kind, NodeId};
use super::text::put_list;
use crate::jackson::put_string;

/// The fingerprint of no bytes at all, and the polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

/// The Parsing Canonical Form.
pub(super) fn parsing_form(graph: &Graph) -> String {
    let mut form = Form {
        graph,
        seen: BTreeSet::new(),
        out: String::new(),
    };
    form.node(graph.root);
    form.out
}

struct Form<'a> {
    graph: &'a Graph,
    seen: BTreeSet<NodeId>,
    out: String,
}

impl Form<'_> {
    fn node(&mut self, id: NodeId) {
        let graph = self.graph;
        let kind = graph.kind(id);
        if let Some(named) = kind.named() {
            if !self.seen.insert(id) {
                put_string(&mut self.out, named.name.full());
                return;
            }
            self.out.push_str("{\"name\":");
            put_string(&mut self.out, named.name.full());
            self.out.push_str(",\"type\":");
            put_string(&mut self.out, kind.word());
        }
        match kind {
            Kind::Union(branches) => self.list(branches.iter().copied(), Self::node),
            Kind::Array(inner) => self.wrap("{\"type\":\"array\",\"items\":", *inner),
            Kind::Map(inner) => self.wrap("{\"type\":\"map\",\"values\":", *inner),
            Kind::Record(record) => {
                self.out.push_str(",\"fields\":");
                self.list(&record.fields, |form, field| {
                    form.out.push_str("{\"name\":");
                    put_string(&mut form.out, &field.name);
                    form.wrap(",\"type\":", field.node);
                });
                self.out.push('}');
            }
            Kind::Enum(enumeration) => {
                self.out.push_str(",\"symbols\":");
                put_list(&mut self.out, &enumeration.symbols, |out, symbol| {
                    put_string(out, symbol);
                });
                self.out.push('}');
            }
            Kind::Fixed(fixed) => {
                self.out.push_str(&format!(",\"size\":{}}}", fixed.size));
            }
            simple => put_string(&mut self.out, simple.word()),
        }
    }

    fn wrap(&mut self, before: &str, inner: NodeId) {
        self.out.push_str(before);
        self.node(inner);
        self.out.push('}');
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, put: impl Fn(&mut Self, T)) {
        self.out.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            put(self, item);
        }
        self.out.push(']');
    }
}

/// The 64-bit Rabin fingerprint of a text.
pub(super) fn rabin(text: &str) -> u64 {
    const TABLE: [u64; 256] = table();
    text.bytes().fold(EMPTY, |print, byte| {
        let [low, ..] = print.to_le_bytes();
        (print >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    let mut value = 0u64;
    while index < 256 {
        let mut print = value;
        let mut bit = 0;
        while bit < 8 {
            print = (print >> 1) ^ (EMPTY & (print & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = print;
        index += 1;
        value += 1;
    }
    table
}

pub(super) fn md5(text: &str) -> [u8; 16] {
    Md5::digest(text.as_bytes()).into()
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_the_specification() {
        // Values from the test data of Apache Avro (share/test/data/schema-tests.txt).
        assert_eq!(rabin("\"null\""), 7_195_948_357_588_979_594);
        assert_eq!(
            rabin("\"boolean\"").cast_signed(),
            -6_970_731_678_124_411_036
        );
        assert_eq!(rabin("\"int\""), 8_247_732_601_305_521_295);
    }
}
