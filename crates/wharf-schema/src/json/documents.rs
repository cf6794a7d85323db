//! The documents that a schema consists of, and what a reference in them means.
//!
//! Resolution sees the schema, its dependencies and the drafts' own meta-schemas, and nothing else:
//! there is no network and no file.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, uri};
use referencing::SPECIFICATIONS;
use serde_json::Value;

use crate::{Dependency, Invalid, Limits};

/// What relative names stand on where the schema has no identifier.
const BASE: &str = "json-schema:///";

/// Bytes of an address with what it is resolved against: many schemas may stand on one.
const ADDRESS_BYTES_MAX: usize = 8_192;

/// A text of the schema.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) uri: Arc<str>,
    pub(super) draft: Draft,
    pub(super) value: Value,
}

/// Where something is: a document and a value in it, with the base its references stand on.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) value: &'a Value,
    pub(super) base: Arc<str>,
    pub(super) draft: Draft,
}

/// Drafts before 2019-09 have `definitions`, `dependencies`, and references that stand alone.
pub(super) fn is_modern(draft: Draft) -> bool {
    !matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7)
}

/// The draft that a document says it is of; `default` where it says nothing that is known.
pub(super) fn draft_of(value: &Value, default: Draft) -> Draft {
    match value.get("$schema").and_then(Value::as_str) {
        Some(named) => match Draft::from_schema_uri(named) {
            Draft::Unknown => default,
            known => known,
        },
        None => default,
    }
}

/// The identifier that a schema gives itself, if it does.
pub(super) fn identifier(value: &Value, draft: Draft) -> Option<&str> {
    let object = value.as_object()?;
    if !is_modern(draft) && object.contains_key("$ref") {
        return None;
    }
    let keyword = if draft == Draft::Draft4 { "id" } else { "$id" };
    object.get(keyword)?.as_str()
}

/// The documents of a schema: the schema itself first, then its dependencies.
pub(super) fn documents(
    root: Value,
    dependencies: &[Dependency],
) -> Result<Vec<Document>, Invalid> {
    let draft = draft_of(&root, Draft::Draft7);
    let uri = join(BASE, identifier(&root, draft).unwrap_or_default())?;
    let mut documents = vec![Document {
        uri: uri.clone(),
        draft,
        value: root,
    }];
    for dependency in dependencies {
        let value = serde_json::from_str(&dependency.text).map_err(|error| {
            Invalid::new(format!(
                "the schema referred to as {} is not JSON: {error}",
                dependency.name
            ))
        })?;
        let named = join(&uri, &dependency.name)?;
        if documents[1..].iter().any(|known| known.uri == named) {
            continue;
        }
        documents.push(Document {
            uri: named,
            draft: draft_of(&value, draft),
            value,
        });
    }
    Ok(documents)
}

/// A reference made absolute, without its fragment.
pub(super) fn join(base: &str, reference: &str) -> Result<Arc<str>, Invalid> {
    if base.len() + reference.len() > ADDRESS_BYTES_MAX {
        return Err(Invalid::new(format!(
            "an identifier or a reference has more than {ADDRESS_BYTES_MAX} bytes"
        )));
    }
    let unclear = |error: &dyn std::fmt::Display| {
        Invalid::new(format!(
            "'{reference}' is no reference that can be resolved: {error}"
        ))
    };
    let base = uri::from_str(base).map_err(|error| unclear(&error))?;
    let whole = uri::resolve_against(&base.borrow(), without_fragment(reference))
        .map_err(|error| unclear(&error))?;
    Ok(without_fragment(whole.as_str()).into())
}

fn without_fragment(reference: &str) -> &str {
    reference
        .split_once('#')
        .map_or(reference, |(front, _)| front)
}

/// What the documents define, by address.
#[derive(Debug)]
pub(super) struct Addresses<'a> {
    resources: HashMap<Arc<str>, Place<'a>>,
    anchors: HashMap<(Arc<str>, String), Place<'a>>,
    dynamic: HashMap<(Arc<str>, String), Place<'a>>,
    root: Arc<str>,
}

impl<'a> Addresses<'a> {
    /// Reads what the documents define.
    pub(super) fn of(documents: &'a [Document]) -> Result<Self, Invalid> {
        let root = documents
            .first()
            .map(|root| root.uri.clone())
            .unwrap_or_default();
        let mut addresses = Self {
            resources: HashMap::new(),
            anchors: HashMap::new(),
            dynamic: HashMap::new(),
            root,
        };
        for document in documents {
            let place = Place {
                value: &document.value,
                base: document.uri.clone(),
                draft: document.draft,
            };
            addresses.define(place, true)?;
        }
        Ok(addresses)
    }

    fn define(&mut self, place: Place<'a>, is_document: bool) -> Result<(), Invalid> {
        let mut waiting = vec![place.clone()];
        if is_document {
            self.resources.entry(place.base.clone()).or_insert(place);
        }
        while let Some(place) = waiting.pop() {
            let base = self.define_one(&place)?;
            let inside = match place.value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                Value::Object(members) => members
                    .iter()
                    .filter(|(key, _)| {
                        !matches!(key.as_str(), "enum" | "const" | "default" | "examples")
                    })
                    .map(|(_, value)| value)
                    .collect(),
                _ => continue,
            };
            waiting.extend(inside.into_iter().map(|value| Place {
                value,
                base: base.clone(),
                draft: place.draft,
            }));
        }
        Ok(())
    }

    /// Defines what one object names, and gives the base of what is in it.
    fn define_one(&mut self, place: &Place<'a>) -> Result<Arc<str>, Invalid> {
        let mut base = place.base.clone();
        if let Some(id) = identifier(place.value, place.draft) {
            match id.strip_prefix('#') {
                Some(anchor) => {
                    self.anchors
                        .insert((base.clone(), anchor.to_owned()), place.clone());
                }
                None => {
                    base = join(&base, id)?;
                    let place = Place {
                        base: base.clone(),
                        ..place.clone()
                    };
                    self.resources.entry(base.clone()).or_insert(place);
                }
            }
        }
        let place = Place {
            base: base.clone(),
            ..place.clone()
        };
        if is_modern(place.draft) {
            for keyword in ["$anchor", "$dynamicAnchor"] {
                if let Some(anchor) = place.value.get(keyword).and_then(Value::as_str) {
                    let key = (base.clone(), anchor.to_owned());
                    if keyword == "$dynamicAnchor" {
                        self.dynamic.insert(key.clone(), place.clone());
                    }
                    self.anchors.insert(key, place.clone());
                }
            }
        }
        Ok(base)
    }

    /// What a reference stands for.
    pub(super) fn find(&self, from: &Place<'a>, reference: &str) -> Result<Place<'a>, Invalid> {
        let address = join(&from.base, reference)?;
        let fragment = reference
            .split_once('#')
            .map_or("", |(_, fragment)| fragment);
        let unknown = || {
            Invalid::new(format!(
                "the reference '{reference}' leads nowhere: neither the schema nor what it refers to defines it"
            ))
        };
        let resource = match self.resources.get(&address) {
            Some(resource) => resource.clone(),
            None => meta_schema(&address).ok_or_else(unknown)?,
        };
        let fragment = percent_decoded(fragment);
        if fragment.is_empty() {
            return Ok(resource);
        }
        if let Some(anchor) = self.anchors.get(&(address, fragment.clone())) {
            return Ok(anchor.clone());
        }
        if resource.value.get("$dynamicAnchor").and_then(Value::as_str) == Some(&fragment) {
            // The drafts' own meta-schemas are in no document of ours.
            return Ok(resource);
        }
        descend(resource, &fragment)?.ok_or_else(unknown)
    }

    /// What a dynamic reference stands for: the anchor of that name in the schema that validation
    /// starts from, where it has one. (Resources in between are not looked at.)
    pub(super) fn find_dynamic(
        &self,
        from: &Place<'a>,
        reference: &str,
    ) -> Result<Place<'a>, Invalid> {
        let place = self.find(from, reference)?;
        let anchor = place.value.get("$dynamicAnchor").and_then(Value::as_str);
        let outermost =
            anchor.and_then(|anchor| self.dynamic.get(&(self.root.clone(), anchor.to_owned())));
        Ok(outermost.cloned().unwrap_or(place))
    }

    /// What `$recursiveRef: "#"` stands for.
    pub(super) fn find_recursive(&self, from: &Place<'a>) -> Result<Place<'a>, Invalid> {
        let is_open =
            |place: &Place<'_>| place.value.get("$recursiveAnchor") == Some(&Value::Bool(true));
        let place = self.find(from, "#")?;
        match self.resources.get(&self.root) {
            Some(root) if is_open(&place) && is_open(root) => Ok(root.clone()),
            _ => Ok(place),
        }
    }
}

/// The meta-schemas of the drafts, which come with the validator.
fn meta_schema<'a>(address: &str) -> Option<Place<'a>> {
    let resolver = SPECIFICATIONS.resolver(uri::from_str(address).ok()?);
    let value = resolver.lookup("").ok()?.contents();
    Some(Place {
        value,
        base: address.into(),
        draft: draft_of(value, Draft::from_schema_uri(address)),
    })
}

/// What a JSON pointer leads to, with the base that the identifiers on the way give it.
fn descend<'a>(resource: Place<'a>, pointer: &str) -> Result<Option<Place<'a>>, Invalid> {
    let Some(pointer) = pointer.strip_prefix('/') else {
        return Ok(None);
    };
    let mut place = resource;
    for segment in pointer.split('/') {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let inside = match place.value {
            Value::Object(members) => members.get(&segment),
            Value::Array(items) => segment
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index)),
            _ => None,
        };
        let Some(value) = inside else {
            return Ok(None);
        };
        place.value = value;
        if let Some(id) = identifier(value, place.draft).filter(|id| !id.starts_with('#')) {
            place.base = join(&place.base, id)?;
        }
    }
    Ok(Some(place))
}

fn percent_decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Refuses what is nested deeper than allowed.
pub(super) fn check_depth(value: &Value, limits: &Limits) -> Result<(), Invalid> {
    let mut waiting = vec![(value, 1)];
    while let Some((value, depth)) = waiting.pop() {
        let inside: &mut dyn Iterator<Item = &Value> = match value {
            Value::Array(items) => &mut items.iter(),
            Value::Object(members) => &mut members.values(),
            _ => continue,
        };
        if depth > limits.depth_max {
            return Err(Invalid::new(format!(
                "the schema is nested deeper than {} levels",
                limits.depth_max
            )));
        }
        waiting.extend(inside.map(|value| (value, depth + 1)));
    }
    Ok(())
}
