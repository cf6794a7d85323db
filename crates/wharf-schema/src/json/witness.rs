//! Records that show an incompatible difference: valid for the writer, refused by the reader.
//!
//! At the place of the difference, values are made that lie at what changed; they are wrapped in
//! records of the writer's schema up to the root. The two validators then decide: what the writer's
//! does not accept or the reader's does not refuse is no witness, and neither is a record that is
//! refused for a place elsewhere. A difference without one is then only syntactic, or its record is
//! beyond what is tried.

use serde_json::{Map, Value, json};

use super::Schema;
use super::compare::{Found, Pair, Step};
use super::sample::{
    LENGTH_MAX, OTHER, Sampler, anything, beside_of, matching, merged, numbers, text_of,
};
use super::shape::{Array, Index, Model, Numeric, Object, Shape, Text};
use crate::compat::{Outcome, Witness};

/// How many records are tried for one difference, and for one comparison.
const TRIED_MAX: usize = 64;
const TRIED_IN_ALL_MAX: usize = 4_000;

/// How many parts of records are made for one difference.
const PARTS_MAX: usize = 2_000;

/// How deep combinations of combinations are looked into.
const DEPTH_MAX: usize = 3;

/// How many variants are kept at each level on the way up.
const WRAPPED_MAX: usize = 48;

/// Looks for witnesses between two schemas.
pub(super) struct Search<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    left: usize,
}

/// A value on its way to the root, and where in it the difference is.
struct Candidate {
    value: Value,
    place: Vec<String>,
}

impl<'s> Search<'s> {
    pub(super) fn new(writer: &'s Schema, reader: &'s Schema) -> Self {
        Self {
            writer,
            reader,
            left: TRIED_IN_ALL_MAX,
        }
    }

    /// A record that shows the difference, if one is found.
    pub(super) fn witness(&mut self, found: &Found<'_>) -> Option<Witness> {
        if self.left == 0 {
            return None;
        }
        let (writer, reader) = (self.writer.judge().ok()?, self.reader.judge().ok()?);
        let mut fallback = None;
        for candidate in self.candidates(found).into_iter().take(TRIED_MAX) {
            self.left = self.left.saturating_sub(1);
            if !writer.accepts(&candidate.value) {
                continue;
            }
            let place = candidate.place.iter().fold(String::new(), |place, name| {
                format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
            });
            match reader.refuses_at(&candidate.value, &place) {
                None => {}
                Some(true) => return self.proved(candidate.value),
                Some(false) => fallback = fallback.or(Some(candidate.value)),
            }
        }
        self.proved(fallback?)
    }

    fn proved(&self, record: Value) -> Option<Witness> {
        let payload = self.writer.encode(&record).ok()?;
        let error = self.reader.decode(&payload).err()?;
        Some(Witness {
            record,
            payload: payload.iter().map(|byte| format!("{byte:02x}")).collect(),
            outcome: Outcome::Unreadable(error.what),
        })
    }

    fn candidates(&self, found: &Found<'_>) -> Vec<Candidate> {
        let (before, after) = (&self.writer.inner.model, &self.reader.inner.model);
        let mut makers = Makers {
            writer: Sampler::new(before, PARTS_MAX),
            reader: Sampler::new(after, PARTS_MAX),
            models: (before, after),
        };
        let Some(((pair, step), above)) = found.way.split_last() else {
            return Vec::new();
        };
        let mut candidates = makers.at(*pair, *step, 0);
        for (pair, step) in above.iter().rev() {
            candidates = makers.wrapped(*pair, *step, candidates);
            candidates.truncate(WRAPPED_MAX);
        }
        candidates
    }
}

struct Makers<'m> {
    writer: Sampler<'m>,
    reader: Sampler<'m>,
    models: (&'m Model, &'m Model),
}

impl<'m> Makers<'m> {
    fn shapes(&self, pair: Pair) -> (&'m Shape, &'m Shape) {
        let (writer, reader) = self.models;
        (
            &writer.node(pair.from.index).shape,
            &reader.node(pair.to.index).shape,
        )
    }

    /// Values at the place of a difference.
    fn at(&mut self, pair: Pair, step: Step<'_>, depth: usize) -> Vec<Candidate> {
        let here = |values: Vec<Value>| {
            values
                .into_iter()
                .map(|value| Candidate {
                    value,
                    place: Vec::new(),
                })
                .collect::<Vec<_>>()
        };
        let mut candidates = match self.shapes(pair) {
            (Shape::String(from), Shape::String(to)) => here(texts(from, to)),
            (Shape::Number(from), Shape::Number(to)) => here(amounts(from, to)),
            (Shape::Enum(from) | Shape::Const(from), Shape::Enum(to) | Shape::Const(to)) => {
                let missing = from
                    .values
                    .iter()
                    .filter(|value| !to.values.contains(value));
                here(missing.take(TRIED_MAX).cloned().collect())
            }
            (Shape::Not(_), Shape::Not(to)) => {
                let mut values = self.reader.records(*to);
                values.extend(anything());
                here(values)
            }
            (Shape::Object(from), Shape::Object(to)) => self.objects(pair, (from, to), step),
            (Shape::Array(from), Shape::Array(to)) => self.arrays(pair, (from, to), step),
            _ => Vec::new(),
        };
        candidates.extend(here(self.writer.records(pair.from.index)));
        candidates.extend(self.alternatives(pair, depth));
        candidates
    }

    /// Values for every part of a combination: where it differs from its counterpart, and others.
    fn alternatives(&mut self, pair: Pair, depth: usize) -> Vec<Candidate> {
        let parts = |shape: &'m Shape, whole: Index| match shape {
            Shape::Combined(combined) => combined.distinct.clone(),
            _ => vec![whole],
        };
        let (from, to) = self.shapes(pair);
        let is_combined = matches!(
            (from, to),
            (Shape::Combined(_), _) | (_, Shape::Combined(_))
        );
        if depth == DEPTH_MAX || !is_combined {
            return Vec::new();
        }
        let (writer, reader) = self.models;
        let (ours, theirs) = (parts(from, pair.from.index), parts(to, pair.to.index));
        let most = TRIED_MAX / ours.len().clamp(1, TRIED_MAX / 4);
        let mut values = Vec::new();
        for (place, part) in ours.iter().enumerate().take(TRIED_MAX) {
            let own = theirs.get(place).or(theirs.last()).copied();
            let mut part_pair = pair;
            part_pair.from.index = writer.resolve(*part);
            part_pair.to.index = reader.resolve(own.unwrap_or(pair.to.index));
            let of_part = self.at(part_pair, Step::Here, depth + 1);
            values.extend(of_part.into_iter().take(most));
        }
        values
    }

    /// Objects of the writer's, with what the reader's wants where the writer's allows it.
    fn bases(&mut self, pair: Pair) -> Vec<Map<String, Value>> {
        let ours = self.writer.records(pair.from.index);
        let theirs = self.reader.records(pair.to.index);
        let objects = |values: &[Value]| {
            values
                .iter()
                .filter_map(Value::as_object)
                .cloned()
                .collect::<Vec<_>>()
        };
        let (ours, theirs) = (objects(&ours), objects(&theirs));
        let both = ours.first().zip(theirs.first()).and_then(|(ours, theirs)| {
            let both = merged(Value::Object(ours.clone()), Value::Object(theirs.clone()));
            both.as_object().cloned()
        });
        let mut bases = both.into_iter().collect::<Vec<_>>();
        bases.extend(ours);
        bases.push(Map::new());
        bases.dedup();
        bases.truncate(4);
        bases
    }

    fn objects(
        &mut self,
        pair: Pair,
        (from, to): (&'m Object, &'m Object),
        step: Step<'_>,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let bases = self.bases(pair);
        let mut add = |object: Map<String, Value>, place: Vec<String>| {
            candidates.push(Candidate {
                value: Value::Object(object),
                place,
            });
        };
        match step {
            Step::Named("required", name) => {
                for mut base in bases {
                    base.remove(name);
                    add(base, Vec::new());
                }
            }
            Step::Named("dependencies", name) => {
                let wanted =
                    |object: &'m Object| object.dependent_required.get(name).into_iter().flatten();
                for mut base in bases {
                    for other in wanted(to) {
                        base.remove(other);
                    }
                    for other in wanted(from) {
                        base.insert(other.clone(), json!("a"));
                    }
                    base.insert(name.to_owned(), json!("a"));
                    add(base, Vec::new());
                }
            }
            Step::Named(_, name) => {
                if to.required.contains(name) {
                    for mut base in bases.iter().cloned() {
                        base.remove(name);
                        add(base, Vec::new());
                    }
                }
                let values = self.of(from.schema_of(name));
                for value in values {
                    for mut base in bases.iter().take(2).cloned() {
                        base.insert(name.to_owned(), value.clone());
                        add(base, vec![name.to_owned()]);
                    }
                }
            }
            Step::Keyword("additionalProperties" | "unevaluatedProperties") => {
                for value in self.of(from.schema_of(OTHER)) {
                    for mut base in bases.iter().take(2).cloned() {
                        base.insert(OTHER.to_owned(), value.clone());
                        add(base, Vec::new());
                    }
                }
            }
            _ => {
                let most = to.max_properties.unwrap_or(0).min(LENGTH_MAX) as usize;
                for mut base in bases {
                    add(base.clone(), Vec::new());
                    for number in 0..=most {
                        if base.len() <= most {
                            base.insert(format!("{OTHER}{number}"), json!("a"));
                        }
                    }
                    add(base, Vec::new());
                }
            }
        }
        candidates
    }

    /// Values as the writer's schema has them, where there is one, and of every type.
    fn of(&mut self, schema: Option<Index>) -> Vec<Value> {
        let mut values = match schema {
            Some(schema) => self.writer.records(schema),
            None => Vec::new(),
        };
        values.extend(anything());
        values
    }

    fn arrays(
        &mut self,
        pair: Pair,
        (from, to): (&'m Array, &'m Array),
        step: Step<'_>,
    ) -> Vec<Candidate> {
        let place = match step {
            Step::Numbered(_, place) => place,
            Step::Keyword("additionalItems" | "unevaluatedItems") => {
                from.first.len().max(to.first.len())
            }
            _ => 0,
        };
        let mut candidates = Vec::new();
        let is_item = matches!(
            step,
            Step::Numbered(..) | Step::Keyword("items" | "additionalItems" | "unevaluatedItems")
        );
        if is_item {
            let values = self.of(from.schema_of(place));
            let values = values.into_iter().map(|value| Candidate {
                value,
                place: Vec::new(),
            });
            candidates.extend(self.in_array(pair, place, values.collect()));
        } else {
            let item = self.of(from.schema_of(0));
            let first = item.first().cloned().unwrap_or_default();
            let bounds = [
                to.max_items.map(|most| most + 1),
                to.min_items.map(|least| least.saturating_sub(1)),
            ];
            let counts = bounds.into_iter().flatten().chain([2, 1, 0, 3]);
            let most_contained = to.max_contains.map(|most| most + 1);
            for count in counts.chain(most_contained) {
                let count = count.min(LENGTH_MAX) as usize;
                let distinct =
                    (0..count).map(|place| item.get(place).cloned().unwrap_or(json!(place)));
                for items in [vec![first.clone(); count], distinct.collect()] {
                    candidates.push(Candidate {
                        value: Value::Array(items),
                        place: Vec::new(),
                    });
                }
            }
        }
        candidates
    }

    /// Arrays with the candidates at a place, and what the writer wants before and behind it.
    fn in_array(&mut self, pair: Pair, place: usize, inner: Vec<Candidate>) -> Vec<Candidate> {
        let Shape::Array(from) = self.shapes(pair).0 else {
            return inner;
        };
        let place = place.min(LENGTH_MAX as usize);
        let count = from
            .min_items
            .unwrap_or(0)
            .clamp(place as u64 + 1, LENGTH_MAX) as usize;
        let others = (0..count)
            .map(|place| {
                self.of(from.schema_of(place))
                    .into_iter()
                    .next()
                    .unwrap_or_default()
            })
            .collect::<Vec<_>>();
        inner
            .into_iter()
            .map(|mut candidate| {
                let mut items = others.clone();
                if from.first.is_empty() && from.min_items.is_some() && !from.is_unique {
                    items.fill(candidate.value.clone());
                }
                items[place] = candidate.value;
                candidate.place.insert(0, place.to_string());
                Candidate {
                    value: Value::Array(items),
                    place: candidate.place,
                }
            })
            .collect()
    }

    /// The candidates inside records of the pair that the way comes from.
    fn wrapped(&mut self, pair: Pair, step: Step<'_>, inner: Vec<Candidate>) -> Vec<Candidate> {
        match step {
            Step::Numbered("items", place) => self.in_array(pair, place, inner),
            Step::Keyword("items") => self.in_array(pair, 0, inner),
            Step::Keyword("additionalItems" | "unevaluatedItems") => {
                let place = match self.shapes(pair) {
                    (Shape::Array(from), Shape::Array(to)) => from.first.len().max(to.first.len()),
                    _ => 0,
                };
                self.in_array(pair, place, inner)
            }
            Step::Named("properties", name) => self.in_object(pair, name, inner),
            Step::Keyword("additionalProperties" | "unevaluatedProperties") => {
                self.in_object(pair, OTHER, inner)
            }
            Step::Named(_, name) => {
                // A dependency: the object itself, with the name that brings it in.
                inner
                    .into_iter()
                    .map(|mut candidate| {
                        if let Value::Object(members) = &mut candidate.value {
                            members.entry(name).or_insert(json!("a"));
                        }
                        candidate
                    })
                    .collect()
            }
            Step::Here | Step::Keyword(_) | Step::Numbered(..) => self.beside(pair, inner),
        }
    }

    fn in_object(&mut self, pair: Pair, name: &str, inner: Vec<Candidate>) -> Vec<Candidate> {
        let bases = self.bases(pair);
        let mut wrapped = Vec::new();
        for candidate in inner {
            for base in bases.iter().take(2) {
                let mut object = base.clone();
                object.insert(name.to_owned(), candidate.value.clone());
                let mut place = vec![name.to_owned()];
                place.extend(candidate.place.iter().cloned());
                wrapped.push(Candidate {
                    value: Value::Object(object),
                    place,
                });
            }
        }
        wrapped
    }

    /// A part of a combination: the value itself, and with what the other parts want.
    fn beside(&mut self, pair: Pair, inner: Vec<Candidate>) -> Vec<Candidate> {
        let whole = self.writer.records(pair.from.index).into_iter().next();
        let mut all = Vec::new();
        for candidate in inner {
            if let Some(whole) = &whole
                && whole.is_object()
                && candidate.value.is_object()
            {
                all.push(Candidate {
                    value: merged_over(whole.clone(), candidate.value.clone()),
                    place: candidate.place.clone(),
                });
            }
            all.push(candidate);
        }
        all
    }
}

/// The members of both, those of the second where both have one.
fn merged_over(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Object(mut below), Value::Object(above)) => {
            below.extend(above);
            Value::Object(below)
        }
        (_, above) => above,
    }
}

fn texts(from: &Text, to: &Text) -> Vec<Value> {
    let mut lengths = Vec::new();
    lengths.extend(to.max_length.map(|most| most + 1));
    lengths.extend(to.min_length.and_then(|least| least.checked_sub(1)));
    lengths.extend([from.max_length, from.min_length].into_iter().flatten());
    let mut values = Vec::new();
    if let Some(pattern) = &from.pattern {
        for least in lengths.iter().copied().chain([0]) {
            values.extend(matching(pattern, least).into_iter().map(Value::from));
        }
    }
    values.extend(
        lengths
            .into_iter()
            .map(|length| text_of(length.min(10_000))),
    );
    values.extend(["a", "0", "", "A", " ", "-", "\u{7f}", "ab", "00"].map(Value::from));
    values
}

fn amounts(from: &Numeric, to: &Numeric) -> Vec<Value> {
    let mut values = Vec::new();
    for (bound, towards) in [
        (&to.maximum, 1),
        (&to.exclusive_maximum, 1),
        (&to.minimum, -1),
        (&to.exclusive_minimum, -1),
    ] {
        if let Some(bound) = bound {
            values.push(json!(bound));
            values.extend(beside_of(bound, towards));
        }
    }
    values.extend(numbers(from));
    values.extend([
        json!(0.5),
        json!(1.5),
        json!(2),
        json!(3),
        json!(5),
        json!(7),
    ]);
    values
}
