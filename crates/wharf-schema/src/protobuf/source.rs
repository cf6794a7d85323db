//! A `.proto` file as it is written: what the canonical text is printed from.
//!
//! It keeps what a descriptor resolves away (names as written, which numbers stand in one
//! statement) and has no comments, because the registry's canonical text has none. It never says
//! anything about what a name means; that is the descriptor's.

/// A file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct File {
    /// `proto2` or `proto3`, where it is said.
    pub(super) syntax: Option<String>,
    pub(super) package: Option<String>,
    pub(super) imports: Vec<String>,
    pub(super) public_imports: Vec<String>,
    pub(super) options: Vec<Choice>,
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Enum>,
    pub(super) extends: Vec<Extend>,
    pub(super) services: Vec<Service>,
}

/// A message, or the body of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) name: String,
    pub(super) reserved: Vec<Vec<Span>>,
    pub(super) options: Vec<Choice>,
    pub(super) fields: Vec<Field>,
    pub(super) oneofs: Vec<Oneof>,
    pub(super) groups: Vec<Group>,
    pub(super) extensions: Vec<Vec<Span>>,
    pub(super) extends: Vec<Extend>,
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Enum>,
    /// A map's entry that the text spells out as a message (descriptors do).
    pub(super) is_map_entry: bool,
}

/// What one place of a `reserved` or `extensions` statement holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// First and last number; `i32::MAX` as last is `max`.
    Numbers(i32, i32),
    Name(String),
}

/// A field.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) label: Option<&'static str>,
    /// As written: `int32`, `Order`, `.shop.Order`.
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) number: i32,
    /// With `default` and `json_name` last, as the canonical text has them.
    pub(super) options: Vec<Choice>,
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Named(String),
    Map(String, String),
}

/// A `oneof`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Oneof {
    pub(super) name: String,
    pub(super) options: Vec<Choice>,
    pub(super) fields: Vec<Field>,
    pub(super) groups: Vec<Group>,
}

/// A group: a field and its message at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) label: Option<&'static str>,
    pub(super) number: i32,
    pub(super) body: Message,
}

/// An `extend` block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Extend {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) groups: Vec<Group>,
}

/// An enum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enum {
    pub(super) name: String,
    pub(super) reserved: Vec<Vec<Span>>,
    pub(super) options: Vec<Choice>,
    pub(super) constants: Vec<Constant>,
}

/// One of an enum's values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) options: Vec<Choice>,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) options: Vec<Choice>,
    pub(super) methods: Vec<Method>,
}

/// One of a service's calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Method {
    pub(super) name: String,
    pub(super) request: String,
    pub(super) is_request_stream: bool,
    pub(super) response: String,
    pub(super) is_response_stream: bool,
    pub(super) options: Vec<Choice>,
}

/// An option and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) name: String,
    /// Whether the name stands in parentheses: an option that an extension defines.
    pub(super) is_custom: bool,
    /// What follows the parentheses: `doc` in `(confluent.field_meta).doc`.
    pub(super) rest: Option<String>,
    pub(super) value: Literal,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// Text, in quotes and escaped when it is printed.
    Text(String),
    /// Bytes, escaped already, in quotes when they are printed.
    Escaped(String),
    /// A number, a truth value or the name of an enum's value: printed as it is.
    Word(String),
    Map(Vec<(String, Literal)>),
    List(Vec<Literal>),
}
