//! Requests and answers of AWS JSON 1.0: fields, their bounds, times, and pages.
//!
//! Every field is asked for by its name and its kind; one of another kind is a `ValidationException`
//! that names it.

use axum::http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use wharf_message::Timestamp;

use super::fault::Fault;

/// What requests and answers are.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-json-1.0";
/// The bounds that Amazon has.
pub(super) const NAME_CHARS_MAX: usize = 80;
pub(super) const DATA_BYTES_MAX: usize = 262_144;
pub(super) const DEFINITION_BYTES_MAX: usize = 1_048_576;
const PAGE_MAX: usize = 1_000;
const PAGE_DEFAULT: usize = 100;

/// The headers of every answer.
pub(super) fn head() -> [(HeaderName, HeaderValue); 2] {
    let id = uuid::Uuid::new_v4().to_string();
    let id = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("-"));
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (HeaderName::from_static("x-amzn-requestid"), id),
    ]
}

/// The fields of a request.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let wrong = |why: String| Fault::new("SerializationException", why);
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(wrong("the body is no JSON object".to_owned())),
            Err(error) => Err(wrong(format!("the body is no JSON: {error}"))),
        }
    }

    /// A field; `null` is as good as nothing.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(kind(name, "a string")),
        }
    }

    pub(super) fn needed(&self, name: &str) -> Result<&str, Fault> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| missing(name))
    }

    /// A text of at most so many characters.
    pub(super) fn short(&self, name: &str, max: usize) -> Result<Option<&str>, Fault> {
        let text = self.text(name)?;
        match text {
            Some(text) if text.chars().count() > max => Err(too_long(name, max)),
            _ => Ok(text),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(kind(name, "true or false")),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| kind(name, "a whole number")),
        }
    }

    pub(super) fn list(&self, name: &str) -> Result<&[Value], Fault> {
        match self.value(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(kind(name, "a list")),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Self>, Fault> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields.clone()))),
            Some(_) => Err(kind(name, "an object")),
        }
    }

    /// The fields of an element of a list.
    pub(super) fn of(value: &Value, name: &str) -> Result<Self, Fault> {
        match value {
            Value::Object(fields) => Ok(Self(fields.clone())),
            _ => Err(kind(name, "a list of objects")),
        }
    }

    /// One of a few words.
    pub(super) fn word<'a>(&self, name: &str, words: &[&'a str]) -> Result<Option<&'a str>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let known = words.iter().find(|word| **word == text);
        known.copied().map(Some).ok_or_else(|| {
            let words = words.join(", ");
            Fault::validation(format!(
                "Value at '{name}' must be one of {words}, not '{text:.80}'"
            ))
        })
    }

    /// How many things a page may have.
    pub(super) fn page_size(&self) -> Result<usize, Fault> {
        let asked = self.number("maxResults")?.unwrap_or(0);
        match usize::try_from(asked) {
            Ok(0) => Ok(PAGE_DEFAULT),
            Ok(asked @ 1..=PAGE_MAX) => Ok(asked),
            _ => {
                let why = format!("Value at 'maxResults' must be at most {PAGE_MAX}");
                Err(Fault::validation(why))
            }
        }
    }

    /// JSON within a text, such as an input; `fault` is what it is called when it is none.
    pub(super) fn json(&self, name: &str, fault: &'static str) -> Result<Option<Value>, Fault> {
        self.json_within(DATA_BYTES_MAX, name, fault)
    }

    /// The same of at most so many bytes.
    pub(super) fn json_within(
        &self,
        max: usize,
        name: &str,
        fault: &'static str,
    ) -> Result<Option<Value>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if text.len() > max {
            let why = format!("'{name}' has {} bytes; {max} are allowed", text.len());
            return Err(Fault::new(fault, why));
        }
        let value = serde_json::from_str(text);
        value
            .map(Some)
            .map_err(|error| Fault::new(fault, format!("'{name}' is no JSON: {error}")))
    }
}

/// A name that is given to something.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let why = format!(
        "Invalid Name: '{text:.100}' is not 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '-', '_' and '.'"
    );
    Err(Fault::new("InvalidName", why))
}

/// A moment as these answers have it: seconds.
pub(super) fn time(time: Timestamp) -> Value {
    let millis = time.as_millis();
    let (seconds, rest) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    // Digits rather than a division: a number of seconds with three decimals stays exact.
    let number: Result<serde_json::Number, _> = format!("{seconds}.{rest:03}").parse();
    number.map_or_else(|_| Value::from(seconds), Value::Number)
}

fn missing(name: &str) -> Fault {
    Fault::validation(format!("Value at '{name}' must not be missing or empty"))
}

fn kind(name: &str, wanted: &str) -> Fault {
    Fault::validation(format!("Value at '{name}' must be {wanted}"))
}

pub(super) fn too_long(name: &str, max: usize) -> Fault {
    Fault::validation(format!("Value at '{name}' has more than {max} characters"))
}

/// The part of a list that comes behind a token, and the token of what comes next. `key` tells what
/// an element is found by; the list is in the order of the keys, or of `reverse`d ones.
pub(super) fn page<'a, T>(
    all: &'a [T],
    key: impl Fn(&T) -> String,
    fields: &Fields,
) -> Result<(&'a [T], Option<String>), Fault> {
    let size = fields.page_size()?;
    let from = match fields.text("nextToken")? {
        None => 0,
        Some(token) => {
            let last = untoken(token)?;
            match all.iter().position(|element| key(element) == last) {
                Some(at) => at + 1,
                None => return Err(stale_token()),
            }
        }
    };
    let rest = &all[from..];
    let page = &rest[..size.min(rest.len())];
    let more = rest.len() > page.len();
    Ok((
        page,
        page.last().filter(|_| more).map(|last| token(&key(last))),
    ))
}

/// A token is opaque to clients: they may pass it back, and nothing else.
pub(super) fn token(place: &str) -> String {
    format!("w1.{place}")
}

pub(super) fn untoken(token: &str) -> Result<&str, Fault> {
    token.strip_prefix("w1.").ok_or_else(stale_token)
}

pub(super) fn stale_token() -> Fault {
    let why =
        "Invalid Token: 'nextToken' is none that this operation gave, or what it stood at is gone";
    Fault::new("InvalidToken", why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn times_are_seconds_with_their_milliseconds() {
        let shown = |millis| time(Timestamp::from_millis(millis)).as_f64();
        assert_eq!(shown(1_700_000_000_123), Some(1_700_000_000.123));
        assert_eq!(shown(0), Some(0.0));
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let all = ["a", "b", "c"];
        let key = |text: &&str| (*text).to_owned();
        let (first, token) = page(&all, key, &fields(&json!({ "maxResults": 2 }))).unwrap();
        assert_eq!(first, ["a", "b"]);
        let asked = fields(&json!({ "maxResults": 2, "nextToken": token }));
        assert_eq!(page(&all, key, &asked).unwrap(), (&all[2..], None));
        for token in ["nonsense", "w1.z"] {
            let asked = fields(&json!({ "nextToken": token }));
            assert_eq!(page(&all, key, &asked).unwrap_err().kind, "InvalidToken");
        }
    }

    #[test]
    fn fields_of_another_kind_are_named() {
        let asked = fields(&json!({ "name": 3, "maxResults": "2", "publish": 1, "tags": {} }));
        let faults = [
            asked.text("name").unwrap_err(),
            asked.page_size().unwrap_err(),
            asked.flag("publish").unwrap_err(),
            asked.list("tags").unwrap_err(),
            asked.needed("input").unwrap_err(),
        ];
        for (fault, name) in faults
            .iter()
            .zip(["name", "maxResults", "publish", "tags", "input"])
        {
            assert_eq!(fault.kind, "ValidationException");
            assert!(fault.message.contains(name), "{fault}");
        }
    }

    #[test]
    fn names_have_bounds() {
        assert_eq!(name("Order-7_a.b").unwrap(), "Order-7_a.b");
        for bad in ["", "a b", "a:b", "a/b", "ä", &"x".repeat(81)] {
            assert_eq!(name(bad).unwrap_err().kind, "InvalidName");
        }
    }
}
