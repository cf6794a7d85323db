//! A request as the routes see it: decoded, unqualified by `/contexts/…`, with its aliases resolved.
//!
//! Everything here was written by strangers. Nothing is taken apart twice: a path is split before it
//! is decoded, so an encoded slash stays inside its segment, and never becomes another route.

use std::borrow::Cow;

use axum::http::request::Parts;
use axum::http::{Method, Uri};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use wharf_schema::registry::{Page, Refusal, Subject};

/// How deep below `/contexts/{context}` a path may be, and every other one.
const SEGMENTS_MAX: usize = 16;
/// How many query parameters are read.
const PARAMETERS_MAX: usize = 64;

/// What a request asks, before its route is known.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// The path's segments, decoded.
    pub(super) segments: Vec<String>,
    /// The query's parameters, decoded, in order.
    pub(super) query: Vec<(String, String)>,
}

/// A request with its route.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// The values of the route's placeholders.
    pub(super) parameters: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// Whether the client bears fields that came with version 8 (`Confluent-Accept-Unknown-Properties`).
    pub(super) takes_new_fields: bool,
}

impl Asked {
    /// Reads method, path and query, and moves a context from the path to where it belongs.
    pub(super) fn read(head: &Parts) -> Result<Self, Refusal> {
        let mut segments = path(&head.uri)?;
        let mut query = query(&head.uri)?;
        if segments.first().is_some_and(|first| first == "contexts") && segments.len() > 1 {
            in_context(&head.method, &mut segments, &mut query);
        }
        Ok(Self {
            method: head.method.clone(),
            segments,
            query,
        })
    }

    /// Puts the subjects that aliases stand for in their places.
    pub(super) fn resolve(&mut self, alias: impl Fn(&Subject) -> Subject) {
        let named = |text: &str| {
            let subject = Subject::parse(text);
            let meant = alias(&subject);
            (meant != subject).then(|| meant.as_str().to_owned())
        };
        let subject = self
            .segments
            .iter()
            .position(|segment| segment == "subjects");
        if let Some(subject) = subject.and_then(|at| self.segments.get_mut(at + 1))
            && let Some(alias) = named(subject)
        {
            *subject = alias;
        }
        if is_by_id(&self.segments) {
            for (name, value) in &mut self.query {
                if name == "subject"
                    && let Some(alias) = named(value)
                {
                    *value = alias;
                }
            }
        }
    }
}

impl Request {
    /// The value of a placeholder of the route.
    pub(super) fn parameter(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The placeholder `{subject}`.
    pub(super) fn subject(&self) -> Subject {
        Subject::parse(self.parameter("subject"))
    }

    /// The first query parameter of this name.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let mut named = self.asked.query.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, value)| &**value)
    }

    /// Every query parameter of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self
            .asked
            .query
            .iter()
            .filter(move |(known, _)| known == name);
        named.map(|(_, value)| &**value)
    }

    /// The same, when it says something.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query(name).filter(|text| !text.is_empty())
    }

    /// A query parameter that is on or off: Python writes `True`, .NET `true`; anything but "true" is
    /// off, as with Java's `Boolean.parseBoolean`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.query(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A query parameter that is a number, or what it is when it is not there. One that is no number
    /// is answered with 404, as JAX-RS does.
    pub(super) fn number(&self, name: &str, absent: i64) -> Result<i64, Refusal> {
        match self.text(name) {
            None => Ok(absent),
            Some(text) => text
                .parse()
                .map_err(|_error| Refusal::new(404, "HTTP 404 Not Found")),
        }
    }

    /// The parameters `offset` and `limit`.
    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let (offset, limit) = (self.number("offset", 0)?, self.number("limit", -1)?);
        Ok(Page::from_parameters(offset, limit))
    }

    /// The body as JSON. What cannot be read is answered with 400, no body at all with 422.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let mut bytes = self.body.iter();
        match bytes.find(|byte| !byte.is_ascii_whitespace()) {
            None => return Err(Refusal::new(422, "The request has no body")),
            Some(b'{') => {}
            Some(_) => {
                let message = "The request cannot be read: it is no JSON object";
                return Err(Refusal::new(400, message));
            }
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Refusal::new(400, format!("The request cannot be read: {error}")))
    }
}

/// The segments of the path. Slashes before the first and after the last one mean nothing.
fn path(uri: &Uri) -> Result<Vec<String>, Refusal> {
    let path = uri.path().trim_matches('/');
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        if segments.len() == SEGMENTS_MAX {
            return Err(Refusal::new(404, "HTTP 404 Not Found"));
        }
        segments.push(decoded(segment)?);
    }
    Ok(segments)
}

fn query(uri: &Uri) -> Result<Vec<(String, String)>, Refusal> {
    let text = uri.query().unwrap_or("");
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .take(PARAMETERS_MAX)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let spaced = |text: &str| decoded(&text.replace('+', " "));
            Ok((spaced(name)?, spaced(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Result<String, Refusal> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_error| {
            Refusal::new(
                400,
                "The address has percent-encoded bytes that are no UTF-8",
            )
        })
}

fn is_by_id(segments: &[String]) -> bool {
    matches!(segments, [schemas, ids, ..] if schemas == "schemas" && ids == "ids")
}

/// `/contexts/{context}/…` is the route behind it, with the context put before every subject, and
/// before every prefix and filter of subjects in the query. What names a context itself keeps it.
fn in_context(method: &Method, segments: &mut Vec<String>, query: &mut Vec<(String, String)>) {
    let context = Subject::context_only(&segments[1]);
    let qualified = |text: &str| {
        if text.starts_with(":.") || text.starts_with(":*:") {
            text.to_owned()
        } else {
            format!("{}{text}", context.context_prefix())
        }
    };
    if segments.len() == 2 {
        // The context itself.
        segments[1] = context.context().to_owned();
        return;
    }
    segments.drain(..2);
    let of_settings = matches!(&*segments[0], "config" | "mode");
    let subject = if of_settings {
        Some(1)
    } else {
        let at = segments.iter().position(|segment| segment == "subjects");
        at.map(|at| at + 1)
    };
    match subject {
        Some(at) if at < segments.len() => segments[at] = qualified(&segments[at]),
        Some(_) if of_settings && context.is_qualified() => {
            segments.push(context.as_str().to_owned());
        }
        _ => {}
    }
    let lists = segments.len() == 1 && matches!(&*segments[0], "schemas" | "subjects");
    let parameter = if is_by_id(segments) {
        "subject"
    } else if lists {
        "subjectPrefix"
    } else if segments[0].starts_with("associations")
        && (method == Method::POST || method == Method::PUT)
    {
        "context"
    } else {
        return;
    };
    if parameter == "context" {
        query.retain(|(name, _)| name != parameter);
    }
    if !query.iter().any(|(name, _)| name == parameter) {
        query.push((parameter.to_owned(), String::new()));
    }
    for (name, value) in query {
        if name == parameter {
            *value = qualified(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, uri: &str) -> Asked {
        let request = axum::http::Request::builder().method(method).uri(uri);
        let (head, ()) = request.body(()).unwrap().into_parts();
        Asked::read(&head).unwrap()
    }

    fn moved(uri: &str) -> (String, Vec<(String, String)>) {
        let asked = asked("GET", uri);
        (asked.segments.join("/"), asked.query)
    }

    #[test]
    fn an_encoded_slash_stays_in_its_segment_and_trailing_slashes_mean_nothing() {
        let asked = asked(
            "GET",
            "/subjects/a%2Fb%20c+d/versions//?normalize=True&x=a+b%2B",
        );
        assert_eq!(asked.segments, ["subjects", "a/b c+d", "versions"]);
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        let query: Vec<_> = asked.query.iter().map(pair).collect();
        assert_eq!(query, ["normalize=True", "x=a b+"]);
    }

    #[test]
    fn a_context_in_the_path_is_put_before_subjects_prefixes_and_filters() {
        for (uri, path) in [
            (
                "/contexts/.c/subjects/s/versions",
                "subjects/:.c:s/versions",
            ),
            ("/contexts/c/subjects/s", "subjects/:.c:s"),
            ("/contexts/:.c:/subjects/s", "subjects/:.c:s"),
            ("/contexts/./subjects/s", "subjects/s"),
            ("/contexts/.c/subjects/:.d:s", "subjects/:.d:s"),
            ("/contexts/.c/config", "config/:.c:"),
            ("/contexts/.c/mode/s", "mode/:.c:s"),
            ("/contexts/./config", "config"),
            (
                "/contexts/.c/compatibility/subjects/s/versions/latest",
                "compatibility/subjects/:.c:s/versions/latest",
            ),
            ("/contexts/c", "contexts/.c"),
            ("/contexts", "contexts"),
        ] {
            assert_eq!(moved(uri).0, path, "{uri}");
        }
        let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(
            moved("/contexts/.c/schemas/ids/1").1,
            one("subject", ":.c:")
        );
        let named = moved("/contexts/.c/schemas/ids/1?subject=s").1;
        assert_eq!(named, one("subject", ":.c:s"));
        assert_eq!(
            moved("/contexts/.c/subjects").1,
            one("subjectPrefix", ":.c:")
        );
        let every = moved("/contexts/.c/schemas?subjectPrefix=:*:").1;
        assert_eq!(every, one("subjectPrefix", ":*:"));
    }

    #[test]
    fn aliases_are_resolved_in_paths_and_in_filters_of_ids() {
        let alias = |subject: &Subject| match subject.as_str() {
            "old" => Subject::parse("new"),
            _ => subject.clone(),
        };
        let mut path = asked("GET", "/compatibility/subjects/old/versions/1");
        path.resolve(alias);
        assert_eq!(path.segments[2], "new");
        let mut by_id = asked("GET", "/schemas/ids/1?subject=old&format=old");
        by_id.resolve(alias);
        assert_eq!(by_id.query[0].1, "new");
        assert_eq!(by_id.query[1].1, "old");
        let mut settings = asked("GET", "/config/old");
        settings.resolve(alias);
        assert_eq!(settings.segments[1], "old");
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_paths_are_refused() {
        let read = |uri: &str| {
            let (head, ()) = axum::http::Request::get(uri).body(()).unwrap().into_parts();
            Asked::read(&head).unwrap_err().code
        };
        assert_eq!(read("/subjects/%FF"), 400);
        assert_eq!(read("/subjects?subjectPrefix=%FF"), 400);
        assert_eq!(read(&"/a".repeat(SEGMENTS_MAX + 1)), 404);
    }
}
