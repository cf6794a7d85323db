//! Schemas as a topic's contract: who is asked about what, and what becomes of the answer. The
//! registry is a stand-in, for which a value is fine unless it begins with `bad`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use wharf_broker::{
    ConfigChange, ConfigOperation, Context, Error, ErrorKind, Options, Produce, RecordError,
    SchemaAction, SchemaCheck, SchemaCounts, SchemaDepth, SchemaRefusal, SchemaRules,
    SubjectStrategy, TopicRef,
};
use wharf_log::batch::{Record, build};
use wharf_message::TopicName;
use wharf_message::ledger::{Commit, Error as LedgerError, Ledger as _, Partition};

use crate::producing::{batch, produce};
use crate::support::{START, World, client, creation};

#[derive(Debug, Default)]
struct Registry {
    starting: bool,
    counted: Mutex<Vec<(String, SchemaAction, u64, u64)>>,
    asked: Mutex<Vec<SchemaRules>>,
}

impl SchemaCheck for Registry {
    fn check(
        &self,
        _topic: &TopicName,
        rules: &SchemaRules,
        record: &Record,
    ) -> Result<(), SchemaRefusal> {
        self.asked.lock().unwrap().push(*rules);
        match &record.value {
            _ if self.starting => Err(SchemaRefusal::NotReady),
            Some(value) if value.starts_with(b"bad") => Err(SchemaRefusal::Broken(format!(
                "{:?} is bad; send another one",
                String::from_utf8_lossy(value)
            ))),
            _ => Ok(()),
        }
    }

    fn count(
        &self,
        cx: &Context,
        topic: &TopicName,
        action: SchemaAction,
        counts: &SchemaCounts<'_>,
    ) {
        assert_eq!(topic.as_str(), "orders");
        assert_eq!(counts.first.is_some(), counts.broken > 0);
        let line = (
            cx.client_id.to_string(),
            action,
            counts.checked,
            counts.broken,
        );
        self.counted.lock().unwrap().push(line);
    }
}

/// A node with a registry and the topic `orders`.
fn world(settings: &[(&str, &str)]) -> (World, Arc<Registry>) {
    let (world, registry) = (World::new(), Arc::new(Registry::default()));
    assert!(world.broker.check_schemas_with(registry.clone()));
    world.topic("orders", 1, settings);
    (world, registry)
}

fn end_of(world: &World) -> i64 {
    let topic = world.broker.topic(&TopicRef::Name("orders".to_owned()));
    let partition = topic.unwrap().partitions[0];
    world.broker.reader().bounds(partition).unwrap().end
}

fn asked(settings: &[(&str, &str)]) -> Option<SchemaRules> {
    let (world, registry) = world(settings);
    produce(&world, batch(&["fine"])).unwrap();
    let mut asked = registry.asked.lock().unwrap();
    assert!(asked.len() < 2);
    asked.pop()
}

#[test]
fn the_settings_say_what_is_asked_and_confluents_names_alone_refuse() {
    let value = |action| SchemaRules {
        action,
        depth: SchemaDepth::Id,
        key: None,
        value: Some(SubjectStrategy::Topic),
    };
    assert_eq!(asked(&[]), None);
    assert_eq!(asked(&[("wharf.schema.validation", "off")]), None);
    assert_eq!(
        asked(&[("wharf.schema.validation", "warn")]),
        Some(value(SchemaAction::Warn))
    );
    assert_eq!(
        asked(&[("confluent.value.schema.validation", "true")]),
        Some(value(SchemaAction::Reject))
    );
    assert_eq!(
        asked(&[
            ("wharf.schema.validation", "reject"),
            ("wharf.schema.validation.depth", "payload"),
            ("confluent.key.schema.validation", "true"),
            ("confluent.key.subject.name.strategy", "RecordNameStrategy"),
            (
                "confluent.value.subject.name.strategy",
                "io.confluent.kafka.serializers.subject.TopicRecordNameStrategy"
            ),
        ]),
        Some(SchemaRules {
            action: SchemaAction::Reject,
            depth: SchemaDepth::Payload,
            key: Some(SubjectStrategy::Record),
            value: Some(SubjectStrategy::TopicRecord),
        })
    );
    assert_eq!(
        asked(&[("confluent.key.schema.validation", "true")]),
        Some(SchemaRules {
            key: Some(SubjectStrategy::Topic),
            value: None,
            ..value(SchemaAction::Reject)
        })
    );
}

#[test]
fn a_strategy_that_there_is_not_is_refused() {
    let (world, _registry) = world(&[]);
    for name in ["com.example.MyStrategy", "NameStrategy", ""] {
        let settings = [("confluent.value.subject.name.strategy", name)];
        let create = creation("payments", 1, &settings);
        let broker = world.broker.clone();
        let error = world
            .run(async move { broker.create_topic(&client(), create, false).await })
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConfig, "{name}");
        assert!(error.message.contains("TopicRecordNameStrategy"));
    }
}

#[test]
fn a_bad_record_among_good_ones_refuses_its_batch_and_is_named() {
    let (world, registry) = world(&[("wharf.schema.validation", "reject")]);
    produce(&world, batch(&["fine", "good"])).unwrap();
    let error = produce(&world, batch(&["fine", "bad one", "good", "bad two"])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRecord);
    assert_eq!(
        error.message,
        "2 of the batch's records break the contract of orders; the first, at 1: \"bad one\" is \
         bad; send another one"
    );
    let named = |index, value: &str| RecordError {
        index,
        message: format!("{value:?} is bad; send another one"),
    };
    assert_eq!(error.records, [named(1, "bad one"), named(3, "bad two")]);
    assert_eq!(end_of(&world), 2);
    assert_eq!(
        *registry.counted.lock().unwrap(),
        [
            ("test".to_owned(), SchemaAction::Reject, 2, 0),
            ("test".to_owned(), SchemaAction::Reject, 4, 2)
        ]
    );
}

#[test]
fn warned_of_records_are_counted_and_appended() {
    let (world, registry) = world(&[("wharf.schema.validation", "warn")]);
    produce(&world, batch(&["fine", "bad one"])).unwrap();
    assert_eq!(end_of(&world), 2);
    assert_eq!(
        *registry.counted.lock().unwrap(),
        [("test".to_owned(), SchemaAction::Warn, 2, 1)]
    );
}

#[test]
fn a_registry_that_is_starting_makes_producers_come_again() {
    let world = World::new();
    let registry = Registry {
        starting: true,
        ..Registry::default()
    };
    world.broker.check_schemas_with(Arc::new(registry));
    world.topic("orders", 1, &[("wharf.schema.validation", "reject")]);
    let error = produce(&world, batch(&["fine"])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotEnoughReplicas);
    assert_eq!(end_of(&world), 0);
}

#[test]
fn without_a_registry_contracts_cannot_be_switched_on_and_those_that_are_let_nothing_in() {
    let no_registry = World::new();
    for (name, value) in [
        ("wharf.schema.validation", "reject"),
        ("wharf.schema.validation", "warn"),
        ("confluent.value.schema.validation", "true"),
    ] {
        let create = creation("payments", 1, &[(name, value)]);
        let broker = no_registry.broker.clone();
        let error = no_registry
            .run(async move { broker.create_topic(&client(), create, false).await })
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        assert!(error.message.contains("--registry-listen"), "{error}");
    }
    no_registry.topic("payments", 1, &[]);
    let set = |world: &World, topic: &str, name: &str, value: &str| {
        let change = ConfigChange {
            name: name.to_owned(),
            operation: ConfigOperation::Set,
            value: Some(value.to_owned()),
        };
        let (broker, topic) = (world.broker.clone(), TopicRef::Name(topic.to_owned()));
        world.run(async move {
            broker
                .alter_topic_config(&client(), &topic, vec![change], false, false)
                .await
        })
    };
    let refused = set(
        &no_registry,
        "payments",
        "wharf.schema.validation",
        "reject",
    );
    assert_eq!(refused.unwrap_err().kind, ErrorKind::InvalidConfig);

    let (with, _registry) = world(&[("wharf.schema.validation", "reject")]);
    let world = with.restart();
    let error = produce(&world, batch(&["fine"])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::PolicyViolation);
    assert!(error.message.contains("--registry-listen"), "{error}");
    set(&world, "orders", "retention.ms", "5").unwrap();
    set(&world, "orders", "wharf.schema.validation", "off").unwrap();
    produce(&world, batch(&["bad"])).unwrap();
}

#[test]
fn compressed_batches_are_looked_into() {
    let options = Options {
        topic_defaults: vec![("compression.type".to_owned(), "zstd".to_owned())],
        ..Options::default()
    };
    let (world, registry) = (World::with(options), Arc::new(Registry::default()));
    world.broker.check_schemas_with(registry);
    world.topic("plain", 1, &[]);
    world.topic("orders", 1, &[("wharf.schema.validation", "reject")]);
    let plain = |world: &World, topic: &str, records: Bytes| {
        let produce = Produce {
            topic: TopicRef::Name(topic.to_owned()),
            partition: 0,
            records: Some(records),
        };
        let sent = world.broker.produce(&client(), vec![produce]);
        world.run(sent).remove(0)
    };
    for (value, passes) in [("fine", true), ("bad", false)] {
        let produced = plain(&world, "plain", batch(&[value, value])).unwrap();
        let topic = world
            .broker
            .topic(&TopicRef::Name("plain".to_owned()))
            .unwrap();
        let stored = world
            .broker
            .reader()
            .read(topic.partitions[0], produced.base_offset, 1, true);
        let compressed = stored.unwrap().batches.remove(0);
        assert_ne!(compressed, batch(&[value, value]));
        let mut fresh = compressed.to_vec();
        fresh[..8].fill(0);
        let outcome = plain(&world, "orders", fresh.into());
        assert_eq!(outcome.is_ok(), passes, "{outcome:?}");
    }
}

#[test]
fn offsets_and_outputs_in_one_step_are_checked_too() {
    let (world, _registry) = world(&[("wharf.schema.validation", "reject")]);
    let produce = |value| Produce {
        topic: TopicRef::Name("orders".to_owned()),
        partition: 0,
        records: Some(batch(&[value])),
    };
    let both = vec![produce("fine"), produce("bad")];
    let outcome = world.run(world.broker.produce_and_commit(&client(), both, None));
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::InvalidRecord);
    assert_eq!(end_of(&world), 0);
}

#[test]
fn the_nodes_own_roles_keep_the_contract_as_well() {
    let (world, registry) = world(&[("wharf.schema.validation", "reject")]);
    let ledger = world.broker.ledger("relay");
    let place = Partition {
        topic: TopicName::new("orders").unwrap(),
        index: 0,
    };
    let owner = world.run({
        let (ledger, place) = (ledger.clone(), place.clone());
        async move { ledger.own(place).await }
    });
    let owner = owner.unwrap();
    let commit = |value: &'static str| {
        let record = wharf_message::ledger::Record {
            timestamp: START,
            value: Some(Bytes::from_static(value.as_bytes())),
            ..Default::default()
        };
        let commit = Commit {
            records: vec![(place.clone(), record)],
            ..Commit::default()
        };
        let (ledger, owner) = (ledger.clone(), owner.clone());
        world.run(async move { ledger.commit(&owner, commit).await })
    };
    commit("fine").unwrap();
    let Err(LedgerError::Refused(why)) = commit("bad") else {
        panic!("a record that breaks the contract is refused")
    };
    assert!(why.contains("orders"), "{why}");
    assert_eq!(end_of(&world), 1);
    assert_eq!(registry.counted.lock().unwrap()[0].0, "relay");
}

#[test]
fn the_nodes_own_topics_have_no_contract_whatever_the_defaults_say() {
    let options = Options {
        topic_defaults: vec![("wharf.schema.validation".to_owned(), "reject".to_owned())],
        ..Options::default()
    };
    let world = World::with(options);
    world
        .broker
        .check_schemas_with(Arc::new(Registry::default()));
    for name in ["_schemas", "_wharf.audit"] {
        let broker = world.broker.clone();
        world.run(async move {
            let (cx, topic) = (Context::internal("registry"), creation(name, 1, &[]));
            broker.create_topic(&cx, topic, false).await.unwrap();
            let produce = Produce {
                topic: TopicRef::Name(name.to_owned()),
                partition: 0,
                records: Some(build(
                    &[Record {
                        timestamp: START,
                        value: Some(Bytes::from_static(b"bad")),
                        ..Record::default()
                    }],
                    None,
                )),
            };
            let sent: Vec<Result<_, Error>> = broker.produce(&cx, vec![produce]).await;
            assert!(sent[0].is_ok(), "{sent:?}");
        });
    }
}
