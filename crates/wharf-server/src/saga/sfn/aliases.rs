//! Aliases: names that lead to one published version, or to two by weight.

use std::sync::Arc;

use serde_json::{Value, json};
use wharf_message::Timestamp;

use super::Api;
use super::arn::Arn;
use super::catalogue::{Alias, Known, Machine, Write};
use super::fault::Fault;
use super::machines::paged;
use super::operations::{Answer, Call};
use super::versions::DESCRIPTION_CHARS_MAX;
use super::wire::{self, Fields};
use crate::clock;

/// How many aliases a machine may have, as at Amazon.
const ALIASES_MAX: usize = 100;
/// How many versions an alias may lead to.
const ROUTES_MAX: usize = 2;

/// Versions with their weights.
type Routes = Vec<(u32, u8)>;

fn gone(name: &str, alias: &str) -> Fault {
    let arn = Arn::Alias(name.to_owned(), alias.to_owned());
    Fault::new("ResourceNotFound", format!("Resource not found: '{arn}'"))
}

/// Reads where an alias is to lead: the machine, and its versions with their weights.
fn routes(fields: &Fields) -> Result<Option<(String, Routes)>, Fault> {
    let list = fields.list("routingConfiguration")?;
    if list.is_empty() {
        return Ok(None);
    }
    if list.len() > ROUTES_MAX {
        let why = format!("'routingConfiguration' has more than {ROUTES_MAX} versions");
        return Err(Fault::validation(why));
    }
    let (mut machine, mut routes, mut sum) = (None, Vec::new(), 0);
    for route in list {
        let route = Fields::of(route, "routingConfiguration")?;
        let (name, version) = Arn::version(route.needed("stateMachineVersionArn")?)?;
        let weight = route.number("weight")?.unwrap_or(0);
        let weight = u8::try_from(weight).ok().filter(|weight| *weight <= 100);
        let weight = weight.ok_or_else(|| Fault::validation("a 'weight' is above 100"))?;
        if machine.get_or_insert(name.clone()) != &name {
            return Err(Fault::validation(
                "the versions of an alias belong to one state machine",
            ));
        }
        if routes.iter().any(|(known, _)| *known == version) {
            return Err(Fault::validation(
                "an alias leads to the same version twice",
            ));
        }
        sum += u32::from(weight);
        routes.push((version, weight));
    }
    if sum != 100 {
        return Err(Fault::validation(format!(
            "the weights add up to {sum}, not to 100"
        )));
    }
    Ok(machine.map(|machine| (machine, routes)))
}

/// Refuses routes to versions that are not there.
fn check(name: &str, record: &Machine, routes: &[(u32, u8)]) -> Result<(), Fault> {
    let missing = routes
        .iter()
        .find(|(version, _)| record.version(*version).is_none());
    match missing {
        None => Ok(()),
        Some((version, _)) => {
            let arn = Arn::Version(name.to_owned(), *version);
            Err(Fault::new(
                "ResourceNotFound",
                format!("Resource not found: '{arn}'"),
            ))
        }
    }
}

fn description(fields: &Fields) -> Result<Option<String>, Fault> {
    let text = fields.short("description", DESCRIPTION_CHARS_MAX)?;
    Ok(text.map(str::to_owned))
}

pub(super) async fn create(api: Arc<Api>, call: Call) -> Answer {
    let alias = wire::name(call.fields.needed("name")?)?;
    if alias.bytes().all(|byte| byte.is_ascii_digit()) {
        let why = format!("Invalid Name: '{alias}' would be taken for a version");
        return Err(Fault::new("InvalidName", why));
    }
    let routes = routes(&call.fields)?;
    let (name, routes) = routes.ok_or_else(|| {
        Fault::validation("Value at 'routingConfiguration' must not be missing or empty")
    })?;
    let description = description(&call.fields)?.unwrap_or_default();
    let now = clock::now().as_millis();
    let known = api.catalogue.known().await?;
    api.machine(&known, &name)?;
    let change = |known: &Known| {
        let record = known
            .machines
            .get(&name)
            .ok_or_else(|| gone(&name, &alias))?;
        check(&name, record, &routes)?;
        if let Some(known) = record.aliases.get(&alias) {
            let is_same = known.routes == routes && known.description == description;
            let why = format!("the alias {alias} is there and leads elsewhere; update it instead");
            return match is_same {
                true => Ok((Vec::new(), known.created)),
                false => Err(Fault::new("ConflictException", why)),
            };
        }
        if record.aliases.len() >= ALIASES_MAX {
            let why =
                format!("{name} has {ALIASES_MAX} aliases, and no more may be; delete one first");
            return Err(Fault::new("ServiceQuotaExceededException", why));
        }
        let mut record = record.as_ref().clone();
        let made = Alias {
            description,
            routes,
            created: now,
            updated: now,
        };
        record.aliases.insert(alias.clone(), made);
        Ok((vec![Write::Machine(name.clone(), Some(record))], now))
    };
    let created = api.catalogue.change(change).await?;
    Ok(json!({
        "stateMachineAliasArn": Arn::Alias(name, alias).to_string(),
        "creationDate": wire::time(Timestamp::from_millis(created)),
    }))
}

pub(super) async fn update(api: Arc<Api>, call: Call) -> Answer {
    let (name, alias) = Arn::alias(call.fields.needed("stateMachineAliasArn")?)?;
    let (routes, description) = (routes(&call.fields)?, description(&call.fields)?);
    if routes.is_none() && description.is_none() {
        let why = "Either 'description' or 'routingConfiguration' must be given";
        return Err(Fault::validation(why));
    }
    let now = clock::now();
    let change = |known: &Known| {
        let record = known
            .machines
            .get(&name)
            .ok_or_else(|| gone(&name, &alias))?;
        let mut record = record.as_ref().clone();
        if let Some((machine, routes)) = &routes {
            if *machine != name {
                return Err(Fault::validation(
                    "the versions belong to another state machine",
                ));
            }
            check(&name, &record, routes)?;
        }
        let known = record
            .aliases
            .get_mut(&alias)
            .ok_or_else(|| gone(&name, &alias))?;
        if let Some((_, routes)) = routes {
            known.routes = routes;
        }
        if let Some(description) = description {
            known.description = description;
        }
        known.updated = now.as_millis();
        Ok((vec![Write::Machine(name, Some(record))], ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({ "updateDate": wire::time(now) }))
}

pub(super) async fn delete(api: Arc<Api>, call: Call) -> Answer {
    let (name, alias) = Arn::alias(call.fields.needed("stateMachineAliasArn")?)?;
    let change = |known: &Known| {
        let record = known
            .machines
            .get(&name)
            .ok_or_else(|| gone(&name, &alias))?;
        let mut record = record.as_ref().clone();
        let removed = record.aliases.remove(&alias);
        removed.ok_or_else(|| gone(&name, &alias))?;
        Ok((vec![Write::Machine(name, Some(record))], ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({}))
}

pub(super) async fn describe(api: Arc<Api>, call: Call) -> Answer {
    let (name, alias) = Arn::alias(call.fields.needed("stateMachineAliasArn")?)?;
    let known = api.catalogue.known().await?;
    let record = known.machines.get(&name);
    let found = record.and_then(|record| record.aliases.get(&alias));
    let found = found.ok_or_else(|| gone(&name, &alias))?;
    let routes = found.routes.iter().map(|(version, weight)| {
        let arn = Arn::Version(name.clone(), *version).to_string();
        json!({ "stateMachineVersionArn": arn, "weight": weight })
    });
    let routes: Value = routes.collect();
    Ok(json!({
        "stateMachineAliasArn": Arn::Alias(name.clone(), alias.clone()).to_string(),
        "name": alias,
        "description": found.description,
        "routingConfiguration": routes,
        "creationDate": wire::time(Timestamp::from_millis(found.created)),
        "updateDate": wire::time(Timestamp::from_millis(found.updated)),
    }))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let text = call.fields.needed("stateMachineArn")?;
    let wanted = "a state machine or a version of one";
    let (name, version) = match Arn::read(text, wanted)? {
        Arn::Machine(name) => (name, None),
        Arn::Version(name, version) => (name, Some(version)),
        _ => return Err(Fault::arn(text, wanted)),
    };
    let known = api.catalogue.known().await?;
    let found = api.machine(&known, &name)?;
    let leads = |alias: &Alias| {
        version.is_none_or(|version| alias.routes.iter().any(|(known, _)| *known == version))
    };
    let aliases = found
        .record
        .aliases
        .iter()
        .filter(|(_, alias)| leads(alias));
    let aliases: Vec<_> = aliases.collect();
    let (page, next) = wire::page(&aliases, |(name, _)| (*name).clone(), &call.fields)?;
    let page: Vec<_> = page
        .iter()
        .map(|(alias, found)| {
            json!({
                "stateMachineAliasArn": Arn::Alias(name.clone(), (*alias).clone()).to_string(),
                "creationDate": wire::time(Timestamp::from_millis(found.created)),
            })
        })
        .collect();
    Ok(paged(json!({ "stateMachineAliases": page }), next))
}
