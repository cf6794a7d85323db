//! Deleting softly and for good, and what is asked of a registry meanwhile.

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<Decision<T>, Refusal>) -> u32 {
    result.expect_err("it is refused").code
}

#[test]
fn a_version_is_deleted_softly_and_then_for_good() {
    let mut world = World::new();
    let subject = Subject::parse("a");
    let one = VersionSpec::Number(1);
    assert_eq!(
        refused(world.registry.delete_version(&subject, one, false)),
        40401
    );
    world.put("a", &avro("\"string\""));
    assert_eq!(
        refused(
            world
                .registry
                .delete_version(&subject, VersionSpec::Number(2), false)
        ),
        40402
    );
    let refusal = world
        .registry
        .delete_version(&subject, one, true)
        .unwrap_err();
    assert_eq!(
        refusal,
        Refusal::new(
            40407,
            "Subject 'a' Version 1 was not deleted first before being permanently deleted"
        )
    );
    world.delete("a", 1);
    let refusal = world
        .registry
        .delete_version(&subject, one, false)
        .unwrap_err();
    assert_eq!(refusal.code, 40406);
    assert!(
        refusal
            .message
            .starts_with("Subject 'a' Version 1 was soft deleted.")
    );
    assert!(
        world.registry.by_id(1, None).unwrap().deleted,
        "its id still means it"
    );
    world.purge("a", 1);
    assert_eq!(world.registry.by_id(1, None).unwrap_err().code, 40403);
    assert_eq!(
        refused(world.registry.delete_version(&subject, one, true)),
        40401
    );
    let again = world.put("a", &avro("\"string\""));
    assert_eq!(
        (again.version, again.id),
        (1, 2),
        "versions begin anew, ids never do"
    );
}

#[test]
fn a_subject_is_deleted_softly_and_then_for_good() {
    let mut world = World::new();
    let subject = Subject::parse("a");
    assert_eq!(
        refused(world.registry.delete_subject(&subject, false)),
        40401
    );
    world.put("a", &record("R", &["x"]));
    world.put("a", &record("R", &["x", "y"]));
    assert_eq!(
        refused(world.registry.delete_subject(&subject, true)),
        40405
    );
    world.delete("a", 1);
    let deleted = world.registry.delete_subject(&subject, false);
    assert_eq!(world.commit(deleted), [2], "only what was live");
    let refusal = world.registry.delete_subject(&subject, false).unwrap_err();
    assert_eq!(
        refusal,
        Refusal::new(
            40404,
            "Subject 'a' was soft deleted.Set permanent=true to delete permanently"
        )
    );
    let deleted = world.registry.delete_subject(&subject, true);
    assert_eq!(world.commit(deleted), [1, 2]);
    assert_eq!(world.registry.subjects_len(), 0);
    assert_eq!(seen(&world.replayed()), seen(&world.registry));
    let live = compacted(&world.log, true);
    assert_eq!(
        live.len(),
        1,
        "only the highest ids are left, no mark of the subject: {live:?}"
    );
}

#[test]
fn soft_deleted_versions_keep_their_numbers() {
    let mut world = World::new();
    world.put("a", &record("R", &["x"]));
    world.put("a", &record("R", &["x", "y"]));
    world.delete("a", 2);
    assert_eq!(world.put("a", &record("R", &["x", "z"])).version, 3);
}

#[test]
fn the_last_live_version_takes_its_settings_with_it() {
    let mut world = World::new();
    for by_subject in [false, true] {
        world.put("a", &avro("\"string\""));
        world.config("a", r#"{"compatibility":"FULL"}"#);
        world.mode("a", Mode::ReadWrite);
        if by_subject {
            world.commit(world.registry.delete_subject(&"a".into(), false));
        } else {
            let last = world.registry.history(&"a".into()).last().unwrap().version;
            world.delete("a", last);
        }
        assert_eq!(
            world.registry.config(&"a".into(), false).unwrap_err().code,
            40408
        );
        assert_eq!(
            world.registry.mode(&"a".into(), false).unwrap_err().code,
            40409
        );
    }
}

#[test]
fn lists_are_in_order_filtered_and_in_parts() {
    let mut world = World::new();
    for (subject, fields) in [
        ("b", &["x"][..]),
        ("a", &["x"]),
        ("a", &["x", "y"]),
        (":.c:b", &["x"]),
    ] {
        world.put(subject, &record("R", fields));
    }
    world.put("gone", &avro("\"string\""));
    world.delete("gone", 1);
    world.delete("a", 1);
    let registry = &world.registry;
    let all = Page::default();
    assert_eq!(
        registry.subjects(":*:", Filter::Live, all),
        [":.c:b", "a", "b"]
    );
    assert_eq!(
        registry.subjects("", Filter::Live, all),
        ["a", "b"],
        "the default context"
    );
    assert_eq!(registry.subjects(":*:b", Filter::Live, all), [":.c:b", "b"]);
    assert_eq!(registry.subjects(":.c:", Filter::Live, all), [":.c:b"]);
    assert_eq!(registry.subjects(":*:", Filter::Deleted, all), ["gone"]);
    assert_eq!(
        registry.subjects("", Filter::All, Page::from_parameters(1, 1)),
        ["b"]
    );
    let versions = |filter| registry.versions(&"a".into(), filter, all);
    assert_eq!(versions(Filter::Live).unwrap(), [2]);
    assert_eq!(versions(Filter::All).unwrap(), [1, 2]);
    assert_eq!(versions(Filter::DeletedAsNegative).unwrap(), [-1, 2]);
    assert_eq!(versions(Filter::Deleted).unwrap(), [1]);
    assert_eq!(
        registry
            .versions(&"gone".into(), Filter::Live, all)
            .unwrap_err()
            .code,
        40401
    );
    let query = SchemasQuery {
        subject_prefix: ":*:".to_owned(),
        filter: Filter::All,
        latest_only: true,
        ..SchemasQuery::default()
    };
    let schemas = registry.schemas(&query);
    let names: Vec<_> = schemas
        .iter()
        .map(|it| (&*it.subject, it.version))
        .collect();
    assert_eq!(names, [(":.c:b", 1), ("a", 2), ("b", 1), ("gone", 1)]);
    assert_eq!(registry.contexts(), [".", ".c"]);
}

#[test]
fn an_id_is_asked_for_in_a_context_and_a_guid_everywhere() {
    let mut world = World::new();
    let first = world.put("a", &record("R", &["x"]));
    world.put("b", &record("R", &["x"]));
    world.put(":.c:other", &avro("\"long\""));
    let elsewhere = world.put(":.c:a", &record("R", &["x"]));
    let registry = &world.registry;
    let shown = |id, subject: Option<&str>| {
        let subject = subject.map(Subject::parse);
        registry
            .by_id(id, subject.as_ref())
            .map(|it| it.subject.to_string())
            .map_err(|it| it.code)
    };
    assert_eq!(shown(1, None), Ok("a".to_owned()));
    assert_eq!(shown(1, Some("b")), Ok("b".to_owned()));
    assert_eq!(
        shown(1, Some("unknown")),
        Ok("a".to_owned()),
        "as if none was said"
    );
    assert_eq!(shown(1, Some("")), Ok("a".to_owned()));
    assert_eq!(
        shown(2, Some("a")),
        Ok(":.c:a".to_owned()),
        "other contexts are looked through"
    );
    assert_eq!(shown(2, Some(":.c:")), Ok(":.c:a".to_owned()));
    assert_eq!(shown(2, Some(":.c:other")), Err(40403));
    assert_eq!(shown(9, None), Err(40403));
    assert_eq!(first.content.guid, elsewhere.content.guid);
    assert_eq!(
        registry.ids_of_guid(first.content.guid),
        [(".".to_owned(), 1), (".c".to_owned(), 2)]
    );
    assert_eq!(&*registry.by_guid(first.content.guid).unwrap().subject, "a");
    let versions = registry.versions_of_id(1, None, false).unwrap();
    let versions: Vec<_> = versions
        .iter()
        .map(|it| (&*it.subject, it.version))
        .collect();
    assert_eq!(versions, [("a", 1), ("b", 1)]);
    assert!(registry.parsed_by_id(".c", 2).is_ok());
    assert!(registry.parsed_by_guid(first.content.guid).is_ok());
}

#[test]
fn the_newest_version_with_some_metadata_is_found() {
    let mut world = World::new();
    for (fields, major) in [(&["x"][..], "1"), (&["x", "y"], "1"), (&["x", "z"], "2")] {
        let mut request = record("R", fields);
        request.metadata = Some(crate::model::Metadata::default().with_property("major", major));
        world.put("a", &request);
    }
    let find = |subject: &str, major: &str| {
        let wanted = [("major".to_owned(), major.to_owned())].into();
        let found = world
            .registry
            .latest_with_metadata(&subject.into(), &wanted, false);
        found
            .map(|found| found.version)
            .map_err(|refusal| refusal.code)
    };
    assert_eq!((find("a", "1"), find("a", "2")), (Ok(2), Ok(3)));
    assert_eq!((find("a", "3"), find("b", "1")), (Err(40403), Err(40401)));
}
