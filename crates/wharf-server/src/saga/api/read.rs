//! Reading requests: queries, bodies, ids. What cannot be read says which part and why.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::SagaId;

use crate::clock;
use crate::config::Period;
use crate::saga::refusal::Refused;
use crate::saga::view::{self, Cursor, Filter};

/// How many sagas a page has when nobody says, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// What attributes begin with in a filter.
const ATTRIBUTE: &str = "attribute.";

pub(super) fn wrong(message: impl Into<String>) -> Refused {
    Refused::new(Code::SAGA_REQUEST_INVALID, message)
}

pub(super) fn id(text: &str) -> Result<SagaId, Refused> {
    SagaId::parse(text).ok_or_else(|| Refused::unknown(format!("{text:?}, which is no id")))
}

/// The body as JSON of a form.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| wrong(format!("the body cannot be read: {error}")))
}

/// The parameters of a query, decoded; of a name that comes twice, the last.
pub(super) fn query(text: Option<String>) -> BTreeMap<String, String> {
    let text = text.unwrap_or_default();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    pairs.collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Which part of something long is meant: where it begins, and how much it has at most.
pub(super) fn part<T>(
    query: Option<String>,
    most: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<(Option<T>, usize), Refused> {
    let mut parameters = self::query(query);
    let after = parameters.remove("after").map(|text| {
        let begin = parse(&text);
        begin.ok_or_else(|| wrong(format!("`after` is {text:?} and no `next` of a page")))
    });
    let limit = limit(&mut parameters, most)?.unwrap_or(most);
    if let Some(name) = parameters.keys().next() {
        return Err(wrong(format!(
            "there is no parameter {name:?}; there are `limit` and `after`"
        )));
    }
    Ok((after.transpose()?, limit))
}

fn limit(parameters: &mut BTreeMap<String, String>, most: usize) -> Result<Option<usize>, Refused> {
    let limit = parameters.remove("limit").map(|text| {
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| wrong(format!("`limit` is {text:?} and not within 1 to {most}")))
    });
    limit.transpose()
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) filter: Filter,
    pub(super) after: Option<Cursor>,
    pub(super) limit: usize,
}

pub(super) fn page(mut parameters: BTreeMap<String, String>) -> Result<Page, Refused> {
    let after = parameters.remove("after").map(|text| {
        let cursor = Cursor::parse(&text);
        cursor.ok_or_else(|| wrong(format!("`after` is {text:?} and no `next` of a page")))
    });
    Ok(Page {
        after: after.transpose()?,
        limit: limit(&mut parameters, LIMIT_MAX)?.unwrap_or(LIMIT),
        filter: filter(parameters)?,
    })
}

/// A filter out of the fields of an object.
pub(super) fn filter_of(fields: &serde_json::Map<String, Value>) -> Result<Filter, Refused> {
    let texts = fields.iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (name.clone(), value)
    });
    filter(texts.collect())
}

fn filter(parameters: BTreeMap<String, String>) -> Result<Filter, Refused> {
    let mut filter = Filter::default();
    for (name, value) in parameters {
        let time = || {
            let time = Timestamp::parse_rfc3339(&value);
            time.ok_or_else(|| {
                wrong(format!(
                    "`{name}` is {value:?} and no time of RFC 3339 in UTC"
                ))
            })
        };
        match name.as_str() {
            "type" => filter.saga_type = Some(value),
            "step" => filter.step = Some(value),
            "definition" => {
                let hash = value.parse();
                let hash = hash.map_err(|error| wrong(format!("`definition`: {error}")))?;
                filter.definition = Some(hash);
            }
            "correlation_id" => filter.correlation_id = Some(value),
            "started_before" => filter.started_before = Some(time()?),
            "started_after" => filter.started_after = Some(time()?),
            "updated_before" => filter.updated_before = Some(time()?),
            "older_than" => {
                let age: Period = value
                    .parse()
                    .map_err(|error| wrong(format!("`older_than`: {error}")))?;
                let age = i64::try_from(age.0.as_millis()).unwrap_or(i64::MAX);
                let before = clock::now().as_millis().saturating_sub(age);
                filter.started_before = Some(Timestamp::from_millis(before));
            }
            "status" => {
                let status = view::status(&value);
                let status = status
                    .ok_or_else(|| wrong(format!("`status` is {value:?} and none there is")))?;
                filter.status = Some(status);
            }
            "paused" => {
                let paused = value.parse();
                let paused = paused.map_err(|_other| {
                    wrong(format!("`paused` is {value:?} and not true or false"))
                })?;
                filter.paused = Some(paused);
            }
            _ => match name.strip_prefix(ATTRIBUTE) {
                Some(attribute) => _ = filter.attributes.insert(attribute.to_owned(), value),
                None => return Err(wrong(format!("there is no parameter `{name}`"))),
            },
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_whole_or_refused_with_its_parameter() {
        let asked = query(Some(
            "type=a%20b&attribute.city=K%C3%B6ln&paused=true&limit=5".to_owned(),
        ));
        let page = page(asked).unwrap();
        assert_eq!(page.filter.saga_type.as_deref(), Some("a b"));
        assert_eq!(page.filter.attributes["city"], "Köln");
        assert_eq!((page.filter.paused, page.limit), (Some(true), 5));
        for (bad, named) in [
            ("colour=red", "`colour`"),
            ("status=HAPPY", "`status`"),
            ("limit=0", "`limit`"),
            ("after=x", "`after`"),
            ("started_before=yesterday", "`started_before`"),
            ("older_than=10", "`older_than`"),
        ] {
            let refused = super::page(query(Some(bad.to_owned()))).unwrap_err();
            assert!(refused.message.contains(named), "{refused}");
        }
    }
}
