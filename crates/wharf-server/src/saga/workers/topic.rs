//! The protocol of workers that read a topic: what a command and a reply look like as records.
//!
//! Everything that a worker sends is taken for hostile: what cannot be read is a reason, never a
//! panic, and never an answer to another task than the one it names.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_message::Timestamp;
use wharf_message::ledger::Record;
use wharf_saga::machine::{Command, Data, Failure, Outcome, SagaId, TaskToken};

use super::claim;
use crate::saga::engine::NewSaga;

/// The topic that workers answer in.
pub(crate) const REPLIES: &str = "_wharf.saga-replies";
/// The topic whose records start sagas.
pub(crate) const STARTS: &str = "_wharf.saga-starts";
/// What a worker's error is called when it does not say.
const UNNAMED: &str = "States.TaskFailed";

/// The names and values that describe a command, for records and for requests alike.
pub(crate) fn names(command: &Command) -> Vec<(&'static str, String)> {
    let mut names = vec![
        ("saga-id", command.saga.to_string()),
        ("saga-type", command.saga_type.clone()),
        ("step", command.step.to_string()),
        ("step-name", command.step_name.clone()),
        ("attempt", command.attempt.to_string()),
        ("generation", command.generation.to_string()),
        ("idempotency-key", command.idempotency_key.clone()),
    ];
    if let Some(deadline) = command.deadline {
        names.push(("deadline", deadline.to_rfc3339()));
    }
    if command.undo {
        names.push(("undo", "true".to_owned()));
    }
    if let Some(trace) = &command.traceparent {
        names.push(("traceparent", trace.clone()));
    }
    names
}

/// A command as a record.
pub(crate) fn command(command: &Command, arguments: &Value, now: Timestamp) -> Record {
    let mut headers = names(command);
    headers.push(("reply-to", REPLIES.to_owned()));
    headers.extend([
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", command.token().to_string()),
        ("ce_source", format!("wharf:saga:{}", command.saga_type)),
        ("ce_type", format!("{}.command", command.step_name)),
        ("ce_time", now.to_rfc3339()),
        ("content-type", "application/json".to_owned()),
    ]);
    if let Some(correlation) = &command.correlation {
        headers.push(("ce_correlationid", correlation.clone()));
    }
    let reference = claim::headers(arguments);
    let value = claim::value(arguments, reference.is_some());
    headers.extend(reference.into_iter().flatten());
    let header = |(name, value): (&'static str, String)| {
        (
            Bytes::from_static(name.as_bytes()),
            Some(Bytes::from(value)),
        )
    };
    Record {
        timestamp: now,
        key: Some(Bytes::from(command.saga.to_string())),
        value: Some(value),
        headers: headers.into_iter().map(header).collect(),
    }
}

/// The value of a header; the last one counts, as with Kafka.
pub(crate) fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().rev();
    let mut found = found.filter(|(known, _)| known.as_ref() == name.as_bytes());
    std::str::from_utf8(found.next()?.1.as_deref()?).ok()
}

/// What a worker answered, and to which task.
pub(crate) fn reply(record: &Record) -> Result<(TaskToken, Outcome), String> {
    let required = |name: &str| {
        header(record, name).ok_or_else(|| format!("the header `{name}` is missing or no text"))
    };
    let number = |name: &str| {
        let text = required(name)?;
        let wrong = |_| format!("the header `{name}` is {text:?} and no number");
        text.parse::<u32>().map_err(wrong)
    };
    let id = required("saga-id")?;
    let token = TaskToken {
        saga: SagaId::parse(id).ok_or_else(|| format!("`saga-id` is {id:?} and no saga's"))?,
        step: number("step")?,
        generation: number("generation")?,
    };
    let said = required("saga-reply")?;
    let outcome = match said.to_ascii_uppercase().as_str() {
        "SUCCESS" => Outcome::Success(Data::from(payload(record)?)),
        "HEARTBEAT" => Outcome::Heartbeat,
        "ACCEPTED" => Outcome::Accepted,
        "BUSINESS_FAILURE" => Outcome::Failure(failure(record, true)),
        "RETRYABLE" => Outcome::Failure(failure(record, false)),
        _ => {
            return Err(format!(
                "`saga-reply` is {said:?} and none of SUCCESS, BUSINESS_FAILURE, RETRYABLE, \
                 HEARTBEAT and ACCEPTED"
            ));
        }
    };
    Ok((token, outcome))
}

fn payload(record: &Record) -> Result<Value, String> {
    if let Some(reference) = claim::taken(record)? {
        return Ok(reference);
    }
    match record.value.as_deref() {
        None | Some([]) => Ok(Value::Null),
        Some(bytes) => {
            serde_json::from_slice(bytes).map_err(|error| format!("the value is not JSON: {error}"))
        }
    }
}

fn failure(record: &Record, declared: bool) -> Failure {
    let value = payload(record).unwrap_or_else(|_no_json| {
        let text = record.value.as_deref().unwrap_or_default();
        json!({ "cause": String::from_utf8_lossy(text) })
    });
    let named = header(record, "saga-error").map(str::to_owned);
    failed(&value, named, declared)
}

/// A failure out of `{error, cause}`.
pub(crate) fn failed(value: &Value, named: Option<String>, declared: bool) -> Failure {
    let text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| value.get(name));
        found.map(|found| match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let error = named.or_else(|| text(["error", "Error"]));
    Failure {
        error: error
            .filter(|error| !error.is_empty())
            .unwrap_or_else(|| UNNAMED.to_owned()),
        cause: text(["cause", "Cause"]).unwrap_or_default(),
        declared,
    }
}

/// A saga that a record starts. Without a key of its own, the record's place is the key, so that it
/// starts one saga however often it is read.
pub(crate) fn start(record: &Record, place: &str) -> Result<NewSaga, String> {
    let saga_type = header(record, "saga-type");
    let saga_type = saga_type.ok_or("the header `saga-type` is missing or no text")?;
    let record_key = record.key.as_deref();
    let record_key = record_key.and_then(|key| std::str::from_utf8(key).ok());
    let key = header(record, "idempotency-key").or(header(record, "ce_id"));
    let key = key.or(record_key.filter(|key| !key.is_empty()));
    let mut attributes = BTreeMap::new();
    for (name, value) in &record.headers {
        let name = std::str::from_utf8(name).unwrap_or_default();
        if let Some(name) = name.strip_prefix("saga-attribute-") {
            let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
            attributes.insert(name.to_owned(), value.into_owned());
        }
    }
    let correlation = header(record, "correlation-id").or(header(record, "ce_correlationid"));
    Ok(NewSaga {
        saga_type: saga_type.to_owned(),
        version: header(record, "saga-version").map(str::to_owned),
        key: Some(key.map_or_else(|| format!("{STARTS}/{place}"), str::to_owned)),
        input: payload(record)?,
        correlation_id: correlation.map(str::to_owned),
        attributes,
        traceparent: header(record, "traceparent").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[(&'static str, &'static str)], value: &'static str) -> Record {
        let header = |(name, value): &(&'static str, &'static str)| {
            (
                Bytes::from_static(name.as_bytes()),
                Some(Bytes::from_static(value.as_bytes())),
            )
        };
        Record {
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: headers.iter().map(header).collect(),
            ..Record::default()
        }
    }

    const ID: &str = "7f6b1c52-93d4-5e0a-8a41-6c0e57a9d1b3";

    fn sent(reply: &'static str, value: &'static str) -> Record {
        let named = [
            ("saga-id", ID),
            ("step", "3"),
            ("generation", "7"),
            ("saga-reply", reply),
        ];
        record(&named, value)
    }

    #[test]
    fn a_reply_names_its_task_and_says_what_came_of_it() {
        let (token, outcome) = reply(&sent("SUCCESS", r#"{"a":1}"#)).unwrap();
        assert_eq!(token.to_string(), format!("{ID}.3.7"));
        assert_eq!(outcome, Outcome::Success(Data::from(json!({ "a": 1 }))));
        let (_, outcome) = reply(&sent(
            "business_failure",
            r#"{"error":"Declined","cause":"no"}"#,
        ))
        .unwrap();
        let failure = |error: &str, cause: &str, declared| {
            Outcome::Failure(Failure {
                error: error.to_owned(),
                cause: cause.to_owned(),
                declared,
            })
        };
        assert_eq!(outcome, failure("Declined", "no", true));
        let (_, outcome) = reply(&sent("RETRYABLE", "it broke")).unwrap();
        assert_eq!(outcome, failure(UNNAMED, "it broke", false));
        assert_eq!(reply(&sent("HEARTBEAT", "")).unwrap().1, Outcome::Heartbeat);
    }

    #[test]
    fn a_reply_that_cannot_be_read_says_why() {
        for (bad, why) in [
            (record(&[], ""), "`saga-id`"),
            (record(&[("saga-id", "x"), ("step", "1")], ""), "no saga's"),
            (record(&[("saga-id", ID), ("step", "-1")], ""), "no number"),
            (sent("PERHAPS", ""), "none of SUCCESS"),
            (sent("SUCCESS", "{"), "not JSON"),
        ] {
            let reason = reply(&bad).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
    }
}
