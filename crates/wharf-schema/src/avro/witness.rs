//! A record for each difference that the writer writes and the reader fails on.
//!
//! It is as small as it can be: the value leads to the place of the difference, has there what shows
//! it, and elsewhere what the reader takes. It is then really encoded with the writer and read with
//! the reader, and only kept if that fails. There is none where the writer's type has no value at
//! all (a record that holds itself), where the smallest one is larger than [`VALUES_MAX`], or once
//! the witnesses of one comparison together have [`VALUES_SUM_MAX`] values.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::binary::VALUE_DEPTH_MAX;
use super::cost::{Costs, Rule};
use super::decode::bytes_value;
use super::differ::{Cause, Found, Step};
use super::encode::encode;
use super::graph::{Graph, Kind, NodeId};
use super::pairs::{Pairs, Parts, is_broken_alone};
use super::resolve::read;
use crate::compat::{Outcome, Witness};

/// How many values one witness may have.
const VALUES_MAX: u64 = 20_000;
/// How many values all witnesses of a comparison may have.
const VALUES_SUM_MAX: u64 = 200_000;
/// How many bytes of a fixed count as one value.
const FIXED_BYTES_PER_VALUE: u64 = 16;

/// Makes witnesses for one pair of schemas.
pub(super) struct Witnesses<'a> {
    pairs: &'a Pairs,
    /// By node of the writer: any value.
    any: Costs,
    /// By pair: a value that the reader takes.
    good: Costs,
    /// By pair: a value that it does not take.
    bad: Costs,
    left: u64,
}

impl<'a> Witnesses<'a> {
    pub(super) fn new(pairs: &'a Pairs) -> Self {
        let any = Costs::new(&any_rules(&pairs.writer));
        let rules: Vec<Rule> = (0..pairs.len()).map(|it| good_rule(pairs, it)).collect();
        let good = Costs::new(&rules);
        let rules: Vec<Rule> = (0..pairs.len())
            .map(|it| bad_rule(pairs, &any, it))
            .collect();
        let bad = Costs::new(&rules);
        Self {
            pairs,
            any,
            good,
            bad,
            left: VALUES_SUM_MAX,
        }
    }

    /// The witness of a difference.
    pub(super) fn witness(&mut self, found: &Found) -> Option<Witness> {
        let record = self.record(found)?;
        let payload = encode(&self.pairs.writer, &record).ok()?;
        let failure = read(self.pairs, &payload).err()?;
        let mut hex = String::with_capacity(2 * payload.len());
        for byte in payload {
            let _infallible = write!(hex, "{byte:02x}");
        }
        Some(Witness {
            record,
            payload: hex,
            outcome: Outcome::Unreadable(failure.what),
        })
    }

    fn record(&mut self, found: &Found) -> Option<Value> {
        let pair = self.pairs.get(found.pair);
        let mut maker = Maker {
            all: self,
            left: VALUES_MAX.min(self.left),
        };
        let mut value = match (found.cause, maker.all.pairs.writer.kind(pair.writer)) {
            (Cause::Symbol(symbol), Kind::Enum(writer)) => Value::from(&*writer.symbols[symbol]),
            (Cause::Branch(index), Kind::Union(branches)) => {
                let Parts::Branches(parts) = &pair.parts else {
                    return None;
                };
                let value = maker.bad(parts[index], 0)?;
                tagged(&maker.all.pairs.writer, branches[index], value)
            }
            (Cause::Some, _) => maker.bad(found.pair, 0)?,
            _ => maker.any(pair.writer, 0)?,
        };
        for (outer, step) in found.trail.iter().rev() {
            value = maker.wrap(*outer, *step, value, 0)?;
        }
        let spent = VALUES_MAX.min(self.left) - maker.left;
        self.left -= spent;
        Some(value)
    }
}

/// Makes one record; `left` is how many values it may still have.
struct Maker<'a, 'w> {
    all: &'w Witnesses<'a>,
    left: u64,
}

impl Maker<'_, '_> {
    /// Pays for what is about to be made.
    fn pay(&mut self, cost: u64, depth: usize) -> Option<()> {
        self.left = self.left.checked_sub(cost)?;
        (depth < VALUE_DEPTH_MAX).then_some(())
    }

    /// Any value of the writer's type, the smallest.
    fn any(&mut self, node: NodeId, depth: usize) -> Option<Value> {
        let graph = &self.all.pairs.writer;
        let kind = graph.kind(node);
        self.pay(leaf_cost(kind), depth)?;
        Some(match kind {
            Kind::Union(branches) => {
                let branch = branches[self.all.any.choice(node)?];
                let value = self.any(branch, depth + 1)?;
                tagged(graph, branch, value)
            }
            Kind::Record(record) => {
                let mut entries = Map::new();
                for field in &record.fields {
                    entries.insert(field.name.clone(), self.any(field.node, depth + 1)?);
                }
                Value::Object(entries)
            }
            Kind::Enum(enumeration) => Value::from(enumeration.symbols.first()?.as_str()),
            simple => simple_value(simple),
        })
    }

    /// A value of the pair that the reader takes, or any where it takes none.
    fn good(&mut self, place: usize, depth: usize) -> Option<Value> {
        let pairs = self.all.pairs;
        let pair = pairs.get(place);
        if self.all.good.cost(place).is_none() {
            return self.any(pair.writer, depth);
        }
        match (&pair.parts, pairs.writer.kind(pair.writer)) {
            (Parts::Branches(parts), Kind::Union(branches)) => {
                self.pay(1, depth)?;
                let choice = self.all.good.choice(place)?;
                let value = self.good(parts[choice], depth + 1)?;
                Some(tagged(&pairs.writer, branches[choice], value))
            }
            (Parts::Choice(candidates), _) => {
                let chosen = pairs.chosen(candidates)?;
                self.good(chosen, depth + 1)
            }
            (Parts::Fields(fields), Kind::Record(_)) => self.fields(place, fields, None, depth),
            (_, Kind::Enum(writer)) => {
                self.pay(1, depth)?;
                let Kind::Enum(reader) = pairs.reader.kind(pair.reader) else {
                    return None;
                };
                let known = |symbol: &&String| reader.places.contains_key(*symbol);
                let symbol = writer.symbols.iter().find(known).or(writer.symbols.first());
                Some(Value::from(symbol?.as_str()))
            }
            _ => self.any(pair.writer, depth),
        }
    }

    /// A value of the pair that the reader does not take.
    fn bad(&mut self, place: usize, depth: usize) -> Option<Value> {
        let pairs = self.all.pairs;
        let pair = pairs.get(place);
        let writer = pairs.writer.kind(pair.writer);
        self.pay(1, depth)?;
        self.all.bad.cost(place)?;
        if let (Kind::Enum(reader), Kind::Enum(writer)) = (pairs.reader.kind(pair.reader), writer) {
            let missing = |symbol: &&String| !reader.places.contains_key(*symbol);
            let symbol = writer
                .symbols
                .iter()
                .find(missing)
                .or(writer.symbols.first());
            return Some(Value::from(symbol?.as_str()));
        }
        if is_broken_alone(&pairs.reader, &pairs.writer, pair) {
            return self.any(pair.writer, depth);
        }
        let choice = self.all.bad.choice(place)?;
        match (&pair.parts, writer) {
            (Parts::Inner(inner), _) => {
                let value = self.bad(*inner, depth + 1)?;
                self.wrap(place, Step::Inner, value, depth)
            }
            (Parts::Branches(parts), _) => {
                let value = self.bad(parts[choice], depth + 1)?;
                self.wrap(place, Step::Branch(choice), value, depth)
            }
            (Parts::Choice(candidates), _) => {
                let chosen = pairs.chosen(candidates)?;
                self.bad(chosen, depth + 1)
            }
            (Parts::Fields(fields), _) => {
                let (_, from, part) = fields[choice];
                let value = self.bad(part, depth + 1)?;
                self.wrap(place, Step::Field(from), value, depth)
            }
            (Parts::None, _) => None,
        }
    }

    /// A value of the pair that has `value` where the step leads.
    fn wrap(&mut self, place: usize, step: Step, value: Value, depth: usize) -> Option<Value> {
        let pairs = self.all.pairs;
        let pair = pairs.get(place);
        match (step, pairs.writer.kind(pair.writer), &pair.parts) {
            (Step::Inner, Kind::Array(_), _) => Some(Value::Array(vec![value])),
            (Step::Inner, ..) => Some(Value::Object(Map::from_iter([("key".to_owned(), value)]))),
            (Step::Branch(index), Kind::Union(branches), _) => {
                Some(tagged(&pairs.writer, branches[index], value))
            }
            (Step::Field(from), _, Parts::Fields(fields)) => {
                self.fields(place, fields, Some((from, value)), depth)
            }
            _ => None,
        }
    }

    /// A record of the writer: `given` in its field, what the reader takes in the others.
    fn fields(
        &mut self,
        place: usize,
        fields: &[(usize, usize, usize)],
        given: Option<(usize, Value)>,
        depth: usize,
    ) -> Option<Value> {
        self.pay(1, depth)?;
        let writer = self.all.pairs.get(place).writer;
        let Kind::Record(record) = self.all.pairs.writer.kind(writer) else {
            return None;
        };
        let mut read = vec![None; record.fields.len()];
        for (_, from, pair) in fields {
            read[*from] = Some(*pair);
        }
        let mut given = given;
        let mut entries = Map::new();
        for (index, field) in record.fields.iter().enumerate() {
            let value = match (given.take_if(|(from, _)| *from == index), read[index]) {
                (Some((_, value)), _) => value,
                (None, Some(pair)) => self.good(pair, depth + 1)?,
                (None, None) => self.any(field.node, depth + 1)?,
            };
            entries.insert(field.name.clone(), value);
        }
        Some(Value::Object(entries))
    }
}

fn any_rules(graph: &Graph) -> Vec<Rule> {
    let kinds = graph.nodes.iter().map(|node| &node.kind);
    let rules = kinds.map(|kind| match kind {
        Kind::Union(branches) => Rule::One(branches.iter().map(|it| (*it, 0)).collect()),
        Kind::Record(record) => Rule::All(record.fields.iter().map(|it| it.node).collect()),
        Kind::Enum(enumeration) if enumeration.symbols.is_empty() => Rule::One(Vec::new()),
        leaf => Rule::Leaf(leaf_cost(leaf)),
    });
    rules.collect()
}

/// What a value costs without the values in it.
fn leaf_cost(kind: &Kind) -> u64 {
    match kind {
        Kind::Fixed(fixed) => {
            1 + u64::try_from(fixed.size).unwrap_or(u64::MAX) / FIXED_BYTES_PER_VALUE
        }
        _ => 1,
    }
}

fn good_rule(pairs: &Pairs, place: usize) -> Rule {
    let pair = pairs.get(place);
    let reader = pairs.reader.kind(pair.reader);
    let writer = pairs.writer.kind(pair.writer);
    match (&pair.parts, reader, writer) {
        (Parts::Branches(parts), ..) => Rule::One(parts.iter().map(|it| (*it, 0)).collect()),
        (Parts::Choice(candidates), ..) => Rule::One(
            pairs
                .chosen(candidates)
                .map(|it| (it, 0))
                .into_iter()
                .collect(),
        ),
        (Parts::Inner(_), ..) => Rule::Leaf(1),
        (_, Kind::Enum(reader), Kind::Enum(writer))
            if super::pairs::has_name_of(&reader.named, &writer.named)
                && writer
                    .symbols
                    .iter()
                    .any(|it| reader.places.contains_key(it)) =>
        {
            Rule::Leaf(1)
        }
        _ if is_broken_alone(&pairs.reader, &pairs.writer, pair) => Rule::One(Vec::new()),
        (Parts::Fields(fields), ..) => Rule::All(fields.iter().map(|(.., pair)| *pair).collect()),
        (_, _, leaf) => Rule::Leaf(leaf_cost(leaf)),
    }
}

fn bad_rule(pairs: &Pairs, any: &Costs, place: usize) -> Rule {
    let pair = pairs.get(place);
    let never = || Rule::One(Vec::new());
    let Some(own) = any.cost(pair.writer) else {
        return never();
    };
    if is_broken_alone(&pairs.reader, &pairs.writer, pair) {
        return Rule::Leaf(own);
    }
    match &pair.parts {
        Parts::None => never(),
        Parts::Inner(inner) => Rule::One(vec![(*inner, 0)]),
        Parts::Branches(parts) => Rule::One(parts.iter().map(|it| (*it, 0)).collect()),
        Parts::Choice(candidates) => Rule::One(
            pairs
                .chosen(candidates)
                .map(|it| (it, 0))
                .into_iter()
                .collect(),
        ),
        Parts::Fields(fields) => Rule::One(fields.iter().map(|(.., pair)| (*pair, own)).collect()),
    }
}

fn tagged(graph: &Graph, branch: NodeId, value: Value) -> Value {
    match graph.kind(branch) {
        Kind::Null => value,
        _ => Value::Object(Map::from_iter([(graph.tag(branch).to_owned(), value)])),
    }
}

fn simple_value(kind: &Kind) -> Value {
    match kind {
        Kind::Boolean => Value::Bool(false),
        Kind::Int | Kind::Long => Value::from(0),
        Kind::Float | Kind::Double => Value::from(0.0),
        Kind::String | Kind::Bytes => Value::from(""),
        Kind::Fixed(fixed) => bytes_value(&vec![0; fixed.size]),
        Kind::Array(_) => Value::Array(Vec::new()),
        Kind::Map(_) => Value::Object(Map::new()),
        _ => Value::Null,
    }
}
