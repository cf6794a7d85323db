//! Options that extensions define, in a descriptor that somebody sends.
//!
//! There they are fields that only the extension's file explains, such as the tags that
//! `confluent.field_meta` puts on fields. They are read with the resolved file and written as
//! options of the text, so that none is lost.

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto, UninterpretedOption, uninterpreted_option::NamePart,
};
use prost_reflect::{DynamicMessage, FileDescriptor, Kind, MapKey, Value};

use super::print;
use super::source::Literal;

/// Adds to a file the custom options that its bytes have, as far as what it imports knows them.
/// Whether there were any.
pub(super) fn restore(
    raw: &mut FileDescriptorProto,
    bytes: &[u8],
    resolved: &FileDescriptor,
) -> bool {
    let pool = resolved.parent_pool();
    let Some(descriptor) = pool.get_message_by_name("google.protobuf.FileDescriptorProto") else {
        return false;
    };
    let Ok(file) = DynamicMessage::decode(descriptor, bytes) else {
        return false;
    };
    let mut restorer = Restorer { count: 0 };
    restorer.file(raw, &file);
    restorer.count > 0
}

struct Restorer {
    count: usize,
}

/// Adds the options of one descriptor.
macro_rules! add {
    ($self:ident, $raw:ident, $dynamic:ident) => {
        let options = options($dynamic);
        $self.count += options.len();
        if !options.is_empty() {
            let known = $raw.options.get_or_insert_default();
            known.uninterpreted_option.extend(options);
        }
    };
}

impl Restorer {
    fn file(&mut self, raw: &mut FileDescriptorProto, dynamic: &DynamicMessage) {
        add!(self, raw, dynamic);
        each(
            &mut raw.message_type,
            dynamic,
            "message_type",
            |raw, one| self.message(raw, one),
        );
        each(&mut raw.enum_type, dynamic, "enum_type", |raw, one| {
            self.enumeration(raw, one);
        });
        each(&mut raw.extension, dynamic, "extension", |raw, one| {
            self.field(raw, one);
        });
        each(&mut raw.service, dynamic, "service", |raw, one| {
            self.service(raw, one);
        });
    }

    /// Depth is bounded by the decoder.
    fn message(&mut self, raw: &mut DescriptorProto, dynamic: &DynamicMessage) {
        add!(self, raw, dynamic);
        each(&mut raw.field, dynamic, "field", |raw, one| {
            self.field(raw, one);
        });
        each(&mut raw.extension, dynamic, "extension", |raw, one| {
            self.field(raw, one);
        });
        each(&mut raw.nested_type, dynamic, "nested_type", |raw, one| {
            self.message(raw, one);
        });
        each(&mut raw.enum_type, dynamic, "enum_type", |raw, one| {
            self.enumeration(raw, one);
        });
        each(&mut raw.oneof_decl, dynamic, "oneof_decl", |raw, one| {
            add!(self, raw, one);
        });
    }

    fn field(&mut self, raw: &mut FieldDescriptorProto, dynamic: &DynamicMessage) {
        add!(self, raw, dynamic);
    }

    fn enumeration(&mut self, raw: &mut EnumDescriptorProto, dynamic: &DynamicMessage) {
        add!(self, raw, dynamic);
        each(&mut raw.value, dynamic, "value", |raw, one| {
            add!(self, raw, one);
        });
    }

    fn service(&mut self, raw: &mut ServiceDescriptorProto, dynamic: &DynamicMessage) {
        add!(self, raw, dynamic);
        each(&mut raw.method, dynamic, "method", |raw, one| {
            add!(self, raw, one);
        });
    }
}

/// The same list in both forms.
fn each<T>(
    raw: &mut [T],
    dynamic: &DynamicMessage,
    list: &str,
    mut change: impl FnMut(&mut T, &DynamicMessage),
) {
    let items = dynamic.get_field_by_name(list);
    let items = items.as_ref().and_then(|items| items.as_list());
    let items = items.unwrap_or_default().iter();
    for (raw, one) in raw.iter_mut().zip(items) {
        if let Some(one) = one.as_message() {
            change(raw, one);
        }
    }
}

/// The custom options of a descriptor, by the number of the extension; each item of a list is one.
fn options(descriptor: &DynamicMessage) -> Vec<UninterpretedOption> {
    let options = descriptor.get_field_by_name("options");
    let options = options.as_ref().and_then(|options| options.as_message());
    let extensions = options.into_iter().flat_map(DynamicMessage::extensions);
    let mut found = Vec::new();
    for (extension, value) in extensions {
        let values = match value {
            Value::List(items) => &items[..],
            one => std::slice::from_ref(one),
        };
        found.extend(values.iter().map(|value| UninterpretedOption {
            name: vec![NamePart {
                name_part: extension.full_name().to_owned(),
                is_extension: true,
            }],
            ..written(value, &extension.kind())
        }));
    }
    found
}

fn written(value: &Value, kind: &Kind) -> UninterpretedOption {
    let mut option = UninterpretedOption::default();
    match value {
        Value::I32(number) => return written(&Value::I64(i64::from(*number)), kind),
        Value::U32(number) => option.positive_int_value = Some(u64::from(*number)),
        Value::U64(number) => option.positive_int_value = Some(*number),
        Value::I64(number) => match u64::try_from(*number) {
            Ok(number) => option.positive_int_value = Some(number),
            Err(_) => option.negative_int_value = Some(*number),
        },
        Value::F32(number) => option.double_value = Some(f64::from(*number)),
        Value::F64(number) => option.double_value = Some(*number),
        Value::String(text) => option.string_value = Some(text.clone().into_bytes()),
        Value::Bytes(bytes) => option.string_value = Some(bytes.to_vec()),
        other => match literal(other, kind) {
            Literal::Word(word) => option.identifier_value = Some(word),
            aggregate => {
                let text = print::literal(&aggregate);
                let inner = text
                    .strip_prefix('{')
                    .and_then(|text| text.strip_suffix('}'));
                option.aggregate_value = Some(inner.unwrap_or(&text).to_owned());
            }
        },
    }
    option
}

/// A value as an option's text has it. Maps are in the order of their keys.
fn literal(value: &Value, kind: &Kind) -> Literal {
    match value {
        Value::Bool(value) => Literal::Word(value.to_string()),
        Value::I32(value) => Literal::Word(value.to_string()),
        Value::I64(value) => Literal::Word(value.to_string()),
        Value::U32(value) => Literal::Word(value.to_string()),
        Value::U64(value) => Literal::Word(value.to_string()),
        Value::F32(value) => Literal::Word(value.to_string()),
        Value::F64(value) => Literal::Word(value.to_string()),
        Value::String(text) => Literal::Text(text.clone()),
        Value::Bytes(bytes) => Literal::Escaped(bytes.escape_ascii().to_string()),
        Value::EnumNumber(number) => {
            let named = kind.as_enum().and_then(|one| one.get_value(*number));
            let name = named.map(|value| value.name().to_owned());
            Literal::Word(name.unwrap_or_else(|| number.to_string()))
        }
        Value::Message(message) => {
            let fields = message
                .fields()
                .map(|(field, value)| (field.name().to_owned(), literal(value, &field.kind())));
            let extensions = message.extensions().map(|(extension, value)| {
                let name = format!("[{}]", extension.full_name());
                (name, literal(value, &extension.kind()))
            });
            Literal::Map(fields.chain(extensions).collect())
        }
        Value::List(items) => Literal::List(items.iter().map(|item| literal(item, kind)).collect()),
        Value::Map(entries) => {
            let Some(entry) = kind.as_message() else {
                return Literal::List(Vec::new());
            };
            let (key, inner) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let mut keys: Vec<&MapKey> = entries.keys().collect();
            keys.sort();
            let pair = |at: &MapKey| {
                Literal::Map(vec![
                    ("key".to_owned(), literal(&at.clone().into(), &key.kind())),
                    ("value".to_owned(), literal(&entries[at], &inner.kind())),
                ])
            };
            Literal::List(keys.into_iter().map(pair).collect())
        }
    }
}
