//! `/subjects`: subjects, their versions, and the schemas under them.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_schema::registry::{
    Decision, Filter, LookupOptions, Refusal, RegisterOptions, Registered, Registration, Registry,
    TagRequest,
};

use super::shown::{Fields, Shown};
use super::{change, unique, version as spec};
use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::routes::Noted;
use crate::registry::store::Change;

/// `GET /subjects`.
pub(in crate::registry) fn list(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    let page = request.page()?;
    let filter = Filter::from_parameters(request.is("deleted"), request.is("deletedOnly"));
    let prefixes = request.all("subjectPrefix").map(str::to_owned);
    let prefixes = unique(prefixes.collect(), ":*:").into_iter();
    let all = prefixes.flat_map(|prefix| registry.subjects(&prefix, filter, Default::default()));
    Answer::json(&page.of(unique(all.collect(), "")))
}

/// `POST /subjects/{subject}`: a lookup.
pub(in crate::registry) fn lookup(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let schema: Registration = request.json()?;
    let options = LookupOptions {
        normalize: request.is("normalize"),
        deleted: request.is("deleted"),
    };
    let found = registry.lookup(&request.subject(), &schema, options)?;
    Answer::json(&Shown::asked(&found, Fields::ALL, registry, request)?)
}

/// `DELETE /subjects/{subject}`.
pub(in crate::registry) fn delete(request: &Request) -> Result<Change, Refusal> {
    let (subject, permanent) = (request.subject(), request.is("permanent"));
    Ok(change(move |registry, _now| {
        registry.delete_subject(&subject, permanent)
    }))
}

/// `GET /subjects/{subject}/metadata`.
pub(in crate::registry) fn with_metadata(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let pairs = request.all("key").zip(request.all("value"));
    let pairs: BTreeMap<String, String> = pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let subject = request.subject();
    let found = registry.latest_with_metadata(&subject, &pairs, request.is("deleted"))?;
    let fields = Fields {
        new: request.takes_new_fields,
        ..Fields::ALL
    };
    Answer::json(&Shown::asked(&found, fields, registry, request)?)
}

/// `GET /subjects/{subject}/versions`.
pub(in crate::registry) fn versions(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let filter = if request.is("deletedAsNegative") {
        Filter::DeletedAsNegative
    } else {
        Filter::from_parameters(request.is("deleted"), request.is("deletedOnly"))
    };
    Answer::json(&registry.versions(&request.subject(), filter, request.page()?)?)
}

/// What registering answers: the subject is known.
fn registered(version: &Registered, takes_new_fields: bool) -> Result<Answer, Refusal> {
    let fields = Fields {
        subject: false,
        id: true,
        new: takes_new_fields,
    };
    Answer::json(&Shown::of(version, fields))
}

/// The answer to a registration of what is registered as it is: no change, so no writer.
pub(in crate::registry) fn known(
    registry: &Registry,
    request: &Request,
) -> Result<Option<Answer>, Refusal> {
    let (schema, subject): (Registration, _) = (request.json()?, request.subject());
    let is_plain = Registration {
        schema: String::new(),
        schema_type: None,
        references: Vec::new(),
        ..schema.clone()
    } == Registration::default();
    let scope = registry.config_in_scope(&subject);
    if !is_plain || schema.schema.is_empty() || scope.has_defaults() {
        return Ok(None);
    }
    let options = LookupOptions {
        normalize: request.is("normalize"),
        deleted: false,
    };
    let found = registry.lookup(&subject, &schema, options);
    let found = found
        .ok()
        .filter(|found| *found.subject == *subject.as_str());
    found
        .map(|found| registered(&found, request.takes_new_fields))
        .transpose()
}

/// `POST /subjects/{subject}/versions`.
pub(in crate::registry) fn register(request: &Request) -> Result<Change, Refusal> {
    let schema: Registration = request.json()?;
    let (subject, takes_new_fields) = (request.subject(), request.takes_new_fields);
    let options = RegisterOptions {
        normalize: request.is("normalize"),
        force: request.is("force"),
    };
    Ok(Arc::new(move |registry, now| {
        let decision = registry.register(&subject, &schema, options, now)?;
        Ok(Decision {
            answer: registered(&decision.answer, takes_new_fields)?,
            records: decision.records,
        })
    }))
}

fn found(registry: &Registry, request: &Request) -> Result<Registered, Refusal> {
    let (subject, version) = (request.subject(), spec(request)?);
    registry.version_in_any_context(&subject, version, request.is("deleted"))
}

/// `GET /subjects/{subject}/versions/{version}`.
pub(in crate::registry) fn version(
    registry: &Registry,
    request: &Request,
) -> Result<Noted, Refusal> {
    let version = found(registry, request)?;
    let shown = Shown::asked(&version, Fields::ALL, registry, request)?;
    Ok(Noted::of(&version, Answer::json(&shown)?))
}

/// `GET /subjects/{subject}/versions/{version}/schema`.
pub(in crate::registry) fn text(registry: &Registry, request: &Request) -> Result<Noted, Refusal> {
    let version = found(registry, request)?;
    let text = registry.formatted(&version, request.text("format").unwrap_or(""))?;
    Ok(Noted::of(&version, Answer::text(&text)))
}

/// `DELETE /subjects/{subject}/versions/{version}`.
pub(in crate::registry) fn delete_version(request: &Request) -> Result<Change, Refusal> {
    let (subject, version) = (request.subject(), spec(request)?);
    let permanent = request.is("permanent");
    Ok(change(move |registry, _now| {
        registry.delete_version(&subject, version, permanent)
    }))
}

/// `GET /subjects/{subject}/versions/{version}/referencedby`.
pub(in crate::registry) fn referenced_by(
    registry: &Registry,
    request: &Request,
) -> Result<Answer, Refusal> {
    let (subject, version) = (request.subject(), spec(request)?);
    let ids = registry.referenced_by(&subject, version, request.is("deleted"))?;
    Answer::json(&request.page()?.of(ids))
}

/// `POST /subjects/{subject}/versions/{version}/tags`.
pub(in crate::registry) fn tags(request: &Request) -> Result<Change, Refusal> {
    let asked: TagRequest = request.json()?;
    let (subject, version) = (request.subject(), spec(request)?);
    let takes_new_fields = request.takes_new_fields;
    Ok(Arc::new(move |registry, now| {
        let decision = registry.modify_tags(&subject, version, &asked, now)?;
        Ok(Decision {
            answer: registered(&decision.answer, takes_new_fields)?,
            records: decision.records,
        })
    }))
}
