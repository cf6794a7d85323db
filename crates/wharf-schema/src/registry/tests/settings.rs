//! Configurations and modes, and what they inherit.

use super::*;
use crate::model::Level;

fn level(world: &World, scope: &str) -> Option<Level> {
    world
        .registry
        .config_in_scope(&scope.into())
        .compatibility_level
}

#[test]
fn a_subject_inherits_from_its_context_then_from_the_global_one() {
    let mut world = World::new();
    assert_eq!(level(&world, "a"), Some(Level::Backward));
    world.config(":.__GLOBAL:", r#"{"compatibility":"FULL"}"#);
    assert_eq!(level(&world, "a"), Some(Level::Full));
    assert_eq!(level(&world, ":.c:a"), Some(Level::Full));
    world.config(":.c:", r#"{"compatibility":"forward"}"#);
    assert_eq!(level(&world, ":.c:a"), Some(Level::Forward));
    assert_eq!(level(&world, "a"), Some(Level::Full));
    world.config("", r#"{"compatibility":"NONE"}"#);
    assert_eq!(level(&world, "a"), Some(Level::None));
    world.config("a", r#"{"alias":"b"}"#);
    assert_eq!(
        level(&world, "a"),
        Some(Level::None),
        "a level that is not said is inherited"
    );
}

#[test]
fn a_subject_without_its_own_configuration_is_told_from_one_with_the_default() {
    let mut world = World::new();
    let subject = Subject::parse("a");
    let refusal = world.registry.config(&subject, false).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::new(
            40408,
            "Subject 'a' does not have subject-level compatibility configured"
        )
    );
    let inherited = world.registry.config(&subject, true).unwrap();
    assert_eq!(inherited.compatibility_level, Some(Level::Backward));
    assert!(
        world.registry.config(&"".into(), false).is_ok(),
        "the default context has one"
    );
    assert_eq!(
        world.registry.delete_config(&subject).unwrap_err().code,
        40401
    );
    world.config("a", r#"{"compatibility":"FULL"}"#);
    let deleted = world.registry.delete_config(&subject);
    assert_eq!(world.commit(deleted).compatibility_level, Some(Level::Full));
    assert_eq!(
        world.registry.config(&subject, false).unwrap_err().code,
        40408
    );
}

#[test]
fn a_field_that_is_null_is_cleared_and_one_that_is_absent_stays() {
    let mut world = World::new();
    world.config(
        "a",
        r#"{"compatibility":"FULL","alias":"b","normalize":true,"compatibilityGroup":"g"}"#,
    );
    world.config("a", r#"{"alias":null,"normalize":false}"#);
    let config = world.registry.config(&"a".into(), false).unwrap();
    assert_eq!(config.alias, None);
    assert_eq!(config.normalize, Some(false));
    assert_eq!(config.compatibility_group.as_deref(), Some("g"));
    assert_eq!(config.compatibility_level, Some(Level::Full));
    let shown = serde_json::to_string(&config).unwrap();
    assert_eq!(
        shown,
        r#"{"normalize":false,"compatibilityLevel":"FULL","compatibilityGroup":"g"}"#
    );
    let update: ConfigUpdate =
        serde_json::from_str(r#"{"compatibility":"FULL","alias":null}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&update).unwrap(),
        r#"{"alias":null,"compatibility":"FULL"}"#
    );
}

#[test]
fn what_is_no_level_policy_mode_or_rule_is_refused() {
    let world = World::new();
    let put = |json: &str| {
        let update: ConfigUpdate = serde_json::from_str(json).unwrap();
        world
            .registry
            .put_config(&"a".into(), &update)
            .unwrap_err()
            .code
    };
    assert_eq!(put(r#"{"compatibility":"SIDEWAYS"}"#), 42203);
    assert_eq!(put(r#"{"compatibilityPolicy":"MILD"}"#), 42203);
    assert_eq!(
        put(r#"{"overrideRuleSet":{"migrationRules":[{"name":"a","type":"CEL","mode":"READ"}]}}"#),
        42210
    );
    assert_eq!("WRITEONLY".parse::<Mode>().unwrap_err().code, 42204);
    let update = ConfigUpdate::level(Level::Full);
    assert_eq!(
        world
            .registry
            .put_config(&":*:".into(), &update)
            .unwrap_err()
            .code,
        42208
    );
}

#[test]
fn nothing_is_changed_in_a_read_only_mode_and_what_is_there_is_found() {
    let mut world = World::new();
    world.put("a", &avro("\"string\""));
    world.mode("a", Mode::ReadOnly);
    assert_eq!(
        world.refuse("a", &avro("\"bytes\"")),
        Refusal::new(42205, "Subject a in context  is in read-only mode")
    );
    assert_eq!(
        world.put("a", &avro("\"string\"")).version,
        1,
        "it is there already"
    );
    let registry = &world.registry;
    assert_eq!(
        registry
            .delete_subject(&"a".into(), false)
            .unwrap_err()
            .code,
        42205
    );
    assert_eq!(
        registry
            .delete_version(&"a".into(), VersionSpec::Latest, false)
            .unwrap_err()
            .code,
        42205
    );
    let update = ConfigUpdate::level(Level::Full);
    assert_eq!(
        registry.put_config(&"a".into(), &update).unwrap_err().code,
        42205
    );
    world.put("b", &avro("\"string\""));
    world.mode("", Mode::ReadOnlyOverride);
    world.mode("b", Mode::ReadWrite);
    assert_eq!(
        world.refuse("b", &avro("\"bytes\"")).code,
        42205,
        "whatever it says itself"
    );
}

#[test]
fn importing_needs_a_scope_without_live_versions_and_clears_it() {
    let mut world = World::new();
    let put_mode = |world: &World, scope: &str, force| {
        world.registry.put_mode(&scope.into(), Mode::Import, force)
    };
    world.put("a", &avro("\"string\""));
    world.put(":.c:a", &avro("\"string\""));
    let refusal = put_mode(&world, "", false).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::new(42205, "Cannot import since found existing subjects")
    );
    assert!(put_mode(&world, "", true).is_ok());
    world.commit(world.registry.delete_subject(&"a".into(), false));
    world.mode("", Mode::Import);
    assert_eq!(
        world.registry.subjects(":*:", Filter::All, Page::default()),
        [":.c:a"]
    );
    assert_eq!(seen(&world.replayed()), seen(&world.registry));
    assert_eq!(
        put_mode(&world, ":.__GLOBAL:", false).unwrap_err().code,
        42205
    );
}

#[test]
fn modes_are_deleted_one_by_one_or_with_all_below() {
    let mut world = World::new();
    assert_eq!(
        world.registry.mode(&"a".into(), false).unwrap_err().code,
        40409
    );
    assert_eq!(
        world
            .registry
            .delete_mode(&"a".into(), false)
            .unwrap_err()
            .code,
        40401
    );
    world.mode("", Mode::ReadOnly);
    world.mode("a", Mode::ReadOnly);
    world.mode(":.c:a", Mode::ReadOnly);
    let decision = world.registry.delete_mode(&"".into(), true);
    assert_eq!(world.commit(decision), Mode::ReadOnly);
    assert_eq!(world.registry.mode_in_scope(&"a".into()), Mode::ReadWrite);
    assert_eq!(
        world.registry.mode_in_scope(&":.c:a".into()),
        Mode::ReadOnly,
        "another context"
    );
    let forward = world.registry.put_mode(&"a".into(), Mode::Forward, false);
    assert_eq!(forward.unwrap_err().code, 42205);
    let fixed = World::with(Settings {
        mode_mutability: false,
        ..Settings::default()
    });
    let decision = fixed.registry.put_mode(&"".into(), Mode::ReadOnly, false);
    assert_eq!(
        decision,
        Err(Refusal::new(42205, "Mode changes are not allowed"))
    );
}

#[test]
fn a_context_is_deleted_when_it_is_empty_and_its_ids_are_not_given_again() {
    let mut world = World::new();
    world.put(":.c:a", &avro("\"string\""));
    let refusal = world.registry.delete_context(".c").unwrap_err();
    assert_eq!(
        refusal,
        Refusal::new(42211, "The specified context '.c' is not empty.")
    );
    world.delete(":.c:a", 1);
    world.purge(":.c:a", 1);
    assert_eq!(world.registry.contexts(), [".", ".c"]);
    world.commit(world.registry.delete_context("c"));
    assert_eq!(world.registry.contexts(), ["."]);
    let again = world.put(":.c:a", &avro("\"long\""));
    assert_eq!(again.id, 2);
    assert_eq!(world.registry.contexts(), [".", ".c"]);
}

#[test]
fn an_alias_stands_for_a_subject_of_its_context() {
    let mut world = World::new();
    world.config(":.c:short", r#"{"alias":"long"}"#);
    let resolve = |name: &str| {
        world
            .registry
            .resolve_alias(&name.into())
            .as_str()
            .to_owned()
    };
    assert_eq!(resolve(":.c:short"), ":.c:long");
    assert_eq!(resolve("short"), "short");
    assert_eq!(world.registry.aliases_of(&":.c:long".into()), [":.c:short"]);
}
