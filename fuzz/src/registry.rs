//! A topic `_schemas` that anybody may have written, and changes on what was read of it.
//!
//! Records are parted by zero bytes, and in each the key from the value by a one; a value that is
//! missing is a tombstone. Whatever was read, each change that is allowed must be one that the view
//! takes, and an id must go on meaning what it meant.

use std::collections::BTreeMap;

use wharf_message::Timestamp;
use wharf_schema::model::{Level, SchemaType};
use wharf_schema::registry::{
    Applied, ConfigUpdate, Decision, Filter, Mode, Page, Refusal, Registration, Registry,
    SchemasQuery, Settings, Subject, VersionSpec,
};

pub(crate) fn run(data: &[u8]) {
    let mut registry = Registry::new(Settings::default());
    for (offset, record) in (0..).zip(data.split(|byte| *byte == 0)) {
        let mut parts = record.splitn(2, |byte| *byte == 1);
        let (key, value) = (parts.next(), parts.next());
        registry.apply(offset, Timestamp::ZERO, key, value);
    }
    let ids = ids(&registry);
    let now = Timestamp::from_millis(1);
    let names = registry.subjects(":*:", Filter::All, Page::default());
    for name in names.iter().map(String::as_str).chain(["new", ":.c:new"]) {
        let subject = Subject::parse(name);
        let schema = Registration::new(SchemaType::Avro, r#"["null","long"]"#);
        let decision = registry.register(&subject, &schema, Default::default(), now);
        follow(&mut registry, decision);
        let decision = registry.put_config(&subject, &ConfigUpdate::level(Level::Full));
        follow(&mut registry, decision);
        let decision = registry.delete_version(&subject, VersionSpec::Latest, false);
        follow(&mut registry, decision);
    }
    for (id, text) in &ids {
        let scope = Subject::context_only(&id.0);
        let found = registry.by_id(id.1, Some(&scope));
        assert_eq!(
            found.as_ref().map(|it| &*it.content.schema),
            Ok(text.as_str()),
            "{id:?}"
        );
    }
    for name in &names {
        let subject = Subject::parse(name);
        for permanent in [false, true] {
            let decision = registry.delete_subject(&subject, permanent);
            follow(&mut registry, decision);
        }
    }
    let decision = registry.put_mode(&Subject::parse(""), Mode::Import, false);
    follow(&mut registry, decision);
    for (form, value) in registry.repairs() {
        registry.apply(registry.next_offset(), now, Some(&form), value.as_deref());
    }
    assert!(registry.repairs().is_empty());
}

fn follow<T>(registry: &mut Registry, decision: Result<Decision<T>, Refusal>) {
    for (key, value) in decision.into_iter().flat_map(|decision| decision.records) {
        let (offset, now) = (registry.next_offset(), Timestamp::from_millis(2));
        let applied = registry.apply(offset, now, Some(&key), value.as_deref());
        assert!(!matches!(applied, Applied::Ignored(_)), "{applied:?}");
    }
}

fn ids(registry: &Registry) -> BTreeMap<(String, i32), String> {
    let query = SchemasQuery {
        subject_prefix: ":*:".to_owned(),
        filter: Filter::All,
        ..SchemasQuery::default()
    };
    let schemas = registry.schemas(&query).into_iter();
    let id = |version: wharf_schema::registry::Registered| {
        let context = Subject::parse(&version.subject).context().to_owned();
        ((context, version.id), version.content.schema.to_string())
    };
    schemas.map(id).collect()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let schema = |subject: &str, version: i32, id: i32, text: &str| {
        format!(
            "{{\"keytype\":\"SCHEMA\",\"subject\":\"{subject}\",\"version\":{version},\"magic\":1}}\
             \u{1}{{\"subject\":\"{subject}\",\"version\":{version},\"id\":{id},\"schema\":\"{text}\",\
             \"deleted\":false}}"
        )
    };
    let topic = [
        schema("a", 1, 1, "\\\"string\\\""),
        schema("a", 2, 2, "\\\"long\\\""),
        schema(":.c:b", 7, 40, "{\\\"type\\\":\\\"array\\\",\\\"items\\\":\\\"int\\\"}"),
        "{\"subject\":\"a\",\"version\":1,\"magic\":0,\"keytype\":\"SCHEMA\"}".to_owned(),
        "{\"keytype\":\"CONFIG\",\"subject\":\"a\",\"magic\":0}\u{1}{\"compatibilityLevel\":\"NONE\",\
         \"defaultMetadata\":{\"properties\":{\"x\":\"y\"}}}"
            .to_owned(),
        "{\"keytype\":\"MODE\",\"magic\":0}\u{1}{\"mode\":\"READWRITE\"}".to_owned(),
        "{\"keytype\":\"DELETE_SUBJECT\",\"subject\":\"a\",\"magic\":0}\u{1}{\"version\":2}".to_owned(),
        "{\"keytype\":\"NOOP\",\"magic\":0}\u{1}{\"highestIds\":{\".\":9}}".to_owned(),
        "{\"keytype\":\"CLEAR_SUBJECT\",\"subject\":\"a\",\"magic\":0}\u{1}{\"subject\":\"a\"}".to_owned(),
    ];
    let mut seeds: Vec<Vec<u8>> = (1..=topic.len())
        .map(|length| topic[..length].join("\0").into_bytes())
        .collect();
    seeds.extend(topic.map(String::into_bytes));
    seeds
}
