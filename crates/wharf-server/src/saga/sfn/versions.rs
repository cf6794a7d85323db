//! Published versions: numbered definitions that stay what they are.

use std::sync::Arc;

use serde_json::json;
use wharf_message::Timestamp;

use super::super::definitions::Version;
use super::Api;
use super::arn::Arn;
use super::catalogue::{Known, Machine, Published, Write};
use super::fault::Fault;
use super::machines::paged;
use super::operations::{Answer, Call};
use super::wire;
use crate::clock;

/// How long a description may be.
pub(super) const DESCRIPTION_CHARS_MAX: usize = 256;

/// Publishes the current definition; the newest version is that already when it says the same.
pub(super) fn published(
    record: &mut Machine,
    current: &Version,
    description: String,
    now: i64,
) -> u32 {
    if let Some(newest) = record.versions.last()
        && newest.hash == current.hash
    {
        return newest.version;
    }
    record.published += 1;
    record.versions.push(Published {
        version: record.published,
        deployed: current.version,
        hash: current.hash,
        description,
        created: now,
    });
    record.published
}

pub(super) async fn publish(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let name = Arn::machine(fields.needed("stateMachineArn")?)?;
    let description = fields.short("description", DESCRIPTION_CHARS_MAX)?;
    let description = description.unwrap_or_default().to_owned();
    let revision = fields.text("revisionId")?;
    let known = api.catalogue.known().await?;
    let found = api.machine(&known, &name)?;
    if let Some(revision) = revision
        && revision != found.current.hash.to_string()
    {
        let why = format!(
            "the machine is at revision {}, not at {revision:.80}; publish what is there, or update \
             it first",
            found.current.hash
        );
        return Err(Fault::new("ConflictException", why));
    }
    let now = clock::now().as_millis();
    let change = |known: &Known| {
        let existing = known.machines.get(&name).unwrap_or(&found.record);
        let mut record = existing.as_ref().clone();
        let version = published(&mut record, &found.current, description, now);
        let created = record
            .version(version)
            .map_or(now, |version| version.created);
        Ok((
            vec![Write::Machine(name.clone(), Some(record))],
            (version, created),
        ))
    };
    let (version, created) = api.catalogue.change(change).await?;
    Ok(json!({
        "stateMachineVersionArn": Arn::Version(name, version).to_string(),
        "creationDate": wire::time(Timestamp::from_millis(created)),
    }))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let name = Arn::machine(call.fields.needed("stateMachineArn")?)?;
    let known = api.catalogue.known().await?;
    let found = api.machine(&known, &name)?;
    let mut versions: Vec<_> = found.record.versions.iter().collect();
    versions.reverse();
    let key = |version: &&Published| version.version.to_string();
    let (page, next) = wire::page(&versions, key, &call.fields)?;
    let page: Vec<_> = page
        .iter()
        .map(|version| {
            json!({
                "stateMachineVersionArn": Arn::Version(name.clone(), version.version).to_string(),
                "creationDate": wire::time(Timestamp::from_millis(version.created)),
            })
        })
        .collect();
    Ok(paged(json!({ "stateMachineVersions": page }), next))
}

pub(super) async fn delete(api: Arc<Api>, call: Call) -> Answer {
    let (name, version) = Arn::version(call.fields.needed("stateMachineVersionArn")?)?;
    let change = |known: &Known| {
        let Some(record) = known.machines.get(&name) else {
            return Ok((Vec::new(), ()));
        };
        let leads = |routes: &[(u32, u8)]| routes.iter().any(|(number, _)| *number == version);
        let alias = record
            .aliases
            .iter()
            .find(|(_, alias)| leads(&alias.routes));
        if let Some((alias, _)) = alias {
            let why =
                format!("the alias {alias} leads to version {version}; lead it elsewhere first");
            return Err(Fault::new("ConflictException", why));
        }
        let mut record = record.as_ref().clone();
        record.versions.retain(|known| known.version != version);
        Ok((vec![Write::Machine(name, Some(record))], ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({}))
}
