//! Rows without a table: what `pg_logical_emit_message(true, 'wharf_outbox', …)` wrote, as
//! `docs/specs/outbox-table.md` has it.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{Column, Columns, Kind};

/// The prefix of such messages.
pub(crate) const PREFIX: &str = "wharf_outbox";

/// The columns of the outbox table that a message can have.
static COLUMNS: LazyLock<Columns> = LazyLock::new(|| {
    let column = |(name, kind): (&str, Kind)| Column {
        name: name.to_owned(),
        kind,
    };
    let columns = [
        ("id", Kind::Uuid),
        ("aggregatetype", Kind::Text),
        ("aggregateid", Kind::Text),
        ("type", Kind::Text),
        ("payload", Kind::Bytes),
        ("headers", Kind::Json),
    ];
    columns.map(column).into_iter().collect()
});

/// The row that a message is; `None` when it is none.
pub(crate) fn row(content: &[u8]) -> Option<(Columns, Vec<Option<Bytes>>)> {
    let content: Map<String, Value> = serde_json::from_slice(content).ok()?;
    let mut values = Vec::with_capacity(COLUMNS.len());
    for column in COLUMNS.iter() {
        let value = match (content.get(&column.name), column.kind == Kind::Json) {
            (Some(Value::Null), _) => None,
            (Some(Value::String(text)), false) => Some(Bytes::copy_from_slice(text.as_bytes())),
            (Some(json), true) => Some(Bytes::from(json.to_string())),
            (Some(_), false) => return None,
            (None, _) if column.name == "payload" => match content.get("payload_base64") {
                Some(Value::String(text)) => Some(STANDARD.decode(text).ok()?.into()),
                Some(_) => return None,
                None => None,
            },
            (None, _) => None,
        };
        values.push(value);
    }
    Some((Arc::clone(&COLUMNS), values))
}

/// A row that no message can be made of, for what is no row: so that it is set aside and kept.
pub(crate) fn unreadable(content: &Bytes) -> (Columns, Vec<Option<Bytes>>) {
    let mut values = vec![None; COLUMNS.len()];
    values[4] = Some(content.clone());
    (Arc::clone(&COLUMNS), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(content: &str) -> Option<Vec<Option<String>>> {
        let (_, values) = row(content.as_bytes())?;
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        Some(values.into_iter().map(|value| value.map(text)).collect())
    }

    #[test]
    fn a_message_is_a_row_with_its_payload_as_text_or_as_base64() {
        let content = r#"{"id":"i","aggregatetype":"t","aggregateid":"k","type":"y",
            "payload":"{}","headers":{"a":"1"}}"#;
        let expected = ["i", "t", "k", "y", "{}", r#"{"a":"1"}"#];
        let expected = expected.map(|it| Some(it.to_owned())).to_vec();
        assert_eq!(texts(content), Some(expected));
        let content = br#"{"id":"i","payload_base64":"/wA="}"#;
        assert_eq!(row(content).unwrap().1[4].as_deref(), Some(&[0xff, 0][..]));
        assert_eq!(texts(r#"{"payload":null}"#).unwrap()[4], None);
    }

    #[test]
    fn what_is_no_row_is_kept_to_be_set_aside() {
        for content in ["", "[]", r#"{"id":1}"#, r#"{"payload_base64":"?"}"#] {
            assert_eq!(texts(content), None, "{content}");
        }
        let (_, values) = unreadable(&"nonsense".into());
        assert_eq!(values[4].as_deref(), Some(&b"nonsense"[..]));
        assert_eq!(values.iter().flatten().count(), 1);
    }
}
