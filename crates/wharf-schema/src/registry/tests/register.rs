//! Registering, looking up, and testing: ids, versions, equality, references, metadata and rules.

use super::*;
use crate::model::{Level, Metadata, Reference};

#[test]
fn ids_and_versions_begin_at_one_and_go_up_by_one() {
    let mut world = World::new();
    let first = world.put("a", &record("R", &["x"]));
    assert_eq!((first.version, first.id, &*first.subject), (1, 1, "a"));
    let second = world.put("a", &record("R", &["x", "y"]));
    assert_eq!((second.version, second.id), (2, 2));
    let other = world.put("b", &avro("\"long\""));
    assert_eq!((other.version, other.id), (1, 3));
}

#[test]
fn what_is_there_already_is_answered_and_changes_nothing() {
    let mut world = World::new();
    let first = world.put("a", &avro("\"string\""));
    let before = world.log.len();
    let again = world.put("a", &avro(r#"{ "type" : "string" }"#));
    assert_eq!((again.version, again.id), (first.version, first.id));
    assert_eq!(world.log.len(), before);
}

#[test]
fn the_same_schema_has_one_id_in_all_subjects_of_a_context() {
    let mut world = World::new();
    let a = world.put("a", &avro("\"string\""));
    let b = world.put("b", &avro("\"string\""));
    assert_eq!((a.id, b.id, b.version), (1, 1, 1));
    assert!(Arc::ptr_eq(
        &world.registry.history(&"a".into())[0].content,
        &world.registry.history(&"b".into())[0].content,
    ));
    let elsewhere = world.put(":.c:a", &avro("\"long\""));
    assert_eq!(elsewhere.id, 1, "each context counts for itself");
}

#[test]
fn two_kinds_with_one_text_are_two_schemas() {
    let mut world = World::new();
    let text = r#"{"type":"string"}"#;
    let json = world.put("j", &Registration::new(SchemaType::Json, text));
    let canonical = world.put("a", &avro(text));
    assert_ne!(json.id, canonical.id);
    let of_kind = |id| world.registry.by_id(id, None).unwrap().content.schema_type;
    assert_eq!(
        (of_kind(json.id), of_kind(canonical.id)),
        (SchemaType::Json, SchemaType::Avro)
    );
}

#[test]
fn several_changes_can_be_decided_before_any_is_durable() {
    let mut world = World::new();
    let durable = world.registry.clone();
    let first = world.put("a", &avro("\"string\""));
    let same = world.put("b", &avro("\"string\""));
    let next = world.put("c", &avro("\"long\""));
    assert_eq!((first.id, same.id, next.id), (1, 1, 2));
    assert_eq!(
        durable.subjects_len(),
        0,
        "readers see only what is durable"
    );
    assert_eq!(world.registry.subjects_len(), 3);
}

#[test]
fn a_soft_deleted_schema_comes_back_with_its_id_as_a_new_version() {
    let mut world = World::new();
    let first = world.put("a", &avro("\"string\""));
    world.delete("a", 1);
    assert_eq!(
        world.find("a", &avro("\"string\"")).unwrap_err().code,
        40401
    );
    let again = world.put("a", &avro("\"string\""));
    assert_eq!((again.version, again.id), (2, first.id));
    let left: Vec<_> = world
        .registry
        .history(&"a".into())
        .iter()
        .map(|v| v.version)
        .collect();
    assert_eq!(left, [2], "the version that it stands for is gone");
}

#[test]
fn a_version_that_is_asked_for_must_be_the_next() {
    let mut world = World::new();
    world.put("a", &record("R", &["x"]));
    let mut request = record("R", &["x", "y"]);
    request.version = Some(3);
    let refusal = world.refuse("a", &request);
    assert_eq!(
        refusal,
        Refusal::new(42201, "Version is not one more than previous version")
    );
    request.version = Some(2);
    let second = world.put("a", &request);
    assert_eq!(second.version, 2);
    assert_eq!(second.content.property("confluent:version"), Some("2"));
    let found = world.find("a", &record("R", &["x", "y"])).unwrap();
    assert_eq!(
        found.version, 2,
        "a schema that does not say its version is found as well"
    );
}

#[test]
fn an_id_can_be_given_when_importing_only_and_means_one_schema() {
    let mut world = World::new();
    let mut request = avro("\"string\"");
    request.id = Some(40);
    assert_eq!(world.refuse("a", &request).code, 42205);
    world.mode("", Mode::Import);
    request.version = Some(7);
    let imported = world.put("a", &request);
    assert_eq!((imported.version, imported.id), (7, 40));
    assert_eq!(
        world.refuse("a", &avro("\"long\"")).code,
        42205,
        "without an id"
    );
    let mut other = avro("\"long\"");
    other.id = Some(40);
    let refusal = world.refuse("b", &other);
    assert_eq!(refusal.code, 42205);
    assert!(
        refusal
            .message
            .starts_with("Overwrite new schema with id 40"),
        "{refusal}"
    );
    other.id = Some(41);
    other.version = Some(7);
    assert_eq!(
        world.refuse("a", &other).code,
        42205,
        "nor is a version another schema"
    );
    world.mode("", Mode::ReadWrite);
    assert_eq!(
        world.put("b", &avro("\"long\"")).id,
        41,
        "ids go on after the highest"
    );
}

#[test]
fn what_the_level_forbids_is_refused_with_every_reason() {
    let mut world = World::new();
    world.put("a", &record("R", &["x"]));
    let new = avro(
        r#"{"type":"record","name":"R","fields":[{"name":"x","type":"string","default":""},
            {"name":"f","type":"string"}]}"#,
    );
    let refusal = world.refuse("a", &new);
    assert_eq!(refusal.code, 40901);
    assert_eq!(
        refusal.message,
        "Schema being registered is incompatible with an earlier schema for subject \"a\", details: \
         [{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'f' at path \
         '/fields/1' in the new schema has no default value and is missing in the old schema', \
         additionalInfo:'f'}, {oldSchemaVersion: 1}, {oldSchema: '{\"type\":\"record\",\"name\":\"R\",\
         \"fields\":[{\"name\":\"x\",\"type\":\"string\",\"default\":\"\"}]}'}, \
         {validateFields: 'false', compatibility: 'BACKWARD'}]"
    );
    let options = RegisterOptions {
        force: true,
        ..RegisterOptions::default()
    };
    let forced = world
        .registry
        .register(&"a".into(), &new, options, world.now());
    assert_eq!(world.commit(forced).version, 2);
}

#[test]
fn only_live_versions_are_compared_and_all_of_them_with_a_transitive_level() {
    let mut world = World::new();
    world.config("", r#"{"compatibility":"NONE"}"#);
    world.put("a", &avro("\"string\""));
    world.put("a", &avro("\"long\""));
    world.config("a", r#"{"compatibility":"BACKWARD"}"#);
    let double = avro("\"double\"");
    assert!(
        world
            .registry
            .test(&"a".into(), None, &double, false)
            .unwrap()
            .is_compatible
    );
    world.config("a", r#"{"compatibility":"BACKWARD_TRANSITIVE"}"#);
    let verdict = world
        .registry
        .test(&"a".into(), None, &double, false)
        .unwrap();
    assert!(!verdict.is_compatible);
    assert!(
        verdict
            .messages
            .contains(&"{oldSchemaVersion: 1}".to_owned()),
        "{verdict:?}"
    );
    world.delete("a", 1);
    world.config("a", r#"{"compatibility":"BACKWARD_TRANSITIVE"}"#);
    assert!(
        world
            .registry
            .test(&"a".into(), None, &double, false)
            .unwrap()
            .is_compatible
    );
}

#[test]
fn a_change_of_kind_is_incompatible_under_every_level_but_none() {
    let mut world = World::new();
    world.put("a", &avro("\"string\""));
    let json = Registration::new(SchemaType::Json, r#"{"type":"string"}"#);
    for level in Level::ALL {
        world.config("a", &format!(r#"{{"compatibility":"{level}"}}"#));
        let verdict = world
            .registry
            .test(&"a".into(), None, &json, false)
            .unwrap();
        let is_none = level == Level::None;
        assert_eq!(verdict.is_compatible, is_none, "{level}");
        assert_eq!(verdict.messages.is_empty(), is_none);
    }
}

#[test]
fn versions_are_tested_one_by_one_or_as_the_level_wants() {
    let mut world = World::new();
    let test = |world: &World, subject: &str, version: Option<&str>, text: &str| {
        let version = version.map(|version| version.parse().unwrap());
        let verdict = world
            .registry
            .test(&subject.into(), version, &avro(text), false);
        verdict
            .map(|verdict| verdict.is_compatible)
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(
        test(&world, "a", Some("latest"), "\"long\""),
        Ok(true),
        "no such subject"
    );
    assert_eq!(test(&world, "a", Some("1"), "\"long\""), Err(40402));
    world.put("a", &avro("\"string\""));
    assert_eq!(test(&world, "a", Some("1"), "\"long\""), Ok(false));
    assert_eq!(test(&world, "a", Some("latest"), "\"bytes\""), Ok(true));
    assert_eq!(test(&world, "a", Some("2"), "\"long\""), Err(40402));
    assert_eq!(test(&world, "a", None, "\"nonsense\""), Err(42201));
    assert_eq!("0".parse::<VersionSpec>().unwrap_err().code, 42202);
    assert_eq!("-1".parse::<VersionSpec>(), Ok(VersionSpec::Latest));
}

#[test]
fn only_versions_of_the_same_group_are_compared() {
    let mut world = World::new();
    world.config("a", r#"{"compatibilityGroup":"major"}"#);
    let major = |text: &str, major: &str| {
        let mut request = avro(text);
        request.metadata = Some(Metadata::default().with_property("major", major));
        request
    };
    world.put("a", &major("\"string\"", "1"));
    assert_eq!(world.refuse("a", &major("\"long\"", "1")).code, 40901);
    assert_eq!(world.put("a", &major("\"long\"", "2")).version, 2);
    assert_eq!(world.put("a", &major("\"bytes\"", "1")).version, 3);
}

#[test]
fn a_reserved_field_stays_reserved_and_unused() {
    let mut world = World::new();
    world.config("a", r#"{"validateFields":true,"compatibility":"BACKWARD"}"#);
    let reserve = |fields: &[&str], names: &str| {
        let mut request = record("R", fields);
        let metadata = Metadata::default();
        request.metadata = Some(metadata.with_property("confluent:reserved", names));
        request
    };
    let refusal = world.refuse("a", &reserve(&["x", "old"], "old,older"));
    assert_eq!(refusal.code, 40901);
    assert!(
        refusal
            .message
            .contains("The new schema has field that conflicts with the reserved field old.")
    );
    world.put("a", &reserve(&["x"], "old, older"));
    let refusal = world.refuse("a", &reserve(&["x", "y"], "old"));
    assert!(refusal.message.contains(
        "The new schema has reserved field older removed from its metadata which is present in the \
         old schema's metadata."
    ));
    assert!(
        refusal
            .message
            .ends_with("{validateFields: 'true', compatibility: 'BACKWARD'}]")
    );
    world.put("a", &reserve(&["x", "y"], "old,older,oldest"));
}

fn referring(name: &str, subject: &str, version: i32) -> Registration {
    let mut request = avro(&format!(
        r#"{{"type":"record","name":"O","fields":[{{"name":"m","type":"{name}"}}]}}"#
    ));
    request.references = vec![Reference {
        name: name.to_owned(),
        subject: subject.to_owned(),
        version,
    }];
    request
}

#[test]
fn a_reference_must_be_there_and_keeps_what_it_refers_to() {
    let mut world = World::new();
    let request = referring("Money", "money", 1);
    let refusal = world.refuse("order", &request);
    assert_eq!(refusal.code, 42201);
    assert!(
        refusal.message.contains("\"money\" and version 1"),
        "{refusal}"
    );
    world.put("money", &record("Money", &["amount"]));
    let order = world.put("order", &request);
    let subject = Subject::parse("money");
    let one = VersionSpec::Number(1);
    assert_eq!(
        world.registry.referenced_by(&subject, one, false).unwrap(),
        [order.id]
    );
    let refusal = world
        .registry
        .delete_version(&subject, one, false)
        .unwrap_err();
    assert_eq!(refusal.code, 42206);
    assert_eq!(
        refusal.message,
        "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=money,version=1}."
    );
    assert_eq!(
        world
            .registry
            .delete_subject(&subject, false)
            .unwrap_err()
            .code,
        42206
    );
    world.delete("order", 1);
    assert!(
        world
            .registry
            .referenced_by(&subject, one, false)
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        world.registry.referenced_by(&subject, one, true).unwrap(),
        [order.id]
    );
    world.delete("money", 1);
    assert_eq!(
        world.refuse("other", &referring("Money", "money", 1)).code,
        42201
    );
}

#[test]
fn a_reference_is_looked_for_in_the_context_of_its_schema() {
    let mut world = World::new();
    world.put("money", &record("Money", &["amount"]));
    assert_eq!(
        world
            .refuse(":.c:order", &referring("Money", "money", 1))
            .code,
        42201
    );
    world.put(":.c:money", &record("Money", &["cents"]));
    let order = world.put(":.c:order", &referring("Money", "money", 1));
    let target = world
        .registry
        .reference_target(&order, &order.content.references[0])
        .unwrap();
    assert_eq!(&*target.subject, ":.c:money");
    let latest = world.put(":.c:late", &referring("Money", "money", -1));
    assert_eq!(
        latest.content.references[0].version, 1,
        "the latest is pinned"
    );
}

#[test]
fn a_schema_with_its_references_written_out_is_the_same() {
    let mut world = World::new();
    world.put("money", &record("Money", &["amount"]));
    let order = world.put("order", &referring("Money", "money", 1));
    let inlined = avro(
        r#"{"type":"record","name":"O","fields":[{"name":"m","type":{"type":"record","name":"Money",
            "fields":[{"name":"amount","type":"string","default":""}]}}]}"#,
    );
    let found = world.find("order", &inlined).unwrap();
    assert_eq!((found.version, found.id), (1, order.id));
    let again = world.put("order", &inlined);
    assert_eq!((again.version, again.id), (1, order.id));
}

#[test]
fn a_lookup_says_what_is_missing() {
    let mut world = World::new();
    let string = avro("\"string\"");
    assert_eq!(
        world.find("a", &string),
        Err(Refusal::new(40401, "Subject 'a' not found."))
    );
    world.put("a", &avro("\"long\""));
    assert_eq!(
        world.find("a", &string),
        Err(Refusal::new(40403, "Schema not found"))
    );
    assert_eq!(world.find("a", &avro("{")).unwrap_err().code, 42201);
    world.put("a", &avro("\"double\""));
    world.delete("a", 1);
    assert_eq!(world.find("a", &avro("\"long\"")).unwrap_err().code, 40403);
    let options = LookupOptions {
        deleted: true,
        ..LookupOptions::default()
    };
    let found = world
        .registry
        .lookup(&"a".into(), &avro("\"long\""), options)
        .unwrap();
    assert!(found.deleted);
    world.put(":.c:only", &string);
    let found = world.find("only", &string).unwrap();
    assert_eq!(
        &*found.subject, ":.c:only",
        "other contexts are looked through"
    );
}

#[test]
fn metadata_and_rules_come_from_the_configuration_and_the_version_before() {
    let mut world = World::new();
    world.config(
        "a",
        r#"{"defaultMetadata":{"properties":{"owner":"nobody","team":"x"}},
            "overrideMetadata":{"properties":{"zone":"eu"}},
            "defaultRuleSet":{"domainRules":[{"name":"r","type":"CEL","mode":"WRITE","expr":"1"}]}}"#,
    );
    let mut request = record("R", &["x"]);
    let metadata = Metadata::default();
    request.metadata = Some(
        metadata
            .with_property("owner", "me")
            .with_property("zone", "us"),
    );
    let first = world.put("a", &request);
    let property =
        |version: &Registered, name: &str| version.content.property(name).map(str::to_owned);
    assert_eq!(property(&first, "owner").as_deref(), Some("me"));
    assert_eq!(property(&first, "team").as_deref(), Some("x"));
    assert_eq!(property(&first, "zone").as_deref(), Some("eu"));
    let rules = first.content.rule_set.as_ref().unwrap();
    let rule = rules.rules().next().unwrap();
    assert_eq!(
        (rule.name.as_str(), rule.kind.as_deref()),
        ("r", Some("TRANSFORM"))
    );
    let second = world.put("a", &record("R", &["x", "y"]));
    assert_eq!(
        property(&second, "owner").as_deref(),
        Some("me"),
        "from the version before"
    );
    let again = world.put("a", &record("R", &["x", "y"]));
    assert_eq!(again.version, 2);
}

#[test]
fn an_empty_text_is_that_of_the_version_before() {
    let mut world = World::new();
    assert_eq!(
        world.refuse("a", &avro("  ")),
        Refusal::new(42201, "Empty schema")
    );
    world.put("a", &avro("\"string\""));
    let mut request = avro("");
    request.metadata = Some(Metadata::default().with_property("owner", "me"));
    let second = world.put("a", &request);
    assert_eq!((second.version, &*second.content.schema), (2, "\"string\""));
    assert_eq!(second.content.property("owner"), Some("me"));
}

#[test]
fn wrong_rules_names_kinds_and_sizes_are_refused_with_their_codes() {
    let mut settings = Settings {
        text_bytes_max: 100,
        references_max: 1,
        ..Settings::default()
    };
    settings.limits.text_bytes_max = 1_000;
    let world = World::with(settings);
    let mut request = avro("\"string\"");
    request.rule_set = serde_json::from_str(
        r#"{"domainRules":[{"name":"a","type":"CEL"},{"name":"a","type":"CEL"}]}"#,
    )
    .unwrap();
    assert_eq!(world.refuse("s", &request).code, 42210);
    let mut request = avro("\"string\"");
    request.schema_type = Some("THRIFT".to_owned());
    assert_eq!(
        world.refuse("s", &request),
        Refusal::new(42201, "Invalid schema type THRIFT")
    );
    assert_eq!(world.refuse("__GLOBAL", &avro("\"string\"")).code, 42208);
    assert_eq!(world.refuse(":.c:", &avro("\"string\"")).code, 42208);
    assert_eq!(world.refuse("s", &avro(&" ".repeat(101))).code, 42209);
    let mut request = referring("Money", "money", 1);
    request.schema = "\"string\"".to_owned();
    request.references.push(request.references[0].clone());
    assert_eq!(world.refuse("s", &request).code, 42201);
}

#[test]
fn normalizing_makes_one_of_what_differs_in_order_only() {
    let mut world = World::new();
    let json = |text: &str| Registration::new(SchemaType::Json, text);
    let (one, two) = (
        json(r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}"#),
        json(r#"{"properties":{"b":{"type":"string"},"a":{"type":"string"}},"type":"object"}"#),
    );
    world.put("plain", &one);
    assert_eq!(world.find("plain", &two).unwrap_err().code, 40403);
    world.config("j", r#"{"normalize":true}"#);
    let first = world.put("j", &one);
    let again = world.put("j", &two);
    assert_eq!((first.version, first.id), (again.version, again.id));
    assert_eq!(world.find("j", &two).unwrap().version, 1);
}

#[test]
fn an_old_schema_that_breaks_newer_rules_is_still_found_and_followed() {
    let mut world = World::new();
    // A default of a wrong type, as older registries took it.
    let old = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"int","default":"no"}]}"#;
    assert_eq!(world.refuse("a", &avro(old)).code, 42201);
    let value =
        serde_json::json!({"subject": "a", "version": 1, "id": 3, "schema": old}).to_string();
    world.json(
        r#"{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}"#,
        &value,
    );
    assert_eq!(world.find("a", &avro(old)).unwrap().id, 3);
    assert_eq!(world.put("a", &avro(old)).id, 3, "it is there already");
    let new = r#"{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}"#;
    assert_eq!(world.put("a", &avro(new)).version, 2);
    world.config("b", r#"{"validateNewSchemas":false}"#);
    assert_eq!(world.put("b", &avro(old)).id, 3);
}
