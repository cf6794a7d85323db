//! A key from chosen fields of a JSON payload, for producers that send none.

use serde_json::Value;
use uuid::Uuid;

use super::{Key, canonical_json};

/// The namespace of all names made here; a random UUID, once and for good.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b9a_1c8e_70f4_4b0d_9d2e_a6c1_3f57_e842);

/// Why there is no key in a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldsError {
    /// No field was chosen: every message would be the same.
    #[error("no field is chosen for the idempotency key")]
    NoneChosen,
    /// The payload is absent or not JSON.
    #[error("the payload is not JSON, so it has no fields for an idempotency key: {0}")]
    NotJson(String),
    /// A chosen field is not there. Taking the others alone would make messages the same that differ.
    #[error("the payload has no field {0}, which the idempotency key is made of")]
    Missing(String),
}

/// The key that chosen fields of a JSON payload make: a UUID (version 5) of their canonical JSON,
/// in a namespace of `consumer`, so that two consumers never share a key. `pointers` are JSON pointers
/// (RFC 6901) to what names the operation: never times or other chance.
///
/// ```
/// use wharf_message::idempotency::of_fields;
///
/// let fields = ["/order", "/kind"];
/// let one = of_fields("billing", br#"{"order": 7, "kind": "charge", "at": "10:00"}"#, &fields);
/// let again = of_fields("billing", br#"{"at": "10:05", "kind": "charge", "order": 7}"#, &fields);
/// assert_eq!(one.unwrap(), again.unwrap());
/// ```
///
/// # Errors
/// [`FieldsError`], when the payload is no JSON or lacks one of them.
pub fn of_fields(consumer: &str, payload: &[u8], pointers: &[&str]) -> Result<Key, FieldsError> {
    if pointers.is_empty() {
        return Err(FieldsError::NoneChosen);
    }
    let payload: Value =
        serde_json::from_slice(payload).map_err(|error| FieldsError::NotJson(error.to_string()))?;
    let chosen = pointers.iter().map(|pointer| {
        let found = payload.pointer(pointer).cloned();
        let found = found.ok_or_else(|| FieldsError::Missing((*pointer).to_owned()))?;
        Ok(Value::Array(vec![Value::from(*pointer), found]))
    });
    let chosen = Value::Array(chosen.collect::<Result<_, _>>()?);
    let namespace = Uuid::new_v5(&NAMESPACE, consumer.as_bytes());
    let id = Uuid::new_v5(&namespace, canonical_json(&chosen).as_bytes());
    Ok(Key::operation(format!("fields:{consumer}"), id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(consumer: &str, payload: &str, pointers: &[&str]) -> String {
        of_fields(consumer, payload.as_bytes(), pointers)
            .expect("the fields are there")
            .id
    }

    #[test]
    fn equal_fields_make_one_key_however_they_are_written_and_others_another() {
        let fields = ["/order/id", "/amount"];
        let one = id("c", r#"{"order":{"id":7},"amount":10.0}"#, &fields);
        for same in [
            r#"{"amount":1e1,"order":{"id":7}}"#,
            r#"{ "order": {"id": 7, "at": "now"}, "amount": 10 }"#,
        ] {
            assert_eq!(id("c", same, &fields), one, "{same}");
        }
        for other in [
            r#"{"order":{"id":"7"},"amount":10}"#,
            r#"{"order":{"id":8},"amount":10}"#,
        ] {
            assert_ne!(id("c", other, &fields), one, "{other}");
        }
        let elsewhere = id("d", r#"{"order":{"id":7},"amount":10}"#, &fields);
        assert_ne!(elsewhere, one, "two consumers share no key");
    }

    #[test]
    fn values_that_change_places_make_another_key() {
        let fields = ["/a", "/b"];
        let one = id("c", r#"{"a":"x","b":"y"}"#, &fields);
        assert_ne!(id("c", r#"{"a":"y","b":"x"}"#, &fields), one);
    }

    #[test]
    fn a_payload_without_the_fields_has_no_key() {
        let error = |payload: &[u8], fields: &[&str]| of_fields("c", payload, fields).unwrap_err();
        assert_eq!(error(b"{}", &[]), FieldsError::NoneChosen);
        let missing = FieldsError::Missing("/b".to_owned());
        assert_eq!(error(br#"{"a":1}"#, &["/a", "/b"]), missing);
        assert!(matches!(error(b"\xff", &["/a"]), FieldsError::NotJson(_)));
        let deep = "[".repeat(100_000);
        assert!(matches!(
            error(deep.as_bytes(), &["/a"]),
            FieldsError::NotJson(_)
        ));
    }
}
