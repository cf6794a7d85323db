//! From a descriptor that is not resolved yet to the file as it was written.
//!
//! What stands in one statement (`reserved 2, 5;`, `extend X { … }`) is told by the source
//! positions; a descriptor that comes without them (`format=serialized`) has one statement for
//! each range, as Confluent's registry writes it.

use std::collections::{HashMap, HashSet};

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    MessageOptions, ServiceDescriptorProto, field_descriptor_proto::Label,
    field_descriptor_proto::Type,
};

use super::option;
use super::source::{
    Choice, Constant, Enum, Extend, Field, File, Group, Kind, Literal, Message, Method, Oneof,
    Service, Span,
};

/// Field numbers of `FileDescriptorProto`, `DescriptorProto` and `EnumDescriptorProto` that the
/// paths of source positions consist of.
mod tag {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_EXTENSION: i32 = 7;
    pub(super) const FILE_SYNTAX: i32 = 12;
    pub(super) const NESTED_MESSAGE: i32 = 3;
    pub(super) const NESTED_ENUM: i32 = 4;
    pub(super) const EXTENSION_RANGE: i32 = 5;
    pub(super) const NESTED_EXTENSION: i32 = 6;
    pub(super) const RESERVED_RANGE: i32 = 9;
    pub(super) const RESERVED_NAME: i32 = 10;
    pub(super) const ENUM_RESERVED_RANGE: i32 = 4;
    pub(super) const ENUM_RESERVED_NAME: i32 = 5;
}

/// The largest number a field can have; a range that ends there is written with `max`.
const NUMBER_MAX: i32 = 536_870_911;

/// Line and column of start and end.
type Place = (i32, i32, i32, i32);

struct Reader<'a> {
    file: &'a FileDescriptorProto,
    places: HashMap<&'a [i32], Vec<Place>>,
}

/// The file that a descriptor with options not yet interpreted was made from.
pub(super) fn file(raw: &FileDescriptorProto) -> File {
    let mut reader = Reader {
        file: raw,
        places: HashMap::new(),
    };
    for location in raw.source_code_info.iter().flat_map(|info| &info.location) {
        let place = match location.span[..] {
            [line, from, to] => (line, from, line, to),
            [line, from, end, to] => (line, from, end, to),
            _ => continue,
        };
        let places = reader.places.entry(&location.path).or_default();
        places.push(place);
    }
    reader.file()
}

impl Reader<'_> {
    fn file(&self) -> File {
        let raw = self.file;
        let public = |at: &usize| {
            let at = i32::try_from(*at).unwrap_or(i32::MAX);
            raw.public_dependency.contains(&at)
        };
        let imports = |is_public| -> Vec<String> {
            let each = raw.dependency.iter().enumerate();
            each.filter(|(at, _)| public(at) == is_public)
                .map(|(_, name)| name.clone())
                .collect()
        };
        let is_said = self.places.contains_key(&[tag::FILE_SYNTAX][..]);
        let scope = Scope::of_file(raw);
        File {
            syntax: match raw.syntax.as_deref() {
                None | Some("") => is_said.then(|| "proto2".to_owned()),
                Some(syntax) => Some(syntax.to_owned()),
            },
            package: raw.package.clone().filter(|name| !name.is_empty()),
            imports: imports(false),
            public_imports: imports(true),
            options: option::of_file(raw.options.as_ref()),
            messages: self.messages(&raw.message_type, &scope, &[], tag::FILE_MESSAGE),
            enums: self.enums(&raw.enum_type, &[], tag::FILE_ENUM),
            extends: self.extends(&raw.extension, &scope, &[], tag::FILE_EXTENSION),
            services: raw.service.iter().map(service).collect(),
        }
    }

    /// The messages of a scope but those that only stand for a map or a group there.
    fn messages(
        &self,
        raw: &[DescriptorProto],
        scope: &Scope<'_>,
        path: &[i32],
        number: i32,
    ) -> Vec<Message> {
        raw.iter()
            .enumerate()
            .filter(|(_, raw)| !is_implied(raw) && !scope.is_group(raw.name()))
            .map(|(at, raw)| self.message(raw, &join(path, number, at)))
            .collect()
    }

    fn message(&self, raw: &DescriptorProto, path: &[i32]) -> Message {
        let scope = Scope::of_message(raw, path);
        let (mut fields, mut groups) = (Vec::new(), Vec::new());
        let mut oneofs: Vec<Oneof> = raw
            .oneof_decl
            .iter()
            .map(|raw| Oneof {
                name: raw.name().to_owned(),
                options: option::of_oneof(raw.options.as_ref()),
                fields: Vec::new(),
                groups: Vec::new(),
            })
            .collect();
        for raw in &raw.field {
            let oneof = real_oneof(raw).and_then(|at| oneofs.get_mut(at));
            let (fields, groups) = match oneof {
                Some(oneof) => (&mut oneof.fields, &mut oneof.groups),
                None => (&mut fields, &mut groups),
            };
            match self.group(raw, &scope) {
                Some(group) => groups.push(group),
                None => fields.push(self.field(raw, &scope)),
            }
        }
        oneofs.retain(|oneof| !oneof.fields.is_empty() || !oneof.groups.is_empty());
        let ranges = raw.reserved_range.iter();
        let reserved = ranges.map(|range| numbers(range.start(), range.end().saturating_sub(1)));
        let extensions = raw.extension_range.iter();
        let extensions =
            extensions.map(|range| numbers(range.start(), range.end().saturating_sub(1)));
        Message {
            name: raw.name().to_owned(),
            reserved: self.reserved(
                reserved.collect(),
                &raw.reserved_name,
                path,
                (tag::RESERVED_RANGE, tag::RESERVED_NAME),
            ),
            options: option::of_message(raw.options.as_ref()),
            fields,
            oneofs,
            groups,
            extensions: self
                .statements(extensions.collect(), path, tag::EXTENSION_RANGE)
                .into_iter()
                .map(|(_, spans)| spans)
                .collect(),
            extends: self.extends(&raw.extension, &scope, path, tag::NESTED_EXTENSION),
            messages: self.messages(&raw.nested_type, &scope, path, tag::NESTED_MESSAGE),
            enums: self.enums(&raw.enum_type, path, tag::NESTED_ENUM),
            is_map_entry: option::is_written_map_entry(raw),
        }
    }

    fn field(&self, raw: &FieldDescriptorProto, scope: &Scope<'_>) -> Field {
        let map = scope.map(raw);
        Field {
            label: map.is_none().then(|| self.label(raw)).flatten(),
            kind: match map {
                Some(entry) => Kind::Map(kind(&entry.field[0]), kind(&entry.field[1])),
                None => Kind::Named(kind(raw)),
            },
            name: raw.name().to_owned(),
            number: raw.number(),
            options: field_options(raw),
        }
    }

    fn group(&self, raw: &FieldDescriptorProto, scope: &Scope<'_>) -> Option<Group> {
        let (at, body) = scope.group(raw)?;
        Some(Group {
            label: self.label(raw),
            number: raw.number(),
            body: self.message(body, &join(&scope.path, scope.number, at)),
        })
    }

    fn label(&self, raw: &FieldDescriptorProto) -> Option<&'static str> {
        let is_proto3 = self.file.syntax() == "proto3";
        match raw.label() {
            _ if raw.proto3_optional() => Some("optional"),
            Label::Repeated => Some("repeated"),
            _ if is_proto3 || real_oneof(raw).is_some() => None,
            Label::Optional => Some("optional"),
            Label::Required => Some("required"),
        }
    }

    fn extends(
        &self,
        raw: &[FieldDescriptorProto],
        scope: &Scope<'_>,
        path: &[i32],
        number: i32,
    ) -> Vec<Extend> {
        let statements = self.statements(raw.iter().collect(), path, number);
        let is_placed = self.places.contains_key(&join_one(path, number)[..]);
        let mut extends: Vec<Extend> = Vec::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (_, fields) in statements {
            for (at, raw) in fields.into_iter().enumerate() {
                let same = match extends.last() {
                    // Without positions, what extends one message stands in one block.
                    _ if !is_placed => known.get(raw.extendee()).copied(),
                    Some(_) if at > 0 => Some(extends.len() - 1),
                    _ => None,
                };
                let at = same.unwrap_or_else(|| {
                    known.insert(raw.extendee(), extends.len());
                    extends.push(Extend {
                        name: raw.extendee().to_owned(),
                        fields: Vec::new(),
                        groups: Vec::new(),
                    });
                    extends.len() - 1
                });
                match self.group(raw, scope) {
                    Some(group) => extends[at].groups.push(group),
                    None => extends[at].fields.push(self.field(raw, scope)),
                }
            }
        }
        extends
    }

    fn enums(&self, raw: &[EnumDescriptorProto], path: &[i32], number: i32) -> Vec<Enum> {
        let each = raw.iter().enumerate();
        each.map(|(at, raw)| {
            let ranges = raw.reserved_range.iter();
            let ranges = ranges.map(|range| numbers(range.start(), range.end()));
            Enum {
                name: raw.name().to_owned(),
                reserved: self.reserved(
                    ranges.collect(),
                    &raw.reserved_name,
                    &join(path, number, at),
                    (tag::ENUM_RESERVED_RANGE, tag::ENUM_RESERVED_NAME),
                ),
                options: option::of_enum(raw.options.as_ref()),
                constants: raw.value.iter().map(constant).collect(),
            }
        })
        .collect()
    }

    /// The `reserved` statements of numbers and of names, in the order of the text.
    fn reserved(
        &self,
        ranges: Vec<Span>,
        names: &[String],
        path: &[i32],
        (of_ranges, of_names): (i32, i32),
    ) -> Vec<Vec<Span>> {
        let names = names.iter().cloned().map(Span::Name).collect();
        let mut all = self.statements(ranges, path, of_ranges);
        all.extend(self.statements(names, path, of_names));
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, spans)| spans).collect()
    }

    /// The items under a path by the statement they stand in; each alone where nobody knows.
    fn statements<T>(&self, items: Vec<T>, path: &[i32], number: i32) -> Vec<(Place, Vec<T>)> {
        let path = join_one(path, number);
        let mut statements = self.places.get(&path[..]).cloned().unwrap_or_default();
        statements.sort_unstable();
        let mut found: Vec<(Place, Vec<T>)> = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let at = i32::try_from(at).unwrap_or(i32::MAX);
            let mut path = path.clone();
            path.push(at);
            let start = self.places.get(&path[..]).and_then(|places| places.first());
            let statement = start.and_then(|(line, column, _, _)| {
                let behind =
                    statements.partition_point(|place| (place.0, place.1) <= (*line, *column));
                behind.checked_sub(1).and_then(|at| statements.get(at))
            });
            match (statement, found.last_mut()) {
                (Some(statement), Some((last, items))) if last == statement => items.push(item),
                (statement, _) => {
                    found.push((statement.copied().unwrap_or_default(), vec![item]));
                }
            }
        }
        found
    }
}

/// The messages that a field of a scope may stand for without naming a type of its own.
struct Scope<'a> {
    /// By name, with their position among the messages of the scope.
    messages: HashMap<&'a str, (usize, &'a DescriptorProto)>,
    groups: HashSet<&'a str>,
    path: Vec<i32>,
    number: i32,
}

impl<'a> Scope<'a> {
    fn of_file(raw: &'a FileDescriptorProto) -> Self {
        Self::new(
            &raw.message_type,
            &[],
            &raw.extension,
            &[],
            tag::FILE_MESSAGE,
        )
    }

    fn of_message(raw: &'a DescriptorProto, path: &[i32]) -> Self {
        let fields = (&raw.field[..], &raw.extension[..]);
        Self::new(
            &raw.nested_type,
            fields.0,
            fields.1,
            path,
            tag::NESTED_MESSAGE,
        )
    }

    fn new(
        messages: &'a [DescriptorProto],
        fields: &'a [FieldDescriptorProto],
        extensions: &'a [FieldDescriptorProto],
        path: &[i32],
        number: i32,
    ) -> Self {
        let each = messages.iter().enumerate();
        let fields = fields.iter().chain(extensions);
        Self {
            messages: each.map(|(at, raw)| (raw.name(), (at, raw))).collect(),
            groups: fields
                .filter(|field| field.r#type == Some(Type::Group.into()))
                .map(|field| last_part(field.type_name()))
                .collect(),
            path: path.to_vec(),
            number,
        }
    }

    fn is_group(&self, name: &str) -> bool {
        self.groups.contains(name)
    }

    fn group(&self, field: &FieldDescriptorProto) -> Option<(usize, &'a DescriptorProto)> {
        if field.r#type != Some(Type::Group.into()) {
            return None;
        }
        self.messages.get(last_part(field.type_name())).copied()
    }

    /// The entry of a field that is written as `map<…>`.
    fn map(&self, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
        if field.label() != Label::Repeated {
            return None;
        }
        let (_, entry) = self.messages.get(last_part(field.type_name()))?;
        (is_implied(entry) && entry.field.len() == 2).then_some(entry)
    }
}

/// Whether a message is the entry of a `map<…>` and not written in the text.
fn is_implied(raw: &DescriptorProto) -> bool {
    raw.options.as_ref().is_some_and(MessageOptions::map_entry)
}

/// The position of the `oneof` that a field was written in.
fn real_oneof(raw: &FieldDescriptorProto) -> Option<usize> {
    if raw.proto3_optional() {
        return None;
    }
    raw.oneof_index.and_then(|at| usize::try_from(at).ok())
}

fn kind(raw: &FieldDescriptorProto) -> String {
    match raw.r#type {
        _ if raw.type_name.is_some() => raw.type_name().to_owned(),
        None => String::new(),
        Some(_) => raw
            .r#type()
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    }
}

fn field_options(raw: &FieldDescriptorProto) -> Vec<Choice> {
    let mut options = option::of_field(raw.options.as_ref());
    let plain = |name: &str, value| Choice {
        name: name.to_owned(),
        is_custom: false,
        rest: None,
        value,
    };
    if let Some(value) = &raw.default_value {
        let value = match raw.r#type {
            Some(_) if raw.r#type() == Type::String => Literal::Text(value.clone()),
            Some(_) if raw.r#type() == Type::Bytes => Literal::Escaped(value.clone()),
            _ => Literal::Word(value.clone()),
        };
        options.push(plain("default", value));
    }
    if let Some(name) = &raw.json_name {
        options.push(plain("json_name", Literal::Text(name.clone())));
    }
    options
}

fn constant(raw: &prost_reflect::prost_types::EnumValueDescriptorProto) -> Constant {
    Constant {
        name: raw.name().to_owned(),
        number: raw.number(),
        options: option::of_enum_value(raw.options.as_ref()),
    }
}

fn service(raw: &ServiceDescriptorProto) -> Service {
    let methods = raw.method.iter();
    Service {
        name: raw.name().to_owned(),
        options: option::of_service(raw.options.as_ref()),
        methods: methods
            .map(|raw| Method {
                name: raw.name().to_owned(),
                request: raw.input_type().to_owned(),
                is_request_stream: raw.client_streaming(),
                response: raw.output_type().to_owned(),
                is_response_stream: raw.server_streaming(),
                options: option::of_method(raw.options.as_ref()),
            })
            .collect(),
    }
}

fn numbers(first: i32, last: i32) -> Span {
    let last = if last >= NUMBER_MAX { i32::MAX } else { last };
    Span::Numbers(first, last)
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn join(path: &[i32], number: i32, at: usize) -> Vec<i32> {
    let mut path = join_one(path, number);
    path.push(i32::try_from(at).unwrap_or(i32::MAX));
    path
}

fn join_one(path: &[i32], number: i32) -> Vec<i32> {
    let mut path = path.to_vec();
    path.push(number);
    path
}
