//! What each route does: from a request to a question or a change of the registry, and to its answer.
//!
//! No rule of the registry is here; a handler reads its parameters, asks and writes the answer in the
//! names that Confluent's clients know.

pub(super) mod compatibility;
pub(super) mod config;
pub(super) mod metadata;
pub(super) mod mode;
pub(super) mod schemas;
mod shown;
pub(super) mod subjects;

use std::sync::Arc;

use serde::Serialize;
use wharf_message::Timestamp;
use wharf_schema::registry::{Decision, Refusal, Registry, VersionSpec};

use super::answer::Answer;
use super::request::Request;
use super::store::Change;

/// A change whose answer is JSON.
fn change<T: Serialize>(
    decide: impl Fn(&Registry, Timestamp) -> Result<Decision<T>, Refusal> + Send + Sync + 'static,
) -> Change {
    Arc::new(move |registry, now| {
        let Decision { records, answer } = decide(registry, now)?;
        let answer = Answer::json(&answer)?;
        Ok(Decision { records, answer })
    })
}

/// The names in order, each once; without any, the one that stands for all.
fn unique(mut names: Vec<String>, all: &str) -> Vec<String> {
    if names.is_empty() && !all.is_empty() {
        names.push(all.to_owned());
    }
    names.sort();
    names.dedup();
    names
}

/// The placeholder `{version}`.
fn version(request: &Request) -> Result<VersionSpec, Refusal> {
    request.parameter("version").parse()
}
