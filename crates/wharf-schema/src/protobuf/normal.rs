//! What does not matter gets one order and form: options and numbers sorted, one number or name
//! per `reserved`, names in full with a leading dot, maps as `map<…>`, `proto2` unsaid.
//!
//! The order of messages stays: the wire format refers to it.

use std::collections::{HashMap, HashSet};

use prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use prost_reflect::{Cardinality, DescriptorPool};

use super::print;
use super::source::{Choice, Enum, Extend, Field, File, Group, Literal, Message, Oneof, Span};

/// Writes every name of a type in full, as a resolved descriptor of the same file has it. Both have
/// the same types and fields, by name; their order may differ.
pub(super) fn qualify(raw: &mut FileDescriptorProto, resolved: &FileDescriptorProto) {
    fields(&mut raw.extension, &resolved.extension);
    messages(&mut raw.message_type, &resolved.message_type);
    for (raw, resolved) in raw.service.iter_mut().zip(&resolved.service) {
        for (raw, resolved) in raw.method.iter_mut().zip(&resolved.method) {
            raw.input_type.clone_from(&resolved.input_type);
            raw.output_type.clone_from(&resolved.output_type);
        }
    }
}

fn messages(raw: &mut [DescriptorProto], resolved: &[DescriptorProto]) {
    let resolved: HashMap<&str, _> = resolved.iter().map(|one| (one.name(), one)).collect();
    for raw in raw {
        // Here an entry need not be spelled out, so that it is written as a map.
        super::option::interpret_map_entry(raw);
        if let Some(resolved) = resolved.get(raw.name()) {
            fields(&mut raw.field, &resolved.field);
            fields(&mut raw.extension, &resolved.extension);
            messages(&mut raw.nested_type, &resolved.nested_type);
        }
    }
}

fn fields(raw: &mut [FieldDescriptorProto], resolved: &[FieldDescriptorProto]) {
    let resolved: HashMap<&str, _> = resolved.iter().map(|one| (one.name(), one)).collect();
    for raw in raw {
        if let Some(resolved) = resolved.get(raw.name()) {
            raw.type_name.clone_from(&resolved.type_name);
            raw.extendee.clone_from(&resolved.extendee);
        }
    }
}

/// Sorts what has no order of its own.
pub(super) fn normalize(mut file: File, pool: &DescriptorPool) -> File {
    file.syntax.take_if(|syntax| syntax == "proto2");
    for imports in [&mut file.imports, &mut file.public_imports] {
        imports.sort();
        imports.dedup();
    }
    let mut scope: Vec<String> = Vec::new();
    if let Some(package) = &file.package {
        scope.extend(package.split('.').map(str::to_owned));
    }
    let mut context = Context { pool, scope };
    context.options(&mut file.options);
    for message in &mut file.messages {
        context.message(message);
    }
    context.enums(&mut file.enums);
    context.extends(&mut file.extends);
    for service in &mut file.services {
        context.scope.push(service.name.clone());
        context.options(&mut service.options);
        for method in &mut service.methods {
            context.options(&mut method.options);
        }
        context.scope.pop();
    }
    file
}

struct Context<'a> {
    pool: &'a DescriptorPool,
    scope: Vec<String>,
}

impl Context<'_> {
    fn message(&mut self, message: &mut Message) {
        self.scope.push(message.name.clone());
        one_each(&mut message.reserved);
        one_each(&mut message.extensions);
        self.options(&mut message.options);
        self.fields(&mut message.fields);
        message.oneofs.iter_mut().for_each(|one| self.oneof(one));
        message.oneofs.sort_by_key(|oneof| {
            let first = oneof.fields.iter().map(|field| field.number).min();
            first.or(oneof.groups.iter().map(|group| group.number).min())
        });
        self.groups(&mut message.groups);
        self.extends(&mut message.extends);
        for nested in &mut message.messages {
            self.message(nested);
        }
        self.enums(&mut message.enums);
        self.scope.pop();
    }

    fn oneof(&mut self, oneof: &mut Oneof) {
        self.options(&mut oneof.options);
        self.fields(&mut oneof.fields);
        self.groups(&mut oneof.groups);
    }

    fn groups(&mut self, groups: &mut [Group]) {
        groups.sort_by_key(|group| group.number);
        for group in groups {
            self.message(&mut group.body);
        }
    }

    fn fields(&mut self, fields: &mut [Field]) {
        fields.sort_by_key(|field| field.number);
        for field in fields {
            self.options(&mut field.options);
        }
    }

    fn enums(&mut self, enums: &mut [Enum]) {
        for one in enums {
            self.scope.push(one.name.clone());
            one_each(&mut one.reserved);
            self.options(&mut one.options);
            one.constants
                .sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
            for constant in &mut one.constants {
                self.options(&mut constant.options);
            }
            self.scope.pop();
        }
    }

    /// What extends one message stands in one block.
    fn extends(&mut self, extends: &mut Vec<Extend>) {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut merged: Vec<Extend> = Vec::new();
        for one in extends.drain(..) {
            match known.get(&one.name) {
                Some(at) => {
                    merged[*at].fields.extend(one.fields);
                    merged[*at].groups.extend(one.groups);
                }
                None => {
                    known.insert(one.name.clone(), merged.len());
                    merged.push(one);
                }
            }
        }
        for one in &mut merged {
            self.fields(&mut one.fields);
            self.groups(&mut one.groups);
        }
        *extends = merged;
    }

    /// In the order of their full names; what says one option in several places says it in one.
    fn options(&self, options: &mut Vec<Choice>) {
        for option in options.iter_mut().filter(|option| option.is_custom) {
            if let Some(name) = self.extension(&option.name) {
                option.name = name;
            }
            if let Some(rest) = option.rest.take() {
                let value = std::mem::replace(&mut option.value, Literal::Map(Vec::new()));
                option.value = rest.rsplit('.').fold(value, |value, part| {
                    Literal::Map(vec![(part.to_owned(), value)])
                });
            }
        }
        options.sort_by(|a, b| a.name.cmp(&b.name));
        let mut merged: Vec<Choice> = Vec::new();
        for same in options.chunk_by(|a, b| a.name == b.name) {
            let is_one = same.len() > 1 && self.is_single(&same[0].name);
            let count = if is_one { 1 } else { same.len() };
            merged.extend_from_slice(&same[..count]);
            if let (true, Some(first)) = (is_one, merged.last_mut()) {
                first.value = merge(same.iter().map(|option| &option.value));
            }
        }
        for option in &mut merged {
            sort(&mut option.value);
        }
        *options = merged;
    }

    fn is_single(&self, name: &str) -> bool {
        let extension = self.pool.get_extension_by_name(name);
        extension.is_some_and(|found| found.cardinality() != Cardinality::Repeated)
    }

    /// The full name of an extension as it is named from here.
    fn extension(&self, name: &str) -> Option<String> {
        let found = |name: &str| {
            let found = self.pool.get_extension_by_name(name);
            found.map(|found| found.full_name().to_owned())
        };
        if let Some(full) = name.strip_prefix('.') {
            return found(full);
        }
        (0..=self.scope.len()).rev().find_map(|length| {
            let mut parts: Vec<&str> = self.scope[..length].iter().map(String::as_str).collect();
            parts.push(name);
            found(&parts.join("."))
        })
    }
}

/// One number, range or name per statement, numbers first.
fn one_each(statements: &mut Vec<Vec<Span>>) {
    let mut spans: Vec<Span> = statements.drain(..).flatten().collect();
    spans.sort_by(|a, b| match (a, b) {
        (Span::Numbers(a, a_last), Span::Numbers(b, b_last)) => (a, a_last).cmp(&(b, b_last)),
        (Span::Name(a), Span::Name(b)) => a.cmp(b),
        (Span::Numbers(..), Span::Name(_)) => std::cmp::Ordering::Less,
        (Span::Name(_), Span::Numbers(..)) => std::cmp::Ordering::Greater,
    });
    statements.extend(spans.into_iter().map(|span| vec![span]));
}

/// What several statements say about one option: messages are put together, of others the last
/// counts.
fn merge<'a>(values: impl Iterator<Item = &'a Literal>) -> Literal {
    let mut known: HashMap<&str, usize> = HashMap::new();
    let mut entries: Vec<(&str, Vec<&Literal>)> = Vec::new();
    let mut last = None;
    for value in values {
        last = Some(value);
        let Literal::Map(more) = value else { continue };
        for (key, value) in more {
            let at = *known.entry(key).or_insert_with(|| {
                entries.push((key, Vec::new()));
                entries.len() - 1
            });
            entries[at].1.push(value);
        }
    }
    match last {
        Some(Literal::Map(_)) | None => Literal::Map(
            entries
                .into_iter()
                .map(|(key, values)| (key.to_owned(), union(&values)))
                .collect(),
        ),
        Some(other) => other.clone(),
    }
}

/// One value as it is; of several the items, each once.
fn union(values: &[&Literal]) -> Literal {
    if let [one] = values {
        return (*one).clone();
    }
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for value in values {
        let several = match value {
            Literal::List(items) => &items[..],
            one => std::slice::from_ref(*one),
        };
        let new = several
            .iter()
            .filter(|item| seen.insert(print::literal(item)));
        items.extend(new.cloned());
    }
    Literal::List(items)
}

/// Keys in order; a list of one is that one, an empty list is not there.
fn sort(value: &mut Literal) {
    match value {
        Literal::Map(entries) => {
            entries.retain(|(_, value)| !matches!(value, Literal::List(items) if items.is_empty()));
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.iter_mut().for_each(|(_, value)| sort(value));
        }
        Literal::List(items) => {
            items.iter_mut().for_each(sort);
            if items.len() == 1 {
                *value = items.swap_remove(0);
            }
        }
        _ => {}
    }
}

/// Without custom options, extensions and ranges for them; Confluent's own options stay.
pub(super) fn without_extensions(mut file: File) -> File {
    file.extends.clear();
    plain(&mut file.options);
    file.messages.iter_mut().for_each(plain_message);
    file.enums.iter_mut().for_each(plain_enum);
    for service in &mut file.services {
        plain(&mut service.options);
        for method in &mut service.methods {
            plain(&mut method.options);
        }
    }
    file
}

fn plain_message(message: &mut Message) {
    message.extensions.clear();
    message.extends.clear();
    plain(&mut message.options);
    plain_fields(&mut message.fields, &mut message.groups);
    for oneof in &mut message.oneofs {
        plain(&mut oneof.options);
        plain_fields(&mut oneof.fields, &mut oneof.groups);
    }
    message.messages.iter_mut().for_each(plain_message);
    message.enums.iter_mut().for_each(plain_enum);
}

fn plain_fields(fields: &mut [Field], groups: &mut [Group]) {
    for field in fields {
        plain(&mut field.options);
    }
    for group in groups {
        plain_message(&mut group.body);
    }
}

fn plain_enum(one: &mut Enum) {
    plain(&mut one.options);
    for constant in &mut one.constants {
        plain(&mut constant.options);
    }
}

fn plain(options: &mut Vec<Choice>) {
    let is_ours = |name: &str| name.trim_start_matches('.').starts_with("confluent.");
    options.retain(|option| !option.is_custom || is_ours(&option.name));
}
