//! The outbox router: what Debezium's Outbox Event Router makes of a row, and CloudEvents beside it.
//!
//! Invariants: a row becomes one message or is set aside with a reason that names the column, the
//! value and what to do; no row writes into a topic of the broker's own; a payload that is not
//! expanded or put into an envelope is passed on byte by byte.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use regex::Regex;
use wharf_message::transport::deliver_at;
use wharf_message::{Headers, Message, Timestamp, TopicName, header};

use super::java;
use super::json::{Expansion, Json};
use super::placed::{document, header_value};
use super::settings::{InvalidSetting, Missing, OutboxSettings, Placement, Where};
use super::template::{Part, Template};
use super::{Routed, Router, Unroutable, aside, span};
use crate::{Kind, Row};

/// The header that Debezium puts the event's id into.
const ID: &str = "id";
/// The group that stands for the whole value, in Debezium's default pattern.
const ROUTED_BY_VALUE: &str = "routedByValue";
/// How much of a value is shown in a reason.
const SHOWN_CHARS_MAX: usize = 60;

/// Makes messages of the rows of an outbox table, as Debezium's router does.
///
/// ```
/// use wharf_message::Timestamp;
/// use wharf_relay::{OutboxRouter, OutboxSettings};
///
/// let settings = OutboxSettings {
///     topic: Some("shop.{aggregatetype}".to_owned()),
///     ..OutboxSettings::default()
/// };
/// assert!(OutboxRouter::new(settings, || Timestamp::ZERO).is_ok());
/// ```
#[derive(Debug)]
pub struct OutboxRouter {
    settings: OutboxSettings,
    template: Template,
    pattern: Option<Regex>,
    has_envelope: bool,
    now: fn() -> Timestamp,
}

/// A payload, as far as it was looked at.
enum Payload {
    Null,
    Plain { kind: Kind, bytes: Bytes },
    Expanded(Json),
}

impl OutboxRouter {
    /// A router; `now` is the time in dead letters.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(settings: OutboxSettings, now: fn() -> Timestamp) -> Result<Self, InvalidSetting> {
        let invalid = |setting, reason| InvalidSetting { setting, reason };
        let pattern = settings.pattern.as_ref().map(|pattern| {
            let whole = Regex::new(&format!("^(?:{pattern})$"));
            whole.map_err(|error| invalid("topic-pattern", error.to_string()))
        });
        let pattern = pattern.transpose()?;
        let template = match &settings.topic {
            Some(text) => Template::parse(text).map_err(|reason| invalid("topic", reason))?,
            None => Template(vec![
                Part::Text("outbox.event.".to_owned()),
                Part::Column(settings.route_by.clone()),
            ]),
        };
        for part in &template.0 {
            if let Part::Group(name) = part
                && !has_group(pattern.as_ref(), name)
            {
                let reason = format!("the pattern has no group {name:?}");
                return Err(invalid("topic", reason));
            }
        }
        let required = [
            ("id-column", &settings.id),
            ("payload-column", &settings.payload),
            ("route-by", &settings.route_by),
        ];
        if let Some((setting, _)) = required.into_iter().find(|(_, name)| name.is_empty()) {
            return Err(invalid(setting, "a column has a name".to_owned()));
        }
        let is_envelope = |placement: &Placement| placement.place == Where::Envelope;
        Ok(Self {
            has_envelope: settings.additional.iter().any(is_envelope),
            settings,
            template,
            pattern,
            now,
        })
    }

    /// The columns without which no message can be made of a row.
    pub fn columns(&self) -> Vec<String> {
        let settings = &self.settings;
        let mut columns = vec![
            settings.id.clone(),
            settings.route_by.clone(),
            settings.key.clone(),
            settings.payload.clone(),
        ];
        let of_topic = self.template.0.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name),
            Part::Text(_) | Part::Group(_) => None,
        });
        columns.extend(of_topic.cloned());
        columns.extend(settings.timestamp.clone());
        if settings.missing == Missing::Error {
            let additional = settings.additional.iter();
            columns.extend(additional.map(|placement| placement.column.clone()));
        }
        let mut seen = HashSet::new();
        columns.retain(|name| !name.is_empty() && seen.insert(name.clone()));
        columns
    }

    fn topic(&self, row: &Row) -> Result<TopicName, Unroutable> {
        let column = &self.settings.route_by;
        let value = required(row, column)?;
        let captures = match &self.pattern {
            Some(pattern) => match pattern.captures(value) {
                Some(captures) => Some(captures),
                None => return checked_topic(column, value, value),
            },
            None => None,
        };
        let mut topic = String::with_capacity(64);
        for part in &self.template.0 {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Column(name) if name == column => topic.push_str(value),
                Part::Column(name) => topic.push_str(required(row, name)?),
                Part::Group(name) => topic.push_str(match &captures {
                    Some(captures) => {
                        let number = name.parse().ok();
                        let found =
                            number.map_or_else(|| captures.name(name), |at| captures.get(at));
                        found.map_or("", |found| found.as_str())
                    }
                    None => value,
                }),
            }
        }
        checked_topic(column, value, &topic)
    }

    fn key(&self, row: &Row) -> Option<Bytes> {
        let (kind, value) = row.get(&self.settings.key)?;
        if !self.settings.json_keys {
            return value.cloned();
        }
        let key = value.map_or(Json::Null, |value| self.document(kind, value));
        Some(self.written(&key))
    }

    fn document(&self, kind: &Kind, value: &[u8]) -> Json {
        document(kind, value, self.settings.debezium_headers_only)
    }

    /// A document's text.
    fn written(&self, document: &Json) -> Bytes {
        let text = match self.settings.debezium_headers_only {
            true => java::text(document),
            false => document.text(),
        };
        text.into()
    }

    fn timestamp(&self, row: &Row) -> Result<Option<Timestamp>, Unroutable> {
        let Some(name) = &self.settings.timestamp else {
            return Ok(row.committed_at);
        };
        let (_, value) = row.get(name).ok_or_else(|| no_column(name))?;
        let Some(value) = value else {
            return Ok(row.committed_at);
        };
        let time = std::str::from_utf8(value)
            .ok()
            .and_then(Timestamp::parse_rfc3339);
        let wrong = || {
            reason(
                name,
                value,
                "which is no time",
                "make it a column of a time type",
            )
        };
        time.map(Some).ok_or_else(wrong)
    }

    fn payload(&self, row: &Row) -> Result<Payload, Unroutable> {
        let name = &self.settings.payload;
        let (kind, value) = row.get(name).ok_or_else(|| no_column(name))?;
        let Some(value) = value else {
            return Ok(Payload::Null);
        };
        let plain = || Payload::Plain {
            kind: kind.clone(),
            bytes: value.clone(),
        };
        let exact = self.settings.debezium_headers_only;
        let is_blank = || {
            let text = std::str::from_utf8(value).unwrap_or("?");
            // What Java's `trim` leaves.
            text.trim_matches(|c| c <= ' ').is_empty()
        };
        // Debezium never takes bytes for blank.
        if self.settings.tombstone_on_empty && *kind != Kind::Bytes && is_blank() {
            return Ok(Payload::Null);
        }
        if !self.settings.expand_json || (exact && *kind == Kind::Bytes) {
            return Ok(plain());
        }
        let expansion = Expansion {
            nulls: self.settings.null_fields,
            arrays: self.settings.empty_arrays,
            exact,
        };
        let is_expandable = value.starts_with(b"{") || value.starts_with(b"[");
        let expanded = match is_expandable {
            true => Json::parse(value).map_err(|error| error.to_string()),
            false => Err("it begins with neither { nor [".to_owned()),
        };
        match expanded.and_then(|document| expansion.apply(document)) {
            Ok(document) => Ok(Payload::Expanded(document)),
            // As Debezium does.
            Err(_) if exact => Ok(plain()),
            Err(why) => {
                let what = format!("which cannot be expanded as JSON ({why})");
                let fix = "write a JSON object, or switch `expand-json` off";
                Err(reason(name, value, &what, fix))
            }
        }
    }

    /// The value of the message, and whether it is JSON.
    fn value(&self, row: &Row, payload: Payload) -> Result<(Option<Bytes>, bool), Unroutable> {
        let settings = &self.settings;
        if matches!(payload, Payload::Null) && settings.tombstone_on_empty {
            return Ok((None, false));
        }
        // Debezium has one converter for all values, and only that of JSON does for some of them.
        let is_json = settings.json_values
            || (settings.debezium_headers_only && (settings.expand_json || self.has_envelope));
        let whole = match payload {
            Payload::Null if !is_json && !self.has_envelope => return Ok((None, false)),
            Payload::Plain { kind, bytes } if !is_json && !self.has_envelope => {
                return Ok((Some(bytes), kind == Kind::Json));
            }
            Payload::Null => Json::Null,
            Payload::Plain { kind, bytes } => self.document(&kind, &bytes),
            Payload::Expanded(document) => document,
        };
        if !self.has_envelope {
            return Ok((Some(self.written(&whole)), true));
        }
        let mut fields = vec![("payload".to_owned(), whole)];
        for placement in self.placed(Where::Envelope) {
            if let Some((kind, value)) = self.additional(row, placement)? {
                let value = value.map_or(Json::Null, |value| self.document(kind, value));
                fields.push((placement.alias.clone(), value));
            }
        }
        Ok((Some(self.written(&Json::Object(fields))), true))
    }

    fn placed(&self, place: Where) -> impl Iterator<Item = &Placement> {
        let additional = self.settings.additional.iter();
        additional.filter(move |placement| placement.place == place)
    }

    /// An additional column's value; `None` when the table may lack it and does.
    fn additional<'a>(
        &self,
        row: &'a Row,
        placement: &Placement,
    ) -> Result<Option<(&'a Kind, Option<&'a Bytes>)>, Unroutable> {
        match row.get(&placement.column) {
            None if self.settings.missing == Missing::Error => Err(no_column(&placement.column)),
            found => Ok(found),
        }
    }

    fn partition(&self, row: &Row) -> Result<Option<i32>, Unroutable> {
        let Some(placement) = self.placed(Where::Partition).next() else {
            return Ok(None);
        };
        let Some((_, Some(value))) = self.additional(row, placement)? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        let number = number.filter(|number| *number >= 0);
        let wrong = || {
            let what = "which is no number of a partition";
            reason(
                &placement.column,
                value,
                what,
                "write a number from 0 on, or NULL",
            )
        };
        number.map(Some).ok_or_else(wrong)
    }

    fn headers(&self, row: &Row, id: &str) -> Result<Headers, Unroutable> {
        let mut headers = Headers::with_capacity(12);
        headers.push(ID, id.to_owned());
        if !self.settings.debezium_headers_only {
            self.own_headers(row, &mut headers)?;
        }
        for placement in self.placed(Where::Header) {
            if let Some((kind, value)) = self.additional(row, placement)? {
                let exact = self.settings.debezium_headers_only;
                let value = value.map(|value| header_value(kind, value, exact));
                headers.push_raw(placement.alias.clone(), value);
            }
        }
        Ok(headers)
    }

    /// What the row's own column of headers says, but for the id, which is the row's.
    fn own_headers(&self, row: &Row, headers: &mut Headers) -> Result<(), Unroutable> {
        let name = &self.settings.headers;
        let Some((_, Some(value))) = row.get(name) else {
            return Ok(());
        };
        let Ok(Json::Object(fields)) = Json::parse(value) else {
            let what = "which is no JSON object";
            return Err(reason(
                name,
                value,
                what,
                "write an object of text values, or NULL",
            ));
        };
        for (name, value) in fields {
            match value {
                _ if name == ID => {}
                Json::Null => headers.push_raw(name, None),
                Json::Text(text) => headers.push(name, text),
                other => headers.push(name, other.text()),
            }
        }
        Ok(())
    }

    /// CloudEvents, the trace and the media type, where the row does not say them itself.
    fn complete(&self, row: &Row, id: &str, message: &mut Message, is_json: bool) {
        let text = |name: &str| {
            let (kind, value) = row.get(name)?;
            let value = value.filter(|_| *kind != Kind::Bytes)?;
            std::str::from_utf8(value)
                .ok()
                .filter(|text| !text.is_empty())
        };
        let headers = &mut message.headers;
        let mut add = |name: &'static str, value: Option<Cow<'_, str>>| {
            if let Some(value) = value.filter(|_| !headers.contains(name)) {
                headers.push(name, value.into_owned());
            }
        };
        let route_by = || text(&self.settings.route_by);
        // The library writes an empty type for a message that has none.
        let event_type = match row.get(&self.settings.event_type) {
            Some((_, Some(value))) if value.is_empty() => None,
            _ => text(&self.settings.event_type).or_else(route_by),
        };
        let time = message.timestamp.map(|time| Cow::Owned(time.to_rfc3339()));
        let json = is_json.then_some(Cow::Borrowed("application/json"));
        add(header::CE_ID, Some(id.into()));
        add(
            header::CE_SOURCE,
            Some(self.settings.source.as_str().into()),
        );
        add(
            header::CE_SPECVERSION,
            Some(header::CE_SPECVERSION_VALUE.into()),
        );
        add(header::CE_TYPE, event_type.map(Cow::Borrowed));
        add(header::CE_TIME, time);
        add(
            header::CE_SUBJECT,
            text(&self.settings.key).map(Cow::Borrowed),
        );
        add(header::CONTENT_TYPE, json);
        if let Some(context) = text(&self.settings.tracing)
            && !headers.contains(header::TRACEPARENT)
        {
            for (name, value) in span::trace(context) {
                if !headers.contains(name) {
                    headers.push(name, value);
                }
            }
        }
    }
}

impl Router for OutboxRouter {
    fn route(&self, row: &Row) -> Result<Option<Routed>, Unroutable> {
        let id = required(row, &self.settings.id)?;
        let topic = self.topic(row)?;
        let payload = self.payload(row)?;
        let (payload, is_json) = self.value(row, payload)?;
        let mut message = Message {
            key: self.key(row),
            payload,
            headers: self.headers(row, id)?,
            timestamp: self.timestamp(row)?,
        };
        if !self.settings.debezium_headers_only {
            self.complete(row, id, &mut message, is_json);
        }
        if let Err(error) = deliver_at(&message) {
            return Err(Unroutable(error.to_string()));
        }
        Ok(Some(Routed {
            topic,
            partition: self.partition(row)?,
            message,
        }))
    }

    fn set_aside(&self, source: &str, row: &Row, reason: &Unroutable) -> Routed {
        aside::row(source, row, reason, &self.settings.id, (self.now)())
    }
}

fn has_group(pattern: Option<&Regex>, name: &str) -> bool {
    match (pattern, name.parse::<usize>()) {
        (None, _) => name == ROUTED_BY_VALUE,
        (Some(pattern), Ok(number)) => number < pattern.captures_len(),
        (Some(pattern), Err(_)) => pattern.capture_names().flatten().any(|known| known == name),
    }
}

/// The text of a column that every row must have.
fn required<'a>(row: &'a Row, name: &str) -> Result<&'a str, Unroutable> {
    let (_, value) = row.get(name).ok_or_else(|| no_column(name))?;
    let Some(value) = value else {
        let text = format!("the column {name:?} is NULL; every row needs a value there");
        return Err(Unroutable(text));
    };
    let fix = "write text there";
    std::str::from_utf8(value).map_err(|_bytes| reason(name, value, "which is no text", fix))
}

fn checked_topic(column: &str, value: &str, topic: &str) -> Result<TopicName, Unroutable> {
    let bytes = value.as_bytes();
    let fix = "write another value, or change `topic`";
    let wrong = |what: &str| {
        let what = format!(
            "which gives the topic {:?}: {what}",
            shortened(topic.as_bytes())
        );
        reason(column, bytes, &what, fix)
    };
    let name = TopicName::new(topic).map_err(|error| wrong(&error.to_string()))?;
    // Those that others write to are for rows too: a row may start a saga.
    match name.is_internal() && !name.is_inbox() {
        true => Err(wrong("that is one of the broker's own")),
        false => Ok(name),
    }
}

fn no_column(name: &str) -> Unroutable {
    Unroutable(format!(
        "there is no column {name:?}; add it to the table, or set the name of the one that is meant"
    ))
}

fn reason(column: &str, value: &[u8], what: &str, fix: &str) -> Unroutable {
    let value = shortened(value);
    Unroutable(format!("the column {column:?} is {value:?}, {what}; {fix}"))
}

/// The beginning of a value, for people.
fn shortened(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(4 * SHOWN_CHARS_MAX)]);
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
