//! One rule a test, with Confluent's codes; the codec and replay in `topic`, random commands against
//! a naive model in `model`.

mod delete;
mod model;
mod modify;
mod register;
mod settings;
mod topic;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::*;
use crate::model::SchemaType;

/// A record of the topic: offset, time, key, value.
type Record = (i64, Timestamp, Bytes, Option<Bytes>);

/// A registry with the topic under it: a decision is applied as it is written.
struct World {
    registry: Registry,
    log: Vec<Record>,
}

impl World {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        Self {
            registry: Registry::new(settings),
            log: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000 + self.registry.next_offset())
    }

    fn write(&mut self, key: impl Into<Bytes>, value: Option<Bytes>) -> Applied {
        let (offset, at, key) = (self.registry.next_offset(), self.now(), key.into());
        let applied = self
            .registry
            .apply(offset, at, Some(&key), value.as_deref());
        self.log.push((offset, at, key, value));
        applied
    }

    fn json(&mut self, key: &str, value: &str) -> Applied {
        self.write(key.to_owned(), Some(Bytes::from(value.to_owned())))
    }

    fn commit<T>(&mut self, decision: Result<Decision<T>, Refusal>) -> T {
        let decision = decision.expect("the change is allowed");
        for (key, value) in decision.records {
            let applied = self.write(key, value);
            assert!(!matches!(applied, Applied::Ignored(_)), "{applied:?}");
        }
        decision.answer
    }

    fn put(&mut self, subject: &str, request: &Registration) -> Registered {
        let options = RegisterOptions::default();
        self.commit(
            self.registry
                .register(&subject.into(), request, options, self.now()),
        )
    }

    fn refuse(&self, subject: &str, request: &Registration) -> Refusal {
        let options = RegisterOptions::default();
        let decision = self
            .registry
            .register(&subject.into(), request, options, self.now());
        decision.expect_err("it is refused")
    }

    fn find(&self, subject: &str, request: &Registration) -> Result<Registered, Refusal> {
        self.registry
            .lookup(&subject.into(), request, LookupOptions::default())
    }

    fn delete(&mut self, subject: &str, version: i32) {
        let version = VersionSpec::Number(version);
        self.commit(
            self.registry
                .delete_version(&subject.into(), version, false),
        );
    }

    fn purge(&mut self, subject: &str, version: i32) {
        let version = VersionSpec::Number(version);
        self.commit(self.registry.delete_version(&subject.into(), version, true));
    }

    fn config(&mut self, scope: &str, json: &str) {
        let update: ConfigUpdate = serde_json::from_str(json).unwrap();
        self.commit(self.registry.put_config(&scope.into(), &update));
    }

    fn mode(&mut self, scope: &str, mode: Mode) {
        self.commit(self.registry.put_mode(&scope.into(), mode, false));
    }

    /// A registry that has read the topic from its beginning.
    fn replayed(&self) -> Registry {
        replay(&self.log)
    }
}

impl From<&str> for Subject {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

fn replay(log: &[Record]) -> Registry {
    let mut registry = Registry::new(Settings::default());
    for (offset, at, key, value) in log {
        registry.apply(*offset, *at, Some(key), value.as_deref());
    }
    registry
}

/// Of each key, by its bytes, the newest record; tombstones too unless `drop_tombstones`.
fn compacted(log: &[Record], drop_tombstones: bool) -> Vec<Record> {
    let is_newest = |index: usize| log[index + 1..].iter().all(|later| later.2 != log[index].2);
    let kept = (0..log.len())
        .filter(|index| is_newest(*index))
        .map(|index| log[index].clone());
    kept.filter(|record| record.3.is_some() || !drop_tombstones)
        .collect()
}

/// Everything that can be seen of a registry, apart from its offset.
fn seen(registry: &Registry) -> Vec<String> {
    let mut seen = Vec::new();
    for name in registry.subjects(":*:", Filter::All, Page::default()) {
        for version in registry.history(&Subject::parse(&name)) {
            let subject = Subject::parse(&name);
            let spec = VersionSpec::Number(version.version);
            let referrers = registry.referenced_by(&subject, spec, true);
            let by_id = registry
                .by_id(version.id, Some(&subject))
                .map(|it| it.content.guid);
            let by_guid = registry.ids_of_guid(version.content.guid);
            seen.push(format!("{version:?} {referrers:?} {by_id:?} {by_guid:?}"));
        }
        let subject = Subject::parse(&name);
        seen.push(format!("{:?}", registry.config(&subject, false)));
        seen.push(format!("{:?}", registry.mode(&subject, false)));
    }
    for context in registry.contexts() {
        let scope = Subject::context_only(&context);
        let highest = registry.highest_id(&context);
        let (config, mode) = (registry.config(&scope, true), registry.mode(&scope, true));
        seen.push(format!("{context} {highest} {config:?} {mode:?}"));
    }
    seen
}

fn avro(text: &str) -> Registration {
    Registration::new(SchemaType::Avro, text)
}

/// A record with these fields of type string, each with a default.
fn record(name: &str, fields: &[&str]) -> Registration {
    let field = |field: &&str| format!(r#"{{"name":"{field}","type":"string","default":""}}"#);
    let fields: Vec<_> = fields.iter().map(field).collect();
    avro(&format!(
        r#"{{"type":"record","name":"{name}","fields":[{}]}}"#,
        fields.join(",")
    ))
}
