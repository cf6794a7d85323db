//! `/schemas`: schemas by their ids and GUIDs, and lists of them.

use serde::Serialize;
use uuid::Uuid;
use wharf_schema::registry::{Filter, Refusal, Registered, Registry, SchemasQuery, Subject};

use super::shown::{Fields, Shown};
use super::unique;
use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::routes::Noted;

/// What an answer by GUID has: there may be several ids.
const BY_GUID: Fields = Fields {
    subject: true,
    id: false,
    new: true,
};

#[derive(Serialize)]
struct Place<'a> {
    subject: &'a str,
    version: i32,
}

#[derive(Serialize)]
struct Id {
    context: String,
    id: i32,
}

/// `GET /schemas`.
pub(in crate::registry) fn list(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    let page = request.page()?;
    let prefixes = request.all("subjectPrefix").map(str::to_owned);
    let prefixes = unique(prefixes.collect(), ":*:");
    let query = |prefix: &String| SchemasQuery {
        subject_prefix: prefix.clone(),
        filter: Filter::from_parameters(request.is("deleted"), false),
        latest_only: request.is("latestOnly"),
        rule_type: request.text("ruleType").map(str::to_owned),
        page,
    };
    let found: Vec<Registered> = match &*prefixes {
        [one] => registry.schemas(&query(one)),
        many => {
            // A page of all: each prefix gives what would be in it.
            let whole = |prefix: &String| {
                let mut query = query(prefix);
                query.page.limit = page.limit.map(|limit| limit.saturating_add(page.offset));
                query.page.offset = 0;
                query
            };
            page.of(many
                .iter()
                .flat_map(|prefix| registry.schemas(&whole(prefix))))
        }
    };
    let mut shown: Vec<_> = found
        .iter()
        .map(|version| Shown::of(version, Fields::ALL))
        .collect();
    if request.is("aliases") {
        for (shown, version) in shown.iter_mut().zip(&found) {
            shown.aliases = Some(registry.aliases_of(&Subject::parse(&version.subject)));
        }
    }
    Answer::json(&shown)
}

/// The placeholder `{id}` and the parameter `subject`.
fn found(registry: &Registry, request: &Request) -> Result<Registered, Refusal> {
    registry.by_id(id(request)?, subject(request).as_ref())
}

fn id(request: &Request) -> Result<i32, Refusal> {
    let id = request.parameter("id");
    let id = id.parse();
    id.map_err(|_error| Refusal::new(404, "HTTP 404 Not Found"))
}

/// The subject that an id is asked for under; .NET sends an empty one and means none.
fn subject(request: &Request) -> Option<Subject> {
    request.text("subject").map(Subject::parse)
}

/// `GET /schemas/ids/{id}`.
pub(in crate::registry) fn by_id(registry: &Registry, request: &Request) -> Result<Noted, Refusal> {
    let version = found(registry, request)?;
    // Also the id: Python's client takes the subject from this answer, and then the id.
    let shown = Shown::asked(&version, Fields::ALL, registry, request)?;
    Ok(Noted::of(&version, Answer::json(&shown)?))
}

/// `GET /schemas/ids/{id}/schema`.
pub(in crate::registry) fn text_by_id(
    registry: &Registry,
    request: &Request,
) -> Result<Noted, Refusal> {
    let version = found(registry, request)?;
    let text = registry.formatted(&version, request.text("format").unwrap_or(""))?;
    Ok(Noted::of(&version, Answer::text(&text)))
}

/// `GET /schemas/ids/{id}/subjects`.
pub(in crate::registry) fn subjects(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let (id, subject) = (id(request)?, subject(request));
    let mut versions = registry.versions_of_id(id, subject.as_ref(), request.is("deleted"))?;
    // In the order of subjects.
    versions.dedup_by(|one, before| one.subject == before.subject);
    let subjects = versions.iter().map(|version| &*version.subject);
    Answer::json(&request.page()?.of(subjects))
}

/// `GET /schemas/ids/{id}/versions`.
pub(in crate::registry) fn versions(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let (id, subject) = (id(request)?, subject(request));
    let versions = registry.versions_of_id(id, subject.as_ref(), request.is("deleted"))?;
    let places = versions.iter().map(|version| Place {
        subject: &version.subject,
        version: version.version,
    });
    Answer::json(&request.page()?.of(places))
}

fn guid(request: &Request) -> Result<Uuid, Refusal> {
    let text = request.parameter("guid");
    let shown: String = text.chars().take(64).collect();
    let guid = Uuid::parse_str(text);
    guid.map_err(|_error| Refusal::new(40403, format!("Schema {shown} not found")))
}

/// `GET /schemas/guids/{guid}`.
pub(in crate::registry) fn by_guid(
    registry: &Registry,
    request: &Request,
) -> Result<Noted, Refusal> {
    let version = registry.by_guid(guid(request)?)?;
    let shown = Shown::asked(&version, BY_GUID, registry, request)?;
    Ok(Noted::of(&version, Answer::json(&shown)?))
}

/// `GET /schemas/guids/{guid}/ids`.
pub(in crate::registry) fn ids(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    let guid = guid(request)?;
    let ids = registry.ids_of_guid(guid).into_iter();
    let ids: Vec<_> = ids.map(|(context, id)| Id { context, id }).collect();
    if ids.is_empty() {
        return Err(Refusal::new(40403, format!("Schema {guid} not found")));
    }
    Answer::json(&ids)
}
