//! Walking a document: mappings with known keys, texts, lists; every surprise is a problem with its
//! path, and the walk goes on.

use serde_yaml_ng::Value;

use super::Problem;
use crate::choreography::nearest::hint;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// A mapping with its path.
#[derive(Clone, Debug)]
pub(super) struct Map<'a> {
    pub(super) path: String,
    entries: Vec<(&'a str, &'a Value)>,
}

impl<'a> Map<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        let found = self.entries.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }

    pub(super) fn entries(&self) -> &[(&'a str, &'a Value)] {
        &self.entries
    }

    pub(super) fn at(&self, key: &str) -> String {
        at(&self.path, key)
    }
}

/// The path of a key, with JSON Pointer's escapes.
pub(super) fn at(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

impl Reader {
    pub(super) fn problem(&mut self, path: impl Into<String>, sentence: impl Into<String>) {
        self.problems.push(Problem::new(path, sentence));
    }

    /// A mapping; with `known`, its other keys are problems.
    pub(super) fn map<'a>(
        &mut self,
        value: &'a Value,
        path: &str,
        known: Option<&[&str]>,
    ) -> Map<'a> {
        let mut entries = Vec::new();
        match value {
            Value::Mapping(mapping) => {
                for (key, value) in mapping {
                    let Some(key) = key.as_str() else {
                        self.problem(path, format!("the key {} is no text", shown(key)));
                        continue;
                    };
                    if let Some(known) = known
                        && !known.contains(&key)
                    {
                        let hint = hint(key, known.iter().copied());
                        self.problem(at(path, key), format!("`{key}` is not known here{hint}"));
                        continue;
                    }
                    entries.push((key, value));
                }
            }
            other => self.problem(path, format!("this must be a mapping, not {}", kind(other))),
        }
        Map {
            path: path.to_owned(),
            entries,
        }
    }

    /// A text that is not empty.
    pub(super) fn text<'a>(&mut self, value: &'a Value, path: &str) -> Option<&'a str> {
        match value.as_str().map(str::trim) {
            Some("") => {
                self.problem(path, "this is empty");
                None
            }
            Some(text) => Some(text),
            None => {
                self.problem(path, format!("this must be a text, not {}", kind(value)));
                None
            }
        }
    }

    /// Texts: one, or a list of them, with their paths.
    pub(super) fn texts<'a>(&mut self, value: &'a Value, path: &str) -> Vec<(String, &'a str)> {
        let Value::Sequence(all) = value else {
            let text = self.text(value, path);
            return text
                .map(|text| (path.to_owned(), text))
                .into_iter()
                .collect();
        };
        let mut found = Vec::new();
        for (index, value) in all.iter().enumerate() {
            let path = format!("{path}/{index}");
            if let Some(text) = self.text(value, &path) {
                found.push((path, text));
            }
        }
        found
    }

    /// The result, or a problem of it.
    pub(super) fn good<T>(&mut self, path: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|sentence| self.problem(path, sentence)).ok()
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Tagged(_) => "a tagged value",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bool(is) => is.to_string(),
        other => kind(other).to_owned(),
    }
}
