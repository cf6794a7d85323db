//! Topic settings: what tools read, change and get refused.

use wharf_broker::{
    ConfigChange, ConfigEntry, ConfigOperation, ConfigSource, Error, ErrorKind, Options, TopicRef,
};

use crate::support::{World, client, creation};

fn change(name: &str, operation: ConfigOperation, value: &str) -> ConfigChange {
    let value = (operation != ConfigOperation::Delete).then(|| value.to_owned());
    ConfigChange {
        name: name.to_owned(),
        operation,
        value,
    }
}

fn alter(world: &World, changes: Vec<ConfigChange>, replace: bool) -> Result<(), Error> {
    let broker = world.broker.clone();
    let topic = TopicRef::Name("orders".to_owned());
    world.run(async move {
        broker
            .alter_topic_config(&client(), &topic, changes, replace, false)
            .await
    })
}

fn entry(world: &World, name: &str) -> ConfigEntry {
    let entries = world
        .broker
        .describe_topic_config(&client(), "orders")
        .unwrap();
    entries
        .into_iter()
        .find(|entry| entry.name == name)
        .unwrap()
}

fn value(world: &World, name: &str) -> String {
    entry(world, name).value.unwrap()
}

#[test]
fn settings_are_described_with_their_origin() {
    let options = Options {
        topic_defaults: vec![("log.retention.ms".to_owned(), "7000".to_owned())],
        ..Options::default()
    };
    let world = World::with(options);
    world.topic("orders", 1, &[("max.message.bytes", "5000")]);
    let origin = |name| (value(&world, name), entry(&world, name).source);
    assert_eq!(
        origin("max.message.bytes"),
        ("5000".to_owned(), ConfigSource::Topic)
    );
    assert_eq!(
        origin("retention.ms"),
        ("7000".to_owned(), ConfigSource::Node)
    );
    assert_eq!(
        origin("retention.bytes"),
        ("-1".to_owned(), ConfigSource::Default)
    );
    assert_eq!(entry(&world, "retention.ms").default.unwrap(), "604800000");
}

#[test]
fn every_setting_described_can_be_written_back() {
    let world = World::new();
    world.topic("orders", 1, &[("retention.ms", "5")]);
    let entries = world
        .broker
        .describe_topic_config(&client(), "orders")
        .unwrap();
    let changes = entries
        .iter()
        .map(|entry| {
            change(
                entry.name,
                ConfigOperation::Set,
                entry.value.as_deref().unwrap(),
            )
        })
        .collect();
    alter(&world, changes, true).unwrap();
    for before in entries {
        assert_eq!(
            Some(value(&world, before.name)),
            before.value,
            "{}",
            before.name
        );
    }
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let error = alter(
        &world,
        vec![change("retention.mss", ConfigOperation::Set, "1")],
        false,
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("\"retention.ms\""), "{error}");
}

#[test]
fn invalid_values_are_refused_and_nothing_of_the_request_is_kept() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    for (name, bad) in [
        ("retention.ms", "-2"),
        ("retention.ms", "soon"),
        ("cleanup.policy", "keep"),
        ("cleanup.policy", ""),
        ("message.timestamp.type", "createtime"),
        ("preallocate", "yes"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("segment.bytes", "13"),
        ("compression.type", "brotli"),
    ] {
        let changes = vec![
            change("max.message.bytes", ConfigOperation::Set, "77"),
            change(name, ConfigOperation::Set, bad),
        ];
        let error = alter(&world, changes, false).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConfig, "{name}={bad}");
        assert!(error.message.contains(name), "{error}");
    }
    assert_eq!(
        entry(&world, "max.message.bytes").source,
        ConfigSource::Default
    );
}

#[test]
fn incremental_changes_set_delete_append_and_subtract() {
    let world = World::new();
    world.topic("orders", 1, &[("retention.ms", "5"), ("segment.ms", "6")]);
    let changes = vec![
        change("retention.ms", ConfigOperation::Delete, ""),
        change("retention.bytes", ConfigOperation::Set, "99"),
        change("cleanup.policy", ConfigOperation::Append, "compact"),
    ];
    alter(&world, changes, false).unwrap();
    assert_eq!(value(&world, "retention.ms"), "604800000");
    assert_eq!(value(&world, "retention.bytes"), "99");
    assert_eq!(value(&world, "segment.ms"), "6", "what is not named stays");
    assert_eq!(value(&world, "cleanup.policy"), "delete,compact");
    alter(
        &world,
        vec![change(
            "cleanup.policy",
            ConfigOperation::Subtract,
            "delete",
        )],
        false,
    )
    .unwrap();
    assert_eq!(value(&world, "cleanup.policy"), "compact");
    let not_a_list = vec![change("retention.ms", ConfigOperation::Append, "5")];
    assert_eq!(
        alter(&world, not_a_list, false).unwrap_err().kind,
        ErrorKind::InvalidConfig
    );
    let twice = vec![
        change("retention.ms", ConfigOperation::Set, "5"),
        change("retention.ms", ConfigOperation::Set, "6"),
    ];
    assert_eq!(
        alter(&world, twice, false).unwrap_err().kind,
        ErrorKind::InvalidRequest
    );
}

#[test]
fn replacing_drops_what_is_not_named() {
    let world = World::new();
    world.topic("orders", 1, &[("retention.ms", "5"), ("segment.ms", "6")]);
    alter(
        &world,
        vec![change("retention.ms", ConfigOperation::Set, "7")],
        true,
    )
    .unwrap();
    assert_eq!(value(&world, "retention.ms"), "7");
    assert_eq!(entry(&world, "segment.ms").source, ConfigSource::Default);
}

#[test]
fn settings_survive_power_loss() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    alter(
        &world,
        vec![change("retention.ms", ConfigOperation::Set, "7")],
        false,
    )
    .unwrap();
    let world = world.lose_power();
    assert_eq!(value(&world, "retention.ms"), "7");
}

#[test]
fn concurrent_changes_of_one_topic_are_all_kept() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let names = [
        "retention.ms",
        "segment.ms",
        "retention.bytes",
        "max.message.bytes",
    ];
    world.hold_commits(true);
    let running = names.map(|name| {
        let broker = world.broker.clone();
        world.start(async move {
            let changes = vec![change(name, ConfigOperation::Set, "123456")];
            let topic = TopicRef::Name("orders".to_owned());
            broker
                .alter_topic_config(&client(), &topic, changes, false, false)
                .await
        })
    });
    world.settle();
    world.hold_commits(false);
    for running in &running {
        world.finish(running).unwrap();
    }
    for name in names {
        assert_eq!(value(&world, name), "123456", "{name}");
    }
}

#[test]
fn validating_changes_nothing() {
    let world = World::new();
    world.topic("orders", 1, &[]);
    let broker = world.broker.clone();
    let topic = TopicRef::Name("orders".to_owned());
    let validate = |value: &'static str| {
        let (broker, topic) = (broker.clone(), topic.clone());
        world.run(async move {
            let changes = vec![change("retention.ms", ConfigOperation::Set, value)];
            broker
                .alter_topic_config(&client(), &topic, changes, false, true)
                .await
        })
    };
    assert!(validate("9").is_ok());
    assert!(validate("nine").is_err());
    assert_eq!(entry(&world, "retention.ms").source, ConfigSource::Default);
}

#[test]
fn the_node_describes_itself_under_the_names_tools_know() {
    let world = World::new();
    let entries = world.broker.describe_broker_config(&client());
    let value = |name: &str| {
        let entry = entries.iter().find(|entry| entry.name == name);
        entry
            .unwrap_or_else(|| panic!("{name} is missing"))
            .value
            .clone()
            .unwrap()
    };
    assert_eq!(value("auto.create.topics.enable"), "true");
    assert_eq!(value("message.max.bytes"), "1048588");
    assert_eq!(value("log.retention.ms"), "604800000");
    assert_eq!(value("num.partitions"), "1");
    assert!(
        entries.is_sorted_by(|a, b| a.name < b.name),
        "sorted and without repetition"
    );
}

#[test]
fn retention_follows_the_settings_and_spares_what_is_only_compacted() {
    use wharf_log::Policy;
    let world = World::new();
    let orders = world.topic(
        "orders",
        1,
        &[("retention.ms", "5"), ("retention.bytes", "-1")],
    );
    let compacted = world.topic(
        "table",
        1,
        &[("cleanup.policy", "compact"), ("retention.ms", "5")],
    );
    let policy = world.broker.retention_policy();
    let retention = policy.retention(orders.partitions[0]).unwrap();
    assert_eq!(retention.age, Some(std::time::Duration::from_millis(5)));
    assert_eq!(retention.bytes, None);
    assert_eq!(policy.retention(compacted.partitions[0]).unwrap().age, None);
    let broker = world.broker.clone();
    world
        .run(async move {
            broker
                .delete_topic(&client(), &TopicRef::Name("orders".to_owned()))
                .await
        })
        .unwrap();
    assert_eq!(policy.retention(orders.partitions[0]), None);
}

#[test]
fn asking_for_the_default_of_an_unknown_setting_is_refused() {
    let world = World::new();
    let mut request = creation("orders", 1, &[]);
    request.configs = vec![("no.such".to_owned(), None)];
    let broker = world.broker.clone();
    let error = world
        .run(async move { broker.create_topic(&client(), request, false).await })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
}
