//! Tags that stand in a schema's own text: `confluent:tags` of a record or a field.
//!
//! Only Avro's text is changed here; the tags of the other kinds are said in the metadata. Nested
//! types are walked with a stack of their own, so that depth is no danger.

use serde_json::Value;

use super::types::{SchemaEntity, SchemaTags};
use crate::model::SchemaType;

const TAGS: &str = "confluent:tags";
const RECORD: &str = "SR_RECORD";
const FIELD: &str = "SR_FIELD";

/// The text with tags added and removed.
pub(super) fn change(
    kind: SchemaType,
    text: &str,
    add: &[SchemaTags],
    remove: &[SchemaTags],
) -> Result<String, String> {
    if add.is_empty() && remove.is_empty() {
        return Ok(text.to_owned());
    }
    if kind != SchemaType::Avro {
        return Err(format!(
            "tags in the text are changed for AVRO only, and this is {kind}; say them in the metadata"
        ));
    }
    let mut json: Value =
        serde_json::from_str(text).map_err(|error| format!("Invalid schema: {error}"))?;
    let mut known = Vec::new();
    walk(&mut json, &mut |entity, place| {
        let of = |wanted: &'_ &SchemaTags| wanted.schema_entity == entity;
        let mut tags = read(place);
        for wanted in remove.iter().filter(of) {
            tags.retain(|tag| !wanted.tags.contains(tag));
        }
        for wanted in add.iter().filter(of) {
            tags.extend(wanted.tags.iter().cloned());
        }
        tags.sort();
        tags.dedup();
        if let Value::Object(place) = place {
            if tags.is_empty() {
                place.shift_remove(TAGS);
            } else {
                place.insert(TAGS.to_owned(), tags.into());
            }
        }
        known.push(entity);
    });
    if let Some(unknown) = add
        .iter()
        .find(|wanted| !known.contains(&wanted.schema_entity))
    {
        let SchemaEntity {
            entity_path,
            entity_type,
        } = &unknown.schema_entity;
        return Err(format!("the schema has no {entity_type} {entity_path}"));
    }
    Ok(json.to_string())
}

/// The tags in a text.
pub(super) fn find(kind: SchemaType, text: &str) -> Vec<SchemaTags> {
    let mut found = Vec::new();
    if kind == SchemaType::Avro
        && let Ok(mut json) = serde_json::from_str(text)
    {
        walk(&mut json, &mut |schema_entity, place| {
            let tags = read(place);
            if !tags.is_empty() {
                found.push(SchemaTags {
                    schema_entity,
                    tags,
                });
            }
        });
    }
    found
}

fn read(place: &Value) -> Vec<String> {
    let tags = place
        .get(TAGS)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    tags.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Calls `visit` with every record and field of an Avro schema and its place in the text.
fn walk(schema: &mut Value, visit: &mut impl FnMut(SchemaEntity, &mut Value)) {
    let mut left: Vec<(&mut Value, String)> = vec![(schema, String::new())];
    while let Some((schema, namespace)) = left.pop() {
        match schema {
            Value::Array(branches) => {
                left.extend(
                    branches
                        .iter_mut()
                        .map(|branch| (branch, namespace.clone())),
                );
            }
            Value::Object(_) => {
                let text = |name: &str| schema.get(name).and_then(Value::as_str);
                let is_record = matches!(text("type"), Some("record" | "error"));
                let own = text("namespace").unwrap_or(&namespace).to_owned();
                let full = match text("name") {
                    Some(name) if name.contains('.') || own.is_empty() => name.to_owned(),
                    Some(name) => format!("{own}.{name}"),
                    None => String::new(),
                };
                if is_record {
                    visit(entity(full.clone(), RECORD), schema);
                }
                let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let inner = if is_record { inner } else { &own };
                let Value::Object(members) = schema else {
                    continue;
                };
                for (name, member) in members.iter_mut() {
                    match name.as_str() {
                        "fields" if is_record => {
                            let fields = member.as_array_mut().into_iter().flatten();
                            for field in fields {
                                let name = field.get("name").and_then(Value::as_str);
                                let path = format!("{full}.{}", name.unwrap_or_default());
                                visit(entity(path, FIELD), field);
                                left.extend(field.get_mut("type").map(|t| (t, inner.to_owned())));
                            }
                        }
                        "items" | "values" | "type" => left.push((member, inner.to_owned())),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn entity(entity_path: String, entity_type: &str) -> SchemaEntity {
    SchemaEntity {
        entity_path,
        entity_type: entity_type.to_owned(),
    }
}

/// Whether the `=` after these words gives the message's own field its number.
fn is_field(open: &[bool], before: &[&str]) -> bool {
    open.iter().all(|own| *own)
        && before.len() >= 2
        && !before.contains(&"=")
        && !matches!(before[0], "option" | "reserved" | "extensions")
}

/// The names of the fields of the first message in a Protobuf text, those of its oneofs included.
pub(super) fn message_fields(text: &str) -> Vec<String> {
    let mut words = words(text).into_iter();
    if words.by_ref().find(|word| *word == "message").is_none() {
        return Vec::new();
    }
    let (mut fields, mut before, mut last) = (Vec::new(), Vec::new(), "");
    // Blocks that are open: whether fields in them are the message's own.
    let mut open: Vec<bool> = Vec::new();
    for word in words {
        match word {
            "{" => open.push(open.is_empty() || before.first() == Some(&"oneof")),
            "}" => {
                open.pop();
                if open.is_empty() {
                    break;
                }
            }
            "=" if is_field(&open, &before) => fields.push(last.to_owned()),
            _ => {}
        }
        if matches!(word, "{" | "}" | ";") {
            before.clear();
        } else {
            before.push(word);
        }
        last = word;
    }
    fields
}

/// The words and signs of a Protobuf text, without comments and with strings as one word.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]).trim_start();
            continue;
        } else if rest.starts_with("/*") {
            rest = rest
                .find("*/")
                .map_or("", |end| &rest[end + 2..])
                .trim_start();
            continue;
        } else if matches!(first, '"' | '\'') {
            rest[1..].find(first).map_or(rest.len(), |end| end + 2)
        } else if first.is_alphanumeric() || first == '_' {
            let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"card","type":"string"},
        {"name":"lines","type":{"type":"array","items":
            {"type":"record","name":"Line","fields":[{"name":"sku","type":"string"}]}}}]}"#;

    fn tags(path: &str, kind: &str, tags: &[&str]) -> SchemaTags {
        SchemaTags {
            schema_entity: entity(path.to_owned(), kind),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        }
    }

    #[test]
    fn tags_are_written_into_records_and_fields_and_taken_out() {
        let add = [
            tags("shop.Order.card", FIELD, &["PII", "CARD"]),
            tags("shop.Line", RECORD, &["LINE"]),
        ];
        let tagged = change(SchemaType::Avro, ORDER, &add, &[]).unwrap();
        let mut found = find(SchemaType::Avro, &tagged);
        found.sort_by(|a, b| a.schema_entity.cmp(&b.schema_entity));
        assert_eq!(
            found,
            [
                tags("shop.Line", RECORD, &["LINE"]),
                tags("shop.Order.card", FIELD, &["CARD", "PII"]),
            ]
        );
        let less = change(SchemaType::Avro, &tagged, &[], &add).unwrap();
        assert!(find(SchemaType::Avro, &less).is_empty());
    }

    #[test]
    fn a_place_that_there_is_not_is_refused_and_so_are_other_kinds() {
        let add = [tags("shop.Order.nothing", FIELD, &["PII"])];
        assert!(change(SchemaType::Avro, ORDER, &add, &[]).is_err());
        assert!(change(SchemaType::Json, "{}", &add, &[]).is_err());
    }

    #[test]
    fn the_fields_of_the_first_message_are_found() {
        let text = r#"syntax = "proto3"; // message Not { int32 a = 1; }
            message Order { string id = 1 [deprecated = true]; option deprecated = true;
              message Line { string sku = 1; } repeated Line lines = 2;
              oneof pay { string card = 3; string cash = 4; } reserved 5; }
            message Other { int32 no = 1; }"#;
        assert_eq!(message_fields(text), ["id", "lines", "card", "cash"]);
        assert!(message_fields("syntax = \"proto3\"").is_empty());
        assert!(message_fields("message M { string \" = 1;").is_empty());
    }
}
