"""PyPI's kafka-python 3: a client in pure Python that shares no code with librdkafka.

    python3 compat/kafka-python/run.py 127.0.0.1:9092

It negotiates newer protocol versions than librdkafka, topic ids and flexible encodings among them.
"""

import contextlib
import pathlib
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, KafkaAdminClient, NewTopic, OffsetSpec
from kafka.protocol.admin import AlterClientQuotasRequest, DescribeClientQuotasRequest
from kafka.structs import OffsetAndMetadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import CODECS, case, equal, fresh, main, raises, until  # noqa: E402


@contextlib.contextmanager
def admin(address):
    client = KafkaAdminClient(bootstrap_servers=address)
    try:
        yield client
    finally:
        client.close()


def topic_with(address, partitions=1, **config):
    name = fresh("topic")
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    with admin(address) as client:
        client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        client.wait_for_topics([name])
    return name


def produce(address, topic, values, partition=None, key=None, headers=None, times=None, **config):
    """Produces and waits for every acknowledgement; returns what the broker said of each."""
    producer = KafkaProducer(bootstrap_servers=address, **config)
    try:
        futures = [
            producer.send(
                topic, value, key=key, headers=headers, partition=partition,
                timestamp_ms=times[index] if times else None,
            )
            for index, value in enumerate(values)
        ]
        producer.flush(60)
        return [future.get(timeout=60) for future in futures]
    finally:
        producer.close()


@contextlib.contextmanager
def consumer_of(address, *topics, group=None, **config):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **config}
    consumer = KafkaConsumer(*topics, bootstrap_servers=address, group_id=group, **settings)
    try:
        yield consumer
    finally:
        consumer.close()


def take(consumer, count, seconds=60):
    """The next `count` messages."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count:
        assert time.monotonic() < deadline, f"only {len(messages)} of {count} within {seconds} s"
        polled = consumer.poll(timeout_ms=500, max_records=count - len(messages))
        messages.extend(message for batch in polled.values() for message in batch)
    return messages


def read(address, topic, count, **config):
    """The first `count` messages of a topic, without a group."""
    with consumer_of(address, topic, **config) as consumer:
        return take(consumer, count)


def round_trip(address, codec):
    topic = topic_with(address, partitions=3)
    values = [f"{codec} {i} {'x' * 300}".encode() for i in range(1000)]
    produce(address, topic, values, linger_ms=20, compression_type=None if codec == "none" else codec)
    found = read(address, topic, len(values), check_crcs=True)
    equal(sorted(m.value for m in found), sorted(values), "values")


for _codec in CODECS:
    def _round_trip(address, codec=_codec):
        round_trip(address, codec)
    _round_trip.__name__ = f"produces_and_consumes_with_codec_{_codec}"
    case(_round_trip)


@case
def the_broker_is_recognised_by_its_versions(address):
    with admin(address) as client:
        versions = client.api_versions()
    found = {int(key): value for key, value in versions.items()}
    for key in (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22):
        assert key in found, f"key {key} is advertised"


@case
def headers_keep_their_order_and_repeated_keys(address):
    topic = topic_with(address)
    headers = [("a", b"1"), ("b", b"-"), ("a", b"2"), ("a", b""), ("\u00e4", b"\x00\xff")]
    produce(address, topic, [b"x"], headers=headers)
    equal([tuple(header) for header in read(address, topic, 1)[0].headers], headers, "headers")


@case
def keys_timestamps_and_tombstones_arrive_as_they_were_sent(address):
    topic = topic_with(address)
    produce(address, topic, [None], key=b"k", times=[1_600_000_000_123])
    message = read(address, topic, 1)[0]
    equal((message.key, message.value), (b"k", None), "key and value")
    equal((message.timestamp_type, message.timestamp), (0, 1_600_000_000_123), "timestamp")


@case
def large_messages_pass_and_larger_ones_are_refused(address):
    topic = topic_with(address)
    values = [bytes([i]) * 900_000 for i in range(10)]
    produce(address, topic, values)
    equal([m.value for m in read(address, topic, 10)], values, "values")
    raises(
        errors.MessageSizeTooLargeError, produce, address, topic, [b"x" * 2_000_000],
        max_request_size=10_000_000,
    )


@case
def an_idempotent_producer_numbers_offsets_without_gaps(address):
    topic = topic_with(address)
    values = [str(i).encode() for i in range(2000)]
    said = produce(address, topic, values, enable_idempotence=True, acks="all", partition=0)
    equal([answer.offset for answer in said], list(range(2000)), "offsets")
    equal([m.value for m in read(address, topic, 2000)], values, "values in order")


@case
def every_level_of_acknowledgement_works(address):
    for acks in (0, 1, "all"):
        topic = topic_with(address)
        produce(address, topic, [b"a", b"b"], acks=acks, enable_idempotence=False)
        equal([m.value for m in read(address, topic, 2)], [b"a", b"b"], f"acks={acks}")


@case
def a_group_resumes_from_its_commit_and_keeps_the_metadata(address):
    topic, group = topic_with(address), fresh("group")
    place = TopicPartition(topic, 0)
    produce(address, topic, [str(i).encode() for i in range(10)])
    with consumer_of(address, topic, group=group) as first:
        take(first, 10)
        first.commit({place: OffsetAndMetadata(4, "four, please", -1)})
    with consumer_of(address, topic, group=group) as second:
        equal([m.value for m in take(second, 6)], [str(i).encode() for i in range(4, 10)], "values")
        committed = second.committed(place, metadata=True)
        equal((committed.offset, committed.metadata), (4, "four, please"), "the commit")


@case
def a_group_rebalances_while_members_come_and_go(address):
    topic, group = topic_with(address, 4), fresh("group")
    stop, leave = threading.Event(), threading.Event()
    owned, seen, failures = {}, set(), []

    def member(name, until_event):
        try:
            settings = {"heartbeat_interval_ms": 500, "session_timeout_ms": 10_000}
            with consumer_of(address, topic, group=group, **settings) as consumer:
                while not until_event.is_set():
                    for batch in consumer.poll(timeout_ms=100).values():
                        seen.update(message.value for message in batch)
                    owned[name] = {p.partition for p in consumer.assignment()}
                owned.pop(name, None)
        except Exception as error:  # noqa: BLE001 (told by the main thread)
            failures.append(error)

    def balanced(*names):
        def condition():
            equal(failures, [], "failures of members")
            shares = [owned.get(name, set()) for name in names]
            return sum(map(len, shares)) == 4 and len(set().union(*shares)) == 4 and all(shares)
        return condition

    threads = [
        threading.Thread(target=member, args=("one", stop)),
        threading.Thread(target=member, args=("two", leave)),
    ]
    try:
        threads[0].start()
        until(balanced("one"), "one member has all partitions")
        threads[1].start()
        until(balanced("one", "two"), "two members share the partitions", 60)
        produce(address, topic, [str(i).encode() for i in range(200)])
        until(lambda: len(seen) == 200, "both together have read everything")
        leave.set()
        until(balanced("one"), "one member has all partitions again", 60)
    finally:
        stop.set()
        leave.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()


@case
def offset_resets_to_earliest_and_latest(address):
    topic = topic_with(address)
    produce(address, topic, [b"before"])
    with consumer_of(address, auto_offset_reset="latest", group=fresh("group")) as late:
        late.assign([TopicPartition(topic, 0)])
        equal(late.position(TopicPartition(topic, 0)), 1, "the end")
        produce(address, topic, [b"after"])
        equal(take(late, 1)[0].value, b"after", "the first after starting")
    equal([m.value for m in read(address, topic, 2)], [b"before", b"after"], "from the beginning")


@case
def offsets_are_found_by_timestamp(address):
    topic = topic_with(address, partitions=2)
    for partition in (0, 1):
        produce(address, topic, [b"a", b"b", b"c"], partition=partition, times=[1000, 2000, 3000])
    left, right = TopicPartition(topic, 0), TopicPartition(topic, 1)
    with consumer_of(address) as consumer:
        found = consumer.offsets_for_times({left: 2000, right: 2001})
        equal((found[left].offset, found[right].offset), (1, 2), "offsets")
        equal((found[left].timestamp, found[right].timestamp), (2000, 3000), "timestamps")
        equal(consumer.offsets_for_times({left: 9000}), {left: None}, "after the last record")
        equal(consumer.beginning_offsets([left]), {left: 0}, "the beginning")
        equal(consumer.end_offsets([left]), {left: 3}, "the end")


@case
def seeking_and_pausing_work(address):
    topic = topic_with(address)
    place = TopicPartition(topic, 0)
    produce(address, topic, [str(i).encode() for i in range(100)])
    with consumer_of(address) as consumer:
        consumer.assign([place])
        take(consumer, 100)
        consumer.seek(place, 42)
        equal(take(consumer, 1)[0].value, b"42", "after seeking")
        consumer.pause(place)
        equal(consumer.poll(timeout_ms=300), {}, "while paused")
        consumer.resume(place)
        take(consumer, 57)


@case
def topics_are_created_described_and_deleted(address):
    name = fresh("admin")
    with admin(address) as client:
        client.create_topics([NewTopic(name, 3, 1)])
        client.wait_for_topics([name])
        raises(errors.TopicAlreadyExistsError, client.create_topics, [NewTopic(name, 3, 1)])
        assert name in client.list_topics(), "listed"
        described = client.describe_topics([name])[0]
        equal(len(described["partitions"]), 3, "partitions")
        client.delete_topics([name])
        until(lambda: name not in client.list_topics(), "deleted")
        raises(errors.UnknownTopicOrPartitionError, client.delete_topics, [name])


@case
def topic_partitions_are_described_page_by_page(address):
    topic = topic_with(address, partitions=5)
    with admin(address) as client:
        answer = client.describe_topic_partitions([topic])
    assert topic in str(answer), "the topic is in the answer"


@case
def partitions_are_added(address):
    topic = topic_with(address)
    produce(address, topic, [b"old"])
    with admin(address) as client:
        client.create_partitions({topic: 3})
        until(lambda: len(client.describe_topics([topic])[0]["partitions"]) == 3, "three")
        raises(errors.InvalidPartitionsError, client.create_partitions, {topic: 2})
    produce(address, topic, [b"new"], partition=2)
    equal({m.value for m in read(address, topic, 2)}, {b"old", b"new"}, "values")


def settings_of(client, topic):
    described = client.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
    return described["topic"][topic]


@case
def topic_settings_are_described_and_altered(address):
    topic = topic_with(address, retention_ms=3_600_000)
    with admin(address) as client:
        def value(name):
            return settings_of(client, topic)[name]["value"]

        equal(value("retention.ms"), "3600000", "as created")
        client.alter_configs([ConfigResource("TOPIC", topic, {"max.message.bytes": "2000000"})])
        equal(value("max.message.bytes"), "2000000", "set")
        equal(value("retention.ms"), "3600000", "untouched")
        delete = {"retention.ms": (AlterConfigOp.DELETE, None)}
        client.alter_configs([ConfigResource("TOPIC", topic, delete)])
        equal(value("retention.ms"), "604800000", "back to the default")
        whole = ConfigResource("TOPIC", topic, {"retention.bytes": "1000000"})
        client.alter_configs([whole], incremental=False)
        equal(value("retention.bytes"), "1000000", "set by the old call")


@case
def records_are_deleted_up_to_an_offset(address):
    topic = topic_with(address)
    place = TopicPartition(topic, 0)
    produce(address, topic, [str(i).encode() for i in range(10)])
    with admin(address) as client:
        client.delete_records({place: 4})
    equal([m.offset for m in read(address, topic, 6)], list(range(4, 10)), "offsets")
    with consumer_of(address) as consumer:
        equal(consumer.beginning_offsets([place]), {place: 4}, "the new beginning")


@case
def offsets_are_listed_by_kind(address):
    topic = topic_with(address)
    place = TopicPartition(topic, 0)
    produce(address, topic, [b"a", b"b", b"c"], times=[1000, 3000, 2000])
    with admin(address) as client:
        def offset(spec):
            return client.list_partition_offsets({place: spec})[place].offset

        equal(offset(OffsetSpec.EARLIEST), 0, "earliest")
        equal(offset(OffsetSpec.LATEST), 3, "latest")
        equal(offset(OffsetSpec.MAX_TIMESTAMP), 1, "the newest timestamp")
        equal(offset(1500), 1, "by timestamp")


@case
def groups_are_listed_described_altered_and_deleted(address):
    topic, group = topic_with(address, partitions=2), fresh("group")
    places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    produce(address, topic, [b"x"] * 10, partition=0)
    with admin(address) as client:
        with consumer_of(address, topic, group=group, client_id="till") as consumer:
            take(consumer, 10)
            consumer.commit()
            assert group in str(client.list_groups()), "listed"
            described = client.describe_groups([group])[group]
            assert "till" in str(described["members"]), "the member is described"
            refused = client.delete_groups([group])
            assert "NonEmpty" in str(refused), f"deleting it while it has a member: {refused}"
        offsets = client.list_group_offsets(group)[group]
        equal(offsets[places[0]].offset, 10, "committed")
        client.alter_group_offsets(group, {places[0]: OffsetAndMetadata(3, "", -1)})
        equal(client.list_group_offsets(group)[group][places[0]].offset, 3, "altered")
        client.delete_group_offsets(group, [places[0]])
        assert places[0] not in client.list_group_offsets(group)[group], "the offset is deleted"
        client.delete_groups([group])
        assert group not in str(client.list_groups()), "gone"


@case
def the_cluster_and_its_disks_are_described(address):
    topic = topic_with(address)
    produce(address, topic, [b"x" * 1000])
    with admin(address) as client:
        cluster = client.describe_cluster()
        broker = cluster["brokers"][0]
        equal(f"{broker['host']}:{broker['port']}", address, "the address")
        assert topic in str(client.describe_log_dirs()), "the topic is on a disk"
        producers = client.describe_producers([TopicPartition(topic, 0)])
        assert "producer_id" in str(producers), f"the producer is described: {producers}"
        assert topic in str(client.list_config_resources(["TOPIC"])), "the topic has settings"


@case
def a_topic_is_made_by_the_first_message_to_it(address):
    topic = fresh("auto")
    produce(address, topic, [b"first"])
    equal(read(address, topic, 1)[0].value, b"first", "value")


def set_quotas(client, client_id, **quotas):
    """Sets quotas of a client id (None removes one); returns what is then described."""
    changes = [(key, value or 0.0, value is None) for key, value in quotas.items()]
    entries = [([("client-id", client_id)], changes)]
    request = AlterClientQuotasRequest(entries=entries, validate_only=False)
    answer = client._manager.run(client._manager.send, request)
    equal(answer.entries[0].error_code, 0, answer.entries[0].error_message)
    exact = DescribeClientQuotasRequest(components=[("client-id", 0, client_id)], strict=True)
    described = client._manager.run(client._manager.send, exact)
    return {value.key: value.value for entry in described.entries for value in entry.values}


@case
def a_producer_beyond_its_quota_is_slowed_down_and_told(address):
    topic, client_id, rate = topic_with(address), fresh("client"), 20_000
    with admin(address) as client:
        quotas = set_quotas(client, client_id, producer_byte_rate=float(rate))
        equal(quotas, {"producer_byte_rate": rate}, "quotas")
        producer = KafkaProducer(bootstrap_servers=address, client_id=client_id)
        try:
            begun = time.monotonic()
            # More than eleven seconds' worth: Kafka measures over ten, and lets that much through.
            producer.send(topic, b"x" * (rate * 11 + 1000)).get(timeout=60)
            told = until(
                lambda: throttle_time(producer), "the answer tells how long to wait", seconds=5
            )
            producer.send(topic, b"y").get(timeout=60)
            waited = time.monotonic() - begun
            assert waited >= told, f"waited {waited} s, told {told} s"
        finally:
            producer.close()
        equal(set_quotas(client, client_id, producer_byte_rate=None), {}, "quotas")
    equal([len(message.value) for message in read(address, topic, 2)], [rate * 11 + 1000, 1])


def throttle_time(producer):
    """The longest time in seconds that a broker has told this producer to wait."""
    groups = producer.metrics().values()
    times = [group.get("throttle-time-max", 0) for group in groups]
    return max(time if time == time else 0 for time in times) / 1000


if __name__ == "__main__":
    main()
