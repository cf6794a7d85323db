//! Rules for Protobuf. The parser bounds how deep messages are nested.

use std::collections::BTreeMap;

use prost_reflect::prost_types::field_descriptor_proto::Label;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};
use protox::file::File;

use super::Found;
use crate::Invalid;

/// Looks through a text and the one before it.
pub(super) fn look(
    text: &str,
    previous: Option<&str>,
    found: &mut Found<'_>,
) -> Result<(), Invalid> {
    let file = parse(text)?;
    if file.package.as_deref().unwrap_or_default().is_empty() {
        found.at("protobuf-package", "", "the file has no package".to_owned());
    }
    let says = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
    if !says("syntax") && !says("edition") {
        found.at(
            "protobuf-syntax",
            "",
            "the file does not name its syntax".to_owned(),
        );
    }
    for enumeration in &file.enum_type {
        look_at_enum(enumeration, "", found);
    }
    for message in &file.message_type {
        look_at_message(message, "", 0, found)?;
    }
    if let Some(previous) = previous {
        let previous = parse(previous)?;
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        by_name(&previous.message_type, "", &mut old);
        by_name(&file.message_type, "", &mut new);
        for (name, old) in &old {
            if let Some(new) = new.get(name) {
                look_at_removed(name, old, new, found);
            }
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<FileDescriptorProto, Invalid> {
    let file = File::from_source("schema.proto", text);
    let file = file.map_err(|error| Invalid::new(error.to_string()))?;
    Ok(file.file_descriptor_proto().clone())
}

fn joined(around: &str, name: &str) -> String {
    match around {
        "" => name.to_owned(),
        around => format!("{around}.{name}"),
    }
}

fn look_at_message(
    message: &DescriptorProto,
    around: &str,
    depth: usize,
    found: &mut Found<'_>,
) -> Result<(), Invalid> {
    found.enter(depth)?;
    let path = joined(around, message.name());
    for field in &message.field {
        let place = joined(&path, field.name());
        if field.label() == Label::Required {
            let message = format!("the field {place} is required");
            found.at("protobuf-required", &place, message);
        }
        let snake = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
        };
        if !field.name().chars().all(snake) {
            let message = format!("the field {place} is not in lower_snake_case");
            found.at("protobuf-field-name", &place, message);
        }
    }
    for enumeration in &message.enum_type {
        look_at_enum(enumeration, &path, found);
    }
    for nested in &message.nested_type {
        look_at_message(nested, &path, depth + 1, found)?;
    }
    Ok(())
}

fn look_at_enum(enumeration: &EnumDescriptorProto, around: &str, found: &mut Found<'_>) {
    let path = joined(around, enumeration.name());
    let zero = enumeration.value.iter().find(|value| value.number() == 0);
    if zero.is_none_or(|value| !value.name().ends_with("UNSPECIFIED")) {
        let message = format!("the enum {path} has no value 0 that means \"not set\"");
        found.at("protobuf-enum-zero", &path, message);
    }
}

fn by_name<'a>(
    messages: &'a [DescriptorProto],
    around: &str,
    all: &mut BTreeMap<String, &'a DescriptorProto>,
) {
    for message in messages {
        let path = joined(around, message.name());
        by_name(&message.nested_type, &path, all);
        all.insert(path, message);
    }
}

fn look_at_removed(
    name: &str,
    old: &DescriptorProto,
    new: &DescriptorProto,
    found: &mut Found<'_>,
) {
    let gone = |field: &&FieldDescriptorProto| {
        let mut fields = new.field.iter();
        fields.all(|other| other.number() != field.number())
    };
    for field in old.field.iter().filter(gone) {
        let number = field.number();
        let mut ranges = new.reserved_range.iter();
        let number_kept = ranges.any(|range| (range.start()..range.end()).contains(&number));
        let name_kept = new.reserved_name.iter().any(|kept| kept == field.name());
        if !(number_kept && name_kept) {
            let message = format!(
                "{name}.{} was removed; add `reserved {number}; reserved \"{0}\";`",
                field.name()
            );
            found.at("protobuf-removed-not-reserved", name, message);
        }
    }
}
