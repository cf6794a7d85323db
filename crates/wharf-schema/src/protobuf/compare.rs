//! Whether a reader's file reads what a writer's file wrote, by the rules of Confluent's registry.
//!
//! Types are compared by their name, fields by their number. The types of the file itself are
//! compared where they stand; a type that another file defines is compared once for each pair of
//! types, wherever it is used, and a field whose type breaks, however far away, is reported too.
//! Nested types are the only recursion, as deep as the parser allows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor};

use super::kinds::DifferenceKind as Kind;
use super::references::Pair;
use super::shape::{Fields, Label, Shape, WireGroup, label};
use super::{index, risks, witness};
use crate::compat::Difference;
use crate::{Invalid, Limits};

/// How many fields are looked at for the witnesses of one comparison: each takes a pass over the
/// fields of its type, and a type may break in all of them.
const WITNESS_FIELDS_MAX: usize = 200_000;

/// The differences from an older file (the writer's) to a newer one (the reader's).
pub(super) fn files(
    old: &FileDescriptor,
    new: &FileDescriptor,
    limits: &Limits,
) -> Result<Vec<Difference>, Invalid> {
    let mut comparison = Comparison {
        main: (old.clone(), new.clone()),
        limits,
        budget: limits.comparisons_max,
        witness_budget: WITNESS_FIELDS_MAX,
        found: Vec::new(),
        place: Vec::new(),
        owner: None,
        inside: Vec::new(),
        pairs: Vec::new(),
        known_pairs: HashMap::new(),
    };
    if old.package_name() != new.package_name() {
        let detail = format!("{:?} and {:?}", old.package_name(), new.package_name());
        comparison.report(
            Kind::PACKAGE_CHANGED,
            new.package_name().to_owned(),
            &detail,
        );
    }
    comparison.types(
        &Types::of_file(old),
        &Types::of_file(new),
        new.package_name(),
    )?;
    comparison.references()?;
    Ok(comparison.finish())
}

/// The messages and enums of one scope that are compared by name.
struct Types {
    messages: Vec<MessageDescriptor>,
    enums: Vec<EnumDescriptor>,
}

impl Types {
    fn of_file(file: &FileDescriptor) -> Self {
        Self {
            messages: file.messages().collect(),
            enums: file.enums().collect(),
        }
    }

    fn of_message(message: &MessageDescriptor) -> Self {
        let is_type = |child: &MessageDescriptor| {
            !child.is_map_entry() && !index::is_group_of(message, child)
        };
        Self {
            messages: message.child_messages().filter(is_type).collect(),
            enums: message.child_enums().collect(),
        }
    }
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    pub(super) main: (FileDescriptor, FileDescriptor),
    limits: &'a Limits,
    budget: usize,
    /// How many fields may still be looked at for witnesses; without them, there are none.
    witness_budget: usize,
    pub(super) found: Vec<Difference>,
    /// The way to where we are, in Confluent's form.
    pub(super) place: Vec<String>,
    /// The pair that is compared; none for the types of the file itself.
    pub(super) owner: Option<usize>,
    /// The messages that are compared, innermost last.
    pub(super) inside: Vec<(MessageDescriptor, MessageDescriptor)>,
    pub(super) pairs: Vec<Pair>,
    pub(super) known_pairs: HashMap<(String, String), usize>,
}

impl Comparison<'_> {
    fn spend(&mut self, amount: usize) -> Result<(), Invalid> {
        match self.budget.checked_sub(amount) {
            Some(rest) => self.budget = rest,
            None => {
                return Err(Invalid::new(format!(
                    "the schemas are too large to be compared: more than {} comparisons",
                    self.limits.comparisons_max
                )));
            }
        }
        Ok(())
    }

    pub(super) fn place(&self) -> String {
        format!("#/{}", self.place.join("/"))
    }

    /// A difference where we are.
    pub(super) fn report(&mut self, kind: Kind, path: String, detail: &str) {
        self.report_with(kind, path, detail, &[]);
    }

    /// A difference where we are, which shows when the fields of these numbers are set.
    fn report_with(&mut self, kind: Kind, path: String, detail: &str, numbers: &[u32]) {
        let mut difference = kind.at(&self.place(), path, detail);
        if !kind.is_compatible() {
            let both = self.inside.last().filter(|_| !numbers.is_empty()).cloned();
            let both = both.filter(|(old, new)| self.may_try(&[old, new]));
            let witnessed = both.and_then(|(old, new)| witness::of_fields(&old, &new, numbers));
            let (record, witness) = witnessed.unzip();
            difference.witness = witness;
            if let Some(pair) = self.owner.and_then(|at| self.pairs.get_mut(at)) {
                pair.is_broken = true;
                // Only a message of the type itself can be put into the fields that are of it.
                let is_whole = self.inside.len() == 1;
                pair.record = pair.record.take().or(record.filter(|_| is_whole));
            }
        }
        self.found.push(difference);
    }

    /// Goes one step further, and back.
    pub(super) fn at<T>(
        &mut self,
        step: impl Into<String>,
        inner: impl FnOnce(&mut Self) -> Result<T, Invalid>,
    ) -> Result<T, Invalid> {
        self.place.push(step.into());
        let result = inner(self);
        self.place.pop();
        result
    }

    fn types(&mut self, old: &Types, new: &Types, scope: &str) -> Result<(), Invalid> {
        self.spend(old.messages.len() + new.messages.len())?;
        self.spend(old.enums.len() + new.enums.len())?;
        let path = |name: &str| {
            if scope.is_empty() {
                name.to_owned()
            } else {
                format!("{scope}.{name}")
            }
        };
        let olds: HashMap<&str, usize> =
            positions(old.messages.iter().map(MessageDescriptor::name));
        let news: HashMap<&str, usize> =
            positions(new.messages.iter().map(MessageDescriptor::name));
        for (at, message) in old.messages.iter().enumerate() {
            let name = message.name();
            self.at(name, |this| match news.get(name) {
                None => {
                    this.removed(message, path(name));
                    Ok(())
                }
                Some(now) => {
                    this.messages(message, &new.messages[*now])?;
                    if *now != at {
                        this.report(Kind::MESSAGE_MOVED, path(name), "");
                    }
                    Ok(())
                }
            })?;
        }
        for message in &new.messages {
            let name = message.name();
            if !olds.contains_key(name) {
                self.at(name, |this| {
                    this.report(Kind::MESSAGE_ADDED, path(name), "");
                    Ok(())
                })?;
            }
        }
        self.enums(&old.enums, &new.enums, &path)
    }

    /// A message that the reader does not have: whatever it holds cannot be read.
    fn removed(&mut self, message: &MessageDescriptor, path: String) {
        self.report(Kind::MESSAGE_REMOVED, path, "");
        let witness = self
            .may_try(&[message])
            .then(|| witness::of_removed(message));
        if let Some(difference) = self.found.last_mut() {
            difference.witness = witness.flatten();
        }
    }

    /// Takes what a witness of these types costs from the budget, if there is enough.
    pub(super) fn may_try(&mut self, types: &[&MessageDescriptor]) -> bool {
        let cost: usize = types
            .iter()
            .map(|message| 10 + message.fields().len())
            .sum();
        let rest = self.witness_budget.checked_sub(cost);
        self.witness_budget = rest.unwrap_or(0);
        rest.is_some()
    }

    fn enums(
        &mut self,
        old: &[EnumDescriptor],
        new: &[EnumDescriptor],
        path: &dyn Fn(&str) -> String,
    ) -> Result<(), Invalid> {
        let olds: HashMap<&str, usize> = positions(old.iter().map(EnumDescriptor::name));
        let news: HashMap<&str, usize> = positions(new.iter().map(EnumDescriptor::name));
        for one in old {
            let name = one.name();
            self.at(name, |this| match news.get(name) {
                None => {
                    this.report(Kind::ENUM_REMOVED, path(name), "");
                    Ok(())
                }
                Some(now) => this.constants(one, &new[*now], &path(name)),
            })?;
        }
        for one in new.iter().filter(|one| !olds.contains_key(one.name())) {
            self.at(one.name(), |this| {
                this.report(Kind::ENUM_ADDED, path(one.name()), "");
                Ok(())
            })?;
        }
        Ok(())
    }

    fn constants(
        &mut self,
        old: &EnumDescriptor,
        new: &EnumDescriptor,
        path: &str,
    ) -> Result<(), Invalid> {
        self.spend(old.values().len() + new.values().len())?;
        // With aliases, the last name of a number counts, as at Confluent's.
        let by_number = |one: &EnumDescriptor| -> BTreeMap<i32, String> {
            let values = one.values();
            values
                .map(|value| (value.number(), value.name().to_owned()))
                .collect()
        };
        let (olds, news) = (by_number(old), by_number(new));
        let numbers: BTreeSet<i32> = olds.keys().chain(news.keys()).copied().collect();
        for number in numbers {
            self.at(number.to_string(), |this| {
                match (olds.get(&number), news.get(&number)) {
                    (Some(old), None) => {
                        this.report(Kind::ENUM_CONST_REMOVED, format!("{path}.{old}"), "");
                    }
                    (None, Some(new)) => {
                        this.report(Kind::ENUM_CONST_ADDED, format!("{path}.{new}"), "");
                    }
                    (Some(old), Some(new)) if old != new => {
                        let detail = format!("{old} and {new}");
                        this.report(Kind::ENUM_CONST_CHANGED, format!("{path}.{new}"), &detail);
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        risks::constants(self, old, new, path)
    }

    pub(super) fn messages(
        &mut self,
        old: &MessageDescriptor,
        new: &MessageDescriptor,
    ) -> Result<(), Invalid> {
        self.inside.push((old.clone(), new.clone()));
        let result = self.members(old, new);
        self.inside.pop();
        result
    }

    fn members(&mut self, old: &MessageDescriptor, new: &MessageDescriptor) -> Result<(), Invalid> {
        let (olds, news) = (Fields::of(old), Fields::of(new));
        self.spend(olds.by_number.len() + news.by_number.len() + 1)?;
        let path = new.full_name();
        self.moves(&olds, &news, path)?;
        let names: BTreeSet<&String> = olds.oneofs.keys().chain(news.oneofs.keys()).collect();
        for name in names {
            let kind = match (
                olds.oneofs.contains_key(name),
                news.oneofs.contains_key(name),
            ) {
                (true, false) => Kind::ONEOF_REMOVED,
                (false, true) => Kind::ONEOF_ADDED,
                _ => continue,
            };
            self.at(name.as_str(), |this| {
                this.report(kind, format!("{path}.{name}"), "");
                Ok(())
            })?;
        }
        let numbers: BTreeSet<u32> = olds
            .by_number
            .keys()
            .chain(news.by_number.keys())
            .copied()
            .collect();
        for number in numbers {
            self.field(number, &olds, &news, path)?;
        }
        risks::message(self, old, new)?;
        self.types(&Types::of_message(old), &Types::of_message(new), path)
    }

    /// Fields that could be set together and now exclude each other: a oneof whose members were
    /// independent before. New members do not count, since nobody has written them.
    fn moves(&mut self, olds: &Fields, news: &Fields, path: &str) -> Result<(), Invalid> {
        for (name, members) in &news.oneofs {
            let mut origins: HashSet<Result<&str, u32>> = HashSet::new();
            for number in members {
                if let Some(oneof) = olds.oneof_of(*number) {
                    origins.insert(Ok(oneof));
                } else if olds.by_number.contains_key(number) {
                    origins.insert(Err(*number));
                }
            }
            if origins.len() > 1 {
                let independent = origins.iter().filter(|origin| origin.is_err()).count();
                let kind = if independent > 1 {
                    Kind::MULTIPLE_FIELDS_MOVED_TO_ONEOF
                } else {
                    Kind::FIELD_MOVED_TO_EXISTING_ONEOF
                };
                let numbers: Vec<u32> = members
                    .iter()
                    .copied()
                    .filter(|number| olds.by_number.contains_key(number))
                    .collect();
                self.at(name.as_str(), |this| {
                    this.report_with(kind, format!("{path}.{name}"), "", &numbers);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        number: u32,
        olds: &Fields,
        news: &Fields,
        path: &str,
    ) -> Result<(), Invalid> {
        let step = number.to_string();
        let (old_oneof, new_oneof) = (olds.oneof_of(number), news.oneof_of(number));
        match (olds.by_number.get(&number), news.by_number.get(&number)) {
            (Some(old), None) => {
                let path = format!("{path}.{}", old.name());
                let kind = match old_oneof {
                    // A oneof that went with all its members is no difference for readers.
                    Some(oneof) if olds.is_gone(oneof, news) => return Ok(()),
                    Some(_) => Kind::ONEOF_FIELD_REMOVED,
                    None if old.is_required() => Kind::REQUIRED_FIELD_REMOVED,
                    None => Kind::FIELD_REMOVED,
                };
                self.within(old_oneof, step, |this| {
                    this.report_with(kind, path, "", &[number]);
                    Ok(())
                })
            }
            (None, Some(new)) => {
                let path = format!("{path}.{}", new.name());
                let kind = match new_oneof {
                    Some(_) => Kind::ONEOF_FIELD_ADDED,
                    None if new.is_required() => Kind::REQUIRED_FIELD_ADDED,
                    None => Kind::FIELD_ADDED,
                };
                self.within(new_oneof, step, |this| {
                    this.report_with(kind, path, "", &[number]);
                    Ok(())
                })
            }
            (Some(old), Some(new)) => {
                let path = format!("{path}.{}", new.name());
                if old_oneof.is_some() && new_oneof.is_none() {
                    self.at(step.as_str(), |this| {
                        this.report(Kind::ONEOF_FIELD_MOVED_TO_TOP_LEVEL, path.clone(), "");
                        Ok(())
                    })?;
                }
                self.within(new_oneof, step, |this| this.fields(old, new, &path))
            }
            (None, None) => Ok(()),
        }
    }

    fn within(
        &mut self,
        oneof: Option<&str>,
        step: String,
        inner: impl FnOnce(&mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        match oneof {
            Some(oneof) => self.at(oneof, |this| this.at(step, inner)),
            None => self.at(step, inner),
        }
    }

    fn fields(
        &mut self,
        old: &FieldDescriptor,
        new: &FieldDescriptor,
        path: &str,
    ) -> Result<(), Invalid> {
        if old.name() != new.name() {
            let detail = format!("{} and {}", old.name(), new.name());
            self.report(Kind::FIELD_NAME_CHANGED, path.to_owned(), &detail);
        }
        risks::field(self, old, new, path);
        self.shapes(old, new, (label(old), label(new)), path)
    }

    /// A difference of the field where we are: its number is the last step.
    pub(super) fn field_breaks(&mut self, kind: Kind, path: &str, detail: &str) {
        let numbers: Vec<u32> = self.number().into_iter().collect();
        self.report_with(kind, path.to_owned(), detail, &numbers);
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.place.last().and_then(|step| step.parse().ok())
    }

    fn shapes(
        &mut self,
        old: &FieldDescriptor,
        new: &FieldDescriptor,
        labels: (Option<Label>, Option<Label>),
        path: &str,
    ) -> Result<(), Invalid> {
        match (Shape::of(old), Shape::of(new)) {
            (Shape::Scalar(a), Shape::Scalar(b)) if a != b => {
                let detail = format!("{:?} and {:?}", old.kind(), new.kind());
                self.field_breaks(Kind::FIELD_SCALAR_KIND_CHANGED, path, &detail);
            }
            (Shape::Scalar(group), Shape::Scalar(_)) => {
                if let (Some(a), Some(b)) = labels
                    && a != b
                {
                    let kind = match group {
                        WireGroup::StringOrBytes => Kind::FIELD_STRING_OR_BYTES_LABEL_CHANGED,
                        _ => Kind::FIELD_NUMERIC_LABEL_CHANGED,
                    };
                    self.field_breaks(kind, path, &format!("{a:?} and {b:?}"));
                }
            }
            (Shape::Map(a), Shape::Map(b)) => {
                self.spend(2)?;
                let keys = (a.map_entry_key_field(), b.map_entry_key_field());
                self.shapes(&keys.0, &keys.1, (None, None), path)?;
                let values = (a.map_entry_value_field(), b.map_entry_value_field());
                self.shapes(&values.0, &values.1, (None, None), path)?;
            }
            (Shape::Message(a), Shape::Message(b)) | (Shape::Group(a), Shape::Group(b)) => {
                self.named(a, b, old.is_group(), path);
            }
            _ => {
                let detail = format!("{:?} and {:?}", old.kind(), new.kind());
                self.field_breaks(Kind::FIELD_KIND_CHANGED, path, &detail);
            }
        }
        Ok(())
    }

    /// No more than are reported of each verdict.
    fn finish(self) -> Vec<Difference> {
        let most = self.limits.incompatibilities_max;
        let mut left = [most, most];
        let mut found = self.found;
        found.retain(|difference| {
            let left = &mut left[usize::from(difference.is_compatible)];
            let is_reported = *left > 0;
            *left = left.saturating_sub(1);
            is_reported
        });
        found
    }
}

fn positions<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.enumerate().map(|(at, name)| (name, at)).collect()
}
