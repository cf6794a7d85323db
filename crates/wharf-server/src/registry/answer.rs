//! Answers and refusals as Confluent's clients expect them, and the content types of both ways.
//!
//! Every answer is JSON of a type that the client asked for; every refusal, also one that no route
//! ever saw, is an object of `error_code` and `message`.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use wharf_schema::registry::Refusal;

/// What is answered and taken, the preferred one first.
const TYPES: [&str; 3] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
];
/// What else a body may be called: what clients send when nobody told them a type.
const UNTYPED: &str = "application/octet-stream";
/// How many media ranges of an `Accept` are looked at.
const RANGES_MAX: usize = 32;

/// What a request came to: JSON, with 200; nothing, with 204.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer(pub(super) Bytes);

impl Answer {
    /// The value as JSON.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Refusal> {
        match serde_json::to_vec(value) {
            Ok(text) => Ok(Self(text.into())),
            Err(error) => Err(Refusal::new(
                500,
                format!("The answer cannot be written: {error}"),
            )),
        }
    }

    /// A schema's text, as it is.
    pub(super) fn text(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

/// What no route says, but HTTP.
pub(super) fn http(status: StatusCode) -> Refusal {
    let reason = status.canonical_reason().unwrap_or("Error");
    let code = u32::from(status.as_u16());
    Refusal::new(code, format!("HTTP {code} {reason}"))
}

/// The status of a refusal: its code, or the first three digits of one like 40401.
pub(super) fn status(refusal: &Refusal) -> StatusCode {
    let code = match refusal.code {
        code if code < 1_000 => code,
        code => code / 100,
    };
    let code = u16::try_from(code).unwrap_or(500);
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The response, in a type that [`accepted`] found.
pub(super) fn response(answer: Result<Answer, Refusal>, kind: &'static str) -> Response {
    let (status, body) = match answer {
        Ok(Answer(body)) if body.is_empty() => (StatusCode::NO_CONTENT, body),
        Ok(Answer(body)) => (StatusCode::OK, body),
        Err(refusal) => {
            let body = serde_json::to_vec(&refusal).unwrap_or_default();
            (status(&refusal), body.into())
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The type to answer in: what the client likes best of what there is, and of what it likes equally
/// what is preferred here. `None` when it wants none of it. What cannot be read counts as 1.
pub(super) fn accepted(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges = values.filter_map(|value| value.to_str().ok());
    let ranges = ranges.flat_map(|value| value.split(',')).take(RANGES_MAX);
    let mut best: [Option<f32>; TYPES.len()] = [None; TYPES.len()];
    let mut any = false;
    for range in ranges.filter(|range| !range.trim().is_empty()) {
        any = true;
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or("");
        let quality = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
            .map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(1.0));
        for (known, best) in TYPES.iter().zip(&mut best) {
            let matches = kind.eq_ignore_ascii_case(known)
                || kind == "*/*"
                || kind == "*"
                || kind.eq_ignore_ascii_case("application/*");
            if matches && quality > 0.0 {
                *best = Some(best.unwrap_or(0.0).max(quality));
            }
        }
    }
    if !any {
        return Some(TYPES[0]);
    }
    let mut chosen = None;
    for (kind, quality) in TYPES.iter().zip(best) {
        let Some(quality) = quality else { continue };
        if chosen.is_none_or(|(_, most)| quality > most) {
            chosen = Some((*kind, quality));
        }
    }
    chosen.map(|(kind, _)| kind)
}

/// Whether a body of this type is taken; one without a type is JSON.
pub(super) fn taken(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let kind = value.to_str().unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.is_empty()
        || kind.eq_ignore_ascii_case(UNTYPED)
        || TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// The type that is answered when nothing else is known.
pub(super) const PREFERRED: &str = TYPES[0];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_type_a_client_likes_best_is_answered() {
        for (accept, kind) in [
            ("", Some(TYPES[0])),
            ("*/*", Some(TYPES[0])),
            ("text/html, image/gif, *; q=.2, */*; q=.2", Some(TYPES[0])),
            ("application/json", Some(TYPES[2])),
            (
                "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json",
                Some(TYPES[0]),
            ),
            (
                "application/json;q=0.9, application/vnd.schemaregistry+json;q=1",
                Some(TYPES[1]),
            ),
            ("application/json; q=lots", Some(TYPES[2])),
            ("application/*;q=0.5", Some(TYPES[0])),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            let headers = with(header::ACCEPT, accept);
            assert_eq!(accepted(&headers), kind, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Some(TYPES[0]));
    }

    #[test]
    fn a_body_is_json_by_any_of_its_names_or_by_none() {
        for (kind, is_taken) in [
            ("application/json; charset=UTF-8", true),
            ("application/vnd.schemaregistry.v1+json", true),
            ("APPLICATION/JSON", true),
            ("application/octet-stream", true),
            ("application/x-www-form-urlencoded", false),
            ("text/plain", false),
        ] {
            assert_eq!(taken(&with(header::CONTENT_TYPE, kind)), is_taken, "{kind}");
        }
        assert!(taken(&HeaderMap::new()));
    }

    #[test]
    fn the_status_is_what_a_code_begins_with() {
        for (code, expected) in [
            (40401, 404),
            (42201, 422),
            (50002, 500),
            (405, 405),
            (1, 500),
        ] {
            assert_eq!(status(&Refusal::new(code, "")).as_u16(), expected);
        }
    }
}
