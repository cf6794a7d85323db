//! Objects: what is required, properties under an open, partly open or closed content model,
//! dependencies, and what is left to all other properties.

use std::collections::{BTreeMap, BTreeSet};

use super::super::kind::Kind;
use super::super::shape::{Index, Object, Others, Shape};
use super::{Handle, Look, Step};

/// What a schema says about a property that it does not list.
pub(super) enum Unlisted {
    /// It may be anything.
    Open,
    /// It must be as this schema says.
    Partly(Index),
    /// It must not be.
    Closed,
}

impl<'m> Look<'_, 'm> {
    pub(super) fn objects(&mut self, from: &'m Object, to: &'m Object) {
        self.required(from, to);
        self.properties(from, to);
        self.dependencies(from, to);
        self.others(
            "additionalProperties",
            (from.additional, to.additional),
            [
                Kind::AdditionalPropertiesAdded,
                Kind::AdditionalPropertiesRemoved,
                Kind::AdditionalPropertiesExtended,
                Kind::AdditionalPropertiesNarrowed,
            ],
        );
        self.unevaluated(
            "unevaluatedProperties",
            (from.unevaluated, to.unevaluated),
            [
                Kind::UnevaluatedPropertiesAdded,
                Kind::UnevaluatedPropertiesRemoved,
                Kind::UnevaluatedPropertiesExtended,
                Kind::UnevaluatedPropertiesNarrowed,
            ],
        );
        self.counts(
            "maxProperties",
            (from.max_properties, to.max_properties),
            [
                Kind::MaxPropertiesAdded,
                Kind::MaxPropertiesRemoved,
                Kind::MaxPropertiesIncreased,
                Kind::MaxPropertiesDecreased,
            ],
        );
        self.counts(
            "minProperties",
            (from.min_properties, to.min_properties),
            [
                Kind::MinPropertiesAdded,
                Kind::MinPropertiesRemoved,
                Kind::MinPropertiesIncreased,
                Kind::MinPropertiesDecreased,
            ],
        );
    }

    fn has_default(&self, schema: Index) -> bool {
        let handle = Handle {
            index: schema,
            ..self.pair.to
        };
        self.engine.node(handle).note.default.is_some()
    }

    /// Only properties that both list are looked at here; the others are told as added or removed.
    fn required(&mut self, from: &'m Object, to: &'m Object) {
        for name in from.properties.keys() {
            let Some(schema) = to.properties.get(name) else {
                continue;
            };
            let kind = match (from.required.contains(name), to.required.contains(name)) {
                (true, false) => Kind::RequiredAttributeRemoved,
                (false, true) if self.has_default(*schema) => {
                    Kind::RequiredAttributeWithDefaultAdded
                }
                (false, true) => Kind::RequiredAttributeAdded,
                _ => continue,
            };
            self.differs(kind, Step::Named("required", name));
        }
    }

    fn properties(&mut self, from: &'m Object, to: &'m Object) {
        for (name, before) in &from.properties {
            match to.properties.get(name) {
                Some(after) => self.toward(*before, *after, Step::Named("properties", name)),
                None => self.property_removed(name, *before, to),
            }
        }
        for (name, after) in &to.properties {
            if !from.properties.contains_key(name) {
                self.property_added(name, *after, from, to);
            }
        }
    }

    fn property_removed(&mut self, name: &'m str, before: Index, to: &'m Object) {
        let step = Step::Named("properties", name);
        let kind = match self.unlisted(to, name, self.pair.to) {
            Unlisted::Open => Kind::PropertyRemovedFromOpen,
            Unlisted::Partly(schema) => {
                let pair = self.pair_of(before, schema);
                let holds = self.holds(pair);
                self.toward_pair(pair, step);
                if holds {
                    Kind::PropertyRemovedIsCovered
                } else {
                    Kind::PropertyRemovedNotCovered
                }
            }
            Unlisted::Closed => {
                let before = self.engine.resolved(self.pair.from.is_reader, before);
                match self.engine.node(before).shape {
                    Shape::Nothing => Kind::PropertyWithFalseRemovedFromClosed,
                    _ => Kind::PropertyRemovedFromClosed,
                }
            }
        };
        self.differs(kind, step);
    }

    fn property_added(&mut self, name: &'m str, after: Index, from: &'m Object, to: &'m Object) {
        let step = Step::Named("properties", name);
        let is_required = to.required.contains(name);
        let has_default = self.has_default(after);
        let unlisted = self.unlisted(from, name, self.pair.from);
        if let Unlisted::Open = unlisted {
            let schema = self.engine.resolved(self.pair.to.is_reader, after);
            let accepts_all = matches!(self.engine.node(schema).shape, Shape::Everything);
            let kind = match (accepts_all, is_required, has_default) {
                // Confluent looks no further here, whether the property is required or not.
                (true, ..) => Kind::PropertyWithEmptySchemaAddedToOpen,
                (_, true, true) => Kind::RequiredPropertyWithDefaultAddedToOpen,
                (_, true, false) => Kind::RequiredPropertyAddedToOpen,
                (_, false, _) => Kind::OptionalPropertyAddedToOpen,
            };
            self.differs(kind, step);
            return;
        }
        if let Unlisted::Partly(schema) = unlisted {
            let pair = self.pair_of(schema, after);
            let holds = self.holds(pair);
            self.toward_pair(pair, step);
            let kind = if holds {
                Kind::PropertyAddedIsCovered
            } else {
                Kind::PropertyAddedNotCovered
            };
            self.differs(kind, step);
        }
        let kind = match (is_required, has_default) {
            (true, true) => Kind::RequiredPropertyWithDefaultAddedToUnopen,
            (true, false) => Kind::RequiredPropertyAddedToUnopen,
            (false, _) => Kind::OptionalPropertyAddedToUnopen,
        };
        self.differs(kind, step);
    }

    /// The content model of an object, as a property that it does not list meets it.
    fn unlisted(&self, object: &Object, name: &str, side: Handle) -> Unlisted {
        let evaluated_by_none = object.unevaluated.map(|schema| {
            let schema = self.engine.resolved(side.is_reader, schema);
            (schema.index, &self.engine.node(schema).shape)
        });
        let is_left_open = matches!(evaluated_by_none, None | Some((_, Shape::Everything)));
        if object.patterns.is_empty() && object.additional == Others::Anything && is_left_open {
            return Unlisted::Open;
        }
        let pattern = object
            .patterns
            .iter()
            .find(|(pattern, _)| pattern.matches(name));
        if let Some((_, schema)) = pattern {
            return Unlisted::Partly(*schema);
        }
        match (object.additional, evaluated_by_none) {
            (Others::Only(schema), _) => Unlisted::Partly(schema),
            (Others::Anything, Some((schema, shape))) if !matches!(shape, Shape::Nothing) => {
                Unlisted::Partly(schema)
            }
            _ => Unlisted::Closed,
        }
    }

    fn dependencies(&mut self, from: &'m Object, to: &'m Object) {
        for name in union(&from.dependent_required, &to.dependent_required) {
            let before = from.dependent_required.get(name);
            let kind = match (before, to.dependent_required.get(name)) {
                (_, None) => Kind::DependencyArrayRemoved,
                (None, Some(_)) => Kind::DependencyArrayAdded,
                (Some(from), Some(to)) if from == to => continue,
                (Some(from), Some(to)) if to.is_superset(from) => Kind::DependencyArrayExtended,
                (Some(from), Some(to)) if from.is_superset(to) => Kind::DependencyArrayNarrowed,
                _ => Kind::DependencyArrayChanged,
            };
            self.differs(kind, Step::Named("dependencies", name));
        }
        for name in union(&from.dependent_schemas, &to.dependent_schemas) {
            let step = Step::Named("dependencies", name);
            let before = from.dependent_schemas.get(name);
            match (before, to.dependent_schemas.get(name)) {
                (_, None) => self.differs(Kind::DependencySchemaRemoved, step),
                (None, Some(_)) => self.differs(Kind::DependencySchemaAdded, step),
                (Some(from), Some(to)) => self.toward(*from, *to, step),
            }
        }
    }

    /// What is left to properties or items that are not listed: added, removed, extended, narrowed.
    pub(super) fn others(
        &mut self,
        keyword: &'static str,
        (from, to): (Others, Others),
        [added, removed, extended, narrowed]: [Kind; 4],
    ) {
        let step = Step::Keyword(keyword);
        let kind = match (from, to) {
            (Others::Nothing, Others::Nothing) | (Others::Anything, Others::Anything) => return,
            (Others::Nothing, _) => added,
            (_, Others::Nothing) => removed,
            (Others::Anything, Others::Only(_)) => narrowed,
            (Others::Only(_), Others::Anything) => extended,
            (Others::Only(from), Others::Only(to)) => {
                self.toward(from, to, step);
                return;
            }
        };
        self.differs(kind, step);
    }

    /// The same for what no other keyword has looked at.
    pub(super) fn unevaluated(
        &mut self,
        keyword: &'static str,
        (from, to): (Option<Index>, Option<Index>),
        changes: [Kind; 4],
    ) {
        let others = |look: &Self, is_reader: bool, schema: Option<Index>| {
            let Some(schema) = schema else {
                return Others::Anything;
            };
            let schema = look.engine.resolved(is_reader, schema);
            match look.engine.node(schema).shape {
                Shape::Nothing => Others::Nothing,
                Shape::Everything => Others::Anything,
                _ => Others::Only(schema.index),
            }
        };
        let from = others(self, self.pair.from.is_reader, from);
        let to = others(self, self.pair.to.is_reader, to);
        self.others(keyword, (from, to), changes);
    }
}

fn union<'m, T>(
    left: &'m BTreeMap<String, T>,
    right: &'m BTreeMap<String, T>,
) -> BTreeSet<&'m str> {
    left.keys()
        .chain(right.keys())
        .map(String::as_str)
        .collect()
}
