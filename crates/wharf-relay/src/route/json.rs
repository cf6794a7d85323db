//! JSON that keeps the order of its fields and its numbers as they are written, and the expansion of
//! payloads as Debezium does it.
//!
//! Invariant: nesting is bounded by serde_json's own limit, so no document overflows the stack.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Number;

use super::settings::{EmptyArrays, NullFields};

/// A document. A field that is repeated has its last value, at the place of the first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As compact text.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("a document always has a text form")
    }

    /// What values of an array have in common. Java tells numbers of 32 bits from those of 64.
    fn kind(&self, exact: bool) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(number) => match number.as_i64() {
                Some(whole) if exact && i32::try_from(whole).is_err() => 3,
                _ => 2 + 2 * u8::from(number.is_f64()),
            },
            Self::Text(_) => 5,
            Self::Array(_) => 6,
            Self::Object(_) => 7,
        }
    }
}

/// How fields without a value are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expansion {
    pub(super) nulls: NullFields,
    pub(super) arrays: EmptyArrays,
    /// Whether what Debezium cannot express is refused although it could be written.
    pub(super) exact: bool,
}

impl Expansion {
    /// The document as Debezium's schema inference leaves it: fields that are null or an empty array
    /// are gone unless they are to be kept, and the objects of one array all have the same fields.
    ///
    /// The error names what the inference cannot express: an array of different kinds of values.
    pub(super) fn apply(self, document: Json) -> Result<Json, String> {
        match document {
            Json::Object(fields) => {
                let mut kept = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let is_dropped = match &value {
                        Json::Null => self.nulls == NullFields::Ignore,
                        Json::Array(values) => {
                            values.is_empty() && self.arrays == EmptyArrays::Ignore
                        }
                        _ => false,
                    };
                    if !is_dropped {
                        let value = self.apply(value).map_err(|why| format!("{name}: {why}"))?;
                        kept.push((name, value));
                    }
                }
                Ok(Json::Object(kept))
            }
            Json::Array(values) => self.array(values),
            plain => Ok(plain),
        }
    }

    fn array(self, values: Vec<Json>) -> Result<Json, String> {
        let mut kinds = values.iter().filter(|value| **value != Json::Null);
        let first = kinds.next();
        if let Some(first) = first
            && kinds.any(|value| value.kind(self.exact) != first.kind(self.exact))
        {
            return Err("the values of an array are not of one kind".to_owned());
        }
        let is_unknown = match first {
            None => !values.is_empty() && self.nulls == NullFields::Ignore,
            Some(Json::Array(within)) => within.is_empty() && self.arrays == EmptyArrays::Ignore,
            Some(_) => false,
        };
        if self.exact && is_unknown {
            return Err("the values of an array are of no known kind".to_owned());
        }
        let values: Result<Vec<Json>, String> =
            values.into_iter().map(|value| self.apply(value)).collect();
        let mut values = values?;
        let mut names: Vec<String> = Vec::new();
        for value in &values {
            if let Json::Object(fields) = value {
                for (name, _) in fields {
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
            }
        }
        for value in &mut values {
            if let Json::Object(fields) = value
                && !fields.iter().map(|(name, _)| name).eq(&names)
            {
                let mut of = |name: &String| {
                    let at = fields.iter().position(|(known, _)| known == name);
                    at.map_or(Json::Null, |at| {
                        std::mem::replace(&mut fields[at].1, Json::Null)
                    })
                };
                let all = names.iter().map(|name| (name.clone(), of(name))).collect();
                *fields = all;
            }
        }
        Ok(Json::Array(values))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Array(values) => serializer.collect_seq(values),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Documents)
    }
}

struct Documents;

impl<'de> Visitor<'de> for Documents {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON document")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Json, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = values.next_element()? {
            array.push(value);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while let Some((name, value)) = entries.next_entry::<String, Json>()? {
            match places.get(&name) {
                Some(&at) => fields[at] = (name, value),
                None => {
                    places.insert(name.clone(), fields.len());
                    fields.push((name, value));
                }
            }
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str, nulls: NullFields, arrays: EmptyArrays) -> Result<String, String> {
        let document = Json::parse(text.as_bytes()).expect("the cases are JSON");
        let expansion = Expansion {
            nulls,
            arrays,
            exact: true,
        };
        Ok(expansion.apply(document)?.text())
    }

    #[test]
    fn nulls_and_empty_arrays_vanish_unless_they_are_kept() {
        let text = r#"{"b": 1, "a": null, "c": [], "d": {"e": [], "f": [1, 2]}, "g": ""}"#;
        let gone = expanded(text, NullFields::Ignore, EmptyArrays::Ignore);
        assert_eq!(gone.as_deref(), Ok(r#"{"b":1,"d":{"f":[1,2]},"g":""}"#));
        let kept = expanded(text, NullFields::Keep, EmptyArrays::Keep);
        let all = r#"{"b":1,"a":null,"c":[],"d":{"e":[],"f":[1,2]},"g":""}"#;
        assert_eq!(kept.as_deref(), Ok(all));
    }

    #[test]
    fn the_objects_of_an_array_have_the_same_fields() {
        let text = r#"[{"a": 1, "x": null}, {"b": 2, "a": 3}]"#;
        let all = expanded(text, NullFields::Ignore, EmptyArrays::Ignore);
        assert_eq!(all.as_deref(), Ok(r#"[{"a":1,"b":null},{"a":3,"b":2}]"#));
        let mixed = expanded(
            r#"{"f": [1, "a"]}"#,
            NullFields::Ignore,
            EmptyArrays::Ignore,
        );
        assert_eq!(
            mixed.unwrap_err(),
            "f: the values of an array are not of one kind"
        );
    }

    #[test]
    fn an_array_that_debezium_has_no_schema_for_is_not_expanded() {
        let (ignore, keep) = (NullFields::Ignore, NullFields::Keep);
        let without = EmptyArrays::Ignore;
        for text in [
            "[1,2147483648]",
            "[1,1.5]",
            "[null]",
            "[[]]",
            "[[],[1]]",
            r#"{"a":[{},1]}"#,
        ] {
            assert!(expanded(text, ignore, without).is_err(), "{text}");
        }
        for text in ["[1,null]", "[2147483648,-2147483649]", "[[1],[]]", "[{}]"] {
            let same = expanded(text, ignore, without);
            assert_eq!(same.as_deref(), Ok(text));
        }
        let kept = expanded("[[null],[]]", keep, without);
        assert_eq!(kept.as_deref(), Ok("[[null],[]]"));
        let kept = expanded("[[]]", ignore, EmptyArrays::Keep);
        assert_eq!(kept.as_deref(), Ok("[[]]"));
        let lenient = Expansion {
            nulls: ignore,
            arrays: without,
            exact: false,
        };
        let wide = Json::parse(b"[1,2147483648,[null]]").expect("it is JSON");
        assert!(lenient.apply(wide).is_err(), "not of one kind for anybody");
        let wide = Json::parse(b"[[1,2147483648],[null]]").expect("it is JSON");
        assert!(lenient.apply(wide).is_ok());
    }

    #[test]
    fn a_repeated_field_has_its_last_value_and_deep_nesting_is_refused() {
        let read = Json::parse(br#"{"z":1,"a":2,"z":1.50}"#).expect("it is JSON");
        assert_eq!(read.text(), r#"{"z":1.5,"a":2}"#);
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
