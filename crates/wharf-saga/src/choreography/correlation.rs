//! Which records belong to one saga: by a header that they share, by their key, or by a place in
//! their payload.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::observed::{HEADER_BYTES_MAX, Observed};

/// The headers that correlate where nobody says otherwise, in order. After them comes the trace id of
/// `traceparent`.
pub const DIALECTS: [&str; 5] = [
    "saga-id",
    "correlation-id",
    "ce_correlationid",
    "NServiceBus.ConversationId",
    "commandreply_saga_id",
];
const TRACEPARENT: &str = "traceparent";
/// The longest payload that is looked into.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// How many steps a path may have.
const PATH_STEPS_MAX: usize = 32;

/// One way to find a saga's id in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header's value.
    Header(String),
    /// The record's key.
    Key,
    /// A place in a JSON payload.
    Json(JsonPath),
    /// [`DIALECTS`] and the trace id, in order.
    Dialects,
}

/// How records are correlated: for the topics that are named, their own way first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correlation {
    /// The ways for all topics, in order; [`Source::Dialects`] when there is none.
    pub sources: Vec<Source>,
    /// The ways for single topics, before the others.
    pub topics: BTreeMap<String, Vec<Source>>,
}

/// A saga's id as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The id.
    pub id: String,
    /// Where it was: the header's name, `key` or the path.
    pub by: String,
}

impl Correlation {
    /// The id of the saga that a record belongs to; `None` when nothing correlates it.
    pub fn of(&self, seen: &Observed<'_>) -> Option<Found> {
        let own = self.topics.get(seen.topic);
        let own = own
            .into_iter()
            .flatten()
            .find_map(|source| source.find(seen));
        own.or_else(|| match self.sources.is_empty() {
            true => Source::Dialects.find(seen),
            false => self.sources.iter().find_map(|source| source.find(seen)),
        })
    }
}

impl Source {
    fn find(&self, seen: &Observed<'_>) -> Option<Found> {
        let found = |id: &str, by: &str| Found {
            id: id.to_owned(),
            by: by.to_owned(),
        };
        match self {
            Self::Header(name) if name.eq_ignore_ascii_case(TRACEPARENT) => {
                trace(seen).map(|id| found(id, TRACEPARENT))
            }
            Self::Header(name) => seen.header(name).map(|id| found(id, name)),
            Self::Key => {
                let key = seen.record.key.as_deref();
                let key = key.filter(|key| !key.is_empty() && key.len() <= HEADER_BYTES_MAX)?;
                std::str::from_utf8(key).ok().map(|id| found(id, "key"))
            }
            Self::Json(path) => {
                let payload = seen.record.value.as_deref()?;
                let id = path.text(payload)?;
                Some(found(&id, &path.to_string()))
            }
            Self::Dialects => {
                let mut headers = DIALECTS.iter();
                let header = headers.find_map(|name| Some(found(seen.header(name)?, name)));
                header.or_else(|| trace(seen).map(|id| found(id, TRACEPARENT)))
            }
        }
    }
}

/// The trace id of W3C's `traceparent`: 32 hexadecimal digits, not all zero.
fn trace<'a>(seen: &Observed<'a>) -> Option<&'a str> {
    let mut parts = seen.header(TRACEPARENT)?.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = version.len() == 2 && id.len() == 32 && hex(version) && hex(id);
    (is_id && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

/// A plain path into JSON: `$`, then `.name`, `['name']` or `[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(mut rest) = text.strip_prefix('$') else {
            return Err(format!("the path `{text}` does not begin with `$`"));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, after) = Self::step(rest).ok_or_else(|| {
                format!(
                    "the path `{text}` cannot be read at `{rest}`: write .name, ['name'] or [0]"
                )
            })?;
            steps.push(step);
            rest = after;
        }
        match steps.len() {
            0 => Err(format!("the path `{text}` names no field")),
            count if count > PATH_STEPS_MAX => Err(format!(
                "the path has {count} steps; {PATH_STEPS_MAX} are allowed"
            )),
            _ => Ok(Self {
                text: text.to_owned(),
                steps,
            }),
        }
    }

    fn step(rest: &str) -> Option<(Step, &str)> {
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, after) = name.split_at(end);
            return (!name.is_empty()).then(|| (Step::Name(name.to_owned()), after));
        }
        let inner = rest.strip_prefix('[')?;
        if let Some(quoted) = inner.strip_prefix('\'') {
            let (name, after) = quoted.split_once("']")?;
            return Some((Step::Name(name.to_owned()), after));
        }
        let (index, after) = inner.split_once(']')?;
        Some((Step::Index(index.parse().ok()?), after))
    }

    /// The text or number at this place of a payload.
    fn text(&self, payload: &[u8]) -> Option<String> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        let value: Value = serde_json::from_slice(payload).ok()?;
        let mut at = &value;
        for step in &self.steps {
            at = match step {
                Step::Name(name) => at.get(name)?,
                Step::Index(index) => at.get(index)?,
            };
        }
        let text = match at {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        (!text.is_empty() && text.len() <= HEADER_BYTES_MAX).then_some(text)
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use wharf_message::ledger::Record;

    use super::*;

    fn record(headers: &[(&'static str, &'static str)], value: &'static str) -> Record {
        let header =
            |(name, value): &(&'static str, &'static str)| ((*name).into(), Some((*value).into()));
        Record {
            key: Some("the-key".into()),
            value: Some(value.into()),
            headers: headers.iter().map(header).collect(),
            ..Record::default()
        }
    }

    fn found(correlation: &Correlation, record: &Record) -> Option<(String, String)> {
        let seen = Observed {
            topic: "orders",
            partition: 0,
            offset: 0,
            record,
        };
        correlation.of(&seen).map(|found| (found.id, found.by))
    }

    fn pair(id: &str, by: &str) -> Option<(String, String)> {
        Some((id.to_owned(), by.to_owned()))
    }

    #[test]
    fn the_dialects_are_tried_in_order() {
        let usual = Correlation::default();
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let all = [
            ("saga-id", "1"),
            ("correlation-id", "2"),
            ("ce_correlationid", "3"),
            ("NServiceBus.ConversationId", "4"),
            ("commandreply_saga_id", "5"),
            ("traceparent", trace),
        ];
        for (index, (name, value)) in all.iter().enumerate() {
            let id = match *name {
                "traceparent" => "4bf92f3577b34da6a3ce929d0e0e4736",
                _ => value,
            };
            let mut headers = all[index..].to_vec();
            headers.reverse();
            assert_eq!(found(&usual, &record(&headers, "{}")), pair(id, name));
        }
        assert_eq!(found(&usual, &record(&[], "{}")), None);
        for broken in [
            "",
            "00-xyz-1-01",
            "00-00000000000000000000000000000000-1-00",
        ] {
            let broken = record(&[("traceparent", broken)], "{}");
            assert_eq!(found(&usual, &broken), None);
        }
    }

    #[test]
    fn a_topic_may_say_where_in_its_payload_the_id_is() {
        let path = JsonPath::parse("$.order['the number'][0]").unwrap();
        let correlation = Correlation {
            sources: vec![Source::Key],
            topics: [("orders".to_owned(), vec![Source::Json(path)])].into(),
        };
        let by = "$.order['the number'][0]";
        let there = record(&[], r#"{"order": {"the number": [17]}}"#);
        assert_eq!(found(&correlation, &there), pair("17", by));
        for other in ["{}", "[", r#"{"order": {"the number": [{}]}}"#] {
            assert_eq!(
                found(&correlation, &record(&[], other)),
                pair("the-key", "key")
            );
        }
    }

    #[test]
    fn a_path_that_cannot_be_read_is_refused_with_the_place() {
        for (path, sentence) in [
            ("order", "does not begin with `$`"),
            ("$", "names no field"),
            ("$.", "cannot be read at `.`"),
            ("$.a[b]", "cannot be read at `[b]`"),
            ("$.a['b", "cannot be read at `['b`"),
        ] {
            let refused = JsonPath::parse(path).unwrap_err();
            assert!(refused.contains(sentence), "{path}: {refused}");
        }
        assert!(JsonPath::parse(&format!("${}", ".a".repeat(33))).is_err());
    }
}
