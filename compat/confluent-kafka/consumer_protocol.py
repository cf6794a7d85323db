"""Cases of the consumer protocol (KIP-848): the server assigns, and members change over to it."""

from client import (
    CLASSIC,
    COOPERATIVE,
    RANGE,
    admin,
    consumer_of,
    done,
    produce,
    rebalancing,
    take,
    topic_with,
)
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from cases import case, equal, fresh, raises, until

CONSUMER = {"group_protocol": "consumer"}


def assigned(consumer):
    """What a consumer is to read, after it had time to hear of it."""
    message = consumer.poll(0.1)
    if message is not None and message.error():
        raise KafkaException(message.error())
    return {(p.topic, p.partition) for p in consumer.assignment()}


def shares(consumers, sizes, what, seconds=60):
    """Waits until the consumers' shares have these sizes, in any order, and do not overlap."""
    def condition():
        owned = [assigned(consumer) for consumer in consumers]
        equal_sizes = sorted(map(len, owned)) == sorted(sizes)
        return equal_sizes and len(set().union(*owned)) == sum(sizes) and owned
    return until(condition, what, seconds)


def fatal(consumer):
    """What the error says that ends a consumer."""
    def error():
        try:
            message = consumer.poll(0.2)
        except KafkaException as raised:
            return raised.args[0]
        return message is not None and message.error()
    found = until(error, "an error")
    equal(found.code(), KafkaError._FATAL, "error")
    return found.str()


def kind(address, group):
    listed = admin(address).list_consumer_groups().result(30).valid
    return [g.type.name for g in listed if g.group_id == group]


@case("consumer-protocol")
def the_server_shares_partitions_while_members_come_and_go(address):
    rebalancing(address, lambda _: CONSUMER)


@case("consumer-protocol")
def the_server_assigns_by_range_if_asked(address):
    one, two = topic_with(address, partitions=4), topic_with(address, partitions=4)
    group = fresh("group")
    members = [consumer_of(address, group, group_remote_assignor="range", **CONSUMER)
               for _ in range(2)]
    for member in members:
        member.subscribe([one, two])
    for owned in shares(members, [4, 4], "both read half"):
        halves = [{p for topic, p in owned if topic == name} for name in (one, two)]
        equal(halves[0], halves[1], "the same partitions of both topics")
    described = done(admin(address).describe_consumer_groups([group]))[group]
    equal(described.partition_assignor, "range", "the assignor")
    for member in members:
        member.close()


@case("consumer-protocol")
def an_assignor_the_server_does_not_have_is_refused(address):
    topic = topic_with(address)
    consumer = consumer_of(address, group_remote_assignor="best", **CONSUMER)
    consumer.subscribe([topic])

    reason = fatal(consumer)
    assert "The assignor or its version range is not supported" in reason, reason
    consumer.close()


@case("consumer-protocol")
def a_pattern_is_resolved_by_the_server_and_follows_the_topics(address):
    prefix = fresh("pattern")
    names = [f"{prefix}-{number}" for number in range(3)]

    def create(name):
        done(admin(address).create_topics([NewTopic(name, 2, 1)]))

    create(names[0])
    create(f"not-{prefix}")
    consumer = consumer_of(address, **CONSUMER)
    consumer.subscribe([f"^{prefix}-.*"])
    until(lambda: assigned(consumer) == {(names[0], 0), (names[0], 1)}, "the first topic")
    for name in names[1:]:
        create(name)
    wanted = {(name, partition) for name in names for partition in range(2)}
    until(lambda: assigned(consumer) == wanted, "the others", 60)
    produce(address, names[2], [b"found"])
    equal(take(consumer, 1)[0].value(), b"found", "a message of a later topic")
    consumer.close()


@case("consumer-protocol")
def a_static_member_of_the_consumer_protocol_comes_back_to_its_partitions(address):
    topic, group = topic_with(address, partitions=4), fresh("group")
    fixed = {"group_instance_id": "till-1", **CONSUMER}
    first, other = consumer_of(address, group, **fixed), consumer_of(address, group, **CONSUMER)
    first.subscribe([topic])
    other.subscribe([topic])
    before, others = shares([first, other], [2, 2], "both read half")
    first.close()
    described = done(admin(address).describe_consumer_groups([group]))[group]
    instances = sorted(m.group_instance_id or "" for m in described.members)
    equal(instances, ["", "till-1"], "still a member")
    second = consumer_of(address, group, **fixed)
    second.subscribe([topic])
    until(lambda: assigned(second) == before, "its own partitions")
    equal(assigned(other), others, "the other's partitions")
    second.close()
    other.close()


@case("consumer-protocol")
def a_second_process_of_a_static_member_is_refused(address):
    topic, group = topic_with(address), fresh("group")
    fixed = {"group_instance_id": "till-1", **CONSUMER}
    first, thief = consumer_of(address, group, **fixed), consumer_of(address, group, **fixed)
    first.subscribe([topic])
    until(lambda: assigned(first), "an assignment")
    thief.subscribe([topic])
    reason = fatal(thief)
    assert "The instance ID is still used by another member" in reason, reason
    assert assigned(first), "the first one reads on"
    thief.close()
    first.close()


@case("consumer-protocol")
def partitions_that_are_added_are_read_by_the_group(address):
    topic = topic_with(address, partitions=1)
    consumer = consumer_of(address, **CONSUMER)
    consumer.subscribe([topic])
    until(lambda: len(assigned(consumer)) == 1, "one")
    done(admin(address).create_partitions([NewPartitions(topic, 3)]))
    until(lambda: len(assigned(consumer)) == 3, "three", 60)
    consumer.close()


@case("consumer-protocol")
def a_group_of_the_consumer_protocol_is_described_and_deleted(address):
    client, topic, group = admin(address), topic_with(address, partitions=2), fresh("group")
    produce(address, topic, [b"x"] * 10, partition=0)
    consumer = consumer_of(address, group, client_id="till", **CONSUMER)
    consumer.subscribe([topic])
    take(consumer, 10)
    consumer.commit(asynchronous=False)
    equal(kind(address, group), ["CONSUMER"], "type")
    described = done(client.describe_consumer_groups([group]))[group]
    equal((described.state.name, described.type.name), ("STABLE", "CONSUMER"), "state and type")
    equal(described.partition_assignor, "uniform", "assignor")
    member = described.members[0]
    equal(member.client_id, "till", "client")
    for assignment in (member.assignment, member.target_assignment):
        places = sorted((p.topic, p.partition) for p in assignment.topic_partitions)
        equal(places, [(topic, 0), (topic, 1)], "assignment")
    error = raises(KafkaException, done, client.delete_consumer_groups([group])).args[0]
    equal(error.code(), KafkaError.NON_EMPTY_GROUP, "deleting it while it has a member")
    consumer.close()
    other = consumer_of(address, group)
    equal(other.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 10, "the commit")
    other.close()
    done(client.delete_consumer_groups([group]))
    until(lambda: kind(address, group) == [], "gone")


@case("consumer-protocol")
def a_group_has_settings_of_its_own(address):
    client, group = admin(address), fresh("group")

    def change(value, operation=AlterConfigOpType.SET):
        entry = ConfigEntry("consumer.session.timeout.ms", value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[entry])
        done(client.incremental_alter_configs([resource]))

    def setting():
        resource = ConfigResource(ResourceType.GROUP, group)
        found = done(client.describe_configs([resource]))[resource]
        return found["consumer.session.timeout.ms"].value

    equal(setting(), "45000", "by default")
    change("50000")
    until(lambda: setting() == "50000", "set")
    error = raises(KafkaException, change, "1").args[0]
    equal(error.code(), KafkaError.INVALID_CONFIG, "a value below the least")
    change(None, AlterConfigOpType.DELETE)
    until(lambda: setting() == "45000", "back to the default")


def changing_over(strategy):
    """Members of both protocols, by name."""
    def settings(name):
        return {**CLASSIC, **strategy} if name in ("one", "two") else CONSUMER
    return settings


@case("consumer-protocol")
def a_group_changes_over_by_range_while_it_reads(address):
    rebalancing(address, changing_over(RANGE))


@case("consumer-protocol")
def a_group_changes_over_cooperatively_while_it_reads(address):
    rebalancing(address, changing_over(COOPERATIVE))


@case("consumer-protocol")
def a_group_changes_back_while_it_reads(address):
    def settings(name):
        return CONSUMER if name in ("one", "two") else {**CLASSIC, **COOPERATIVE}
    rebalancing(address, settings)


@case("consumer-protocol")
def a_group_changes_back_when_its_last_member_of_the_consumer_protocol_leaves(address):
    topic, group = topic_with(address, partitions=4), fresh("group")
    old = consumer_of(address, group, **CLASSIC, **RANGE)
    old.subscribe([topic])
    shares([old], [4], "a classic group")
    new = consumer_of(address, group, **CONSUMER)
    new.subscribe([topic])
    shares([old, new], [2, 2], "both protocols together")
    new.close()
    shares([old], [4], "the classic one reads on")
    until(lambda: kind(address, group) == ["CLASSIC"], "a classic group again")
    old.close()
