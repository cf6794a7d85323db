//! The topic: bytes that Confluent writes and reads, every form of them, and what must not come back.

use super::*;
use crate::model::{Metadata, Reference, RuleSet};

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn written(world: &World) -> Vec<(String, Option<String>)> {
    let record = |record: &Record| (text(&record.2), record.3.as_ref().map(text));
    world.log.iter().map(record).collect()
}

#[test]
fn records_are_written_byte_for_byte_as_confluent_does() {
    let mut world = World::new();
    world.put(":.c:s", &avro("\"string\""));
    let mut request = Registration::new(SchemaType::Json, r#"{"type":"string"}"#);
    request.metadata = Some(Metadata::default().with_property("owner", "me"));
    world.put("j", &request);
    world.config("j", r#"{"compatibility":"FULL"}"#);
    world.mode("", Mode::ReadWrite);
    world.commit(world.registry.delete_subject(&"j".into(), false));
    let written = written(&world);
    let expected = [
        (
            r#"{"keytype":"CONTEXT","tenant":"default","context":".c"}"#,
            Some(r#"{"tenant":"default","context":".c"}"#),
        ),
        (
            r#"{"keytype":"SCHEMA","subject":":.c:s","version":1,"magic":1}"#,
            Some(
                r#"{"subject":":.c:s","version":1,"id":1,"md5":"CV1xzxJVa51eMwrVdbPfXQ==","schema":"\"string\"","deleted":false}"#,
            ),
        ),
        (
            r#"{"keytype":"SCHEMA","subject":"j","version":1,"magic":1}"#,
            Some(
                r#"{"subject":"j","version":1,"id":1,"md5":"iXX50a5cye8mwOEWNYsmkw==","schemaType":"JSON","metadata":{"properties":{"owner":"me"}},"schema":"{\"type\":\"string\"}","deleted":false}"#,
            ),
        ),
        (
            r#"{"keytype":"CONFIG","subject":"j","magic":0}"#,
            Some(r#"{"subject":"j","compatibilityLevel":"FULL"}"#),
        ),
        (
            r#"{"keytype":"MODE","magic":0}"#,
            Some(r#"{"mode":"READWRITE"}"#),
        ),
        (
            r#"{"keytype":"DELETE_SUBJECT","subject":"j","magic":0}"#,
            Some(r#"{"subject":"j","version":1}"#),
        ),
        (r#"{"keytype":"CONFIG","subject":"j","magic":0}"#, None),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn a_guid_is_the_md5_of_everything_a_schema_says() {
    let of = |text: &str, references: &[Reference], metadata: Option<&str>, rules: Option<&str>| {
        let metadata: Option<Metadata> = metadata.map(|json| serde_json::from_str(json).unwrap());
        let rules: Option<RuleSet> = rules.map(|json| serde_json::from_str(json).unwrap());
        let rules = rules.map(RuleSet::with_defaults);
        guid(text, references, metadata.as_ref(), rules.as_ref()).to_string()
    };
    let refers = |name: &str, subject: &str, version| Reference {
        name: name.to_owned(),
        subject: subject.to_owned(),
        version,
    };
    let money = refers("shop.Money", "money-value", 2);
    let metadata = r#"{"sensitive":["s2","s1"],"tags":{"shop.Order.card":["PII","CARD"],"a":["z"]},
        "properties":{"owner":"team","confluent:version":"3"}}"#;
    let rules = r#"{"enableAt":"v1","migrationRules":[{"name":"up","mode":"UPGRADE","type":"JSONATA",
        "expr":"$"}],"domainRules":[{"name":"check","doc":"positive","kind":"CONDITION","mode":"WRITE",
        "type":"CEL","tags":["PII","A"],"params":{"b":"2","a":"1"},"expr":"x > 0","onSuccess":"NONE",
        "onFailure":"DLQ","disabled":true}],"encodingRules":[{"name":"enc","type":"ENCRYPT"}]}"#;
    // Computed apart from this program, from the layout.
    let string = "\"string\"";
    assert_eq!(
        of(string, &[], None, None),
        "095d71cf-1255-6b9d-5e33-0ad575b3df5d"
    );
    assert_eq!(
        of(r#"{"type":"string","doc":"größer"}"#, &[], None, None),
        "66564547-1a54-e80d-7717-c35e8adcdb6f"
    );
    assert_eq!(
        of(
            string,
            &[money.clone(), refers("x", ":.ctx:y", -1)],
            None,
            None
        ),
        "686069cd-728c-2b11-700e-de794fefb022"
    );
    assert_eq!(
        of(string, &[], Some("{}"), None),
        "cecc02e2-232b-87f1-1b0c-aa0e70dbb74d"
    );
    assert_eq!(
        of(string, &[], Some(metadata), None),
        "6c5c096a-5555-dde2-747d-f1f75d3f428b"
    );
    assert_eq!(
        of(string, &[], None, Some(rules)),
        "804669ab-4d8a-aab2-e219-99c6fb98e479"
    );
    assert_eq!(
        of(string, &[money], Some(metadata), Some(rules)),
        "5bec3d14-15b8-a2e2-1a8b-66ebffb6c8bb"
    );
}

const OLD: &str = r#"{"subject":"s","version":1,"magic":0,"keytype":"SCHEMA"}"#;
const REDPANDA: &str =
    r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1,"seq":3,"node":1}"#;
const NOW: &str = r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#;
const LIVE: &str = r#"{"subject":"s","version":1,"id":5,"schema":"\"string\""}"#;
const DELETED: &str = r#"{"subject":"s","version":1,"id":5,"schema":"\"string\"","deleted":true}"#;

#[test]
fn every_form_of_a_key_that_was_ever_written_is_one_key() {
    for key in [OLD, REDPANDA, NOW] {
        let mut world = World::new();
        assert_eq!(world.json(key, LIVE), Applied::Changed, "{key}");
        let found = world.registry.by_id(5, None).unwrap();
        assert_eq!(
            (&*found.subject, found.version, found.deleted),
            ("s", 1, false)
        );
        assert_eq!(world.put("t", &avro("\"long\"")).id, 6);
    }
    let mut world = World::new();
    world.json(
        r#"{"magic":0,"keytype":"CONFIG","subject":null}"#,
        r#"{"compatibilityLevel":"FULL"}"#,
    );
    world.json(
        r#"{"keytype":"CONFIG","subject":"s"}"#,
        r#"{"compatibilityLevel":"none","future":1}"#,
    );
    let level = |scope: &str| {
        world
            .registry
            .config(&scope.into(), false)
            .unwrap()
            .compatibility_level
    };
    assert_eq!(level(""), Some(crate::model::Level::Full));
    assert_eq!(level("s"), Some(crate::model::Level::None));
}

#[test]
fn a_hard_delete_writes_tombstones_for_every_form_of_the_key() {
    let mut world = World::new();
    world.json(OLD, LIVE);
    world.json(REDPANDA, LIVE);
    world.delete("s", 1);
    // What was read at another start is known as well.
    world.registry = world.replayed();
    world.purge("s", 1);
    let tombstones: Vec<String> = written(&world)
        .into_iter()
        .filter(|it| it.1.is_none())
        .map(|it| it.0)
        .collect();
    for form in [OLD, REDPANDA, NOW] {
        assert!(
            tombstones.iter().any(|tombstone| tombstone == form),
            "{form} in {tombstones:?}"
        );
    }
    assert!(world.registry.repairs().is_empty());
    for drop_tombstones in [false, true] {
        let again = replay(&compacted(&world.log, drop_tombstones));
        assert_eq!(again.by_id(5, None).unwrap_err().code, 40403);
        assert_eq!(again.subjects_len(), 0);
        assert_eq!(again.highest_id("."), 5);
    }
}

#[test]
fn what_another_registry_deleted_under_one_form_only_is_repaired() {
    // The log that makes deleted schemas come back: the old form is never touched again.
    let mut world = World::new();
    world.json(OLD, LIVE);
    world.json(NOW, DELETED);
    world.write(NOW, None);
    assert_eq!(
        world.registry.subjects_len(),
        0,
        "the newest record of the key counts"
    );
    let back = replay(&compacted(&world.log, true));
    assert_eq!(back.subjects_len(), 1, "this is the trap");
    let repairs = world.registry.repairs();
    assert_eq!(repairs, [(Bytes::from_static(OLD.as_bytes()), None)]);
    for (key, value) in repairs {
        world.write(key, value);
    }
    assert!(world.registry.repairs().is_empty());
    assert_eq!(replay(&compacted(&world.log, true)).subjects_len(), 0);
    // With the canonical form written last, the old one is harmless until it is deleted.
    let mut world = World::new();
    world.json(NOW, LIVE);
    world.json(OLD, DELETED);
    world.purge("s", 1);
    assert_eq!(replay(&compacted(&world.log, true)).subjects_len(), 0);
}

#[test]
fn an_id_is_never_given_twice_whatever_is_compacted() {
    let mut world = World::new();
    for (name, context) in [("a", ""), ("b", ""), ("c", ":.c:")] {
        world.put(&format!("{context}{name}"), &record(name, &["x"]));
    }
    for subject in ["b", ":.c:c"] {
        world.delete(subject, 1);
        world.purge(subject, 1);
    }
    let mut again = World::new();
    again.log = compacted(&world.log, true);
    again.registry = replay(&again.log);
    assert_eq!(again.put("new", &avro("\"long\"")).id, 3);
    assert_eq!(again.put(":.c:new", &avro("\"long\"")).id, 2);
}

#[test]
fn a_schema_whose_id_means_another_one_is_ignored_with_the_reason() {
    let mut world = World::new();
    world.json(NOW, LIVE);
    let other = r#"{"keytype":"SCHEMA","subject":"t","version":1,"magic":1}"#;
    let applied = world.json(
        other,
        r#"{"subject":"t","version":1,"id":5,"schema":"\"long\""}"#,
    );
    let Applied::Ignored(reason) = applied else {
        panic!("it is taken: {applied:?}");
    };
    assert_eq!(
        reason,
        "the id 5 belongs to another schema already, version 1 of s"
    );
    assert_eq!(world.registry.subjects_len(), 1);
    let changed = r#"{"subject":"s","version":1,"id":5,"schema":"\"long\""}"#;
    let applied = world.json(NOW, changed);
    assert!(
        matches!(applied, Applied::Ignored(_)),
        "nor does its own version change it"
    );
}

#[test]
fn what_cannot_be_read_is_skipped_with_the_reason_and_what_follows_is_read() {
    let mut world = World::new();
    for (key, value) in [
        ("", "{}"),
        ("{}", "{}"),
        (r#"{"keytype":"SCHEMA","subject":"s"}"#, LIVE),
        (
            r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":9}"#,
            LIVE,
        ),
        (NOW, "{"),
        (NOW, r#"{"id":1,"schemaType":"THRIFT","schema":"x"}"#),
        (r#"{"keytype":"MODE"}"#, r#"{"mode":"SIDEWAYS"}"#),
    ] {
        let applied = world.json(key, value);
        assert!(
            matches!(&applied, Applied::Ignored(reason) if !reason.is_empty()),
            "{key} {applied:?}"
        );
    }
    for (key, value) in [
        (r#"{"keytype":"NOOP","magic":0}"#, "{}"),
        (r#"{"keytype":"ASSOC","tenant":"default"}"#, "{}"),
        (
            r#"{"keytype":"CLEAR_SUBJECT","subject":"none","magic":0}"#,
            "{}",
        ),
    ] {
        assert_eq!(world.json(key, value), Applied::Nothing, "{key}");
    }
    assert_eq!(
        world.registry.apply(99, Timestamp::ZERO, None, None),
        Applied::Ignored("a record without a key".to_owned())
    );
    assert_eq!(world.registry.next_offset(), 100);
    assert_eq!(world.json(NOW, LIVE), Applied::Changed);
}

#[test]
fn a_deleted_subject_and_a_cleared_one_are_replayed_as_confluent_means_them() {
    let mut world = World::new();
    world.json(NOW, LIVE);
    world.json(
        r#"{"keytype":"SCHEMA","subject":"s","version":2,"magic":1}"#,
        r#"{"subject":"s","version":2,"id":6,"schema":"\"bytes\""}"#,
    );
    world.json(
        r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#,
        r#"{"subject":"s","version":1}"#,
    );
    let deleted = |world: &World| -> Vec<bool> {
        world
            .registry
            .history(&"s".into())
            .iter()
            .map(|version| version.deleted)
            .collect()
    };
    assert_eq!(
        deleted(&world),
        [true, false],
        "up to the version that it says"
    );
    world.json(
        r#"{"keytype":"CLEAR_SUBJECT","subject":"s","magic":0}"#,
        r#"{"subject":"s"}"#,
    );
    assert_eq!(deleted(&world), [false], "what was deleted is forgotten");
}

#[test]
fn a_schema_that_an_older_registry_let_pass_is_evolved_and_not_registered_again() {
    let mut world = World::new();
    let unsound =
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}"#;
    let value = serde_json::json!({"subject": "s", "version": 1, "id": 1, "schema": unsound});
    let applied = world.json(NOW, &value.to_string());
    assert!(!matches!(applied, Applied::Ignored(_)), "{applied:?}");
    let sound = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":0}]}"#;
    assert_eq!(world.put("s", &avro(sound)).version, 2);
    let refusal = world.refuse("other", &avro(unsound));
    assert_eq!(refusal.code, 42201);
    assert!(
        refusal.message.contains("Invalid default"),
        "{}",
        refusal.message
    );
}
