//! The router over rows made by hand; beside it, what Debezium's documentation shows.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use wharf_message::{Timestamp, header};

use super::{EmptyArrays, Missing, OutboxRouter, OutboxSettings, Routed, Router as _, Unroutable};
use crate::{Column, Kind, Place, Row};

const ID: &str = "406c07f3-26f0-4eea-a50c-109940064b8f";

fn row(columns: &[(&str, Kind, Option<&str>)]) -> Row {
    let column = |(name, kind, _): &(&str, Kind, _)| Column {
        name: (*name).to_owned(),
        kind: kind.clone(),
    };
    let values = columns
        .iter()
        .map(|(_, _, value)| value.map(|value| Bytes::copy_from_slice(value.as_bytes())));
    Row {
        place: Place {
            commit: 7,
            ordinal: 1,
        },
        committed_at: Some(Timestamp::from_millis(1_556_890_294_484)),
        columns: columns.iter().map(column).collect::<Vec<_>>().into(),
        values: values.collect(),
    }
}

/// The row of Debezium's documentation, with other columns behind it.
fn order(payload: Option<&str>, more: &[(&str, Kind, Option<&str>)]) -> Row {
    let mut columns = vec![
        ("id", Kind::Uuid, Some(ID)),
        ("aggregatetype", Kind::Text, Some("Order")),
        ("aggregateid", Kind::Text, Some("1")),
        ("type", Kind::Text, Some("OrderCreated")),
        ("payload", Kind::Json, payload),
    ];
    columns.extend_from_slice(more);
    row(&columns)
}

fn route_with(settings: OutboxSettings, row: &Row) -> Result<Routed, Unroutable> {
    let router = OutboxRouter::new(settings, || Timestamp::ZERO).expect("valid settings");
    router
        .route(row)
        .map(|routed| routed.expect("every row is sent"))
}

fn shown(routed: &Routed) -> Vec<String> {
    let headers = routed.message.headers.iter();
    let text = |value| String::from_utf8_lossy(value).into_owned();
    headers
        .map(|(name, value)| format!("{name}: {}", value.map_or("-".to_owned(), text)))
        .collect()
}

fn payload(routed: &Routed) -> Option<String> {
    let payload = routed.message.payload.as_ref();
    payload.map(|payload| String::from_utf8_lossy(payload).into_owned())
}

fn exact() -> OutboxSettings {
    OutboxSettings {
        debezium_headers_only: true,
        ..OutboxSettings::default()
    }
}

fn placed(settings: OutboxSettings, additional: &[&str]) -> OutboxSettings {
    let additional = additional
        .iter()
        .map(|text| text.parse().expect("a placement"));
    OutboxSettings {
        additional: additional.collect(),
        ..settings
    }
}

#[test]
fn the_example_of_debeziums_documentation_gives_its_topic_key_header_and_value() {
    let text = r#"{"id": 1, "lineItems": [{"id": 1}]}"#;
    let routed = route_with(exact(), &order(Some(text), &[])).expect("routed");
    assert_eq!(routed.topic.as_str(), "outbox.event.Order");
    assert_eq!(routed.message.key.as_deref(), Some(&b"1"[..]));
    assert_eq!(shown(&routed), [format!("id: {ID}")]);
    assert_eq!(payload(&routed).as_deref(), Some(text), "byte by byte");
    assert_eq!(
        routed.message.timestamp,
        Some(Timestamp::from_millis(1_556_890_294_484))
    );
    assert_eq!(routed.partition, None);
}

#[test]
fn cloud_events_stand_beside_the_id_unless_the_row_says_them_itself() {
    let routed = route_with(OutboxSettings::default(), &order(Some("{}"), &[])).expect("routed");
    let expected = [
        &format!("id: {ID}"),
        &format!("ce_id: {ID}"),
        "ce_source: wharf:outbox",
        "ce_specversion: 1.0",
        "ce_type: OrderCreated",
        "ce_time: 2019-05-03T13:31:34.484Z",
        "ce_subject: 1",
        "content-type: application/json",
    ];
    assert_eq!(shown(&routed), expected);
    let own = r#"{"ce_type": "shop.placed", "content-type": "text/plain", "id": "other", "n": 3, "none": null}"#;
    let row = order(Some("{}"), &[("headers", Kind::Json, Some(own))]);
    let routed = route_with(OutboxSettings::default(), &row).expect("routed");
    let headers = &routed.message.headers;
    assert_eq!(headers.text("ce_type"), Ok(Some("shop.placed")));
    assert_eq!(headers.text("content-type"), Ok(Some("text/plain")));
    assert_eq!(
        headers.text("id"),
        Ok(Some(ID)),
        "the row's id is never another one"
    );
    assert_eq!(headers.text("n"), Ok(Some("3")));
    assert!(headers.contains("none") && headers.get("none").is_none());
    let exactly = route_with(exact(), &row).expect("routed");
    assert_eq!(
        exactly.message.headers.len(),
        1,
        "Debezium knows no such column"
    );
}

#[test]
fn a_row_without_a_type_has_that_of_its_topic_and_an_empty_one_has_none() {
    let with = |value| {
        row(&[
            ("id", Kind::Uuid, Some(ID)),
            ("aggregatetype", Kind::Text, Some("Order")),
            ("type", Kind::Text, value),
            ("payload", Kind::Bytes, Some("p")),
        ])
    };
    for (value, expected) in [
        (None, Some("Order")),
        (Some(""), None),
        (Some("t"), Some("t")),
    ] {
        let routed = route_with(OutboxSettings::default(), &with(value)).expect("routed");
        assert_eq!(routed.message.headers.text(header::CE_TYPE), Ok(expected));
        assert!(
            !routed.message.headers.contains(header::CONTENT_TYPE),
            "bytes are of no known type"
        );
    }
}

#[test]
fn additional_columns_go_to_headers_the_envelope_and_the_partition() {
    let more = [
        ("version", Kind::Integer, Some("2")),
        ("is_deleted", Kind::Boolean, Some("false")),
        ("raw", Kind::Bytes, Some("abc")),
        ("nothing", Kind::Text, None),
        ("shard", Kind::Integer, Some("4")),
    ];
    let row = order(Some(r#"{"a":1}"#), &more);
    let names = [
        "type:header:eventType",
        "raw:header",
        "nothing:header:none",
        "shard:partition",
    ];
    let routed = route_with(placed(exact(), &names), &row).expect("routed");
    let id = format!("id: {ID}");
    assert_eq!(
        shown(&routed),
        [&id, "eventType: OrderCreated", "raw: YWJj", "none: -"]
    );
    assert_eq!(routed.partition, Some(4));
    let names = [
        "type:envelope:eventType",
        "version:envelope",
        "is_deleted:envelope:gone",
        "raw:envelope",
        "nothing:envelope",
    ];
    let routed = route_with(placed(exact(), &names), &row).expect("routed");
    let envelope = r#"{"payload":"{\"a\":1}","eventType":"OrderCreated","version":2,"gone":false,"raw":"YWJj","nothing":null}"#;
    assert_eq!(payload(&routed).as_deref(), Some(envelope));
    let expanded = OutboxSettings {
        expand_json: true,
        ..placed(exact(), &["type:envelope"])
    };
    let routed = route_with(expanded, &row).expect("routed");
    assert_eq!(
        payload(&routed).as_deref(),
        Some(r#"{"payload":{"a":1},"type":"OrderCreated"}"#)
    );
}

#[test]
fn a_missing_additional_column_is_an_error_or_left_out() {
    let row = order(Some("{}"), &[]);
    let settings = placed(exact(), &["tenant:header"]);
    let Unroutable(why) = route_with(settings.clone(), &row).expect_err("it is missing");
    assert!(why.contains("no column \"tenant\""), "{why}");
    let ignoring = OutboxSettings {
        missing: Missing::Ignore,
        ..settings
    };
    assert_eq!(
        shown(&route_with(ignoring, &row).expect("routed")),
        [format!("id: {ID}")]
    );
}

#[test]
fn payloads_are_expanded_as_debezium_does_and_what_is_no_json_is_set_aside() {
    let expand = |settings| OutboxSettings {
        expand_json: true,
        ..settings
    };
    let text = r#"{ "b": [], "a": null, "n": 12345678901234, "f": 1.0 }"#;
    let row = order(Some(text), &[]);
    let routed = route_with(expand(exact()), &row).expect("routed");
    assert_eq!(
        payload(&routed).as_deref(),
        Some(r#"{"n":12345678901234,"f":1.0}"#)
    );
    let keep = OutboxSettings {
        empty_arrays: EmptyArrays::Keep,
        ..expand(exact())
    };
    let routed = route_with(keep, &row).expect("routed");
    assert_eq!(
        payload(&routed).as_deref(),
        Some(r#"{"b":[],"n":12345678901234,"f":1.0}"#)
    );
    for broken in ["plain", "{broken", r#"{"a":[1,"b"]}"#] {
        let row = order(Some(broken), &[]);
        let as_it_is = route_with(expand(exact()), &row).expect("Debezium passes it on");
        let text = serde_json::Value::from(broken).to_string();
        assert_eq!(payload(&as_it_is), Some(text), "as a text, in JSON");
        let Unroutable(why) =
            route_with(expand(OutboxSettings::default()), &row).expect_err("no JSON");
        assert!(
            why.contains("the column \"payload\" is") && why.contains("expand-json"),
            "{why}"
        );
    }
}

#[test]
fn where_values_are_json_null_is_one_too_unless_it_is_a_tombstone() {
    let expanded = OutboxSettings {
        expand_json: true,
        ..exact()
    };
    let null = order(None, &[]);
    let routed = route_with(expanded.clone(), &null).expect("routed");
    assert_eq!(payload(&routed).as_deref(), Some("null"));
    let tombstones = OutboxSettings {
        tombstone_on_empty: true,
        ..expanded
    };
    assert_eq!(
        payload(&route_with(tombstones, &null).expect("routed")),
        None
    );
    let ours = OutboxSettings {
        expand_json: true,
        ..OutboxSettings::default()
    };
    assert_eq!(payload(&route_with(ours, &null).expect("routed")), None);
}

#[test]
fn an_empty_payload_is_a_tombstone_where_that_is_switched_on_and_null_always_is() {
    let tombstones = || OutboxSettings {
        tombstone_on_empty: true,
        ..exact()
    };
    for (settings, value, expected) in [
        (exact(), None, None),
        (exact(), Some(" "), Some(" ")),
        (tombstones(), None, None),
        (tombstones(), Some(""), None),
        (tombstones(), Some(" \t\n"), None),
        (tombstones(), Some("x"), Some("x")),
    ] {
        let routed = route_with(settings, &order(value, &[])).expect("routed");
        assert_eq!(payload(&routed).as_deref(), expected);
    }
    let row = order(None, &[]);
    let enveloped = route_with(placed(exact(), &["type:envelope"]), &row).expect("routed");
    assert_eq!(
        payload(&enveloped).as_deref(),
        Some(r#"{"payload":null,"type":"OrderCreated"}"#)
    );
    let gone = route_with(placed(tombstones(), &["type:envelope"]), &row).expect("routed");
    assert_eq!(payload(&gone), None);
}

#[test]
fn keys_and_values_are_json_where_that_is_switched_on() {
    let json = |settings| OutboxSettings {
        json_keys: true,
        json_values: true,
        ..settings
    };
    let both = |settings, row: &Row| {
        let routed = route_with(settings, row).expect("routed");
        let text = |bytes: Option<&Bytes>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let (key, value) = (&routed.message.key, &routed.message.payload);
        (text(key.as_ref()), text(value.as_ref()))
    };
    let of = |key: &str, value: &str| (Some(key.to_owned()), Some(value.to_owned()));
    let text = order(Some(r#"{"a": "🦀"}"#), &[]);
    assert_eq!(
        both(json(exact()), &text),
        of("\"1\"", r#""{\"a\": \"\uD83E\uDD80\"}""#)
    );
    assert_eq!(
        both(json(OutboxSettings::default()), &text),
        of("\"1\"", r#""{\"a\": \"🦀\"}""#)
    );
    let nothing = row(&[
        ("id", Kind::Uuid, Some(ID)),
        ("aggregatetype", Kind::Text, Some("Order")),
        ("aggregateid", Kind::Integer, None),
        ("payload", Kind::Bytes, None),
    ]);
    assert_eq!(both(json(exact()), &nothing), of("null", "null"));
    let numbered = row(&[
        ("id", Kind::Uuid, Some(ID)),
        ("aggregatetype", Kind::Text, Some("Order")),
        ("aggregateid", Kind::Integer, Some("7")),
        ("payload", Kind::Bytes, Some("abc")),
    ]);
    assert_eq!(both(json(exact()), &numbered), of("7", "\"YWJj\""));
}

#[test]
fn other_columns_and_topics_are_named_by_settings() {
    let columns = [
        ("event_id", Kind::Text, Some("e1")),
        ("tenant", Kind::Text, Some("acme")),
        ("kind", Kind::Text, Some("order-placed")),
        ("who", Kind::Text, None),
        ("aggregateid", Kind::Integer, Some("9")),
        ("body", Kind::Bytes, Some("x")),
        ("at", Kind::Time, Some("2026-01-01T00:00:00.123456Z")),
    ];
    let named = |topic: &str, pattern: Option<&str>| OutboxSettings {
        id: "event_id".to_owned(),
        key: "who".to_owned(),
        payload: "body".to_owned(),
        event_type: "kind".to_owned(),
        timestamp: Some("at".to_owned()),
        route_by: "kind".to_owned(),
        topic: Some(topic.to_owned()),
        pattern: pattern.map(str::to_owned),
        ..OutboxSettings::default()
    };
    let topic =
        |settings| route_with(settings, &row(&columns)).map(|routed| routed.topic.to_string());
    assert_eq!(
        topic(named("{tenant}.{kind}", None)),
        Ok("acme.order-placed".to_owned())
    );
    assert_eq!(
        topic(named("v1.${routedByValue}", None)),
        Ok("v1.order-placed".to_owned())
    );
    let pattern = Some("(?<noun>[a-z]+)-(.*)");
    assert_eq!(
        topic(named("${noun}.$2", pattern)),
        Ok("order.placed".to_owned())
    );
    let other = topic(named("${noun}.$2", Some("(?<noun>x)(y)")));
    assert_eq!(
        other,
        Ok("order-placed".to_owned()),
        "what does not match is the topic"
    );
    let routed = route_with(named("t", None), &row(&columns)).expect("routed");
    assert_eq!(routed.message.key, None, "as the column is NULL");
    let at = Timestamp::parse_rfc3339("2026-01-01T00:00:00.123Z");
    assert_eq!(routed.message.timestamp, at);
    for (wrong, pattern) in [
        ("{", None),
        ("${noun}", None),
        ("$3", pattern),
        ("t", Some("(")),
    ] {
        assert!(
            OutboxRouter::new(named(wrong, pattern), || Timestamp::ZERO).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn a_trace_of_java_properties_becomes_a_traceparent() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = format!("#comment\ntraceparent={parent}\n");
    let column = ("tracingspancontext", Kind::Text, Some(context.as_str()));
    let row = order(Some("{}"), std::slice::from_ref(&column));
    let routed = route_with(OutboxSettings::default(), &row).expect("routed");
    assert_eq!(
        routed.message.headers.text(header::TRACEPARENT),
        Ok(Some(parent))
    );
}

#[test]
fn every_reason_names_the_column_the_value_and_what_to_do() {
    let id = ("id", Kind::Uuid, Some(ID));
    let by = |value| ("aggregatetype", Kind::Text, value);
    let rest = ("payload", Kind::Text, Some("p"));
    let headers = |value| ("headers", Kind::Text, Some(value));
    let long = "é".repeat(500);
    let cases = [
        (
            vec![by(Some("Order")), rest.clone()],
            vec!["\"id\"", "add it to the table"],
        ),
        (
            vec![("id", Kind::Uuid, None), by(Some("Order")), rest.clone()],
            vec!["\"id\"", "NULL"],
        ),
        (
            vec![id.clone(), by(None), rest.clone()],
            vec!["\"aggregatetype\"", "NULL"],
        ),
        (
            vec![id.clone(), by(Some("Order Lines")), rest.clone()],
            vec![
                "\"aggregatetype\"",
                "\"Order Lines\"",
                "' '",
                "change `topic`",
            ],
        ),
        (vec![id.clone(), by(Some(&long)), rest.clone()], vec!["…"]),
        (vec![id.clone(), by(Some("Order"))], vec!["\"payload\""]),
        (
            vec![id.clone(), by(Some("Order")), rest.clone(), headers("[]")],
            vec!["\"headers\"", "no JSON object"],
        ),
        (
            vec![
                id.clone(),
                by(Some("Order")),
                rest.clone(),
                headers(r#"{"wharf-deliver-at":"soon"}"#),
            ],
            vec!["wharf-deliver-at", "soon"],
        ),
    ];
    for (columns, parts) in cases {
        let Unroutable(why) =
            route_with(OutboxSettings::default(), &row(&columns)).expect_err("refused");
        assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        assert!(why.len() < 800, "values are shortened: {why}");
    }
    let own = || OutboxSettings {
        topic: Some("{aggregatetype}".to_owned()),
        ..OutboxSettings::default()
    };
    let theirs = row(&[id.clone(), by(Some("_wharf.relay.orders")), rest.clone()]);
    let Unroutable(why) = route_with(own(), &theirs).expect_err("not for clients");
    assert!(why.contains("the broker's own"), "{why}");
    let start = row(&[id, by(Some("_wharf.saga-starts")), rest]);
    assert!(route_with(own(), &start).is_ok(), "a row starts a saga");
}

#[test]
fn what_is_set_aside_keeps_every_column_and_tells_why() {
    let row = row(&[
        ("id", Kind::Uuid, Some(ID)),
        ("payload", Kind::Bytes, Some("\u{0}ü")),
        ("n", Kind::Integer, Some("12")),
        ("gone", Kind::Text, None),
    ]);
    let router =
        OutboxRouter::new(OutboxSettings::default(), || Timestamp::from_millis(5)).expect("valid");
    let reason = Unroutable("because".to_owned());
    let aside = router.set_aside("orders db", &row, &reason);
    assert_eq!(aside.topic.as_str(), "dlq.outbox.orders-db.relay");
    let columns = format!(r#"{{"id":"{ID}","payload":{{"base64":"AMO8"}},"n":12,"gone":null}}"#);
    assert_eq!(payload(&aside), Some(columns));
    let headers = &aside.message.headers;
    assert_eq!(
        headers.text(header::DLQ_ERROR),
        Ok(Some("because\nthe row is at 7:1"))
    );
    assert_eq!(headers.text(header::DLQ_REASON), Ok(Some("undecodable")));
    assert_eq!(
        headers.text(header::DLQ_TOPIC),
        Ok(Some("outbox.orders-db"))
    );
    assert_eq!(headers.text(header::DLQ_GROUP), Ok(Some("relay")));
    assert_eq!(headers.text("id"), Ok(Some(ID)));
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Text),
        Just(Kind::Json),
        Just(Kind::Bytes),
        Just(Kind::Integer),
        Just(Kind::Boolean),
        Just(Kind::Time),
        Just(Kind::Other("tsvector".to_owned())),
    ]
}

proptest! {
    #[test]
    fn every_row_is_routed_or_set_aside_and_none_makes_it_panic(
        values in prop::collection::vec((kinds(), prop::option::of(prop::collection::vec(any::<u8>(), 0..40))), 9),
        expand in any::<bool>(),
        exact in any::<bool>(),
        envelope in any::<bool>(),
        source in "\\PC{0,300}",
    ) {
        let names = ["id", "aggregatetype", "aggregateid", "type", "payload", "headers", "tracingspancontext", "at", "shard"];
        let columns: Vec<Column> = names.iter().zip(&values)
            .map(|(name, (kind, _))| Column { name: (*name).to_owned(), kind: kind.clone() })
            .collect();
        let row = Row {
            place: Place::default(),
            committed_at: None,
            columns: Arc::from(columns),
            values: values.into_iter().map(|(_, value)| value.map(Bytes::from)).collect(),
        };
        let mut additional = vec!["type:header:t".parse().expect("valid"), "shard:partition".parse().expect("valid")];
        if envelope {
            additional.push("shard:envelope".parse().expect("valid"));
        }
        let settings = OutboxSettings {
            additional,
            expand_json: expand,
            debezium_headers_only: exact,
            timestamp: Some("at".to_owned()),
            ..OutboxSettings::default()
        };
        let router = OutboxRouter::new(settings, || Timestamp::ZERO).expect("valid");
        if let Err(reason) = router.route(&row) {
            let aside = router.set_aside(&source, &row, &reason);
            prop_assert!(aside.topic.as_str().starts_with("dlq.outbox."));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&aside.message.payload.unwrap_or_default()).is_ok());
        }
    }
}
