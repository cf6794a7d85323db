//! Avro 1.12: parsing, canonical text, compatibility, payloads, all of our own.
//!
//! A [`Schema`] is a graph of types with every name resolved. Its canonical text is Java Avro's, byte
//! for byte, because that is what registries compare; its verdicts are those of Java's
//! `SchemaCompatibility`; what it reads, it reads by the resolution rules of the specification.
//!
//! Bounds: a text nests at most 128 JSON values deep (serde_json's own bound, so about 42 records
//! written out within each other), and with the names of several texts put together at most
//! `Limits::depth_max` types. Nothing recurses over types, values or pairs of types without a bound.

mod binary;
mod check;
mod cost;
mod decode;
mod defaults;
mod differ;
mod encode;
mod fingerprint;
mod graph;
mod name;
mod normal;
mod pairs;
mod parse;
mod print;
mod resolve;
mod same;
mod text;
mod witness;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use self::graph::Graph;
use self::pairs::Pairs;
use self::witness::Witnesses;
use crate::compat::{Difference, Policy};
use crate::{Dependency, Invalid, Limits, Unreadable};

/// A schema with everything it refers to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    graph: Arc<Graph>,
}

impl Schema {
    /// Understands a new schema: names must be well formed, and defaults must fit their types.
    /// Dependencies are read first, and the types they name are known by name.
    pub fn parse(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        let graph = parse::parse(text, dependencies, limits, true)?;
        check::check_shape(&graph, limits)?;
        check::check_defaults(&graph, limits)?;
        Ok(Self {
            graph: Arc::new(graph),
        })
    }

    /// Understands a schema that a registry accepted before: older ones let unsound defaults and
    /// names pass, and what they hold must stay readable.
    pub fn parse_stored(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        let graph = parse::parse(text, dependencies, limits, false)?;
        check::check_shape(&graph, limits)?;
        Ok(Self {
            graph: Arc::new(graph),
        })
    }

    /// The text that two equal schemas share: what Java Avro's `Schema.toString` prints, with the
    /// outermost types of the references as names.
    pub fn canonical(&self) -> String {
        print::print(&self.graph, self.graph.known.clone(), false)
    }

    /// The canonical text with every reference written out: the same for a schema that was sent with
    /// its references inlined.
    pub fn resolved(&self) -> String {
        print::print(&self.graph, BTreeSet::new(), false)
    }

    /// The canonical text, with what does not matter in one order and form, as Confluent's
    /// `normalize=true` has it: unknown attributes and aliases sorted, defaults in their types' form.
    pub fn normalized(&self) -> String {
        print::print(&self.graph, self.graph.known.clone(), true)
    }

    /// The text in another format: `resolved` has the references written out.
    pub fn formatted(&self, format: &str) -> Option<String> {
        format
            .eq_ignore_ascii_case("resolved")
            .then(|| self.resolved())
    }

    /// The full name of the outermost type: of a record, an enum or a fixed.
    pub fn name(&self) -> Option<String> {
        let named = self.graph.kind(self.graph.root).named();
        named.map(|named| named.name.full().to_owned())
    }

    /// The specification's Parsing Canonical Form: all that readers and writers of bytes depend on.
    pub fn parsing_form(&self) -> String {
        fingerprint::parsing_form(&self.graph)
    }

    /// The 64-bit Rabin fingerprint (`CRC-64-AVRO`) of the Parsing Canonical Form.
    pub fn rabin_fingerprint(&self) -> u64 {
        fingerprint::rabin(&self.parsing_form())
    }

    /// The MD5 fingerprint of the Parsing Canonical Form.
    pub fn md5_fingerprint(&self) -> [u8; 16] {
        fingerprint::md5(&self.parsing_form())
    }

    /// The SHA-256 fingerprint of the Parsing Canonical Form.
    pub fn sha256_fingerprint(&self) -> [u8; 32] {
        fingerprint::sha256(&self.parsing_form())
    }

    /// Every way in which this schema cannot read what `writer` wrote, as Java's
    /// `SchemaCompatibility` finds them, each once and with a witness. Empty where it reads
    /// everything.
    pub fn reads(
        &self,
        writer: &Self,
        _policy: Policy,
        limits: &Limits,
    ) -> Result<Vec<Difference>, Invalid> {
        let pairs = Pairs::new(&self.graph, &writer.graph, limits)?;
        let found = differ::differences(&pairs, limits.incompatibilities_max);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut witnesses = Witnesses::new(&pairs);
        let differences = found.into_iter().map(|found| Difference {
            kind: found.kind,
            is_compatible: false,
            witness: witnesses.witness(&found),
            path: found.path,
            message: found.message,
            additional: found.additional,
        });
        Ok(differences.collect())
    }

    /// Reads a payload that this schema wrote, to Avro's JSON encoding: a union's value is `null` or
    /// `{"branch": value}`, bytes and fixed are text with a character for each byte, and numbers that
    /// JSON lacks are `"NaN"`, `"Infinity"`, `"-Infinity"`. Bytes that are left over are an error.
    pub fn decode(&self, payload: &[u8]) -> Result<Value, Unreadable> {
        decode::decode(&self.graph, payload)
    }

    /// Writes a record that is given as [`Self::decode`] gives it. Fields that are not there get
    /// their defaults.
    pub fn encode(&self, record: &Value) -> Result<Vec<u8>, Unreadable> {
        encode::encode(&self.graph, record)
    }

    /// Reads a payload that `writer` wrote, as this schema sees it: by Avro's schema resolution, in
    /// the form of [`Self::decode`]. Schemas too large to compare are an error too. For more than one
    /// payload, [`Self::reading`].
    pub fn read(&self, writer: &Self, payload: &[u8]) -> Result<Value, Unreadable> {
        let reading = self.reading(writer, &Limits::default());
        let reading = reading.map_err(|error| Unreadable::new(error.what))?;
        reading.read(payload)
    }

    /// Compares this schema with a writer's once, for all the payloads that it wrote.
    pub fn reading(&self, writer: &Self, limits: &Limits) -> Result<Reading, Invalid> {
        let pairs = Pairs::new(&self.graph, &writer.graph, limits)?;
        Ok(Reading {
            pairs: Arc::new(pairs),
        })
    }
}

/// What one schema wrote, as another sees it; made by [`Schema::reading`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reading {
    pairs: Arc<Pairs>,
}

impl Reading {
    /// Reads a payload of the writer's, as [`Schema::read`].
    pub fn read(&self, payload: &[u8]) -> Result<Value, Unreadable> {
        resolve::read(&self.pairs, payload)
    }
}
