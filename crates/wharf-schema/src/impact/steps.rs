//! In which order to deploy, and the steps that avoid the break: each for the places it is for, with
//! a schema in between where one can be generated. The engine has compared every such schema.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use super::expand::expand;
use super::pairs::{Pair, Pairs, breaks, holds};
use super::report::{Affected, Consumer, First, Generated, Order, Retained, Step};
use crate::compat::check;
use crate::model::{Level, SchemaType};
use crate::{Limits, Parsed};

/// Who is deployed first, for this change and what is retained.
pub(super) fn order(
    evidence: &Evidence,
    pairs: &Pairs,
    consumers: &[Consumer],
    retained: &[Retained],
) -> Order {
    let Some((version, latest)) = pairs.latest() else {
        return Order {
            first: First::Any,
            sentence: "the subject is new: nobody reads it yet".to_owned(),
            before: Vec::new(),
        };
    };
    let reads_retained = retained
        .iter()
        .all(|version| version.records == 0 || version.is_readable);
    let backward = holds(&latest.backward) && reads_retained;
    let forward = holds(&latest.forward);
    let affected: Vec<String> = consumers
        .iter()
        .filter(|consumer| consumer.affected != Affected::No)
        .map(|consumer| consumer.name.clone())
        .collect();
    let level = level_order(evidence.rule.level);
    let (first, sentence, before) = match (backward, forward) {
        (true, true) => (
            First::Any,
            format!("any order: version {version} and the proposed schema read each other{level}"),
            Vec::new(),
        ),
        (true, false) => (
            First::Consumers,
            format!(
                "consumers first: the proposed schema reads everything retained, but version {version} does not read what it writes{level}"
            ),
            affected,
        ),
        (false, true) => (
            First::Producers,
            format!(
                "producers first, and consumers only once no record is left to them that the proposed schema cannot read: version {version} reads what it writes, but not the other way round{level}"
            ),
            vec!["every producer of the topic".to_owned()],
        ),
        (false, false) => (
            First::Neither,
            format!(
                "no order works: neither reads what the other writes; go through a schema in between, or another topic{level}"
            ),
            affected,
        ),
    };
    Order {
        first,
        sentence,
        before,
    }
}

fn level_order(level: Level) -> String {
    let order = match (level.is_backward(), level.is_forward()) {
        (true, true) => "any order",
        (true, false) => "consumers first",
        (false, true) => "producers first",
        (false, false) => return " (NONE promises no order)".to_owned(),
    };
    format!(" ({level} means {order})")
}

/// What a kind of difference asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    AliasRename,
    AddWithDefault,
    KeepField,
    ReadersFirst,
    GrowEnum,
    Reserve,
    CloseContent,
    Expand,
}

impl Remedy {
    /// For a difference; `backward`: the proposed schema is the reader.
    fn of(kind: &str, backward: bool) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| kind.contains(word));
        if has(&["NAME_MISMATCH"]) {
            Self::AliasRename
        } else if has(&["ADDED_TO_OPEN_CONTENT_MODEL"]) {
            Self::CloseContent
        } else if has(&["MISSING_ENUM", "ENUM_ARRAY_NARROWED", "ENUM_ARRAY_CHANGED"]) {
            Self::GrowEnum
        } else if has(&[
            "MISSING_DEFAULT",
            "REQUIRED_PROPERTY_ADDED",
            "REQUIRED_ATTRIBUTE_ADDED",
            "REQUIRED_FIELD_ADDED",
        ]) {
            match backward {
                true => Self::AddWithDefault,
                // Seen from the old schema, the field that it wants is gone.
                false => Self::KeepField,
            }
        } else if has(&["FIELD_REMOVED", "MESSAGE_REMOVED", "ENUM_REMOVED"]) {
            Self::Reserve
        } else if !backward && has(&["PROPERTY_REMOVED", "ITEM_REMOVED"]) {
            // Seen from the old schema, what is new is something that it does not have.
            Self::ReadersFirst
        } else if has(&[
            "PROPERTY_REMOVED",
            "PROPERTY_ADDED",
            "REQUIRED_ATTRIBUTE_REMOVED",
        ]) {
            Self::KeepField
        } else {
            Self::Expand
        }
    }

    fn id(self) -> &'static str {
        match self {
            Self::AliasRename => "alias-rename",
            Self::AddWithDefault => "add-with-default",
            Self::KeepField => "keep-field",
            Self::ReadersFirst => "readers-first",
            Self::GrowEnum => "grow-enum",
            Self::Reserve => "reserve",
            Self::CloseContent => "close-content",
            Self::Expand => "expand",
        }
    }

    fn words(self, kind: SchemaType) -> (&'static str, &'static str) {
        match self {
            Self::AliasRename => (
                "keep the old name as an alias",
                "Readers with the new schema then find what old records call by the old name.",
            ),
            Self::AddWithDefault if kind == SchemaType::Json => (
                "leave the new property optional",
                "Take it out of `required`, at least until no retained record lacks it; readers supply what is missing.",
            ),
            Self::AddWithDefault => (
                "give the new field a default",
                "Records that were written without it then read with the default; without one they cannot be read.",
            ),
            Self::KeepField => (
                "keep writing the field that would go",
                "Remove it only after every consumer that reads it was deployed without it, and its schema no longer demands it.",
            ),
            Self::ReadersFirst => (
                "deploy readers before anybody writes what is new",
                "Their content model is closed, so a reader that validates with the old schema refuses it.",
            ),
            Self::GrowEnum => (
                "keep the removed symbols, and give the enum a default",
                "Symbols that are retained must stay readable; with a default, symbols to come are too.",
            ),
            Self::Reserve => (
                "reserve the number and the name of what goes",
                "`reserved 3; reserved \"name\";` keeps anybody from using them again for something else.",
            ),
            Self::CloseContent => (
                "close the content model in a version of its own, or set the policy to LENIENT",
                "In an open model old records may have anything under the new name, so the registry refuses it; close it with `\"additionalProperties\": false` first.",
            ),
            Self::Expand => (
                "expand: add the new form beside the old one, under a new name",
                "Writers fill both, readers move one by one, and the old form goes when nobody reads it.",
            ),
        }
    }
}

/// The steps, in the order in which they are done.
pub(super) fn steps(
    evidence: &Evidence,
    pairs: &Pairs,
    order: &Order,
    limits: &Limits,
) -> Vec<Step> {
    let Some((version, latest)) = pairs.latest() else {
        return Vec::new();
    };
    let kind = evidence.proposed.kind;
    if order.first == First::Any {
        return Vec::new();
    }
    let mut steps = remedies(kind, latest);
    if let Some(step) = rename(kind, &evidence.proposed.text, latest) {
        steps.insert(0, step);
    }
    match in_between(evidence, pairs, latest, version, limits) {
        Some(expand) => {
            steps.push(expand);
            steps.push(Step {
                id: "contract".to_owned(),
                title: "contract: take the old form away".to_owned(),
                detail: "Once this report, asked again for the contracted schema, shows no consumer that reads the old form and no retained record that needs it.".to_owned(),
                paths: Vec::new(),
                schema: None,
            });
        }
        None if order.first == First::Neither => steps.push(Step {
            id: "new-topic".to_owned(),
            title: "write the new form to a new topic, and bridge".to_owned(),
            detail: "Producers write the new topic; a bridge reads it and writes the old form to the old topic, until every consumer has moved. No schema in between could be generated that the engine accepts.".to_owned(),
            paths: Vec::new(),
            schema: None,
        }),
        None => {}
    }
    if !order.before.is_empty() && order.first != First::Neither {
        steps.push(Step {
            id: "deploy".to_owned(),
            title: match order.first {
                First::Consumers => "deploy consumers first",
                _ => "deploy producers first",
            }
            .to_owned(),
            detail: format!("Before the others: {}.", order.before.join(", ")),
            paths: Vec::new(),
            schema: None,
        });
    }
    steps
}

/// One step for each remedy that the differences with the latest version ask for.
fn remedies(kind: SchemaType, latest: &Pair) -> Vec<Step> {
    let mut places: BTreeMap<Remedy, BTreeSet<String>> = BTreeMap::new();
    for (changes, backward) in [(&latest.backward, true), (&latest.forward, false)] {
        for change in breaks(changes) {
            let remedy = Remedy::of(&change.kind, backward);
            places
                .entry(remedy)
                .or_default()
                .insert(change.path.clone());
        }
    }
    let step = |(remedy, paths): (Remedy, BTreeSet<String>)| {
        let (title, detail) = remedy.words(kind);
        Step {
            id: remedy.id().to_owned(),
            title: title.to_owned(),
            detail: detail.to_owned(),
            paths: paths.into_iter().collect(),
            schema: None,
        }
    };
    places.into_iter().map(step).collect()
}

/// A field that went and one of the same type that came look like one that was renamed.
fn rename(kind: SchemaType, new: &str, latest: &Pair) -> Option<Step> {
    if kind != SchemaType::Avro {
        return None;
    }
    let fields = |text: &str| {
        let schema: serde_json::Value = serde_json::from_str(text).ok()?;
        schema["fields"].as_array().cloned()
    };
    let (before, after) = (fields(&latest.text)?, fields(new)?);
    let missing = |field: &&serde_json::Value, others: &[serde_json::Value]| {
        others.iter().all(|other| other["name"] != field["name"])
    };
    let gone: Vec<_> = before
        .iter()
        .filter(|field| missing(field, &after))
        .collect();
    let came: Vec<_> = after
        .iter()
        .filter(|field| missing(field, &before))
        .collect();
    let ([gone], [came]) = (gone.as_slice(), came.as_slice()) else {
        return None;
    };
    if gone["type"] != came["type"] || came.get("aliases").is_some() {
        return None;
    }
    let (old, new) = (gone["name"].as_str()?, came["name"].as_str()?);
    Some(Step {
        id: "alias-rename".to_owned(),
        title: format!("if {new} is {old} under another name, say so"),
        detail: format!(
            "With `\"aliases\": [\"{old}\"]` on {new}, the proposed schema reads old records; consumers are deployed first."
        ),
        paths: Vec::new(),
        schema: None,
    })
}

/// A generated schema that has both forms; only one that the engine accepts at the level that holds.
fn in_between(
    evidence: &Evidence,
    pairs: &Pairs,
    latest: &Pair,
    version: i32,
    limits: &Limits,
) -> Option<Step> {
    let rule = &evidence.rule;
    let text = expand(
        evidence.proposed.kind,
        &latest.text,
        &evidence.proposed.text,
    )?;
    let dependencies = &evidence.proposed.dependencies;
    let both = Parsed::parse(evidence.proposed.kind, &text, dependencies, limits).ok()?;
    if both.canonical() == latest.old.canonical() {
        return None;
    }
    let accepted = |level: Level, older: &[(i32, Parsed)]| {
        let compared = check(level, rule.policy, &both, older, limits);
        compared.is_ok_and(|compared| {
            compared
                .iter()
                .all(|comparison| comparison.incompatibilities().next().is_none())
        })
    };
    let mut older: Vec<(i32, Parsed)> = pairs
        .wanted(rule.level)
        .into_iter()
        .map(|(version, pair)| (version, pair.old.clone()))
        .collect();
    older.reverse();
    // A way that the level refuses is none; and in between, readers of both sides must be served.
    if !accepted(rule.level, &older) {
        return None;
    }
    let newest = [(version, latest.old.clone())];
    let mut checked = vec![format!("the registry accepts it ({})", rule.level)];
    if accepted(Level::Full, &newest) {
        checked.push(format!(
            "it and version {version} read each other: any order"
        ));
    } else if accepted(Level::Backward, &newest) {
        checked.push(format!("it reads version {version}: consumers first"));
    } else {
        return None;
    }
    Some(Step {
        id: "expand".to_owned(),
        title: "register a schema in between that has both forms".to_owned(),
        detail: "Producers fill both forms; consumers move to the new one in any number of steps."
            .to_owned(),
        paths: Vec::new(),
        schema: Some(Generated { text, checked }),
    })
}
