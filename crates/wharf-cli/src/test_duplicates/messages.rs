//! The messages to deliver, read from JSON Lines: what `wharf consume -o jsonl` prints, and what is
//! easier to write by hand.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use wharf_message::{Headers, Message, Timestamp};

use super::commands::Names;

/// The placeholder of the run's name.
const RUN: &str = "{run}";
/// More would take more than a day to deliver again and again.
const MESSAGES_MAX: usize = 10_000;

/// A line. What else is in a record that was consumed, its topic and its place, is of no use.
#[derive(Debug, Deserialize)]
struct Line {
    key: Option<Value>,
    #[serde(alias = "payload")]
    value: Option<Value>,
    #[serde(default)]
    headers: HeaderLines,
    time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum HeaderLines {
    Rows(Vec<HeaderLine>),
    Map(serde_json::Map<String, Value>),
}

impl Default for HeaderLines {
    fn default() -> Self {
        Self::Rows(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct HeaderLine {
    name: String,
    value: Option<Value>,
}

/// Reads the messages of a file, in order.
pub(super) fn read(path: &Path) -> Result<Vec<Message>> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut messages = Vec::new();
    for (at, line) in BufReader::new(File::open(path).with_context(cannot)?)
        .lines()
        .enumerate()
    {
        let line = line.with_context(cannot)?;
        if line.trim().is_empty() {
            continue;
        }
        anyhow::ensure!(
            messages.len() < MESSAGES_MAX,
            "more than {MESSAGES_MAX} messages"
        );
        let message = message(&line);
        messages.push(message.with_context(|| format!("{}:{}", path.display(), at + 1))?);
    }
    Ok(messages)
}

fn message(line: &str) -> Result<Message> {
    let known = [
        "key",
        "value",
        "payload",
        "headers",
        "time",
        "topic",
        "partition",
        "offset",
    ];
    let fields: serde_json::Map<String, Value> = serde_json::from_str(line)?;
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("unknown field {unknown:?}; there are {}", known.join(", "));
    }
    let line: Line = serde_json::from_str(line)?;
    let timestamp = line.time.map(|time| {
        Timestamp::parse_rfc3339(&time).with_context(|| format!("{time:?} is no time in UTC"))
    });
    let mut headers = Headers::default();
    match line.headers {
        HeaderLines::Rows(rows) => {
            for row in rows {
                headers.push_raw(row.name, content(row.value)?);
            }
        }
        HeaderLines::Map(map) => {
            for (name, value) in map {
                headers.push_raw(name, content(Some(value))?);
            }
        }
    }
    Ok(Message {
        key: content(line.key)?,
        payload: content(line.value)?,
        headers,
        timestamp: timestamp.transpose()?,
    })
}

/// Text is itself, `{"base64": …}` the bytes, null nothing, and all else its JSON.
fn content(value: Option<Value>) -> Result<Option<Bytes>> {
    Ok(match value {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.into()),
        Some(Value::Object(fields)) if fields.len() == 1 && fields.contains_key("base64") => {
            let text = fields["base64"].as_str().context("base64 has to be text")?;
            Some(
                STANDARD
                    .decode(text)
                    .context("base64 cannot be read")?
                    .into(),
            )
        }
        Some(other) => Some(other.to_string().into()),
    })
}

/// Whether the run's name is to be put into the messages.
pub(super) fn have_run(messages: &[Message]) -> bool {
    let has = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|text| text.contains(RUN));
    messages.iter().any(|message| {
        let parts = [&message.key, &message.payload].into_iter().flatten();
        let mut headers = message.headers.iter().filter_map(|(_, value)| value);
        parts.into_iter().any(|part| has(part)) || headers.any(has)
    })
}

/// The message with the run's name put in.
pub(super) fn for_run(message: &Message, names: &Names) -> Message {
    let put = |bytes: &Bytes| match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(RUN) => text.replace(RUN, &names.run).into(),
        _ => bytes.clone(),
    };
    let headers = message.headers.clone().into_entries().into_iter();
    Message {
        key: message.key.as_ref().map(put),
        payload: message.payload.as_ref().map(put),
        headers: headers
            .map(|(name, value)| (name, value.as_ref().map(put)))
            .collect(),
        timestamp: message.timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_consumed_and_what_is_written_by_hand_are_read() {
        let consumed = r#"{"topic":"t","partition":0,"offset":7,"time":"2026-01-01T00:00:00Z","key":"k","value":"{\"n\":1}","headers":[{"name":"ce_id","value":"1"},{"name":"b","value":{"base64":"/w=="}}]}"#;
        let one = message(consumed).unwrap();
        assert_eq!(one.payload.as_deref(), Some(&b"{\"n\":1}"[..]));
        assert_eq!(one.headers.get("b").map(|value| value[0]), Some(0xff));
        assert!(one.timestamp.is_some());
        let written = r#"{"key": "k", "payload": {"n": 1}, "headers": {"ce_id": "1"}}"#;
        let other = message(written).unwrap();
        assert_eq!((one.key, one.payload), (other.key, other.payload));
        assert_eq!(other.headers.text("ce_id"), Ok(Some("1")));
        assert_eq!(message("{}").unwrap().payload, None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for line in [
            "",
            "1",
            "{\"kye\": 1}",
            "{\"time\": \"noon\"}",
            "{\"value\": {\"base64\": \"?\"}}",
        ] {
            assert!(message(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_name_of_the_run_is_put_into_key_payload_and_headers() {
        let names = Names {
            run: "r1".to_owned(),
            ..Names::default()
        };
        let line = r#"{"key":"k-{run}","value":"v{run}","headers":{"ce_id":"{run}/1"}}"#;
        let original = message(line).unwrap();
        assert!(have_run(std::slice::from_ref(&original)));
        let changed = for_run(&original, &names);
        assert!(!have_run(std::slice::from_ref(&changed)));
        assert_eq!(changed.key.as_deref(), Some(&b"k-r1"[..]));
        assert_eq!(changed.headers.text("ce_id"), Ok(Some("r1/1")));
    }
}
