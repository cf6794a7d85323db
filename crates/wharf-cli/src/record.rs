//! One record as it is shown: a line for people, a document for programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde::Serialize;

use crate::output::Format;
use crate::place::show_time;

/// Text where the bytes are text, base64 where they are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Content {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes {
        /// The bytes in base64.
        base64: String,
    },
}

impl Content {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text(text) => text
                .escape_debug()
                .collect::<String>()
                .replace("\\\"", "\""),
            Self::Bytes { base64 } => format!("base64:{base64}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct HeaderRow {
    name: String,
    value: Option<Content>,
}

/// A record as a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    topic: String,
    partition: i32,
    offset: i64,
    time: Option<String>,
    key: Option<Content>,
    value: Option<Content>,
    headers: Vec<HeaderRow>,
}

impl Record {
    pub(crate) fn new(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| HeaderRow {
                    name: header.key.to_owned(),
                    value: header.value.map(Content::new),
                })
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            time: message.timestamp().to_millis().map(show_time),
            key: message.key().map(Content::new),
            value: message.payload().map(Content::new),
            headers: headers.unwrap_or_default(),
        }
    }

    /// Writes it. As a table: place, time, key, value, headers if there are any.
    pub(crate) fn write(&self, format: Format, out: &mut Vec<u8>) -> anyhow::Result<()> {
        match format {
            Format::Table => out.extend_from_slice(self.line().as_bytes()),
            Format::Yaml => {
                out.extend_from_slice(b"---\n");
                out.extend_from_slice(serde_yaml_ng::to_string(self)?.trim_end().as_bytes());
            }
            Format::Json => serde_json::to_writer_pretty(&mut *out, self)?,
            Format::Jsonl => serde_json::to_writer(&mut *out, self)?,
        }
        out.push(b'\n');
        Ok(())
    }

    fn line(&self) -> String {
        let shown =
            |content: &Option<Content>| content.as_ref().map_or("null".to_owned(), Content::show);
        let mut line = format!(
            "{}[{}] {:>8}  {}  {}  {}",
            self.topic,
            self.partition,
            self.offset,
            self.time.as_deref().unwrap_or("-"),
            shown(&self.key),
            shown(&self.value)
        );
        for header in &self.headers {
            line.push_str(&format!("  {}={}", header.name, shown(&header.value)));
        }
        line
    }
}
