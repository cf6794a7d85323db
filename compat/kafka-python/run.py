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
from kafka.admin import (
    AlterConfigOp,
    ConfigResource,
    KafkaAdminClient,
    NewTopic,
    OffsetSpec,
    OffsetTimestamp,
)
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.protocol.admin import AlterClientQuotasRequest, DescribeClientQuotasRequest
from kafka.structs import OffsetAndMetadata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import CODECS, case, equal, fresh, lacks, main, raises, until  # noqa: E402
from members import PARTITIONS, join_and_leave_under_load  # noqa: E402

lacks("consumer-protocol", "it does not speak the consumer protocol")


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
    # A consumer that subscribes while it asks for the metadata of no topic would sleep for minutes.
    settings = {
        "auto_offset_reset": "earliest", "enable_auto_commit": False, "metadata_max_age_ms": 1000,
        **config,
    }
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
    case("codecs")(_round_trip)


@case("cluster")
def the_broker_is_recognised_by_its_versions(address):
    with admin(address) as client:
        versions = client.api_versions()
    found = {int(key): value for key, value in versions.items()}
    for key in (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 22):
        assert key in found, f"key {key} is advertised"


@case("headers")
def headers_keep_their_order_and_repeated_keys(address):
    topic = topic_with(address)
    headers = [("a", b"1"), ("b", b"-"), ("a", b"2"), ("a", b""), ("\u00e4", b"\x00\xff")]
    produce(address, topic, [b"x"], headers=headers)
    equal([tuple(header) for header in read(address, topic, 1)[0].headers], headers, "headers")


@case("nulls")
def null_and_empty_keys_and_values_differ(address):
    topic = topic_with(address, retention_ms=-1)
    sent = [(b"k", None), (None, b"v"), (b"", b"")]
    for key, value in sent:
        produce(address, topic, [value], key=key, times=[1_600_000_000_123])
    found = read(address, topic, 3)
    equal([(m.key, m.value) for m in found], sent, "keys and values")
    equal({(m.timestamp_type, m.timestamp) for m in found}, {(0, 1_600_000_000_123)}, "timestamps")


@case("keys")
def a_key_always_goes_to_the_same_partition_in_order(address):
    topic = topic_with(address, partitions=4)
    wanted = {}
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=20)
    for number in range(400):
        key, value = f"key {number % 20}".encode(), str(number).encode()
        wanted.setdefault(key, []).append(value)
        producer.send(topic, value, key=key)
    producer.flush(60)
    producer.close()
    found, homes = {}, {}
    for message in read(address, topic, 400):
        found.setdefault(message.key, []).append(message.value)
        equal(homes.setdefault(message.key, message.partition), message.partition, "partition")
    equal(found, wanted, "values by key")
    assert len(set(homes.values())) > 1, "more than one partition is used"


@case("large")
def messages_of_several_megabytes_pass_and_larger_ones_are_refused(address):
    topic = topic_with(address, max_message_bytes=9_000_000)
    values = [bytes([i]) * 4_000_000 for i in range(3)]
    produce(address, topic, values, max_request_size=9_500_000)
    found = read(address, topic, 3)
    equal([m.value == value for m, value in zip(found, values)], [True] * 3, "the same values")
    small = topic_with(address, max_message_bytes=20_000)
    raises(errors.MessageSizeTooLargeError, produce, address, small, [b"x" * 21_000])


@case("append-time")
def log_append_time_is_the_brokers_clock(address):
    topic = topic_with(address, message_timestamp_type="LogAppendTime")
    produce(address, topic, [b"x"], times=[1000])
    message = read(address, topic, 1)[0]
    equal(message.timestamp_type, 1, "the kind of timestamp")
    assert abs(message.timestamp / 1000 - time.time()) < 60, message.timestamp


@case("idempotent")
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


@contextlib.contextmanager
def transactional(address, name, **config):
    """A producer that may begin transactions; fences earlier ones of the name."""
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=name, **config)
    try:
        producer.init_transactions()
        yield producer
    finally:
        producer.close(10)


def values_of(address, topic, isolation_level):
    """Everything a topic's only partition holds for a reader of this level."""
    with consumer_of(address, isolation_level=isolation_level) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end, values = consumer.end_offsets([partition])[partition], []
        deadline = time.monotonic() + 30
        while consumer.position(partition) < end:
            assert time.monotonic() < deadline, f"not at {end} in time; so far {values}"
            for batch in consumer.poll(timeout_ms=500).values():
                values.extend(message.value for message in batch)
        return values


@case("transactions")
def transactions_are_seen_whole_or_not_at_all(address):
    topic = topic_with(address)
    with transactional(address, fresh("id")) as producer:
        for value, is_kept in [(b"a", True), (b"b", False), (b"c", True)]:
            producer.begin_transaction()
            producer.send(topic, value)
            producer.flush(30)
            producer.commit_transaction() if is_kept else producer.abort_transaction()
        equal(values_of(address, topic, "read_committed"), [b"a", b"c"], "committed")
        producer.begin_transaction()
        producer.send(topic, b"open")
        producer.flush(30)
        equal(values_of(address, topic, "read_committed"), [b"a", b"c"], "while one is open")
        equal(values_of(address, topic, "read_uncommitted"), [b"a", b"b", b"c", b"open"], "all")
        producer.abort_transaction()
    equal(values_of(address, topic, "read_committed"), [b"a", b"c"], "in the end")


@case("fencing")
def a_second_producer_of_the_name_fences_the_first(address):
    topic, name = topic_with(address), fresh("id")
    with transactional(address, name) as first:
        first.begin_transaction()
        first.send(topic, b"lost")
        first.flush(30)
        with transactional(address, name) as second:
            raises(errors.KafkaError, first.commit_transaction)
            second.begin_transaction()
            second.send(topic, b"kept")
            second.commit_transaction()
    equal(values_of(address, topic, "read_committed"), [b"kept"], "committed")


@case("pipeline")
def offsets_count_with_the_transaction(address):
    topic, group = topic_with(address), fresh("group")
    produce(address, topic, [b"a", b"b"])
    partition = TopicPartition(topic, 0)
    with consumer_of(address, topic, group=group) as consumer:
        take(consumer, 2)
        with transactional(address, fresh("id")) as producer:
            for is_kept, offset in [(False, None), (True, 2)]:
                producer.begin_transaction()
                offsets = {partition: OffsetAndMetadata(2, "", -1)}
                producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
                producer.commit_transaction() if is_kept else producer.abort_transaction()
                # The end is told before it has reached the group's partition.
                until(lambda: consumer.committed(partition) == offset, f"the offset is {offset}")


@case("resume")
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


def rebalancing(address, assignor):
    """Members come and go under load."""
    topic, group = topic_with(address, PARTITIONS), fresh("group")
    producer = KafkaProducer(bootstrap_servers=address)

    def feed(send):
        sent = [producer.send(topic, b"x", partition=partition) for partition in range(PARTITIONS)]
        for said in [future.get(timeout=30) for future in sent]:
            send(said.partition, said.offset)

    @contextlib.contextmanager
    def member(name):
        settings = {
            "client_id": name, "heartbeat_interval_ms": 300, "session_timeout_ms": 10_000,
            "partition_assignment_strategy": [assignor], "retry_backoff_ms": 100,
        }
        with consumer_of(address, topic, group=group, **settings) as consumer:
            def turn(see):
                for place, batch in consumer.poll(timeout_ms=100).items():
                    for message in batch:
                        see(message.partition, message.offset)
                    # That the group has begun to rebalance meanwhile is no error.
                    with contextlib.suppress(errors.CommitFailedError, errors.RebalanceInProgressError):
                        consumer.commit({place: OffsetAndMetadata(batch[-1].offset + 1, "", -1)})
                return [place.partition for place in consumer.assignment()]

            yield turn

    def committed():
        with admin(address) as client:
            offsets = client.list_group_offsets(group)[group]
        found = {place.partition: said.offset for place, said in offsets.items()}
        return [found.get(partition) for partition in range(PARTITIONS)]

    try:
        join_and_leave_under_load(feed, member, committed)
    finally:
        producer.close()


@case("rebalance")
def a_group_rebalances_eagerly_by_range(address):
    rebalancing(address, RangePartitionAssignor)


@case("cooperative")
def a_group_rebalances_cooperatively(address):
    rebalancing(address, CooperativeStickyAssignor)


@case("static")
def a_static_member_comes_back_to_its_partitions(address):
    topic, group = topic_with(address, partitions=2), fresh("group")

    def member():
        settings = {"group_instance_id": "till-1", "session_timeout_ms": 20_000}
        return consumer_of(address, topic, group=group, **settings)

    def assigned(consumer):
        consumer.poll(timeout_ms=100)
        return consumer.assignment()

    with member() as first:
        before = until(lambda: assigned(first), "an assignment")
    with admin(address) as client:
        found = client.describe_groups([group])[group]["members"]
        equal([m["group_instance_id"] for m in found], ["till-1"], "still a member")
        with member() as second:
            equal(until(lambda: assigned(second), "an assignment"), before, "partitions")
            found = client.describe_groups([group])[group]["members"]
            equal([m["group_instance_id"] for m in found], ["till-1"], "the only member")


@case("resets")
def offset_resets_to_earliest_and_latest(address):
    topic = topic_with(address)
    produce(address, topic, [b"before"])
    with consumer_of(address, auto_offset_reset="latest", group=fresh("group")) as late:
        late.assign([TopicPartition(topic, 0)])
        equal(late.position(TopicPartition(topic, 0)), 1, "the end")
        produce(address, topic, [b"after"])
        equal(take(late, 1)[0].value, b"after", "the first after starting")
    equal([m.value for m in read(address, topic, 2)], [b"before", b"after"], "from the beginning")


@case("resets")
def a_group_is_reset_to_times_and_ends(address):
    topic, group = topic_with(address, retention_ms=-1), fresh("group")
    place = TopicPartition(topic, 0)
    times = [1000, 2000, 3000, 4000]
    produce(address, topic, [str(i).encode() for i in times], times=times)
    with admin(address) as client:
        client.alter_group_offsets(group, {place: OffsetAndMetadata(1, "", -1)})
        for spec, wanted in [
            (OffsetTimestamp(2500), 2), (OffsetSpec.LATEST, 4), (OffsetSpec.EARLIEST, 0), (3, 3),
        ]:
            client.reset_group_offsets(group, {place: spec})
            equal(client.list_group_offsets(group)[group][place].offset, wanted, f"at {spec}")
    with consumer_of(address, topic, group=group) as consumer:
        equal(take(consumer, 1)[0].value, b"4000", "the value")


@case("times")
def offsets_are_found_by_timestamp(address):
    topic = topic_with(address, partitions=2, retention_ms=-1)
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


@case("topics")
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


@case("topics")
def topic_partitions_are_described_page_by_page(address):
    topic = topic_with(address, partitions=5)
    with admin(address) as client:
        answer = client.describe_topic_partitions([topic])
    assert topic in str(answer), "the topic is in the answer"


@case("partitions")
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


@case("configs")
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


@case("deletion")
def records_are_deleted_up_to_an_offset(address):
    topic = topic_with(address)
    place = TopicPartition(topic, 0)
    produce(address, topic, [str(i).encode() for i in range(10)])
    with admin(address) as client:
        client.delete_records({place: 4})
    equal([m.offset for m in read(address, topic, 6)], list(range(4, 10)), "offsets")
    with consumer_of(address) as consumer:
        equal(consumer.beginning_offsets([place]), {place: 4}, "the new beginning")


@case("times")
def offsets_are_listed_by_kind(address):
    topic = topic_with(address, retention_ms=-1)
    place = TopicPartition(topic, 0)
    produce(address, topic, [b"a", b"b", b"c"], times=[1000, 3000, 2000])
    with admin(address) as client:
        def offset(spec):
            return client.list_partition_offsets({place: spec})[place].offset

        equal(offset(OffsetSpec.EARLIEST), 0, "earliest")
        equal(offset(OffsetSpec.LATEST), 3, "latest")
        equal(offset(OffsetSpec.MAX_TIMESTAMP), 1, "the newest timestamp")
        equal(offset(1500), 1, "by timestamp")


@case("groups")
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


@case("cluster")
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


@case("topics")
def a_topic_is_made_by_the_first_message_to_it(address):
    topic = fresh("auto")
    produce(address, topic, [b"first"])
    equal(read(address, topic, 1)[0].value, b"first", "value")


def set_quotas(client, client_id, **quotas):
    """Sets quotas of a client id (None removes one) and waits until they are described.

    On Apache Kafka the broker that answers hears of the change from the controller, some time after it.
    """
    changes = [(key, value or 0.0, value is None) for key, value in quotas.items()]
    entries = [([("client-id", client_id)], changes)]
    request = AlterClientQuotasRequest(entries=entries, validate_only=False)
    answer = client._manager.run(client._manager.send, request)
    equal(answer.entries[0].error_code, 0, answer.entries[0].error_message)
    wanted = {key: value for key, value in quotas.items() if value is not None}
    until(lambda: described_quotas(client, client_id) == wanted, f"the quotas are {wanted}")


def described_quotas(client, client_id):
    """The quotas of a client id."""
    exact = DescribeClientQuotasRequest(components=[("client-id", 0, client_id)], strict=True)
    described = client._manager.run(client._manager.send, exact)
    return {value.key: value.value for entry in described.entries for value in entry.values}


@case
def a_producer_beyond_its_quota_is_slowed_down_and_told(address):
    topic, client_id, rate = topic_with(address), fresh("client"), 20_000
    with admin(address) as client:
        set_quotas(client, client_id, producer_byte_rate=float(rate))
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
        set_quotas(client, client_id, producer_byte_rate=None)
    equal([len(message.value) for message in read(address, topic, 2)], [rate * 11 + 1000, 1])


def throttle_time(producer):
    """The longest time in seconds that a broker has told this producer to wait."""
    groups = producer.metrics().values()
    times = [group.get("throttle-time-max", 0) for group in groups]
    return max(time if time == time else 0 for time in times) / 1000


if __name__ == "__main__":
    main(together=True)
