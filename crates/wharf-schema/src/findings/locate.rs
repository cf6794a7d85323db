//! The line of a place in a schema's text, so that annotations stand where the change was made.
//!
//! Texts are read byte by byte without recursion; what is no JSON gives some line of it, never a
//! panic.

use crate::model::SchemaType;

/// The line (from 1) of a path as differences and lints name it: a JSON pointer, with or without
/// `#`, or names of Protobuf. The nearest place above, where the place itself is not in the text.
pub fn line_of(kind: SchemaType, text: &str, path: &str) -> u32 {
    match kind {
        SchemaType::Avro | SchemaType::Json => in_json(text, path),
        SchemaType::Protobuf => in_protobuf(text, path),
    }
}

enum Frame {
    Object,
    Array(usize),
}

/// Reads JSON once and keeps the line of the longest beginning of the path.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
    target: Vec<String>,
    stack: Vec<Frame>,
    /// How many of the containers around this place have the path's child under way.
    matched: usize,
    best: (usize, u32),
}

fn in_json(text: &str, pointer: &str) -> u32 {
    let target = pointer
        .trim_start_matches('#')
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        target,
        stack: Vec::new(),
        matched: 0,
        best: (0, 1),
    };
    scan.run();
    scan.best.1
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut expects_key = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' => self.line += 1,
                b'{' | b'[' => {
                    self.value_begins();
                    expects_key = byte == b'{';
                    self.stack.push(match byte {
                        b'{' => Frame::Object,
                        _ => Frame::Array(0),
                    });
                }
                b'}' | b']' => {
                    self.stack.pop();
                    self.matched = self.matched.min(self.stack.len());
                    expects_key = false;
                }
                b',' => match self.stack.last_mut() {
                    Some(Frame::Array(index)) => *index += 1,
                    Some(Frame::Object) => expects_key = true,
                    None => {}
                },
                b'"' => {
                    let word = self.string();
                    if expects_key {
                        self.child(&word);
                        expects_key = false;
                    } else {
                        self.value_begins();
                    }
                }
                b':' | b' ' | b'\t' | b'\r' => {}
                _scalar => self.value_begins(),
            }
            self.at += 1;
        }
    }

    /// The string that begins here; leaves the place at its closing quote.
    fn string(&mut self) -> String {
        let begin = self.at;
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 1,
                b'"' => break,
                b'\n' => self.line += 1,
                _ => {}
            }
            self.at += 1;
        }
        let end = (self.at + 1).min(self.bytes.len());
        serde_json::from_slice(&self.bytes[begin..end]).unwrap_or_default()
    }

    fn value_begins(&mut self) {
        if let Some(Frame::Array(index)) = self.stack.last() {
            let index = index.to_string();
            self.child(&index);
        }
    }

    fn child(&mut self, name: &str) {
        let Some(depth) = self.stack.len().checked_sub(1) else {
            return;
        };
        if self.matched < depth {
            return;
        }
        self.matched = depth;
        if self
            .target
            .get(depth)
            .is_some_and(|segment| segment == name)
        {
            self.matched = depth + 1;
            if self.matched > self.best.0 {
                self.best = (self.matched, self.line);
            }
        }
    }
}

/// Each name is looked for as a word after the place of the one before it.
fn in_protobuf(text: &str, path: &str) -> u32 {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut from = 0;
    for name in path.split(|character: char| !is_word(character)) {
        if name.is_empty() || name.chars().all(|digit| digit.is_ascii_digit()) {
            continue;
        }
        let found = text[from..].match_indices(name).find(|(index, _)| {
            let (before, after) = (&text[..from + index], &text[from + index + name.len()..]);
            !before.ends_with(is_word) && !after.starts_with(is_word)
        });
        if let Some((index, _)) = found {
            from += index;
        }
    }
    let lines = text[..from].bytes().filter(|byte| *byte == b'\n').count();
    u32::try_from(lines + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVRO: &str = r#"{
  "type": "record", "name": "Order",
  "fields": [
    {"name": "id", "type": "string"},
    {
      "name": "lines",
      "type": {"type": "array", "items": "long"}
    }
  ]
}"#;

    #[test]
    fn a_pointer_has_its_line_and_a_longer_one_that_of_its_nearest_place() {
        let line = |pointer| line_of(SchemaType::Avro, AVRO, pointer);
        assert_eq!(line("/"), 1);
        assert_eq!(line("/name"), 2);
        assert_eq!(line("/fields/0"), 4);
        assert_eq!(line("#/fields/1"), 5);
        assert_eq!(line("/fields/1/type/items"), 7);
        assert_eq!(line("/fields/1/type/items/further/down"), 7);
        assert_eq!(line("/fields/9"), 3);
    }

    #[test]
    fn what_is_no_json_has_a_line_too() {
        for text in ["", "{", "[\"", "}}]]", "{\"a\":\"\\", "nul"] {
            assert_eq!(line_of(SchemaType::Json, text, "/a/b"), 1, "{text:?}");
        }
    }

    #[test]
    fn names_of_protobuf_are_found_in_order() {
        let text = "syntax = \"proto3\";\nmessage Line {\n  string card = 1;\n}\nmessage Order {\n  string cards = 1;\n  string card = 2;\n}\n";
        assert_eq!(line_of(SchemaType::Protobuf, text, "Order.card"), 7);
        assert_eq!(line_of(SchemaType::Protobuf, text, "#/Order/2"), 5);
        assert_eq!(line_of(SchemaType::Protobuf, text, ""), 1);
    }
}
