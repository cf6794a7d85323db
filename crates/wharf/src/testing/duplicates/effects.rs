//! Effects: what a consumer leaves behind, and when two of them are the same.
//!
//! Rows are compared as multisets, because no order is promised. What is sent (messages, calls) is
//! compared the same way, after what a receiver would recognise as one has become one: a message
//! with the same id, a call with the same idempotency key. Ids themselves are not compared, so a
//! random one per run is no difference, and a new one per attempt is.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_message::{Message, header};

/// The table of messages that the consumer did not bring to an end.
const GIVEN_UP: &str = "messages given up";

/// What a consumer left behind.
///
/// ```
/// use serde_json::json;
/// use wharf::testing::duplicates::{Effects, Ignored};
///
/// let once = Effects::new().row("invoices", json!({"order": 7, "total": 10}));
/// let twice = once.clone().row("invoices", json!({"total": 10, "order": 7}));
/// let ignored = Ignored::nothing();
/// let diff = once.normalize(&ignored).diff(&twice.normalize(&ignored));
/// assert_eq!(diff.to_string(), "table invoices\n  ! 2 instead of 1 × {\"order\":7,\"total\":10}\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    rows: BTreeMap<String, Vec<Value>>,
    sent: Vec<Sent>,
}

/// Something that left the consumer.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    place: String,
    /// What a receiver knows it by.
    id: Option<String>,
    content: Value,
}

impl Effects {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row of a table.
    #[must_use]
    pub fn row(mut self, table: &str, row: impl Into<Value>) -> Self {
        self.push_row(table, row);
        self
    }

    /// Adds the rows of a table. A table without rows may be named too.
    #[must_use]
    pub fn rows<R: Into<Value>>(mut self, table: &str, rows: impl IntoIterator<Item = R>) -> Self {
        let table = self.rows.entry(table.to_owned()).or_default();
        table.extend(rows.into_iter().map(Into::into));
        self
    }

    /// Adds a row of a table.
    pub fn push_row(&mut self, table: &str, row: impl Into<Value>) {
        self.rows
            .entry(table.to_owned())
            .or_default()
            .push(row.into());
    }

    /// Adds a message that was published. Messages with the same `idempotency-key`, or the same
    /// `ce_source` and `ce_id`, or the same `id` header, and the same content count once.
    pub fn push_message(&mut self, topic: &str, message: &Message) {
        let key = message.key.as_deref().map_or(Value::Null, content);
        let payload = message.payload.as_deref().map_or(Value::Null, content);
        let kind = value_of(message, header::CE_TYPE).map_or(Value::Null, Value::from);
        self.sent.push(Sent {
            place: format!("topic {topic}"),
            id: id(message),
            content: serde_json::json!({ "key": key, "type": kind, "payload": payload }),
        });
    }

    /// Adds a call that was made. Calls with the same idempotency key and content count once.
    pub fn push_call(
        &mut self,
        method: &str,
        target: &str,
        body: impl Into<Value>,
        idempotency_key: Option<&str>,
    ) {
        self.sent.push(Sent {
            place: format!("call {method} {target}"),
            id: idempotency_key.map(str::to_owned),
            content: body.into(),
        });
    }

    /// Adds something that counts once however often it happens: `id` says what it is.
    pub(super) fn push_once(&mut self, table: &str, id: &str, row: impl Into<Value>) {
        self.sent.push(Sent {
            place: format!("table {table}"),
            id: Some(id.to_owned()),
            content: row.into(),
        });
    }

    /// Adds that the consumer did not bring a message to an end.
    pub fn push_given_up(&mut self, message: usize, error: &str) {
        let row = serde_json::json!({ "message": message + 1, "error": error });
        self.push_once(GIVEN_UP, &message.to_string(), row);
    }

    /// Adds what a probe printed. A JSON object has a table of each name, and as its value the
    /// rows; anything else that is JSON is one table; text is one row for each line.
    pub fn push_probe(&mut self, printed: &str) {
        const TABLE: &str = "probe";
        match serde_json::from_str(printed) {
            Ok(Value::Object(tables)) => {
                for (table, rows) in tables {
                    self.push_rows(&table, rows);
                }
            }
            Ok(rows) => self.push_rows(TABLE, rows),
            Err(_) => {
                let lines = printed.lines().map(str::trim_end);
                for line in lines.filter(|line| !line.is_empty()) {
                    self.push_row(TABLE, line);
                }
            }
        }
    }

    fn push_rows(&mut self, table: &str, rows: Value) {
        let table = self.rows.entry(table.to_owned()).or_default();
        match rows {
            Value::Array(rows) => table.extend(rows),
            Value::Null => {}
            row => table.push(row),
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for (table, rows) in other.rows {
            self.rows.entry(table).or_default().extend(rows);
        }
        self.sent.extend(other.sent);
    }

    /// Whether nothing is there: no row, nothing sent.
    pub fn is_empty(&self) -> bool {
        self.rows.values().all(Vec::is_empty) && self.sent.is_empty()
    }

    /// The form in which they are compared.
    pub fn normalize(&self, ignored: &Ignored) -> Normal {
        let mut places: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (table, rows) in &self.rows {
            let place = places.entry(format!("table {table}")).or_default();
            for row in rows {
                *place.entry(ignored.canonical(table, row)).or_default() += 1;
            }
        }
        let mut known = std::collections::BTreeSet::new();
        for sent in &self.sent {
            let name = sent
                .place
                .split_once(' ')
                .map_or(sent.place.as_str(), |(_, name)| name);
            let content = ignored.canonical(name, &sent.content);
            if let Some(id) = &sent.id
                && !known.insert((sent.place.clone(), id.clone(), content.clone()))
            {
                continue;
            }
            *places
                .entry(sent.place.clone())
                .or_default()
                .entry(content)
                .or_default() += 1;
        }
        Normal(places)
    }
}

/// The value of a header as text; bytes that are none are replaced.
fn value_of(message: &Message, name: &str) -> Option<String> {
    let value = message.headers.get(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// What a receiver knows a message by: as the inbox does, its own choice of a key first.
fn id(message: &Message) -> Option<String> {
    if let Some(key) = value_of(message, header::IDEMPOTENCY_KEY) {
        return Some(key);
    }
    if let Some(id) = value_of(message, header::CE_ID) {
        let source = value_of(message, header::CE_SOURCE).unwrap_or_default();
        return Some(format!("{source} {id}"));
    }
    value_of(message, "id")
}

/// Bytes as JSON where they are, as text where they are, else in hex.
fn content(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        Err(_) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("0x{}", hex.collect::<String>()).into()
        }
    }
}

/// Which fields are not compared, because they differ from run to run: times, random ids.
///
/// ```
/// use serde_json::json;
/// use wharf::testing::duplicates::{Effects, Ignored};
///
/// let row = |at: u64| Effects::new().row("invoices", json!({"order": 7, "written_at": at}));
/// let mut ignored = Ignored::nothing();
/// ignored.push("invoices:written_at");
/// assert_eq!(row(1).normalize(&ignored), row(2).normalize(&ignored));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    fields: Vec<Field>,
    /// Text that was put into messages for this run alone, and that is taken out again.
    marks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// Only in the table, topic or call of this name.
    place: Option<String>,
    path: Vec<String>,
}

impl Ignored {
    /// Nothing is ignored.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Ignores a field also. `processed_at` is a field of that name wherever it is; `audit.at` is
    /// the field `at` of an object `audit`; `invoices:id` is one in the table, topic or call named
    /// `invoices` alone.
    pub fn push(&mut self, field: &str) {
        let (place, path) = match field.rsplit_once(':') {
            Some((place, path)) => (Some(place.to_owned()), path),
            None => (None, field),
        };
        let path = path.split('.').map(str::to_owned).collect();
        self.fields.push(Field { place, path });
    }

    /// Takes this text out wherever it occurs.
    pub(super) fn push_mark(&mut self, mark: &str) {
        self.marks.push(mark.to_owned());
    }

    fn covers(&self, place: &str, path: &[&str]) -> bool {
        self.fields.iter().any(|field| {
            let here = field.place.as_deref().is_none_or(|named| named == place);
            here && path.len() >= field.path.len()
                && field
                    .path
                    .iter()
                    .rev()
                    .zip(path.iter().rev())
                    .all(|(a, b)| a == b)
        })
    }

    /// A value with its fields sorted and what is ignored left out, as JSON on one line. Text that
    /// is a JSON object or array counts as that: a stored payload is compared by what it means.
    fn canonical(&self, place: &str, value: &Value) -> String {
        let mut out = String::new();
        self.write(place, &mut Vec::new(), value, &mut out);
        for mark in &self.marks {
            out = out.replace(mark.as_str(), "");
        }
        out
    }

    fn write<'a>(&self, place: &str, path: &mut Vec<&'a str>, value: &'a Value, out: &mut String) {
        match value {
            Value::Object(fields) => {
                let sorted: BTreeMap<&str, &Value> = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), value))
                    .collect();
                let mut gap = "{";
                for (name, value) in sorted {
                    path.push(name);
                    if !self.covers(place, path) {
                        out.push_str(gap);
                        out.push_str(&Value::from(name).to_string());
                        out.push(':');
                        self.write(place, path, value, out);
                        gap = ",";
                    }
                    path.pop();
                }
                out.push_str(if gap == "{" { "{}" } else { "}" });
            }
            Value::Array(items) => {
                let mut gap = "[";
                for item in items {
                    out.push_str(gap);
                    self.write(place, path, item, out);
                    gap = ",";
                }
                out.push_str(if gap == "[" { "[]" } else { "]" });
            }
            Value::String(text) if text.trim_start().starts_with(['{', '[']) => {
                match serde_json::from_str::<Value>(text) {
                    Ok(inner) => out.push_str(&self.canonical(place, &inner)),
                    Err(_) => out.push_str(&value.to_string()),
                }
            }
            other => out.push_str(&other.to_string()),
        }
    }
}

/// Effects in the form in which they are compared: how often each thing is in each place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normal(BTreeMap<String, BTreeMap<String, usize>>);

impl Normal {
    /// How often each thing is in each place.
    pub fn places(&self) -> &BTreeMap<String, BTreeMap<String, usize>> {
        &self.0
    }

    /// What the consumer did not bring to an end.
    pub(super) fn given_up(&self) -> Option<String> {
        let rows = self.0.get(&format!("table {GIVEN_UP}"))?;
        Some(rows.keys().cloned().collect::<Vec<_>>().join(", "))
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// What `other` lacks of these effects and what it has beyond them.
    pub fn diff(&self, other: &Self) -> Diff {
        let none = BTreeMap::new();
        let mut lines = Vec::new();
        let mut places: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let ours = self.0.get(place).unwrap_or(&none);
            let theirs = other.0.get(place).unwrap_or(&none);
            let mut things: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            things.sort_unstable();
            things.dedup();
            for thing in things {
                let count = |of: &BTreeMap<String, usize>| of.get(thing).copied().unwrap_or(0);
                let (expected, found) = (count(ours), count(theirs));
                if expected != found {
                    lines.push(Difference {
                        place: place.clone(),
                        thing: thing.clone(),
                        expected,
                        found,
                    });
                }
            }
        }
        Diff(lines)
    }
}

/// One thing that is there more often or less often than expected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The table, topic or call.
    pub place: String,
    /// The row, message or request, as JSON.
    pub thing: String,
    /// How often it is there when each message is delivered once.
    pub expected: usize,
    /// How often it was there.
    pub found: usize,
}

/// How effects differ; empty when they do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Diff(pub Vec<Difference>);

impl Diff {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Diff {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut place = "";
        for one in &self.0 {
            if one.place != place {
                place = &one.place;
                writeln!(formatter, "{place}")?;
            }
            let Difference {
                thing,
                expected,
                found,
                ..
            } = one;
            match (expected, found) {
                (1, 0) => writeln!(formatter, "  - {thing}")?,
                (0, 1) => writeln!(formatter, "  + {thing}")?,
                (0, found) => writeln!(formatter, "  + {found} × {thing}")?,
                (expected, 0) => writeln!(formatter, "  - {expected} × {thing}")?,
                _ => writeln!(formatter, "  ! {found} instead of {expected} × {thing}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ignoring(fields: &[&str]) -> Ignored {
        let mut ignored = Ignored::nothing();
        fields.iter().for_each(|field| ignored.push(field));
        ignored
    }

    #[test]
    fn rows_are_the_same_in_any_order_and_not_in_any_number() {
        let one = Effects::new().rows("t", [json!({"a": 1, "b": 2}), json!({"a": 2})]);
        let other = Effects::new().rows("t", [json!({"a": 2}), json!({"b": 2, "a": 1})]);
        let nothing = Ignored::nothing();
        assert_eq!(one.normalize(&nothing), other.normalize(&nothing));
        let more = other.row("t", json!({"a": 2}));
        let diff = one.normalize(&nothing).diff(&more.normalize(&nothing));
        assert_eq!(
            diff.to_string(),
            "table t\n  ! 2 instead of 1 × {\"a\":2}\n"
        );
    }

    #[test]
    fn ignored_fields_are_left_out_where_they_are_named() {
        let effects = |at: u64| {
            let row = json!({"id": 1, "at": at, "audit": {"at": at, "by": "me"}});
            Effects::new().row("t", row.clone()).row("u", row)
        };
        let same = |fields: &[&str]| {
            let ignored = ignoring(fields);
            effects(1).normalize(&ignored) == effects(2).normalize(&ignored)
        };
        assert!(!same(&[]));
        assert!(same(&["at"]));
        assert!(!same(&["audit.at"]));
        assert!(!same(&["t:at"]));
        assert!(same(&["t:at", "u:at"]));
    }

    #[test]
    fn a_message_with_the_same_id_counts_once_and_with_another_twice() {
        let message =
            |id: &str| Message::new("{\"n\": 1}").with_header(header::CE_ID, id.to_owned());
        let sent = |ids: &[&str]| {
            let mut effects = Effects::new();
            ids.iter()
                .for_each(|id| effects.push_message("t", &message(id)));
            effects.normalize(&Ignored::nothing())
        };
        assert_eq!(sent(&["a"]), sent(&["b"]));
        assert_eq!(sent(&["a"]), sent(&["a", "a"]));
        let diff = sent(&["a"]).diff(&sent(&["a", "b"])).to_string();
        assert!(diff.contains("! 2 instead of 1 × "), "{diff}");
        let mut calls = Effects::new();
        calls.push_call("POST", "/pay", json!({"n": 1}), Some("k"));
        let once = calls.normalize(&Ignored::nothing());
        calls.push_call("POST", "/pay", json!({"n": 1}), Some("k"));
        assert_eq!(calls.normalize(&Ignored::nothing()), once);
        calls.push_call("POST", "/pay", json!({"n": 2}), Some("k"));
        assert_ne!(calls.normalize(&Ignored::nothing()), once);
    }

    #[test]
    fn what_a_probe_prints_is_tables_rows_or_lines() {
        let probe = |printed: &str| {
            let mut effects = Effects::new();
            effects.push_probe(printed);
            effects.normalize(&Ignored::nothing())
        };
        assert_eq!(probe("{\"t\": [{\"a\": 1}], \"u\": 3}").places().len(), 2);
        assert_eq!(probe("b\na\n\n"), probe("a  \nb"));
        assert_eq!(probe("[1, 2]"), probe("[2,1]"));
        assert!(probe("").is_empty() && probe("{\"t\": []}").is_empty());
    }

    #[test]
    fn a_stored_payload_is_compared_by_what_it_means() {
        let row = |text: &str| Effects::new().row("t", json!({"payload": text}));
        let nothing = Ignored::nothing();
        let same = |a: &str, b: &str| row(a).normalize(&nothing) == row(b).normalize(&nothing);
        assert!(same("{\"a\":1,\"b\":2}  ", "{\"b\": 2, \"a\": 1}"));
        assert!(!same("{oops", "{oops "));
    }
}
