//! Protobuf files made by chance, and changes to them.
//!
//! A model is always valid, whatever was changed: what refers to something that is gone is printed
//! as something else.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) is_proto3: bool,
    pub(crate) package: u8,
    pub(crate) messages: Vec<Message>,
    /// The numbers of the values of each enum; the first is always zero.
    pub(crate) enums: Vec<Vec<Constant>>,
}

/// A message; the number is its name.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) name: u8,
    pub(crate) fields: Vec<Field>,
    pub(crate) reserved: Vec<u32>,
}

/// A value of an enum, with its name and number.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    pub(crate) name: u8,
    pub(crate) number: i32,
}

/// A field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: u8,
    pub(crate) kind: Kind,
    pub(crate) label: Label,
}

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(&'static str),
    Message(Index),
    Enum(Index),
    Map(&'static str, Box<Kind>),
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Label {
    Plain,
    Optional,
    Required,
    Repeated,
    Oneof(u8),
}

const SCALARS: [&str; 15] = [
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool", "string", "bytes", "float", "double",
];
const KEYS: [&str; 5] = ["int32", "string", "bool", "fixed64", "sint64"];

/// Any file.
pub(crate) fn file() -> impl Strategy<Value = File> {
    (any::<bool>(), vec(message(), 1..4), vec(constants(), 1..3)).prop_map(
        |(is_proto3, mut messages, enums)| {
            for (name, message) in (0..).zip(&mut messages) {
                message.name = name;
            }
            File {
                is_proto3,
                package: 0,
                messages,
                enums,
            }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    vec(field(), 0..6).prop_map(|fields| Message {
        name: 0,
        fields: distinct(fields),
        reserved: Vec::new(),
    })
}

fn constants() -> impl Strategy<Value = Vec<Constant>> {
    vec(1..6_i32, 0..4).prop_map(|numbers| {
        let mut numbers: Vec<i32> = [vec![0], numbers].concat();
        numbers.sort_unstable();
        numbers.dedup();
        let each = (0..).zip(numbers);
        each.map(|(name, number)| Constant { name, number })
            .collect()
    })
}

fn field() -> impl Strategy<Value = Field> {
    (1..9_u32, kind(), label()).prop_map(|(number, kind, label)| Field {
        number,
        name: u8::try_from(number).unwrap(),
        kind,
        label,
    })
}

/// Any type of a field.
pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => select(&SCALARS[..]).prop_map(Kind::Scalar),
        2 => any::<Index>().prop_map(Kind::Message),
        1 => any::<Index>().prop_map(Kind::Enum),
        1 => (select(&KEYS[..]), select(&SCALARS[..]))
            .prop_map(|(key, value)| Kind::Map(key, Box::new(Kind::Scalar(value)))),
    ]
}

/// Any label of a field.
pub(crate) fn label() -> impl Strategy<Value = Label> {
    prop_oneof![
        4 => Just(Label::Plain),
        2 => Just(Label::Optional),
        1 => Just(Label::Required),
        2 => Just(Label::Repeated),
        2 => (0..2_u8).prop_map(Label::Oneof),
    ]
}

/// The first field of each number and of each name.
fn distinct(fields: Vec<Field>) -> Vec<Field> {
    let mut kept: Vec<Field> = Vec::new();
    for field in fields {
        let is_new = |one: &Field| one.number != field.number && one.name != field.name;
        if kept.iter().all(is_new) {
            kept.push(field);
        }
    }
    kept
}

/// Something that a person changes in a file.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    RemoveMessage(Index),
    AddMessage(Message),
    RemoveField(Index, Index, bool),
    AddField(Index, Field),
    RenameField(Index, Index),
    Retype(Index, Index, Kind),
    Relabel(Index, Index, Label),
    AddConstant(Index, i32),
    RemoveConstant(Index, Index),
    RenameConstant(Index, Index),
    Repackage,
}

/// Any change.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        1 => at().prop_map(Change::RemoveMessage),
        1 => message().prop_map(Change::AddMessage),
        3 => (at(), at(), any::<bool>())
            .prop_map(|(message, field, is_reserved)| Change::RemoveField(message, field, is_reserved)),
        3 => (at(), field()).prop_map(|(message, field)| Change::AddField(message, field)),
        2 => (at(), at()).prop_map(|(message, field)| Change::RenameField(message, field)),
        6 => (at(), at(), kind())
            .prop_map(|(message, field, kind)| Change::Retype(message, field, kind)),
        5 => (at(), at(), label())
            .prop_map(|(message, field, label)| Change::Relabel(message, field, label)),
        1 => (at(), 6..9_i32).prop_map(|(one, number)| Change::AddConstant(one, number)),
        1 => (at(), at()).prop_map(|(one, value)| Change::RemoveConstant(one, value)),
        1 => (at(), at()).prop_map(|(one, value)| Change::RenameConstant(one, value)),
        1 => Just(Change::Repackage),
    ]
}

impl File {
    /// The file after a change; the same where there is nothing to change.
    pub(crate) fn with(mut self, change: &Change) -> Self {
        match change {
            Change::RemoveMessage(at) if self.messages.len() > 1 => {
                self.messages.remove(at.index(self.messages.len()));
            }
            Change::AddMessage(message) => {
                let name = self.messages.iter().map(|message| message.name + 1).max();
                self.messages.push(Message {
                    name: name.unwrap_or(0).max(10),
                    ..message.clone()
                });
            }
            Change::RemoveField(message, at, is_reserved) => {
                self.change_fields(message, |message| {
                    let at = at.index(message.fields.len());
                    let field = message.fields.remove(at);
                    if *is_reserved {
                        message.reserved.push(field.number);
                    }
                });
            }
            Change::AddField(message, field) => {
                let at = message.index(self.messages.len());
                let message = &mut self.messages[at];
                if !message.reserved.contains(&field.number) {
                    message.fields.push(field.clone());
                    message.fields = distinct(std::mem::take(&mut message.fields));
                }
            }
            Change::RenameField(message, at) => self.change_field(message, at, |field| {
                field.name = u8::try_from(field.number).unwrap() + 50;
            }),
            Change::Retype(message, at, kind) => {
                self.change_field(message, at, |field| field.kind = kind.clone());
            }
            Change::Relabel(message, at, label) => {
                self.change_field(message, at, |field| field.label = *label);
            }
            Change::AddConstant(at, number) => {
                let at = at.index(self.enums.len());
                if self.enums[at].iter().all(|value| value.number != *number) {
                    let name = u8::try_from(*number).unwrap() + 20;
                    self.enums[at].push(Constant {
                        name,
                        number: *number,
                    });
                }
            }
            Change::RemoveConstant(at, value) => {
                let at = at.index(self.enums.len());
                if self.enums[at].len() > 1 {
                    let value = 1 + value.index(self.enums[at].len() - 1);
                    self.enums[at].remove(value);
                }
            }
            Change::RenameConstant(at, value) => {
                let at = at.index(self.enums.len());
                let value = value.index(self.enums[at].len());
                let value = &mut self.enums[at][value];
                value.name = u8::try_from(value.number).unwrap() + 50;
            }
            Change::Repackage => self.package = 1,
            Change::RemoveMessage(_) => {}
        }
        self
    }

    fn change_fields(&mut self, message: &Index, change: impl FnOnce(&mut Message)) {
        let filled = self.messages.iter_mut();
        let mut filled: Vec<_> = filled.filter(|one| !one.fields.is_empty()).collect();
        if !filled.is_empty() {
            let at = message.index(filled.len());
            change(filled[at]);
        }
    }

    fn change_field(&mut self, message: &Index, at: &Index, change: impl FnOnce(&mut Field)) {
        self.change_fields(message, |message| {
            let at = at.index(message.fields.len());
            change(&mut message.fields[at]);
        });
    }

    /// The text; `scope` tells packages of several files apart.
    pub(crate) fn text(&self, scope: &str) -> String {
        let syntax = if self.is_proto3 { "proto3" } else { "proto2" };
        let mut text = format!(
            "syntax = \"{syntax}\";\npackage {scope}p{};\n",
            self.package
        );
        for message in &self.messages {
            self.message(&mut text, message);
        }
        for (at, values) in self.enums.iter().enumerate() {
            writeln!(text, "enum E{at} {{").unwrap();
            for value in values {
                writeln!(text, "  E{at}_{} = {};", value.name, value.number).unwrap();
            }
            writeln!(text, "}}").unwrap();
        }
        text
    }

    fn message(&self, text: &mut String, message: &Message) {
        writeln!(text, "message M{} {{", message.name).unwrap();
        for number in &message.reserved {
            writeln!(text, "  reserved {number};").unwrap();
        }
        for oneof in 0..2 {
            let members: Vec<&Field> = message
                .fields
                .iter()
                .filter(|field| self.oneof(field) == Some(oneof))
                .collect();
            if !members.is_empty() {
                writeln!(text, "  oneof o{oneof} {{").unwrap();
                for field in members {
                    self.field(text, field, "");
                }
                writeln!(text, "  }}").unwrap();
            }
        }
        for field in &message.fields {
            if self.oneof(field).is_none() {
                self.field(text, field, self.label(field));
            }
        }
        writeln!(text, "}}").unwrap();
    }

    fn field(&self, text: &mut String, field: &Field, label: &str) {
        let kind = self.kind(&field.kind);
        writeln!(text, "  {label}{kind} f{} = {};", field.name, field.number).unwrap();
    }

    /// The oneof that a field is printed in.
    pub(crate) fn oneof(&self, field: &Field) -> Option<u8> {
        match (field.label, &field.kind) {
            (_, Kind::Map(..)) => None,
            (Label::Oneof(at), _) => Some(at),
            _ => None,
        }
    }

    fn label(&self, field: &Field) -> &'static str {
        match field.label {
            _ if matches!(field.kind, Kind::Map(..)) => "",
            Label::Repeated => "repeated ",
            Label::Optional => "optional ",
            Label::Required if !self.is_proto3 => "required ",
            _ if self.is_proto3 => "",
            _ => "optional ",
        }
    }

    fn kind(&self, kind: &Kind) -> String {
        match kind {
            Kind::Scalar(name) => (*name).to_owned(),
            Kind::Message(at) => format!("M{}", at.get(&self.messages).name),
            Kind::Enum(at) => format!("E{}", at.index(self.enums.len())),
            Kind::Map(key, value) => format!("map<{key}, {}>", self.kind(value)),
        }
    }
}
