//! Deploying, checking, listing and removing definitions.

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, ok, read};
use crate::saga::definitions::{Named, Version};
use crate::saga::engine::{Deployed, Engine};
use crate::saga::refusal::Refused;

fn text(body: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(body).map_err(|_binary| read::wrong("the definition is no text in UTF-8"))
}

pub(super) async fn check(State(engine): State<Engine>, body: Bytes) -> Response {
    let checked = text(&body).and_then(|text| {
        let (definition, remarks) = engine.check(text)?;
        Ok(json!({ "hash": definition.hash.to_string(), "remarks": remarks }))
    });
    ok(checked)
}

fn version_of(version: &Version) -> Value {
    json!(version)
}

fn named_of(name: &str, named: &Named) -> Value {
    json!({
        "name": name,
        "current": named.current,
        "versions": named.versions.iter().map(version_of).collect::<Vec<_>>(),
        "aliases": named.aliases,
    })
}

pub(super) async fn list(State(engine): State<Engine>) -> Response {
    let listed = engine.check_begun().map(|()| {
        let names = engine.definitions();
        let names = names.iter().map(|(name, named)| named_of(name, named));
        json!({ "definitions": names.collect::<Vec<_>>() })
    });
    ok(listed)
}

pub(super) async fn deploy(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = read::query(query);
    let by = query.get("by").map_or("", String::as_str);
    let deployed = async {
        let Deployed {
            version,
            is_new,
            remarks,
        } = engine.deploy(&name, text(&body)?, by).await?;
        let mut told = json!({ "name": name, "new": is_new, "remarks": remarks });
        if let (Value::Object(told), Value::Object(version)) = (&mut told, version_of(&version)) {
            told.extend(version);
        }
        Ok::<_, Refused>((is_new, told))
    };
    match deployed.await {
        Ok((true, told)) => answer(StatusCode::CREATED, Ok(told)),
        Ok((false, told)) => ok(Ok(told)),
        Err(refused) => super::refusal(&refused),
    }
}

pub(super) async fn show(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = read::query(query);
    let shown = (|| {
        let wanted = query.get("version").map(String::as_str);
        let (version, definition) = engine.definition(&name, wanted)?;
        let all = engine
            .definitions()
            .into_iter()
            .find(|(other, _)| *other == name);
        let mut told = all.map_or(json!({}), |(name, named)| named_of(&name, &named));
        if let Value::Object(told) = &mut told {
            let read = serde_json::from_str::<Value>(&definition.canonical);
            told.insert("version".to_owned(), version.version.into());
            told.insert("hash".to_owned(), version.hash.to_string().into());
            told.insert("definition".to_owned(), read.unwrap_or_default());
        }
        Ok::<_, Refused>(told)
    })();
    ok(shown)
}

pub(super) async fn remove(State(engine): State<Engine>, Path(name): Path<String>) -> Response {
    let removed = engine.remove(&name).await;
    ok(removed.map(|named| named_of(&name, &named)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alias {
    version: u32,
}

pub(super) async fn alias(
    State(engine): State<Engine>,
    Path((name, alias)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let named = async {
        let Alias { version } = read::body(&body)?;
        engine.alias(&name, &alias, Some(version)).await
    };
    ok(named.await.map(|named| named_of(&name, &named)))
}

pub(super) async fn unalias(
    State(engine): State<Engine>,
    Path((name, alias)): Path<(String, String)>,
) -> Response {
    let named = engine.alias(&name, &alias, None).await;
    ok(named.map(|named| named_of(&name, &named)))
}
