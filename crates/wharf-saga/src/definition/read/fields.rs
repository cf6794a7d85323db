//! An object whose fields are asked for by name.
//!
//! What was asked for is what is known here, so that no second list of fields can go astray: what
//! remains at the end is refused, with the nearest of the names that were asked for.

use serde_json::{Map, Value};

use super::super::text::clip;
use super::super::{Code, Given, QueryLanguage, escape};
use super::Reader;

/// Fields of JSONPath, and what JSONata has in their place.
const PATH_ONLY: &[(&str, &str)] = &[
    ("InputPath", "`$states.input` in Arguments"),
    ("Parameters", "Arguments"),
    ("ResultSelector", "Output"),
    ("ResultPath", "Output or Assign"),
    ("OutputPath", "Output"),
    ("ItemsPath", "Items"),
    ("Result", "Output"),
    ("Variable", "Condition"),
    ("TimeoutSecondsPath", "TimeoutSeconds with `{% … %}`"),
    ("HeartbeatSecondsPath", "HeartbeatSeconds with `{% … %}`"),
    ("SecondsPath", "Seconds with `{% … %}`"),
    ("TimestampPath", "Timestamp with `{% … %}`"),
    ("MaxConcurrencyPath", "MaxConcurrency with `{% … %}`"),
    (
        "ToleratedFailureCountPath",
        "ToleratedFailureCount with `{% … %}`",
    ),
    (
        "ToleratedFailurePercentagePath",
        "ToleratedFailurePercentage with `{% … %}`",
    ),
    ("ErrorPath", "Error with `{% … %}`"),
    ("CausePath", "Cause with `{% … %}`"),
];

/// Fields of JSONata, and what JSONPath has in their place.
const JSONATA_ONLY: &[(&str, &str)] = &[
    ("Arguments", "Parameters"),
    ("Output", "ResultSelector, ResultPath and OutputPath"),
    ("Items", "ItemsPath"),
    ("Condition", "Variable with a comparison"),
];

/// Fields that the language has somewhere.
const ELSEWHERE: &[&str] = &[
    "Assign",
    "BackoffRate",
    "Branches",
    "Catch",
    "Cause",
    "Choices",
    "Comment",
    "Compensate",
    "CompensateOn",
    "ConcurrencyLimit",
    "Credentials",
    "DeadlineSeconds",
    "Default",
    "End",
    "Error",
    "ErrorEquals",
    "HeartbeatSeconds",
    "IntervalSeconds",
    "ItemProcessor",
    "ItemSelector",
    "Iterator",
    "JitterStrategy",
    "MaxAttempts",
    "MaxConcurrency",
    "MaxDelaySeconds",
    "Next",
    "OnDeadline",
    "OnFailure",
    "OnUnknown",
    "Order",
    "Pivot",
    "ProcessorConfig",
    "QueryLanguage",
    "Resource",
    "Retry",
    "Saga",
    "Seconds",
    "StartAt",
    "States",
    "TimeoutSeconds",
    "Timestamp",
    "ToleratedFailureCount",
    "ToleratedFailurePercentage",
    "Type",
    "Version",
];

/// The fields of one object.
pub(super) struct Fields<'v> {
    map: &'v Map<String, Value>,
    at: String,
    asked: Vec<&'static str>,
}

impl<'v> Fields<'v> {
    /// The fields of an object, or a problem when it is none.
    pub(super) fn of(
        rd: &mut Reader<'_>,
        value: &'v Value,
        at: String,
        what: &str,
    ) -> Option<Self> {
        let Value::Object(map) = value else {
            rd.wrong_type(&at, what, "an object", value);
            return None;
        };
        Some(Self {
            map,
            at,
            asked: Vec::new(),
        })
    }

    /// Where a field of this object is.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{}", self.at, escape(name))
    }

    /// Where the object is.
    pub(super) fn here(&self) -> &str {
        &self.at
    }

    /// Whether the field is there; it need not be asked for yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A field, as it is.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'v Value> {
        self.asked.push(name);
        self.map.get(name)
    }

    /// A field that must be there.
    pub(super) fn need(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
        why: &str,
    ) -> Option<&'v Value> {
        let found = self.get(name);
        if found.is_none() {
            rd.add(
                Code::MISSING_FIELD,
                self.at.clone(),
                format!("`{name}` is missing: {why}"),
            );
        }
        found
    }

    pub(super) fn text(&mut self, rd: &mut Reader<'_>, name: &'static str) -> Option<String> {
        let value = self.get(name)?;
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            rd.wrong_type(&self.at(name), name, "a text", value);
        }
        text
    }

    pub(super) fn need_text(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
        why: &str,
    ) -> String {
        let there = self.need(rd, name, why).is_some();
        if there {
            self.text(rd, name).unwrap_or_default()
        } else {
            String::new()
        }
    }

    pub(super) fn list(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<&'v Vec<Value>> {
        let value = self.get(name)?;
        let list = value.as_array();
        if list.is_none() {
            rd.wrong_type(&self.at(name), name, "a list", value);
        }
        list
    }

    pub(super) fn object(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
    ) -> Option<&'v Map<String, Value>> {
        let value = self.get(name)?;
        let object = value.as_object();
        if object.is_none() {
            rd.wrong_type(&self.at(name), name, "an object", value);
        }
        object
    }

    /// A whole number within bounds; `3.0` is one.
    pub(super) fn whole(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
        bounds: (u64, u64),
    ) -> Option<u64> {
        let value = self.get(name)?;
        rd.whole_of(value, &self.at(name), name, bounds)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &mut self,
        rd: &mut Reader<'_>,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(rd, name)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let message = format!(
                "`{name}` is `{}`, and it takes {}{}",
                clip(&text),
                known.join(" or "),
                nearest(&text, words.iter().map(|(word, _)| *word)),
            );
            rd.add(Code::UNKNOWN_VALUE, self.at(name), message);
        }
        found
    }

    /// A number of seconds or of things: fixed, or out of the data by the language of the state.
    pub(super) fn given_whole(
        &mut self,
        rd: &mut Reader<'_>,
        language: QueryLanguage,
        names: (&'static str, &'static str),
        bounds: (u64, u64),
    ) -> Option<Given<u64>> {
        self.given(rd, language, names, |rd, value, at| {
            rd.whole_of(value, at, names.0, bounds)
        })
    }

    /// A value that is fixed (`names.0`), from a path (`names.1`, JSONPath only) or from an
    /// expression (`names.0`, JSONata only).
    pub(super) fn given<T>(
        &mut self,
        rd: &mut Reader<'_>,
        language: QueryLanguage,
        (name, path_name): (&'static str, &'static str),
        fixed: impl FnOnce(&mut Reader<'_>, &Value, &str) -> Option<T>,
    ) -> Option<Given<T>> {
        if language == QueryLanguage::Jsonata {
            let value = self.get(name)?;
            let at = self.at(name);
            return match value.as_str() {
                Some(text) if text.starts_with("{%") => {
                    rd.jsonata_text(text, &at);
                    Some(Given::From(text.to_owned()))
                }
                _ => fixed(rd, value, &at).map(Given::Fixed),
            };
        }
        let path = self.text(rd, path_name);
        let value = self.get(name);
        if path.is_some() && value.is_some() {
            rd.conflict(&self.at, &[name, path_name]);
        }
        let value = value.and_then(|value| fixed(rd, value, &self.at(name)));
        match path {
            Some(path) => {
                rd.path_or_function(&path, &self.at(path_name));
                Some(Given::From(path))
            }
            None => value.map(Given::Fixed),
        }
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(self, rd: &mut Reader<'_>, language: Option<QueryLanguage>, what: &str) {
        for name in self.map.keys() {
            if self.asked.contains(&name.as_str()) {
                continue;
            }
            let (code, message) = self.unknown(name, language, what);
            rd.add(code, self.at(name), message);
        }
    }

    fn unknown(&self, name: &str, language: Option<QueryLanguage>, what: &str) -> (Code, String) {
        let find = |list: &[(&str, &'static str)]| {
            list.iter()
                .find(|(field, _)| *field == name)
                .map(|(_, instead)| *instead)
        };
        let (on_path, on_jsonata) = (find(PATH_ONLY), find(JSONATA_ONLY));
        match (language, on_path, on_jsonata) {
            (Some(QueryLanguage::Jsonata), Some(instead), _) => {
                let message = format!(
                    "`{name}` belongs to JSONPath and this {what} is in JSONata; write {instead}, or give the state \"QueryLanguage\": \"JSONPath\""
                );
                (Code::FIELD_OF_OTHER_LANGUAGE, message)
            }
            (Some(QueryLanguage::JsonPath), _, Some(instead)) => {
                let message = format!(
                    "`{name}` belongs to JSONata and this {what} is in JSONPath; write {instead}, or give the state \"QueryLanguage\": \"JSONata\""
                );
                (Code::FIELD_OF_OTHER_LANGUAGE, message)
            }
            (_, on_path, on_jsonata)
                if on_path.is_some() || on_jsonata.is_some() || ELSEWHERE.contains(&name) =>
            {
                let message = format!(
                    "`{name}` cannot stand in a {what}, which would not look at it; take it away{}",
                    nearest(name, self.asked.iter().copied()),
                );
                (Code::FIELD_NOT_HERE, message)
            }
            _ => {
                let message = format!(
                    "a {what} has no field `{}`, and a field that is not looked at hides a mistake; take it away{}",
                    clip(name),
                    nearest(name, self.asked.iter().copied()),
                );
                (Code::UNKNOWN_FIELD, message)
            }
        }
    }
}

/// `, or did you mean …?`, when one of the names is near enough.
pub(in super::super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let name: String = name.chars().take(100).collect::<String>().to_lowercase();
    let best = known
        .map(|candidate| {
            let lower: String = candidate
                .chars()
                .take(100)
                .collect::<String>()
                .to_lowercase();
            let begins = name.len() >= 4 && lower.starts_with(&name);
            let distance = if begins {
                1
            } else {
                strsim::damerau_levenshtein(&name, &lower)
            };
            (distance, candidate)
        })
        .min_by_key(|(distance, _)| *distance);
    match best {
        Some((distance, candidate)) if distance <= 1 + name.chars().count() / 4 => {
            format!(", or did you mean `{}`?", clip(candidate))
        }
        _ => String::new(),
    }
}
