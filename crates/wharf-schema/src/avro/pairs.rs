//! Which pairs of a reader's and a writer's type fit: the table under verdicts, resolution and
//! witnesses.
//!
//! A pair is *broken* when the writer's type has a value that the reader's cannot take. That is the
//! least set for which: a pair is broken by itself (other type, other name, other size, a missing
//! symbol or field), a pair of which every part must fit is broken when one part is, and a choice
//! (the reader's union) when all its candidates are. It is found without recursion, so cycles of
//! types cost nothing, and an assumption made on the way never outlives its proof.

use std::collections::HashMap;
use std::sync::Arc;

use super::graph::{Graph, Kind, Named, NodeId, Record};
use crate::{Invalid, Limits};

/// What a new pair costs, in comparisons.
const PAIR_COST: usize = 4;

/// The table of one reader and one writer.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) reader: Arc<Graph>,
    pub(super) writer: Arc<Graph>,
    list: Vec<Pair>,
    places: HashMap<(NodeId, NodeId), usize>,
    left: usize,
}

/// A reader's and a writer's type that may meet.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) reader: NodeId,
    pub(super) writer: NodeId,
    pub(super) parts: Parts,
    pub(super) is_broken: bool,
}

/// What a pair depends on.
#[derive(Debug)]
pub(super) enum Parts {
    /// Nothing: it fits or is broken by itself.
    None,
    /// The items of arrays, the values of maps.
    Inner(usize),
    /// Each branch of the writer's union with the whole reader.
    Branches(Vec<usize>),
    /// Each of the reader's fields that the writer has: its place in the reader and in the writer,
    /// and the pair of their types.
    Fields(Vec<(usize, usize, usize)>),
    /// The branches of the reader's union that the writer's type could be, best first.
    Choice(Vec<usize>),
}

impl Pairs {
    /// Compares everything that can meet when `reader` reads what `writer` wrote.
    pub(super) fn new(
        reader: &Arc<Graph>,
        writer: &Arc<Graph>,
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        let mut pairs = Self {
            reader: Arc::clone(reader),
            writer: Arc::clone(writer),
            list: Vec::new(),
            places: HashMap::new(),
            left: limits.comparisons_max,
        };
        pairs.place(reader.root, writer.root)?;
        let mut next = 0;
        while next < pairs.list.len() {
            let parts = pairs.parts(reader, writer, next)?;
            let pair = &mut pairs.list[next];
            pair.parts = parts;
            pair.is_broken = is_broken_alone(reader, writer, pair);
            next += 1;
        }
        pairs.spread();
        Ok(pairs)
    }

    /// The pair of the two roots.
    pub(super) const ROOT: usize = 0;

    pub(super) fn get(&self, pair: usize) -> &Pair {
        &self.list[pair]
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The candidate that a reader takes: the first that fits, or else the first that looks like it.
    pub(super) fn chosen(&self, candidates: &[usize]) -> Option<usize> {
        let fits = |pair: &&usize| !self.list[**pair].is_broken;
        let chosen = candidates.iter().find(fits).or(candidates.first());
        chosen.copied()
    }

    fn spend(&mut self, cost: usize) -> Result<(), Invalid> {
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            Invalid::new("the schemas are too large to compare with each other".to_owned())
        })?;
        Ok(())
    }

    fn place(&mut self, reader: NodeId, writer: NodeId) -> Result<usize, Invalid> {
        if let Some(place) = self.places.get(&(reader, writer)) {
            return Ok(*place);
        }
        self.spend(PAIR_COST)?;
        let place = self.list.len();
        self.places.insert((reader, writer), place);
        self.list.push(Pair {
            reader,
            writer,
            parts: Parts::None,
            is_broken: false,
        });
        Ok(place)
    }

    fn parts(&mut self, readers: &Graph, writers: &Graph, pair: usize) -> Result<Parts, Invalid> {
        let Pair { reader, writer, .. } = self.list[pair];
        Ok(match (readers.kind(reader), writers.kind(writer)) {
            (_, Kind::Union(branches)) => {
                let mut parts = Vec::with_capacity(branches.len());
                for branch in branches {
                    parts.push(self.place(reader, *branch)?);
                }
                Parts::Branches(parts)
            }
            (Kind::Union(branches), kind) => self.choice(readers, branches, (writer, kind))?,
            (Kind::Array(reader), Kind::Array(writer)) | (Kind::Map(reader), Kind::Map(writer)) => {
                Parts::Inner(self.place(*reader, *writer)?)
            }
            (Kind::Record(reader), Kind::Record(writer)) => self.fields(reader, writer)?,
            _ => Parts::None,
        })
    }

    fn fields(&mut self, reader: &Record, writer: &Record) -> Result<Parts, Invalid> {
        self.spend(reader.fields.len())?;
        let mut parts = Vec::with_capacity(reader.fields.len());
        for (place, field) in reader.fields.iter().enumerate() {
            if let Some(from) = Graph::writer_field(writer, field) {
                let pair = self.place(field.node, writer.fields[from].node)?;
                parts.push((place, from, pair));
            }
        }
        Ok(Parts::Fields(parts))
    }

    fn choice(
        &mut self,
        readers: &Graph,
        branches: &[NodeId],
        (writer, kind): (NodeId, &Kind),
    ) -> Result<Parts, Invalid> {
        self.spend(branches.len())?;
        let mut ranked = Vec::new();
        for branch in branches {
            if let Some(rank) = likeness(readers.kind(*branch), kind) {
                ranked.push((rank, self.place(*branch, writer)?));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        Ok(Parts::Choice(
            ranked.into_iter().map(|(_, pair)| pair).collect(),
        ))
    }

    /// Takes what is broken from parts to the pairs they are parts of.
    fn spread(&mut self) {
        let mut broken: Vec<usize> = (0..self.list.len())
            .filter(|pair| self.list[*pair].is_broken)
            .collect();
        if broken.is_empty() {
            return;
        }
        let mut users = vec![Vec::new(); self.list.len()];
        let mut choices_left = vec![0usize; self.list.len()];
        for (user, pair) in self.list.iter().enumerate() {
            for part in pair.parts.iter() {
                users[part].push(user);
            }
            if let Parts::Choice(candidates) = &pair.parts {
                choices_left[user] = candidates.len();
            }
        }
        while let Some(part) = broken.pop() {
            for user in &users[part] {
                let pair = &mut self.list[*user];
                if let Parts::Choice(_) = pair.parts {
                    choices_left[*user] -= 1;
                    if choices_left[*user] > 0 {
                        continue;
                    }
                }
                if !std::mem::replace(&mut pair.is_broken, true) {
                    broken.push(*user);
                }
            }
        }
    }
}

impl Parts {
    /// The pairs.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (inner, list, fields): (_, &[usize], &[_]) = match self {
            Self::None => (None, &[], &[]),
            Self::Inner(pair) => (Some(*pair), &[], &[]),
            Self::Branches(pairs) | Self::Choice(pairs) => (None, pairs, &[]),
            Self::Fields(fields) => (None, &[], fields),
        };
        let fields = fields.iter().map(|(_, _, pair)| *pair);
        inner.into_iter().chain(list.iter().copied()).chain(fields)
    }
}

/// Whether a pair is broken whatever its parts are.
pub(super) fn is_broken_alone(reader: &Graph, writer: &Graph, pair: &Pair) -> bool {
    match (reader.kind(pair.reader), writer.kind(pair.writer)) {
        (_, Kind::Union(_)) => false,
        (Kind::Union(_), _) => matches!(&pair.parts, Parts::Choice(none) if none.is_empty()),
        (Kind::Record(reader), Kind::Record(writer)) => {
            !has_name_of(&reader.named, &writer.named)
                || reader.fields.iter().any(|field| {
                    field.default.is_none() && Graph::writer_field(writer, field).is_none()
                })
        }
        (Kind::Enum(reader), Kind::Enum(writer)) => {
            !has_name_of(&reader.named, &writer.named)
                || reader.default.is_none()
                    && writer
                        .symbols
                        .iter()
                        .any(|it| !reader.places.contains_key(it))
        }
        (Kind::Fixed(reader), Kind::Fixed(writer)) => {
            !has_name_of(&reader.named, &writer.named) || reader.size != writer.size
        }
        (reader, writer) => reader.word() != writer.word() && !promotes(reader, writer),
    }
}

/// Whether the reader's type is called as the writer's: the last parts are the same, or one of the
/// reader's aliases is the writer's full name.
pub(super) fn has_name_of(reader: &Named, writer: &Named) -> bool {
    reader.name.last() == writer.name.last() || reader.aliases.contains(&writer.name)
}

/// Whether values of the writer's simple type become the reader's.
pub(super) fn promotes(reader: &Kind, writer: &Kind) -> bool {
    matches!(
        (writer, reader),
        (Kind::Int, Kind::Long | Kind::Float | Kind::Double)
            | (Kind::Long, Kind::Float | Kind::Double)
            | (Kind::Float, Kind::Double)
            | (Kind::Bytes, Kind::String)
            | (Kind::String, Kind::Bytes)
    )
}

/// How much a branch of the reader's union looks like the writer's type, 0 the most: the type by its
/// full name or alias, the type by the last part of its name, a type it is promoted to.
fn likeness(reader: &Kind, writer: &Kind) -> Option<u8> {
    if reader.word() != writer.word() {
        return promotes(reader, writer).then_some(2);
    }
    if let (Kind::Fixed(reader), Kind::Fixed(writer)) = (reader, writer)
        && reader.size != writer.size
    {
        return None;
    }
    match (reader.named(), writer.named()) {
        (Some(reader), Some(writer)) => {
            let is_full = reader.name == writer.name || reader.aliases.contains(&writer.name);
            has_name_of(reader, writer).then_some(u8::from(!is_full))
        }
        _ => Some(0),
    }
}
