//! What a reader's schema changes against a writer's, by Confluent's rules.
//!
//! Two schemas are a graph of *pairs*: each pair has differences of its own and leads to further
//! pairs. Whether a pair lets the reader read is the greatest fixpoint: everything is taken to hold
//! until a difference shows that it does not, which then travels back to all that relied on it.
//! Recursive schemas need nothing special then. A second pass walks from the root and reports.
//!
//! Neither pass calls itself, and both count what they do against [`Limits::comparisons_max`]: there
//! is a verdict on everything that was looked at, or none.

mod array;
mod combined;
mod object;
mod rules;
mod scalar;
#[cfg(test)]
mod tests;

use std::collections::{BinaryHeap, HashMap};

use super::kind::Kind;
use super::shape::{Index, Model, Node};
use crate::compat::Policy;
use crate::{Invalid, Limits};

/// A schema inside one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub(super) is_reader: bool,
    pub(super) index: Index,
}

/// What was, and what is. The first is the writer's, but under an odd number of `not`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) from: Handle,
    pub(super) to: Handle,
}

/// Where something is below a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'m> {
    /// At the pair itself.
    Here,
    /// At a keyword.
    Keyword(&'static str),
    /// At a name below a keyword.
    Named(&'static str, &'m str),
    /// At a number below a keyword.
    Numbered(&'static str, usize),
}

/// What a pair shows.
#[derive(Clone, Copy, Debug)]
enum Item<'m> {
    Differs(Kind, Step<'m>),
    Into(Pair, Step<'m>),
}

/// A difference and the way to it: the pairs from the root on, each with the step that leads on.
#[derive(Clone, Debug)]
pub(super) struct Found<'m> {
    pub(super) kind: Kind,
    pub(super) way: Vec<(Pair, Step<'m>)>,
}

impl Found<'_> {
    /// The place, as Confluent writes it.
    pub(super) fn path(&self) -> String {
        let mut path = String::from("#/");
        for (_, step) in &self.way {
            let start = if path.len() > 2 { "/" } else { "" };
            match step {
                Step::Here => {}
                Step::Keyword(keyword) => path.extend([start, keyword]),
                Step::Named(keyword, name) => path.extend([start, keyword, "/", name]),
                Step::Numbered(keyword, number) => {
                    path.extend([start, keyword, "/", &number.to_string()]);
                }
            }
        }
        path
    }
}

/// The differences between what `writer` wrote and what `reader` expects, in the order of a walk
/// from the root. Of each sort, compatible or not, at most `incompatibilities_max` are given; a
/// pair that several places refer to is reported at the first [`PLACES_MAX`] of them.
pub(super) fn differences<'m>(
    reader: &'m Model,
    writer: &'m Model,
    policy: Policy,
    limits: &Limits,
) -> Result<Vec<Found<'m>>, Invalid> {
    let mut engine = Engine {
        reader,
        writer,
        policy,
        limits: *limits,
        places: HashMap::new(),
        pairs: Vec::new(),
        waiting: BinaryHeap::new(),
        spent: 0,
    };
    let root = Pair {
        from: engine.resolved(false, 0),
        to: engine.resolved(true, 0),
    };
    engine.place(root);
    engine.settle()?;
    engine.report(root)
}

/// At how many places one pair is reported.
const PLACES_MAX: u32 = 16;

struct Engine<'m> {
    reader: &'m Model,
    writer: &'m Model,
    policy: Policy,
    limits: Limits,
    places: HashMap<Pair, usize>,
    pairs: Vec<Progress>,
    waiting: BinaryHeap<usize>,
    spent: usize,
}

struct Progress {
    pair: Pair,
    holds: bool,
    is_waiting: bool,
    /// Those whose verdict relies on this one.
    askers: Vec<usize>,
    reported: u32,
}

impl<'m> Engine<'m> {
    fn node(&self, handle: Handle) -> &'m Node {
        let model = if handle.is_reader {
            self.reader
        } else {
            self.writer
        };
        model.node(handle.index)
    }

    fn resolved(&self, is_reader: bool, index: Index) -> Handle {
        let model = if is_reader { self.reader } else { self.writer };
        Handle {
            is_reader,
            index: model.resolve(index),
        }
    }

    fn place(&mut self, pair: Pair) -> usize {
        if let Some(place) = self.places.get(&pair) {
            return *place;
        }
        let place = self.pairs.len();
        self.places.insert(pair, place);
        self.pairs.push(Progress {
            pair,
            holds: true,
            is_waiting: true,
            askers: Vec::new(),
            reported: 0,
        });
        self.waiting.push(place);
        place
    }

    fn spend(&mut self, steps: usize) -> Result<(), Invalid> {
        self.spent = self.spent.saturating_add(steps);
        // A pair that is remembered costs far more memory than a step costs time.
        if self.spent > self.limits.comparisons_max
            || self.pairs.len() > self.limits.comparisons_max / 4
        {
            return Err(Invalid::new(format!(
                "comparing the two schemas takes more than {} steps, so there is no verdict",
                self.limits.comparisons_max
            )));
        }
        Ok(())
    }

    /// Looks at pairs until no verdict changes any more. Pairs found later are looked at first, so
    /// that one that relies on many is seen again when all of them are settled.
    fn settle(&mut self) -> Result<(), Invalid> {
        while let Some(place) = self.waiting.pop() {
            self.pairs[place].is_waiting = false;
            if !self.pairs[place].holds {
                continue;
            }
            let items = self.look(place)?;
            let policy = self.policy;
            let holds = items.iter().all(|item| match item {
                Item::Differs(kind, _) => kind.verdict().holds(policy),
                Item::Into(pair, _) => {
                    let below = self.place(*pair);
                    let below = &mut self.pairs[below];
                    if below.holds {
                        below.askers.push(place);
                    }
                    below.holds
                }
            });
            if holds {
                continue;
            }
            self.pairs[place].holds = false;
            for asker in std::mem::take(&mut self.pairs[place].askers) {
                let progress = &mut self.pairs[asker];
                if progress.holds && !progress.is_waiting {
                    progress.is_waiting = true;
                    self.waiting.push(asker);
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, place: usize) -> Result<Vec<Item<'m>>, Invalid> {
        let pair = self.pairs[place].pair;
        let mut look = Look {
            engine: self,
            pair,
            asker: place,
            items: Vec::new(),
            asked: 0,
        };
        look.compare();
        let (items, asked) = (look.items, look.asked);
        self.spend(1 + items.len() + asked)?;
        Ok(items)
    }

    /// Walks from the root along what every pair shows.
    fn report(&mut self, root: Pair) -> Result<Vec<Found<'m>>, Invalid> {
        struct Trail<'m> {
            parent: Option<usize>,
            pair: Pair,
            step: Step<'m>,
        }
        let mut found = Vec::new();
        let (mut good, mut bad) = (0, 0);
        let mut trails: Vec<Trail<'m>> = Vec::new();
        let mut waiting = vec![(None, Item::Into(root, Step::Here))];
        while let Some((parent, item)) = waiting.pop() {
            let ancestors = std::iter::successors(parent, |trail: &usize| trails[*trail].parent);
            match item {
                Item::Differs(kind, step) => {
                    let counter = if kind.verdict().holds(self.policy) {
                        &mut good
                    } else {
                        &mut bad
                    };
                    *counter += 1;
                    if *counter > self.limits.incompatibilities_max {
                        continue;
                    }
                    let mut pairs = ancestors.collect::<Vec<_>>();
                    pairs.reverse();
                    let mut way = Vec::with_capacity(pairs.len());
                    let mut steps = pairs.iter().skip(1).map(|trail| trails[*trail].step);
                    for trail in &pairs {
                        way.push((trails[*trail].pair, steps.next().unwrap_or(step)));
                    }
                    found.push(Found { kind, way });
                }
                Item::Into(pair, step) => {
                    if ancestors.clone().any(|trail| trails[trail].pair == pair) {
                        continue;
                    }
                    let place = self.place(pair);
                    let progress = &mut self.pairs[place];
                    progress.reported += 1;
                    let has_no_room = progress.holds && good >= self.limits.incompatibilities_max;
                    if progress.reported > PLACES_MAX
                        || has_no_room
                        || bad >= self.limits.incompatibilities_max
                    {
                        continue;
                    }
                    let trail = trails.len();
                    trails.push(Trail { parent, pair, step });
                    let items = self.look(place)?;
                    waiting.extend(items.into_iter().rev().map(|item| (Some(trail), item)));
                }
            }
        }
        Ok(found)
    }
}

/// A look at one pair: what it shows is gathered, and what it leads to can be asked for.
struct Look<'e, 'm> {
    engine: &'e mut Engine<'m>,
    pair: Pair,
    asker: usize,
    items: Vec<Item<'m>>,
    asked: usize,
}

impl<'m> Look<'_, 'm> {
    fn differs(&mut self, kind: Kind, step: Step<'m>) {
        self.items.push(Item::Differs(kind, step));
    }

    /// What the indices stand for, the first on the side that was.
    fn pair_of(&self, from: Index, to: Index) -> Pair {
        Pair {
            from: self.engine.resolved(self.pair.from.is_reader, from),
            to: self.engine.resolved(self.pair.to.is_reader, to),
        }
    }

    fn toward_pair(&mut self, pair: Pair, step: Step<'m>) {
        self.items.push(Item::Into(pair, step));
    }

    fn toward(&mut self, from: Index, to: Index, step: Step<'m>) {
        let pair = self.pair_of(from, to);
        self.toward_pair(pair, step);
    }

    /// Whether a pair holds as far as is known; when that changes, this pair is looked at again.
    fn holds(&mut self, pair: Pair) -> bool {
        self.asked += 1;
        if self.engine.spent.saturating_add(self.asked) > self.engine.limits.comparisons_max {
            // The look ends soon, and the engine then refuses to give a verdict.
            return false;
        }
        let place = self.engine.place(pair);
        let asker = self.asker;
        let progress = &mut self.engine.pairs[place];
        if progress.holds && progress.askers.last() != Some(&asker) {
            progress.askers.push(asker);
        }
        progress.holds
    }
}
