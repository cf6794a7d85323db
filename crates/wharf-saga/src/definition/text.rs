//! From a text to a value: JSON and YAML, the same rules for both.
//!
//! One visitor builds the value from either reader, so that a key that comes twice is refused in
//! both, every one of them is named, and no alias of YAML can grow a small text into a large value.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::{Code, Limits, Problem};

/// How a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, of the kind that says what JSON can say.
    Yaml,
}

impl Format {
    /// JSON begins with a brace; everything else is read as YAML.
    pub fn of(text: &str) -> Self {
        if text
            .trim_start_matches('\u{feff}')
            .trim_start()
            .starts_with('{')
        {
            Self::Json
        } else {
            Self::Yaml
        }
    }
}

/// How many brackets of YAML's flow style may be open at once; its reader takes time that grows
/// with the square of it.
const OPEN_BRACKETS_MAX: usize = 1_000;

/// A value out of a text, with what is wrong with it as a text. Without errors the value is there.
pub(super) fn value(
    text: &str,
    format: Format,
    limits: &Limits,
    problems: &mut Vec<Problem>,
) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    if text.len() > limits.text_bytes_max {
        let (size, most) = (text.len(), limits.text_bytes_max);
        let message = format!(
            "the text has {size} bytes and a definition may have {most}; move parts of it into sagas of their own"
        );
        problems.push(Problem::new(Code::TEXT_TOO_LARGE, "", message));
        return None;
    }
    if text.trim().is_empty() {
        let message = "the text is empty; a definition is an object with StartAt and States";
        problems.push(Problem::new(Code::EMPTY_TEXT, "", message));
        return None;
    }
    if format == Format::Yaml && open_brackets(text) > OPEN_BRACKETS_MAX {
        let message =
            format!("more than {OPEN_BRACKETS_MAX} brackets are open at once; nest less deeply");
        problems.push(Problem::new(Code::TOO_DEEP, "", message));
        return None;
    }
    let found = Found {
        limits,
        count: RefCell::new(0),
        problems: RefCell::new(Vec::new()),
    };
    let seed = Seed {
        found: &found,
        path: &Path::Root,
        depth: 0,
    };
    let read = match format {
        Format::Json => {
            let mut reader = serde_json::Deserializer::from_str(text);
            seed.deserialize(&mut reader)
                .and_then(|value| reader.end().map(|()| value))
                .map_err(|error| error.to_string())
        }
        Format::Yaml => seed
            .deserialize(serde_yaml_ng::Deserializer::from_str(text))
            .map_err(|error| error.to_string()),
    };
    let mut own = found.problems.into_inner();
    let stopped = own
        .iter()
        .any(|p| p.code != Code::DUPLICATE_KEY && p.code != Code::NOT_JSON);
    match read {
        Ok(value) => {
            problems.append(&mut own);
            Some(value)
        }
        Err(error) => {
            problems.append(&mut own);
            if !stopped {
                let name = if format == Format::Json {
                    "JSON"
                } else {
                    "YAML"
                };
                let error = error.chars().take(300).collect::<String>();
                let message = format!("the text is not {name}: {error}");
                problems.push(Problem::new(Code::UNREADABLE_TEXT, "", message));
            }
            None
        }
    }
}

/// The most brackets that stand open at once, quotes not looked at.
fn open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

struct Found<'l> {
    limits: &'l Limits,
    count: RefCell<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Found<'_> {
    fn add(&self, code: Code, path: String, message: String) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < self.limits.problems_max {
            problems.push(Problem::new(code, path, message));
        }
    }
}

/// Where the reader is, on the stack.
enum Path<'p> {
    Root,
    Key(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(above, key) => write!(f, "{above}/{}", super::escape(key)),
            Self::Index(above, index) => write!(f, "{above}/{index}"),
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'s> {
    found: &'s Found<'s>,
    path: &'s Path<'s>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let count = {
            let mut count = self.found.count.borrow_mut();
            *count += 1;
            *count
        };
        let limits = self.found.limits;
        if count > limits.values_max {
            let most = limits.values_max;
            let message = format!(
                "there are more than {most} values; aliases count as often as they are used"
            );
            self.found
                .add(Code::TOO_MANY_VALUES, self.path.to_string(), message);
            return Err(D::Error::custom("too many values"));
        }
        if self.depth > limits.depth_max {
            let message = format!("values are nested more than {} deep", limits.depth_max);
            self.found
                .add(Code::TOO_DEEP, self.path.to_string(), message);
            return Err(D::Error::custom("too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or_else(
            || {
                let message = "a number without a value is not JSON; write a number or a text";
                self.found
                    .add(Code::NOT_JSON, self.path.to_string(), message.to_owned());
                Value::Null
            },
            Value::Number,
        ))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        loop {
            let path = Path::Index(self.path, all.len());
            let seed = Seed {
                found: self.found,
                path: &path,
                depth: self.depth + 1,
            };
            match items.next_element_seed(seed)? {
                Some(item) => all.push(item),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = entries.next_key::<Key>()? {
            let Key { text, is_text } = key;
            let path = Path::Key(self.path, &text);
            let seed = Seed {
                found: self.found,
                path: &path,
                depth: self.depth + 1,
            };
            let value = entries.next_value_seed(seed)?;
            if !is_text {
                let message = format!("the key `{}` is not a text; put it in quotes", clip(&text));
                self.found.add(Code::NOT_JSON, path.to_string(), message);
            }
            if all.contains_key(&text) {
                let message = format!(
                    "the key `{}` is there twice, and readers differ in which they take; leave one",
                    clip(&text)
                );
                self.found
                    .add(Code::DUPLICATE_KEY, path.to_string(), message);
            } else {
                all.insert(text, value);
            }
        }
        Ok(Value::Object(all))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        // A tag of YAML.
        let (Key { text, .. }, value) = data.variant::<Key>()?;
        let message = format!(
            "the tag `!{}` means nothing here; tools that know it must replace it first",
            clip(&text)
        );
        self.found
            .add(Code::NOT_JSON, self.path.to_string(), message);
        serde::de::VariantAccess::newtype_variant_seed(value, Tagged(self))
    }
}

/// The value behind a tag.
struct Tagged<'s>(Seed<'s>);

impl<'de> DeserializeSeed<'de> for Tagged<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}

/// A key; YAML has keys of other types.
struct Key {
    text: String,
    is_text: bool,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl KeyVisitor {
    fn other<E>(text: &impl ToString) -> Result<Key, E> {
        Ok(Key {
            text: text.to_string(),
            is_text: false,
        })
    }
}

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Key, E> {
        Ok(Key {
            text: text.to_owned(),
            is_text: true,
        })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
        Self::other(&value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
        Self::other(&value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
        Self::other(&value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Key, E> {
        Self::other(&value)
    }

    fn visit_unit<E>(self) -> Result<Key, E> {
        Self::other(&"null")
    }
}

/// A text of a stranger, short enough for a sentence.
pub(super) fn clip(text: &str) -> String {
    let mut clipped: String = text
        .chars()
        .take(80)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(80).is_some() {
        clipped.push('…');
    }
    clipped
}
