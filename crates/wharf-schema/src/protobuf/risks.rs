//! What Confluent's verdict allows and readers may still be surprised by. Nothing here is ever
//! incompatible.

use std::collections::HashMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as Type, MessageDescriptor};

use super::compare::Comparison;
use super::kinds::DifferenceKind as Kind;
use super::shape::{WireGroup, local_name};
use crate::Invalid;

/// A number that means another field now, JSON names, types of one wire form, lists and single
/// values.
pub(super) fn field(
    comparison: &mut Comparison<'_>,
    old: &FieldDescriptor,
    new: &FieldDescriptor,
    path: &str,
) {
    let mut report = |kind, detail: String| comparison.report(kind, path.to_owned(), &detail);
    let is_other_type = type_of(old) != type_of(new);
    let is_other_kind = is_other_type || old.cardinality() != new.cardinality();
    if old.name() != new.name() {
        let moved = new.parent_message().get_field_by_name(old.name());
        let is_moved = moved.is_some_and(|field| field.number() != old.number());
        if is_moved || is_other_kind && old.json_name() != new.json_name() {
            report(
                Kind::FIELD_NUMBER_REUSED,
                format!("{} and {}", described(old), described(new)),
            );
        }
    }
    if old.json_name() != new.json_name() {
        report(
            Kind::FIELD_JSON_NAME_CHANGED,
            format!("{} and {}", old.json_name(), new.json_name()),
        );
    }
    let is_scalar = old.kind().as_message().is_none() && new.kind().as_message().is_none();
    let is_one_form = is_scalar && WireGroup::of(&old.kind()) == WireGroup::of(&new.kind());
    if is_one_form && is_other_type {
        report(
            Kind::FIELD_SCALAR_TYPE_CHANGED,
            format!("{} and {}", type_of(old), type_of(new)),
        );
    }
    if old.is_required() != new.is_required() {
        report(
            Kind::FIELD_REQUIRED_CHANGED,
            format!("{:?} and {:?}", old.cardinality(), new.cardinality()),
        );
    }
    if old.is_list() != new.is_list() && !old.is_map() && !new.is_map() {
        report(
            Kind::FIELD_CARDINALITY_CHANGED,
            format!("{:?} and {:?}", old.cardinality(), new.cardinality()),
        );
    }
}

fn described(field: &FieldDescriptor) -> String {
    format!("{} ({})", field.name(), type_of(field))
}

/// The type as a text has it, without the package: descriptors of two schemas are never equal.
fn type_of(field: &FieldDescriptor) -> String {
    match field.kind() {
        Type::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("map<{}, {}>", type_of(&key), type_of(&value))
        }
        Type::Message(message) => local_name(&message).to_owned(),
        Type::Enum(one) => {
            let rest = one.full_name().strip_prefix(one.package_name());
            rest.unwrap_or_default().trim_start_matches('.').to_owned()
        }
        scalar => format!("{scalar:?}"),
    }
}

/// Numbers and names that were reserved and are taken, and numbers that are free again.
pub(super) fn message(
    comparison: &mut Comparison<'_>,
    old: &MessageDescriptor,
    new: &MessageDescriptor,
) -> Result<(), Invalid> {
    let (old_reserved, new_reserved) = (Reserved::of(old), Reserved::of(new));
    for field in new.fields() {
        let is_new = old.get_field(field.number()).is_none();
        if is_new && old_reserved.has_number(field.number())
            || old_reserved.names.contains(&field.name())
        {
            let detail = format!("{} = {}", field.name(), field.number());
            let path = field.full_name().to_owned();
            comparison.at(field.number().to_string(), |comparison| {
                comparison.report(Kind::FIELD_NUMBER_WAS_RESERVED, path, &detail);
                Ok(())
            })?;
        }
    }
    for field in old.fields() {
        let is_gone = new.get_field(field.number()).is_none();
        if is_gone && !new_reserved.has_number(field.number()) {
            let detail = format!("{} = {}", field.name(), field.number());
            let path = format!("{}.{}", new.full_name(), field.name());
            comparison.at(field.number().to_string(), |comparison| {
                comparison.report(Kind::FIELD_NUMBER_NOT_RESERVED, path, &detail);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Reserved ranges, each first and behind-last number, in order.
struct Reserved<'a> {
    ranges: Vec<(u32, u32)>,
    names: std::collections::HashSet<&'a str>,
}

impl<'a> Reserved<'a> {
    fn of(message: &'a MessageDescriptor) -> Self {
        let ranges = message.reserved_ranges();
        let mut ranges: Vec<_> = ranges.map(|range| (range.start, range.end)).collect();
        ranges.sort_unstable();
        let mut longest = 0;
        for (_, end) in &mut ranges {
            longest = longest.max(*end);
            *end = longest;
        }
        Self {
            ranges,
            names: message.reserved_names().collect(),
        }
    }

    fn has_number(&self, number: u32) -> bool {
        let behind = self.ranges.partition_point(|(start, _)| *start <= number);
        behind > 0 && number < self.ranges[behind - 1].1
    }
}

/// Names of enum values that mean another number.
pub(super) fn constants(
    comparison: &mut Comparison<'_>,
    old: &EnumDescriptor,
    new: &EnumDescriptor,
    path: &str,
) -> Result<(), Invalid> {
    let numbers: HashMap<String, i32> = old
        .values()
        .map(|value| (value.name().to_owned(), value.number()))
        .collect();
    for value in new.values() {
        let was = numbers.get(value.name()).copied();
        if let Some(was) = was.filter(|was| *was != value.number()) {
            let detail = format!("{was} and {}", value.number());
            comparison.at(value.number().to_string(), |comparison| {
                let path = format!("{path}.{}", value.name());
                comparison.report(Kind::ENUM_CONST_NUMBER_CHANGED, path, &detail);
                Ok(())
            })?;
        }
    }
    Ok(())
}
