//! What of a message decides whether it is read: which fields exclude each other, how a field is
//! labelled in its text, and which forms on the wire read each other.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{FieldDescriptor, Kind as Type, MessageDescriptor, Syntax};

/// The fields of a message, and which oneof they are in. What `optional` makes is none.
pub(super) struct Fields {
    pub(super) by_number: BTreeMap<u32, FieldDescriptor>,
    pub(super) oneofs: BTreeMap<String, Vec<u32>>,
    oneof_of: HashMap<u32, String>,
}

impl Fields {
    pub(super) fn of(message: &MessageDescriptor) -> Self {
        let by_number = message.fields().map(|field| (field.number(), field));
        let mut oneofs = BTreeMap::new();
        let mut oneof_of = HashMap::new();
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let members: Vec<u32> = oneof.fields().map(|field| field.number()).collect();
            for number in &members {
                oneof_of.insert(*number, oneof.name().to_owned());
            }
            oneofs.insert(oneof.name().to_owned(), members);
        }
        Self {
            by_number: by_number.collect(),
            oneofs,
            oneof_of,
        }
    }

    pub(super) fn oneof_of(&self, number: u32) -> Option<&str> {
        self.oneof_of.get(&number).map(String::as_str)
    }

    /// Whether a oneof went, and none of its members is anywhere in the newer message.
    pub(super) fn is_gone(&self, oneof: &str, news: &Fields) -> bool {
        let mut members = self.oneofs.get(oneof).into_iter().flatten();
        !news.oneofs.contains_key(oneof)
            && !members.any(|number| news.by_number.contains_key(number))
    }
}

/// The label of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Optional,
    Required,
    Repeated,
}

/// The label as the text says it: none for what `proto3` leaves unsaid, for a map and in a oneof.
pub(super) fn label(field: &FieldDescriptor) -> Option<Label> {
    let proto = field.field_descriptor_proto();
    let oneof = field.containing_oneof();
    let is_in_oneof = oneof.is_some_and(|oneof| !oneof.is_synthetic());
    if field.is_map() || is_in_oneof {
        None
    } else if field.is_list() {
        Some(Label::Repeated)
    } else if field.is_required() {
        Some(Label::Required)
    } else if proto.proto3_optional() || field.parent_file().syntax() == Syntax::Proto2 {
        Some(Label::Optional)
    } else {
        None
    }
}

/// The name of a type without its package.
pub(super) fn local_name(message: &MessageDescriptor) -> &str {
    let rest = message.full_name().strip_prefix(message.package_name());
    match rest.and_then(|rest| rest.strip_prefix('.')) {
        Some(local) if !message.package_name().is_empty() => local,
        _ => message.full_name(),
    }
}

/// What kinds of value never read each other.
pub(super) enum Shape {
    Scalar(WireGroup),
    Map(MessageDescriptor),
    Message(MessageDescriptor),
    Group(MessageDescriptor),
}

impl Shape {
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        match field.kind() {
            Type::Message(entry) if field.is_map() => Self::Map(entry),
            Type::Message(message) if field.is_group() => Self::Group(message),
            Type::Message(message) => Self::Message(message),
            kind => Self::Scalar(WireGroup::of(&kind)),
        }
    }
}

/// Scalars that read each other: one form on the wire, one meaning of small values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireGroup {
    Number,
    Signed,
    StringOrBytes,
    Fixed32,
    Fixed64,
    Float,
    Double,
}

impl WireGroup {
    pub(super) fn of(kind: &Type) -> Self {
        match kind {
            Type::Sint32 | Type::Sint64 => Self::Signed,
            Type::String | Type::Bytes => Self::StringOrBytes,
            Type::Fixed32 | Type::Sfixed32 => Self::Fixed32,
            Type::Fixed64 | Type::Sfixed64 => Self::Fixed64,
            Type::Float => Self::Float,
            Type::Double => Self::Double,
            _ => Self::Number,
        }
    }
}
