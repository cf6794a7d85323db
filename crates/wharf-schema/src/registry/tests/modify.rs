//! New versions of which only tags, metadata or rules differ.

use super::*;

#[test]
fn tags_and_rules_of_a_version_are_changed_in_a_new_one() {
    let mut world = World::new();
    let text =
        r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"x","type":"string"}]}"#;
    let mut request = avro(text);
    request.rule_set =
        serde_json::from_str(r#"{"domainRules":[{"name":"old","type":"CEL","mode":"WRITE"}]}"#)
            .unwrap();
    world.put("a", &request);
    let change: TagRequest = serde_json::from_str(
        r#"{"newVersion":2,
            "tagsToAdd":[{"schemaEntity":{"entityPath":"n.R.x","entityType":"SR_FIELD"},"tags":["PII"]}],
            "rulesToMerge":{"domainRules":[{"name":"new","type":"CEL","mode":"READ"}]},
            "rulesToRemove":["old"]}"#,
    )
    .unwrap();
    let decision =
        world
            .registry
            .modify_tags(&"a".into(), VersionSpec::Latest, &change, world.now());
    let second = world.commit(decision);
    assert_eq!(second.version, 2);
    assert_eq!(world.registry.tags_of(&second)[0].tags, ["PII"]);
    assert_eq!(second.content.property("confluent:version"), Some("2"));
    let rules = second.content.rule_set.as_ref().unwrap();
    assert_eq!(
        rules
            .rules()
            .map(|rule| rule.name.as_str())
            .collect::<Vec<_>>(),
        ["new"]
    );
}
