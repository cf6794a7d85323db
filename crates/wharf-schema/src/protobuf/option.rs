//! Options: as a descriptor that is not interpreted yet has them, and, where somebody sends a
//! descriptor instead of a text, those that are already interpreted.
//!
//! The order is that of the text; of an interpreted descriptor, that in which Confluent's registry
//! writes them.

use prost_reflect::prost_types::{
    DescriptorProto, EnumOptions, EnumValueOptions, FieldOptions, FileOptions, MessageOptions,
    MethodOptions, OneofOptions, ServiceOptions, UninterpretedOption,
    uninterpreted_option::NamePart,
};

use super::aggregate;
use super::source::{Choice, Literal};

const MAP_ENTRY: &str = "map_entry";

fn choice(name: &str, value: Literal) -> Choice {
    Choice {
        name: name.to_owned(),
        is_custom: false,
        rest: None,
        value,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers, truth values and names alike"
)]
fn word(value: impl ToString) -> Literal {
    Literal::Word(value.to_string())
}

/// Pushes the options of one kind that are set.
macro_rules! set {
    ($list:ident, $options:ident: $($field:ident as $value:expr),+ $(,)?) => {$(
        if let Some(value) = &$options.$field {
            $list.push(choice(stringify!($field), $value(value.clone())));
        }
    )+};
}

/// All options of something whose own are words and nothing more.
macro_rules! plain {
    ($options:ident: $($field:ident as word),+ $(,)?) => {{
        let mut list = Vec::new();
        if let Some(options) = $options {
            set!(list, options: $($field as word),+);
            list.extend(written(&options.uninterpreted_option));
        }
        list
    }};
}

/// The options of a file.
pub(super) fn of_file(options: Option<&FileOptions>) -> Vec<Choice> {
    let Some(options) = options else {
        return Vec::new();
    };
    let mut list = Vec::new();
    set!(list, options:
        java_package as Literal::Text,
        java_outer_classname as Literal::Text,
        java_multiple_files as word,
    );
    #[expect(deprecated, reason = "a schema may still say it")]
    {
        set!(list, options: java_generate_equals_and_hash as word);
    }
    set!(list, options: java_string_check_utf8 as word);
    if options.optimize_for.is_some() {
        let mode = options.optimize_for().as_str_name();
        list.push(choice("optimize_for", word(mode)));
    }
    set!(list, options:
        go_package as Literal::Text,
        cc_generic_services as word,
        java_generic_services as word,
        py_generic_services as word,
        deprecated as word,
        cc_enable_arenas as word,
        objc_class_prefix as Literal::Text,
        csharp_namespace as Literal::Text,
        swift_prefix as Literal::Text,
        php_class_prefix as Literal::Text,
        php_namespace as Literal::Text,
        php_metadata_namespace as Literal::Text,
        ruby_package as Literal::Text,
    );
    list.extend(written(&options.uninterpreted_option));
    list
}

/// The options of a message.
pub(super) fn of_message(options: Option<&MessageOptions>) -> Vec<Choice> {
    plain!(options:
        message_set_wire_format as word,
        no_standard_descriptor_accessor as word,
        deprecated as word,
        map_entry as word,
    )
}

/// The options of a field.
pub(super) fn of_field(options: Option<&FieldOptions>) -> Vec<Choice> {
    let Some(options) = options else {
        return Vec::new();
    };
    let mut list = Vec::new();
    if options.ctype.is_some() {
        list.push(choice("ctype", word(options.ctype().as_str_name())));
    }
    set!(list, options: packed as word);
    if options.jstype.is_some() {
        list.push(choice("jstype", word(options.jstype().as_str_name())));
    }
    set!(list, options: deprecated as word);
    list.extend(written(&options.uninterpreted_option));
    list
}

/// The options of a `oneof`.
pub(super) fn of_oneof(options: Option<&OneofOptions>) -> Vec<Choice> {
    let written_ones = options.map(|options| &options.uninterpreted_option[..]);
    written(written_ones.unwrap_or_default())
}

/// The options of an enum.
pub(super) fn of_enum(options: Option<&EnumOptions>) -> Vec<Choice> {
    plain!(options: allow_alias as word, deprecated as word)
}

/// The options of an enum's value.
pub(super) fn of_enum_value(options: Option<&EnumValueOptions>) -> Vec<Choice> {
    plain!(options: deprecated as word)
}

/// The options of a service.
pub(super) fn of_service(options: Option<&ServiceOptions>) -> Vec<Choice> {
    plain!(options: deprecated as word)
}

/// The options of a service's call.
pub(super) fn of_method(options: Option<&MethodOptions>) -> Vec<Choice> {
    let Some(options) = options else {
        return Vec::new();
    };
    let mut list = Vec::new();
    set!(list, options: deprecated as word);
    if options.idempotency_level.is_some() {
        let level = options.idempotency_level().as_str_name();
        list.push(choice("idempotency_level", word(level)));
    }
    list.extend(written(&options.uninterpreted_option));
    list
}

/// Whether a message says `option map_entry = true;` itself: a descriptor printed as text does.
pub(super) fn is_written_map_entry(raw: &DescriptorProto) -> bool {
    let options = raw.options.iter();
    options
        .flat_map(|options| &options.uninterpreted_option)
        .any(|option| is_named(option, MAP_ENTRY) && option.identifier_value() == "true")
}

fn is_named(option: &UninterpretedOption, name: &str) -> bool {
    matches!(&option.name[..], [part] if !part.is_extension && part.name_part == name)
}

/// What a text may not say for a compiler but a descriptor printed as text does: an entry of a map
/// says so in an option that is interpreted here.
pub(super) fn interpret_map_entry(raw: &mut DescriptorProto) {
    let is_entry = is_written_map_entry(raw);
    if let Some(options) = &mut raw.options {
        let others = &mut options.uninterpreted_option;
        others.retain(|option| !is_named(option, MAP_ENTRY));
        if is_entry {
            options.map_entry = Some(true);
        }
    }
    for nested in &mut raw.nested_type {
        interpret_map_entry(nested);
    }
}

/// The inverse, for a descriptor that somebody sends: every entry in it is written out.
pub(super) fn write_map_entry(raw: &mut DescriptorProto) {
    if let Some(options) = &mut raw.options
        && options.map_entry.take() == Some(true)
    {
        options.uninterpreted_option.push(UninterpretedOption {
            name: vec![NamePart {
                name_part: MAP_ENTRY.to_owned(),
                is_extension: false,
            }],
            identifier_value: Some("true".to_owned()),
            ..UninterpretedOption::default()
        });
    }
    for nested in &mut raw.nested_type {
        write_map_entry(nested);
    }
}

fn written(options: &[UninterpretedOption]) -> Vec<Choice> {
    options.iter().map(one).collect()
}

fn one(option: &UninterpretedOption) -> Choice {
    let mut parts = option.name.iter().map(|part| {
        if part.is_extension {
            format!("({})", part.name_part)
        } else {
            part.name_part.clone()
        }
    });
    let is_custom = option.name.first().is_some_and(|part| part.is_extension);
    let (name, rest) = if is_custom {
        let first = parts.next().unwrap_or_default();
        let name = first.trim_matches(['(', ')']).to_owned();
        let rest = parts.collect::<Vec<_>>().join(".");
        (name, (!rest.is_empty()).then_some(rest))
    } else {
        (parts.collect::<Vec<_>>().join("."), None)
    };
    Choice {
        name,
        is_custom,
        rest,
        value: value(option),
    }
}

fn value(option: &UninterpretedOption) -> Literal {
    if let Some(name) = &option.identifier_value {
        word(name)
    } else if let Some(number) = option.positive_int_value {
        word(number)
    } else if let Some(number) = option.negative_int_value {
        word(number)
    } else if let Some(number) = option.double_value {
        word(number)
    } else if let Some(text) = &option.string_value {
        match str::from_utf8(text) {
            Ok(text) => Literal::Text(text.to_owned()),
            Err(_) => Literal::Escaped(text.escape_ascii().to_string()),
        }
    } else if let Some(text) = &option.aggregate_value {
        aggregate::read(text)
    } else {
        Literal::Text(String::new())
    }
}
