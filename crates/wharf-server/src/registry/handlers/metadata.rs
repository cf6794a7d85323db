//! The server itself: whether it is there, what it is, its contexts.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use wharf_schema::model::SchemaType;
use wharf_schema::registry::{Decision, Refusal, Registry};

use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::serve::Service;
use crate::registry::store::Change;

/// `GET /`, `POST /`: what probes ask.
pub(in crate::registry) fn root(_service: &Service, _request: &Request) -> Result<Answer, Refusal> {
    Ok(Answer::text("{}"))
}

/// `GET /schemas/types`.
pub(in crate::registry) fn types(
    _service: &Service,
    _request: &Request,
) -> Result<Answer, Refusal> {
    Answer::json(&SchemaType::ALL)
}

/// `GET /v1/metadata/id`: the cluster, in the two forms that clients read.
pub(in crate::registry) fn id(service: &Service, _request: &Request) -> Result<Answer, Refusal> {
    let clusters = json!({
        "kafka-cluster": service.cluster,
        "schema-registry-cluster": "schema-registry",
    });
    Answer::json(&json!({
        "scope": { "path": [], "clusters": clusters },
        "id": "",
    }))
}

/// `GET /v1/metadata/version`.
pub(in crate::registry) fn version(
    _service: &Service,
    _request: &Request,
) -> Result<Answer, Refusal> {
    Answer::json(&json!({ "version": env!("CARGO_PKG_VERSION"), "commitId": "" }))
}

/// `GET /v1/metadata/deployment`: no property of Confluent's products holds.
pub(in crate::registry) fn deployment(
    _service: &Service,
    _request: &Request,
) -> Result<Answer, Refusal> {
    Answer::json(&json!({ "attributes": {} }))
}

/// `GET /contexts`.
pub(in crate::registry) fn contexts(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let prefix = request.text("contextPrefix").unwrap_or("");
    let contexts = registry.contexts().into_iter();
    let contexts = contexts.filter(|name| name.starts_with(prefix));
    Answer::json(&request.page()?.of(contexts))
}

/// `DELETE /contexts/{context}`: nothing is answered.
pub(in crate::registry) fn delete_context(request: &Request) -> Result<Change, Refusal> {
    let context = request.parameter("context").to_owned();
    Ok(Arc::new(move |registry, _now| {
        let decision = registry.delete_context(&context)?;
        Ok(Decision {
            records: decision.records,
            answer: Answer(Bytes::new()),
        })
    }))
}
