//! Machines: deployed definitions with what only Amazon keeps of them.
//!
//! A machine is there when the orchestrator has a definition of its name, however it was deployed.
//! The definition is deployed first and the record written then: cut off in between, the machine is
//! there with the defaults, and the same request completes it.

use std::sync::Arc;

use serde_json::{Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::Hash;

use super::super::definitions::Version;
use super::arn::Arn;
use super::catalogue::{Known, Machine, Write};
use super::fault::Fault;
use super::operations::{Answer, Call};
use super::wire::{self, Fields};
use super::{Api, tags, validate, versions};
use crate::clock;

/// The role of a machine that was given none.
const ROLE: &str = "arn:aws:iam::000000000000:role/wharf";
const ROLE_CHARS_MAX: usize = 256;

/// A machine, found.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) record: Arc<Machine>,
    /// What the orchestrator starts by its name.
    pub(super) current: Version,
}

impl Api {
    /// The machine of a name, of what is known.
    pub(super) fn machine(&self, known: &Known, name: &str) -> Result<Found, Fault> {
        let found = self.engine.definition(name, None);
        let (current, _) = found.map_err(|_unknown| none(name))?;
        let record = known.machines.get(name).cloned();
        let record = record.unwrap_or_else(|| Arc::new(default_of(&current)));
        let name = name.to_owned();
        Ok(Found {
            name,
            record,
            current,
        })
    }

    /// The text of a definition: as it was deployed here, or in the one form that all have.
    pub(super) fn text(&self, known: &Known, hash: &Hash) -> Option<String> {
        let text = known.text(hash).map(str::to_owned);
        text.or_else(|| Some(self.engine.definition_by_hash(hash)?.canonical.clone()))
    }
}

pub(super) fn none(name: &str) -> Fault {
    let arn = Arn::Machine(name.to_owned());
    Fault::new(
        "StateMachineDoesNotExist",
        format!("State Machine Does Not Exist: '{arn}'"),
    )
}

/// What there is to say of a machine that was deployed in another way.
fn default_of(current: &Version) -> Machine {
    let created = Timestamp::parse_rfc3339(&current.deployed);
    Machine {
        role: ROLE.to_owned(),
        created: created.unwrap_or(Timestamp::ZERO).as_millis(),
        ..Machine::default()
    }
}

fn role(fields: &Fields) -> Result<Option<String>, Fault> {
    let role = fields.short("roleArn", ROLE_CHARS_MAX)?;
    match role {
        Some(role) if !role.starts_with("arn:") => Err(Fault::arn(role, "a role")),
        role => Ok(role.map(str::to_owned)),
    }
}

fn definition(fields: &Fields) -> Result<Option<String>, Fault> {
    let Some(text) = fields.text("definition")? else {
        return Ok(None);
    };
    if text.len() > wire::DEFINITION_BYTES_MAX {
        let (size, max) = (text.len(), wire::DEFINITION_BYTES_MAX);
        let why = format!("Invalid State Machine Definition: {size} bytes; {max} are allowed");
        return Err(Fault::new("InvalidDefinition", why));
    }
    Ok(Some(text.to_owned()))
}

/// Refuses what would have to be done by services that are not here.
fn elsewhere(fields: &Fields) -> Result<(), Fault> {
    if let Some(logging) = fields.object("loggingConfiguration")?
        && logging.text("level")?.unwrap_or("OFF") != "OFF"
    {
        let why = "Invalid Logging Configuration: there is no CloudWatch here; take the level OFF, \
                   the history is kept all the same";
        return Err(Fault::new("InvalidLoggingConfiguration", why));
    }
    if let Some(tracing) = fields.object("tracingConfiguration")?
        && tracing.flag("enabled")? == Some(true)
    {
        let why = "Invalid Tracing Configuration: there is no X-Ray here; leave it out or disabled";
        return Err(Fault::new("InvalidTracingConfiguration", why));
    }
    if let Some(encryption) = fields.object("encryptionConfiguration")?
        && encryption.text("type")? != Some("AWS_OWNED_KEY")
    {
        let why = "Invalid Encryption Configuration: there is no key service here; leave it out";
        return Err(Fault::new("InvalidEncryptionConfiguration", why));
    }
    Ok(())
}

fn description(fields: &Fields, publish: bool) -> Result<String, Fault> {
    let description = fields.short("versionDescription", versions::DESCRIPTION_CHARS_MAX)?;
    match description {
        Some(_) if !publish => {
            let why = "'versionDescription' describes a version: it needs 'publish' to be true";
            Err(Fault::validation(why))
        }
        description => Ok(description.unwrap_or_default().to_owned()),
    }
}

pub(super) async fn create(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let name = wire::name(fields.needed("name")?)?;
    let text = definition(fields)?
        .ok_or_else(|| Fault::validation("Value at 'definition' must not be missing"))?;
    let (role, tags) = (
        role(fields)?.unwrap_or_else(|| ROLE.to_owned()),
        tags::read(fields)?,
    );
    let express = fields.word("type", &["STANDARD", "EXPRESS"])? == Some("EXPRESS");
    let publish = fields.flag("publish")?.unwrap_or(false);
    let description = description(fields, publish)?;
    elsewhere(fields)?;
    let known = api.catalogue.known().await?;
    if let Ok(found) = api.machine(&known, &name)
        && let Some(record) = known.machines.get(&name)
    {
        let hash = validate::accepted(&api.engine, &text)?.hash;
        if hash != found.current.hash || express != record.express {
            let arn = Arn::Machine(name);
            let why = format!("State Machine Already Exists: '{arn}'");
            return Err(Fault::new("StateMachineAlreadyExists", why));
        }
    }
    let deployed = api.engine.deploy(&name, &text, &call.by).await;
    let current = deployed
        .map_err(|refused| validate::fault(&refused))?
        .version;
    let now = clock::now().as_millis();
    let change = |known: &Known| {
        let existing = known
            .machines
            .get(&name)
            .map(|record| record.as_ref().clone());
        let mut record = existing.unwrap_or_else(|| Machine {
            role,
            express,
            created: now,
            tags,
            ..Machine::default()
        });
        let version = publish.then(|| versions::published(&mut record, &current, description, now));
        let created = record.created;
        let writes = vec![
            Write::Text(current.hash, Some(text)),
            Write::Machine(name.clone(), Some(record)),
        ];
        Ok((writes, (created, version)))
    };
    let (created, version) = api.catalogue.change(change).await?;
    let mut answer = json!({
        "stateMachineArn": Arn::Machine(name.clone()).to_string(),
        "creationDate": wire::time(Timestamp::from_millis(created)),
    });
    if let Some(version) = version {
        answer["stateMachineVersionArn"] = json!(Arn::Version(name, version).to_string());
    }
    Ok(answer)
}

pub(super) async fn update(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let name = Arn::machine(fields.needed("stateMachineArn")?)?;
    let (text, role) = (definition(fields)?, role(fields)?);
    let publish = fields.flag("publish")?.unwrap_or(false);
    let description = description(fields, publish)?;
    elsewhere(fields)?;
    let others = [
        "loggingConfiguration",
        "tracingConfiguration",
        "encryptionConfiguration",
    ];
    let has_other = others.iter().any(|name| fields.value(name).is_some());
    if text.is_none() && role.is_none() && !has_other {
        let why = "Either the definition, the role ARN, the logging or the tracing configuration must be given";
        return Err(Fault::new("MissingRequiredParameter", why));
    }
    let known = api.catalogue.known().await?;
    let found = api.machine(&known, &name)?;
    let current = match &text {
        None => found.current.clone(),
        Some(text) => {
            let deployed = api.engine.deploy(&name, text, &call.by).await;
            deployed
                .map_err(|refused| validate::fault(&refused))?
                .version
        }
    };
    let now = clock::now();
    let change = |known: &Known| {
        let existing = known.machines.get(&name).unwrap_or(&found.record);
        let mut record = existing.as_ref().clone();
        if let Some(role) = role {
            record.role = role;
        }
        let version = publish
            .then(|| versions::published(&mut record, &current, description, now.as_millis()));
        let mut writes = vec![Write::Machine(name.clone(), Some(record))];
        writes.extend(text.map(|text| Write::Text(current.hash, Some(text))));
        Ok((writes, version))
    };
    let version = api.catalogue.change(change).await?;
    let mut answer =
        json!({ "updateDate": wire::time(now), "revisionId": current.hash.to_string() });
    if let Some(version) = version {
        answer["stateMachineVersionArn"] = json!(Arn::Version(name, version).to_string());
    }
    Ok(answer)
}

pub(super) async fn delete(api: Arc<Api>, call: Call) -> Answer {
    let name = Arn::machine(call.fields.needed("stateMachineArn")?)?;
    let known = api.catalogue.known().await?;
    if api.machine(&known, &name).is_ok() {
        let removed = api.engine.remove(&name).await;
        let removed = removed.map_err(|refused| Fault::of(&refused))?;
        let gone = removed.versions.into_iter().map(|version| version.hash);
        let gone: Vec<_> = gone
            .filter(|hash| api.engine.definition_by_hash(hash).is_none())
            .collect();
        let change = |known: &Known| {
            let texts = gone.into_iter().filter(|hash| known.text(hash).is_some());
            let mut writes: Vec<_> = texts.map(|hash| Write::Text(hash, None)).collect();
            if known.machines.contains_key(&name) {
                writes.push(Write::Machine(name, None));
            }
            Ok((writes, ()))
        };
        api.catalogue.change(change).await?;
    }
    Ok(json!({}))
}

pub(super) async fn describe(api: Arc<Api>, call: Call) -> Answer {
    let text = call.fields.needed("stateMachineArn")?;
    let metadata_only = included(&call.fields)?;
    let arn = Arn::read(text, "a state machine")?;
    let known = api.catalogue.known().await?;
    let gone = || {
        Fault::new(
            "StateMachineDoesNotExist",
            format!("State Machine Does Not Exist: '{arn}'"),
        )
    };
    let (found, version) = match &arn {
        Arn::Machine(name) => (api.machine(&known, name)?, None),
        Arn::Version(name, version) => (api.machine(&known, name)?, Some(*version)),
        Arn::Alias(name, alias) => {
            let found = api.machine(&known, name)?;
            let route = found
                .record
                .aliases
                .get(alias)
                .and_then(|alias| alias.routes.first());
            let version = route.map(|(version, _)| *version).ok_or_else(gone)?;
            (found, Some(version))
        }
        _ => return Err(Fault::arn(text, "a state machine")),
    };
    let record = &found.record;
    let (hash, created, described) = match version {
        None => (found.current.hash, record.created, None),
        Some(version) => {
            let version = record.version(version).ok_or_else(gone)?;
            (
                version.hash,
                version.created,
                Some(version.description.clone()),
            )
        }
    };
    let mut answer = json!({
        "stateMachineArn": arn.to_string(),
        "name": found.name,
        "status": "ACTIVE",
        "roleArn": record.role,
        "type": if record.express { "EXPRESS" } else { "STANDARD" },
        "creationDate": wire::time(Timestamp::from_millis(created)),
        "loggingConfiguration": { "level": "OFF", "includeExecutionData": false },
        "tracingConfiguration": { "enabled": false },
        "revisionId": hash.to_string(),
        // Required in answers, also where only metadata was asked for.
        "definition": "",
    });
    if !metadata_only {
        answer["definition"] = json!(api.text(&known, &hash).ok_or_else(gone)?);
    }
    if let Some(described) = described.filter(|described| !described.is_empty()) {
        answer["description"] = json!(described);
    }
    Ok(answer)
}

/// Whether only metadata is wanted.
pub(super) fn included(fields: &Fields) -> Result<bool, Fault> {
    let word = fields.word("includedData", &["ALL_DATA", "METADATA_ONLY"])?;
    Ok(word == Some("METADATA_ONLY"))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let known = api.catalogue.known().await?;
    let names = api.engine.definitions();
    let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
    let (page, next) = wire::page(&names, Clone::clone, &call.fields)?;
    let machines = page.iter().filter_map(|name| {
        // One that was removed meanwhile is left out.
        let found = api.machine(&known, name).ok()?;
        Some(json!({
            "stateMachineArn": Arn::Machine(name.clone()).to_string(),
            "name": name,
            "type": if found.record.express { "EXPRESS" } else { "STANDARD" },
            "creationDate": wire::time(Timestamp::from_millis(found.record.created)),
        }))
    });
    let machines: Vec<_> = machines.collect();
    Ok(paged(json!({ "stateMachines": machines }), next))
}

/// An answer with the token of the next page, if there is one.
pub(super) fn paged(mut answer: Value, next: Option<String>) -> Value {
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    answer
}
