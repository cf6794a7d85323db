//! From a place in a schema to the field of a record that stands there, so that what a consumer
//! reads can be compared with what changes.

use serde_json::Value;

use crate::model::SchemaType;

/// How many names of types are followed on the way to a place.
const NAMES_MAX: usize = 64;

/// The field at a path, with dots between the levels; none where it is the whole record.
pub(super) fn field_at(kind: SchemaType, text: &str, path: &str) -> Option<String> {
    let names = match kind {
        SchemaType::Avro => avro(text, path),
        SchemaType::Json => json(path),
        SchemaType::Protobuf => protobuf(path),
    };
    match names.is_empty() {
        true => None,
        false => Some(names.join(".")),
    }
}

/// Whether a consumer that reads `fields` meets the field `changed`. One may be within the other.
pub(super) fn meets(fields: &[String], changed: Option<&str>) -> bool {
    let Some(changed) = changed else {
        return true;
    };
    let within = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut fields = fields.iter();
    fields.any(|field| within(field, changed) || within(changed, field))
}

fn segments(path: &str) -> impl Iterator<Item = String> {
    let trimmed = path.trim_start_matches('#');
    let plain = |segment: &str| segment.replace("~1", "/").replace("~0", "~");
    let segments = trimmed.split('/').filter(|segment| !segment.is_empty());
    segments.map(plain)
}

fn avro(text: &str, path: &str) -> Vec<String> {
    let Ok(schema) = serde_json::from_str::<Value>(text) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    let mut here = &schema;
    let mut followed = 0;
    for segment in segments(path) {
        // Behind a name the path goes on in the type of that name.
        while let (Value::String(name), true) = (here, followed < NAMES_MAX) {
            followed += 1;
            match definition(&schema, name) {
                Some(found) => here = found,
                None => break,
            }
        }
        let next = match here {
            Value::Array(list) => segment.parse().ok().and_then(|at: usize| list.get(at)),
            other => other.get(segment.as_str()),
        };
        let Some(next) = next else {
            break;
        };
        // An element of a list that has a name and a type, but no fields of its own, is a field.
        if let (Value::Array(_), Some(name)) = (here, next["name"].as_str())
            && next.get("fields").is_none()
            && next.get("symbols").is_none()
            && next.get("size").is_none()
        {
            names.push(name.to_owned());
        }
        here = next;
    }
    names
}

/// The definition of a name, by its last part.
fn definition<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(name);
    let mut left = vec![schema];
    while let Some(here) = left.pop() {
        let is_type = matches!(here["type"].as_str(), Some("record" | "enum" | "fixed"));
        if is_type && here["name"].as_str().map(last).as_deref() == Some(&wanted) {
            return Some(here);
        }
        match here {
            Value::Array(list) => left.extend(list),
            Value::Object(object) => left.extend(
                object
                    .values()
                    .filter(|value| value.is_object() || value.is_array()),
            ),
            _ => {}
        }
    }
    None
}

/// What follows `properties` are names of properties.
fn json(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut segments = segments(path);
    while let Some(segment) = segments.next() {
        if matches!(segment.as_str(), "properties" | "required") {
            names.extend(segments.next());
        }
    }
    names
}

/// The name of a field comes last; what begins with a capital is a message.
fn protobuf(path: &str) -> Vec<String> {
    let last = path
        .split(['.', '/'])
        .next_back()
        .filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
    last.map(str::to_owned).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "first", "type": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}]}},
        {"name": "others", "type": {"type": "array", "items": "Line"}},
        {"name": "maybe", "type": ["null", "long"]}]}"#;

    #[test]
    fn places_become_fields() {
        let avro = |path| field_at(SchemaType::Avro, ORDER, path);
        assert_eq!(avro("/").as_deref(), None);
        assert_eq!(avro("/fields/0").as_deref(), Some("first"));
        assert_eq!(
            avro("/fields/0/type/fields/0/type").as_deref(),
            Some("first.sku")
        );
        assert_eq!(
            avro("/fields/1/type/items/fields/0").as_deref(),
            Some("others.sku")
        );
        assert_eq!(avro("/fields/2/type/1").as_deref(), Some("maybe"));
        let json = |path| field_at(SchemaType::Json, "{}", path);
        assert_eq!(json("#/").as_deref(), None);
        assert_eq!(
            json("#/properties/lines/items/properties/sku/type").as_deref(),
            Some("lines.sku")
        );
        let protobuf = |path| field_at(SchemaType::Protobuf, "", path);
        assert_eq!(protobuf("shop.Order.card").as_deref(), Some("card"));
        assert_eq!(protobuf("shop.Order").as_deref(), None);
    }

    #[test]
    fn a_field_is_met_from_outside_and_from_inside() {
        let fields = ["lines.sku".to_owned(), "total".to_owned()];
        assert!(meets(&fields, Some("lines")));
        assert!(meets(&fields, Some("total.cents")));
        assert!(meets(&fields, None));
        assert!(!meets(&fields, Some("lines.skus")));
        assert!(!meets(&fields, Some("card")));
    }
}
