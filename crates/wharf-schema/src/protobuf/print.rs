//! The canonical text: sections, blank lines and indentation as Confluent's registry prints them,
//! so that a text that it stored and a text that we store are found by the same look-up.
//!
//! No comments, messages before enums, nothing reordered within its section. A blank line inside a
//! nested block carries the indentation of the block around it; that is part of the text.

use std::fmt::Write as _;

use super::source::{
    Choice, Constant, Enum, Extend, Field, File, Group, Kind, Literal, Message, Method, Oneof,
    Service, Span,
};

/// The text of a file.
pub(super) fn file(file: &File) -> String {
    let mut out = String::new();
    if let Some(syntax) = &file.syntax {
        push(&mut out, format_args!("syntax = \"{syntax}\";\n"));
    }
    if let Some(package) = &file.package {
        push(&mut out, format_args!("package {package};\n"));
    }
    if !file.imports.is_empty() || !file.public_imports.is_empty() {
        out.push('\n');
        for import in &file.imports {
            push(&mut out, format_args!("import \"{}\";\n", escaped(import)));
        }
        for import in &file.public_imports {
            let import = escaped(import);
            push(&mut out, format_args!("import public \"{import}\";\n"));
        }
    }
    section(&mut out, &file.options, |out, option| {
        out.push_str(&statement(option));
    });
    if !file.messages.is_empty() || !file.enums.is_empty() {
        out.push('\n');
    }
    for item in &file.messages {
        out.push_str(&message(item));
    }
    for item in &file.enums {
        out.push_str(&enumeration(item));
    }
    section(&mut out, &file.extends, |out, item| {
        out.push_str(&extend(item));
    });
    section(&mut out, &file.services, |out, item| {
        out.push_str(&service(item));
    });
    out
}

fn push(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string takes what is written");
}

/// A line break, then each item.
fn section<T>(out: &mut String, items: &[T], mut each: impl FnMut(&mut String, &T)) {
    if !items.is_empty() {
        out.push('\n');
        for item in items {
            each(out, item);
        }
    }
}

/// The same, two columns to the right.
fn inner<T>(out: &mut String, items: &[T], each: impl Fn(&T) -> String) {
    section(out, items, |out, item| indent(out, &each(item)));
}

fn indent(out: &mut String, text: &str) {
    for line in text.trim_end_matches('\n').split('\n') {
        push(out, format_args!("  {line}\n"));
    }
}

fn message(item: &Message) -> String {
    let mut out = format!("message {} {{", item.name);
    body(&mut out, item);
    out.push_str("}\n");
    out
}

fn body(out: &mut String, item: &Message) {
    inner(out, &item.reserved, |spans| ranges("reserved", spans));
    inner(out, &item.options, statement);
    inner(out, &item.fields, field);
    inner(out, &item.oneofs, oneof);
    inner(out, &item.groups, group);
    inner(out, &item.extensions, |spans| ranges("extensions", spans));
    inner(out, &item.extends, extend);
    if !item.messages.is_empty() || !item.enums.is_empty() {
        out.push('\n');
    }
    for nested in &item.messages {
        indent(out, &message(nested));
    }
    for nested in &item.enums {
        indent(out, &enumeration(nested));
    }
}

fn enumeration(item: &Enum) -> String {
    let mut out = format!("enum {} {{", item.name);
    inner(&mut out, &item.reserved, |spans| ranges("reserved", spans));
    if item.reserved.is_empty() && (!item.options.is_empty() || !item.constants.is_empty()) {
        out.push('\n');
    }
    for option in &item.options {
        indent(&mut out, &statement(option));
    }
    for item in &item.constants {
        indent(&mut out, &constant(item));
    }
    out.push_str("}\n");
    out
}

fn constant(item: &Constant) -> String {
    let options = bracketed(&item.options);
    format!("{} = {}{options};\n", item.name, item.number)
}

fn ranges(word: &str, spans: &[Span]) -> String {
    let spans: Vec<String> = spans
        .iter()
        .map(|span| match span {
            Span::Name(name) => format!("\"{}\"", escaped(name)),
            Span::Numbers(first, last) if first == last => first.to_string(),
            Span::Numbers(first, i32::MAX) => format!("{first} to max"),
            Span::Numbers(first, last) => format!("{first} to {last}"),
        })
        .collect();
    format!("{word} {};\n", spans.join(", "))
}

fn field(item: &Field) -> String {
    let kind = match &item.kind {
        Kind::Named(name) => name.clone(),
        Kind::Map(key, value) => format!("map<{key}, {value}>"),
    };
    let label = item.label.map(|label| format!("{label} "));
    let options = bracketed(&item.options);
    format!(
        "{}{kind} {} = {}{options};\n",
        label.unwrap_or_default(),
        item.name,
        item.number,
    )
}

fn oneof(item: &Oneof) -> String {
    let mut out = format!("oneof {} {{", item.name);
    inner(&mut out, &item.options, statement);
    inner(&mut out, &item.fields, field);
    inner(&mut out, &item.groups, group);
    out.push_str("}\n");
    out
}

fn group(item: &Group) -> String {
    let label = item.label.map(|label| format!("{label} "));
    let mut out = format!(
        "{}group {} = {} {{",
        label.unwrap_or_default(),
        item.body.name,
        item.number
    );
    body(&mut out, &item.body);
    out.push_str("}\n");
    out
}

fn extend(item: &Extend) -> String {
    let mut out = format!("extend {} {{", item.name);
    inner(&mut out, &item.fields, field);
    inner(&mut out, &item.groups, group);
    out.push_str("}\n");
    out
}

fn service(item: &Service) -> String {
    let mut out = format!("service {} {{", item.name);
    inner(&mut out, &item.options, statement);
    inner(&mut out, &item.methods, method);
    out.push_str("}\n");
    out
}

fn method(item: &Method) -> String {
    let stream = |is_stream| if is_stream { "stream " } else { "" };
    let mut out = format!(
        "rpc {} ({}{}) returns ({}{})",
        item.name,
        stream(item.is_request_stream),
        item.request,
        stream(item.is_response_stream),
        item.response,
    );
    if !item.options.is_empty() {
        out.push_str(" {\n");
        for option in &item.options {
            indent(&mut out, &statement(option));
        }
        out.push('}');
    }
    out.push_str(";\n");
    out
}

fn statement(option: &Choice) -> String {
    format!("option {};\n", choice(option))
}

/// ` [a = 1]`, or one option per line; nothing without options.
fn bracketed(options: &[Choice]) -> String {
    match options {
        [] => String::new(),
        [one] => format!(" [{}]", choice(one)),
        many => format!(" {}", lines('[', ']', many.iter().map(choice))),
    }
}

/// One item per line between brackets, with commas between them.
fn lines(open: char, close: char, items: impl ExactSizeIterator<Item = String>) -> String {
    let mut out = format!("{open}\n");
    let last = items.len().saturating_sub(1);
    for (at, item) in items.enumerate() {
        let comma = if at == last { "" } else { "," };
        indent(&mut out, &format!("{item}{comma}"));
    }
    out.push(close);
    out
}

fn choice(option: &Choice) -> String {
    let name = if option.is_custom {
        format!("({})", option.name)
    } else {
        option.name.clone()
    };
    let rest = option.rest.as_ref().map(|rest| format!(".{rest}"));
    let rest = rest.unwrap_or_default();
    format!("{name}{rest} = {}", literal(&option.value))
}

/// The value of an option.
pub(super) fn literal(value: &Literal) -> String {
    match value {
        Literal::Text(text) => format!("\"{}\"", escaped(text)),
        Literal::Escaped(text) => format!("\"{text}\""),
        Literal::Word(word) => word.clone(),
        Literal::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", literal(value)));
            lines('{', '}', entries)
        }
        Literal::List(items) => lines('[', ']', items.iter().map(literal)),
    }
}

/// Text as it stands between quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            letter => out.push(letter),
        }
    }
    out
}
