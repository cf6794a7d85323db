//! Every way in which a reader cannot read a writer, as Java's `SchemaCompatibility` finds them and
//! Confluent words them.
//!
//! Each pair of types is reported once, at the first place where it is met, so a type that is used a
//! thousand times and broken once gives one difference. Logical types, docs and unknown attributes
//! are not looked at. What the table of pairs calls broken has at least one difference.

use super::graph::{Graph, Kind, Record};
use super::pairs::{Pair, Pairs, Parts, has_name_of, promotes};

/// An incompatibility, with what a witness needs.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: &'static str,
    /// JSON pointer into the reader.
    pub(super) path: String,
    pub(super) message: String,
    pub(super) additional: String,
    /// How the writer's record gets there: the pairs from the outside in and the step into each
    /// one's value.
    pub(super) trail: Vec<(usize, Step)>,
    /// The pair that has it.
    pub(super) pair: usize,
    pub(super) cause: Cause,
}

/// One step into a value of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To an item of an array or a value of a map.
    Inner,
    /// To the field at this place.
    Field(usize),
    /// To this branch of a union.
    Branch(usize),
}

/// Which of the pair's values show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Every one.
    Any,
    /// The enum's symbol at this place.
    Symbol(usize),
    /// Some values of the pair.
    Some,
    /// Some values of this branch of the pair's union.
    Branch(usize),
}

struct Walk<'a> {
    pairs: &'a Pairs,
    /// Every step that was made.
    steps: Vec<Made>,
    found: Vec<Found>,
    found_max: usize,
}

struct Made {
    /// The step before it.
    before: Option<usize>,
    /// The piece of the path.
    key: String,
    step: Step,
    /// The pair it leads to.
    to: usize,
}

/// What there is to say about a pair, in order.
enum Item {
    Fault(Fault),
    Part(String, Step, usize),
}

struct Fault {
    kind: &'static str,
    /// Below the pair's own path.
    place: String,
    additional: String,
    cause: Cause,
}

/// All differences, at most `found_max`.
pub(super) fn differences(pairs: &Pairs, found_max: usize) -> Vec<Found> {
    if !pairs.get(Pairs::ROOT).is_broken {
        return Vec::new();
    }
    let mut walk = Walk {
        pairs,
        steps: Vec::new(),
        found: Vec::new(),
        found_max,
    };
    walk.run();
    walk.found
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut seen = vec![false; self.pairs.len()];
        let mut items = vec![Item::Part(String::new(), Step::Inner, Pairs::ROOT)];
        // Faults and parts of a pair take turns in Java's order, so both are on the one stack.
        let mut stack = vec![(items.remove(0), None)];
        while self.found.len() < self.found_max {
            let Some((item, at)) = stack.pop() else {
                return;
            };
            let (key, step, pair) = match item {
                Item::Fault(fault) => {
                    self.report(fault, at);
                    continue;
                }
                Item::Part(key, step, pair) => (key, step, pair),
            };
            if self.pairs.get(pair).is_broken && !std::mem::replace(&mut seen[pair], true) {
                self.steps.push(Made {
                    before: at,
                    key,
                    step,
                    to: pair,
                });
                let here = Some(self.steps.len() - 1);
                self.items(pair, &mut items);
                stack.extend(items.drain(..).rev().map(|item| (item, here)));
            }
        }
    }

    fn report(&mut self, fault: Fault, at: Option<usize>) {
        let mut keys = vec![fault.place.as_str()];
        let mut trail = Vec::new();
        let mut pair = Pairs::ROOT;
        let mut from = at;
        while let Some(Made {
            before,
            key,
            step,
            to,
        }) = from.map(|index| &self.steps[index])
        {
            keys.push(key);
            match trail.last_mut() {
                // The step into the pair that was met before comes from this one.
                Some((outer, _)) => *outer = *to,
                None => pair = *to,
            }
            trail.push((Pairs::ROOT, *step));
            from = *before;
        }
        // The first step leads to the outermost pair, from nowhere.
        trail.pop();
        trail.reverse();
        keys.retain(|key| !key.is_empty());
        keys.reverse();
        let path = format!("/{}", keys.join("/"));
        self.found.push(Found {
            kind: fault.kind,
            message: sentence(fault.kind, &path, &fault.additional),
            path,
            additional: fault.additional,
            trail,
            pair,
            cause: fault.cause,
        });
    }

    fn items(&self, place: usize, items: &mut Vec<Item>) {
        let pair = self.pairs.get(place);
        let reader = self.pairs.reader.kind(pair.reader);
        let writer = self.pairs.writer.kind(pair.writer);
        match (reader, writer, &pair.parts) {
            (Kind::Union(_), Kind::Union(branches), Parts::Branches(parts)) => {
                for (index, part) in parts.iter().enumerate() {
                    if self.pairs.get(*part).is_broken {
                        let missing = self.pairs.writer.kind(branches[index]);
                        let cause = Cause::Branch(index);
                        items.push(missing_branch(&index.to_string(), missing, cause));
                    }
                }
            }
            (_, Kind::Union(_), Parts::Branches(parts)) => {
                for (index, part) in parts.iter().enumerate() {
                    items.push(Item::Part(index.to_string(), Step::Branch(index), *part));
                }
            }
            (Kind::Union(_), _, _) => items.push(missing_branch("", writer, Cause::Some)),
            (_, _, Parts::Inner(part)) => {
                let is_array = matches!(reader, Kind::Array(_));
                let key = if is_array { "items" } else { "values" };
                items.push(Item::Part(key.to_owned(), Step::Inner, *part));
            }
            (Kind::Record(reader), Kind::Record(_), Parts::Fields(fields)) => {
                misnamed(pair, self.pairs, items);
                record(&self.pairs.reader, reader, writer, fields, items);
            }
            (Kind::Enum(reader), Kind::Enum(writer), _) => {
                misnamed(pair, self.pairs, items);
                let missing = |symbol: &&String| !reader.places.contains_key(*symbol);
                let mut symbols: Vec<&String> = writer.symbols.iter().filter(missing).collect();
                if let (Some(first), None) = (symbols.first(), &reader.default) {
                    let cause = Cause::Symbol(writer.places[*first]);
                    symbols.sort();
                    let list: Vec<&str> = symbols.iter().map(|symbol| symbol.as_str()).collect();
                    let list = format!("[{}]", list.join(", "));
                    items.push(fault("MISSING_ENUM_SYMBOLS", "symbols", list, cause));
                }
            }
            (Kind::Fixed(reader), Kind::Fixed(writer), _) => {
                misnamed(pair, self.pairs, items);
                if reader.size != writer.size {
                    let sizes = format!("expected: {}, found: {}", writer.size, reader.size);
                    items.push(fault("FIXED_SIZE_MISMATCH", "size", sizes, Cause::Any));
                }
            }
            _ if reader.word() != writer.word() && !promotes(reader, writer) => {
                items.push(mismatch("", reader, writer));
            }
            _ => {}
        }
    }
}

fn record(
    graph: &Graph,
    reader: &Record,
    writer: &Kind,
    fields: &[(usize, usize, usize)],
    items: &mut Vec<Item>,
) {
    let mut fields = fields.iter().peekable();
    for (place, field) in reader.fields.iter().enumerate() {
        if let Some((_, from, pair)) = fields.next_if(|(reader, _, _)| *reader == place) {
            let key = format!("fields/{place}/type");
            items.push(Item::Part(key, Step::Field(*from), *pair));
        } else if field.default.is_none() {
            let path = format!("fields/{place}");
            items.push(match graph.kind(field.node) {
                // Java compares the enum with the whole record then, in vain.
                kind @ Kind::Enum(enumeration) if enumeration.default.is_some() => {
                    mismatch(&format!("{path}/type"), kind, writer)
                }
                _ => fault(
                    "READER_FIELD_MISSING_DEFAULT_VALUE",
                    &path,
                    field.name.clone(),
                    Cause::Any,
                ),
            });
        }
    }
}

fn misnamed(pair: &Pair, pairs: &Pairs, items: &mut Vec<Item>) {
    let reader = pairs.reader.kind(pair.reader).named();
    let writer = pairs.writer.kind(pair.writer).named();
    if let (Some(reader), Some(writer)) = (reader, writer)
        && !has_name_of(reader, writer)
    {
        let expected = format!("expected: {}", writer.name.full());
        items.push(fault("NAME_MISMATCH", "name", expected, Cause::Any));
    }
}

fn missing_branch(place: &str, writer: &Kind, cause: Cause) -> Item {
    let word = writer.word().to_ascii_uppercase();
    let additional = format!("reader union lacking writer type: {word}");
    fault("MISSING_UNION_BRANCH", place, additional, cause)
}

fn mismatch(place: &str, reader: &Kind, writer: &Kind) -> Item {
    let reader = reader.word().to_ascii_uppercase();
    let writer = writer.word().to_ascii_uppercase();
    let additional = format!("reader type: {reader} not compatible with writer type: {writer}");
    fault("TYPE_MISMATCH", place, additional, Cause::Any)
}

fn fault(kind: &'static str, place: &str, additional: String, cause: Cause) -> Item {
    Item::Fault(Fault {
        kind,
        place: place.to_owned(),
        additional,
        cause,
    })
}

/// Confluent's sentence, with `{new}` for the reader and `{old}` for the writer.
fn sentence(kind: &str, path: &str, additional: &str) -> String {
    match kind {
        "FIXED_SIZE_MISMATCH" => format!(
            "The size of FIXED type field at path '{path}' in the {{new}} schema does not match \
             with the {{old}} schema"
        ),
        "TYPE_MISMATCH" => format!(
            "The type (path '{path}') of a field in the {{new}} schema does not match with the \
             {{old}} schema"
        ),
        "NAME_MISMATCH" => format!("The name of the schema has changed (path '{path}')"),
        "MISSING_ENUM_SYMBOLS" => format!(
            "The {{new}} schema is missing enum symbols '{additional}' at path '{path}' in the \
             {{old}} schema"
        ),
        "MISSING_UNION_BRANCH" => format!(
            "The {{new}} schema is missing a type inside a union field at path '{path}' in the \
             {{old}} schema"
        ),
        _ => format!(
            "The field '{additional}' at path '{path}' in the {{new}} schema has no default value \
             and is missing in the {{old}} schema"
        ),
    }
}
