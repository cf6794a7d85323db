//! Combinations: `allOf`, `anyOf`, `oneOf`, lists of types, and keywords of several types side by
//! side.
//!
//! The parts of two combinations are matched so that as many as possible are compatible with their
//! partner: a maximum matching in the bipartite graph of parts (Kuhn's algorithm). Only what it asks
//! for is ever compared, and it tries the partner in the same place first, so that an unchanged
//! combination costs as many comparisons as it has parts.

use super::super::kind::Kind;
use super::super::shape::{Combined, Criterion, Shape};
use super::{Look, Step};

impl<'m> Look<'_, 'm> {
    /// Where only one side is a combination, one of its parts may answer for it. Whether so.
    pub(super) fn one_of_several(&mut self) -> bool {
        let from = self.pair.from;
        let to = self.pair.to;
        let (parts, criterion, is_reader_side) =
            match (&self.engine.node(from).shape, &self.engine.node(to).shape) {
                (Shape::Combined(_), Shape::Combined(_)) => return false,
                (_, Shape::Combined(to)) => (&to.parts, to.criterion, true),
                (Shape::Combined(from), _) => (&from.parts, from.criterion, false),
                _ => return false,
            };
        let extension = match (parts.len(), criterion, is_reader_side) {
            (1, ..) => None,
            (_, Criterion::Any | Criterion::One, true) => Some(Kind::SumTypeExtended),
            (_, Criterion::All, false) => Some(Kind::ProductTypeNarrowed),
            _ => return false,
        };
        for part in parts {
            let pair = if is_reader_side {
                self.pair_of(from.index, *part)
            } else {
                self.pair_of(*part, to.index)
            };
            if self.holds(pair) {
                self.toward_pair(pair, Step::Here);
                if let Some(kind) = extension {
                    self.differs(kind, Step::Here);
                }
                return true;
            }
        }
        false
    }

    pub(super) fn combinations(&mut self, from: &'m Combined, to: &'m Combined) {
        if from.criterion != to.criterion {
            let is_single = |combined: &Combined| combined.parts.len() == 1;
            let extends = match to.criterion {
                Criterion::Any => true,
                Criterion::One => is_single(from),
                Criterion::All => is_single(from) && is_single(to),
            };
            if !extends {
                self.differs(Kind::CombinedTypeChanged, Step::Here);
                return;
            }
            self.differs(Kind::CombinedTypeExtended, Step::Here);
        }
        let (before, after) = (from.distinct.len(), to.distinct.len());
        let kind = match (before.cmp(&after), to.criterion) {
            (std::cmp::Ordering::Less, Criterion::All) => Some(Kind::ProductTypeExtended),
            (std::cmp::Ordering::Less, _) => Some(Kind::SumTypeExtended),
            (std::cmp::Ordering::Greater, Criterion::All) => Some(Kind::ProductTypeNarrowed),
            (std::cmp::Ordering::Greater, _) => Some(Kind::SumTypeNarrowed),
            (std::cmp::Ordering::Equal, _) => None,
        };
        if let Some(kind) = kind {
            self.differs(kind, Step::Here);
        }
        let matching = self.matching(from, to);
        for (place, partner) in matching.iter().enumerate() {
            if let Some(partner) = partner {
                let step = Step::Numbered(from.criterion.as_str(), place);
                self.toward(from.distinct[place], to.distinct[*partner], step);
            }
        }
        if matching.iter().flatten().count() < before.min(after) {
            self.differs(Kind::CombinedTypeSubschemasChanged, Step::Here);
        }
    }

    /// For every part of `from`, its partner in `to`.
    fn matching(&mut self, from: &Combined, to: &Combined) -> Vec<Option<usize>> {
        let (before, after) = (from.distinct.len(), to.distinct.len());
        let mut part_at: Vec<Option<usize>> = vec![None; after];
        let mut place_of: Vec<Option<usize>> = vec![None; before];
        for start in 0..before {
            let mut reached_from: Vec<Option<usize>> = vec![None; after];
            let mut free = self.free_place(start, (from, to), &part_at, &mut reached_from);
            // Every place on the way goes to the part that reached it.
            while let Some(place) = free {
                let Some(part) = reached_from[place] else {
                    break;
                };
                part_at[place] = Some(part);
                free = place_of[part].replace(place);
            }
        }
        place_of
    }

    /// A place that no part has yet, reached from `start` over parts that could move.
    fn free_place(
        &mut self,
        start: usize,
        (from, to): (&Combined, &Combined),
        part_at: &[Option<usize>],
        reached_from: &mut [Option<usize>],
    ) -> Option<usize> {
        let after = to.distinct.len();
        let mut waiting = vec![start];
        while let Some(part) = waiting.pop() {
            let own = (part < after).then_some(part);
            let others = (0..after).filter(|place| *place != part);
            for place in own.into_iter().chain(others) {
                if reached_from[place].is_some() {
                    continue;
                }
                let pair = self.pair_of(from.distinct[part], to.distinct[place]);
                if !self.holds(pair) {
                    continue;
                }
                reached_from[place] = Some(part);
                match part_at[place] {
                    None => return Some(place),
                    Some(other) => waiting.push(other),
                }
            }
        }
        None
    }
}
