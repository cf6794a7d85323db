"""PyPI's confluent-kafka (librdkafka 2.16): what most Python services run on.

    python3 compat/confluent-kafka/run.py 127.0.0.1:9092
"""

import json
import threading
import time

import consumer_protocol  # noqa: F401 (its cases)
import transactions  # noqa: F401 (its cases)
from client import (
    CLASSIC,
    COOPERATIVE,
    RANGE,
    admin,
    consumer_of,
    done,
    produce,
    read,
    rebalancing,
    take,
    topic_with,
)
from confluent_kafka import (
    OFFSET_BEGINNING,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from cases import CODECS, case, equal, fresh, main, next_millisecond, raises, until


def round_trip(address, codec):
    topic = topic_with(address, partitions=3)
    values = [f"{codec} {i} {'x' * 500}".encode() for i in range(3000)]
    sent_bytes = []

    def statistics(text):
        sent_bytes.append(sum(b["txbytes"] for b in json.loads(text)["brokers"].values()))

    producer = Producer({
        "bootstrap.servers": address, "compression.type": codec, "linger.ms": 50,
        "statistics.interval.ms": 100, "stats_cb": statistics,
    })
    for value in values:
        producer.produce(topic, value)
    equal(producer.flush(60), 0, "messages left in the producer")
    seen = len(sent_bytes)
    until(lambda: producer.poll(0.1) is not None and len(sent_bytes) > seen + 1, "statistics")
    raw = sum(map(len, values))
    assert (sent_bytes[-1] < raw / 3) == (codec != "none"), f"{sent_bytes[-1]} of {raw} bytes sent"
    found = read(address, topic, len(values))
    equal(sorted(m.value() for m in found), sorted(values), "values")


for _codec in CODECS:
    def _round_trip(address, codec=_codec):
        round_trip(address, codec)
    _round_trip.__name__ = f"produces_and_consumes_with_codec_{_codec}"
    case("codecs")(_round_trip)


@case("headers")
def headers_keep_their_order_and_repeated_keys(address):
    topic = topic_with(address)
    headers = [("a", b"1"), ("b", None), ("a", b"2"), ("a", b""), ("\u00e4", b"\x00\xff")]
    produce(address, topic, [b"x"], headers=headers)
    equal(read(address, topic, 1)[0].headers(), headers, "headers")


@case("nulls")
def null_and_empty_keys_and_values_differ(address):
    topic = topic_with(address, retention_ms=-1)
    sent = [(b"k", None), (None, b"v"), (b"", b"")]
    for key, value in sent:
        produce(address, topic, [value], key=key, timestamp=1_600_000_000_123)
    found = read(address, topic, 3)
    equal([(m.key(), m.value()) for m in found], sent, "keys and values")
    equal({m.timestamp() for m in found}, {(1, 1_600_000_000_123)}, "timestamps")


@case("keys")
def a_key_always_goes_to_the_same_partition_in_order(address):
    topic = topic_with(address, partitions=4)
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20})
    wanted = {}
    for number in range(400):
        key, value = f"key {number % 20}".encode(), str(number).encode()
        wanted.setdefault(key, []).append(value)
        producer.produce(topic, value, key=key)
    equal(producer.flush(60), 0, "messages left in the producer")
    found, homes = {}, {}
    for message in read(address, topic, 400):
        found.setdefault(message.key(), []).append(message.value())
        equal(homes.setdefault(message.key(), message.partition()), message.partition(), "partition")
    equal(found, wanted, "values by key")
    assert len(set(homes.values())) > 1, "more than one partition is used"


@case("append-time")
def log_append_time_is_the_brokers_clock(address):
    topic = topic_with(address, message_timestamp_type="LogAppendTime")
    produce(address, topic, [b"x"], timestamp=1_600_000_000_123)
    kind, millis = read(address, topic, 1)[0].timestamp()
    equal(kind, 2, "the kind of timestamp")
    assert abs(millis / 1000 - time.time()) < 60, millis


@case("large")
def large_messages_pass_and_larger_ones_are_refused(address):
    topic = topic_with(address)
    values = [bytes([i]) * 900_000 for i in range(10)]
    produce(address, topic, values, partition=0)
    equal([m.value() for m in read(address, topic, 10)], values, "values")
    errors = []
    producer = Producer({"bootstrap.servers": address, "message.max.bytes": 10_000_000})
    producer.produce(topic, b"x" * 2_000_000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    equal([error.code() for error in errors], [KafkaError.MSG_SIZE_TOO_LARGE], "errors")


@case("large")
def a_topic_may_allow_messages_of_several_megabytes(address):
    topic = topic_with(address, max_message_bytes=9_000_000)
    values = [bytes([i]) * 4_000_000 for i in range(3)]
    produce(address, topic, values, partition=0, message_max_bytes=9_500_000)
    found = read(address, topic, 3)
    equal([m.value() == value for m, value in zip(found, values)], [True] * 3, "the same values")


@case("idempotent")
def an_idempotent_producer_numbers_offsets_without_gaps(address):
    topic = topic_with(address, partitions=2)
    for partition in (0, 1):
        values = [str(i).encode() for i in range(5000)]
        delivered = produce(
            address, topic, values, partition=partition, enable_idempotence=True, acks="all"
        )
        equal([m.offset() for m in delivered], list(range(5000)), "offsets")
    found = read(address, topic, 10_000)
    for partition in (0, 1):
        values = [int(m.value()) for m in found if m.partition() == partition]
        equal(values, list(range(5000)), "values in order")


@case("idempotent")
def two_idempotent_producers_do_not_disturb_each_other(address):
    topic = topic_with(address)
    names = ["left", "right"]

    def run(name):
        produce(address, topic, [f"{name} {i}" for i in range(2000)], enable_idempotence=True)

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [m.value().decode() for m in read(address, topic, 4000)]
    for name in names:
        mine = [value for value in found if value.startswith(name)]
        equal(mine, [f"{name} {i}" for i in range(2000)], name)


@case("resume")
def a_group_resumes_from_its_commit_and_keeps_the_metadata(address):
    topic, group = topic_with(address), fresh("group")
    produce(address, topic, [str(i).encode() for i in range(10)])
    first = consumer_of(address, group)
    first.subscribe([topic])
    take(first, 10)
    place = TopicPartition(topic, 0, 4, metadata="four, please")
    equal(first.commit(offsets=[place], asynchronous=False)[0].error, None, "error")
    first.close()
    second = consumer_of(address, group)
    second.subscribe([topic])
    equal([m.value() for m in take(second, 6)], [str(i).encode() for i in range(4, 10)], "values")
    committed = second.committed([TopicPartition(topic, 0)], timeout=10)[0]
    equal((committed.offset, committed.metadata), (4, "four, please"), "the commit")
    second.close()


@case("resume")
def automatic_commits_are_kept_when_a_consumer_closes(address):
    topic, group = topic_with(address), fresh("group")
    produce(address, topic, [b"a", b"b", b"c"])
    first = consumer_of(address, group, enable_auto_commit=True)
    first.subscribe([topic])
    take(first, 3)
    first.close()
    other = consumer_of(address, group)
    equal(other.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 3, "the commit")
    other.close()


@case("rebalance")
def a_group_rebalances_eagerly_by_range(address):
    rebalancing(address, lambda _: {**CLASSIC, **RANGE})


@case("cooperative")
def a_group_rebalances_cooperatively(address):
    rebalancing(address, lambda _: {**CLASSIC, **COOPERATIVE})


@case("static")
def a_static_member_comes_back_to_its_partitions(address):
    topic, group = topic_with(address, partitions=2), fresh("group")
    settings = {"group_instance_id": "till-1", "session_timeout_ms": 20_000}

    def assigned(consumer):
        consumer.poll(0.1)
        return consumer.assignment()

    first = consumer_of(address, group, **settings)
    first.subscribe([topic])
    before = until(lambda: assigned(first), "an assignment")
    first.close()
    described = done(admin(address).describe_consumer_groups([group]))[group]
    equal([m.group_instance_id for m in described.members], ["till-1"], "still a member")
    second = consumer_of(address, group, **settings)
    second.subscribe([topic])
    after = until(lambda: assigned(second), "an assignment")
    equal({p.partition for p in after}, {p.partition for p in before}, "partitions")
    second.close()


@case("resets")
def offset_resets_to_earliest_and_latest(address):
    topic = topic_with(address)
    produce(address, topic, [b"before"])
    late = consumer_of(address, auto_offset_reset="latest", enable_partition_eof=True)
    late.subscribe([topic])
    end = until(lambda: late.poll(0.5), "the end of the partition")
    equal((end.error().code(), end.offset()), (KafkaError._PARTITION_EOF, 1), "the end")
    produce(address, topic, [b"after"])
    equal(take(late, 1)[0].value(), b"after", "the first after joining")
    late.close()
    equal([m.value() for m in read(address, topic, 2)], [b"before", b"after"], "from the beginning")


@case("resets")
def a_group_is_reset_to_a_time(address):
    topic, group = topic_with(address, retention_ms=-1), fresh("group")
    for millis in (1000, 2000, 3000, 4000):
        produce(address, topic, [str(millis)], timestamp=millis)
    place = TopicPartition(topic, 0)
    at = done(admin(address).list_offsets({place: OffsetSpec.for_timestamp(2500)}))[place].offset
    places = [TopicPartition(topic, 0, at)]
    done(admin(address).alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]))
    consumer = consumer_of(address, group)
    consumer.subscribe([topic])
    equal([m.value() for m in take(consumer, 2)], [b"3000", b"4000"], "values")
    consumer.close()


@case("times")
def offsets_are_found_by_timestamp(address):
    topic = topic_with(address, partitions=2, retention_ms=-1)
    for partition in (0, 1):
        for millis in (1000, 2000, 3000):
            produce(address, topic, [str(millis)], partition=partition, timestamp=millis)
    consumer = consumer_of(address)
    asked = [TopicPartition(topic, 0, 2000), TopicPartition(topic, 1, 2001)]
    equal([p.offset for p in consumer.offsets_for_times(asked, timeout=10)], [1, 2], "offsets")
    beyond = consumer.offsets_for_times([TopicPartition(topic, 0, 9000)], timeout=10)
    equal([p.offset for p in beyond], [-1], "nothing after the last record")
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 3), "ends")
    consumer.close()


@case("times")
def a_timestamp_inside_a_compressed_batch_is_found_exactly(address):
    topic = topic_with(address, retention_ms=-1)
    producer = Producer({
        "bootstrap.servers": address, "linger.ms": 500, "compression.type": "zstd",
    })
    for millis in range(1000, 1100):
        producer.produce(topic, str(millis), timestamp=millis)
    producer.flush(30)
    consumer = consumer_of(address)
    found = consumer.offsets_for_times([TopicPartition(topic, 0, 1050)], timeout=10)
    equal(found[0].offset, 50, "offset")
    consumer.assign([found[0]])
    equal(take(consumer, 1)[0].value(), b"1050", "the record there")
    consumer.close()


@case
def seeking_and_pausing_work(address):
    topic = topic_with(address)
    produce(address, topic, [str(i).encode() for i in range(100)])
    consumer = consumer_of(address)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    take(consumer, 100)
    consumer.seek(TopicPartition(topic, 0, 42))
    equal(take(consumer, 1)[0].value(), b"42", "after seeking")
    consumer.pause([TopicPartition(topic, 0)])
    equal(consumer.poll(0.5), None, "while paused")
    consumer.resume([TopicPartition(topic, 0)])
    take(consumer, 57)
    consumer.close()


@case("topics")
def topics_are_created_described_and_deleted(address):
    client, name = admin(address), fresh("admin")
    done(client.create_topics([NewTopic(name, 3, 1)]))
    again = client.create_topics([NewTopic(name, 3, 1)])[name]
    error = raises(KafkaException, again.result, 30).args[0]
    equal(error.code(), KafkaError.TOPIC_ALREADY_EXISTS, "creating it again")
    listed = until(lambda: client.list_topics(timeout=10).topics.get(name), "listed")
    equal(sorted(listed.partitions), [0, 1, 2], "partitions")
    done(client.delete_topics([name]))
    until(lambda: name not in client.list_topics(timeout=10).topics, "deleted")
    error = raises(KafkaException, client.delete_topics([name])[name].result, 30).args[0]
    equal(error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "deleting it again")


@case("topics")
def creating_a_topic_can_be_tried_without_doing_it(address):
    client, name = admin(address), fresh("dry")
    client.create_topics([NewTopic(name, 1, 1)], validate_only=True)[name].result(30)
    assert name not in client.list_topics(timeout=10).topics, "it was made"


@case("topics")
def bad_topics_are_refused_with_kafkas_codes(address):
    client = admin(address)

    def code(topic):
        future = client.create_topics([topic])[topic.topic]
        return raises(KafkaException, future.result, 30).args[0].code()

    equal(code(NewTopic("a b", 1, 1)), KafkaError.TOPIC_EXCEPTION, "a name with a space")
    settings = {"retention.ms": "soon"}
    equal(code(NewTopic(fresh("x"), 1, 1, config=settings)), KafkaError.INVALID_CONFIG, "a value")
    settings = {"no.such.setting": "1"}
    equal(code(NewTopic(fresh("x"), 1, 1, config=settings)), KafkaError.INVALID_CONFIG, "a setting")
    equal(code(NewTopic(fresh("x"), 1, 3)), KafkaError.INVALID_REPLICATION_FACTOR, "replicas")


@case("partitions")
def partitions_are_added(address):
    client, topic = admin(address), topic_with(address, partitions=1)
    produce(address, topic, [b"old"])
    done(client.create_partitions([NewPartitions(topic, 4)]))
    until(lambda: len(client.list_topics(topic, timeout=10).topics[topic].partitions) == 4, "four")
    produce(address, topic, [b"new"], partition=3)
    equal({m.value() for m in read(address, topic, 2)}, {b"old", b"new"}, "values")
    fewer = client.create_partitions([NewPartitions(topic, 2)])[topic]
    error = raises(KafkaException, fewer.result, 30).args[0]
    equal(error.code(), KafkaError.INVALID_PARTITIONS, "fewer partitions")


def settings_of(address, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return done(admin(address).describe_configs([resource]))[resource]


@case("configs")
def topic_settings_are_described_and_altered(address):
    topic = topic_with(address, retention_ms=3_600_000)
    found = settings_of(address, topic)
    equal(found["retention.ms"].value, "3600000", "as created")
    assert not found["retention.ms"].is_default, "it was set"
    assert found["cleanup.policy"].is_default, "it was not set"
    for name in ["retention.bytes", "cleanup.policy", "max.message.bytes", "segment.bytes",
                 "min.insync.replicas", "message.timestamp.type", "compression.type"]:
        assert name in found, f"{name} is described"
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET),
    ])
    done(admin(address).incremental_alter_configs([change]))
    found = settings_of(address, topic)
    equal(found["retention.ms"].value, "7200000", "set")
    equal(found["max.message.bytes"].value, "2000000", "set")
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
    ])
    done(admin(address).incremental_alter_configs([change]))
    found = settings_of(address, topic)
    assert found["retention.ms"].is_default, "back to the default"
    equal(found["max.message.bytes"].value, "2000000", "untouched")


@case("configs")
def a_list_setting_is_appended_to_and_subtracted_from(address):
    topic = topic_with(address)

    def change(operation):
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry("cleanup.policy", "compact", incremental_operation=operation),
        ])
        done(admin(address).incremental_alter_configs([resource]))
        return set(settings_of(address, topic)["cleanup.policy"].value.split(","))

    equal(change(AlterConfigOpType.APPEND), {"delete", "compact"}, "appended")
    equal(change(AlterConfigOpType.SUBTRACT), {"delete"}, "subtracted")


@case("configs")
def the_brokers_settings_are_described(address):
    client = admin(address)
    node = client.describe_cluster().result(30).nodes[0]
    resource = ConfigResource(ResourceType.BROKER, str(node.id))
    assert done(client.describe_configs([resource]))[resource], "there are settings"


@case("cluster")
def the_cluster_is_described(address):
    client = admin(address)
    cluster = client.describe_cluster().result(30)
    assert cluster.cluster_id and cluster.controller, "an id and a controller"
    equal(f"{cluster.nodes[0].host}:{cluster.nodes[0].port}", address, "the address")


@case("deletion")
def records_are_deleted_up_to_an_offset(address):
    client, topic = admin(address), topic_with(address)
    produce(address, topic, [str(i).encode() for i in range(10)])
    answer = done(client.delete_records([TopicPartition(topic, 0, 4)]))
    equal([result.low_watermark for result in answer.values()], [4], "the new beginning")
    equal([m.offset() for m in read(address, topic, 6)], list(range(4, 10)), "offsets")
    consumer = consumer_of(address)
    equal(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (4, 10), "ends")
    consumer.close()


@case("times")
def offsets_are_listed_by_kind(address):
    client, topic = admin(address), topic_with(address, retention_ms=-1)
    for millis in (1000, 3000, 2000):
        produce(address, topic, [b"x"], timestamp=millis)
    place = TopicPartition(topic, 0)

    def offset(spec):
        return done(client.list_offsets({place: spec}))[place].offset

    equal(offset(OffsetSpec.earliest()), 0, "earliest")
    equal(offset(OffsetSpec.latest()), 3, "latest")
    equal(offset(OffsetSpec.max_timestamp()), 1, "the newest timestamp")
    equal(offset(OffsetSpec.for_timestamp(1500)), 1, "by timestamp")


@case("groups")
def groups_are_listed_described_altered_and_deleted(address):
    client, topic, group = admin(address), topic_with(address, partitions=2), fresh("group")
    produce(address, topic, [b"x"] * 10, partition=0)
    consumer = consumer_of(address, group, client_id="till")
    consumer.subscribe([topic])
    take(consumer, 10)
    consumer.commit(asynchronous=False)
    listed = client.list_consumer_groups().result(30)
    assert group in [g.group_id for g in listed.valid], "listed"
    described = done(client.describe_consumer_groups([group]))[group]
    equal(described.state.name, "STABLE", "state")
    equal([m.client_id for m in described.members], ["till"], "members")
    assigned = described.members[0].assignment.topic_partitions
    equal(sorted((p.topic, p.partition) for p in assigned), [(topic, 0), (topic, 1)], "assignment")
    error = raises(KafkaException, done, client.delete_consumer_groups([group])).args[0]
    equal(error.code(), KafkaError.NON_EMPTY_GROUP, "deleting it while it has a member")
    consumer.close()

    asked = [ConsumerGroupTopicPartitions(group)]
    offsets = done(client.list_consumer_group_offsets(asked))[group].topic_partitions
    equal([(p.partition, p.offset) for p in offsets if p.offset >= 0], [(0, 10)], "offsets")
    new = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    done(client.alter_consumer_group_offsets([new]))
    offsets = done(client.list_consumer_group_offsets(asked))[group].topic_partitions
    equal([p.offset for p in offsets if p.partition == 0], [3], "altered")
    done(client.delete_consumer_groups([group]))
    listed = client.list_consumer_groups().result(30)
    assert group not in [g.group_id for g in listed.valid], "gone"
    error = raises(KafkaException, done, client.delete_consumer_groups([group])).args[0]
    equal(error.code(), KafkaError.GROUP_ID_NOT_FOUND, "deleting it again")


@case("topics")
def an_unknown_topic_is_said_to_be_unknown(address):
    consumer = consumer_of(address, allow_auto_create_topics=False)
    consumer.subscribe([fresh("missing")])
    message = until(lambda: consumer.poll(0.5), "an error")
    equal(message.error().code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "error")
    consumer.close()


if __name__ == "__main__":
    main(together=True)
