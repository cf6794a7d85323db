//! What an outbox router is told: the columns by their names, where they go, and the topic.
//!
//! Everything that Debezium's router can be told about a table is here, under Debezium's defaults.

use std::str::FromStr;

/// How rows become messages. The defaults are Debezium's, and so is what each setting means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// The column that becomes the header `id`.
    pub id: String,
    /// The column that becomes the key.
    pub key: String,
    /// The column that becomes the CloudEvents type.
    pub event_type: String,
    /// The column that becomes the value.
    pub payload: String,
    /// The column whose JSON object becomes headers; it may be missing.
    pub headers: String,
    /// The column with a trace context, W3C or as Java `Properties`; it may be missing.
    pub tracing: String,
    /// The column with the time of the message; else it is the time of the commit.
    pub timestamp: Option<String>,
    /// The column that decides the topic.
    pub route_by: String,
    /// What the value of [`Self::route_by`] is matched with, whole; a value that does not match is
    /// the topic.
    pub pattern: Option<String>,
    /// The topic: `{column}`, `${routedByValue}`, and the groups of [`Self::pattern`]. Unset:
    /// `outbox.event.` and the value of [`Self::route_by`].
    pub topic: Option<String>,
    /// Columns placed beside.
    pub additional: Vec<Placement>,
    /// What an additional column that the table lacks means.
    pub missing: Missing,
    /// Whether payloads of JSON are taken apart and written anew.
    pub expand_json: bool,
    /// What becomes of null fields in an expanded payload.
    pub null_fields: NullFields,
    /// What becomes of fields with empty arrays in an expanded payload.
    pub empty_arrays: EmptyArrays,
    /// Whether a blank payload is a tombstone, as one that is NULL is wherever it is not JSON.
    pub tombstone_on_empty: bool,
    /// Whether keys are JSON: a text in quotes, NULL as `null`.
    pub json_keys: bool,
    /// Whether values are JSON: a text in quotes, bytes in base64, NULL as `null`.
    pub json_values: bool,
    /// The CloudEvents source of rows that do not say it themselves.
    pub source: String,
    /// Exactly what Debezium sends and nothing else: no CloudEvents, no headers from
    /// [`Self::headers`], no trace; and JSON letter by letter as Connect's `JsonConverter` writes it,
    /// also of a payload that cannot be expanded; and Debezium's numbers for times without a zone.
    pub debezium_headers_only: bool,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            id: "id".to_owned(),
            key: "aggregateid".to_owned(),
            event_type: "type".to_owned(),
            payload: "payload".to_owned(),
            headers: "headers".to_owned(),
            tracing: "tracingspancontext".to_owned(),
            timestamp: None,
            route_by: "aggregatetype".to_owned(),
            pattern: None,
            topic: None,
            additional: Vec::new(),
            missing: Missing::Error,
            expand_json: false,
            null_fields: NullFields::Ignore,
            empty_arrays: EmptyArrays::Ignore,
            tombstone_on_empty: false,
            json_keys: false,
            json_values: false,
            source: "wharf:outbox".to_owned(),
            debezium_headers_only: false,
        }
    }
}

/// A column placed beside the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The column.
    pub column: String,
    /// Where its value goes.
    pub place: Where,
    /// The name it has there.
    pub alias: String,
}

/// Where an additional column goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Into a header.
    Header,
    /// Beside the payload, in an object that is the value then.
    Envelope,
    /// It is the number of the partition.
    Partition,
}

impl FromStr for Placement {
    type Err = String;

    /// Reads `column:header`, `column:header:alias`, `column:envelope:alias` or `column:partition`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no placement; write column:header, column:envelope or column:partition, \
                 and :alias behind it for another name"
            )
        };
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (column, place, alias) = match parts[..] {
            [column, place] => (column, place, column),
            [column, place, alias] => (column, place, alias),
            _ => return Err(wrong()),
        };
        let place = match place.to_ascii_lowercase().as_str() {
            "header" => Where::Header,
            "envelope" => Where::Envelope,
            "partition" => Where::Partition,
            _ => return Err(wrong()),
        };
        if column.is_empty() || alias.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            column: column.to_owned(),
            place,
            alias: alias.to_owned(),
        })
    }
}

/// What an additional column that the table lacks means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// The row is set aside.
    #[default]
    Error,
    /// It is left out.
    Ignore,
}

/// What becomes of null fields in an expanded payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NullFields {
    /// They are left out.
    #[default]
    Ignore,
    /// They stay (`optional_bytes` in Debezium's words).
    Keep,
}

/// What becomes of fields with empty arrays in an expanded payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyArrays {
    /// They are left out.
    #[default]
    Ignore,
    /// They stay (`optional_string` in Debezium's words).
    Keep,
}

/// A setting of a router that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct InvalidSetting {
    /// Which one, by its name in `wharf.toml`.
    pub setting: &'static str,
    /// What is wrong with it.
    pub reason: String,
}
