//! `format=serialized`: the descriptor itself, which clients add to a pool without a parser.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DynamicMessage, FileDescriptor, ReflectMessage as _, Value};

/// The descriptor in base64, custom options included. JSON names that follow from the field's name
/// are left out, as they are in the text: who registers the descriptor registers the same schema.
pub(super) fn base64(file: &FileDescriptor) -> String {
    let bytes = file.encode_to_vec();
    let descriptor = FileDescriptorProto::default().descriptor();
    let Ok(mut proto) = DynamicMessage::decode(descriptor, &bytes[..]) else {
        return STANDARD.encode(bytes);
    };
    each(&mut proto, "message_type", message);
    each(&mut proto, "extension", field);
    STANDARD.encode(proto.encode_to_vec())
}

/// Depth is bounded by the parser.
fn message(proto: &mut DynamicMessage) {
    each(proto, "field", field);
    each(proto, "extension", field);
    each(proto, "nested_type", message);
}

fn each(proto: &mut DynamicMessage, list: &str, change: impl Fn(&mut DynamicMessage)) {
    let items = proto.get_field_by_name_mut(list);
    let items = items.and_then(Value::as_list_mut).into_iter().flatten();
    items.filter_map(Value::as_message_mut).for_each(change);
}

fn field(proto: &mut DynamicMessage) {
    let text = |name: &str| {
        let value = proto.get_field_by_name(name);
        value.and_then(|value| value.as_str().map(str::to_owned))
    };
    if text("json_name") == text("name").map(|name| json_name(&name)) {
        proto.clear_field_by_name("json_name");
    }
}

/// The JSON name that a field has unless it says another.
fn json_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_first = false;
    for letter in name.chars() {
        if letter == '_' {
            is_first = true;
        } else if std::mem::take(&mut is_first) {
            out.push(letter.to_ascii_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}
