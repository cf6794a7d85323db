//! `/compatibility`: what would become of a schema if it were registered.

use serde::Serialize;
use wharf_schema::registry::{Refusal, Registration, Registry, VersionSpec};

use super::version;
use crate::registry::answer::Answer;
use crate::registry::request::Request;

#[derive(Serialize)]
struct Told {
    is_compatible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
}

/// `POST /compatibility/subjects/{subject}/versions`: with as many versions as the level wants.
pub(in crate::registry) fn all(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    tested(registry, request, None)
}

/// `POST /compatibility/subjects/{subject}/versions/{version}`.
pub(in crate::registry) fn one(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    tested(registry, request, Some(version(request)?))
}

fn tested(
    registry: &Registry,
    request: &Request,
    version: Option<VersionSpec>,
) -> Result<Answer, Refusal> {
    let schema: Registration = request.json()?;
    let (subject, is_verbose) = (request.subject(), request.is("verbose"));
    let told = match registry.test(&subject, version, &schema, request.is("normalize")) {
        Ok(verdict) => Told {
            is_compatible: verdict.is_compatible,
            messages: is_verbose.then_some(verdict.messages),
        },
        // Who wants to know everything is told it in the answer.
        Err(refusal) if refusal.code == 42201 && is_verbose => Told {
            is_compatible: false,
            messages: Some(vec![refusal.message]),
        },
        Err(refusal) => return Err(refusal),
    };
    Answer::json(&told)
}
