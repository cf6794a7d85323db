//! Arrays: the schema of all items, the schemas of the first ones under an open, partly open or
//! closed content model, and what is left to all other items.

use super::super::kind::Kind;
use super::super::shape::{Array, Index, Others, Shape};
use super::object::Unlisted;
use super::{Handle, Look, Step};

impl<'m> Look<'_, 'm> {
    pub(super) fn arrays(&mut self, from: &'m Array, to: &'m Array) {
        match (from.all, to.all) {
            (None, None) => {}
            (None, Some(_)) => self.differs(Kind::SchemaAdded, Step::Keyword("items")),
            (Some(_), None) => self.differs(Kind::SchemaRemoved, Step::Keyword("items")),
            (Some(from), Some(to)) => self.toward(from, to, Step::Keyword("items")),
        }
        self.first_items(from, to);
        self.others(
            "additionalItems",
            (from.additional, to.additional),
            [
                Kind::AdditionalItemsAdded,
                Kind::AdditionalItemsRemoved,
                Kind::AdditionalItemsExtended,
                Kind::AdditionalItemsNarrowed,
            ],
        );
        self.unevaluated(
            "unevaluatedItems",
            (from.unevaluated, to.unevaluated),
            [
                Kind::UnevaluatedItemsAdded,
                Kind::UnevaluatedItemsRemoved,
                Kind::UnevaluatedItemsExtended,
                Kind::UnevaluatedItemsNarrowed,
            ],
        );
        self.item_counts(from, to);
    }

    fn item_counts(&mut self, from: &Array, to: &Array) {
        self.counts(
            "maxItems",
            (from.max_items, to.max_items),
            [
                Kind::MaxItemsAdded,
                Kind::MaxItemsRemoved,
                Kind::MaxItemsIncreased,
                Kind::MaxItemsDecreased,
            ],
        );
        self.counts(
            "minItems",
            (from.min_items, to.min_items),
            [
                Kind::MinItemsAdded,
                Kind::MinItemsRemoved,
                Kind::MinItemsIncreased,
                Kind::MinItemsDecreased,
            ],
        );
        match (from.is_unique, to.is_unique) {
            (true, false) => self.differs(Kind::UniqueItemsRemoved, Step::Keyword("uniqueItems")),
            (false, true) => self.differs(Kind::UniqueItemsAdded, Step::Keyword("uniqueItems")),
            _ => {}
        }
        self.counts(
            "maxContains",
            (from.max_contains, to.max_contains),
            [
                Kind::MaxContainsAdded,
                Kind::MaxContainsRemoved,
                Kind::MaxContainsIncreased,
                Kind::MaxContainsDecreased,
            ],
        );
        self.counts(
            "minContains",
            (from.min_contains, to.min_contains),
            [
                Kind::MinContainsAdded,
                Kind::MinContainsRemoved,
                Kind::MinContainsIncreased,
                Kind::MinContainsDecreased,
            ],
        );
    }

    fn first_items(&mut self, from: &'m Array, to: &'m Array) {
        let count = from.first.len().max(to.first.len());
        for place in 0..count {
            match (from.first.get(place), to.first.get(place)) {
                (Some(before), Some(after)) => {
                    self.toward(*before, *after, Step::Numbered("items", place));
                }
                (Some(before), None) => self.item_removed(place, *before, to),
                (None, Some(after)) => self.item_added(place, *after, from),
                (None, None) => {}
            }
        }
    }

    fn item_removed(&mut self, place: usize, before: Index, to: &'m Array) {
        let step = Step::Numbered("items", place);
        let kind = match self.unlisted_items(to, self.pair.to) {
            Unlisted::Open => Kind::ItemRemovedFromOpen,
            Unlisted::Partly(schema) => {
                let pair = self.pair_of(before, schema);
                let holds = self.holds(pair);
                self.toward_pair(pair, step);
                if holds {
                    Kind::ItemRemovedIsCovered
                } else {
                    Kind::ItemRemovedNotCovered
                }
            }
            Unlisted::Closed => {
                let before = self.engine.resolved(self.pair.from.is_reader, before);
                match self.engine.node(before).shape {
                    Shape::Nothing => Kind::ItemWithFalseRemovedFromClosed,
                    _ => Kind::ItemRemovedFromClosed,
                }
            }
        };
        self.differs(kind, step);
    }

    fn item_added(&mut self, place: usize, after: Index, from: &'m Array) {
        let step = Step::Numbered("items", place);
        let kind = match self.unlisted_items(from, self.pair.from) {
            Unlisted::Open => {
                let after = self.engine.resolved(self.pair.to.is_reader, after);
                match self.engine.node(after).shape {
                    Shape::Everything => Kind::ItemWithEmptySchemaAddedToOpen,
                    _ => Kind::ItemAddedToOpen,
                }
            }
            Unlisted::Partly(schema) => {
                let pair = self.pair_of(schema, after);
                let holds = self.holds(pair);
                self.toward_pair(pair, step);
                if holds {
                    Kind::ItemAddedIsCovered
                } else {
                    Kind::ItemAddedNotCovered
                }
            }
            Unlisted::Closed => Kind::ItemAddedToClosed,
        };
        self.differs(kind, step);
    }

    /// The content model of an array, as an item behind the listed ones meets it.
    fn unlisted_items(&self, array: &Array, side: Handle) -> Unlisted {
        match array.additional {
            Others::Nothing => return Unlisted::Closed,
            Others::Only(schema) => return Unlisted::Partly(schema),
            Others::Anything => {}
        }
        let Some(schema) = array.unevaluated else {
            return Unlisted::Open;
        };
        let schema = self.engine.resolved(side.is_reader, schema);
        match self.engine.node(schema).shape {
            Shape::Everything => Unlisted::Open,
            Shape::Nothing => Unlisted::Closed,
            _ => Unlisted::Partly(schema.index),
        }
    }
}
