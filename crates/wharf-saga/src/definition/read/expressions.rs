//! Expressions are only looked at here: whether they can be read at all, and whether somebody
//! meant one where a text stands.

use serde_json::{Map, Value};

use super::super::text::clip;
use super::super::{Assign, Code, QueryLanguage, escape};
use super::Reader;
use crate::expression::{Syntax, jsonata, jsonpath, template};

/// Variables of the language itself.
const RESERVED: &[&str] = &["states"];

impl Reader<'_> {
    /// A path that may find anything.
    pub(super) fn path(&mut self, path: &str, at: &str) {
        if let Err(wrong) = jsonpath::check(path) {
            self.syntax(Code::INVALID_PATH, at, path, &wrong);
        }
    }

    /// A path that means one place.
    pub(super) fn reference(&mut self, path: &str, at: &str) {
        if let Err(wrong) = jsonpath::check_reference(path) {
            self.syntax(Code::INVALID_PATH, at, path, &wrong);
        }
    }

    /// A path or an intrinsic function.
    pub(super) fn path_or_function(&mut self, text: &str, at: &str) {
        if let Err(wrong) = template::check_value(text) {
            self.syntax(Code::INVALID_PATH, at, text, &wrong);
        }
    }

    /// A payload template.
    pub(super) fn template(&mut self, value: &Value, at: &str) {
        for wrong in template::check(value) {
            let text = value
                .pointer(&wrong.pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.syntax(Code::INVALID_TEMPLATE, at, text, &wrong);
        }
        self.undollared(value, at);
    }

    /// One expression of JSONata, in its braces.
    pub(super) fn jsonata_text(&mut self, text: &str, at: &str) {
        if let Err(wrong) = jsonata::check_value(text) {
            self.syntax(Code::INVALID_JSONATA, at, text, &wrong);
        }
    }

    /// A value with expressions of JSONata anywhere in it.
    pub(super) fn jsonata(&mut self, value: &Value, at: &str) {
        for wrong in jsonata::check(value) {
            let text = value
                .pointer(&wrong.pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            self.syntax(Code::INVALID_JSONATA, at, text, &wrong);
        }
    }

    /// A payload by the language of its state.
    pub(super) fn payload(&mut self, language: QueryLanguage, value: &Value, at: &str) {
        match language {
            QueryLanguage::JsonPath => self.template(value, at),
            QueryLanguage::Jsonata => self.jsonata(value, at),
        }
    }

    fn syntax(&mut self, code: Code, at: &str, text: &str, wrong: &Syntax) {
        let Syntax {
            pointer,
            at: character,
            what,
        } = wrong;
        let message = if text.is_empty() {
            what.clone()
        } else {
            format!(
                "`{}` cannot be read at character {character}: {what}",
                clip(text)
            )
        };
        self.add(code, format!("{at}{pointer}"), message);
    }

    /// Texts that look like paths under keys that do not end in `.$`.
    fn undollared(&mut self, value: &Value, at: &str) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let at = format!("{at}/{}", escape(key));
                    match value {
                        Value::String(text) if !key.ends_with(".$") && looks_like_path(text) => {
                            let message = format!(
                                "`{}` looks like a path, and without `.$` at the end of its key it stays this text; write the key `{}.$`, or leave it when the text is meant",
                                clip(text),
                                clip(key),
                            );
                            self.add(Code::NO_DOLLAR, at, message);
                        }
                        _ => self.undollared(value, &at),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.undollared(item, &format!("{at}/{index}"));
                }
            }
            _ => {}
        }
    }

    /// `Assign` of a state, a rule or a catcher.
    pub(super) fn assign(
        &mut self,
        language: QueryLanguage,
        map: &Map<String, Value>,
        at: &str,
    ) -> Assign {
        for key in map.keys() {
            let name = match language {
                QueryLanguage::JsonPath => key.strip_suffix(".$").unwrap_or(key),
                QueryLanguage::Jsonata => key,
            };
            if name.len() < key.len() && map.contains_key(name) {
                self.conflict(at, &[name, key]);
            }
            let mut characters = name.chars();
            let begins = characters
                .next()
                .is_some_and(|c| c.is_alphabetic() || c == '_');
            let goes_on = characters.all(|c| c.is_alphanumeric() || c == '_');
            let fits = begins && goes_on && name.chars().count() <= 80;
            if !fits || RESERVED.contains(&name) {
                let message = format!(
                    "`{}` cannot be the name of a variable; take letters, digits and `_`, a letter first, at most 80, and not `states`",
                    clip(name)
                );
                self.add(
                    Code::INVALID_VARIABLE_NAME,
                    format!("{at}/{}", escape(key)),
                    message,
                );
            }
        }
        let value = Value::Object(map.clone());
        self.payload(language, &value, at);
        map.clone()
    }
}

/// Whether somebody is likely to have meant a path or a function.
pub(super) fn looks_like_path(text: &str) -> bool {
    text == "$"
        || ["$.", "$$.", "$["]
            .iter()
            .any(|start| text.starts_with(start))
        || (text.starts_with("States.") && text.ends_with(')'))
}

/// Whether a value has a key that ends in `.$`.
pub(super) fn has_dollar_key(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.ends_with(".$") || has_dollar_key(value)),
        Value::Array(items) => items.iter().any(has_dollar_key),
        _ => false,
    }
}
