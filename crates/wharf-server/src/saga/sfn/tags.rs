//! Tags of machines and activities.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Api;
use super::arn::Arn;
use super::catalogue::{Known, Write};
use super::fault::Fault;
use super::operations::{Answer, Call};
use super::wire::{self, Fields};

const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

type Tags = BTreeMap<String, String>;

/// The field `tags` of a request.
pub(super) fn read(fields: &Fields) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for tag in fields.list("tags")? {
        let tag = Fields::of(tag, "tags")?;
        let key = tag.needed("key")?;
        let value = tag.text("value")?.unwrap_or_default();
        if key.chars().count() > KEY_CHARS_MAX {
            return Err(wire::too_long("key", KEY_CHARS_MAX));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(wire::too_long("value", VALUE_CHARS_MAX));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    bounded(&tags).map(|()| tags)
}

fn bounded(tags: &Tags) -> Result<(), Fault> {
    if tags.len() > TAGS_MAX {
        let why = format!("Too many tags: at most {TAGS_MAX} are allowed");
        return Err(Fault::new("TooManyTags", why));
    }
    Ok(())
}

impl Api {
    /// The tags of what an ARN names, and what writes it with others.
    fn tagged(&self, known: &Known, text: &str) -> Result<(Tags, Retag), Fault> {
        let gone = || {
            Fault::new(
                "ResourceNotFound",
                format!("Resource not found: '{text:.300}'"),
            )
        };
        match Arn::read(text, "a state machine or an activity")? {
            Arn::Machine(name) => {
                let found = self.machine(known, &name).map_err(|_none| gone())?;
                let tags = found.record.tags.clone();
                let retag = move |tags| {
                    let mut record = found.record.as_ref().clone();
                    record.tags = tags;
                    Write::Machine(name, Some(record))
                };
                Ok((tags, Box::new(retag)))
            }
            Arn::Activity(name) => {
                let record = known.activities.get(&name).cloned().ok_or_else(gone)?;
                let tags = record.tags.clone();
                let retag = move |tags| {
                    let mut record = record.as_ref().clone();
                    record.tags = tags;
                    Write::Activity(name, Some(record))
                };
                Ok((tags, Box::new(retag)))
            }
            _ => Err(Fault::arn(text, "a state machine or an activity")),
        }
    }
}

type Retag = Box<dyn FnOnce(Tags) -> Write + Send>;

pub(super) async fn add(api: Arc<Api>, call: Call) -> Answer {
    let text = call.fields.needed("resourceArn")?;
    let new = read(&call.fields)?;
    let change = |known: &Known| {
        let (mut tags, retag) = api.tagged(known, text)?;
        tags.extend(new);
        bounded(&tags)?;
        Ok((vec![retag(tags)], ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({}))
}

pub(super) async fn remove(api: Arc<Api>, call: Call) -> Answer {
    let text = call.fields.needed("resourceArn")?;
    let keys = call.fields.list("tagKeys")?;
    let change = |known: &Known| {
        let (mut tags, retag) = api.tagged(known, text)?;
        for key in keys.iter().filter_map(Value::as_str) {
            tags.remove(key);
        }
        Ok((vec![retag(tags)], ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({}))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let known = api.catalogue.known().await?;
    let (tags, _) = api.tagged(&known, call.fields.needed("resourceArn")?)?;
    let tags = tags
        .into_iter()
        .map(|(key, value)| json!({ "key": key, "value": value }));
    let tags: Vec<_> = tags.collect();
    Ok(json!({ "tags": tags }))
}
